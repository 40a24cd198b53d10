"""The tax at a new address over HTTP: tried first, done, and refused by name."""

from typing import Any

from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}
TO = {
    "name": "Jamie Example",
    "lines": ["2 Sample Street"],
    "city": "Boston",
    "region": "MA",
    "postal_code": "02108",
    "country": "US",
}


def move(*lines: tuple[int, int], currency: str = "USD", **more: Any) -> dict[str, Any]:
    """A change of the address with its tax."""
    tax = {"currency": currency, "lines": [{"line": line, "tax_minor": minor} for line, minor in lines], **more}
    return {"changes": [{"op": "set_ship_to", "ship_to": TO, "tax": tax}]}


async def _taxed(desk: FrontDesk) -> dict[str, Any]:
    """Two lamps at 10.00 with 1.60 tax, 5.00 shipping with 0.40 tax; the node has them."""
    body = desk.order(("LAMP", 2), shipping={"price_minor": 500, "tax_minor": 40})
    body["lines"][0]["tax_minor"] = 160
    body["total_minor"] = body["tenders"][0]["amount_minor"] = 2700
    order: dict[str, Any] = (await (await desk.known("storefront")).post("/v1/orders", body, WAIT)).json()
    await desk.at_node(order["id"])
    return order


async def test_the_tax_delta_is_told_before_and_after(desk: FrontDesk) -> None:
    """CAP-H01: where it is 2.10 and 0.50 the order costs 0.60 more; the line that goes on carries it."""
    # given
    order = await _taxed(desk)
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    wish = move((1, 210), shipping_tax_minor=50)
    # when
    plan = (await agent.post(path, {**wish, "dry_run": True})).json()
    done = await agent.post(path, wish, WAIT)
    # then
    assert plan["allowed"], plan
    assert plan["money"] == {
        "total_before_minor": 2700,
        "total_after_minor": 2760,
        "delta_minor": 60,
        "tax_delta_minor": 60,
        "shipping_delta_minor": 0,
        "additional_authorization_minor": 60,
    }
    assert done.status_code == 201, done.text
    assert done.json()["money"] == plan["money"]
    shown = (await agent.get(f"/v1/orders/{order['id']}")).json()
    assert shown["totals"]["owed_minor"] == 2760
    (line,) = [line for line in shown["lines"] if not line["quantities"].get("cancelled")]
    assert (line["tax_minor"], line["shipping_tax_minor"]) == (210, 50)


async def test_what_does_not_fit_is_named_and_nothing_changes(desk: FrontDesk) -> None:
    """A tax below zero, in parts of a penny, of another field; another currency, a line that is not there or twice."""
    # given
    order = await _taxed(desk)
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    broken = [move((1, -1)), move((1, 2.5)), move((1, 5), rate=8), move((1, 5), currency="usd")]  # type: ignore[arg-type]
    answers = [await agent.post(path, wish, WAIT) for wish in broken]
    refused = [move((1, 500), currency="JPY"), move((1, 5), (1, 6)), move((2, 5))]
    refusals = [await agent.post(path, wish, WAIT) for wish in refused]
    tried = [(await agent.post(path, {**wish, "dry_run": True})).json() for wish in refused]
    # then
    assert [answer.status_code for answer in answers] == [422] * 4
    pointers = [answer.json()["errors"][0]["pointer"] for answer in answers]
    assert all("/tax/" in pointer for pointer in pointers), pointers
    codes = ["currency_mismatch", "conflicting_changes", "unknown_line"]
    assert [answer.status_code for answer in refusals] == [409, 409, 404]
    assert [answer.json()["reason"] for answer in refusals[:2]] == codes[:2]
    assert refusals[2].json()["resource"] == "line"
    assert [(plan["allowed"], plan["refusal"]["reason"]) for plan in tried] == [(False, code) for code in codes]
    assert (await agent.get(f"/v1/orders/{order['id']}")).json()["totals"]["owed_minor"] == 2700


async def test_a_line_that_has_left_has_no_new_tax(desk: FrontDesk) -> None:
    """One line has shipped, the other has not: only the other one is taxed anew."""
    # given
    await desk.shop.stocks("TAXED-HERE", EAST=1)
    await desk.shop.stocks("TAXED-THERE", MID=1)
    order = await desk.place(("TAXED-HERE", 1), ("TAXED-THERE", 1))

    async def at_both() -> list[dict[str, Any]]:
        parts = await desk.shop.sql(
            "SELECT fulfillment_id FROM fulfillment_orders WHERE order_id = :o AND stage = 'released' ORDER BY node_id",
            o=order["id"],
        )
        return parts if len(parts) == 2 else []

    east = (await eventually(at_both))[0]["fulfillment_id"]
    assert (await desk.report(east, "packed"))["status"] == 201
    await desk.labelled(east)
    assert (await desk.report(east, "handed_over"))["status"] == 201
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    refused = await agent.post(path, move((1, 5)), WAIT)
    done = await agent.post(path, move((2, 30)), WAIT)
    # then
    assert (refused.status_code, refused.json()["reason"]) == (409, "nothing_left_to_ship")
    assert done.status_code == 201, done.text
    assert done.json()["money"]["tax_delta_minor"] == 30
