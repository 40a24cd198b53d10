"""A return is quoted: what can come back and for how much, and what cannot, by name. Nothing is changed by it."""

from typing import Any

from cli.client import QuoteView
from cli.returning import quote_text
from cli.show import refusal_text
from domain.ids import new_id
from tests.support.eventually import eventually
from tests.support.front_desk import AT, FrontDesk

WAIT = {"prefer": "wait=15"}


async def quoted(desk: FrontDesk, order_id: str, *lines: tuple[int, int], role: str = "service") -> Any:
    """What is answered about these units, or about all."""
    body = {"lines": [{"line": n, "quantity": q} for n, q in lines]} if lines else {}
    return await (await desk.known(role)).post(f"/v1/orders/{order_id}/returns/quote", body)


async def scanned(desk: FrontDesk, part: dict[str, Any], kind: str) -> None:
    """The carrier tells something of the parcel."""
    at = {"delivered": "2026-11-25T10:00:00Z", "returned": "2026-11-25T10:00:00Z"}.get(kind, AT)
    scan = {"event_id": f"{part['id']}-{kind}", "type": kind, "occurred_at": at}
    warehouse = await desk.known("warehouse")
    answer = await warehouse.post(f"/v1/shipments/{part['shipment_id']}/events", scan, WAIT)
    assert answer.json()["applied"], answer.text


async def test_with_nothing_shipped_nothing_can_come_back(desk: FrontDesk) -> None:
    """CASE-D8: refused `not_returnable` while it is packed, and once it is cancelled; nothing changes."""
    # given
    order = await desk.place(("LAMP", 2))
    await desk.packed(order["id"])
    before = (await (await desk.known("service")).get(f"/v1/orders/{order['id']}")).json()
    # when
    whole = await quoted(desk, order["id"])
    named = await quoted(desk, order["id"], (1, 1))
    unknown = await quoted(desk, order["id"], (9, 1))
    after = (await (await desk.known("service")).get(f"/v1/orders/{order['id']}")).json()
    # then
    assert {answer.status_code for answer in (whole, named, unknown)} == {409}
    told = {name: whole.json()[name] for name in ("action", "reason", "alternative", "state", "lines", "detail")}
    assert told == {
        "action": "return",
        "reason": "not_returnable",
        "alternative": "cancel",
        "state": "in_fulfillment",
        "lines": [],
        "detail": "nothing of this order has left",
    }
    assert named.json()["lines"] == [{"line": 1, "quantity": 1, "returnable": 0}]
    assert (unknown.json()["reason"], unknown.json()["detail"]) == ("not_returnable", "the order has no line 9")
    assert after["version"] == before["version"]
    assert after["lines"] == before["lines"]
    gone = await desk.place(("MUG", 1))
    cancellations = f"/v1/orders/{gone['id']}/cancellations"
    await (await desk.known("service")).post(cancellations, {"reason": "other"}, WAIT)
    await desk.becomes(gone["id"], status="cancelled")
    over = (await quoted(desk, gone["id"])).json()
    assert (over["reason"], over["alternative"], over["state"]) == ("not_returnable", None, "cancelled")


async def test_a_late_cancellation_leads_to_what_a_return_gives_back(desk: FrontDesk) -> None:
    """The refusal names the alternative, the order links the quote; on the way the units come back after delivery."""
    # given
    order = await desk.place(("LAMP", 3))
    part = await desk.packed(order["id"])
    assert (await desk.report(part["id"], "handed_over"))["status"] == 201
    agent = await desk.known("service")
    # when
    refused = await agent.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "changed_mind"}, WAIT)
    problem = refused.json()
    link = (await agent.get(f"/v1/orders/{problem['order_id']}")).json()["links"]["return_quote"]
    on_its_way = await agent.post(link, {})
    await scanned(desk, part, "delivered")
    await desk.becomes(order["id"], status="completed")
    at_the_door = (await agent.post(link, {"lines": [{"line": 1, "quantity": 1}, {"line": 1, "quantity": 1}]})).json()
    too_many = (await quoted(desk, order["id"], (1, 4))).json()
    late = (await agent.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "changed_mind"}, WAIT)).json()
    # then
    assert (problem["reason"], problem["alternative"]) == ("already_handed_over", "return")
    assert "quoteReturn" in problem["detail"]
    assert f"accord orders return-quote {order['id']}" in refusal_text(problem)
    assert on_its_way.status_code == 200, on_its_way.text
    found = on_its_way.json()
    sku = desk.shop.sku("LAMP")
    assert found["lines"] == [
        {
            "line": 1,
            "sku": sku,
            "quantity": 3,
            "returnable_now": 0,
            "after_delivery": 3,
            "refund_minor": 3000,
            "refund_if_ours_minor": 3500,
        }
    ]
    assert found["order_id"] == order["id"]
    assert on_its_way.headers["etag"] == f'"v{found["order_version"]}"'
    (two,) = at_the_door["lines"]
    assert (two["returnable_now"], two["after_delivery"]) == (2, 0)
    assert at_the_door["money"] == {
        "refund_minor": 2000,
        "refund_if_ours_minor": 2334,  # 5.00 of shipping over three units: 1.67, 1.67, 1.66
        "captured_minor": 3500,
        "refunded_minor": 0,
    }
    assert (too_many["reason"], too_many["lines"]) == (
        "not_returnable",
        [{"line": 1, "quantity": 4, "returnable": 3}],
    )
    assert (late["reason"], late["alternative"]) == ("order_closed", "return")
    text = quote_text(QuoteView.model_validate(at_the_door))
    assert f"line 1  2 x {sku} (2 now): 20.00 USD, or 23.34 USD where the cause is ours" in text


async def test_what_was_made_good_does_not_come_back_and_what_was_sent_instead_does(desk: FrontDesk) -> None:
    """A lost parcel is sent again at no charge: its units come back for the price of those that they stand for."""
    # given
    order = await desk.place(("LAMP", 2))
    first = await desk.packed(order["id"])
    await desk.report(first["id"], "handed_over")
    await scanned(desk, first, "lost")

    async def again() -> dict[str, Any] | None:
        found = (await (await desk.known("service")).get(f"/v1/orders/{order['id']}")).json()
        return next(
            (p for p in found["fulfillment_orders"] if p["id"] != first["id"] and p["stage"] == "released"), None
        )

    # when
    second = await eventually(again)
    waiting = (await quoted(desk, order["id"])).json()
    assert (await desk.report(second["id"], "packed"))["status"] == 201
    await desk.labelled(second["id"])
    assert (await desk.report(second["id"], "handed_over"))["status"] == 201
    await scanned(desk, second, "delivered")
    await desk.becomes(order["id"], status="completed")
    found = (await quoted(desk, order["id"])).json()
    # then
    assert (waiting["reason"], waiting["alternative"]) == ("not_returnable", "cancel")
    assert waiting["detail"] == "all that has left is back, on its way back, or made good already"
    (line,) = found["lines"]
    assert (line["line"], line["returnable_now"]) == (2, 2)
    assert (line["refund_minor"], line["refund_if_ours_minor"]) == (2000, 2500)
    assert found["money"]["captured_minor"] == 2500


async def test_units_that_were_refunded_are_not_refunded_again(desk: FrontDesk) -> None:
    """A parcel that came back: its units are credited, and no return is quoted for them."""
    # given
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    await desk.report(part["id"], "handed_over")
    # when
    await scanned(desk, part, "return_to_sender")
    coming = await quoted(desk, order["id"], (1, 1))
    await scanned(desk, part, "returned")
    await desk.becomes(order["id"], payment_status="refunded")
    back = await quoted(desk, order["id"])
    # then
    for answer in (coming, back):
        assert (answer.status_code, answer.json()["reason"]) == (409, "not_returnable")
        assert answer.json()["alternative"] is None


async def test_a_malformed_question_and_an_order_of_others(desk: FrontDesk) -> None:
    """422 for what does not read, 404 for what is not the caller's, 403 for who never may."""
    order = await desk.place(("LAMP", 1))
    path = f"/v1/orders/{order['id']}/returns/quote"
    agent, auditor = await desk.known("service"), await desk.known("auditor")
    stranger = await desk.caller("service", channels=["somebody-elses"])
    for body in ({"lines": [{"line": 0, "quantity": 1}]}, {"lines": [{"line": 1}]}, {"reason": "other"}):
        assert (await agent.post(path, body)).status_code == 422
    assert (await agent.post(path, content=b"nothing")).status_code == 400
    assert (await auditor.post(path, {})).status_code == 403
    hidden = await stranger.post(path, {})
    missing = await agent.post(f"/v1/orders/{new_id('ord', 0)}/returns/quote", {})
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["detail"] == missing.json()["detail"]


async def test_an_order_without_an_answer_has_nothing_to_return(idle_desk: FrontDesk) -> None:
    """It is asked of the rows alone: no worker has to answer."""
    storefront = await idle_desk.known("storefront")
    taken = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    refused = (await storefront.post(f"/v1/orders/{taken.json()['id']}/returns/quote", {})).json()
    assert (refused["reason"], refused["state"], refused["alternative"]) == ("not_returnable", "received", "cancel")
