"""What the simulated warehouses and carrier do: work is stopped or leaves, never both; a label is sold once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.carriers import (
    FoundRecall,
    LabelOk,
    RecallAgreed,
    RecallFollows,
    RecallRequest,
    RecallTooLate,
    RecallUnsupported,
    VoidLabelRequest,
)
from providers.carriers.simulated import RecallKeyReusedError, SimulatedCarriers
from providers.outcomes import Absent, Found, Ok
from providers.simulation import Simulation
from providers.warehouses import AnswerFollows, FoundStop, Stopped, StopRequest, TooLate
from providers.warehouses.simulated import SimulatedWarehouses, StopKeyReusedError, WorkStep
from tests.support.provider_requests import code, parcel, work


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    """The state file, as a test or a demo holds it."""
    with Simulation(tmp_path / "simulated.db") as simulation:
        yield simulation


@pytest.fixture
def warehouses(simulation: Simulation) -> SimulatedWarehouses:
    """Warehouses without any fault."""
    return SimulatedWarehouses(simulation)


def _stop(fulfillment: str = "ful_1", seq: int = 1) -> StopRequest:
    return StopRequest(key=f"{fulfillment}:stop:{seq}", fulfillment_id=fulfillment)


def _kinds(simulation: Simulation) -> list[str]:
    return [effect.kind for effect in simulation.effects("ord_1")]


async def test_released_work_stands_on_the_list_once(warehouses: SimulatedWarehouses) -> None:
    """The driver sees what to pick, in the order of release, page by page."""
    # given
    for fulfillment in ("ful_1", "ful_2", "ful_1"):
        assert isinstance(await warehouses.release(work(fulfillment)), Ok)
    # when
    first = await warehouses.work_list(limit=1)
    rest = await warehouses.work_list(after=first[0].position)
    # then
    assert [item.fulfillment_id for item in (*first, *rest)] == ["ful_1", "ful_2"]
    assert (first[0].release_key, first[0].order_id, first[0].node_id) == ("ful_1:1", "ord_1", "BOS")
    assert first[0].lines == work().lines
    assert (first[0].step, first[0].stop_asked) == ("released", False)


async def test_stopped_work_never_leaves(warehouses: SimulatedWarehouses, simulation: Simulation) -> None:
    """Once the node agreed to stop, handing over fails; asking again under any key changes nothing."""
    # given
    await warehouses.release(work())
    assert await warehouses.advance("ful_1:1", "picked")
    # when
    answers = [await warehouses.stop(_stop(seq=seq)) for seq in (1, 1, 2)]
    # then
    assert answers == [Stopped()] * 3
    assert not await warehouses.advance("ful_1:1", "handed_over")
    assert [item.step for item in await warehouses.work_list()] == ["stopped"]
    assert await warehouses.look_up_stop(_stop().key) == FoundStop(outcome=Stopped())
    assert await warehouses.look_up(_stop().key) == Absent()
    assert await warehouses.look_up_stop(work().key) == Absent()
    assert _kinds(simulation) == ["release", "stop"]


async def test_what_was_handed_over_cannot_be_stopped(warehouses: SimulatedWarehouses, simulation: Simulation) -> None:
    """Too late, whatever the control says, and the answer under the key stays."""
    # given
    await warehouses.release(work())
    assert await warehouses.advance("ful_1:1", "handed_over")
    simulation.set_control("warehouses.stop", "stopped")
    # when / then
    assert await warehouses.stop(_stop()) == TooLate()
    assert await warehouses.look_up_stop(_stop().key) == FoundStop(outcome=TooLate())
    assert not await warehouses.advance("ful_1:1", "stopped")
    assert _kinds(simulation) == ["release"]


async def test_stop_and_hand_over_exclude_each_other(tmp_path: Path) -> None:
    """Both at the same moment, over two connections, 60 times: exactly one of them comes about."""
    # given
    with Simulation(tmp_path / "race.db") as ours, Simulation(tmp_path / "race.db") as theirs:
        accord, node = SimulatedWarehouses(ours), SimulatedWarehouses(theirs)
        for n in range(60):
            await accord.release(work(f"ful_{n}"))
            # when
            answer, left = await asyncio.gather(
                accord.stop(_stop(f"ful_{n}")), node.advance(f"ful_{n}:1", "handed_over")
            )
            # then
            assert (answer, left) in ((Stopped(), False), (TooLate(), True))
        steps = [item.step for item in await accord.work_list()]
    assert len(steps) == 60
    assert set(steps) <= {"stopped", "handed_over"}


async def test_an_answer_that_follows_leaves_the_choice_to_the_node(
    warehouses: SimulatedWarehouses, simulation: Simulation
) -> None:
    """The work goes on, marked; the node may then still stop it."""
    # given
    await warehouses.release(work())
    simulation.set_control("warehouses.stop", "answer_follows", order_id="ord_1")
    # when
    answer = await warehouses.stop(_stop())
    # then
    assert answer == AnswerFollows()
    assert [(item.step, item.stop_asked) for item in await warehouses.work_list()] == [("released", True)]
    assert await warehouses.advance("ful_1:1", "stopped")


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        (("accepted", "picked", "packed", "handed_over"), True),
        (("packed", "packed"), True),
        (("packed", "accepted"), False),
    ],
)
async def test_work_only_moves_forward(
    warehouses: SimulatedWarehouses, steps: tuple[WorkStep, ...], last: bool
) -> None:
    """A repeated step is true again; a step back is refused; work nobody released does not exist."""
    # given
    await warehouses.release(work())
    # when
    moved = [await warehouses.advance("ful_1:1", step) for step in steps]
    # then
    assert moved == [True] * (len(steps) - 1) + [last]
    assert not await warehouses.advance("ful_9:1", steps[0])


async def test_a_release_that_arrives_after_its_stop_is_turned_away(
    warehouses: SimulatedWarehouses, simulation: Simulation
) -> None:
    """A release delayed on its way cannot start work that was stopped before it arrived."""
    # given
    assert await warehouses.stop(_stop()) == Stopped()
    # when
    late = await warehouses.release(work())
    # then
    assert code(late) == "stopped"
    assert await warehouses.work_list() == ()
    assert simulation.effects() == ()


async def test_a_stop_key_of_another_fulfillment_is_a_loud_fault(warehouses: SimulatedWarehouses) -> None:
    """A stop has no refusal, so a reused key raises, and the other fulfillment goes on."""
    # given
    await warehouses.release(work("ful_2"))
    await warehouses.stop(_stop("ful_1"))
    # when / then
    with pytest.raises(StopKeyReusedError):
        await warehouses.stop(_stop("ful_1").model_copy(update={"fulfillment_id": "ful_2"}))
    assert [item.step for item in await warehouses.work_list()] == ["released"]


async def test_a_label_is_sold_once_per_key_and_taken_back_once(simulation: Simulation) -> None:
    """Each parcel has its own tracking number; a voided label is not voided again, an unknown one never."""
    # given
    carriers = SimulatedCarriers(simulation)
    first, second = [await carriers.book(parcel(key)) for key in ("ful_1:1", "ful_1:2")]
    assert isinstance(first, LabelOk)
    assert isinstance(second, LabelOk)
    # when
    voids = [
        await carriers.void_label(VoidLabelRequest(key=key, tracking_number=number))
        for key, number in (("v1", first.tracking_number), ("v2", first.tracking_number), ("v3", "SIM0"))
    ]
    # then
    assert first.tracking_number != second.tracking_number
    assert first.label_url.endswith(f"{first.tracking_number}.pdf")
    assert isinstance(voids[0], LabelOk)
    assert [code(void) for void in voids[1:]] == ["already_voided", "unknown_label"]
    assert await carriers.look_up("ful_1:1") == Found[LabelOk](outcome=first)
    assert [(effect.kind, effect.subject) for effect in simulation.effects("ord_1")] == [
        ("label", first.tracking_number),
        ("label", second.tracking_number),
        ("label_void", first.tracking_number),
    ]


def _recall(label: LabelOk, seq: int = 1) -> RecallRequest:
    return RecallRequest(key=f"shp_1:recall:{seq}", tracking_number=label.tracking_number)


@pytest.mark.parametrize(
    ("control", "answer", "effects"),
    [
        ("agreed", RecallAgreed(), ["label", "recall"]),
        ("too_late", RecallTooLate(), ["label"]),
        ("unsupported", RecallUnsupported(), ["label"]),
        ("answer_follows", RecallFollows(), ["label"]),
    ],
)
async def test_a_recall_has_one_answer_per_key(
    simulation: Simulation, control: str, answer: object, effects: list[str]
) -> None:
    """However often it is asked, and whatever the carrier would say now; found under its key and no other."""
    # given
    carriers = SimulatedCarriers(simulation)
    label = await carriers.book(parcel())
    assert isinstance(label, LabelOk)
    simulation.set_control("carriers.recall", control, order_id="ord_1")
    assert await carriers.look_up_recall(_recall(label).key) == Absent()
    # when
    first = await carriers.recall(_recall(label))
    simulation.set_control("carriers.recall", "unsupported", order_id="ord_1")
    second = await carriers.recall(_recall(label))
    # then
    assert first == second == answer
    assert await carriers.look_up_recall(_recall(label).key) == FoundRecall(outcome=first)
    assert await carriers.look_up(_recall(label).key) == Absent()
    assert await carriers.look_up_recall(parcel().key) == Absent()
    assert _kinds(simulation) == effects


async def test_what_does_not_travel_is_not_recalled(simulation: Simulation) -> None:
    """A label that was taken back, or that nobody sold; and a key stands for one parcel."""
    carriers = SimulatedCarriers(simulation)
    label = await carriers.book(parcel())
    assert isinstance(label, LabelOk)
    await carriers.void_label(VoidLabelRequest(key="void-1", tracking_number=label.tracking_number))
    assert await carriers.recall(_recall(label)) == RecallTooLate()
    assert await carriers.recall(RecallRequest(key="other", tracking_number="SIM0")) == RecallTooLate()
    with pytest.raises(RecallKeyReusedError):
        await carriers.recall(RecallRequest(key=_recall(label).key, tracking_number="SIM0"))
