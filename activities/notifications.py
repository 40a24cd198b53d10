"""Service's part of an order: the notices that are due go out, each once, and none keeps another one waiting.

One activity looks after the outbox for most of a minute: it asks once a second whether something is due, which only
reads. Each notice runs claim -> call -> settle; no order hears of it, and nothing of what is rendered is returned.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Stage, no_checkpoint, retry_me
from domain.lifecycle import Team
from domain.money import format_minor
from domain.notices import NO_ADDRESS, NOTICE_FAILING, NoticeState, pause_before_next
from domain.orders import Frozen
from providers.notifications import NoticeRequest, NotificationProvider
from providers.outcomes import Found, NotSent, Ok, ProviderUnavailable, Refused, Unknown
from store import control
from store.engine import transaction
from store.notices import (
    ClaimedNotice,
    NoticeContent,
    Settlement,
    any_due,
    claim_due,
    read_content,
    settle_notice,
    try_again,
)
from store.orders import OrderChange, change_order
from store.vault import KeyRing, VaultLocked, open_vault
from templates.rendering import Filling, Line, Rendered, TemplateBroken, Templates, Wanted, happening

log = structlog.get_logger()

NAME = "notifications.deliver"
WATCH_S = 55.0
"""How long one run looks after the outbox; the schedule starts the next one every minute."""
ASK_EVERY_S = 1.0
BEAT_EVERY_S = 4.0
AT_ONCE = 8
"""Notices on their way at the same time: they share the database's connections with the orders."""
LEASE = timedelta(seconds=60)
"""Who has claimed a notice has it for so long: longer than asking and sending take, 10 s each."""
SEND_BEFORE_S = 30.0
"""Who has not sent a notice so long after its claim gives it up: the lease could end under way."""


class Delivered(Frozen):
    """What became of the notices of one run. `put_off`: attempts that failed and are repeated."""

    sent: int = 0
    ended: int = 0
    put_off: int = 0


@dataclass(frozen=True)
class _PutOff:
    """The attempt failed; why, as a code, and how long the provider asked to wait."""

    why: str
    after_s: float | None = None


_End = Settlement | _PutOff


class NotificationActivities:
    """The outbox of notices."""

    def __init__(
        self,
        engine: AsyncEngine,
        provider: NotificationProvider,
        vault_keys: KeyRing,
        own_templates: Path | None = None,
        checkpoint: Checkpoint = no_checkpoint,
        watch_s: float = WATCH_S,
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._keys = vault_keys
        self._templates = Templates(own_templates)
        self._checkpoint = checkpoint
        self._watch_s = watch_s

    @activity.defn(name=NAME)
    async def deliver(self) -> Delivered:
        """Send what is due, and what falls due meanwhile. When the worker stops, another one goes on."""
        until = time.monotonic() + self._watch_s
        ends: list[_End] = []
        async with _heart_beats():
            while True:
                found = await self._deliver_batch()
                ends += found
                if found:
                    continue
                if time.monotonic() >= until:
                    return _counted(ends)
                if await _worker_stops(ASK_EVERY_S):
                    raise retry_me("WorkerStops", "the worker stops: another one looks after the outbox", 0.1)

    async def _deliver_batch(self) -> list[_End]:
        """Claim a few notices, send them side by side, write down how each ended."""
        async with self._engine.connect() as connection:
            if not await any_due(connection):
                return []
        self._checkpoint(NAME, Stage.BEFORE_EFFECT)
        token = uuid4().hex
        give_up = time.monotonic() + SEND_BEFORE_S
        notices = await transaction(self._engine, lambda c: claim_due(c, token, AT_ONCE, LEASE))
        each = (self._deliver_one(notice, token, give_up) for notice in notices)
        ends = await asyncio.gather(*each, return_exceptions=True)
        for broken in (end for end in ends if isinstance(end, BaseException)):
            raise broken  # only now: whoever was under way has come to its end
        return [end for end in ends if not isinstance(end, BaseException)]

    async def _deliver_one(self, notice: ClaimedNotice, token: str, give_up: float) -> _End:
        end = await self._attempt(notice, give_up)
        self._checkpoint(NAME, Stage.AFTER_EFFECT)
        if isinstance(end, _PutOff):
            end = await self._put_off(notice, token, end)
        else:
            await self._end(notice, token, end)
        self._checkpoint(NAME, Stage.AFTER_COMMIT)
        return end

    async def _attempt(self, notice: ClaimedNotice, give_up: float) -> _End:
        """Ask first whether an earlier attempt arrived, then send. What fails without a verdict is put off."""
        try:
            if notice.attempt_no > 1:
                found = await self._provider.look_up(notice.notice_id)
                if isinstance(found, Found):
                    return _settlement(found.outcome)
            made = await self._make(notice)
            if made is None:
                return Settlement(NoticeState.SUPPRESSED, why=NO_ADDRESS)
            request, rendered = made
            if time.monotonic() > give_up:
                return _PutOff("too_slow")
            outcome = await self._provider.send(request)
        except (NotSent, ProviderUnavailable) as error:
            return _PutOff("provider_unavailable", error.retry_after_s)
        except VaultLocked:
            return _PutOff("vault_locked")
        except TemplateBroken as error:
            log.error("notice.template_broken", notice_id=notice.notice_id, template=str(error))  # noqa: TRY400 - a traceback could show what is personal
            return _PutOff("template_broken")
        except Exception as error:  # whatever it is, one notice must not keep the others waiting
            log.error("notice.attempt_broken", notice_id=notice.notice_id, error=type(error).__name__)  # noqa: TRY400 - as above
            return _PutOff("internal")
        if isinstance(outcome, Unknown):
            return _PutOff("outcome_unknown")
        if rendered.fell_back:
            log.warning("notice.template_missing", kind=notice.kind, language=notice.language, used=rendered.template)
        return _settlement(outcome, rendered)

    async def _make(self, notice: ClaimedNotice) -> tuple[NoticeRequest, Rendered] | None:
        """The notice, ready to be read; None when there is nobody to send it to (no address, or erased)."""
        async with self._engine.connect() as connection:
            content = await read_content(connection, notice.notice_id)
            vault = await open_vault(connection, self._keys, notice.order_id)
        customer = (vault or {}).get("customer") or {}
        if not customer.get("email"):
            return None
        wanted = Wanted(notice.medium, notice.sales_channel, notice.language, notice.kind)
        rendered = self._templates.render(wanted, _filling(content, customer))
        request = NoticeRequest(
            key=notice.notice_id,
            order_id=notice.order_id,
            channel="email",
            address=customer["email"],
            kind=notice.kind,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            data=(("language", notice.language), ("template", rendered.template)),
        )
        return request, rendered

    async def _put_off(self, notice: ClaimedNotice, token: str, end: _PutOff) -> _End:
        """The next attempt follows after a pause; after the last one the notice has failed."""
        pause = pause_before_next(notice.attempt_no, end.after_s)
        if pause is None:
            failed = Settlement(NoticeState.FAILED, why=end.why)
            await self._end(notice, token, failed)
            return failed
        log.warning("notice.put_off", notice_id=notice.notice_id, order_id=notice.order_id, why=end.why)
        await transaction(self._engine, lambda c: try_again(c, notice, token, end.why, pause))
        return end

    async def _end(self, notice: ClaimedNotice, token: str, end: Settlement) -> None:
        if end.state is not NoticeState.FAILED:
            await transaction(self._engine, lambda c: settle_notice(c, notice, token, end))
            return
        await change_order(self._engine, notice.order_id, lambda change: _fail(change, notice, token, end))


async def _fail(change: OrderChange, notice: ClaimedNotice, token: str, end: Settlement) -> None:
    """The notice has failed, and service gets a case: one per order, however many of its notices fail."""
    if not await settle_notice(change.connection, notice, token, end):
        return  # a newer attempt has it
    detail = f"notice {notice.kind} could not be sent: {end.why}"
    order_id, owner = change.order_id, Team.SERVICE.value
    if await control.open_case(change.connection, order_id, NOTICE_FAILING, owner, detail, change.version):
        change.say("order.needs_attention", cause=NOTICE_FAILING, code=NOTICE_FAILING, owner=owner, detail=detail)


def _settlement(outcome: Ok | Refused, rendered: Rendered | None = None) -> Settlement:
    about: dict[str, Any] = {} if rendered is None else {"template": rendered.template, "fell_back": rendered.fell_back}
    match outcome:
        case Ok():
            return Settlement(NoticeState.SENT, provider_ref=outcome.provider_ref, **about)
        case Refused():
            return Settlement(NoticeState.FAILED, why=outcome.code, **about)
        case _:
            assert_never(outcome)


def _filling(content: NoticeContent, customer: dict[str, Any]) -> Filling:
    currency = content.currency
    return Filling(
        name=customer.get("name") or "",
        order_number=content.order_number,
        currency=currency,
        total=format_minor(content.total_minor, currency),
        promised_by=content.promised_by,
        lines=tuple(
            Line(line["name"], line["quantity"], format_minor(line["total_minor"], currency)) for line in content.lines
        ),
        more_lines=content.line_count - len(content.lines),
        parcel=content.parcel,
        event=happening(content.data, currency, content.zone_name),
    )


def _counted(ends: list[_End]) -> Delivered:
    sent = sum(isinstance(end, Settlement) and end.state is NoticeState.SENT for end in ends)
    put_off = sum(isinstance(end, _PutOff) for end in ends)
    return Delivered(sent=sent, ended=len(ends) - sent - put_off, put_off=put_off)


async def _worker_stops(within_s: float) -> bool:
    """Wait a moment; True at once when this worker is told to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(activity.wait_for_worker_shutdown(), within_s)
        return True
    return False


@asynccontextmanager
async def _heart_beats() -> AsyncIterator[None]:
    """Tell the engine again and again that this attempt lives, however long a provider takes."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT_EVERY_S)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
