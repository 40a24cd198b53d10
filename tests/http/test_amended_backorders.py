"""More of what is not in stock, over HTTP: the plan says that it waits and until when, and so does the change."""

from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}


async def test_the_plan_says_what_waits_and_until_when(desk: FrontDesk) -> None:
    """One is there, three are wanted: the two others wait; the expected day is the day that is promised."""
    # given
    await desk.shop.stocks("WAITED", EAST=1)
    await desk.shop.lets_wait("WAITED")
    order = await desk.place(("WAITED", 1))
    await desk.at_node(order["id"])
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    wish = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 3}]}
    # when
    plan = (await agent.post(path, {**wish, "dry_run": True})).json()
    done = await agent.post(path, wish, WAIT)
    # then
    assert (plan["allowed"], plan["sourcing"]) == (True, [])
    (waits,) = plan["backordered"]
    assert (waits["line"], waits["quantity"], waits["expected_by"]) == (2, 2, plan["promise"]["to"])
    assert plan["promise"]["to"] > plan["promise"]["from"]
    assert plan["money"]["additional_authorization_minor"] == 2000
    assert done.status_code == 201, done.text
    (waiting,) = done.json()["backordered"]
    assert {name: waiting[name] for name in ("line", "quantity", "expected_by")} == {
        name: waits[name] for name in ("line", "quantity", "expected_by")
    }
    assert waiting["until"] >= waits["until"]
    listed = (await agent.get(path)).json()["data"][0]
    assert (listed["backordered"], listed["promise"]) == (done.json()["backordered"], done.json()["promise"])
    shown = (await agent.get(f"/v1/orders/{order['id']}")).json()
    (line,) = [line for line in shown["lines"] if line["quantities"].get("backordered")]
    assert (line["line"], line["backorder"]["units"]) == (2, 2)


async def test_an_item_that_may_not_wait_is_out_of_stock(desk: FrontDesk) -> None:
    """The plan says so, and so does the 409, which names what there is."""
    # given
    await desk.shop.stocks("SCARCE", EAST=2)
    order = await desk.place(("SCARCE", 1))
    await desk.at_node(order["id"])
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    wish = {"changes": [{"op": "set_quantity", "line": 1, "quantity": 5}]}
    # when
    plan = (await agent.post(path, {**wish, "dry_run": True})).json()
    done = await agent.post(path, wish, WAIT)
    # then
    assert (plan["allowed"], plan["refusal"]["reason"]) == (False, "out_of_stock")
    assert done.status_code == 409, done.text
    (short,) = done.json()["lines"]
    assert (short["requested"], short["available"]) == (4, 1)
