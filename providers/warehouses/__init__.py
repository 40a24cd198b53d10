"""Warehouses: release work to a node, and ask it to stop. Fulfillment owns this room.

The key of a release is `fulfillment_order:version`, sent with the request: the same key is the same work.
"""

from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from providers.outcomes import Absent, Found, Message, Ok, Outcome, Unknown


class ShipTo(Message):
    """Where the goods go. Personal data: it travels to the node only, and is kept out of every `repr`."""

    name: str = Field(repr=False)
    line1: str = Field(repr=False)
    line2: str = Field(default="", repr=False)
    city: str = Field(repr=False)
    region: str = Field(default="", repr=False)
    postal_code: str = Field(default="", repr=False)
    country: str = Field(min_length=2, max_length=2)
    phone: str = Field(default="", repr=False)


class ReleaseLine(Message):
    """Units of one order line that the node shall pick."""

    line_no: int = Field(gt=0)
    sku: str
    quantity: int = Field(gt=0)


class ReleaseRequest(Message):
    """Work for one node. Without `ship_to` the node finds the address by other means, or collects."""

    key: str = Field(min_length=1, max_length=200)
    order_id: str = Field(min_length=1, max_length=100)
    fulfillment_id: str
    node_id: str
    lines: tuple[ReleaseLine, ...] = Field(min_length=1)
    ship_to: ShipTo | None = None


class StopRequest(Message):
    """Ask the node not to ship what was released for this fulfillment: the named units, or all where none are."""

    key: str = Field(min_length=1, max_length=200)
    fulfillment_id: str
    lines: tuple[ReleaseLine, ...] = ()


class Stopped(Message):
    """The node will not ship it (also when it never heard of it)."""

    kind: Literal["stopped"] = "stopped"


class TooLate(Message):
    """The goods have left, or nothing can keep them from leaving."""

    kind: Literal["too_late"] = "too_late"


class AnswerFollows(Message):
    """The node has to look; it will report. Silence is never consent."""

    kind: Literal["answer_follows"] = "answer_follows"


StopAnswer: TypeAlias = Stopped | TooLate | AnswerFollows
StopOutcome: TypeAlias = StopAnswer | Unknown


class FoundStop(Message):
    """The node knows the stop request, and this is how it answered at the time."""

    kind: Literal["found"] = "found"
    outcome: StopAnswer


ReleaseLookUp: TypeAlias = Found[Ok] | Absent
StopLookUp: TypeAlias = FoundStop | Absent


class WarehouseProvider(Protocol):
    """What Accord asks of a warehouse."""

    async def release(self, request: ReleaseRequest) -> Outcome:
        """Hand work to the node. Raises `NotSent` when the request never reached the warehouse."""
        ...

    async def stop(self, request: StopRequest) -> StopOutcome:
        """Ask the node to stop. Raises `NotSent` when the request never reached the warehouse."""
        ...

    async def look_up(self, key: str) -> ReleaseLookUp:
        """How the release with this key was answered. Raises `ProviderUnavailable`."""
        ...

    async def look_up_stop(self, key: str) -> StopLookUp:
        """How the stop with this key was answered. Raises `ProviderUnavailable`."""
        ...
