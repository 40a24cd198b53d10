"""Runs workflows and activities: the composition root of the worker."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from pathlib import Path

import structlog
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.amendments import AmendmentActivities
from activities.closing import ClosingActivities
from activities.contract import Checkpoint, no_checkpoint
from activities.leaving import LeavingActivities
from activities.notifications import WATCH_S, NotificationActivities
from activities.parcels import ParcelActivities
from activities.payments import PaymentActivities
from activities.recalls import RecallActivities
from activities.records import DirectCommands, RecordActivities
from activities.shipments import ShipmentActivities
from activities.stock import StockActivities
from activities.supply import SupplyActivities
from activities.write_offs import WriteOffActivities
from domain.orders import PlaceOrder
from providers.catalog import ProviderChoice, Providers, make_providers
from providers.faults import SimulationFaults
from providers.notifications.smtp import SmtpAccount, TlsMode
from settings import Settings, configure_logging
from store.cases import escalate_due, resume_parked
from store.commands import DueCommand, due_commands, forget_addresses, mark_delivered
from store.control import settle_after_end
from store.engine import make_engine, transaction
from store.intake import due_orders, forget_keys
from store.nodes import recall_frozen
from store.vault import KeyRing
from workflows.catalog import PASSTHROUGH, WORKFLOWS
from workflows.client import connect
from workflows.messages import leave_payload
from workflows.starting import TASK_QUEUE, order_workflow_id, start_unanswered

log = structlog.get_logger()

SWEEP_BATCH = 200
SWEEP_EVERY_S = 30
NOTICES_EVERY_S = 60
ESCALATE_BATCH = 500
SWEEP_CALL_LIMIT = timedelta(seconds=5)
SWEEP_LIMIT_S = 45
"""Below the time limit of the activity (60 s); what is left is due again half a minute after it was read."""
OTHERS_MARGIN_S = 5
EXIT_PAUSE_S = 0.3
"""SDK 1.35.0 aborts now and then when a process ends right after a worker's shutdown; this pause prevents it."""

Sweep = Callable[[], Awaitable[tuple[int, int]]]


@dataclass(frozen=True)
class Outbox:
    """How notices are sent: templates of one's own, and how long one run of the job looks after the outbox."""

    templates: Path | None = None
    watch_s: float = WATCH_S


USUAL_OUTBOX = Outbox()


def make_activities(
    engine: AsyncEngine,
    providers: Providers,
    vault_keys: KeyRing,
    direct_commands: DirectCommands,
    sweep: Sweep | None = None,
    checkpoint: Checkpoint = no_checkpoint,
    outbox: Outbox = USUAL_OUTBOX,
) -> list[Callable[..., object]]:
    """Every activity, bound to the database and the providers."""
    stock = StockActivities(engine, direct_orders=direct_commands == "allow", checkpoint=checkpoint)
    arrivals = SupplyActivities(engine, checkpoint)
    payments = PaymentActivities(engine, providers.payments, checkpoint)
    shipments = ShipmentActivities(engine, providers.warehouses, providers.carriers, vault_keys, checkpoint)
    parcels = ParcelActivities(engine, checkpoint)
    bringing = RecallActivities(engine, providers.carriers, checkpoint)
    changes = AmendmentActivities(engine, checkpoint)
    leaving = LeavingActivities(engine, checkpoint)
    closing = ClosingActivities(engine, checkpoint)
    finance = WriteOffActivities(engine, checkpoint)
    records = RecordActivities(engine, direct_commands, sweep, checkpoint)
    notifications = NotificationActivities(
        engine, providers.notifications, vault_keys, outbox.templates, checkpoint, outbox.watch_s
    )
    return [
        stock.reserve,
        stock.allocate,
        stock.expire,
        stock.cancel,
        arrivals.fill,
        payments.authorize,
        payments.capture,
        payments.void,
        payments.refund,
        shipments.release,
        shipments.report,
        shipments.short,
        shipments.book,
        shipments.hand_over,
        shipments.scan,
        shipments.stop,
        shipments.stop_declined,
        shipments.void_label,
        parcels.make_good,
        bringing.ask,
        bringing.decline,
        changes.preview,
        changes.begin,
        changes.take_back,
        changes.apply,
        changes.decline,
        leaving.look,
        leaving.recall,
        leaving.settle,
        closing.begin,
        closing.end,
        finance.write_off,
        records.open_command,
        records.hear,
        records.settle_command,
        records.open_case,
        records.place_hold,
        records.end_hold,
        records.sweep,
        notifications.deliver,
    ]


def make_worker(
    client: Client,
    activities: list[Callable[..., object]],
    *,
    sandbox: bool,
    workflow_slots: int = 16,
    activity_slots: int = 10,
    cache: int = 10_000,
    grace_s: float = 30,
    task_queue: str = TASK_QUEUE,
) -> Worker:
    """A worker for orders and chores."""
    return Worker(
        client,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=activities,
        workflow_runner=runner(sandbox=sandbox),
        max_cached_workflows=cache,
        max_concurrent_workflow_tasks=workflow_slots,
        max_concurrent_activities=activity_slots * 2,
        max_concurrent_local_activities=activity_slots,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=5, maximum=20, initial=10),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=20, initial=2),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=5),
        graceful_shutdown_timeout=timedelta(seconds=grace_s),
    )


def runner(*, sandbox: bool) -> WorkflowRunner:
    """Sandboxed in development and tests; unsandboxed where a setting says so, for throughput."""
    if not sandbox:
        return UnsandboxedWorkflowRunner()
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)


async def run(
    settings: Settings,
    checkpoint: Checkpoint = no_checkpoint,
    others: Sequence[int] = (),
    tell_others: Callable[[], None] = lambda: None,
) -> bool:
    """Poll until SIGTERM or SIGINT, or until another worker process is gone; then drain.

    Args:
        settings: settings of the installation.
        checkpoint: told of every stage of every activity; tests kill the process there.
        others: sentinels of the processes whose end ends this one too.
        tell_others: called at once when it is time to stop, before this process drains.

    Returns:
        True when another process was gone first.
    """
    configure_logging(settings.log_format, settings.log_level)
    engine = make_engine(
        settings.dsn, settings.db_pool_size, settings.db_statement_timeout_ms, settings.db_lock_timeout_ms
    )
    client = await connect()
    choice = ProviderChoice(
        payments=settings.payment,
        carriers=settings.carrier,
        warehouses=settings.warehouse,
        notifications=settings.notify,
        simulated_state=settings.simulated_state,
        faults=SimulationFaults.parse(settings.simulated_faults, seed=settings.simulated_seed),
        smtp=smtp_account(settings),
    )
    with make_providers(choice) as providers:
        activities = make_activities(
            engine,
            providers,
            settings.vault_key_ring,
            settings.direct_commands.value,
            make_sweep(engine, client, settings.idempotency_days),
            checkpoint,
            Outbox(settings.notice_templates),
        )
        worker = make_worker(
            client,
            activities,
            sandbox=settings.worker_sandbox,
            workflow_slots=settings.worker_workflow_slots,
            activity_slots=settings.worker_activity_slots,
            cache=settings.worker_cache,
            grace_s=settings.worker_grace_s,
        )
        await ensure_schedule(client, "sweep", SWEEP_EVERY_S)
        await ensure_schedule(client, "notices", NOTICES_EVERY_S)
        lost = await _poll_until_told(worker, others, tell_others)
    await engine.dispose()
    return lost


async def _poll_until_told(worker: Worker, others: Sequence[int], tell_others: Callable[[], None]) -> bool:
    stop = asyncio.Event()
    lost: list[int] = []
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not stop.is_set():
            stop.set()
            tell_others()

    def miss(sentinel: int) -> None:
        loop.remove_reader(sentinel)  # it stays readable for ever
        if not stop.is_set():
            lost.append(sentinel)
            log.error("worker.process_lost")
        end()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    for sentinel in others:
        loop.add_reader(sentinel, miss, sentinel)
    async with worker:
        log.info("worker.polling", task_queue=TASK_QUEUE)
        await stop.wait()
        log.info("worker.draining")
    return bool(lost)


def make_sweep(engine: AsyncEngine, client: Client, idempotency_days: int) -> Sweep:
    """What the schedule runs: start lost orders, recall work from frozen nodes, send lost commands, pass cases on.

    What does not succeed is due again in 30 seconds, so one failure keeps nobody else waiting. At the end
    idempotency records beyond their time are forgotten, a bounded number each time.
    """

    async def sweep() -> tuple[int, int]:
        until = time.monotonic() + SWEEP_LIMIT_S
        started = 0
        for place in await transaction(engine, lambda c: due_orders(c, SWEEP_BATCH)):
            started += time.monotonic() < until and await _start_again(client, place)
        await transaction(engine, lambda c: recall_frozen(c, leave_payload, SWEEP_BATCH))
        sent = 0
        for command in await transaction(engine, lambda c: due_commands(c, SWEEP_BATCH)):
            sent += time.monotonic() < until and await _send_again(engine, client, command)
        await _escalate(engine)
        await transaction(engine, forget_addresses)
        await transaction(engine, lambda c: forget_keys(c, idempotency_days))
        return started, sent

    return sweep


async def _escalate(engine: AsyncEngine) -> None:
    """Give parked cases back at their date, and pass on those that nobody answered in time, each once."""
    resumed = await transaction(engine, lambda c: resume_parked(c, ESCALATE_BATCH))
    if resumed:
        log.info("sweep.cases_resumed", count=resumed)
    escalated = await transaction(engine, lambda c: escalate_due(c, ESCALATE_BATCH))
    if escalated:
        log.warning("sweep.cases_escalated", count=escalated)


async def _start_again(client: Client, place: PlaceOrder) -> bool:
    """Start an order that has no answer yet. False: it runs already, or cannot be started now."""
    try:
        return await start_unanswered(client, place, rpc_timeout=SWEEP_CALL_LIMIT)
    except RPCError as error:
        log.warning("sweep.order_not_started", order_id=place.order_id, code=error.status.name)
        return False


async def _send_again(engine: AsyncEngine, client: Client, command: DueCommand) -> bool:
    """Signal a stored command under its own id; the order answers it once, however often it comes."""
    handle = client.get_workflow_handle(order_workflow_id(command.order_id))
    try:
        await handle.signal(command.kind, command.payload, rpc_timeout=SWEEP_CALL_LIMIT)
    except RPCError as error:
        nobody = error.status is RPCStatusCode.NOT_FOUND
        over = nobody and await transaction(engine, lambda c: settle_after_end(c, command))
        log.warning(
            "sweep.command_not_sent",
            order_id=command.order_id,
            command=command.kind,
            code=error.status.name,
            order_over=over,
        )
        return False
    await transaction(engine, lambda c: mark_delivered(c, [(command.order_id, command.command_id)]))
    return True


async def ensure_schedule(client: Client, job: str, every_s: int) -> None:
    """The schedule that runs a chore, from now on. Idempotent; several workers may try at once."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow("Chore", job, id=f"chore-{job}", task_queue=TASK_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=every_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(f"accord-{job}", schedule, trigger_immediately=True)
    except ScheduleAlreadyRunningError:
        log.debug("chore.scheduled", job=job)


def smtp_account(settings: Settings) -> SmtpAccount | None:
    """Where mail is handed in; None where it is not sent."""
    if settings.smtp_host is None or settings.smtp_sender is None:
        return None
    return SmtpAccount(
        host=settings.smtp_host,
        sender=settings.smtp_sender,
        sender_name=settings.smtp_sender_name,
        port=settings.smtp_port,
        tls=TlsMode(settings.smtp_tls),
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        authorities=str(settings.smtp_authorities) if settings.smtp_authorities else None,
    )


def main(settings: Settings) -> None:
    """Run `worker_processes` workers; the first one is this process. When one of them is gone, all of them end.

    Raises:
        SystemExit: with 1, because another process was gone first: whoever watches this one starts all of them anew.
    """
    others = _Others(settings)
    try:
        lost = uvloop.run(run(settings, others=others.sentinels, tell_others=others.tell))
    finally:
        others.tell()
        others.join(settings.worker_grace_s + OTHERS_MARGIN_S)
        time.sleep(EXIT_PAUSE_S)
    if lost:
        sys.exit(1)


class _Others:
    """The further worker processes, started at once. A client of Temporal does not survive a fork: they are spawned."""

    def __init__(self, settings: Settings) -> None:
        spawn = get_context("spawn")
        self._processes = [
            spawn.Process(target=_further, args=(settings,), daemon=False) for _ in range(settings.worker_processes - 1)
        ]
        self._told_at: float | None = None
        for process in self._processes:
            process.start()

    @property
    def sentinels(self) -> tuple[int, ...]:
        """What becomes readable when a process is gone, one for each."""
        return tuple(process.sentinel for process in self._processes)

    def tell(self) -> None:
        """Ask all of them to drain; once is enough."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            for process in self._processes:
                process.terminate()

    def join(self, limit_s: float) -> None:
        """Wait until they are gone; `limit_s` after they were told whoever is left is killed."""
        until = (self._told_at or time.monotonic()) + limit_s
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                log.error("worker.process_killed", pid=process.pid)
                process.kill()


def _further(settings: Settings) -> None:
    """A further worker process. It also ends when the first one is gone, however that one ended."""
    first = parent_process()
    uvloop.run(run(settings, others=(first.sentinel,) if first else ()))
    time.sleep(EXIT_PAUSE_S)
