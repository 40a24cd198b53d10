"""Goods come in over HTTP: booked once, told in turn; and items that may be waited for."""

import asyncio
from typing import Any

from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk


def _receipt(desk: FrontDesk, name: str, **more: Any) -> dict[str, Any]:
    return {"receipt_id": name, "node": "EAST", "sku": desk.shop.sku("JAR"), "quantity": 2, **more}


async def test_what_comes_in_serves_who_waits_for_it(desk: FrontDesk) -> None:
    """CAP-A08: the item's rule is set, an order waits and says so, a receipt is booked once and the order ships."""
    # given
    inventory = await desk.caller("inventory", nodes=["EAST"])
    await desk.shop.stocks("JAR", EAST=1)
    sku = desk.shop.sku("JAR")
    refused = await (await desk.known("storefront")).post("/v1/orders", desk.order(("JAR", 3)), {"prefer": "wait=15"})
    assert refused.status_code == 409
    rule = await (await desk.known("ops")).call("PUT", f"/v1/items/{sku}/backorder", {"allowed": True})
    assert (rule.status_code, rule.json()) == (200, {"sku": sku, "allowed": True})
    # when
    order = await desk.place(("JAR", 3), preferences={"backorder": "accept"})
    # then
    (line,) = order["lines"]
    assert line["quantities"] == {"reserved": 1, "backordered": 2}
    assert (order["backorder"], line["backorder"]["units"]) == ("accept", 2)
    assert line["backorder"]["promised_by"] == order["promise"]["current_by"]
    assert line["backorder"]["since"] < line["backorder"]["until"]
    workflow = desk.shop.client.get_workflow_handle(order["workflow_id"])

    async def has_looked() -> bool:
        return bool((await workflow.query("state"))["supply_looks"])

    await eventually(has_looked)  # once it is paid
    # when
    first = await inventory.post("/v1/stock/receipts", _receipt(desk, "ASN-1"))
    again = await inventory.post("/v1/stock/receipts", _receipt(desk, "ASN-1"))
    other = await inventory.post("/v1/stock/receipts", _receipt(desk, "ASN-1", quantity=3))
    # then
    assert (first.status_code, first.json()["on_hand"], first.json()["orders_told"]) == (201, 3, 1)
    assert (again.status_code, again.json()["on_hand"], again.json()["orders_told"]) == (200, 3, 0)
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-mismatch")

    async def answered() -> dict[str, Any] | None:
        (row,) = await desk.shop.sql(
            "SELECT state, actor, outcome FROM commands WHERE order_id = :o AND kind = 'supply_arrived'", o=order["id"]
        )
        return row if row["outcome"] else None

    told = await eventually(answered)
    now = (await (await desk.known("ops")).get(f"/v1/orders/{order['id']}")).json()
    assert "backordered" not in now["lines"][0]["quantities"]
    assert (told["state"], told["outcome"]["units"], told["actor"]["role"]) == ("applied", 2, "inventory")
    (moved,) = await desk.shop.sql(
        "SELECT reason, on_hand_delta FROM stock_movements WHERE sku = :s AND on_hand_delta = 2", s=sku
    )
    assert moved == {"reason": "received", "on_hand_delta": 2}


async def test_two_of_the_same_receipt_at_once_book_it_once(desk: FrontDesk) -> None:
    """The second one waits for the first, and changes nothing."""
    inventory = await desk.caller("inventory", nodes=["EAST"])
    await desk.shop.stocks("URN", EAST=1)
    body = _receipt(desk, "ASN-2", sku=desk.shop.sku("URN"))
    answers = await asyncio.gather(*(inventory.post("/v1/stock/receipts", body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert await desk.shop.on_hand("URN") == {"EAST": 3}


async def test_what_is_wrong_books_nothing(desk: FrontDesk) -> None:
    """An unknown item, another's node, no units, too many of them, a field that there is not."""
    inventory = await desk.caller("inventory", nodes=["EAST"])
    await desk.shop.stocks("BOWL", EAST=1)
    sku = desk.shop.sku("BOWL")
    bad: list[tuple[dict[str, Any], int]] = [
        ({"sku": "NOTHING"}, 422),
        ({"node": "MID"}, 404),
        ({"node": "NOWHERE"}, 404),
        ({"quantity": 0}, 422),
        ({"quantity": -1}, 422),
        ({"quantity": 1.5}, 422),
        ({"quantity": 10**9}, 422),
        ({"colour": "blue"}, 422),
        ({"receipt_id": ""}, 422),
    ]
    for change, status in bad:
        answer = await inventory.post("/v1/stock/receipts", _receipt(desk, "ASN-3", **{"sku": sku, **change}))
        assert answer.status_code == status, change
    assert await desk.shop.on_hand("BOWL") == {"EAST": 1}
    for body in ({}, {"allowed": "yes"}, {"allowed": None}):
        answer = await (await desk.known("ops")).call("PUT", f"/v1/items/{sku}/backorder", body)
        assert answer.status_code == 422


async def test_who_looks_after_one_node_does_not_set_the_rule_for_all(desk: FrontDesk) -> None:
    """The rule of an item counts everywhere: a key that is narrowed does not see it."""
    narrow = await desk.caller("inventory", nodes=["EAST"])
    await desk.shop.stocks("BOX", EAST=1)
    answer = await narrow.call("PUT", f"/v1/items/{desk.shop.sku('BOX')}/backorder", {"allowed": True})
    assert answer.status_code == 404
