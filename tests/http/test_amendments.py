"""Changes of an order in flight over HTTP: tried first, done, declined, refused, listed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}

MORE = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 3}], "reason": "customer_request"}


async def test_a_change_is_tried_first_and_then_done(desk: FrontDesk) -> None:
    """CAP-H03, CAP-H07: the preview names money, promise, nodes and effort; confirming does that."""
    # given
    await desk.shop.stocks("SHELF", EAST=5)
    order = await desk.place(("SHELF", 2))
    await desk.at_node(order["id"])
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    plan = (await agent.post(path, {**MORE, "dry_run": True})).json()
    unchanged = (await agent.get(f"/v1/orders/{order['id']}")).json()
    done = await agent.post(path, MORE, WAIT)
    # then
    assert plan["allowed"], plan
    assert unchanged["lines"] == (await agent.get(f"/v1/orders/{order['id']}")).json()["lines"][:1]
    assert done.status_code == 201, done.text
    amendment = done.json()
    assert amendment["state"] == "confirmed"
    assert amendment["lines"] == plan["lines"]
    assert amendment["lines"][0]["from_quantity"] == 2
    assert amendment["lines"][0]["to_quantity"] == 3
    assert amendment["money"] == plan["money"]
    assert amendment["money"]["delta_minor"] == amendment["money"]["additional_authorization_minor"] == 1000
    assert plan["sourcing"] == [{"line": 2, "node": "EAST", "quantity": 1}]
    assert plan["cost_of_change"] == {"nodes_asked": [], "labels_voided": 0}
    listed = (await agent.get(path)).json()["data"]
    assert [one["id"] for one in listed] == [amendment["id"]]
    assert (await agent.get(done.headers["Location"])).json()["state"] == "confirmed"


async def test_what_is_declined_leaves_the_order_and_says_why(desk: FrontDesk) -> None:
    """402 where the payment says no, 409 where there is no stock; both are listed as declined."""
    # given
    await desk.shop.stocks("BENCH", EAST=3)
    order = await desk.place(("BENCH", 2))
    await desk.at_node(order["id"])
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    unpaid = await agent.post(path, {**MORE, "reference": "pm_declined"}, WAIT)
    many = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 9}]}
    tried = (await agent.post(path, {**many, "dry_run": True})).json()
    short = await agent.post(path, many, WAIT)
    # then
    assert (unpaid.status_code, unpaid.json()["decline_code"]) == (402, "card_declined")
    assert (tried["allowed"], tried["refusal"]["reason"]) == (False, "out_of_stock")
    assert short.status_code == 409
    assert short.json()["lines"] == [{"line": 2, "sku": desk.shop.sku("BENCH"), "requested": 7, "available": 1}]
    assert [one["state"] for one in (await agent.get(path)).json()["data"]] == ["declined", "declined"]


async def test_the_storefront_is_too_late_once_a_node_has_the_work(desk: FrontDesk) -> None:
    """CAP-H06: the cut-off rules are the same in preview and command."""
    # given
    await desk.shop.stocks("STOOL", EAST=5)
    order = await desk.place(("STOOL", 2))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    plan = (await storefront.post(path, {**MORE, "dry_run": True})).json()
    refused = await storefront.post(path, MORE, WAIT)
    malformed = await storefront.post(path, {"changes": [{"op": "repaint"}]}, WAIT)
    # then
    assert (plan["allowed"], plan["refusal"]["reason"]) == (False, "cut_off_passed")
    assert (refused.status_code, refused.json()["reason"]) == (409, "cut_off_passed")
    assert refused.json()["alternative"] == plan["refusal"]["alternative"] == "cancel"
    assert malformed.status_code == 422


@pytest.fixture
async def express(desk: FrontDesk) -> AsyncIterator[None]:
    """A fast lane to where all customers live; other tests count on there being none."""
    await desk.shop.sql("INSERT INTO lanes VALUES ('EAST', 'US-MA', 'express', 1)")
    yield
    await desk.shop.sql("DELETE FROM lanes WHERE node_id = 'EAST' AND zone_id = 'US-MA' AND service_level = 'express'")


async def test_the_preview_names_the_deltas_of_price_tax_and_shipping(desk: FrontDesk, express: None) -> None:
    """CAP-H03: fewer units take their frozen tax along, a named shipping price replaces the old; the result agrees."""
    # given
    await desk.shop.stocks("TABLE", EAST=5)
    body = desk.order(("TABLE", 3))
    body["lines"][0]["tax_minor"] = 240
    body["shipping"] = {"price_minor": 500, "tax_minor": 40}
    body["total_minor"] = body["tenders"][0]["amount_minor"] = 3780
    storefront, agent = await desk.known("storefront"), await desk.known("service")
    order = (await storefront.post("/v1/orders", body, WAIT)).json()
    await desk.at_node(order["id"])
    path = f"/v1/orders/{order['id']}/amendments"
    faster = {"op": "set_service_level", "service_level": "express", "shipping_minor": 1200}
    wish = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 2}, faster]}
    # when
    plan = (await agent.post(path, {**wish, "dry_run": True})).json()
    done = await agent.post(path, wish, WAIT)
    wrong = await agent.post(path, {"changes": [{**faster, "shipping_minor": -1}]}, WAIT)
    # then
    assert plan["allowed"], plan
    # of 5.00 the two units carry 3.34 with 0.27 tax; of 12.00 it is 8.02 with 0.64
    assert plan["money"] == {
        "total_before_minor": 3780,
        "total_after_minor": 3026,
        "delta_minor": -754,
        "tax_delta_minor": -56,
        "shipping_delta_minor": 302,
        "additional_authorization_minor": 0,
    }
    assert done.status_code == 201, done.text
    assert done.json()["money"] == plan["money"]
    assert (await agent.get(f"/v1/orders/{order['id']}")).json()["totals"]["owed_minor"] == 3026
    assert wrong.status_code == 422


async def test_what_can_be_changed_is_offered_by_the_cut_off_rules_and_role(desk: FrontDesk) -> None:
    """The node has the work: a storefront may not have fewer any more, service may; each with why and what instead."""
    # given
    order = await desk.place(("LAMP", 2))
    await desk.at_node(order["id"])

    async def offered(role: str) -> dict[str, dict[str, Any]]:
        snapshot = (await (await desk.known(role)).get(f"/v1/orders/{order['id']}")).json()
        return {action.get("change", action["action"]): action for action in snapshot["available_actions"]}

    # when
    shop, service = await offered("storefront"), await offered("service")
    # then
    assert shop["cancel"] == {
        "action": "cancel",
        "available": True,
        "lines": [{"line": 1, "quantity": 2}],
        "until_stage": "packed",
        "options": {"restock": [True], "refund": ["full"], "all_or_nothing": [False, True]},
    }
    assert service["cancel"]["options"] == {
        "restock": [True, False],
        "refund": ["full", "none"],
        "all_or_nothing": [False, True],
    }
    assert shop["decrease"] == {
        "action": "amend",
        "available": False,
        "change": "decrease",
        "lines": [{"line": 1, "quantity": 2}],
        "reason": "cut_off_passed",
        "detail": "cut_off@1: decrease is possible for the role storefront until the units are allocated;"
        " they are released",
        "alternative": "cancel",
    }
    assert service["decrease"] == {
        "action": "amend",
        "available": True,
        "change": "decrease",
        "lines": [{"line": 1, "quantity": 1}],
        "until_stage": "packed",
    }
    assert service["increase"]["until_stage"] == "shipped"
    assert (await (await desk.known("auditor")).get(f"/v1/orders/{order['id']}")).json()["available_actions"] == []
    fewer = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 1}]}
    refused = await (await desk.known("storefront")).post(f"/v1/orders/{order['id']}/amendments", fewer)
    told = refused.json()
    names = ("reason", "detail", "alternative")
    assert [told[name] for name in names] == [shop["decrease"][name] for name in names]
