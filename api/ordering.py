"""Taking an order in: one transaction, then the workflow; the answer now, or a place to look."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.front import Call, Wait
from api.gateway import Answered, Closed, Pending, start_order
from api.placing import check_order, city_key, place_order_of
from api.problems import Problem
from api.rendering import render_order, render_received
from api.schemas import CreateOrder
from domain.ids import OrderId, new_id
from domain.notices import language_of
from domain.orders import PlaceOrder
from store.intake import (
    Asked,
    Earlier,
    Named,
    OrderFacts,
    Wishes,
    load_order_facts,
    load_place_order,
    mark_answered,
    new_customer_ref,
    put_order,
)
from store.reads import read_order
from store.vault import seal
from workflows.messages import Rejected

_TRIES = 3
_MARGIN_S = 1.0


@dataclass(frozen=True)
class Placed:
    """The order as answered: status, body, and whether the request had been seen before."""

    status: int
    content: dict[str, Any]
    order_id: str
    version: int
    replayed: bool


class _TakenMeanwhile(Exception):
    """Somebody else stored the same key or reference between look-up and write."""


async def create_order(call: Call, body: CreateOrder, request_fingerprint: bytes, wait: Wait) -> Placed:
    """Store the order, start it, and say what became of it so far.

    Raises:
        Problem: the order is refused; nothing was stored unless the order's own rules refused it.
    """
    asked = call.asked(request_fingerprint)
    if asked.key is None and body.external_ref is None:
        raise Problem(
            "idempotency-key-missing", "Send Idempotency-Key, or give channel and external_ref, which then are the key."
        )
    found = await _take_in(call, body, asked, wait)
    if isinstance(found, PlaceOrder):
        return await _start(call, found, asked, body.external_ref, wait, replayed=False)
    return await _again(call, found, asked, body.external_ref, wait)


async def _take_in(call: Call, body: CreateOrder, asked: Asked, wait: Wait) -> PlaceOrder | Earlier:
    for _ in range(_TRIES):
        try:
            return await call.front.write(lambda c: _stored(c, call, body, asked, wait))
        except _TakenMeanwhile:
            continue  # the next look-up meets what the other one wrote
    raise Problem("idempotency-in-progress", "The same order is being stored right now.", retry_after_s=1)


async def _stored(
    connection: AsyncConnection, call: Call, body: CreateOrder, asked: Asked, wait: Wait
) -> PlaceOrder | Earlier:
    """One transaction: look up, check, write."""
    external_hash = _customer_hash(call.front.pepper, body)
    facts = await load_order_facts(connection, asked, _named(body, external_hash))
    if not call.scope.covers_channel(body.channel):
        facts = _without_channel(facts)
    earlier = _earlier(facts, asked)
    if earlier:
        return earlier
    check_order(body, facts)
    order_id = OrderId(new_id("ord", time.time_ns() // 1_000_000))
    customer_ref = _customer_ref(facts, external_hash)
    if external_hash is not None and facts.customer_ref is None:
        customer_ref = await new_customer_ref(connection, body.channel, external_hash, customer_ref)
    place = place_order_of(body, facts, order_id, customer_ref, datetime.now(UTC))
    personal = {"customer": body.customer.model_dump(), "ship_to": body.ship_to.model_dump()}
    sealed = seal(call.front.vault, order_id, customer_ref, personal)
    wishes = Wishes(language_of(body.customer.locale), body.preferences.notices)
    if not await put_order(connection, asked, place, body.external_ref, sealed, wait.total_s + _MARGIN_S, wishes):
        raise _TakenMeanwhile
    return place


def _named(body: CreateOrder, external_hash: bytes | None) -> Named:
    return Named(
        channel=body.channel,
        external_ref=body.external_ref,
        country=body.ship_to.country,
        region=body.ship_to.region,
        city_key=city_key(body.ship_to),
        skus=tuple(sorted({line.sku for line in body.lines})),
        external_hash=external_hash,
        order_number=body.order_number,
        replaces_order=body.replaces_order,
    )


def _customer_ref(facts: OrderFacts, external_hash: bytes | None) -> str:
    """Whose order it is: the channel's known customer; that of the order it replaces where none is named; a new one."""
    if external_hash is None and facts.replaced:
        return facts.replaced.customer_ref
    return facts.customer_ref or new_id("cus", time.time_ns() // 1_000_000)


def _customer_hash(pepper: bytes, body: CreateOrder) -> bytes | None:
    """What stands for the channel's own id of the customer: keyed, so that it cannot be guessed back."""
    if body.customer.external_ref is None:
        return None
    text = f"customer/{body.channel}/{body.customer.external_ref}"
    return hmac.new(pepper, text.encode(), hashlib.sha256).digest()


def _without_channel(facts: OrderFacts) -> OrderFacts:
    """A channel that is not the caller's looks like one that does not exist."""
    return OrderFacts(
        currency=None,
        enabled=False,
        zone_id=facts.zone_id,
        unknown_skus=facts.unknown_skus,
        customer_ref=None,
        order_number=facts.order_number,
        number_taken=False,
        same_key=facts.same_key,
        same_reference=None,
    )


def _earlier(facts: OrderFacts, asked: Asked) -> Earlier | None:
    """The request that this one repeats.

    Raises:
        Problem: the key or the reference belongs to another content.
    """
    if facts.same_key:
        if not hmac.compare_digest(facts.same_key.fingerprint, asked.fingerprint):
            raise Problem("idempotency-mismatch", "This Idempotency-Key was used with another order.")
        return facts.same_key
    if facts.same_reference and not hmac.compare_digest(facts.same_reference.fingerprint, asked.fingerprint):
        text = "This channel has an order with this external_ref and other content."
        raise Problem("order-exists", text, order_id=facts.same_reference.order_id)
    return facts.same_reference


async def _again(call: Call, earlier: Earlier, asked: Asked, external_ref: str | None, wait: Wait) -> Placed:
    """The same request again: its outcome, or a place in the same queue."""
    answered = await _answered(call, earlier.order_id, replayed=True)
    if answered:
        return answered
    if earlier.answering:
        raise Problem("idempotency-in-progress", "The first request is still being answered.", retry_after_s=1)
    place = await call.front.read(lambda c: load_place_order(c, earlier.order_id))
    return await _start(call, place, asked, external_ref, wait, replayed=True)


async def _start(
    call: Call, place: PlaceOrder, asked: Asked, external_ref: str | None, wait: Wait, replayed: bool
) -> Placed:
    result = await start_order(call.front.client, place, wait.total_s, wait.acceptance_s)
    if isinstance(result, Answered) and isinstance(result.outcome, Rejected):
        raise rejection(place.order_id, result.outcome.code, result.outcome.detail, result.outcome.lines)
    note = result.note if isinstance(result, Pending) else None
    try:
        if isinstance(result, Answered | Closed):
            answered = await _answered(call, place.order_id, replayed)
            if answered:
                return answered
        if asked.key is not None:
            await call.front.write(lambda c: mark_answered(c, asked))
    except Problem as problem:
        if problem.type.slug != "database-unavailable":
            raise
        note = "The order is stored; its details cannot be read at the moment."
    return Placed(202, _received(place, external_ref, note), place.order_id, 0, replayed)


async def _answered(call: Call, order_id: str, replayed: bool) -> Placed | None:
    """The order as the workflow answered it, read from the database; None when it has not.

    Raises:
        Problem: the order was rejected.
    """
    row = await call.front.read(lambda c: read_order(c, call.principal, "createOrder", order_id))
    if row is None:
        return None
    if row["rejection"] is not None:
        told = row["rejection"]
        problem = rejection(order_id, told["code"], told["detail"], told.get("lines", ()))
        if replayed:
            problem.headers["Idempotency-Replayed"] = "true"
        raise problem
    content = render_order(row, call.principal, call.front.vault)
    return Placed(201, content, order_id, row["version"], replayed)


def rejection(order_id: str, code: str, detail: str, lines: Any) -> Problem:
    """The order was taken in and its rules refuse it: nothing is held, nothing will be charged."""
    slug = "out-of-stock" if code == "out_of_stock" else "promise-not-possible"
    names = ("line", "sku", "requested", "available")
    shown = [dict(zip(names, line, strict=True)) for line in lines]
    return Problem(slug, detail, order_id=order_id, reason=code, lines=shown)


def _received(place: PlaceOrder, external_ref: str | None, note: str | None) -> dict[str, Any]:
    row = {
        **place.model_dump(
            include={"order_id", "order_number", "channel", "currency", "total_minor", "replaces_order"}
        ),
        "external_ref": external_ref,
        "created_at": datetime.now(UTC),
    }
    return render_received(row, note)
