"""How a simulated provider takes requests and questions: keys, lost messages, delays, refusals.

All four simulated adapters speak through this. The effect, the stored answer and the attempt count are one
transaction in the state file, committed before the reply: a caller that dies in between meets the same
object when it asks again.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, TypeVar

from pydantic import TypeAdapter

from providers.faults import Fate, FaultDice, ProviderKind, SimulationFaults
from providers.outcomes import Message, NotSent, ProviderUnavailable, Refused, Unknown
from providers.simulation import Simulation, SimulationBusyError, controls_in_force

AnswerT = TypeVar("AnswerT", bound=Message)
ResultT = TypeVar("ResultT")

DEFAULT_TIME_LIMIT_S: Final = 10.0
"""How long a caller waits for a reply. Stay 2 s below the time limit of the activity around it."""
RETRY_AFTER_S: Final = 1.0
KEY_REUSE: Final = "key_reuse"
_ON: Final = "1"
_DOWN: Final = "the provider is down"
_TURNED_AWAY: Final = "the provider turned the request away (429)"
_STORAGE_BUSY: Final = "the provider is busy"


@dataclass(frozen=True)
class Call:
    """One request as it is sent: its name, its key, whose it is, and what about it is out of the ordinary."""

    operation: str
    key: str
    order_id: str
    fingerprint: str
    first_loses: Literal["request", "reply"] | None = None
    """What is lost at the first attempt that this order makes of this operation, under any key."""
    extra_delay_ms: int = 0
    subject: str = ""
    """Where the request does not name its order: the earlier effect's subject, which leads to the order."""


@dataclass(frozen=True)
class Visit:
    """What an effect may use while the provider works on a request: the open transaction and its mood."""

    db: sqlite3.Connection
    provider: ProviderKind
    call: Call
    declined: bool
    controls: dict[str, str]
    now_text: str

    def reference(self, prefix: str) -> str:
        """The provider's own name for the object of this request. From the key: the same story again."""
        return f"{prefix}_{_digest(self.provider, self.call.key)[:20]}"

    def record(
        self,
        kind: str,
        provider_ref: str,
        subject: str,
        *,
        amount: tuple[int, str] = (0, ""),
        detail: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Write the one row that says that this happened. `amount` is minor units and currency."""
        self.db.execute(
            "INSERT INTO effects (provider, kind, key, order_id, provider_ref, subject, amount_minor, currency,"
            " detail, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.provider,
                kind,
                self.call.key,
                self.call.order_id,
                provider_ref,
                subject,
                *amount,
                json.dumps(detail),
                self.now_text,
            ),
        )


@dataclass(frozen=True)
class _Reply(Generic[AnswerT]):
    """What comes back from the provider, and when: an answer, silence, or nothing was taken in."""

    answer: AnswerT | Refused | None = None
    silence: str = ""
    not_sent: str = ""
    delay_ms: int = 0


class SimulatedPeer:
    """One kind of simulated provider, as seen over the network."""

    def __init__(
        self,
        simulation: Simulation,
        provider: ProviderKind,
        faults: SimulationFaults | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    ) -> None:
        self._simulation = simulation
        self._provider = provider
        self._dice = FaultDice(faults or SimulationFaults(), provider)
        self._time_limit_s = time_limit_s

    async def send(
        self, call: Call, answers: TypeAdapter[AnswerT], effect: Callable[[Visit], AnswerT]
    ) -> AnswerT | Refused | Unknown:
        """Deliver a request. `effect` runs once per key, in the transaction that stores its answer.

        Raises `NotSent`. A key that was answered for other parameters is `Refused` with `key_reuse`.
        """
        try:
            reply = await self._simulation.in_thread(lambda: self._deliver(call, answers, effect))
        except SimulationBusyError as error:
            raise NotSent(RETRY_AFTER_S, _STORAGE_BUSY) from error
        except sqlite3.OperationalError as error:
            return Unknown(why=f"the provider failed: {error.sqlite_errorname}")
        if reply.not_sent:
            raise NotSent(RETRY_AFTER_S, reply.not_sent)
        await asyncio.sleep(min(reply.delay_ms / 1000, self._time_limit_s))
        if reply.delay_ms / 1000 > self._time_limit_s:
            return Unknown(why=f"no reply within {self._time_limit_s:g} s")
        return Unknown(why=reply.silence) if reply.answer is None else reply.answer

    async def look_up(self, key: str, operations: tuple[str, ...], answers: TypeAdapter[AnswerT]) -> AnswerT | None:
        """The stored answer under this key, None where there is none. Raises `ProviderUnavailable`."""
        if self._dice.may_turn_questions_away:
            await self._question(lambda: self._count_question(key))
        return await self.ask(lambda db: _stored(db, self._provider, key, operations, answers), key)

    async def ask(self, question: Callable[[sqlite3.Connection], ResultT], key: str = "") -> ResultT:
        """Answer from one or more reads. Raises `ProviderUnavailable` while the provider is down."""

        def answer() -> ResultT:
            with self._simulation.reading() as db:
                if self._is_on(controls_in_force(db, _order_of(db, self._provider, key)), "down"):
                    raise ProviderUnavailable(RETRY_AFTER_S, _DOWN)
                return question(db)

        return await self._question(answer)

    async def _question(self, work: Callable[[], ResultT]) -> ResultT:
        try:
            return await self._simulation.in_thread(work)
        except (SimulationBusyError, sqlite3.OperationalError) as error:
            raise ProviderUnavailable(RETRY_AFTER_S, _STORAGE_BUSY) from error

    def _deliver(
        self, call: Call, answers: TypeAdapter[AnswerT], effect: Callable[[Visit], AnswerT]
    ) -> _Reply[AnswerT]:
        """Everything that happens at the provider, in one transaction."""
        with self._simulation.writing() as db:
            call = self._with_order(db, call)
            controls = controls_in_force(db, call.order_id)
            if self._is_on(controls, "down"):
                return _Reply(not_sent=_DOWN)
            fate = self._fate(db, call, controls)
            if fate.unavailable:
                return _Reply(not_sent=_TURNED_AWAY)
            if fate.lost_before_effect:
                return _Reply(silence="the connection broke while sending", delay_ms=fate.delay_ms)
            now_text = self._simulation.clock().isoformat()
            visit = Visit(db, self._provider, call, fate.declined, controls, now_text)
            answer = _answer_once(visit, answers, effect)
            if fate.duplicated:
                answer = _answer_once(visit, answers, effect)
            if fate.lost_after_effect:
                return _Reply(silence="the connection broke before the reply", delay_ms=fate.delay_ms)
            return _Reply(answer=answer, delay_ms=fate.delay_ms)

    def _with_order(self, db: sqlite3.Connection, call: Call) -> Call:
        if call.order_id or not call.subject:
            return call
        row = db.execute(
            "SELECT order_id FROM effects WHERE provider = ? AND subject = ? LIMIT 1",
            (self._provider, call.subject),
        ).fetchone()
        return replace(call, order_id=row[0]) if row else call

    def _fate(self, db: sqlite3.Connection, call: Call, controls: dict[str, str]) -> Fate:
        """The seeded fate of this attempt, worsened by the controls and by what the call asks for."""
        attempt, is_first_of_order = _count_attempt(db, self._provider, call)
        drawn = self._dice.fate(call.key, attempt)
        loses = call.first_loses if is_first_of_order else None
        delay_ms = int(controls.get(f"{self._provider}.delay_ms", drawn.delay_ms)) + call.extra_delay_ms
        return Fate(
            unavailable=drawn.unavailable,
            lost_before_effect=drawn.lost_before_effect or loses == "request" or self._is_on(controls, "lose_request"),
            declined=drawn.declined or self._is_on(controls, "decline"),
            lost_after_effect=drawn.lost_after_effect or loses == "reply" or self._is_on(controls, "lose_reply"),
            duplicated=drawn.duplicated,
            delay_ms=delay_ms,
        )

    def _count_question(self, key: str) -> None:
        with self._simulation.writing() as db:
            row = db.execute(
                "INSERT INTO requests (provider, key, order_id, operation, questions) VALUES (?, ?, '', '', 1)"
                " ON CONFLICT (provider, key) DO UPDATE SET questions = questions + 1 RETURNING questions",
                (self._provider, key),
            ).fetchone()
        if self._dice.question_is_turned_away(key, row[0]):
            raise ProviderUnavailable(RETRY_AFTER_S, _TURNED_AWAY)

    def _is_on(self, controls: dict[str, str], knob: str) -> bool:
        return controls.get(f"{self._provider}.{knob}") == _ON


def fingerprint(operation: str, request: Message) -> str:
    """What a key stands for: the operation and every parameter. A digest, since requests hold addresses."""
    return _digest(operation, request.model_dump_json())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _count_attempt(db: sqlite3.Connection, provider: ProviderKind, call: Call) -> tuple[int, bool]:
    """The number of this attempt of the key, and whether the order never made this operation before."""
    attempt = db.execute(
        "INSERT INTO requests (provider, key, order_id, operation, attempts) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT (provider, key) DO UPDATE SET attempts = attempts + 1,"
        " order_id = CASE WHEN answer IS NULL THEN excluded.order_id ELSE order_id END,"
        " operation = CASE WHEN answer IS NULL THEN excluded.operation ELSE operation END RETURNING attempts",
        (provider, call.key, call.order_id, call.operation),
    ).fetchone()[0]
    total = db.execute(
        "SELECT sum(attempts) FROM requests WHERE order_id = ? AND provider = ? AND operation = ?",
        (call.order_id, provider, call.operation),
    ).fetchone()[0]
    return int(attempt), total == 1


def _answer_once(visit: Visit, answers: TypeAdapter[AnswerT], effect: Callable[[Visit], AnswerT]) -> AnswerT | Refused:
    """The stored answer of the key; the first time, what the effect answers, stored beside it."""
    call = visit.call
    stored_fingerprint, stored = visit.db.execute(
        "SELECT fingerprint, answer FROM requests WHERE provider = ? AND key = ?", (visit.provider, call.key)
    ).fetchone()
    if stored is not None:
        if stored_fingerprint != call.fingerprint:
            return Refused(code=KEY_REUSE, detail="this key was used for another request")
        return answers.validate_json(stored)
    answer = effect(visit)
    visit.db.execute(
        "UPDATE requests SET fingerprint = ?, answer = ? WHERE provider = ? AND key = ?",
        (call.fingerprint, answer.model_dump_json(), visit.provider, call.key),
    )
    return answer


def _stored(
    db: sqlite3.Connection,
    provider: ProviderKind,
    key: str,
    operations: tuple[str, ...],
    answers: TypeAdapter[AnswerT],
) -> AnswerT | None:
    row = db.execute(
        "SELECT operation, answer FROM requests WHERE provider = ? AND key = ?", (provider, key)
    ).fetchone()
    if row is None or row[1] is None or row[0] not in operations:
        return None
    return answers.validate_json(row[1])


def _order_of(db: sqlite3.Connection, provider: ProviderKind, key: str) -> str:
    """Whose key it is, as far as the provider knows: controls may be set for one order."""
    row = db.execute("SELECT order_id FROM requests WHERE provider = ? AND key = ?", (provider, key)).fetchone()
    return str(row[0]) if row else ""
