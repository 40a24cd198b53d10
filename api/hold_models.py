"""What can be asked about holds, and the list of them. The hold itself is in `api/answers.py`. Owner: service."""

from typing import Annotated

from pydantic import Field

from api.answers import Answer, Hold
from api.schemas import Body
from domain.holds import LONGEST_S
from domain.orders import MAX_LINES, HoldBlock, HoldDecision, HoldReason, HoldType

PLACE = {"type": "address", "blocks": ["release"], "reason": "apartment_number_missing"}
RELEASE = {"decision": "release", "reason": "customer_confirmed"}


class PlaceHoldIn(Body):
    """A hold on the whole order, or on one `line`: then it stops the fulfillment orders that contain the line.

    Without `blocks` and `lasts_s` (seconds) the type decides. `reason` is a short code, never free text.
    """

    type: HoldType
    line: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)] | None = None
    blocks: Annotated[tuple[HoldBlock, ...], Field(max_length=4)] = ()
    lasts_s: Annotated[int, Field(ge=60, le=LONGEST_S, strict=True)] | None = None
    reason: HoldReason = "unspecified"


class ReleaseHoldIn(Body):
    """How a hold ends. With `reject` what it holds is cancelled."""

    decision: HoldDecision = "release"
    reason: HoldReason = "unspecified"


class HoldList(Answer):
    """The holds of an order, oldest first."""

    data: list[Hold]
