"""What the simulated payment provider does: its payment references, its law of money, its listing."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from providers.outcomes import Absent, Found, Refused, Unknown
from providers.payments import PaymentLookUp, PaymentOk, PaymentProvider
from providers.payments.simulated import SimulatedPayments, UnknownCursorError
from providers.simulation import Simulation
from tests.support.provider_requests import code, give_back, hold, let_go, ok, take


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    """The state file, as a test or a demo holds it."""
    with Simulation(tmp_path / "simulated.db") as simulation:
        yield simulation


@pytest.fixture
def payments(simulation: Simulation) -> PaymentProvider:
    """A payment provider without any fault."""
    return SimulatedPayments(simulation)


def _kinds(simulation: Simulation) -> list[str]:
    return [effect.kind for effect in simulation.effects()]


def _found(look_up: PaymentLookUp) -> PaymentOk:
    assert isinstance(look_up, Found), look_up
    return ok(look_up.outcome)


# --- Payment references -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "refusal"),
    [
        ("pm_declined", "card_declined"),
        ("pm_insufficient", "insufficient_funds"),
        ("pm_nonsense", "unknown_reference"),
    ],
)
async def test_a_refusing_reference_holds_no_money(
    payments: PaymentProvider, simulation: Simulation, reference: str, refusal: str
) -> None:
    """The refusal is definite: the same under every key, found by look-up, and nothing is held."""
    # when
    outcomes = [await payments.authorize(hold(reference=reference, seq=seq)) for seq in (1, 1, 2)]
    # then
    assert [code(outcome) for outcome in outcomes] == [refusal] * 3
    assert await payments.look_up(hold().key) == Found[PaymentOk].model_validate({"outcome": outcomes[0]})
    assert simulation.effects() == ()


async def test_pm_decline_once_declines_the_first_key_of_each_order(payments: PaymentProvider) -> None:
    """The refused key stays refused; a later key of the same order succeeds; another order starts over."""
    # when
    first, again, later, other = [
        await payments.authorize(hold(order, reference="pm_decline_once", seq=seq))
        for order, seq in (("ord_1", 1), ("ord_1", 1), ("ord_1", 2), ("ord_2", 1))
    ]
    # then
    assert [code(outcome) for outcome in (first, again, other)] == ["card_declined"] * 3
    assert ok(later).amount_minor == 1000


async def test_pm_timeout_holds_the_money_and_loses_the_first_reply(
    payments: PaymentProvider, simulation: Simulation
) -> None:
    """Unknown, then found; sending the key again meets the same hold."""
    # when
    first = await payments.authorize(hold(reference="pm_timeout"))
    found = _found(await payments.look_up(hold().key))
    again = await payments.authorize(hold(reference="pm_timeout"))
    # then
    assert isinstance(first, Unknown)
    assert again == found
    assert _kinds(simulation) == ["authorization"]


@pytest.mark.parametrize("second_seq", [1, 2])
async def test_pm_lost_never_arrives_the_first_time(
    payments: PaymentProvider, simulation: Simulation, second_seq: int
) -> None:
    """Unknown, then absent; the second try works, under the same key or a new one."""
    # given
    assert isinstance(await payments.authorize(hold(reference="pm_lost")), Unknown)
    assert await payments.look_up(hold().key) == Absent()
    assert simulation.effects() == ()
    # when
    second = await payments.authorize(hold(reference="pm_lost", seq=second_seq))
    # then
    assert ok(second).amount_minor == 1000
    assert _kinds(simulation) == ["authorization"]


async def test_pm_slow_takes_a_second_and_does_not_hold_up_others(payments: PaymentProvider) -> None:
    """The event loop and the other calls go on while the slow answer is awaited."""
    # given
    started = time.monotonic()
    slow = asyncio.create_task(payments.authorize(hold(reference="pm_slow")))
    # when
    others = [await payments.authorize(hold(f"ord_{n}")) for n in range(2, 12)]
    others_took_s = time.monotonic() - started
    outcome = await slow
    # then
    assert ok(outcome).amount_minor == 1000
    assert all(ok(other) for other in others)
    assert others_took_s < 1.0 <= time.monotonic() - started


# --- The law of money -------------------------------------------------------------------------------------


async def test_captures_and_refunds_stay_within_their_caps(payments: PaymentProvider, simulation: Simulation) -> None:
    """One unit too much is refused at each cap and moves nothing; the exact rest is taken."""
    # given
    ref = ok(await payments.authorize(hold(amount=1000))).provider_ref
    # when
    outcomes = [
        await payments.refund(give_back(ref, 1, seq=1)),
        await payments.capture(take(ref, 1001, seq=1)),
        await payments.capture(take(ref, 999, seq=2)),
        await payments.capture(take(ref, 2, seq=3)),
        await payments.capture(take(ref, 1, seq=4)),
        await payments.refund(give_back(ref, 1001, seq=2)),
        await payments.refund(give_back(ref, 1000, seq=3)),
        await payments.refund(give_back(ref, 1, seq=4)),
    ]
    # then
    assert [getattr(outcome, "code", outcome.kind) for outcome in outcomes] == [
        "exceeds_captured",
        "exceeds_authorization",
        "ok",
        "exceeds_authorization",
        "ok",
        "exceeds_captured",
        "ok",
        "exceeds_captured",
    ]
    assert [effect.amount_minor for effect in simulation.effects()] == [1000, 999, 1, 1000]


async def test_a_void_lets_go_the_remainder_and_ends_capturing(payments: PaymentProvider) -> None:
    """What was captured stays; the rest is let go once; nothing can be captured afterwards."""
    # given
    ref = ok(await payments.authorize(hold(amount=1000))).provider_ref
    await payments.capture(take(ref, 300))
    # when
    voided = await payments.void(let_go(ref))
    # then
    assert ok(voided).amount_minor == 700
    assert code(await payments.void(let_go(ref, seq=2))) == "already_voided"
    assert code(await payments.capture(take(ref, 1, seq=2))) == "authorization_voided"
    assert ok(await payments.refund(give_back(ref, 300))).amount_minor == 300


async def test_a_void_after_everything_was_captured_is_refused(payments: PaymentProvider) -> None:
    """`already_captured` tells the caller to refund instead."""
    # given
    ref = ok(await payments.authorize(hold(amount=1000))).provider_ref
    await payments.capture(take(ref, 1000))
    # when / then
    assert code(await payments.void(let_go(ref))) == "already_captured"


async def test_only_the_orders_own_hold_in_its_own_currency_is_used(
    payments: PaymentProvider, simulation: Simulation
) -> None:
    """A hold that is unknown, another order's or in another currency is refused."""
    # given
    ref = ok(await payments.authorize(hold())).provider_ref
    # when / then
    assert code(await payments.capture(take("auth_nothing", 1))) == "unknown_authorization"
    assert code(await payments.capture(take(ref, 1, order="ord_2"))) == "unknown_authorization"
    assert code(await payments.capture(take(ref, 1, seq=2, currency="EUR"))) == "currency_mismatch"
    assert _kinds(simulation) == ["authorization"]


async def test_a_hold_lapses_at_the_time_that_was_told(tmp_path: Path) -> None:
    """`capture_before` is seven days ahead; the last moment before it captures, that moment does not."""
    # given
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    with Simulation(tmp_path / "clock.db", clock=lambda: now) as simulation:
        payments = SimulatedPayments(simulation)
        held = ok(await payments.authorize(hold()))
        assert held.capture_before == datetime(2026, 12, 1, 12, tzinfo=UTC)
        # when
        now = held.capture_before - timedelta(microseconds=1)
        in_time = await payments.capture(take(held.provider_ref, 1, seq=1))
        now = held.capture_before
        too_late = await payments.capture(take(held.provider_ref, 1, seq=2))
    # then
    assert ok(in_time).amount_minor == 1
    assert code(too_late) == "authorization_expired"


@pytest.mark.parametrize("seed", range(10))
async def test_any_story_keeps_the_law_of_money(payments: PaymentProvider, simulation: Simulation, seed: int) -> None:
    """Random captures, voids and refunds: refunded <= captured <= authorized after every step."""
    # given
    dice = random.Random(seed)
    ref = ok(await payments.authorize(hold(amount=1000))).provider_ref
    refused = 0
    for seq in range(40):
        # when
        amount = dice.randint(1, 400)
        act = dice.choices(("capture", "refund", "void"), (10, 10, 1))[0]
        if act == "capture":
            outcome = await payments.capture(take(ref, amount, seq))
        elif act == "refund":
            outcome = await payments.refund(give_back(ref, amount, seq))
        else:
            outcome = await payments.void(let_go(ref, seq))
        refused += isinstance(outcome, Refused)
        # then
        sums: Counter[str] = Counter()
        for effect in simulation.effects():
            sums[effect.kind] += effect.amount_minor
        assert sums["refund"] <= sums["capture"] <= sums["capture"] + sums["void"] <= sums["authorization"]
    assert len(simulation.effects()) == 1 + 40 - refused
    assert refused > 0


async def test_the_listing_pages_through_every_object_with_its_state(payments: PaymentProvider) -> None:
    """Objects come in the order they were made, each once, in the state they have now."""
    # given
    refs = [ok(await payments.authorize(hold(f"ord_{n}"))).provider_ref for n in range(1, 6)]
    await payments.capture(take(refs[0], 1000))
    await payments.capture(take(refs[1], 400, order="ord_2"))
    await payments.authorize(hold("ord_6", reference="pm_declined"))
    voids = [let_go(refs[n]).model_copy(update={"order_id": f"ord_{n + 1}", "key": f"v{n}"}) for n in (2, 4)]
    await payments.capture(take(refs[4], 1, order="ord_5"))
    for void in voids:
        await payments.void(void)
    # when
    pages = [await payments.objects(None, 4)]
    while len(pages[-1]) == 4:
        pages.append(await payments.objects(pages[-1][-1].provider_ref, 4))
    # then
    listed = [thing for page in pages for thing in page]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [(o.order_id, o.kind, o.amount_minor, o.state) for o in listed] == [
        ("ord_1", "authorization", 1000, "captured"),
        ("ord_2", "authorization", 1000, "partly_captured"),
        ("ord_3", "authorization", 1000, "voided"),
        ("ord_4", "authorization", 1000, "open"),
        ("ord_5", "authorization", 1000, "captured"),
        ("ord_1", "capture", 1000, "succeeded"),
        ("ord_2", "capture", 400, "succeeded"),
        ("ord_5", "capture", 1, "succeeded"),
        ("ord_3", "void", 1000, "succeeded"),
        ("ord_5", "void", 999, "succeeded"),
    ]
    assert len({o.key for o in listed} | {o.provider_ref for o in listed}) == 20
    with pytest.raises(UnknownCursorError, match="nothing_1"):
        await payments.objects("nothing_1", 4)
