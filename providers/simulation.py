"""The state of the simulated providers: one SQLite file, which belongs to none of our departments.

A provider is another company's system, so what it did is not in our database and survives the loss of any
of our processes. Several processes may use one file at once. Development, tests and demos only.
"""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self, TypeVar

from providers.faults import DELAY_MAX_MS, ProviderKind, SimulationFaults
from providers.outcomes import Message
from providers.simulation_schema import SCHEMA, SCHEMA_VERSION

__all__ = ["Effect", "ProviderKind", "Simulation", "SimulationFaults"]

ResultT = TypeVar("ResultT")

_BUSY_TIMEOUT_S: Final = 10.0
_OPEN_PAUSE_S: Final = 0.02
_BUSY: Final = "the simulated providers' state file is busy"
_EVERY_ORDER: Final = ""
_FLAGS: Final = ("down", "decline", "lose_request", "lose_reply")
_CHOICES: Final = {
    "warehouses.stop": ("stopped", "too_late", "answer_follows"),
    "carriers.recall": ("agreed", "too_late", "unsupported", "answer_follows"),
}


class SimulationBusyError(Exception):
    """Other processes held the state file for too long; nothing was written."""


class SimulationVersionError(Exception):
    """The state file was made by another version; it has to be removed."""


class UnknownControlError(ValueError):
    """No control has this name, or it cannot have this value; the message says what is possible."""


class Effect(Message):
    """One thing that physically happened at a provider: money held, a label bought, work released."""

    effect_id: int
    provider: ProviderKind
    kind: str
    """authorization, capture, void, refund; label, label_void, recall; release, stop; notice."""
    key: str
    order_id: str
    provider_ref: str
    subject: str
    """What it was done to: an authorization, a tracking number, a fulfillment, a kind of notice."""
    amount_minor: int
    currency: str
    detail: tuple[tuple[str, str], ...]
    made_at: datetime


def utc_now() -> datetime:
    """The provider's own clock."""
    return datetime.now(UTC)


class Simulation:
    """One state file: what happened, what was answered, and the controls that tests and demos set."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self.clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = _open(path)
        # One thread: SQLite has one writer anyway, and a stalled disk must not eat the loop's thread pool.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="simulated-providers")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is under way and close the file."""
        self._thread.shutdown(wait=True)
        with self._lock:
            self._connection.close()

    def set_control(self, name: str, value: str | int, order_id: str = _EVERY_ORDER) -> None:
        """Change how a provider behaves from now on, for one order or (by default) for all.

        Names: `KIND.down`, `KIND.decline`, `KIND.lose_request`, `KIND.lose_reply` (0 or 1), `KIND.delay_ms`,
        `warehouses.stop` (stopped, too_late, answer_follows) and `carriers.recall` (agreed, too_late, unsupported,
        answer_follows). What is set for an order wins.
        Raises `UnknownControlError`.
        """
        _check_control(name, str(value))
        with self.writing() as db:
            db.execute(
                "INSERT INTO controls (order_id, name, value) VALUES (?, ?, ?)"
                " ON CONFLICT (order_id, name) DO UPDATE SET value = excluded.value",
                (order_id, name, str(value)),
            )

    def clear_control(self, name: str, order_id: str = _EVERY_ORDER) -> None:
        """Take back what `set_control` set under the same name and order, if anything."""
        with self.writing() as db:
            db.execute("DELETE FROM controls WHERE order_id = ? AND name = ?", (order_id, name))

    def controls(self, order_id: str = _EVERY_ORDER) -> dict[str, str]:
        """The controls in force for one order; without an order, those that hold for all."""
        with self.reading() as db:
            return controls_in_force(db, order_id)

    def effects(self, order_id: str | None = None) -> tuple[Effect, ...]:
        """Everything that physically happened, oldest first; of one order when it is named."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT effect_id, provider, kind, key, order_id, provider_ref, subject, amount_minor,"
                " currency, detail, made_at FROM effects WHERE ?1 IS NULL OR order_id = ?1 ORDER BY effect_id",
                (order_id,),
            ).fetchall()
        return tuple(_effect(row) for row in rows)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file for single statements that only read; never waits for writers."""
        with self._lock:
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction as the only writer; committed at the end, undone by an exception.

        Raises `SimulationBusyError` when other processes do not let go of the file.
        """
        with self._lock, _transaction(self._connection):
            yield self._connection

    async def in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        """Run `work` beside the event loop. Cancelling the caller does not undo it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def controls_in_force(db: sqlite3.Connection, order_id: str) -> dict[str, str]:
    """Name -> value, where what is set for the order hides what is set for all."""
    return dict(
        db.execute(
            "SELECT name, value FROM controls WHERE order_id IN ('', ?) ORDER BY order_id", (order_id,)
        ).fetchall()
    )


def _open(path: Path) -> sqlite3.Connection:
    """A connection with the schema in place. Raises `SimulationVersionError`."""
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _use_write_ahead_log(db)
        db.execute("PRAGMA synchronous = NORMAL")
        if _version(db, path) == 0:
            with _transaction(db):
                _create(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Readers and the writer then do not wait for each other.

    Changing the journal mode does not wait for other processes as statements do, hence the pauses.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            if time.monotonic() > deadline:
                raise SimulationBusyError(_BUSY) from error
            time.sleep(_OPEN_PAUSE_S)
        else:
            return


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, unless another process did so while this one waited for the file."""
    if _version(db, path) == 0:
        for statement in SCHEMA:
            db.execute(statement)


def _version(db: sqlite3.Connection, path: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found not in (0, SCHEMA_VERSION):
        raise SimulationVersionError(
            f"{path} has version {found} of the simulated providers' state, this program needs"
            f" {SCHEMA_VERSION}; remove the file (its orders lose their providers' memory)"
        )
    return found


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """The only writer from the first statement on; committed at the end, undone by an exception."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise SimulationBusyError(_BUSY) from error
        raise
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _is_busy(error: sqlite3.Error) -> bool:
    """Busy or locked, in any of their extended forms (the low byte is the plain code)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _check_control(name: str, value: str) -> None:
    kind, _, knob = name.partition(".")
    if kind not in set(ProviderKind):
        knob = ""
    if name in _CHOICES:
        fits, allowed = value in _CHOICES[name], ", ".join(_CHOICES[name])
    elif knob in _FLAGS:
        fits, allowed = value in ("0", "1"), "0 or 1"
    elif knob == "delay_ms":
        fits = value.isascii() and value.isdigit() and int(value) <= DELAY_MAX_MS
        allowed = f"a whole number from 0 to {DELAY_MAX_MS}"
    else:
        names = ", ".join((*_FLAGS, "delay_ms"))
        kinds = ", ".join(ProviderKind)
        raise UnknownControlError(
            f"no control `{name}`: there is KIND.NAME with the kinds {kinds} and the names {names}, and"
            f" {' and '.join(_CHOICES)}"
        )
    if not fits:
        raise UnknownControlError(f"control `{name}` cannot be `{value}`: it takes {allowed}")


def _effect(row: tuple[object, ...]) -> Effect:
    names = tuple(Effect.model_fields)
    values = dict(zip(names, row, strict=True))
    values["detail"] = json.loads(str(values["detail"]))
    return Effect.model_validate(values)
