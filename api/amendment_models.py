"""What can be asked about changes of an order in flight, and what is answered. Owner: service."""

from typing import Annotated, Any, Literal

from pydantic import Field

from api.answers import Answer, Refusal
from api.schemas import Body, Minor, ShipTo
from api.text_rules import Reference
from domain.amendment import MAX_CHANGES, AddLine, SetQuantity, SetRequestedBy, SetServiceLevel, Substitute
from domain.orders import MAX_LINES, HoldReason

AMENDMENT = {"changes": [{"op": "set_quantity", "line": 2, "quantity": 5}], "reason": "customer_request"}


class LineTaxIn(Body):
    """The tax of all units of a line that have not left once the order is changed."""

    line: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
    tax_minor: Minor


class NewTaxIn(Body):
    """What the storefront's tax is at the new address, in minor units of the order's `currency`.

    Of what has not left only: `lines` per line, `shipping_tax_minor` of its shipping. What is not named stays as it is.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    lines: Annotated[tuple[LineTaxIn, ...], Field(max_length=MAX_LINES)] = ()
    shipping_tax_minor: Minor | None = None


class SetShipToIn(Body):
    """Another destination. The address is personal: it goes to the vault, and no command or event holds it."""

    op: Literal["set_ship_to"] = "set_ship_to"
    ship_to: ShipTo
    tax: NewTaxIn | None = None


ChangeIn = Annotated[
    SetQuantity | AddLine | Substitute | SetShipToIn | SetServiceLevel | SetRequestedBy, Field(discriminator="op")
]


class AmendOrderIn(Body):
    """The wanted end state, as changes. `reference` pays what it costs more, else the order's own payment does.

    `reason` is a short code, never free text. `dry_run` answers with the plan and changes nothing.
    """

    changes: Annotated[tuple[ChangeIn, ...], Field(min_length=1, max_length=MAX_CHANGES)]
    reason: HoldReason = "customer_request"
    reference: Reference | None = None
    dry_run: Annotated[bool, Field(strict=True)] = False


class AmendedLineOut(Answer):
    """Units of a line that are not cancelled, before and after; blocks that extend it count with it."""

    line: int
    sku: str
    from_quantity: int
    to_quantity: int


class AmendmentMoney(Answer):
    """Minor units; `delta_minor` includes the deltas of tax and of shipping (before tax)."""

    total_before_minor: int
    total_after_minor: int
    delta_minor: int
    tax_delta_minor: int
    shipping_delta_minor: int
    additional_authorization_minor: int


class WaitingOut(Answer):
    """Units of a line (the new one, where a line got more) that no node has: they wait for supply."""

    line: int
    quantity: int
    until: str | None
    expected_by: str | None


class Amendment(Answer):
    """A change: requested, confirmed or declined. A declined one left the order as it was."""

    id: str
    order_id: str
    state: str
    reason: str
    changes: list[dict[str, Any]]
    requested_at: str
    settled_at: str | None
    lines: tuple[AmendedLineOut, ...] = ()
    money: AmendmentMoney | None = None
    promise: dict[str, str | None] | None = None
    backordered: tuple[WaitingOut, ...] = ()
    order_version: int | None = None
    refusal: Refusal | None = None
    note: str | None = None


class AmendmentList(Answer):
    """The changes of an order, oldest first."""

    data: list[Amendment]


class AmendmentPlanOut(Answer):
    """What a change would do now: money, promise, nodes and effort."""

    dry_run: Literal[True]
    allowed: bool
    order_version: int
    lines: tuple[AmendedLineOut, ...] = ()
    money: AmendmentMoney | None = None
    promise: dict[str, str | None] | None = None
    sourcing: tuple[dict[str, Any], ...] = ()
    backordered: tuple[WaitingOut, ...] = ()
    cost_of_change: dict[str, Any] | None = None
    refusal: Refusal | None = None
