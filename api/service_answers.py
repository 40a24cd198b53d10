"""What everybody can get: health, readiness, version, and problems."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from api.answers import Answer


class Health(Answer):
    """The process lives."""

    status: Literal["ok"]


class Check(Answer):
    """One part of the installation."""

    ok: bool
    detail: str


class Readiness(Answer):
    """Whether everything behind the API is there."""

    ready: bool
    checks: dict[str, Check]


class Version(Answer):
    """Which version this is."""

    version: str
    api: str


class FindingOut(Answer):
    """One thing that is wrong."""

    pointer: str
    code: str
    message: str


class ProblemOut(BaseModel):
    """A problem (RFC 9457). Further members depend on the type; its page explains them."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    order_id: str | None = None
    errors: list[FindingOut] | None = None


class ProblemPage(Answer):
    """A kind of problem, explained."""

    type: str
    title: str
    status: int
    explanation: str
    members: list[str]


class ProblemList(Answer):
    """All kinds of problems."""

    data: list[ProblemPage]
