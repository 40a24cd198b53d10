"""Later goods travel on a linked order: placed for an earlier one, an order of its own, told on both timelines."""

from typing import Any

import pytest

from domain.ids import new_id
from domain.orders import ActorKind
from domain.permissions import Principal, Role
from store.reads import read_order
from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}
ONE_MORE = {"changes": [{"op": "add_line", "sku": "LAMP", "quantity": 1, "unit_price_minor": 1000}]}


async def cancelled(desk: FrontDesk, *lines: tuple[str, int], **options: Any) -> dict[str, Any]:
    """An order of which nothing is left."""
    order = await desk.place(*lines, **options)
    storefront = await desk.known("storefront")
    await storefront.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "changed_mind"}, WAIT)
    return await desk.becomes(order["id"], status="cancelled")


async def timeline(desk: FrontDesk, order_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of the events that tell of links; the timeline has no gap."""
    events = (await (await desk.known("ops")).get(f"/v1/orders/{order_id}/events")).json()["data"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return [(e["type"], e["data"]) for e in events if e["type"] in ("order.replaces", "order.replaced")]


async def test_a_cancelled_order_gets_its_replacement_on_a_linked_one(desk: FrontDesk) -> None:
    """CASE-D12: no line can be added any more; the refusal says what can be done, and that is done."""
    # given
    old = await cancelled(desk, ("LAMP", 1), customer={"external_ref": "C-linked", "name": "Jamie Example"})
    agent, storefront = await desk.known("service"), await desk.known("storefront")
    path = f"/v1/orders/{old['id']}/amendments"
    # when
    refused = await agent.post(path, ONE_MORE, WAIT)
    plan = (await agent.post(path, {**ONE_MORE, "dry_run": True})).json()
    offered = [
        action
        for action in (await agent.get(f"/v1/orders/{old['id']}")).json()["available_actions"]
        if action["action"] == "amend"
    ]
    customer = {"external_ref": "C-linked", "name": "Jamie Example"}
    body = desk.order(("LAMP", 2), replaces_order=old["id"], customer=customer)
    placed = await storefront.post("/v1/orders", body, WAIT)
    # then
    assert refused.status_code == 409
    assert (refused.json()["reason"], refused.json()["alternative"]) == ("order_closed", "linked_order")
    assert plan["refusal"] == {
        "reason": "order_closed",
        "detail": "The order is cancelled. Later goods travel on a linked order.",
        "alternative": "linked_order",
    }
    assert {(o["available"], o["reason"], o["alternative"]) for o in offered} == {(False, "order_over", "linked_order")}
    assert placed.status_code == 201, placed.text
    new = placed.json()
    assert (new["replaces_order"], new["replaced_by"]) == (old["id"], [])
    assert new["customer"]["ref"] == old["customer"]["ref"]
    shown = (await agent.get(f"/v1/orders/{old['id']}")).json()
    (later,) = shown["replaced_by"]
    assert (later["id"], later["order_number"], shown["replaces_order"]) == (new["id"], new["order_number"], None)
    assert (shown["status"], shown["version"]) == ("cancelled", old["version"] + 1)
    assert await timeline(desk, new["id"]) == [
        ("order.replaces", {"order": old["id"], "order_number": old["order_number"]})
    ]
    assert await timeline(desk, old["id"]) == [
        ("order.replaced", {"order": new["id"], "order_number": new["order_number"]})
    ]
    part = await desk.packed(new["id"])  # an order like any other: paid, at its node, packed
    assert part["units"] == 2


async def test_the_same_linked_order_twice_is_one(desk: FrontDesk) -> None:
    """The channel's reference and the key both meet the first one; another order to replace is another content."""
    # given
    old, other = await cancelled(desk, ("LAMP", 1)), await cancelled(desk, ("LAMP", 1))
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1), replaces_order=old["id"], customer={"name": "Jamie Example"})
    key = {"idempotency-key": f"linked-{old['id']}", **WAIT}
    # when
    first = await storefront.post("/v1/orders", body, key)
    again = await storefront.post("/v1/orders", body, key)
    by_reference = await storefront.post("/v1/orders", body, WAIT)
    elsewhere = await storefront.post("/v1/orders", {**body, "replaces_order": other["id"]}, key)
    # then
    assert first.status_code == 201, first.text
    assert {answer.json()["id"] for answer in (again, by_reference)} == {first.json()["id"]}
    assert elsewhere.json()["type"] == "/problems/idempotency-mismatch"
    assert len(await timeline(desk, old["id"])) == 1
    assert await timeline(desk, other["id"]) == []


async def test_what_cannot_be_linked_is_named_and_stores_nothing(desk: FrontDesk) -> None:
    """No such order, one of another channel, one of another customer, and what is no id at all."""
    # given
    known = {"external_ref": "C-known", "name": "Jamie Example"}
    old = await cancelled(desk, ("LAMP", 1), customer=known)
    mine, shop = await desk.known("storefront"), f"elsewhere-{old['id'][-6:].lower()}"
    await desk.shop.sql("INSERT INTO channels (channel, currency) VALUES (:c, 'USD')", c=shop)
    theirs = await desk.caller("storefront", channels=[shop])
    both = await desk.caller("storefront", channels=[shop, desk.shop.channel])

    async def tried(caller: Any, replaces: str, **changes: Any) -> list[tuple[str, str, str]]:
        before = await desk.shop.sql("SELECT count(*) AS n FROM intake")
        answer = await caller.post("/v1/orders", desk.order(("LAMP", 1), replaces_order=replaces, **changes), WAIT)
        assert answer.status_code == 422, answer.text
        assert await desk.shop.sql("SELECT count(*) AS n FROM intake") == before
        return [(e["pointer"], e["code"], e["message"]) for e in answer.json()["errors"]]

    # when
    nowhere = await tried(mine, new_id("ord", 0))
    of_others = await tried(theirs, old["id"], channel=shop)
    of_another_channel = await tried(both, old["id"], channel=shop)
    other_customer = await tried(mine, old["id"], customer={"external_ref": "C-other", "name": "Alex"})
    no_id = await tried(mine, "number:10042")
    # then
    unknown = [("/replaces_order", "unknown_order", "this channel has no such order, or it is not yours")]
    assert nowhere == of_others == of_another_channel == unknown
    assert other_customer == [("/replaces_order", "other_customer", "that order is of another customer")]
    assert [(pointer, code) for pointer, code, _ in no_id] == [("/replaces_order", "string_pattern_mismatch")]
    stranger = desk.order(("LAMP", 1), replaces_order=old["id"])
    hidden = await theirs.post("/v1/orders", stranger, WAIT)  # a channel that is not theirs hides its orders too
    made_up = await theirs.post("/v1/orders", {**stranger, "replaces_order": new_id("ord", 0)}, WAIT)
    assert hidden.json()["errors"] == made_up.json()["errors"]


async def test_an_order_that_nobody_has_answered_yet_is_not_replaced(idle_desk: FrontDesk) -> None:
    """It may still be rejected; and the 202 of a linked order names what it replaces."""
    # given
    storefront = await idle_desk.known("storefront")
    taken = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    customer = {"name": "Jamie Example"}
    body = idle_desk.order(("LAMP", 1), replaces_order=taken.json()["id"], customer=customer)
    # when
    refused = await storefront.post("/v1/orders", body, {"prefer": "respond-async"})
    # then
    assert (taken.status_code, taken.json()["replaces_order"]) == (202, None)
    assert [error["code"] for error in refused.json()["errors"]] == ["order_not_answered"]


async def test_a_linked_order_is_of_the_same_customer(desk: FrontDesk) -> None:
    """Without a reference of its own it is the earlier order's customer's; who bought as a guest may be known now."""
    # given
    storefront = await desk.known("storefront")
    guest = await cancelled(desk, ("LAMP", 1), customer={"name": "Jamie Example"})
    member = await cancelled(desk, ("LAMP", 1), customer={"external_ref": "C-member", "name": "Jamie Example"})

    async def linked(replaces: str, customer: dict[str, str]) -> dict[str, Any]:
        body = desk.order(("LAMP", 1), replaces_order=replaces, customer=customer)
        answer = await storefront.post("/v1/orders", body, WAIT)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # when
    of_guest = await linked(guest["id"], {"name": "Jamie Example"})
    of_member = await linked(member["id"], {"name": "Jamie Example"})
    now_known = await linked(guest["id"], {"external_ref": "C-new-member", "name": "Jamie Example"})
    # then
    assert of_guest["customer"]["ref"] == guest["customer"]["ref"]
    assert of_member["customer"]["ref"] == member["customer"]["ref"]
    assert now_known["customer"]["ref"] not in (guest["customer"]["ref"], member["customer"]["ref"])
    shopper = Principal(
        id="guest", kind=ActorKind.CUSTOMER, roles=(Role.SHOPPER,), customer_ref=guest["customer"]["ref"]
    )
    async with desk.shop.engine.connect() as connection:
        row = await read_order(connection, shopper, "getOrder", guest["id"])
    assert row is not None
    assert [later["id"] for later in row["replaced_by"]] == [of_guest["id"]]  # the other one is not the guest's to see


async def test_a_linked_order_that_is_rejected_replaces_nothing(desk: FrontDesk) -> None:
    """Out of stock: the earlier order hears nothing of it."""
    # given
    old = await cancelled(desk, ("LAMP", 1))
    storefront = await desk.known("storefront")
    body = desk.order(("RARE", 99), replaces_order=old["id"], customer={"name": "Jamie Example"})
    # when
    refused = await storefront.post("/v1/orders", body, WAIT)
    # then
    assert refused.status_code == 409
    shown = (await storefront.get(f"/v1/orders/{old['id']}")).json()
    assert (shown["replaced_by"], shown["version"]) == ([], old["version"])
    rejected = (await storefront.get(f"/v1/orders/{refused.json()['order_id']}")).json()
    assert (rejected["status"], rejected["replaces_order"]) == ("rejected", old["id"])
    amends = [action for action in rejected["available_actions"] if action["action"] == "amend"]
    assert {action["alternative"] for action in amends} == {"linked_order"}


@pytest.mark.parametrize("status", ["rejected", "completed"])
async def test_what_has_ended_otherwise_points_there_too(desk: FrontDesk, status: str) -> None:
    """A rejected order and a completed one take no amendment either."""
    # given
    storefront, agent = await desk.known("storefront"), await desk.known("service")
    if status == "rejected":
        refused = await storefront.post("/v1/orders", desk.order(("RARE", 99)), WAIT)
        order_id = refused.json()["order_id"]
    else:
        order_id = (await desk.place(("LAMP", 1)))["id"]
        part = await desk.packed(order_id)
        await desk.report(part["id"], "handed_over")
        scan = {"event_id": f"{order_id}-d", "type": "delivered", "occurred_at": "2026-11-25T10:00:00Z"}
        await (await desk.known("warehouse")).post(f"/v1/shipments/{part['shipment_id']}/events", scan, WAIT)
        await desk.becomes(order_id, status="completed")
    # when
    told = await agent.post(f"/v1/orders/{order_id}/amendments", ONE_MORE, WAIT)
    # then
    assert (told.status_code, told.json()["reason"], told.json()["state"]) == (409, "order_closed", status)
    assert told.json()["alternative"] == "linked_order"
