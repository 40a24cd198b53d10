"""What a story looks at: rows, histories, effects at the providers, all of them exact."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from domain.orders import PlaceOrder
from providers.simulation import Simulation
from tests.support.eventually import eventually
from workflows.messages import AcceptOutcome, OrderClosed

T = TypeVar("T")
_ATTEMPTS = 20
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Refusal:
    """What a validator said."""

    code: str
    detail: str
    alternative: str | None


@dataclass
class Order:
    """An order in a story."""

    placed: PlaceOrder
    handle: WorkflowHandle[Any, OrderClosed]
    outcome: AcceptOutcome | None = None

    @property
    def id(self) -> str:
        """Its order id."""
        return self.placed.order_id

    @property
    def tender_id(self) -> str:
        """The id of its first tender."""
        return self.placed.tenders[0].tender_id

    async def update(self, name: str, message: object, *, id: str, result_type: type[T]) -> T:  # noqa: A002 - as the SDK
        """Tell the order something and wait for the answer; again under the same id where only its task was lost."""
        for _ in range(_ATTEMPTS):
            try:
                return await self.handle.execute_update(name, message, id=id, result_type=result_type)
            except RPCError as error:
                if not task_was_lost(error):
                    raise
            await asyncio.sleep(_PAUSE_S)
        return await self.handle.execute_update(name, message, id=id, result_type=result_type)


def task_was_lost(error: RPCError) -> bool:
    """Whether the engine gave up the task that had read a message: the message is taken when it is sent again.

    The server does so where the task's completion comes too late, or is refused because something else came in.
    """
    return error.status in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.ABORTED)


@dataclass
class ShopViews:
    """Looks into database, workflow and simulated providers of a site."""

    client: Client
    engine: AsyncEngine
    simulation: Simulation

    async def sql(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Look into the database, or prepare it."""
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    async def header(self, order: Order) -> dict[str, Any]:
        """The order's row."""
        return (await self.sql("SELECT * FROM orders WHERE order_id = :o", o=order.id))[0]

    async def becomes(self, order: Order, **wanted: Any) -> dict[str, Any]:
        """Wait until the order's row says so."""

        async def so() -> dict[str, Any] | None:
            rows = await self.sql("SELECT * FROM orders WHERE order_id = :o", o=order.id)
            return rows[0] if rows and all(rows[0][k] == v for k, v in wanted.items()) else None

        return await eventually(so)

    async def events(self, order: Order) -> list[str]:
        """The types of its timeline, in order."""
        rows = await self.sql("SELECT type FROM order_events WHERE order_id = :o ORDER BY sequence", o=order.id)
        return [row["type"] for row in rows]

    async def reserved(self, name: str) -> dict[str, int]:
        """Reserved units per node."""
        rows = await self.sql("SELECT node_id, reserved FROM stock_levels WHERE sku = :s", s=self.sku(name))
        return {row["node_id"]: row["reserved"] for row in rows}

    async def on_hand(self, name: str) -> dict[str, int]:
        """Units on hand per node."""
        rows = await self.sql("SELECT node_id, on_hand FROM stock_levels WHERE sku = :s", s=self.sku(name))
        return {row["node_id"]: row["on_hand"] for row in rows}

    async def money(self, order: Order) -> dict[str, int]:
        """Authorized, captured and refunded over its tenders."""
        rows = await self.sql(
            "SELECT coalesce(sum(authorized_minor),0)::int AS authorized,"
            " coalesce(sum(captured_minor),0)::int AS captured,"
            " coalesce(sum(refunded_minor),0)::int AS refunded FROM tenders WHERE order_id = :o",
            o=order.id,
        )
        return dict(rows[0])

    async def agrees(self, order: Order) -> None:
        """Law I15: the workflow and the database tell the same story, and the timeline has no gaps."""
        closed = await order.handle.result()
        header = await self.header(order)
        assert header["state_digest"] == closed.digest
        events = await self.sql(
            "SELECT min(sequence) AS first, max(sequence) AS last, count(*) AS n FROM order_events WHERE order_id = :o",
            o=order.id,
        )
        assert events[0] == {"first": 1, "last": header["version"], "n": header["version"]}

    async def rests(self, order: Order) -> list[str]:
        """The timeline once the order has closed, after checking that everybody agrees on it."""
        await self.agrees(order)
        return await self.events(order)

    async def command(self, order: Order, command_id: str) -> dict[str, Any]:
        """A command as it was recorded."""

        async def recorded() -> dict[str, Any] | None:
            rows = await self.sql(
                "SELECT kind, state, actor, payload, outcome FROM commands WHERE order_id = :o AND command_id = :c"
                " AND state <> 'received'",
                o=order.id,
                c=command_id,
            )
            return rows[0] if rows else None

        return await eventually(recorded)

    async def commands(self, order: Order) -> list[tuple[str, str]]:
        """Kind and state of every recorded command, oldest first."""
        rows = await self.sql(
            "SELECT kind, state FROM commands WHERE order_id = :o ORDER BY settled_at, command_id", o=order.id
        )
        return [(row["kind"], row["state"]) for row in rows]

    async def cases(self, order: Order) -> list[tuple[str, str, str]]:
        """Code, owner and state of its exception cases."""
        rows = await self.sql(
            "SELECT code, owner, state FROM exceptions WHERE order_id = :o ORDER BY exception_id", o=order.id
        )
        return [(row["code"], row["owner"], row["state"]) for row in rows]

    async def notices(self, order: Order) -> list[tuple[str, str, str | None]]:
        """Kind, state and reason of its notices, oldest first."""
        rows = await self.sql(
            "SELECT n.kind, n.state, n.why FROM notices n JOIN order_events e USING (event_id)"
            " WHERE n.order_id = :o ORDER BY e.sequence, n.resend_no",
            o=order.id,
        )
        return [(row["kind"], row["state"], row["why"]) for row in rows]

    def told(self, order: Order) -> list[str]:
        """The kinds of notice that went out, as the provider knows it."""
        return [e.subject for e in self.simulation.effects(order.id) if e.provider == "notifications"]

    async def holds(self, order: Order) -> list[tuple[str, str]]:
        """Type and state of its holds, oldest first."""
        rows = await self.sql("SELECT type, state FROM holds WHERE order_id = :o ORDER BY placed_at", o=order.id)
        return [(row["type"], row["state"]) for row in rows]

    async def scans(self, order: Order) -> list[tuple[str, bool, str | None]]:
        """Type, applied and why of every carrier event that was stored."""
        rows = await self.sql(
            "SELECT type, applied, why FROM tracking_events WHERE order_id = :o ORDER BY received_at, event_id",
            o=order.id,
        )
        return [(row["type"], row["applied"], row["why"]) for row in rows]

    async def tenders(self, order: Order) -> list[tuple[str, int, int, int]]:
        """State, authorized, captured and refunded of each tender, by charge sequence."""
        rows = await self.sql(
            "SELECT state, authorized_minor AS a, captured_minor AS c, refunded_minor AS r FROM tenders"
            " WHERE order_id = :o ORDER BY sequence",
            o=order.id,
        )
        return [(row["state"], row["a"], row["c"], row["r"]) for row in rows]

    async def ledger(self, order: Order) -> dict[str, int]:
        """The balance of every account of the order that is not zero."""
        rows = await self.sql(
            "SELECT split_part(account, ':', 1) AS account, sum(amount_minor)::int AS amount FROM ledger_entries"
            " WHERE order_id = :o GROUP BY 1 HAVING sum(amount_minor) <> 0",
            o=order.id,
        )
        return {row["account"]: row["amount"] for row in rows}

    async def decisions(self, order: Order) -> int:
        """How often units were placed."""
        return (await self.sql("SELECT count(*)::int AS n FROM decisions WHERE order_id = :o", o=order.id))[0]["n"]

    def effects(self, order: Order, provider: str = "payments") -> list[tuple[str, int]]:
        """What physically happened at the providers of one kind: what, and how much money."""
        return [(e.kind, e.amount_minor) for e in self.simulation.effects(order.id) if e.provider == provider]

    async def attributes(self, order: Order) -> dict[str, Any]:
        """Its search attributes by name."""
        described = await order.handle.describe()
        return {pair.key.name: pair.value for pair in described.typed_search_attributes}

    async def shows(self, order: Order, **wanted: object) -> None:
        """Wait until its search attributes say so; they come with the task after the row was written."""

        async def seen() -> bool:
            attributes = await self.attributes(order)
            return {name: attributes.get(name) for name in wanted} == wanted

        await eventually(seen)

    async def details(self, order: Order) -> str:
        """The text that operators see in the Temporal UI."""
        described = await order.handle.query("__temporal_workflow_metadata")
        return str(described.current_details)

    async def now(self) -> datetime:
        """The database's clock."""
        return (await self.sql("SELECT clock_timestamp() AS now"))[0]["now"]  # type: ignore[no-any-return]

    def when(self, moment: str) -> datetime:
        """A moment as the workflow's queries write it."""
        return datetime.fromisoformat(moment)
