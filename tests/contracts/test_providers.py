"""What every department may rely on when it calls a provider: one key, one object, whoever dies or races.

The processes here are real and are really killed. What single providers do is in `test_simulated_*.py`.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from providers.carriers import LabelOk
from providers.catalog import ProviderChoice, Providers, UnknownAdapterError, make_providers
from providers.outcomes import Absent, Found, Message, Ok
from providers.payments import PaymentOk
from providers.simulation import Effect, Simulation, SimulationVersionError
from tests.support.provider_requests import code, give_back, hold, let_go, notice, ok, parcel, take, work

ROOT = Path(__file__).parents[2]
ALLOWED_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state file that does not exist yet."""
    return tmp_path / "outside" / "simulated.db"


@pytest.fixture
def outside(path: Path) -> Iterator[Providers]:
    """The four providers without any fault."""
    with make_providers(ProviderChoice(simulated_state=path)) as providers:
        yield providers


@pytest.fixture
def simulation(path: Path) -> Iterator[Simulation]:
    """Another connection to the same file, as a test or a demo holds it."""
    with Simulation(path) as simulation:
        yield simulation


def _kinds(simulation: Simulation, order: str | None = None) -> list[str]:
    return [effect.kind for effect in simulation.effects(order)]


# --- Keys: the same question meets the same object ------------------------------------------------------


async def test_the_same_key_is_the_same_object_at_every_provider(outside: Providers, simulation: Simulation) -> None:
    """Every request is sent twice; each answer is repeated word for word and happened once."""
    # given / when
    held = [await outside.payments.authorize(hold()) for _ in range(2)]
    ref = ok(held[0]).provider_ref
    answers: list[Sequence[Message]] = [
        held,
        [await outside.payments.capture(take(ref, 600)) for _ in range(2)],
        [await outside.payments.void(let_go(ref)) for _ in range(2)],
        [await outside.payments.refund(give_back(ref, 100)) for _ in range(2)],
        [await outside.carriers.book(parcel()) for _ in range(2)],
        [await outside.warehouses.release(work()) for _ in range(2)],
        [await outside.notifications.send(notice()) for _ in range(2)],
    ]
    # then
    assert [type(answer[0]) for answer in answers] == [PaymentOk] * 4 + [LabelOk, Ok, Ok]
    assert all(answer[0] == answer[1] for answer in answers)
    assert _kinds(simulation) == ["authorization", "capture", "void", "refund", "label", "release", "notice"]
    assert [effect.amount_minor for effect in simulation.effects()] == [1000, 600, 400, 100, 0, 0, 0]


async def test_a_key_used_for_something_else_is_refused_and_changes_nothing(
    outside: Providers, simulation: Simulation
) -> None:
    """Another amount, another order or another operation under a used key is `key_reuse`, never an effect."""
    # given
    first = ok(await outside.payments.authorize(hold(amount=1000)))
    capture = take(first.provider_ref, 100)
    refund = give_back(first.provider_ref, 100).model_copy(update={"key": capture.key})
    await outside.payments.capture(capture)
    # when
    refusals = [
        await outside.payments.authorize(hold(amount=1001)),
        await outside.payments.authorize(hold().model_copy(update={"order_id": "ord_2"})),
        await outside.payments.void(let_go(first.provider_ref).model_copy(update={"key": hold().key})),
        await outside.payments.refund(refund),
    ]
    # then
    assert [code(refusal) for refusal in refusals] == ["key_reuse"] * 4
    assert await outside.payments.authorize(hold(amount=1000)) == first
    assert await outside.payments.look_up(hold().key) == Found[PaymentOk](outcome=first)
    assert _kinds(simulation) == ["authorization", "capture"]


async def test_a_look_up_tells_what_was_answered_and_absent_otherwise(outside: Providers) -> None:
    """Found carries the very answer, refusals included; a key never sent is absent, as is another kind's."""
    # given
    label = await outside.carriers.book(parcel())
    refused = await outside.payments.authorize(hold(reference="pm_declined"))
    # when / then
    assert (await outside.carriers.look_up(parcel().key)).model_dump()["outcome"] == label.model_dump()
    assert await outside.payments.look_up(hold().key) == Found[PaymentOk].model_validate({"outcome": refused})
    assert await outside.payments.look_up(parcel().key) == Absent()
    assert await outside.warehouses.look_up("ful_9:1") == Absent()
    assert await outside.warehouses.look_up_stop("ful_9:stop") == Absent()
    assert await outside.notifications.look_up("ord_9:delayed:1") == Absent()


async def test_no_address_is_kept_in_the_state_file(outside: Providers, path: Path) -> None:
    """Names and addresses reach the provider; they stay neither in its file nor in a printed request."""
    # given / when
    await outside.warehouses.release(work())
    await outside.notifications.send(notice())
    # then
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"ful_1:1" in stored
    assert b"anary" not in stored
    assert "anary" not in repr(work()) + repr(notice())


# --- Processes: killed ones, and several at once --------------------------------------------------------

AUTHORIZE = """
import asyncio, sys
from pathlib import Path
from providers.payments import AuthorizeRequest
from providers.payments.simulated import SimulatedPayments
from providers.simulation import Simulation

async def main() -> None:
    payments = SimulatedPayments(Simulation(Path(sys.argv[1])), time_limit_s=600)
    request = AuthorizeRequest.model_validate_json(sys.argv[2])
    for outcome in await asyncio.gather(*(payments.authorize(request) for _ in range(5))):
        print(outcome.model_dump_json(), flush=True)

asyncio.run(main())
"""
CAPTURE = """
import asyncio, sys
from pathlib import Path
from providers.payments import CaptureRequest
from providers.payments.simulated import SimulatedPayments
from providers.simulation import Simulation

async def main() -> None:
    payments = SimulatedPayments(Simulation(Path(sys.argv[1])))
    requests = [CaptureRequest.model_validate_json(line) for line in sys.argv[2].splitlines()]
    for outcome in await asyncio.gather(*map(payments.capture, requests)):
        print(outcome.model_dump_json(), flush=True)

asyncio.run(main())
"""
STOP_HALF_WAY = """
import sys, time
from pathlib import Path
from providers.simulation import Simulation

with Simulation(Path(sys.argv[1])).writing() as db:
    db.execute("DELETE FROM effects")
    print("half-way", flush=True)
    time.sleep(600)
"""


def _start(program: str, path: Path, argument: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path), argument],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _first_effect(simulation: Simulation) -> Effect:
    deadline = time.monotonic() + ALLOWED_S
    while not (effects := simulation.effects()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return effects[0]


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(ALLOWED_S) == -signal.SIGKILL
    process.communicate()


def _replies(processes: list[subprocess.Popen[str]]) -> list[dict[str, object]]:
    lines = [line for process in processes for line in process.communicate(timeout=ALLOWED_S)[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(line) for line in lines]


async def test_a_process_killed_between_effect_and_reply_meets_its_object_again(
    outside: Providers, simulation: Simulation, path: Path
) -> None:
    """SIGKILL while the reply is on its way: the money is held once, and the same key finds that hold."""
    # given
    simulation.set_control("payments.delay_ms", 600_000)
    process = _start(AUTHORIZE, path, hold().model_dump_json())
    try:
        effect = _first_effect(simulation)
    finally:
        _kill(process)
    # when
    simulation.clear_control("payments.delay_ms")
    found = await outside.payments.look_up(hold().key)
    again = ok(await outside.payments.authorize(hold()))
    # then
    assert again.provider_ref == effect.provider_ref
    assert found == Found[PaymentOk](outcome=again)
    assert _kinds(simulation) == ["authorization"]


async def test_a_process_killed_inside_the_transaction_leaves_nothing(
    outside: Providers, simulation: Simulation, path: Path
) -> None:
    """A half-written change is gone with its process, and the next writer does not wait for the dead."""
    # given
    await outside.payments.authorize(hold())
    process = _start(STOP_HALF_WAY, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "half-way\n"
    # when
    _kill(process)
    started = time.monotonic()
    await outside.payments.authorize(hold("ord_2"))
    # then
    assert time.monotonic() - started < 5
    assert [effect.order_id for effect in simulation.effects()] == ["ord_1", "ord_2"]


async def test_several_processes_with_one_key_make_one_object(path: Path) -> None:
    """Four processes open a file that does not exist and send one key five times each: one hold."""
    # given / when
    answers = _replies([_start(AUTHORIZE, path, hold().model_dump_json()) for _ in range(4)])
    # then
    assert len(answers) == 20
    assert {(a["kind"], a["amount_minor"]) for a in answers} == {("ok", 1000)}
    assert len({a["provider_ref"] for a in answers}) == 1
    with Simulation(path) as simulation:
        assert _kinds(simulation) == ["authorization"]


async def test_several_processes_cannot_capture_more_than_is_held(
    outside: Providers, simulation: Simulation, path: Path
) -> None:
    """Twelve captures of 300 under different keys race for a hold of 1000: three win."""
    # given
    ref = ok(await outside.payments.authorize(hold())).provider_ref
    texts = ["\n".join(take(ref, 300, 4 * p + n).model_dump_json() for n in range(4)) for p in range(3)]
    # when
    answers = _replies([_start(CAPTURE, path, text) for text in texts])
    # then
    assert Counter(a.get("code", a["kind"]) for a in answers) == {"ok": 3, "exceeds_authorization": 9}
    assert _kinds(simulation) == ["authorization"] + ["capture"] * 3


# --- The catalog, and the file ----------------------------------------------------------------------------


def test_an_unknown_adapter_is_refused_before_anything_is_opened(path: Path) -> None:
    """The message names the kind and what exists; no state file appears."""
    # given
    choice = ProviderChoice(simulated_state=path, carriers="pigeon")
    # when / then
    with pytest.raises(UnknownAdapterError, match="no carriers adapter `pigeon`: there is simulated"):
        make_providers(choice)
    assert not path.parent.exists()


def test_a_file_of_another_version_is_refused_and_left_alone(path: Path) -> None:
    """A newer state file is not touched; the message names it and the way out."""
    # given
    with Simulation(path) as simulation, simulation.writing() as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    # when / then
    with pytest.raises(SimulationVersionError, match=r"has version 99 .* remove the file"):
        Simulation(path)
    assert path.read_bytes() == before


def test_opening_waits_for_a_process_that_is_creating_the_file(path: Path) -> None:
    """SQLite refuses to change the journal mode at once while another connection writes: we wait."""
    # given
    path.parent.mkdir()
    creator = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    creator.execute("BEGIN IMMEDIATE")
    # when
    release = threading.Timer(0.3, creator.close)
    release.start()
    with Simulation(path) as simulation:
        release.join()
        # then
        assert simulation.effects() == ()
