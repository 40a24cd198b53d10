"""What follows when a parcel does not arrive: its units are credited or sent again. Owned by fulfillment."""

from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Stage, no_checkpoint
from domain.cases import CARRIER_CLAIM
from domain.lifecycle import FulfillmentState, Team
from domain.order_state import AddedLine, Credit
from domain.orders import SYSTEM, Actor, Frozen, ParcelTrouble, Remedy
from domain.quantities import Bucket
from store import control, crediting, fulfillment
from store.lines import add_lines, move_fulfillment
from store.orders import OrderChange, change_order


class MakeGoodAsk(Frozen):
    """The units of a parcel go to `target`; they are credited, or `added` lines are sent instead.

    `claim_s`: until when the carrier's claim should be made, in seconds; None where there is none to make.
    """

    order_id: str
    fulfillment_id: str
    shipment_id: str
    trouble: ParcelTrouble
    remedy: Remedy
    target: Bucket
    units: int
    added: tuple[AddedLine, ...] = ()
    credit: Credit | None = None
    promise_state: str | None = None  # once nothing is left to deliver
    claim_s: int | None = None
    actor: Actor = SYSTEM


class MadeGood(Frozen):
    """Written."""

    version: int


class ParcelActivities:
    """One transaction each, on our own database: all of them run as local activities."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="parcels.make_good")
    async def make_good(self, ask: MakeGoodAsk) -> MadeGood:
        """Credit the units of a parcel or write the lines that are sent instead, once."""
        self._checkpoint("parcels.make_good", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            row = await fulfillment.read(change.connection, ask.fulfillment_id)
            if row["stage"] == ask.target:
                return  # an earlier attempt has committed
            await _make_good(change, ask, Bucket(row["stage"]))
            self._checkpoint("parcels.make_good", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("parcels.make_good", Stage.BEFORE_REPORT)
        return MadeGood(version=change.version)


class _About(TypedDict):
    shipment_id: str
    units: int
    why: str


async def _make_good(change: OrderChange, ask: MakeGoodAsk, stage: Bucket) -> None:
    connection, order_id = change.connection, change.order_id
    await move_fulfillment(connection, ask.fulfillment_id, stage, ask.target)
    closed = FulfillmentState.CLOSED
    await fulfillment.advance(connection, ask.fulfillment_id, closed, ask.target, change.now, change.now)
    await fulfillment.mark_remedy(connection, ask.fulfillment_id, ask.remedy)
    await add_lines(connection, order_id, ask.added)
    await crediting.credit(connection, order_id, change.currency, ask.shipment_id, ask.credit)
    about = _About(shipment_id=ask.shipment_id, units=ask.units, why=ask.trouble)
    if ask.added:
        lines = tuple(one.line.line_no for one in ask.added)
        change.say("parcel.replaced", ask.actor, ask.trouble, lines=lines, **about)
    else:
        amount = ask.credit.worth.total_minor if ask.credit else 0
        change.say("parcel.credited", ask.actor, ask.trouble, amount_minor=amount, **about)
    if ask.promise_state:
        await control.set_promise_state(connection, order_id, ask.promise_state)
        change.say(f"promise.{ask.promise_state}", promised_by=change.promised_by)
    if ask.claim_s is not None:
        await _open_claim(change, ask, ask.claim_s)


async def _open_claim(change: OrderChange, ask: MakeGoodAsk, claim_s: int) -> None:
    """Somebody has to claim from the carrier what it lost or damaged; that outlives the order."""
    detail, owner = f"parcel {ask.shipment_id} is {ask.trouble}: claim it from the carrier", Team.FULFILLMENT.value
    case = (CARRIER_CLAIM, owner, detail)
    if await control.open_case(change.connection, change.order_id, *case, change.version, claim_s):
        change.say("order.needs_attention", cause=CARRIER_CLAIM, code=CARRIER_CLAIM, owner=owner, detail=detail)
