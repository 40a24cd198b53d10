"""Golden histories must replay with today's code, and a code that cannot must be caught."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.replay.record import HISTORIES, JOURNEYS, NEWEST
from worker import runner
from workflows.catalog import WORKFLOWS
from workflows.client import DATA_CONVERTER

ROOT = Path(__file__).parents[2]


EVERY = sorted(HISTORIES.glob("flow_*/*.json"))
LANDED = {"flow_1": "87fcf0fce074c055a11f1a6f8fec2db3c4be56d4903ca625d4e587312b88ae86"}
"""SHA-256 of the histories of a flow that orders may be running by. They are never recorded anew."""


def history(path: Path) -> WorkflowHistory:
    """A golden history as it was recorded."""
    content = json.loads(path.read_text())
    return WorkflowHistory.from_json(content["id"], content["history"])


@pytest.mark.parametrize("path", EVERY, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_golden_history_replays(path: Path) -> None:
    """What ran yesterday goes on today."""
    replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=runner(sandbox=True))
    await replayer.replay_workflow(history(path))


@pytest.mark.parametrize("flow", sorted(LANDED))
def test_histories_that_have_landed_stay_as_they_were_recorded(flow: str) -> None:
    """A history that was recorded anew would prove nothing about the orders that run by the old one."""
    content = b"".join(path.read_bytes() for path in sorted((HISTORIES / flow).glob("*.json")))
    assert hashlib.sha256(content).hexdigest() == LANDED[flow]


def test_every_golden_history_was_recorded_from_a_real_server() -> None:
    """Histories without the SDK's flags replay green whatever the code does."""
    assert {path.stem for path in NEWEST.glob("*.json")} == set(JOURNEYS)
    for path in EVERY:
        text = path.read_text()
        assert "coreUsedFlags" in text
        assert "stackTrace" not in text, "a trace names the folders of the machine that recorded it"


REPLAY = """
import asyncio, sys
from tests.replay.record import NEWEST
from tests.replay.test_replay import history
from temporalio.worker import Replayer
from worker import runner
from workflows.catalog import WORKFLOWS
from workflows.client import DATA_CONVERTER
replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=runner(sandbox=True))
asyncio.run(replayer.replay_workflow(history(NEWEST / f"{sys.argv[1]}.json")))
"""
CHANGES = {
    "a step left out": ("happy", "workflows/order.py", "await self._secure_payment()", "pass"),
    "a timer added": (
        "happy",
        "workflows/order.py",
        "await self._release(part)",
        "await workflow.sleep(1)\n        await self._release(part)",
    ),
    "an activity renamed": ("happy", "activities/payments.py", 'name="payments.capture"', 'name="payments.take"'),
    "two steps swapped": (
        "happy",
        "workflows/order.py",
        "                await self._secure_payment()\n                await self._fulfill()\n",
        "                await self._fulfill()\n                await self._secure_payment()\n",
    ),
    "a case no longer opened": (
        "refused_and_retried",
        "workflows/order_base.py",
        'await self._database(RecordActivities.open_case, ask, f"Open a case for {owner}: {code}")',
        "pass",
    ),
    "an answer kept to itself": (
        "cancel_declined",
        "workflows/order_cancelling.py",
        "outcome = await self._hear_nodes(",
        "outcome = outcome or await self._hear_nodes(",
    ),
    "a gate that does not close": (
        "held",
        "domain/holds.py",
        "return any(block in h.blocks and",
        "return False and any(block in h.blocks and",
    ),
    "a hold's limit forgotten": (
        "hold_limits",
        "workflows/order_holding.py",
        "return [*super()._dues(), *limits]",
        "return super()._dues()",
    ),
    "a clock of its own": (
        "happy",
        "workflows/order_base.py",
        "self.s = OrderState.begin(order, workflow.now())",
        "self.s = OrderState.begin(order, datetime.now())",
    ),
}
EXPECTED = {"a clock of its own": "RestrictedWorkflowAccessError"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, which replays as it is."""
    folder = tmp_path_factory.mktemp("copy")
    for room in ("domain", "store", "providers", "activities", "workflows", "devstack", "cli", "api", "tests"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("worker.py", "settings.py"):
        shutil.copy(ROOT / module, folder / module)
    for name in sorted({name for name, *_ in CHANGES.values()}):
        assert _replay(folder, name).returncode == 0, "the untouched copy must replay"
    return folder


@pytest.mark.parametrize("change", list(CHANGES))
def test_an_incompatible_change_is_caught(copy: Path, change: str) -> None:
    """The changed copy cannot replay what was recorded, for the reason that was planted."""
    # given
    name, file, old, new = CHANGES[change]
    text = (copy / file).read_text()
    assert text.count(old) == 1
    # when
    (copy / file).write_text(text.replace(old, new))
    try:
        replay = _replay(copy, name)
    finally:
        (copy / file).write_text(text)
    # then
    assert replay.returncode != 0
    assert EXPECTED.get(change, "NondeterminismError") in replay.stderr


def _replay(folder: Path, name: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-B", "-c", REPLAY, name]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
