"""Golden histories must replay with today's code, and a code that cannot must be caught."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from tests.replay.record import HISTORIES, JOURNEYS
from worker import runner
from workflows.catalog import WORKFLOWS
from workflows.client import DATA_CONVERTER

ROOT = Path(__file__).parents[2]


def history(name: str) -> WorkflowHistory:
    """A golden history as it was recorded."""
    content = json.loads((HISTORIES / f"{name}.json").read_text())
    return WorkflowHistory.from_json(content["id"], content["history"])


@pytest.mark.parametrize("name", sorted(JOURNEYS))
async def test_golden_history_replays(name: str) -> None:
    """What ran yesterday goes on today."""
    replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=runner(sandbox=True))
    await replayer.replay_workflow(history(name))


def test_every_golden_history_was_recorded_from_a_real_server() -> None:
    """Histories without the SDK's flags replay green whatever the code does."""
    names = {path.stem for path in HISTORIES.glob("*.json")}
    assert names == set(JOURNEYS)
    for path in HISTORIES.glob("*.json"):
        assert "coreUsedFlags" in path.read_text()


REPLAY = """
import asyncio
from tests.replay.test_replay import history
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from workflows.catalog import WORKFLOWS
from workflows.client import DATA_CONVERTER
replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=UnsandboxedWorkflowRunner())
asyncio.run(replayer.replay_workflow(history("happy")))
"""


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflows/order.py", "await self._secure_payment()", "pass"),
        (
            "workflows/order.py",
            "await self._release(part)",
            "await workflow.sleep(1)\n        await self._release(part)",
        ),
        ("activities/payments.py", 'name="payments.capture"', 'name="payments.take"'),
    ],
)
def test_an_incompatible_change_is_caught(tmp_path: Path, file: str, old: str, new: str) -> None:
    """A copy of the code with a step left out, a timer added or an activity renamed cannot replay."""
    # given
    rooms = ("domain", "store", "providers", "activities", "workflows", "devstack", "cli", "api", "tests")
    for room in rooms:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("worker.py", "settings.py"):
        shutil.copy(ROOT / module, tmp_path / module)
    assert _replay(tmp_path) == 0, "the untouched copy must replay"
    # when
    text = (tmp_path / file).read_text()
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new))
    # then
    assert _replay(tmp_path) != 0


def _replay(folder: Path) -> int:
    return subprocess.run([sys.executable, "-B", "-c", REPLAY], cwd=folder, check=False, capture_output=True).returncode
