"""Are the conservation laws kept? Reads the database, the payment provider and a sample of the workflows."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from providers.catalog import ProviderChoice, make_providers
from providers.payments import PaymentProvider
from settings import Settings, load_temporal
from store.checks import Listing, ProviderObject, Verdict, run_checks, sample_digests
from store.engine import make_engine
from workflows.messages import OrderClosed
from workflows.starting import order_workflow_id

SAMPLE = 50
_PAGE = 1000
_QUERY_LIMIT = timedelta(seconds=5)
_TRIES = 6
_PAUSE_S = 0.5
_AT_ONCE = 8


class Compared(BaseModel):
    """How the sampled workflows agree with their rows. `skipped` says why none was asked."""

    model_config = ConfigDict(frozen=True)

    agreed: int = 0
    unanswered: int = 0
    skipped: str | None = None
    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()


class CheckReport(BaseModel):
    """The result of `accord check`."""

    model_config = ConfigDict(frozen=True)

    orders: int
    open_orders: int
    provider_objects: int | None
    violations: int
    checks: tuple[dict[str, Any], ...]
    workflows: Compared


async def check_everything(
    settings: Settings, sample: int = SAMPLE, order_ids: Sequence[str] | None = None
) -> CheckReport:
    """Run all laws on one snapshot, then compare workflows with their rows: a sample, or exactly those named."""
    engine = make_engine(settings.dsn, pool_size=2)
    try:
        checked = await run_checks(engine, _listing_of(settings))
        compared = await _compare(settings, sample, order_ids)
    finally:
        await engine.dispose()
    verdicts = [*checked.verdicts, *_workflow_verdicts(compared)]
    return CheckReport(
        orders=checked.orders,
        open_orders=checked.open_orders,
        provider_objects=checked.provider_objects,
        violations=sum(verdict.count for verdict in verdicts),
        checks=tuple(asdict(verdict) for verdict in verdicts),
        workflows=compared,
    )


def check_table(report: CheckReport) -> Table:
    """The laws with what was found, for people."""
    table = Table(box=None, pad_edge=False)
    for name in ("Law", "Check", "Found", "Says", "Keys"):
        table.add_column(name, justify="right" if name == "Found" else "left", overflow="fold")
    for found in report.checks:
        style = "bold red" if found["count"] else None
        keys = ", ".join(found["keys"][:5])
        table.add_row(found["law"], found["name"], str(found["count"]), found["says"], keys, style=style)
    return table


def summary(report: CheckReport) -> str:
    """One line that says it all."""
    provider = (
        "payment provider not listed" if report.provider_objects is None else f"{report.provider_objects} objects"
    )
    compared = report.workflows
    asked = compared.skipped or f"{compared.agreed} workflows agree" + (
        f", {compared.unanswered} did not answer" if compared.unanswered else ""
    )
    verdict = "every law holds" if not report.violations else f"{report.violations} VIOLATIONS"
    return f" {verdict}: {report.orders} orders ({report.open_orders} open), {provider}, {asked}"


def _listing_of(settings: Settings) -> Listing:
    """How to list everything that the payment provider holds."""

    async def listing() -> Sequence[ProviderObject]:
        if settings.payment == "simulated" and not settings.simulated_state.exists():
            return ()  # never used; looking must not create it
        providers = make_providers(ProviderChoice(payments=settings.payment, simulated_state=settings.simulated_state))
        try:
            return await list_objects(providers.payments)
        finally:
            providers.close()

    return listing


async def list_objects(payments: PaymentProvider) -> list[ProviderObject]:
    """All objects of a payment provider, page by page."""
    found: list[ProviderObject] = []
    after = None
    while page := await payments.objects(after, _PAGE):
        found += [
            ProviderObject(
                item.key, item.order_id, item.kind, item.provider_ref, item.amount_minor, item.currency, item.state
            )
            for item in page
        ]
        after = page[-1].provider_ref
    return found


# --- workflows ----------------------------------------------------------------------------------------


async def _compare(settings: Settings, sample: int, order_ids: Sequence[str] | None) -> Compared:
    if not sample:
        return Compared(skipped="workflows not asked")
    try:
        client = await asyncio.wait_for(
            Client.connect(**load_temporal(settings), data_converter=pydantic_data_converter), timeout=10
        )
    except (RuntimeError, TimeoutError):
        return Compared(skipped="Temporal does not answer, workflows not compared")
    return await compare_workflows(settings, client, sample, order_ids)


async def compare_workflows(
    settings: Settings, client: Client, sample: int, order_ids: Sequence[str] | None = None
) -> Compared:
    """Ask a sample of workflows, open ones first, or those named, for their digest; compare it with the row's.

    A workflow may be a step ahead of the row that was read: a difference counts only when it stays.
    """
    engine = make_engine(settings.dsn, pool_size=2)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(order_id: str) -> tuple[str, str]:
        async with gate:
            state = "different"
            for _ in range(_TRIES):
                rows = await sample_digests(engine, 1, order_ids=[order_id])
                state = await _state_of(client, *rows[0])
                if state in ("agreed", "unanswered"):
                    break
                await asyncio.sleep(_PAUSE_S)
            return order_id, state

    try:
        orders = [order_id for order_id, _, _ in await sample_digests(engine, sample, order_ids=order_ids)]
        states = await asyncio.gather(*(one(order_id) for order_id in orders))
    finally:
        await engine.dispose()

    def having(wanted: str) -> tuple[str, ...]:
        return tuple(order_id for order_id, state in states if state == wanted)

    return Compared(
        agreed=len(having("agreed")),
        unanswered=len(having("unanswered")),
        missing=having("missing"),
        different=having("different"),
    )


async def _state_of(client: Client, order_id: str, terminal: bool, digest: str) -> str:
    """`agreed`, `different`, `missing` (an open order without a running workflow) or `unanswered`."""
    handle = client.get_workflow_handle(order_workflow_id(order_id), result_type=OrderClosed)
    try:
        status = (await handle.describe(rpc_timeout=_QUERY_LIMIT)).status
        if status is WorkflowExecutionStatus.RUNNING:
            said = str(await handle.query("digest", rpc_timeout=_QUERY_LIMIT))
        elif status is WorkflowExecutionStatus.COMPLETED:
            said = (await handle.result(rpc_timeout=_QUERY_LIMIT)).digest
        else:
            return "missing"
    except WorkflowFailureError:
        return "missing"
    except WorkflowQueryFailedError:
        return "unanswered"
    except RPCError as problem:
        if problem.status is not RPCStatusCode.NOT_FOUND:
            return "unanswered"  # no worker polls, or the server is busy
        return "agreed" if terminal else "missing"  # a closed workflow may be beyond its retention
    return "agreed" if said == digest else "different"


def _workflow_verdicts(compared: Compared) -> list[Verdict]:
    missing = Verdict(
        "I9",
        "workflow_missing",
        "ops",
        "every open order of the sample has a live workflow",
        len(compared.missing),
        compared.missing,
    )
    different = Verdict(
        "I15",
        "workflow_is_not_its_row",
        "ops",
        "the workflows of the sample agree with their rows",
        len(compared.different),
        compared.different,
    )
    return [missing, different]
