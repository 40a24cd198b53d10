"""How the simulated providers misbehave: by seed, always alike, and by controls, while everything runs."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.carriers import LabelOk, VoidLabelRequest
from providers.catalog import ProviderChoice, Providers, make_providers
from providers.faults import FaultDice, FaultRates, InvalidFaultsError, ProviderKind, SimulationFaults
from providers.outcomes import Absent, Found, NotSent, Ok, ProviderUnavailable, Refused, Unknown
from providers.payments import PaymentOk
from providers.payments.simulated import SimulatedPayments
from providers.simulation import Simulation, UnknownControlError
from providers.warehouses import StopRequest
from tests.support.provider_requests import code, hold, notice, ok, parcel, work

PATIENCE_S = 0.3
STORMY = (
    '{"seed": 7, "unavailable_rate": 0.2, "unknown_before_effect_rate": 0.2, "unknown_after_effect_rate": 0.2,'
    ' "decline_rate": 0.2, "duplicate_rate": 0.3}'
)


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    """The state file, as a test or a demo holds it."""
    with Simulation(tmp_path / "simulated.db") as simulation:
        yield simulation


@pytest.fixture
def outside(simulation: Simulation) -> Iterator[Providers]:
    """All four providers, without seeded faults, over connections of their own."""
    choice = ProviderChoice(simulated_state=simulation.path, time_limit_s=PATIENCE_S)
    with make_providers(choice) as providers:
        yield providers


async def _story(path: Path, faults: str, orders: list[str]) -> dict[str, list[str]]:
    """Four attempts and a look-up after each, per order; what came back, per order."""
    told: dict[str, list[str]] = {}
    with Simulation(path) as simulation:
        payments = SimulatedPayments(simulation, SimulationFaults.parse(faults))
        for order in orders:
            told[order] = []
            for _ in range(4):
                try:
                    told[order].append((await payments.authorize(hold(order))).kind)
                    told[order].append((await payments.look_up(hold(order).key)).kind)
                except (NotSent, ProviderUnavailable) as error:
                    told[order].append(type(error).__name__)
        effects = Counter(effect.order_id for effect in simulation.effects())
    assert max(effects.values()) == 1
    return told


# --- By seed ----------------------------------------------------------------------------------------------


async def test_the_same_seed_tells_the_same_story_in_any_order(tmp_path: Path) -> None:
    """Every fault occurs, no key has two effects, and only the seed changes what happens to a key."""
    # given
    orders = [f"ord_{n}" for n in range(60)]
    # when
    first = await _story(tmp_path / "1.db", STORMY, orders)
    backwards = await _story(tmp_path / "2.db", STORMY, orders[::-1])
    other_seed = await _story(tmp_path / "3.db", STORMY.replace("7", "8"), orders)
    # then
    assert first == backwards
    assert sum(first[order] != other_seed[order] for order in orders) > 30
    seen = {word for words in first.values() for word in words}
    assert seen == {"ok", "refused", "unknown", "found", "absent", "NotSent", "ProviderUnavailable"}


async def test_a_story_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    """Attempts are counted in the file: a new process draws the next fate, not the first one again."""
    # given
    whole = await _story(tmp_path / "1.db", STORMY, [f"ord_{n}" for n in range(20)])
    # when
    halves: dict[str, list[str]] = {order: [] for order in whole}
    for _ in range(4):
        with Simulation(tmp_path / "2.db") as simulation:
            payments = SimulatedPayments(simulation, SimulationFaults.parse(STORMY))
            for order, told in halves.items():
                try:
                    told.append((await payments.authorize(hold(order))).kind)
                    told.append((await payments.look_up(hold(order).key)).kind)
                except (NotSent, ProviderUnavailable) as error:
                    told.append(type(error).__name__)
    # then
    assert halves == whole
    assert any(told[0] == "NotSent" and "ok" in told for told in whole.values())


def test_rates_are_met_and_independent_of_each_other() -> None:
    """Of 4,000 keys a rate of 0.2 hits a fifth, two together hit a twenty-fifth, each kind has its own luck."""
    # given
    faults = SimulationFaults.parse(STORMY.replace("}", ', "delay_ms": [5, 9]}'))
    dice, other = FaultDice(faults, ProviderKind.CARRIERS), FaultDice(faults, ProviderKind.PAYMENTS)
    # when
    fates = [dice.fate(f"key_{n}", 1) for n in range(4000)]
    # then
    assert 700 < sum(fate.declined for fate in fates) < 900
    assert 700 < sum(fate.unavailable for fate in fates) < 900
    assert 110 < sum(fate.declined and fate.unavailable for fate in fates) < 210
    assert {fate.delay_ms for fate in fates} == {5, 6, 7, 8, 9}
    assert [other.fate(f"key_{n}", 1) for n in range(4000)] != fates


@pytest.mark.parametrize("kind", list(ProviderKind))
def test_one_kind_may_differ_from_the_general_rates(kind: ProviderKind) -> None:
    """What a kind names replaces the general rate; what it leaves out stays general; others are untouched."""
    # given
    text = json.dumps({"decline_rate": 0.1, "unavailable_rate": 0.2, kind: {"decline_rate": 0}})
    # when
    faults = SimulationFaults.parse(text, seed=5)
    # then
    assert faults.seed == 5
    assert faults.rates(kind) == FaultRates(decline_rate=0.0, unavailable_rate=0.2)
    for other in set(ProviderKind) - {kind}:
        assert faults.rates(other) == FaultRates(decline_rate=0.1, unavailable_rate=0.2)


def test_no_text_means_no_faults_and_a_seed_in_the_text_wins() -> None:
    """The two settings, seed and faults, may be given apart or together."""
    assert SimulationFaults.parse("", seed=5) == SimulationFaults(seed=5)
    assert SimulationFaults.parse(" \n").rates(ProviderKind.PAYMENTS) == FaultRates()
    assert SimulationFaults.parse('{"seed": 0}', seed=5).seed == 0


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", "the text"),
        ("[]", "the text"),
        ('{"decline": 0.1}', "decline"),
        ('{"payments": {"decline": 0.1}}', "payments.decline"),
        ('{"decline_rate": 1.1}', "decline_rate"),
        ('{"decline_rate": -0.1}', "decline_rate"),
        ('{"decline_rate": NaN}', "decline_rate"),
        ('{"decline_rate": "0.1"}', "decline_rate"),
        ('{"seed": 1.5}', "seed"),
        ('{"delay_ms": [9, 5]}', "the text"),
        ('{"carriers": {"delay_ms": [-1, 5]}}', "carriers"),
        ('{"delay_ms": [5]}', "delay_ms.1"),
    ],
)
def test_unusable_faults_are_refused_by_name(text: str, where: str) -> None:
    """The message says which field is wrong and which fields exist."""
    with pytest.raises(InvalidFaultsError, match=rf"^simulated faults: {where}: .*known fields: delay_ms, "):
        SimulationFaults.parse(text)


# --- By control -------------------------------------------------------------------------------------------


async def test_down_means_not_sent_for_calls_and_unavailable_for_questions(
    outside: Providers, simulation: Simulation
) -> None:
    """Nothing reaches a provider that is down; nothing is lost when it comes back."""
    # given
    for kind in ProviderKind:
        simulation.set_control(f"{kind}.down", 1)
    # when / then
    for call in (
        lambda: outside.payments.authorize(hold()),
        lambda: outside.carriers.book(parcel()),
        lambda: outside.carriers.void_label(VoidLabelRequest(key="v", tracking_number="SIM0")),
        lambda: outside.warehouses.release(work()),
        lambda: outside.warehouses.stop(StopRequest(key="s", fulfillment_id="ful_1")),
        lambda: outside.notifications.send(notice()),
    ):
        with pytest.raises(NotSent) as not_sent:
            await call()
        assert not_sent.value.retry_after_s > 0
    for question in (
        lambda: outside.payments.look_up("k"),
        lambda: outside.payments.objects(None, 10),
        lambda: outside.carriers.look_up("k"),
        lambda: outside.warehouses.look_up("k"),
        lambda: outside.warehouses.look_up_stop("k"),
        lambda: outside.notifications.look_up("k"),
    ):
        with pytest.raises(ProviderUnavailable) as unavailable:
            await question()
        assert unavailable.value.retry_after_s > 0
    assert simulation.effects() == ()
    simulation.set_control("payments.down", 0)
    assert ok(await outside.payments.authorize(hold())).amount_minor == 1000


async def test_a_control_for_one_order_spares_the_others(outside: Providers, simulation: Simulation) -> None:
    """What is set for an order wins over what is set for all, and is taken back alone."""
    # given
    simulation.set_control("payments.down", 1, order_id="ord_1")
    simulation.set_control("carriers.decline", 1)
    simulation.set_control("carriers.decline", 0, order_id="ord_2")
    # when / then
    with pytest.raises(NotSent):
        await outside.payments.authorize(hold("ord_1"))
    assert ok(await outside.payments.authorize(hold("ord_2"))).amount_minor == 1000
    assert code(await outside.carriers.book(parcel("ful_1:1", "ord_1"))) == "no_service"
    assert isinstance(await outside.carriers.book(parcel("ful_2:1", "ord_2")), LabelOk)
    assert simulation.controls("ord_2") == {"carriers.decline": "0"}
    simulation.clear_control("payments.down", order_id="ord_1")
    assert ok(await outside.payments.authorize(hold("ord_1"))).amount_minor == 1000


async def test_a_control_for_an_order_reaches_requests_that_do_not_name_it(
    outside: Providers, simulation: Simulation
) -> None:
    """Voiding a label, stopping work and looking up a key are the order's business too."""
    # given
    label = await outside.carriers.book(parcel())
    assert isinstance(label, LabelOk)
    await outside.warehouses.release(work())
    assert code(await outside.carriers.book(parcel(order="ord_2"))) == "key_reuse"
    simulation.set_control("carriers.down", 1, order_id="ord_1")
    simulation.set_control("warehouses.down", 1, order_id="ord_1")
    # when / then
    with pytest.raises(NotSent):
        await outside.carriers.void_label(VoidLabelRequest(key="v", tracking_number=label.tracking_number))
    with pytest.raises(NotSent):
        await outside.warehouses.stop(StopRequest(key="s", fulfillment_id="ful_1"))
    with pytest.raises(ProviderUnavailable):
        await outside.carriers.look_up(parcel().key)
    assert await outside.carriers.look_up("somebody else's") == Absent()


@pytest.mark.parametrize(("control", "effects"), [("lose_request", 0), ("lose_reply", 1)])
async def test_lost_messages_are_unknown_until_the_network_heals(
    outside: Providers, simulation: Simulation, control: str, effects: int
) -> None:
    """Every attempt is unknown; the look-up tells the truth; healed, the key leads to one object."""
    # given
    simulation.set_control(f"payments.{control}", 1)
    # when
    outcomes = [await outside.payments.authorize(hold()) for _ in range(3)]
    look_up = await outside.payments.look_up(hold().key)
    lost_effects = len(simulation.effects())
    simulation.clear_control(f"payments.{control}")
    healed = ok(await outside.payments.authorize(hold()))
    # then
    assert [outcome.kind for outcome in outcomes] == ["unknown"] * 3
    assert look_up == (Found[PaymentOk](outcome=healed) if effects else Absent())
    assert (lost_effects, len(simulation.effects())) == (effects, 1)


async def test_a_reply_slower_than_the_time_limit_is_unknown(outside: Providers, simulation: Simulation) -> None:
    """The effect is there, the caller stops waiting at its limit, and questions are answered at once."""
    # given
    simulation.set_control("carriers.delay_ms", 30_000)
    started = time.monotonic()
    # when
    outcome = await outside.carriers.book(parcel())
    took_s = time.monotonic() - started
    found = await outside.carriers.look_up(parcel().key)
    # then
    assert outcome == Unknown(why="no reply within 0.3 s")
    assert PATIENCE_S <= took_s < 5
    assert isinstance(found, Found)
    assert isinstance(found.outcome, LabelOk)
    assert time.monotonic() - started < 5


async def test_a_decline_is_definite_at_every_kind(outside: Providers, simulation: Simulation) -> None:
    """Each opening call is refused with its own code, for that key for ever, and leaves no effect."""
    # given
    for kind in ProviderKind:
        simulation.set_control(f"{kind}.decline", 1)
    # when
    refusals = [
        await outside.payments.authorize(hold()),
        await outside.carriers.book(parcel()),
        await outside.warehouses.release(work()),
        await outside.notifications.send(notice()),
    ]
    for kind in ProviderKind:
        simulation.clear_control(f"{kind}.decline")
    # then
    assert [code(r) for r in refusals] == ["card_declined", "no_service", "node_closed", "address_rejected"]
    assert isinstance(await outside.payments.authorize(hold()), Refused)
    assert simulation.effects() == ()
    assert isinstance(await outside.warehouses.release(work(version=2)), Ok)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("payments", 1),
        ("payment.down", 1),
        ("payments.up", 1),
        ("payments.stop", "too_late"),
        ("payments.down", 2),
        ("payments.down", "yes"),
        ("payments.delay_ms", -1),
        ("payments.delay_ms", "1.5"),
        ("payments.delay_ms", 600_001),
        ("warehouses.stop", "maybe"),
    ],
)
def test_a_control_that_does_not_exist_is_refused_by_name(simulation: Simulation, name: str, value: str | int) -> None:
    """The message names the control; nothing is set."""
    with pytest.raises(UnknownControlError, match=f"control `{name}`"):
        simulation.set_control(name, value)
    assert simulation.controls() == {}


@pytest.mark.parametrize("kind", list(ProviderKind))
@pytest.mark.parametrize(
    ("knob", "value"),
    [("down", 1), ("decline", 0), ("lose_request", "1"), ("lose_reply", 1), ("delay_ms", 0), ("delay_ms", 600_000)],
)
def test_every_kind_has_the_same_controls(
    simulation: Simulation, kind: ProviderKind, knob: str, value: str | int
) -> None:
    """What is set is what is in force."""
    simulation.set_control(f"{kind}.{knob}", value)
    assert simulation.controls() == {f"{kind}.{knob}": str(value)}
