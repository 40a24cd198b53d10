"""What a provider can answer: yes, no, or we do not know. Every room of `providers/` shares these words.

A call returns `Ok`, `Refused` or `Unknown`; callers match all three. It raises only `NotSent`, which means
that nothing has happened and the call may be made again. A look-up returns `Found` or `Absent`; it raises
only `ProviderUnavailable`. A time limit that passed, a broken connection, a server error and a body that
cannot be read are `Unknown`: whether the provider acted is then found out by looking up the business key.
"""

from typing import Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

WHY_MAX_CHARS = 300
"""Sentences from a provider are cut to this length, because they end up in histories and logs."""


class Message(BaseModel):
    """A frozen value that goes to a provider or comes from it; a field it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ok(Message):
    """The provider did it. Rooms extend this with what their providers tell besides."""

    kind: Literal["ok"] = "ok"
    provider_ref: str
    amount_minor: int = 0


class Refused(Message):
    """The provider says that it did not do it and will not: final for this key."""

    kind: Literal["refused"] = "refused"
    code: str
    detail: str


class Unknown(Message):
    """Nobody knows yet whether the provider did it. Never read as success or as failure."""

    kind: Literal["unknown"] = "unknown"
    why: str


Outcome: TypeAlias = Ok | Refused | Unknown

OkT = TypeVar("OkT", bound=Ok)


class Found(Message, Generic[OkT]):
    """The provider knows the key, and this is how it answered."""

    kind: Literal["found"] = "found"
    outcome: OkT | Refused


class Absent(Message):
    """The provider does not know the key. No proof while an earlier call may still be under way."""

    kind: Literal["absent"] = "absent"


class NotSent(Exception):
    """The request never left, or was turned away with 429: nothing has happened, try again."""

    def __init__(self, retry_after_s: float, why: str = "the provider takes no requests now") -> None:
        super().__init__(bounded(why))
        self.retry_after_s = retry_after_s


class ProviderUnavailable(Exception):
    """A question (look-up, listing) could not be answered; what it asked about is as unknown as before."""

    def __init__(self, retry_after_s: float, why: str = "the provider answers no questions now") -> None:
        super().__init__(bounded(why))
        self.retry_after_s = retry_after_s


def bounded(text: str) -> str:
    """The text, cut to `WHY_MAX_CHARS`."""
    return text if len(text) <= WHY_MAX_CHARS else text[: WHY_MAX_CHARS - 3] + "..."
