"""What nodes, carriers and those who ask why can get: the bodies of these answers."""

from typing import Any, Literal

from api.answers import Answer, PlaceCoarse, PlaceFull, PlaceMasked


class WorkLine(Answer):
    """Units to pick."""

    line: int
    sku: str
    quantity: int


class ListedFulfillmentOrder(Answer):
    """A fulfillment order in a node's work list."""

    id: str
    order_id: str
    order_number: str
    node: str
    state: str
    stage: str
    units: int
    lines: list[WorkLine]
    ship_by: str
    shipment_id: str
    carrier: str | None
    tracking_number: str | None
    tracking_state: str | None
    created_at: str
    updated_at: str
    order_version: int


class FulfillmentOrder(ListedFulfillmentOrder):
    """A fulfillment order as its node sees it, with where the parcel goes."""

    ship_to: PlaceFull | PlaceMasked | PlaceCoarse


class FulfillmentOrderList(Answer):
    """A page of a node's work."""

    data: list[ListedFulfillmentOrder]
    next_cursor: str | None
    has_more: bool


class ReportResult(Answer):
    """What a report did."""

    report_id: str
    applied: bool
    state: Literal["applied", "requested"]
    fulfillment_order: dict[str, str] | None = None
    order_version: int | None = None
    why: str | None = None
    note: str | None = None


class ScanResult(Answer):
    """What a carrier's event did. `applied: false` says `why`."""

    event_id: str
    applied: bool
    duplicate: bool
    shipment: dict[str, str]
    order_version: int | None = None
    why: str | None = None
    note: str | None = None


class Decision(Answer):
    """Why something was decided: rule version, inputs, candidates, reasons."""

    id: str
    order_id: str
    kind: str
    ruleset: str
    decided_at: str
    record: dict[str, Any]


class DecisionList(Answer):
    """The decisions made for an order, oldest first."""

    data: list[Decision]
