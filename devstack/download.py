"""Fetches the SDK's Temporal dev server into a folder: ``python -m devstack.download FOLDER``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from temporalio.testing import WorkflowEnvironment


async def fetch(folder: Path) -> None:
    """Download beside the final place, so that an interrupted download leaves nothing half-made."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        environment = await WorkflowEnvironment.start_local(download_dest_dir=unfinished)
        await environment.shutdown()
        _move_all(Path(unfinished), folder)
    await asyncio.sleep(0.3)  # lets the SDK's threads end before the interpreter does


def _move_all(source: Path, destination: Path) -> None:
    for program in source.iterdir():
        program.replace(destination / program.name)


if __name__ == "__main__":
    asyncio.run(fetch(Path(sys.argv[1])))
