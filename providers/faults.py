"""What goes wrong at the simulated providers, and when: seeded, so the same seed tells the same story.

A draw depends on the seed, the business key and the attempt alone (the attempt is counted in the state
file), never on a clock or on the order in which processes come.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Rate: TypeAlias = Annotated[float, Field(ge=0, le=1)]
DELAY_MAX_MS = 600_000


class ProviderKind(StrEnum):
    """The four kinds of provider; the value is the first word of the control names."""

    PAYMENTS = "payments"  # owner: finance
    CARRIERS = "carriers"  # owner: fulfillment
    WAREHOUSES = "warehouses"  # owner: fulfillment
    NOTIFICATIONS = "notifications"  # owner: service


class InvalidFaultsError(ValueError):
    """The text that describes the faults cannot be used; the message names the field."""


class Fate(BaseModel):
    """What was drawn for one delivery of one request."""

    model_config = ConfigDict(frozen=True)

    unavailable: bool = False
    lost_before_effect: bool = False
    declined: bool = False
    lost_after_effect: bool = False
    duplicated: bool = False
    delay_ms: int = 0


class FaultRates(BaseModel):
    """How often each fault happens at one kind of provider. A rate is a share of calls, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    delay_ms: tuple[int, int] = (0, 0)
    """Shortest and longest time between the effect and its reply, in milliseconds."""
    decline_rate: Rate = 0.0
    """Opening calls only (authorize, book, release, send): refused, for this key for ever."""
    unknown_after_effect_rate: Rate = 0.0
    """The provider acts, its reply is lost."""
    unknown_before_effect_rate: Rate = 0.0
    """The request is lost on its way, and the caller cannot tell."""
    unavailable_rate: Rate = 0.0
    """Turned away (429): calls raise `NotSent`, look-ups `ProviderUnavailable`."""
    duplicate_rate: Rate = 0.0
    """The network delivers the request twice; the second reply is the one that comes back."""

    @model_validator(mode="after")
    def _delay_is_a_range(self) -> Self:
        shortest, longest = self.delay_ms
        if not 0 <= shortest <= longest <= DELAY_MAX_MS:
            raise ValueError(f"delay_ms must be [min, max] with 0 <= min <= max <= {DELAY_MAX_MS}")
        return self


class SimulationFaults(FaultRates):
    """The seed, the rates for all kinds, and what differs for one kind."""

    seed: int = 0
    payments: FaultRates | None = None
    carriers: FaultRates | None = None
    warehouses: FaultRates | None = None
    notifications: FaultRates | None = None

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Self:
        """Read the JSON object in `text`; empty text means no faults. A seed in the text wins over `seed`.

        Example: `{"seed": 7, "delay_ms": [5, 50], "payments": {"decline_rate": 0.1}}`; what one kind
        names replaces the general rate of the same name. Raises `InvalidFaultsError`.
        """
        if not text.strip():
            return cls(seed=seed)
        try:
            faults = cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidFaultsError(_explain(error)) from None
        return faults if "seed" in faults.model_fields_set else faults.model_copy(update={"seed": seed})

    def rates(self, kind: ProviderKind) -> FaultRates:
        """The rates in force at one kind of provider."""
        general = FaultRates(**{name: getattr(self, name) for name in FaultRates.model_fields})
        own = {
            ProviderKind.PAYMENTS: self.payments,
            ProviderKind.CARRIERS: self.carriers,
            ProviderKind.WAREHOUSES: self.warehouses,
            ProviderKind.NOTIFICATIONS: self.notifications,
        }[kind]
        if own is None:
            return general
        return general.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


class FaultDice:
    """Draws the fate of every call at one kind of provider."""

    def __init__(self, faults: SimulationFaults, kind: ProviderKind) -> None:
        self._seed = faults.seed
        self._kind = kind
        self._rates = faults.rates(kind)
        self.may_turn_questions_away = self._rates.unavailable_rate > 0
        """Whether look-ups can fail here, so that they have to be counted."""

    def fate(self, key: str, attempt: int) -> Fate:
        """What happens to this attempt (1, 2, 3 ...) of the request with this key."""
        rates = self._rates
        shortest, longest = rates.delay_ms
        return Fate(
            unavailable=self._draw("unavailable", key, attempt) < rates.unavailable_rate,
            lost_before_effect=self._draw("lost before", key, attempt) < rates.unknown_before_effect_rate,
            declined=self._draw("declined", key, attempt) < rates.decline_rate,
            lost_after_effect=self._draw("lost after", key, attempt) < rates.unknown_after_effect_rate,
            duplicated=self._draw("duplicated", key, attempt) < rates.duplicate_rate,
            delay_ms=shortest + int(self._draw("delay", key, attempt) * (longest - shortest + 1)),
        )

    def question_is_turned_away(self, key: str, question: int) -> bool:
        """Whether this look-up (1, 2, 3 ...) of the key gets no answer."""
        return self._draw("question", key, question) < self._rates.unavailable_rate

    def _draw(self, what: str, key: str, attempt: int) -> float:
        """A number in [0, 1) that depends on its arguments and the seed only."""
        text = "\x1f".join((str(self._seed), self._kind, what, key, str(attempt)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the text"
    allowed = ", ".join(SimulationFaults.model_fields)
    return f"simulated faults: {where}: {first['msg']} (known fields: {allowed})"
