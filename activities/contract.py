"""How every activity behaves: claim, call, settle; and where a fault may strike between them.

An expected outcome is returned. An exception means only "retry me". The first claim of a call rides in the
transaction of the decision that wants it, under a token made of the workflow run and attempt 1; so the usual
call costs one transaction after the reply. Any later attempt, and any attempt of another run (a reset), claims
anew and looks up before it calls.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.orders import Frozen
from providers.outcomes import NotSent, ProviderUnavailable, Unknown, bounded
from store.orders import CommandRecord

ReplyT = TypeVar("ReplyT")
ResultT = TypeVar("ResultT")


class Stage(StrEnum):
    """Where a fault may strike."""

    BEFORE_EFFECT = "before_effect"
    AFTER_EFFECT = "after_effect"  # the reply is here, nothing is committed
    AFTER_COMMIT = "after_commit"
    BEFORE_REPORT = "before_report"


class Checkpoint(Protocol):
    """Called at every stage of every activity. Production hands in `no_checkpoint`."""

    def __call__(self, name: str, stage: Stage) -> None:
        """Return to go on; a test may kill the process, raise or sleep instead."""
        ...


def no_checkpoint(name: str, stage: Stage) -> None:
    """Go on."""


class Grant(Frozen):
    """The claim that a decision took for the first attempt of the call that it wants."""

    run_id: str


class LostCommand(Frozen):
    """What this command does is written, and the order did not hear of it: its workflow task was lost."""

    kind: str
    payload_json: str


class CommandRef(Frozen):
    """The command behind a change and its outcome, to be stored with the change."""

    command_id: str
    kind: str
    payload_json: str
    outcome_json: str
    state: str = "applied"

    def record(self) -> CommandRecord:
        """As the store wants it."""
        return CommandRecord(**self.model_dump())


def grant_token() -> str:
    """The token of the first attempt in this workflow run, for the transaction that wants the call."""
    return f"{_run_id()}:1"


def own_grant() -> Grant:
    """What the decision's activity returns, so that the call's first attempt can use the token."""
    return Grant(run_id=_run_id())


def _run_id() -> str:
    return activity.info().workflow_run_id or "none"


@dataclass(frozen=True)
class Effect(Generic[ReplyT, ResultT]):
    """One call to a provider and the two transactions around it."""

    name: str
    claim: Callable[[str], Awaitable[int | None]]  # token -> attempt number, None when settled already
    call: Callable[[bool], Awaitable[ReplyT | Unknown]]  # look up first?
    settle: Callable[[str, ReplyT], Awaitable[ResultT | None]]  # None: a newer attempt owns the row
    unknown: Callable[[str], Awaitable[None]]
    stored: Callable[[], Awaitable[ResultT]]


async def perform(effect: Effect[ReplyT, ResultT], grant: Grant | None, checkpoint: Checkpoint) -> ResultT:
    """Claim, call, settle. Raises a retryable error while the outcome is unknown."""
    info = activity.info()
    token = f"{_run_id()}:{info.attempt}"
    first = grant is not None and info.attempt == 1 and grant.run_id == _run_id()
    checkpoint(effect.name, Stage.BEFORE_EFFECT)
    if not first:
        attempt_no = await effect.claim(token)
        if attempt_no is None:
            return await effect.stored()
        first = attempt_no == 1
    reply = await _call(effect, look_up=not first)
    checkpoint(effect.name, Stage.AFTER_EFFECT)
    if isinstance(reply, Unknown):
        await effect.unknown(token)
        raise retry_me("ProviderUnknown", f"{effect.name}: outcome unknown, will look it up: {reply.why}")
    result = await effect.settle(token, reply)
    checkpoint(effect.name, Stage.AFTER_COMMIT)
    if result is None:
        result = await effect.stored()
    checkpoint(effect.name, Stage.BEFORE_REPORT)
    return result


async def _call(effect: Effect[ReplyT, ResultT], *, look_up: bool) -> ReplyT | Unknown:
    try:
        return await effect.call(look_up)
    except (NotSent, ProviderUnavailable) as error:
        raise retry_me(type(error).__name__, f"{effect.name}: {error}", error.retry_after_s) from error


def retry_me(kind: str, why: str, after_s: float | None = None) -> ApplicationError:
    """A fault that the retry policy repeats; kept out of error logs because it is expected now and then."""
    return ApplicationError(
        bounded(why),
        type=kind,
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=None if after_s is None else timedelta(seconds=after_s),
    )
