"""What becomes of the goods and of the money when units are cancelled: written off, paid all the same, or both."""

from typing import Any

import pytest

from domain.orders import Actor, ActorKind
from domain.permissions import Role
from store.checks import run_checks
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of
from workflows.messages import CancelledLine, CancelOrder, FreedStock


async def _movements(shop: Shop, order: Order) -> list[tuple[str, int]]:
    rows = await shop.sql(
        "SELECT reason, on_hand_delta FROM stock_movements WHERE order_id = :o ORDER BY movement_id", o=order.id
    )
    return [(row["reason"], row["on_hand_delta"]) for row in rows]


async def _journals(shop: Shop, order: Order) -> list[tuple[str, str, int]]:
    rows = await shop.sql(
        "SELECT kind, split_part(account, ':', 1) AS account, amount_minor::int AS amount FROM ledger_entries"
        " JOIN ledger_journals USING (journal_id) WHERE ledger_entries.order_id = :o ORDER BY entry_id",
        o=order.id,
    )
    return [(row["kind"], row["account"], row["amount"]) for row in rows]


async def _lawful(shop: Shop, order: Order) -> None:
    """Everybody agrees on it, and no law names the order or this shop's stock."""
    await shop.agrees(order)
    checked = await run_checks(shop.engine)
    broken = [key for verdict in checked.verdicts for key in verdict.keys]
    assert [key for key in broken if order.id in key or shop.channel in key] == []


async def test_without_refund_what_is_cancelled_is_paid_and_the_rest_ships(shop: Shop) -> None:
    """CASE-C11: one of two is swapped outside: its stock is back, its price is captured without a parcel, once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    # when
    outcome = await shop.cancel(order, lines=[(1, 1)], refund="none")
    again = await shop.cancel(order, lines=[(1, 1)], refund="none", update_id="said-twice")
    # then
    assert again == outcome
    assert outcome.lines == (CancelledLine(1, 1, 1, 0, 0),)
    assert (outcome.total_before_minor, outcome.total_after_minor, outcome.kept_minor) == (2500, 2500, 1250)
    assert outcome.authorization_to_release_minor == 0
    assert outcome.stock == (FreedStock(shop.sku("LAMP"), "EAST", 1),)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1250), ("capture", 1250)]
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}
    assert await shop.ledger(order) == {"provider": 2500, "revenue": -2000, "shipping": -500}
    assert await shop.on_hand("LAMP") == {"EAST": 1}
    assert (await shop.rests(order)).count("payment.kept") == 1
    await _lawful(shop, order)


async def test_without_refund_an_order_that_ships_nothing_is_paid_and_cancelled(shop: Shop) -> None:
    """CASE-C11: all of it is cancelled at no refund: captured at once, nothing voided, stock back."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    outcome = await shop.cancel(order, refund="none")
    # then
    assert (outcome.state, outcome.total_after_minor, outcome.kept_minor) == ("confirmed", 2500, 2500)
    assert (await order.handle.result()).status == "cancelled"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await _journals(shop, order) == [
        ("kept", "customer", 2500),
        ("kept", "revenue", -2000),
        ("kept", "shipping", -500),
        ("capture", "provider", 2500),
        ("capture", "customer", -2500),
    ]
    assert (await shop.header(order))["payment_status"] == "captured"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await _lawful(shop, order)


async def test_what_was_taken_already_is_kept_and_not_taken_again(shop: Shop) -> None:
    """CASE-C11: captured at the bank's own console, cancelled without refund: one capture, no refund."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    await shop.captured_at_the_console(order, 2500)
    # when
    await shop.cancel(order, refund="none")
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await shop.tenders(order) == [("captured", 2500, 2500, 0)]
    assert await shop.ledger(order) == {"provider": 2500, "revenue": -2000, "shipping": -500}
    await _lawful(shop, order)


async def test_what_cannot_be_taken_any_more_is_a_case_for_finance(shop: Shop) -> None:
    """10.00 were taken at the console, the void lets 15.00 go: finance is told, and gives them up."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    await shop.captured_at_the_console(order, 1000)
    # when
    await shop.cancel(order, refund="none")

    async def told() -> bool:
        return ("payment_kept_missing", "finance", "open") in await shop.cases(order)

    # then
    await eventually(told)
    (case,) = await shop.sql("SELECT detail FROM exceptions WHERE order_id = :o", o=order.id)
    assert case["detail"] == "15.00 USD of what was cancelled without refund could not be captured"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1000), ("void", 1500)]
    assert (await shop.header(order))["terminal"] is False
    assert await shop.reserved("LAMP") == {"EAST": 0}
    # and while finance was not asked about another order
    other = await shop.held(("LAMP", 1))
    assert (await refusal_of(shop.writes_off(other))).code == "nothing_missing"
    await shop.cancel(other)
    # and when finance writes it off
    first = await shop.writes_off(order)
    # then
    assert first.amount_minor == 1500
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.ledger(order) == {"provider": 1000, "revenue": -2000, "shipping": -500, "write_offs": 1500}
    header = await shop.header(order)
    assert (header["owed_minor"], header["unsettled_minor"], header["payment_status"]) == (1000, -1500, "captured")
    assert [state for code, _, state in await shop.cases(order) if code == "payment_kept_missing"] == ["auto_closed"]
    assert (await shop.rests(order)).count("payment.written_off") == 1
    await _lawful(shop, order)


async def test_each_tender_pays_its_part_of_what_is_kept(shop: Shop) -> None:
    """Captures walk the tenders by charge sequence, also without a parcel; what nobody owes is let go."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2), pay=[("pm_ok", 1000), ("pm_ok", 1500)])
    # when
    await shop.cancel(order, "cancel-1", lines=[(1, 1)], refund="none")
    await shop.cancel(order, "cancel-2", lines=[(1, 1)])
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.tenders(order) == [("captured", 1000, 1000, 0), ("captured", 1500, 250, 0)]
    assert shop.effects(order)[2:] == [("capture", 1000), ("capture", 250), ("void", 1250)]
    await _lawful(shop, order)


async def test_a_node_that_cannot_stop_keeps_nothing(shop: Shop) -> None:
    """Declined: nothing is kept for units that ship; each unit is paid once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "too_late")
    order = await shop.submit(placed)
    await shop.released(order)
    # when
    outcome = await shop.cancel(order, lines=[(1, 1)], refund="none", restock=False)
    # then
    assert (outcome.state, outcome.kept_minor, outcome.written_off) == ("declined", 0, ())
    assert (await shop.sees_through(order)).status == "completed"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await _movements(shop, order) == [("shipped", -2)]


async def test_what_is_not_paid_cannot_be_kept(shop: Shop) -> None:
    """While the payment is declined nobody can be made to pay for what is not delivered; with refund it goes."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    before = await shop.header(order)
    # when
    refusal = await shop.try_cancel(order, refund="none")
    # then
    assert refusal.code == "not_covered"
    assert await shop.header(order) == before | {"updated_at": (await shop.header(order))["updated_at"]}
    assert (await shop.cancel(order, "cancel-2")).state == "confirmed"
    await _lawful(shop, order)


async def test_written_off_units_leave_stock_by_a_movement(shop: Shop) -> None:
    """Packed and spoilt: on hand goes down once, by a movement that names the order; the money goes back."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    # when
    outcome = await shop.cancel(order, restock=False)
    # then
    assert (outcome.state, outcome.stock) == ("confirmed", ())
    assert outcome.written_off == (FreedStock(shop.sku("LAMP"), "EAST", 2),)
    assert (outcome.total_after_minor, outcome.kept_minor) == (0, 0)
    assert (await order.handle.result()).status == "cancelled"
    assert await _movements(shop, order) == [("written_off", -2)]
    assert await shop.on_hand("LAMP") == {"EAST": 1}
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert shop.effects(order)[-1] == ("void", 2500)
    assert "stock.written_off" in await shop.rests(order)
    await _lawful(shop, order)


async def test_held_units_are_written_off_where_they_are(shop: Shop) -> None:
    """Two nodes hold units of one item: each gets its own movement, and units that no node has need none."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=2)
    order = await shop.held(("LAMP", 3))
    # when
    outcome = await shop.cancel(order, restock=False, refund="none")
    # then
    sku = shop.sku("LAMP")
    assert sorted(outcome.written_off) == [FreedStock(sku, "EAST", 1), FreedStock(sku, "MID", 2)]
    assert sorted(await _movements(shop, order)) == [("written_off", -2), ("written_off", -1)]
    assert await shop.on_hand("LAMP") == {"EAST": 0, "MID": 0}
    assert (await order.handle.result()).status == "cancelled"
    assert (await shop.money(order))["captured"] == 3500
    await _lawful(shop, order)


async def test_where_no_node_has_anything_there_is_nothing_to_write_off(shop: Shop) -> None:
    """The reservation has lapsed: the units are nowhere. Refused; without the wish they are cancelled."""
    # given
    order = await _lapsed(shop)
    # when
    refusal = await shop.try_cancel(order, restock=False)
    # then
    assert (refusal.code, refusal.alternative) == ("nothing_to_write_off", "cancel")
    assert await _movements(shop, order) == []
    assert (await shop.cancel(order, "cancel-2")).state == "confirmed"
    assert await shop.on_hand("LAMP") == {"EAST": 1}


async def _lapsed(shop: Shop) -> Order:
    hasty = await Shop(shop.client, shop.engine, shop.simulation).opens(
        reservation_limit_s=1, hold_through_payment_window=False
    )
    shop.channel = hasty.channel
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.lapses(order)
    return order


@pytest.mark.parametrize("wish", [{"refund": "none"}, {"restock": False}], ids=["no refund", "write off"])
async def test_the_cut_off_rules_name_who_may(shop: Shop, wish: dict[str, Any]) -> None:
    """A storefront and a customer may cancel, not decide about our stock and money; service may."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.held(("LAMP", 1))
    await eventually(lambda: _knows_it_is_paid(order))
    before = await shop.header(order)
    # when
    plans = {
        role: await order.handle.query(
            "preview_cancel", args=[[], role, wish.get("restock", True), wish.get("refund", "full")]
        )
        for role in (Role.STOREFRONT, Role.SHOPPER, Role.SERVICE, Role.OPS)
    }
    # then
    codes = {role: plan.get("code") for role, plan in plans.items()}
    refused = "not_in_cut_off_rules"
    assert codes == {Role.STOREFRONT: refused, Role.SHOPPER: refused, Role.SERVICE: None, Role.OPS: None}
    assert await shop.header(order) == before
    await shop.cancel(order)


async def _knows_it_is_paid(order: Order) -> bool:
    return all(tender["authorized_minor"] for tender in (await order.handle.query("state"))["tenders"])


async def test_a_signal_that_may_not_is_recorded_as_refused(shop: Shop) -> None:
    """The stored row of the command tells who sent it: a storefront; nothing is changed."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.held(("LAMP", 1))
    storefront = Actor(kind=ActorKind.PROGRAM, id="shop", role=Role.STOREFRONT)
    # when
    wish = CancelOrder(command_id="swap", refund="none")
    await shop.stores(order, "cancel", wish, storefront)
    await shop.signal(order, "cancel", wish)
    # then
    told = await shop.command(order, "swap")
    assert (told["state"], told["outcome"]["code"]) == ("refused", "not_in_cut_off_rules")
    assert (await shop.header(order))["owed_minor"] == 1500
    assert await shop.reserved("LAMP") == {"EAST": 1}
    await shop.cancel(order)
