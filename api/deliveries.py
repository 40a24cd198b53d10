"""Which commands the engine has for good: gathered here, written once a second for all of them.

An outcome in a command's row does not prove that the order's workflow knows of it: the transaction commits
before the workflow task ends. So a command counts as delivered only when the engine said so; the sweep sends
every other one again, under its own id.
"""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from store.commands import mark_delivered
from store.engine import transaction

log = structlog.get_logger()

EVERY_S = 1.0
BATCH = 1000


class Deliveries:
    """Notes deliveries and writes them in batches. What is lost with the process is only sent once more."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._noted: list[tuple[str, str]] = []

    def note(self, order_id: str, command_id: str) -> None:
        """The engine has this command."""
        self._noted.append((order_id, command_id))

    async def flush(self) -> None:
        """Write what was noted; kept for the next time when the database does not answer."""
        batch = sorted(self._noted[:BATCH])
        if not batch:
            return
        try:
            await transaction(self._engine, lambda c: mark_delivered(c, batch))
        except (SQLAlchemyError, OSError):
            log.warning("deliveries.kept", count=len(self._noted))
            return
        del self._noted[: len(batch)]

    async def run(self) -> None:
        """Flush once a second, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush()
