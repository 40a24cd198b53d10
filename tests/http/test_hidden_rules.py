"""What storefronts and shoppers are told of a hold on suspicion: that it is there, and not by which rule."""

from collections.abc import AsyncIterator

import pytest

from tests.http.test_tokens import Issuer
from tests.support.front_desk import Caller, FrontDesk


@pytest.fixture(scope="module")
async def with_tokens(desk: FrontDesk) -> AsyncIterator[tuple[FrontDesk, Issuer]]:
    """The same API, told to trust an issuer."""
    issuer = Issuer()
    identity = desk.app.state.front.identity
    identity.trust(issuer.tokens())
    yield desk, issuer
    identity.trust(None)


async def test_outsiders_are_told_that_somebody_looks_and_not_by_which_rule(
    with_tokens: tuple[FrontDesk, Issuer],
) -> None:
    """A storefront and a shopper see the hold's type; the rule's name is nowhere, in no answer, stream or text."""
    # given
    desk, issuer = with_tokens
    finance = await desk.known("finance")
    channel = desk.shop.channel
    rule = {"name": "tell_nobody_of_me", "when": "units == 3"}
    assert (await finance.post("/v1/rulesets/risk/versions", {"channel": channel, "rules": [rule]})).status_code == 201
    try:
        order = await desk.place(("LAMP", 3))
    finally:
        await finance.post("/v1/rulesets/risk/versions", {"channel": channel, "rules": []})
    path = f"/v1/orders/{order['id']}"
    callers = (await desk.known("storefront"), Caller(desk.http, issuer.token(sub=order["customer"]["ref"])))
    (hold,) = (await finance.get(f"{path}/holds")).json()["data"]
    # when it is held, and when finance has released it
    released = {"decision": "release", "reason": "tell_nobody_of_me"}
    for seen in ("placed", "released"):
        if seen == "released":
            answer = await finance.post(f"{path}/holds/{hold['id']}/release", released, {"prefer": "wait=15"})
            assert answer.status_code == 200, answer.text
        # then
        for caller in callers:
            for where in ("", "/holds", f"/holds/{hold['id']}", "/events?limit=200"):
                answer = await caller.get(path + where)
                assert answer.status_code == 200, answer.text
                assert "tell_nobody" not in answer.text, where
            shown = (await caller.get(f"{path}/holds/{hold['id']}")).json()
            assert (shown["type"], shown["reason"], shown["state"]) == ("fraud", "under_review", seen)
            told = [e for e in (await caller.get(f"{path}/events")).json()["data"] if e["type"].startswith("hold.")]
            assert {(e["cause"], e["data"]["type"], e["data"]["reason"]) for e in told} == {
                ("under_review", "fraud", "under_review")
            }
        for role in ("finance", "service", "ops", "auditor"):
            team = await desk.known(role)
            assert (await team.get(f"{path}/holds/{hold['id']}")).json()["reason"] == "tell_nobody_of_me"
            assert "tell_nobody_of_me" in (await team.get(f"{path}/events?limit=200")).text


async def test_the_reason_of_another_hold_is_told(desk: FrontDesk) -> None:
    """An address that is not understood is the customer's business."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    held = {"type": "address", "reason": "number_missing", "blocks": ["ship"]}
    answer = await service.post(f"/v1/orders/{order['id']}/holds", held, {"prefer": "wait=15"})
    assert answer.status_code == 201, answer.text
    storefront = await desk.known("storefront")
    (hold,) = (await storefront.get(f"/v1/orders/{order['id']}/holds")).json()["data"]
    assert hold["reason"] == "number_missing"
