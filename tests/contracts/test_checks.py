"""Every conservation law finds a planted break and names its key; a lawful world raises no alarm."""

# ruff: noqa: S608 - the keys in the planted statements are constants
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ids import derived_id
from store.checks import KEYS_SHOWN, Checked, Listing, ProviderObject, run_checks, sample_digests
from store.engine import make_engine
from store.laws import CHECKS
from tests.support.planted import AT_NODE, CANCELLED, DELIVERED, OBJECTS, ORDERS, make_world, plant

DIGEST_CHECK = "header_is_not_its_rows"
ACCEPTED = derived_id("evt", AT_NODE, 1)
NOTICE = (
    "INSERT INTO notices (notice_id, order_id, event_id, kind, required, sales_channel, language, state, settled_at,"
    " next_attempt_at) VALUES "
)


@dataclass(frozen=True)
class World:
    """The planted world of one test."""

    url: str
    engine: AsyncEngine

    async def check(self, *objects: ProviderObject) -> dict[str, tuple[str, ...]]:
        """Names of the checks that found something, with their keys."""
        checked = await run_checks(self.engine, _listing(objects or OBJECTS))
        return _breaks(checked)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A lawful world of four orders."""
    engine = make_engine(database_url, pool_size=2)
    await make_world(database_url, engine)
    yield World(database_url, engine)
    await engine.dispose()


async def test_a_lawful_world_raises_no_alarm(world: World) -> None:
    """Nothing is found, every check ran, and all orders were looked at."""
    checked = await run_checks(world.engine, _listing(OBJECTS))
    assert _breaks(checked) == {}
    assert [verdict.name for verdict in checked.verdicts] == [*(check.name for check in CHECKS), DIGEST_CHECK]
    assert (checked.orders, checked.open_orders, checked.provider_objects) == (4, 1, 5)


async def test_an_empty_database_raises_no_alarm(database_url: str) -> None:
    """Before the first order there is nothing to find."""
    engine = make_engine(database_url, pool_size=1)
    checked = await run_checks(engine, _listing(()))
    assert (checked.violations, checked.orders) == (0, 0)
    await engine.dispose()


# name of the check -> (how it is broken, the keys that must be named, other checks that rightly notice too)
PLANTED = {
    "stock_ledger_mismatch": (
        "UPDATE stock_levels SET on_hand = 9",
        ("LAMP at N1",),
        (),
    ),
    "stock_bounds": (
        "UPDATE stock_levels SET unavailable = 6",
        ("LAMP at N1",),
        (),
    ),
    "shipped_units_mismatch": (
        "UPDATE stock_movements SET on_hand_delta = CASE reason WHEN 'hand_over' THEN -1 ELSE 9 END",
        (f"{DELIVERED} LAMP at N1",),
        (),
    ),
    "returned_units_mismatch": (
        "INSERT INTO shipments (shipment_id, fulfillment_id, order_id, business_key, returned_at)"
        f" VALUES ('s1', 'f1', '{DELIVERED}', 's1', now())",
        ("s1 LAMP at N1",),
        (),
    ),
    "reserved_mismatch": (
        "UPDATE stock_levels SET reserved = 2",
        ("LAMP at N1",),
        (),
    ),
    "orphan_reservation": (
        "UPDATE reservations SET order_id = 'ord_GONE' WHERE reservation_key = 'r2'",
        ("r2",),
        ("bucket_reservation_mismatch",),
    ),
    "bucket_sum": (
        f"UPDATE order_lines SET open = 1 WHERE order_id = '{DELIVERED}'",
        (f"{DELIVERED} line 1",),
        (DIGEST_CHECK,),
    ),
    "backorder_without_end": (
        f"UPDATE order_lines SET released = 2, backordered = 1 WHERE order_id = '{AT_NODE}'",
        (f"{AT_NODE} line 1",),
        ("bucket_reservation_mismatch", "bucket_fulfillment_mismatch", DIGEST_CHECK),
    ),
    "bucket_reservation_mismatch": (
        "UPDATE reservations SET state = 'released' WHERE reservation_key = 'r1'",
        (f"{DELIVERED} line 1",),
        ("shipped_units_mismatch",),
    ),
    "bucket_fulfillment_mismatch": (
        "UPDATE fulfillment_lines SET quantity = 2 WHERE fulfillment_id = 'f2'",
        (f"{AT_NODE} line 1",),
        (),
    ),
    "undelivered_units_mismatch": (
        f"UPDATE order_lines SET delivered = 1, written_off = 1 WHERE order_id = '{DELIVERED}'",
        (f"{DELIVERED} line 1",),
        (DIGEST_CHECK,),
    ),
    "credit_is_not_booked": (
        f"UPDATE order_lines SET credited_minor = 50 WHERE order_id = '{DELIVERED}'",
        (DELIVERED,),
        ("order_total",),
    ),
    "customer_account_open": (
        f"INSERT INTO ledger_entries (journal_id, order_id, account, currency, amount_minor) VALUES "
        f"(1, '{DELIVERED}', 'customer', 'USD', 1), (1, '{DELIVERED}', 'revenue', 'USD', -1)",
        (DELIVERED,),
        (),
    ),
    "kept_is_not_owed": (
        "UPDATE tenders SET state = 'authorized' WHERE tender_id = 't4'",
        (CANCELLED,),
        (DIGEST_CHECK,),
    ),
    "ledger_is_not_tenders": (
        f"INSERT INTO ledger_entries (journal_id, order_id, account, currency, amount_minor) VALUES "
        f"(1, '{AT_NODE}', 'provider:t2', 'USD', 5), (1, '{AT_NODE}', 'revenue', 'USD', -5)",
        (AT_NODE,),
        ("journal_unbalanced",),
    ),
    "intent_settled_twice": (
        f"INSERT INTO payment_intents (business_key, order_id, tender_id, intent, seq, amount_minor, currency, "
        f"provider, provider_ref, state) VALUES ('v4b', '{CANCELLED}', 't4', 'void', 2, 100, 'USD', 'simulated', "
        f"'V4B', 'ok')",
        (f"{CANCELLED} void 1",),
        ("intent_without_object",),
    ),
    "caps": (
        "UPDATE tenders SET refund_pending_minor = 201 WHERE tender_id = 't1'",
        ("t1",),
        ("kept_is_not_owed",),
    ),
    "tender_counters": (
        "UPDATE tenders SET authorized_minor = 301 WHERE tender_id = 't2'",
        ("t2",),
        (DIGEST_CHECK,),
    ),
    "order_total": (
        f"UPDATE order_lines SET total_minor = 299 WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
    "kept_is_not_booked": (
        f"UPDATE order_lines SET kept_minor = 10, cancelled_minor = 10 WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
    "unsettled_is_not_booked": (
        f"UPDATE orders SET unsettled_minor = 10, owed_minor = owed_minor + 10 WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        ("header_is_not_its_rows",),
    ),
    "one_currency": (
        "UPDATE payment_intents SET currency = 'EUR' WHERE business_key = 'a2'",
        ("a2",),
        ("intent_without_object",),
    ),
    "journal_unbalanced": (
        "UPDATE ledger_entries SET journal_id = 1 WHERE account = 'provider:t1'",
        (f"{DELIVERED} journal 1 USD", f"{DELIVERED} journal 2 USD"),
        (),
    ),
    "ledger_unbalanced": (
        "UPDATE ledger_entries SET amount_minor = -199 WHERE account = 'revenue'",
        ("USD",),
        ("journal_unbalanced",),
    ),
    "stuck_order": (
        f"UPDATE orders SET wait_deadline = now() - interval '3 minutes' WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
    "hold_outlives_order": (
        "INSERT INTO holds (hold_id, order_id, type, blocks, owner, reason, at_limit, placed_by, placed_at,"
        f" expires_at) VALUES ('hld_1', '{DELIVERED}', 'manual', '{{release}}', 'service', 'x', 'release', '{{}}',"
        " now(), now() + interval '1 day')",
        ("hld_1",),
        (),
    ),
    "command_without_outcome": (
        "UPDATE commands SET state = 'received', outcome = NULL, received_at = now() - interval '6 minutes'",
        (f"{CANCELLED} cmd1",),
        (),
    ),
    "address_left_over": (
        "INSERT INTO vault_changes (order_id, command_id, key_version, wrapped_key, sealed, created_at)"
        f" VALUES ('{CANCELLED}', 'cmd1', 1, '', '', now() - interval '6 minutes')",
        (f"{CANCELLED} cmd1",),
        (),
    ),
    "order_missing": (
        "INSERT INTO intake (order_id, channel, order_number, customer_ref, principal, fingerprint, place_order, "
        "created_at) VALUES ('ord_LOST', 'web-us', '1', 'c', 'p', '', '{}', now() - interval '3 minutes')",
        ("ord_LOST",),
        (),
    ),
    "intake_missing": (
        f"DELETE FROM intake WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
    "history_gap": (
        f"UPDATE order_events SET sequence = 2 WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
    "event_untold": (
        f"UPDATE order_events SET type = 'order.confirmed' WHERE order_id = '{AT_NODE}'",
        (ACCEPTED,),
        (),
    ),
    "notice_of_nothing": (
        f"{NOTICE} ('ntc_1', '{AT_NODE}', 'evt_none', 'shipped', false, 'web-us', 'en', 'sent', now(), now())",
        ("ntc_1",),
        (),
    ),
    "notice_stuck": (
        f"{NOTICE} ('ntc_1', '{AT_NODE}', '{ACCEPTED}', 'shipped', false, 'web-us', 'en', 'pending', NULL,"
        " now() - interval '6 minutes')",
        ("ntc_1",),
        (),
    ),
    "notice_failed_unseen": (
        f"{NOTICE} ('ntc_1', '{AT_NODE}', '{ACCEPTED}', 'shipped', false, 'web-us', 'en', 'failed', now(), now())",
        ("ntc_1",),
        (),
    ),
    "promise_changed_untold": (
        f"INSERT INTO promises (order_id, promise_no, version, promised_by, promised_until, zone_name, cause, ruleset)"
        f" VALUES ('{AT_NODE}', 1, 1, now(), now(), 'UTC', 'short_pick', 'promise@1')",
        (f"{AT_NODE} 1 1",),
        (),
    ),
    DIGEST_CHECK: (
        f"UPDATE orders SET fulfillment_status = 'delivered' WHERE order_id = '{AT_NODE}'",
        (AT_NODE,),
        (),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
async def test_a_planted_break_is_found_and_named(world: World, name: str) -> None:
    """The law's own check names the key; no other check cries without cause."""
    break_sql, keys, also = PLANTED[name]
    plant(world.url, break_sql)
    found = await world.check()
    assert found.pop(name) == keys
    assert set(found) == set(also)


ON_TOP = ProviderObject("x9", AT_NODE, "capture", "X9", 300, "USD", "succeeded")
LISTINGS = {
    "object_without_intent": ((*OBJECTS, ON_TOP), ("x9 X9",), ()),
    "duplicate_object": ((*OBJECTS, replace(OBJECTS[1], provider_ref="C1B")), ("c1",), ("intent_without_object",)),
    "intent_without_object": (OBJECTS[:1] + OBJECTS[2:], ("c1",), ()),
    "hold_left_open": ((*OBJECTS[:3], replace(OBJECTS[3], state="open"), OBJECTS[4]), (f"{CANCELLED} A4",), ()),
}


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_difference_to_the_provider_is_found(world: World, name: str) -> None:
    """The provider's own listing is the second witness of every intent."""
    objects, keys, also = LISTINGS[name]
    found = await world.check(*objects)
    assert found.pop(name) == keys
    assert set(found) == set(also)


async def test_another_amount_at_the_provider_is_found(world: World) -> None:
    """One object under the right key, with a penny more."""
    found = await world.check(replace(OBJECTS[1], amount_minor=201), *OBJECTS[:1], *OBJECTS[2:])
    assert found == {"intent_without_object": ("c1",)}


def test_every_check_has_a_planted_break() -> None:
    """A check that nothing can trip proves nothing."""
    assert {*PLANTED, *LISTINGS} == {*(check.name for check in CHECKS), DIGEST_CHECK}


async def test_an_effect_that_happens_meanwhile_is_no_alarm(world: World) -> None:
    """What the provider does after the snapshot has its row outside it; what it did before must have one."""
    listings = [OBJECTS, (*OBJECTS, ON_TOP)]

    async def growing() -> tuple[ProviderObject, ...]:
        return listings.pop(0)

    checked = await run_checks(world.engine, growing)
    assert _breaks(checked) == {}
    assert checked.provider_objects == 6


async def test_a_late_order_with_an_open_case_is_no_alarm(world: World) -> None:
    """Somebody owns it already."""
    plant(world.url, PLANTED["stuck_order"][0])
    plant(
        world.url,
        "INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at) "
        f"VALUES ('e', '{AT_NODE}', 'late', 'fulfillment', 'late', now())",
    )
    assert await world.check() == {}


async def test_a_late_order_whose_case_was_dismissed_is_no_alarm_until_the_next_deadline(world: World) -> None:
    """Somebody has looked since; a dismissal before the deadline says nothing about what came after."""
    plant(world.url, PLANTED["stuck_order"][0])
    plant(
        world.url,
        "INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at, state, resolution, closed_at) "
        f"VALUES ('e', '{AT_NODE}', 'late', 'fulfillment', 'late', now(), 'resolved', 'dismiss', now())",
    )
    assert await world.check() == {}
    plant(world.url, "UPDATE exceptions SET closed_at = now() - interval '1 year'")
    assert list(await world.check()) == ["stuck_order"]


async def test_without_the_provider_its_checks_are_left_out(world: World) -> None:
    """They are not run, rather than run on nothing."""
    checked = await run_checks(world.engine)
    names = {verdict.name for verdict in checked.verdicts}
    assert names == {check.name for check in CHECKS if not check.needs_provider} | {DIGEST_CHECK}
    assert checked.provider_objects is None


async def test_many_breaks_are_counted_and_the_first_are_named(world: World) -> None:
    """The list is bounded, the count is not."""
    plant(
        world.url,
        "INSERT INTO reservations (reservation_key, order_id, line_no, sku, node_id, qty, generation, state, "
        f"expires_at) SELECT 'x' || lpad(n::text, 3, '0'), '{DELIVERED}', 1, 'LAMP', 'N1', 1, 1, 'held', now() "
        "FROM generate_series(1, 50) n",
    )
    checked = await run_checks(world.engine)
    (orphans,) = [verdict for verdict in checked.verdicts if verdict.name == "orphan_reservation"]
    assert (orphans.count, len(orphans.keys), orphans.keys[0]) == (50, KEYS_SHOWN, "x001")


async def test_checking_writes_nothing(world: World) -> None:
    """The laws are read in a read-only transaction: a query that writes fails."""
    writing = replace(CHECKS[0], query="SELECT nextval('order_numbers')::text AS key")
    with pytest.raises(DBAPIError, match="read-only"):
        await run_checks(world.engine, checks=(writing,))


async def test_digests_are_sampled_open_orders_first(world: World) -> None:
    """The sample is bounded, and named orders can be read again."""
    sample = await sample_digests(world.engine, 2, "seed")
    assert [terminal for _, terminal, _ in sample] == [False, True]
    assert sample[0][0] == AT_NODE
    again = await sample_digests(world.engine, 10, order_ids=[DELIVERED])
    assert [(order_id, len(digest)) for order_id, _, digest in again] == [(DELIVERED, 32)]
    assert len(await sample_digests(world.engine, 100)) == len(ORDERS)


def _listing(objects: tuple[ProviderObject, ...]) -> Listing:
    async def listing() -> tuple[ProviderObject, ...]:
        return objects

    return listing


def _breaks(checked: Checked) -> dict[str, tuple[str, ...]]:
    return {verdict.name: verdict.keys for verdict in checked.verdicts if verdict.count}
