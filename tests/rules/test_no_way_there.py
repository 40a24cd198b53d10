"""A shortage is told from a way that is missing: units that no lane leads from are still there."""

from typing import Any

import pytest

from domain.sourcing import NodeOffer, could_ship_with_lanes, plan_sourcing
from tests.support.sourcing import ask, node, wants


def _cut_off(name: str, **stock: int) -> NodeOffer:
    """A node that has units, and no lane or no working day."""
    return node(name, stock).model_copy(update={"transit_days": None, "arrival": None})


@pytest.mark.parametrize(
    ("nodes", "rules", "there"),
    [
        ([_cut_off("FAR", X=3)], {}, True),
        ([_cut_off("FAR", X=2), node("NEAR", {"X": 1})], {}, True),
        ([_cut_off("FAR", X=2)], {}, False),
        ([_cut_off("FAR", Y=9), node("NEAR", {"X": 2})], {}, False),
        ([node("NEAR", {"X": 2})], {}, False),
        ([_cut_off("FAR", X=9).model_copy(update={"frozen": True})], {}, False),
        ([_cut_off("FAR", X=4)], {"sourcing_minimum": 2}, False),
        ([_cut_off("FAR", X=2), node("NEAR", {"X": 1})], {"max_splits": 0}, False),
        ([], {}, False),
    ],
)
def test_a_missing_way_is_no_shortage(nodes: list[NodeOffer], rules: dict[str, Any], there: bool) -> None:
    """Only units that the rules would let ship, in the parcels that they allow, count as there."""
    asked = ask(wants(1, "X", 3), *nodes, **rules)
    assert plan_sourcing(asked).unfilled
    assert could_ship_with_lanes(asked) is there
