"""What every route works with: the process's own connections and settings, and one request's caller.

There is no other way for a route to learn who is asking than `CurrentCall`.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio.client import Client

from api.bodies import Model, fingerprint, read_json, validated
from api.cursors import Cursors
from api.deliveries import Deliveries
from api.gateway import ACCEPTANCE_LIMIT_S
from api.identity import Identity
from api.limits import Limits, RateLimiter
from api.problems import Finding, Problem, invalid, not_found
from api.routing import refuse_unknown_query
from domain.permissions import OPERATIONS, Operation, Principal, Scope, may, needed_roles, scope_of
from store.engine import transaction
from store.intake import Asked
from store.reads import OrderHead, OrderRef, read_heads
from store.vault import KeyRing

T = TypeVar("T")

# A database that does not answer is noticed within this time, and the caller told.
DATABASE_LIMIT_S = 1.9
RETRY_AFTER_S = 2
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_WAIT = re.compile(r"wait=(\d{1,3}(?:\.\d{1,3})?)")
_abandoned: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True)
class Wait:
    """How long the caller waits for the outcome, and for the order to take the message in."""

    total_s: float
    acceptance_s: float
    applied: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What is said about the preference."""
        return {"Preference-Applied": self.applied} if self.applied else {}


@dataclass(frozen=True)
class Front:
    """What the process has: made once by the composition root."""

    engine: AsyncEngine
    client: Client
    identity: Identity
    limits: Limits
    limiter: RateLimiter
    cursors: Cursors
    vault: KeyRing
    pepper: bytes
    wait_default_s: float
    wait_max_s: float
    deliveries: Deliveries
    task_queue: str = "orders"

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Read from the database. A connection that broke while idle is replaced once.

        Raises:
            Problem: `database-unavailable`.
        """

        async def attempt() -> T:
            async with self.engine.connect() as connection:
                return await work(connection)

        return await self.twice(attempt)

    async def twice(self, work: Callable[[], Awaitable[T]]) -> T:
        """Work that only reads; again when the connection turns out to be broken. Both tries share one limit.

        Raises:
            Problem: `database-unavailable`.
        """
        until = time.monotonic() + DATABASE_LIMIT_S
        try:
            return await self._within(work, DATABASE_LIMIT_S)
        except _Broken:
            pass
        try:
            return await self._within(work, until - time.monotonic())
        except _Broken as problem:
            raise database_unavailable() from problem

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run one transaction. After a failure nobody knows whether it happened: the same key finds out.

        Raises:
            Problem: `database-unavailable`.
        """
        try:
            return await self._within(lambda: transaction(self.engine, work), DATABASE_LIMIT_S)
        except _Broken as problem:
            raise database_unavailable() from problem

    async def _within(self, work: Callable[[], Awaitable[T]], limit_s: float) -> T:
        """The result within the limit. The work is left behind when even giving up would take longer."""
        if limit_s <= 0:
            raise _Broken("no time is left")
        task = asyncio.ensure_future(work())
        try:
            done, _ = await asyncio.wait({task}, timeout=limit_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
            raise _Broken("no answer in time")
        try:
            return task.result()
        except (PoolTimeout, OperationalError, InterfaceError) as problem:
            raise _Broken(type(problem).__name__) from problem
        except DBAPIError as problem:
            if problem.connection_invalidated:
                raise _Broken("connection lost") from problem
            raise


class _Broken(Exception):
    """The database did not answer."""


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that it is not reported as never retrieved


def database_unavailable() -> Problem:
    """Nothing was accepted."""
    text = "The database cannot be reached. Nothing was accepted; repeat with the same Idempotency-Key."
    return Problem("database-unavailable", text, retry_after_s=RETRY_AFTER_S)


@dataclass(frozen=True)
class Call:
    """One authenticated request."""

    request: Request
    front: Front
    principal: Principal
    operation_id: str

    @property
    def scope(self) -> Scope:
        """The rows this caller may touch with this operation."""
        return scope_of(self.principal, self.operation_id)

    async def body(self, model: type[Model], limit_bytes: int) -> tuple[Model, bytes]:
        """The body, and the fingerprint of the whole request."""
        limits = self.front.limits
        content = await read_json(self.request, limit_bytes, limits.nesting)
        path = {key: str(value) for key, value in self.request.path_params.items()}
        body = validated(model, content)
        return body, fingerprint(self.request.method, self.operation_id, path, content)

    def asked(self, request_fingerprint: bytes) -> Asked:
        """Who asked, under which Idempotency-Key.

        Raises:
            Problem: the key cannot be used.
        """
        key = self.request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise Problem("malformed-request", "Idempotency-Key has 1 to 255 printable ASCII characters.")
        return Asked(self.principal.id, self.operation_id, key, request_fingerprint)

    def wait(self) -> Wait:
        """How long to wait, by the header Prefer."""
        preferences = self.request.headers.get("prefer", "")
        if "respond-async" in preferences:
            return Wait(0, 0, "respond-async")
        found = _WAIT.search(preferences)
        if found is None:
            default = self.front.wait_default_s
            return Wait(default, min(default, ACCEPTANCE_LIMIT_S), None)
        seconds = min(float(found.group(1)), self.front.wait_max_s)
        return Wait(seconds, seconds, f"wait={seconds:g}")

    async def head(self, reference: str) -> OrderHead:
        """The order that the path names.

        Raises:
            Problem: `not-found`, also when it is not the caller's; `validation` when several have the number.
        """
        ref = order_ref(reference)
        heads = await self.front.read(lambda c: read_heads(c, self.principal, self.operation_id, ref))
        if not heads:
            raise not_found("order")
        if ref.form == "number" and len(heads) > 1:
            text = "several orders have this number: use an id, or external:CHANNEL:REFERENCE; listOrders finds them"
            raise invalid([Finding("/path/order_id", "ambiguous_number", text)])
        return heads[0]


def order_ref(text: str) -> OrderRef:
    """An order's id, `number:10042`, or `external:web-us:W-88121`."""
    form, separator, rest = text.partition(":")
    if separator and form == "number":
        return OrderRef("number", rest)
    if separator and form == "external":
        channel, _, reference = rest.partition(":")
        return OrderRef("external", reference, channel)
    return OrderRef("id", text)


async def _current_call(request: Request) -> Call:
    front: Front = request.app.state.front
    operation = OPERATIONS[request.scope["route"].operation_id]
    request.state.operation_id = operation.id
    principal = await _principal(front, request)
    request.state.principal_id = principal.id
    wait_s = front.limiter.wait_s(principal.id, time.monotonic())
    if wait_s:
        raise Problem("rate-limited", "Too many requests from this caller.", retry_after_s=wait_s)
    if not may(principal, operation.id):
        roles = [role.value for role in needed_roles(operation.id)]
        raise Problem("forbidden", "None of your roles may use this operation.", needs_role=roles)
    refuse_unknown_query(request)
    _refuse_if_match(request, operation)
    return Call(request, front, principal, operation.id)


def _refuse_if_match(request: Request, operation: Operation) -> None:
    """A condition that nobody evaluates must not look as if it had been met."""
    if operation.command and "if-match" in request.headers:
        text = "If-Match is not evaluated on commands; the order's own rules decide at the moment of the command"
        raise invalid([Finding("/header/if-match", "not_supported", text)])


async def _principal(front: Front, request: Request) -> Principal:
    header = request.headers.get("authorization")
    known = front.identity.remembered(header)
    return known if known else await front.twice(lambda: front.identity.principal_of(header))


CurrentCall = Annotated[Call, Depends(_current_call)]
