"""Nodes over HTTP: who looks, what freezing answers, and that the order behind it moves."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.front_desk import Caller, FrontDesk
from worker import make_sweep


@pytest.fixture
async def inventory(desk: FrontDesk) -> AsyncIterator[Caller]:
    """Who looks after EAST; it works again afterwards."""
    caller = await desk.caller("inventory", nodes=["EAST"])
    yield caller
    await caller.post("/v1/nodes/EAST/unfreeze", {"reason": "over"})


async def test_a_node_is_frozen_and_works_again(inventory: Caller) -> None:
    """The reason, who said so and the period are shown; asking twice is safe."""
    # when
    answer = await inventory.post("/v1/nodes/EAST/freeze", {"reason": "flooded", "ends_at": "2999-01-01T00:00:00Z"})
    again = await inventory.post("/v1/nodes/EAST/freeze", {"reason": "flooded", "ends_at": "2999-01-01T00:00:00Z"})
    # then
    assert (answer.status_code, again.status_code) == (200, 200)
    body = again.json()
    assert (body["id"], body["frozen"], body["recalled"]) == ("EAST", True, 0)  # all were told at the first time
    assert body["freeze"] == answer.json()["freeze"]
    assert body["freeze"]["reason"] == "flooded"
    assert body["freeze"]["ends_at"] == "2999-01-01T00:00:00Z"
    assert body["freeze"]["begins_at"]
    assert body["freeze"]["actor"]
    listed = (await inventory.get("/v1/nodes")).json()["data"]
    assert [(node["id"], node["frozen"]) for node in listed] == [("EAST", True)]
    thawed = await inventory.post("/v1/nodes/EAST/unfreeze", {"reason": "dry_again"})
    assert (thawed.status_code, thawed.json()["frozen"], thawed.json()["freeze"]) == (200, False, None)
    assert (await inventory.post("/v1/nodes/EAST/unfreeze", {})).status_code == 200


@pytest.mark.parametrize(
    "period",
    [
        {"begins_at": "2999-01-02T00:00:00Z", "ends_at": "2999-01-01T00:00:00Z"},
        {"ends_at": "2020-01-01T00:00:00Z"},
    ],
)
async def test_an_inverted_period_is_refused_and_nothing_is_frozen(inventory: Caller, period: dict[str, Any]) -> None:
    """CAP-D10: by name, at the field."""
    answer = await inventory.post("/v1/nodes/EAST/freeze", period)
    assert answer.status_code == 422
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [("/ends_at", "inverted_period")]
    (node,) = (await inventory.get("/v1/nodes")).json()["data"]
    assert node["frozen"] is False


async def test_an_unknown_node_is_not_found(desk: FrontDesk) -> None:
    """For whoever looks after all nodes too."""
    ops = await desk.known("ops")
    answer = await ops.post("/v1/nodes/ATLANTIS/freeze", {})
    assert (answer.status_code, answer.json()["resource"]) == (404, "node")


async def test_freezing_recalls_what_the_node_has_not_accepted(desk: FrontDesk, inventory: Caller) -> None:
    """Stored with the freeze, sent by the sweep; the order goes on at another node."""
    # given
    await desk.shop.stocks("CRATE", EAST=1, MID=1)
    order = await desk.place(("CRATE", 1))

    async def at(node: str) -> bool:
        parts = (await (await desk.known("ops")).get(f"/v1/orders/{order['id']}")).json()["fulfillment_orders"]
        return any(part["node"] == node and part["state"] == "submitted" for part in parts)

    await eventually(lambda: at("EAST"))
    # when
    answer = await inventory.post("/v1/nodes/EAST/freeze", {"reason": "flooded"})
    await make_sweep(desk.shop.engine, desk.shop.client, 7)()
    # then
    assert answer.json()["recalled"] >= 1
    await eventually(lambda: at("MID"))
