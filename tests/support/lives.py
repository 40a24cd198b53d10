"""Lives of orders to which everything happens: each is placed, told what its script says, and brought to its end."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import count
from pprint import pformat
from typing import Any

from pydantic import BaseModel
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from domain.backorders import SupplyArrived
from domain.orders import CancelReason, CarrierEventType, ReportKind, Split
from store.checks import run_checks
from tests.support.fickle import ITEMS, WAITED_FOR, WARES, WORK, Script, Step, Way
from tests.support.outlet import provider_objects
from tests.support.reference import OVER, Said, differences
from tests.support.serving import serving
from tests.support.shop import Shop, later
from tests.support.shop_views import Order, task_was_lost
from tests.support.stack import Site
from worker import make_sweep
from workflows.messages import CancelOrder, CarrierEvent, LineUnits, NodeReport, PaymentEvent, ReleaseHold
from workflows.order_desk import COMMANDS

ATTEMPTS = 20
PATIENCE_S = 120.0
IN_FLIGHT = 6
LOOKS = 20
"""For supply, of an order that is to end."""
ANSWER_S = 1.0
"""How long an answer is waited for before more is said: a node may answer in the end only."""
TROUBLE = (
    CarrierEventType.LOST,
    CarrierEventType.DAMAGED,
    CarrierEventType.RETURN_TO_SENDER,
    CarrierEventType.RETURNED,
)


class Fickle:
    """One order with a mind of its own, and those who bring it to its end."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.said: list[Said] = []
        self._dice = random.Random(seed)
        self._recalls = random.Random(seed)
        self._numbers = count()
        self._waiting: list[asyncio.Task[None]] = []
        self._brought: set[int] = set()  # lines whose units have come in
        self._looks = 0  # for supply, of an order that is to end

    async def hears(self, order: Order, step: Step) -> None:
        """Say it when its moment has come; nobody waits for the answer, a node may take its time."""
        await asyncio.sleep(step.pause_s)
        unanswered = [task for task in self._waiting if not task.done()]
        if unanswered and (step.after_answers or len(unanswered) > IN_FLIGHT):
            await asyncio.wait(unanswered, timeout=ANSWER_S)
        if step.kind == WORK:
            await self._works(order)
            return
        message = COMMANDS[step.kind].model_validate(_named(step.content, await self._names(order)))
        for copy, way in enumerate(step.ways):
            self._waiting.append(asyncio.create_task(self._sends(order, step.kind, message, copy, way)))

    async def _names(self, order: Order) -> dict[str, str]:
        """What the names in a script stand for now; a name that stands for nothing is one that nobody knows."""
        parts = await self.shop.parts(order)
        holds = await self._live_holds(order)
        names = {item: self.shop.sku(item) for item in WARES} | {"tender#0": order.tender_id}
        for n in range(3):
            if parts:
                part = parts[n % len(parts)]
                names |= {f"fulfillment#{n}": part["fulfillment_id"], f"shipment#{n}": part["shipment_id"]}
            if holds:
                names[f"hold#{n}"] = holds[n % len(holds)]
        return names

    async def _live_holds(self, order: Order) -> list[str]:
        rows = await self.shop.sql("SELECT hold_id FROM holds WHERE order_id = :o AND live ORDER BY 1", o=order.id)
        return [row["hold_id"] for row in rows]

    async def _sends(self, order: Order, kind: str, message: BaseModel, copy: int, way: Way) -> None:
        if way == "update":
            await self.tell(order, kind, message, copy)
        else:
            await self._signals(order, kind, message)

    async def tell(self, order: Order, kind: str, message: BaseModel, copy: int) -> None:
        """Say it until there is an answer, as the front end and its sweep do: a task of the engine may be lost."""
        key = message.model_dump()["command_id"]
        answer: dict[str, Any] | str | None = None
        for attempt in range(ATTEMPTS):
            try:
                answer = await order.handle.execute_update(kind, message, id=f"{key}/{copy}/{attempt}")
            except WorkflowUpdateFailedError as error:
                answer = getattr(error.cause, "type", None) or str(error.cause)
            except RPCError as error:
                answer = await _over(order, error)
            if answer is not None:
                break
            await asyncio.sleep(0.5)
        self.said.append(Said(kind, key, answer))

    async def _signals(self, order: Order, kind: str, message: BaseModel) -> None:
        try:
            await order.handle.signal(kind, message)
        except RPCError as error:
            if await _over(order, error):
                return
            raise
        self.said.append(Said(kind, message.model_dump()["command_id"], None))

    # --- nodes, carriers and whoever must decide -------------------------------------------------------

    async def ends(self, order: Order, *, recalled: float = 0.0) -> None:
        """The nodes answer, pack and hand over what they have, the carriers deliver, until the order is over.

        `recalled` is how likely it is in each round that somebody wants all of it back.
        """
        while not (await self.shop.header(order))["terminal"]:
            if self._recalls.random() < recalled:
                await self._recalled(order)
            await self._works(order)
            for hold_id in await self._live_holds(order):
                await self.tell(order, "release_hold", ReleaseHold(command_id=self._id(), hold_id=hold_id), 0)
            if (await self.shop.header(order))["wait_cause"] == "payment_declined":
                method = PaymentEvent(
                    command_id=self._id(), tender_id=order.tender_id, fact="method_updated", reference="pm_ok"
                )
                await self.tell(order, "payment_event", method, 0)
            await self._supplies(order)
            await asyncio.sleep(0.05)
        await order.handle.result()
        await asyncio.gather(*self._waiting)

    async def _supplies(self, order: Order) -> None:
        """What the order waits for comes in, once per line; what no node can ship even then is given up."""
        waiting = await self.shop.sql(
            "SELECT line_no, sku, backordered FROM order_lines WHERE order_id = :o AND backordered > 0", o=order.id
        )
        if not waiting:
            return
        self._looks += 1
        for line in waiting:
            if line["line_no"] not in self._brought and line["sku"] == self.shop.sku(WAITED_FOR):
                self._brought.add(line["line_no"])
                await self.shop.receives(WAITED_FOR, self._dice.choice(["EAST", "MID", "WEST"]), line["backordered"])
        if self._looks > LOOKS:
            units = tuple(LineUnits(line["line_no"], line["backordered"]) for line in waiting)
            await self.tell(order, "cancel", CancelOrder(command_id=self._id(), lines=units), 0)
            return
        for sku in sorted({line["sku"] for line in waiting}):
            await self.tell(order, "supply_arrived", SupplyArrived(command_id=self._id(), sku=sku), 0)

    async def _recalled(self, order: Order) -> None:
        """Somebody wants all of it back, whatever has left; the carrier may be asked before its next scan, or not."""
        wish = CancelOrder(command_id=self._id(), reason=CancelReason.CHANGED_MIND, recall=True)
        self._waiting.append(asyncio.create_task(self.tell(order, "cancel", wish, 0)))
        await asyncio.sleep(self._recalls.choice([0.0, 0.1, 0.4]))

    async def _works(self, order: Order) -> None:
        for part in await self.shop.parts(order):
            await self._moves_on(order, part)

    def _id(self) -> str:
        return f"ends-{next(self._numbers)}"

    async def _moves_on(self, order: Order, part: dict[str, Any]) -> None:
        if part["state"] == "cancellation_requested":
            await self._reports(order, part, self._dice.choice([ReportKind.CANCEL_AGREED, ReportKind.CANCEL_DECLINED]))
        elif part["stage"] in ("released", "picked"):
            await self._reports(order, part, ReportKind.PACKED)
        elif part["stage"] == "packed" and part["tracking_number"]:
            await self._reports(order, part, ReportKind.HANDED_OVER)
        elif part["stage"] in ("shipped", "return_pending"):
            await self._is_scanned(order, part)

    async def _reports(self, order: Order, part: dict[str, Any], kind: ReportKind) -> None:
        key, name = self._id(), part["fulfillment_id"]
        message = NodeReport(
            command_id=key, fulfillment_id=name, kind=kind, report_id=key, occurred_at=later(seconds=0)
        )
        await self.tell(order, "node_report", message, 0)

    async def _is_scanned(self, order: Order, part: dict[str, Any]) -> None:
        back = part["stage"] == "return_pending"
        end = CarrierEventType.RETURNED if back else CarrierEventType.DELIVERED
        kind = self._dice.choice(TROUBLE) if self._dice.random() < 0.15 else end
        key, name = self._id(), part["shipment_id"]
        message = CarrierEvent(command_id=key, event_id=key, shipment_id=name, type=kind, occurred_at=later(seconds=0))
        await self.tell(order, "carrier_event", message, 0)


async def _over(order: Order, error: RPCError) -> str | None:
    """The answer of an order that is over; None while it only missed the message, or lost a task."""
    if task_was_lost(error):
        return None
    if error.status is not RPCStatusCode.NOT_FOUND:
        raise error
    described = await order.handle.describe()
    return None if described.status is WorkflowExecutionStatus.RUNNING else OVER


def _named(content: Any, names: dict[str, str]) -> Any:
    if isinstance(content, dict):
        return {key: _named(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_named(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


# --- many of them ------------------------------------------------------------------------------------------


@dataclass
class Life:
    """An order on its way, and where more is said to it."""

    script: Script
    steps: "asyncio.Queue[Step | None]"
    lived: "Future[list[str]]"


@dataclass
class Lives:
    """Orders that live on one site at the same time, and what is known of them. Used from another thread.

    Attributes:
        title: of the orders that are living now.
        said: how many commands of each kind were fired, what the orders' ends needed not counted.
        became: how many of these were applied, refused, or came when the order was over.
        watch: is called whenever orders have ended, with what went wrong with them.
    """

    shop: Shop
    loop: asyncio.AbstractEventLoop
    title: str = ""
    orders: int = 0
    problems: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    became: Counter[str] = field(default_factory=Counter)
    watch: Callable[["Lives", list[str]], None] = lambda lives, found: None
    _scripts: dict[str, Script] = field(default_factory=dict)

    def begins(self, script: Script) -> Life:
        """Place an order, and say what the script has for it already."""
        script = replace(script, steps=list(script.steps))
        steps: asyncio.Queue[Step | None] = asyncio.Queue()
        for step in script.steps:
            steps.put_nowait(step)
        return Life(script, steps, asyncio.run_coroutine_threadsafe(self._lives(script, steps), self.loop))

    def says(self, life: Life, step: Step) -> None:
        """Say it to the order after what was said before; the script keeps it."""
        life.script.steps.append(step)
        self.loop.call_soon_threadsafe(life.steps.put_nowait, step)

    def end(self, lives: list[Life]) -> None:
        """Nothing more is said: wait for the ends, and keep what went wrong. Every law must hold now."""
        for life in lives:
            self.loop.call_soon_threadsafe(life.steps.put_nowait, None)
        found = [text for life in lives for text in life.lived.result()]
        found += asyncio.run_coroutine_threadsafe(self._laws(), self.loop).result()
        found = [f"{self.title}: {text}" for text in found]
        self.orders += len(lives)
        self.problems += found
        self.watch(self, found)

    async def _lives(self, script: Script, steps: "asyncio.Queue[Step | None]") -> list[str]:
        fickle = Fickle(self.shop, script.seed)
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._life(fickle, script, steps)
        except Exception as error:
            found = [f"{type(error).__name__} {error}"]
        shown = pformat(script, width=160)
        return ["\n".join([*found, shown, f"answers: {fickle.said}"])] if found else []

    async def _life(self, fickle: Fickle, script: Script, steps: "asyncio.Queue[Step | None]") -> list[str]:
        placed = self.shop.order(*script.lines, pay=script.pay, split=Split(script.split))
        self._scripts[placed.order_id] = script
        self.shop.control(placed, "warehouses.stop", script.stop)
        self.shop.control(placed, "carriers.recall", script.recall)
        order = await self.shop.submit(placed)
        while step := await steps.get():
            await fickle.hears(order, step)
        await fickle.ends(order, recalled=0.2)
        await self.shop.agrees(order)
        await self._counts(order, fickle)
        return await differences(self.shop, order, fickle.said)

    async def _counts(self, order: Order, fickle: Fickle) -> None:
        rows = await self.shop.sql("SELECT command_id, state FROM commands WHERE order_id = :o", o=order.id)
        states = {row["command_id"]: row["state"] for row in rows}
        for said in fickle.said:
            if said.command_id.startswith("ends-"):
                continue
            self.said[said.kind] += 1
            if said.answer == OVER:
                self.became["order was over"] += 1
            else:
                applied = isinstance(said.answer, dict) or (
                    said.answer is None and states[said.command_id] == "applied"
                )
                self.became["applied" if applied else "refused"] += 1

    async def _laws(self) -> list[str]:
        await self.shop.outbox_runs()
        await make_sweep(self.shop.engine, self.shop.client, idempotency_days=30)()  # what came after an end
        checked = await run_checks(self.shop.engine, lambda: provider_objects(self.shop.simulation))
        return [f"{v.law} {v.name}: {v.keys}, {self._told(v.keys)}" for v in checked.verdicts if v.count]

    def _told(self, keys: tuple[str, ...]) -> list[Script]:
        return [script for order_id, script in self._scripts.items() if any(order_id in key for key in keys)]


@contextlib.contextmanager
def lives_on(new_site: Callable[[], Awaitable[Site]], orders: int) -> Iterator[Lives]:
    """A site, a worker and a shop with stock for so many orders, in a thread with an event loop of its own."""
    ready: Future[tuple[Lives, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serves(new_site, orders, ready)))
    thread.start()
    lives, done = ready.result()
    try:
        yield lives
    finally:
        lives.loop.call_soon_threadsafe(done.set)
        thread.join()


async def _serves(
    new_site: Callable[[], Awaitable[Site]], orders: int, ready: "Future[tuple[Lives, asyncio.Event]]"
) -> None:
    try:
        async with serving(await new_site(), cache=2000) as make:
            shop = await make().opens(payment_window_s=600)
            for number, item in enumerate(ITEMS):
                await shop.stocks(item, EAST=orders, MID=orders * 2, WEST=orders * (1 + number))
            await shop.lets_wait(WAITED_FOR)
            # A node that says nothing is left, or asked.
            await shop.ruleset("node_silence", {"nodes": {"EAST": {"accept_s": 1, "pack_s": 1}}})
            done = asyncio.Event()
            ready.set_result((Lives(shop, asyncio.get_running_loop()), done))
            await done.wait()
    except BaseException as error:
        if not ready.done():
            ready.set_exception(error)
        raise
