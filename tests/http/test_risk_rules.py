"""The risk rules over HTTP: set by finance, refused by name, tried before they count."""

from typing import Any

import pytest

from tests.support.front_desk import FrontDesk

RULE = {"name": "many_vases", "when": "units > 3"}


async def test_rules_are_set_once_and_numbered(desk: FrontDesk) -> None:
    """The same rules again are the version that there is; other ones are the next."""
    finance = await desk.known("finance")
    body = {"channel": desk.shop.channel, "rules": [RULE]}
    # when
    first = await finance.post("/v1/rulesets/risk/versions", body)
    again = await finance.post("/v1/rulesets/risk/versions", body)
    other = await finance.post("/v1/rulesets/risk/versions", {**body, "rules": [{**RULE, "when": "units > 4"}]})
    # then
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    version = first.json()["version"]
    assert (again.json(), other.json()["version"]) == (first.json(), version + 1)
    assert first.json()["ruleset"] == f"risk:{desk.shop.channel}@{version}"
    listed = (await finance.get("/v1/rulesets/risk")).json()["data"]
    (own,) = [one for one in listed if one["channel"] == desk.shop.channel]
    assert (own["version"], own["rules"][0]["when"], own["owner"]) == (version + 1, "units > 4", "finance")
    (row,) = await desk.shop.sql(
        "SELECT author ->> 'role' AS role FROM ruleset_versions WHERE kind = 'risk' AND channel = :c AND version = :v",
        c=desk.shop.channel,
        v=version,
    )
    assert row["role"] == "finance"


async def test_everything_that_is_wrong_is_named_and_nothing_is_set(desk: FrontDesk) -> None:
    """Each rule at its place in the document."""
    finance = await desk.known("finance")
    before = (await finance.get("/v1/rulesets/risk")).json()
    rules = [RULE, {"name": "unread", "when": "units >"}, {"name": "email", "when": "email == 'x'"}]
    # when
    answer = await finance.post("/v1/rulesets/risk/versions", {"channel": desk.shop.channel, "rules": rules})
    # then
    assert answer.status_code == 422
    found = [(error["pointer"], error["code"]) for error in answer.json()["errors"]]
    assert found == [("/rules/1", "not_readable"), ("/rules/2", "unknown_fact")]
    assert (await finance.get("/v1/rulesets/risk")).json() == before


@pytest.mark.parametrize(
    "body",
    [
        {"channel": "no-such-channel", "rules": []},
        {"rules": [{"name": "Not A Code", "when": "true"}]},
        {"rules": [{"name": "extra", "when": "true", "then": "reject"}]},
        {"rules": [RULE] * 51},
        {},
    ],
)
async def test_what_is_no_document_is_refused(desk: FrontDesk, body: dict[str, Any]) -> None:
    """422, and nothing is set."""
    finance = await desk.known("finance")
    assert (await finance.post("/v1/rulesets/risk/versions", body)).status_code == 422


async def test_rules_are_tried_on_facts_and_on_orders(desk: FrontDesk) -> None:
    """Nothing is changed; the facts that were used are in the answer."""
    finance = await desk.known("finance")
    order = await desk.place(("LAMP", 1))
    # when
    made_up = await finance.post("/v1/rulesets/risk:test", {"rules": [RULE], "facts": {"units": 4}})
    placed = await finance.post("/v1/rulesets/risk:test", {"rules": [RULE], "order_id": order["id"]})
    neither = await finance.post("/v1/rulesets/risk:test", {"rules": [RULE]})
    unknown = await finance.post("/v1/rulesets/risk:test", {"order_id": "ord_nothing"})
    # then
    assert (made_up.json()["holds"], made_up.json()["reason"], made_up.json()["ruleset"]) == (
        True,
        "many_vases",
        "draft",
    )
    assert (placed.json()["holds"], placed.json()["facts"]["units"]) == (False, 1)
    assert "example.com" not in placed.text
    assert (neither.status_code, unknown.status_code) == (422, 404)


async def test_an_order_over_the_limit_is_held_and_shown(desk: FrontDesk) -> None:
    """The storefront's answer has the hold, not the rule; finance sees it and may end the hold."""
    # given
    finance = await desk.known("finance")
    rules = {"channel": desk.shop.channel, "rules": [RULE]}
    await finance.post("/v1/rulesets/risk/versions", rules)
    await desk.shop.stocks("VASES", EAST=5)
    # when
    order = await desk.place(("VASES", 4))
    # then
    (hold,) = order["holds"]
    assert (hold["type"], hold["reason"], hold["state"]) == ("fraud", "under_review", "placed")
    seen = (await finance.get(f"/v1/orders/{order['id']}/holds/{hold['id']}")).json()
    assert seen["reason"] == "many_vases"
    released = await finance.post(f"/v1/orders/{order['id']}/holds/{hold['id']}/release", {})
    assert released.status_code == 200, released.text
    await desk.at_node(order["id"])
    await finance.post("/v1/rulesets/risk/versions", {"channel": desk.shop.channel, "rules": []})
