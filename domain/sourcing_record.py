"""The explanation that is kept with every sourcing decision. Owner: inventory.

It answers "why this node?" without the data of that day, and it stays small: an order of a thousand lines
keeps the sums per node, from which the parts follow.
"""

from datetime import date
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from domain.ids import NodeId
from domain.node_sets import DecidedBy


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExclusionReason(StrEnum):
    """Why a node was left out."""

    NODE_FROZEN = "node_frozen"  # takes no new work
    NO_LANE = "no_lane"  # no carrier from there to the destination
    NO_STOCK = "no_stock"  # nothing of what is wanted
    BELOW_SOURCING_MINIMUM = "below_sourcing_minimum"  # has some, but keeps it for itself
    BARRED_AFTER_SHORT = "barred_after_short"  # was short of it on this order
    OUTRANKED = "outranked"  # could give something; others promised more


class ExcludedNode(_Value):
    """A node that was not among the candidates."""

    node_id: NodeId
    reason: ExclusionReason


class Candidate(_Value):
    """A node that was searched, in the order of rank. `search` is 2 or more for nodes of a later search."""

    node_id: NodeId
    search: int
    usable_units: int
    unit_cost_micros: int
    arrival: date | None
    preference: int


class LineCost(_Value):
    """What a node's units of one line cost."""

    line_no: int
    quantity: int
    micros: int


class NodeCost(_Value):
    """What a chosen node costs: its parcel, and its units. `lines` is empty for very long orders."""

    node_id: NodeId
    fixed_micros: int
    unit_cost_micros: int
    units: int
    units_micros: int
    lines: tuple[LineCost, ...]


class RunnerUp(_Value):
    """The second best set of the first search, and how much more it costs."""

    node_ids: tuple[NodeId, ...]
    cost_micros: int
    gap_micros: int


class SourcingExplanation(_Value):
    """Why this plan: enough to check the decision, and to make it again from `canonical(ask)`.

    `input_hash` is of the canonical ask, `output_hash` of assignments, unfilled units and cost.
    """

    rules_version: str
    input_hash: str
    output_hash: str
    candidates: tuple[Candidate, ...]
    excluded: tuple[ExcludedNode, ...]
    winner: tuple[NodeCost, ...]
    lines_left_out: int
    runner_up: RunnerUp | None
    decided_by: DecidedBy | Literal["nothing_usable"]
    sets_tried: int
    searches: int
    unfilled_units: int
