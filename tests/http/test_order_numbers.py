"""Order numbers: one living order of a channel has a number, and a number that several have is no name."""

import asyncio
from typing import Any

from sqlalchemy import text

from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}


def _codes(answer: Any) -> list[tuple[str, str]]:
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


async def test_a_number_that_is_taken_is_refused(desk: FrontDesk) -> None:
    """422 names the field and nothing is stored; the same order again is still the same order."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1), order_number="N-1")
    first = await storefront.post("/v1/orders", body, WAIT)
    other = desk.order(("LAMP", 1), order_number="N-1")
    refused = await storefront.post("/v1/orders", other, WAIT)
    again = await storefront.post("/v1/orders", body, WAIT)
    assert first.status_code == 201
    assert (refused.status_code, _codes(refused)) == (422, [("/order_number", "order_number_taken")])
    assert await desk.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=other["external_ref"]) == []
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])


async def test_of_two_that_want_one_number_at_once_one_gets_it(desk: FrontDesk) -> None:
    """The database decides, not the look before: the other order is still being written while this one looks."""
    storefront = await desk.known("storefront")
    async with desk.shop.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO intake (order_id, channel, order_number, customer_ref, principal, fingerprint,"
                " place_order, state) VALUES ('ord_RACE', :c, 'N-RACE', 'c', 'p', '', '{}', 'accepted')"
            ),
            {"c": desk.shop.channel},
        )
        body = desk.order(("LAMP", 1), order_number="N-RACE")
        asking = asyncio.create_task(storefront.post("/v1/orders", body, WAIT))
        await asyncio.sleep(0.3)
        assert not asking.done()
    refused = await asking
    assert (refused.status_code, _codes(refused)) == (422, [("/order_number", "order_number_taken")])


async def test_generated_numbers_step_over_chosen_ones(desk: FrontDesk) -> None:
    """The channel has chosen the next five numbers itself: the order without a number gets the sixth."""
    storefront = await desk.known("storefront")
    last = int((await desk.place(("LAMP", 1)))["order_number"])
    for number in range(last + 1, last + 6):
        chosen = await storefront.post("/v1/orders", desk.order(("LAMP", 1), order_number=str(number)), WAIT)
        assert chosen.status_code == 201
    order = await desk.place(("LAMP", 1))
    assert order["order_number"] == str(last + 6)
    found = await storefront.get(f"/v1/orders/number:{order['order_number']}")
    assert found.json()["id"] == order["id"]


async def test_a_refused_order_gives_its_number_up(desk: FrontDesk) -> None:
    """The storefront tries again under its number, and the number leads to the order that lives."""
    storefront = await desk.known("storefront")
    short = await storefront.post("/v1/orders", desk.order(("RARE", 5), order_number="N-2"), WAIT)
    alone = await storefront.get("/v1/orders/number:N-2")
    second = await storefront.post("/v1/orders", desk.order(("LAMP", 1), order_number="N-2"), WAIT)
    found = await storefront.get("/v1/orders/number:N-2")
    assert (short.status_code, second.status_code) == (409, 201)
    assert (alone.json()["id"], alone.json()["status"]) == (short.json()["order_id"], "rejected")
    assert found.json()["id"] == second.json()["id"]


async def test_a_number_of_two_channels_names_neither(desk: FrontDesk) -> None:
    """Who sees both is told to say which; who sees one of them meets that one."""
    await desk.shop.sql("INSERT INTO channels VALUES ('second-shop', 'USD') ON CONFLICT DO NOTHING")
    ours, theirs = await desk.known("storefront"), await desk.caller("storefront", channels=["second-shop"])
    first = await ours.post("/v1/orders", desk.order(("LAMP", 1), order_number="N-3"), WAIT)
    body = desk.order(("LAMP", 1), order_number="N-3", channel="second-shop")
    second = await theirs.post("/v1/orders", body, WAIT)
    assert (first.status_code, second.status_code) == (201, 201)
    both = await desk.caller("service", channels=[desk.shop.channel, "second-shop"])
    name = "/v1/orders/number:N-3"
    unclear = [await both.get(name), await both.get(f"{name}/events"), await both.get(f"{name}/decisions")]
    unclear.append(await both.post(f"{name}/cancellations", {"reason": "other"}))
    for answer in unclear:
        assert (answer.status_code, _codes(answer)) == (422, [("/path/order_id", "ambiguous_number")])
    assert (await ours.get(name)).json()["id"] == first.json()["id"]
    assert (await theirs.get(name)).json()["id"] == second.json()["id"]
    listed = (await both.get("/v1/orders?q=N-3")).json()["data"]
    assert {found["id"] for found in listed} == {first.json()["id"], second.json()["id"]}


async def test_nobody_learns_which_numbers_another_channel_has(desk: FrontDesk) -> None:
    """A channel that is not the caller's looks as if it did not exist, whatever number is tried."""
    order = await desk.place(("LAMP", 1), order_number="N-4")
    stranger = await desk.caller("storefront", channels=["somebody-elses"])
    refused = await stranger.post("/v1/orders", desk.order(("LAMP", 1), order_number=order["order_number"]))
    assert _codes(refused) == [("/channel", "unknown_channel")]
