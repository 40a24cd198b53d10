"""What can be asked about nodes, and how they are shown. Owner: inventory."""

from pydantic import AwareDatetime

from api.answers import Answer
from api.schemas import Body
from domain.orders import HoldReason

FREEZE = {"reason": "flooded", "ends_at": "2027-12-01T06:00:00Z"}
UNFREEZE = {"reason": "dry_again"}


class FreezeIn(Body):
    """No new work for the node, from now on or for a period. `reason` is a short code, never free text."""

    reason: HoldReason = "unspecified"
    begins_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None


class UnfreezeIn(Body):
    """The node takes new work again."""

    reason: HoldReason = "unspecified"


class Freeze(Answer):
    """When the node takes no new work, why, and who said so."""

    reason: str | None
    actor: str | None
    begins_at: str | None
    ends_at: str | None


class Node(Answer):
    """A node. `not_accepted` counts the fulfillment orders that it has not accepted yet.

    `recalled` is how many of them leave it because of this request.
    """

    id: str
    name: str
    country: str
    region: str
    time_zone: str
    enabled: bool
    frozen: bool
    freeze: Freeze | None
    not_accepted: int
    recalled: int | None = None


class NodeList(Answer):
    """The nodes that the caller may see, by id."""

    data: list[Node]
