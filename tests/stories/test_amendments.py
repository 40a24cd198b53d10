"""An order in flight is changed: all of it or nothing, whoever has to agree."""

from datetime import timedelta
from typing import Any

import pytest

from domain.amendment import AddLine, SetQuantity, SetRequestedBy, SetServiceLevel, SetShipTo, Substitute
from domain.orders import Actor, ActorKind, ReportKind, ServiceLevel, Split
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of

FAR = "US-TX"
SHOPPER = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role="shopper")


async def _far(shop: Shop) -> SetShipTo:
    """A destination that MID reaches first and that EAST does not deliver to."""
    await shop.sql(
        "INSERT INTO zones VALUES (:z, 'US', 'TX', NULL, 29.76, -95.37, 'America/Chicago') ON CONFLICT DO NOTHING",
        z=FAR,
    )
    for node, days in (("MID", 2), ("WEST", 4)):
        await shop.sql(
            "INSERT INTO lanes VALUES (:n, :z, 'standard', :d) ON CONFLICT DO NOTHING", n=node, z=FAR, d=days
        )
    return SetShipTo(country="US", region="TX", zone_id=FAR)


async def _ends_well(shop: Shop, order: Order, captured: int) -> None:
    """Everything ships, what is owed is taken, nothing is left over."""
    await shop.becomes(order, status="in_fulfillment")

    async def at_nodes() -> list[dict[str, Any]]:
        parts = await shop.parts(order)
        live = [p for p in parts if p["stage"] not in ("cancelled", "open")]
        (open_units,) = await shop.sql(
            "SELECT sum(open + reserved + allocated)::int AS units FROM order_lines WHERE order_id = :o", o=order.id
        )
        return live if live and not open_units["units"] and all(p["stage"] != "allocated" for p in live) else []

    for part in await eventually(at_nodes):
        await shop.ships(order, part)
        await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert (await shop.money(order))["captured"] == captured
    await shop.agrees(order)


async def _lines(shop: Shop, order: Order) -> list[dict[str, Any]]:
    return await shop.sql(
        "SELECT line_no, ordered, cancelled, total_minor, extends_line, replaces_line FROM order_lines"
        " WHERE order_id = :o ORDER BY line_no",
        o=order.id,
    )


# --- more ---------------------------------------------------------------------------------------------


async def test_more_units_are_authorized_first_and_become_a_line_of_their_own(shop: Shop) -> None:
    """CASE-C10: two become three; the third has its own price and shares, and can be cancelled and counted alone."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=3))
    again = await shop.amend(order, SetQuantity(line=1, quantity=3), update_id="again")
    # then
    assert again == outcome
    assert (outcome.state, outcome.total_before_minor, outcome.total_after_minor) == ("confirmed", 2500, 3500)
    assert outcome.additional_authorization_minor == 1000
    assert [tuple(line)[2:] for line in outcome.lines] == [(2, 3)]
    assert await shop.tenders(order) == [("authorized", 2500, 0, 0), ("authorized", 1000, 0, 0)]
    assert (await _lines(shop, order))[1] == {
        "line_no": 2, "ordered": 1, "cancelled": 0, "total_minor": 1000, "extends_line": 1, "replaces_line": None,
    }  # fmt: skip
    assert await shop.reserved("LAMP") == {"EAST": 3}
    # and when
    await shop.unheld(order)
    # then
    await _ends_well(shop, order, 3500)
    assert (await shop.events(order)).count("order.amended") == 1


async def test_fewer_units_than_were_added_take_the_newest_first(shop: Shop) -> None:
    """Up and down again: the order is worth what it was, and no money moves for the round trip but its release."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    await shop.amend(order, SetQuantity(line=1, quantity=4))
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=1), command_id="amend-2")
    # then
    assert [tuple(line)[2:] for line in outcome.lines] == [(4, 1)]
    assert [(line["line_no"], line["cancelled"]) for line in await _lines(shop, order)] == [(1, 1), (2, 2)]
    assert await shop.reserved("LAMP") == {"EAST": 1}
    await shop.unheld(order)
    await _ends_well(shop, order, 1250)


async def test_a_new_line_ships_with_the_rest_and_the_promise_is_made_anew(shop: Shop) -> None:
    """MUG is only far away: the customer's own change makes a new original promise, of the later day."""
    # given
    await shop.stocks("LAMP", EAST=5)
    await shop.stocks("MUG", WEST=3)
    order = await shop.held(("LAMP", 2))
    line = AddLine(sku=shop.sku("MUG"), quantity=2, unit_price_minor=700, discount_minor=100, tax_minor=65)
    # when
    outcome = await shop.amend(order, line)
    # then
    assert outcome.total_after_minor == 2500 + 1365
    assert outcome.tax_delta_minor == 65
    assert outcome.promised_by is not None
    assert outcome.promised_before is not None
    assert outcome.promised_by > outcome.promised_before
    promises = await shop.sql(
        "SELECT promise_no, version, cause, live FROM promises WHERE order_id = :o ORDER BY promise_no", o=order.id
    )
    assert promises == [
        {"promise_no": 1, "version": 0, "cause": "acceptance", "live": False},
        {"promise_no": 2, "version": 0, "cause": "amendment", "live": True},
    ]
    await shop.unheld(order)
    await _ends_well(shop, order, 2500 + 1365)


async def test_what_cannot_be_paid_leaves_the_order_as_it_was(shop: Shop) -> None:
    """The extra authorization is declined: no unit, no line, no penny is different."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    before = await shop.header(order)
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=3), reference="pm_declined")
    # then
    assert (outcome.state, outcome.code, outcome.decline_code) == ("declined", "payment_declined", "card_declined")
    after = await shop.header(order)
    assert (after["owed_minor"], after["payment_status"]) == (before["owed_minor"], "authorized")
    assert [tender[0] for tender in await shop.tenders(order)] == ["authorized", "voided"]
    assert len(await _lines(shop, order)) == 1
    assert await shop.reserved("LAMP") == {"EAST": 2}
    assert (await shop.command(order, "amend-1"))["state"] == "applied"
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


async def test_what_nobody_has_is_declined_before_any_money_is_asked_for(shop: Shop) -> None:
    """CAP-H02: the whole change is declined, with what is there; the provider has heard of nothing."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    asked = len(shop.effects(order))
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=3))
    # then
    assert (outcome.state, outcome.code) == ("declined", "out_of_stock")
    assert [tuple(line)[2:] for line in outcome.lines_short] == [(1, 0)]
    assert len(shop.effects(order)) == asked
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


# --- something else -----------------------------------------------------------------------------------


async def test_another_item_at_the_same_price_moves_no_money(shop: Shop) -> None:
    """CASE-C8: the new line takes over the frozen shares of the old one, the odd penny included."""
    # given
    await shop.stocks("LAMP", EAST=3)
    await shop.stocks("MUG", EAST=3)
    order = await shop.held(("LAMP", 3))
    effects = len(shop.effects(order))
    # when
    outcome = await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG"), quantity=2))
    back = await shop.amend(order, Substitute(line=2, sku=shop.sku("LAMP")), command_id="amend-2")
    # then
    assert outcome.total_after_minor == back.total_after_minor == 3500
    assert len(shop.effects(order)) == effects
    assert [(line["line_no"], line["replaces_line"]) for line in await _lines(shop, order)] == [
        (1, None), (2, 1), (3, 2),
    ]  # fmt: skip
    assert await shop.reserved("MUG") == {"EAST": 0}
    assert await shop.reserved("LAMP") == {"EAST": 3}
    await shop.unheld(order)
    await _ends_well(shop, order, 3500)


async def test_another_address_is_sourced_and_promised_anew(shop: Shop) -> None:
    """CAP-H01: EAST does not deliver there; MID does. The units move in one transaction."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    there = await _far(shop)
    order = await shop.held(("LAMP", 2))
    assert await shop.reserved("LAMP") == {"EAST": 2, "MID": 0}
    # when
    outcome = await shop.amend(order, there)
    # then
    assert (outcome.state, outcome.nodes) == ("confirmed", ("MID",))
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 2}
    (row,) = await shop.sql("SELECT zone_id, region FROM orders WHERE order_id = :o", o=order.id)
    assert row == {"zone_id": FAR, "region": "TX"}
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


async def test_an_address_that_nobody_delivers_to_from_where_the_goods_are_is_declined(shop: Shop) -> None:
    """Refused whole: the order stays where it was going."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    outcome = await shop.amend(order, await _far(shop))
    # then
    assert (outcome.state, outcome.code) == ("declined", "promise_not_possible")
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


async def test_a_speed_that_no_lane_offers_is_declined(shop: Shop) -> None:
    """CAP-H04: a method that cannot be offered."""
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    outcome = await shop.amend(order, SetServiceLevel(service_level=ServiceLevel.EXPRESS))
    assert (outcome.state, outcome.code) == ("declined", "promise_not_possible")
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


async def test_a_wanted_day_is_kept_or_refused(shop: Shop) -> None:
    """Earlier than possible is refused by name; later is written down, and what follows must keep to it."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("MUG", WEST=2)
    order = await shop.held(("LAMP", 2))
    (row,) = await shop.sql("SELECT promised_by FROM orders WHERE order_id = :o", o=order.id)
    day = row["promised_by"]
    # when
    refusal = await refusal_of(shop.amend(order, SetRequestedBy(requested_by=day - timedelta(days=1))))
    outcome = await shop.amend(order, SetRequestedBy(requested_by=day), command_id="amend-2")
    line = AddLine(sku=shop.sku("MUG"), quantity=1, unit_price_minor=500)
    late = await shop.amend(order, line, command_id="amend-3")
    # then
    assert refusal.code == "promise_not_possible"
    assert outcome.state == "confirmed"
    assert (late.state, late.code) == ("declined", "promise_not_possible")
    await shop.unheld(order)
    await _ends_well(shop, order, 2500)


async def test_what_must_stay_together_is_sourced_together(shop: Shop) -> None:
    """The added line is only at MID: all of the order moves there."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    await shop.stocks("MUG", MID=2)
    order = await shop.held(("LAMP", 2), split=Split.TOGETHER)
    # when
    outcome = await shop.amend(order, AddLine(sku=shop.sku("MUG"), quantity=1, unit_price_minor=500))
    # then
    assert outcome.nodes == ("MID",)
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 2}
    await shop.unheld(order)
    await _ends_well(shop, order, 3000)


# --- after release: the node must agree ---------------------------------------------------------------


async def test_after_release_the_node_stops_first(shop: Shop) -> None:
    """The node stops, the units come from elsewhere, the first fulfillment order is over."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    there = await _far(shop)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    # when
    outcome = await shop.amend(order, there)
    # then
    assert (outcome.state, outcome.nodes) == ("confirmed", ("MID",))
    await _ends_well(shop, order, 2500)
    parts = {part["node_id"]: part["state"] for part in await shop.parts(order)}
    assert parts == {"EAST": "cancelled", "MID": "closed"}


async def test_a_node_that_cannot_stop_ships_and_the_money_for_the_change_is_released(shop: Shop) -> None:
    """Too late: what is there goes its way, and the order costs what it cost."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    await shop.stocks("MUG", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "too_late")
    order = await shop.submit(placed)
    await shop.released(order)
    # when
    outcome = await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG"), quantity=1, unit_price_minor=1500))
    # then
    assert (outcome.state, outcome.code, outcome.total_after_minor) == ("declined", "node_too_late", 2500)
    assert [tender[0] for tender in await shop.tenders(order)] == ["authorized", "voided"]
    assert await shop.reserved("MUG") == {"EAST": 0}
    await _ends_well(shop, order, 2500)
    assert "amendment.declined" in await shop.events(order)


async def test_units_that_a_node_stopped_in_vain_are_sourced_as_before(shop: Shop) -> None:
    """Between the try-out and the change somebody else took the stock: declined, and nothing is lost."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("MUG", EAST=1)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    change = Substitute(line=1, sku=shop.sku("MUG"), quantity=1)
    handle = await shop.begins_to_amend(order, change)
    await shop.becomes(order, wait_cause="stop_answer")
    # when
    other = await shop.place(("MUG", 1))
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_AGREED)
    outcome = await handle.result()
    # then
    assert (outcome.state, outcome.code) == ("declined", "out_of_stock")
    await _ends_well(shop, order, 2500)
    assert (await shop.sees_through(other)).status == "completed"


# --- one at a time, and not for everybody -------------------------------------------------------------


async def test_a_cancellation_during_a_change_is_decided_first_and_both_answers_are_right(shop: Shop) -> None:
    """The change waits for a node; the cancellation of the other part wins; the change goes by what is left."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("MUG", MID=2)
    placed = shop.order(("LAMP", 2), ("MUG", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    parts = await shop.released(order, 2)
    handle = await shop.begins_to_amend(order, SetQuantity(line=1, quantity=1))
    await shop.becomes(order, wait_cause="stop_answer")
    # when
    second = await refusal_of(shop.amend(order, SetQuantity(line=2, quantity=1), command_id="amend-2"))
    same = await shop.try_cancel(order, "cancel-1", lines=((1, 1),))
    await shop.report(order, parts[0]["fulfillment_id"], ReportKind.CANCEL_AGREED)
    outcome = await handle.result()
    # then
    assert second.code == "amendment_in_progress"
    assert same.code in ("cancellation_in_progress", "quantity_exceeds_open")
    assert (outcome.state, [tuple(line)[2:] for line in outcome.lines]) == ("confirmed", [(2, 1)])
    await _ends_well(shop, order, 4500 - 1125)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (SetQuantity(line=9, quantity=1), "unknown_line"),
        (SetQuantity(line=1, quantity=2), "nothing_changes"),
        (SetQuantity(line=1, quantity=0), "nothing_would_be_left"),
        (AddLine(sku="MUG", quantity=1, unit_price_minor=1), "not_in_cut_off_rules"),
    ],
)
async def test_what_makes_no_sense_or_is_not_allowed_is_refused_by_name(shop: Shop, change: Any, code: str) -> None:
    """Before anything is written."""
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    before = await shop.header(order)
    refusal = await refusal_of(shop.amend(order, change, actor=SHOPPER))
    assert refusal.code == code
    assert await shop.header(order) == before
    await shop.cancel(order)


async def test_a_shopper_is_refused_once_a_node_has_the_work(shop: Shop) -> None:
    """CAP-H06: the refusal names the rule, until when it was possible, and what is possible instead."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.knows(order, part, "released")
    # when
    refusal = await refusal_of(shop.amend(order, SetQuantity(line=1, quantity=3), actor=SHOPPER))
    # then
    assert (refusal.code, refusal.alternative) == ("cut_off_passed", "cancel")
    assert refusal.detail == (
        "cut_off@1: increase is possible for the role shopper until the units are allocated; they are released"
    )
    await shop.sees_through(order)


async def test_the_preview_is_what_happens_then(shop: Shop) -> None:
    """The same plan and the same transaction, rolled back."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    before = await shop.header(order)
    # when
    told = await shop.preview_amend(order, SetQuantity(line=1, quantity=4))
    assert await shop.header(order) == before
    assert await shop.reserved("LAMP") == {"EAST": 2}
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=4))
    # then
    unlike = {"order_version", "nodes", "amendment_id"}
    done = outcome.model_dump(mode="json")
    assert {name: value for name, value in told["outcome"].items() if name not in unlike} == {
        name: value for name, value in done.items() if name not in unlike
    }
    await shop.unheld(order)
    await _ends_well(shop, order, 4500)


async def test_a_change_by_signal_is_the_same_change(shop: Shop) -> None:
    """And what cannot be read becomes a failed command."""
    # given
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    # when
    change = {"op": "set_quantity", "line": 1, "quantity": 3}
    await shop.signal(order, "amend", {"command_id": "amend-1", "changes": [change]})
    await shop.signal(order, "amend", {"command_id": "amend-2", "changes": [{"op": "repaint"}]})
    # then
    assert (await shop.command(order, "amend-1"))["outcome"]["state"] == "confirmed"
    await shop.unheld(order)
    await _ends_well(shop, order, 3500)
    assert ("amend", "failed") in [(kind, state) for kind, state in await shop.commands(order)]
