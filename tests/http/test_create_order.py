"""A storefront places orders: accepted, refused, repeated, and wrong in every way."""

import asyncio
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import event

from api.placing import city_key
from api.schemas import ShipTo
from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk


async def test_an_accepted_order_is_answered_with_its_snapshot(desk: FrontDesk) -> None:
    """201 with Location, ETag and the snapshot: stock held, date promised, customer masked."""
    storefront = await desk.known("storefront")
    answer = await storefront.post("/v1/orders", desk.order(("LAMP", 2), ("MUG", 1)), {"prefer": "wait=15"})
    assert answer.status_code == 201
    order = answer.json()
    assert answer.headers["location"] == f"/v1/orders/{order['id']}"
    assert answer.headers["etag"] == f'"v{order["version"]}"'
    assert answer.headers["preference-applied"] == "wait=15"
    assert [line["quantities"] for line in order["lines"]] in (
        [{"reserved": 2}, {"reserved": 1}],
        [{"allocated": 2}, {"allocated": 1}],
    )
    assert order["totals"]["ordered_minor"] == order["totals"]["owed_minor"] == 3500
    assert order["promise"]["original_by"] == order["promise"]["current_by"]
    assert order["customer"] == {"ref": order["customer"]["ref"], "name": "J*** E***", "email": "j***@example.com"}
    assert "Sample Street" not in answer.text


async def test_the_same_order_twice_is_one_order(desk: FrontDesk) -> None:
    """The channel's reference is a key: the same content meets the first order."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1))
    first = await storefront.post("/v1/orders", body, {"prefer": "wait=15"})
    second = await storefront.post("/v1/orders", body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    rows = await desk.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=body["external_ref"])
    assert len(rows) == 1


async def test_twenty_at_once_are_one_order(desk: FrontDesk) -> None:
    """Twenty copies of one request, at the same time, make one order."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1))

    async def insist() -> Response:
        while True:  # a front end that is too busy says 503, and when to come again
            answer = await storefront.post("/v1/orders", body, {"prefer": "wait=15"})
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(float(answer.headers["retry-after"]))

    answers = await asyncio.gather(*(insist() for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    rows = await desk.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=body["external_ref"])
    assert len(rows) == 1


async def test_a_taken_reference_with_other_content_is_a_conflict(desk: FrontDesk) -> None:
    """409 `order-exists` names the order."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1))
    first = await storefront.post("/v1/orders", body, {"prefer": "wait=15"})
    other = await storefront.post("/v1/orders", {**desk.order(("MUG", 1)), "external_ref": body["external_ref"]})
    assert other.status_code == 409
    assert other.json()["type"] == "/problems/order-exists"
    assert other.json()["order_id"] == first.json()["id"]


async def test_an_idempotency_key_belongs_to_one_content_and_one_caller(desk: FrontDesk) -> None:
    """Same key: same body is replayed, another body is refused, another caller has keys of their own."""
    storefront, other = await desk.known("storefront"), await desk.caller("storefront")
    key = {"idempotency-key": "key-of-mine", "prefer": "wait=15"}
    body = desk.order(("LAMP", 1))
    first = await storefront.post("/v1/orders", body, key)
    again = await storefront.post("/v1/orders", body, key)
    mismatch = await storefront.post("/v1/orders", desk.order(("MUG", 1)), key)
    theirs = await other.post("/v1/orders", desk.order(("MUG", 1)), key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert mismatch.status_code == 422
    assert mismatch.json()["type"] == "/problems/idempotency-mismatch"
    assert theirs.status_code == 201
    assert theirs.json()["id"] != first.json()["id"]


async def test_without_any_key_nothing_is_taken_in(desk: FrontDesk) -> None:
    """400 `idempotency-key-missing` when neither key nor reference is given."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1))
    del body["external_ref"]
    refused = await storefront.post("/v1/orders", body)
    taken = await storefront.post("/v1/orders", body, {"idempotency-key": "k-1", "prefer": "wait=15"})
    bad = await storefront.post("/v1/orders", body, {"idempotency-key": "x" * 256})
    assert refused.status_code == 400
    assert refused.json()["type"] == "/problems/idempotency-key-missing"
    assert taken.status_code == 201
    assert bad.status_code == 400


async def test_a_shortage_is_refused_with_the_lines_and_frees_the_reference(desk: FrontDesk) -> None:
    """409 `out-of-stock` says what there is; the same reference may be used for another order."""
    storefront = await desk.known("storefront")
    body = desk.order(("RARE", 5))
    refused = await storefront.post("/v1/orders", body, {"prefer": "wait=15", "idempotency-key": "rare-1"})
    again = await storefront.post("/v1/orders", body, {"idempotency-key": "rare-1"})
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"] == "/problems/out-of-stock"
    assert problem["lines"] == [{"line": 1, "sku": desk.shop.sku("RARE"), "requested": 5, "available": 1}]
    assert again.status_code == 409
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["lines"] == problem["lines"]
    replacement = {**desk.order(("LAMP", 1)), "external_ref": body["external_ref"]}
    accepted = await storefront.post("/v1/orders", replacement, {"prefer": "wait=15"})
    assert accepted.status_code == 201
    found = await storefront.get(f"/v1/orders/external:{desk.shop.channel}:{body['external_ref']}")
    assert found.json()["id"] == accepted.json()["id"]


async def test_stock_that_nothing_can_be_delivered_from_is_no_shortage(desk: FrontDesk) -> None:
    """409 `promise-not-possible` while the units are there; `out-of-stock` when they are not there either."""
    storefront = await desk.known("storefront")
    key = {"idempotency-key": "no-lane-1", "prefer": "wait=15"}
    express = {"shipping": {"price_minor": 500, "service_level": "express"}}  # no lane of this shop has it
    body = desk.order(("LAMP", 2), ("RARE", 1), **express)
    refused = await storefront.post("/v1/orders", body, key)
    again = await storefront.post("/v1/orders", body, key)
    short = await storefront.post("/v1/orders", desk.order(("LAMP", 2), ("RARE", 5), **express), {"prefer": "wait=15"})
    for answer in (refused, again):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/promise-not-possible")
        assert answer.json()["reason"] == "promise_not_possible"
        assert answer.json()["lines"] == [
            {"line": 1, "sku": desk.shop.sku("LAMP"), "requested": 2, "available": 0},
            {"line": 2, "sku": desk.shop.sku("RARE"), "requested": 1, "available": 0},
        ]
    assert (short.status_code, short.json()["type"]) == (409, "/problems/out-of-stock")
    assert await desk.shop.reserved("RARE") == {"EAST": 0}
    replacement = {**desk.order(("LAMP", 1)), "external_ref": body["external_ref"]}
    assert (await storefront.post("/v1/orders", replacement, {"prefer": "wait=15"})).status_code == 201


async def test_many_for_the_last_unit_give_one_order(desk: FrontDesk) -> None:
    """Of thirty orders for one last unit exactly one is accepted, the others are refused cleanly."""
    await desk.shop.stocks("LAST", EAST=1)
    storefront = await desk.known("storefront")
    answers = await asyncio.gather(
        *(storefront.post("/v1/orders", desk.order(("LAST", 1)), {"prefer": "wait=20"}) for _ in range(30))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 29
    assert {a.json()["type"] for a in answers if a.status_code == 409} == {"/problems/out-of-stock"}
    assert await desk.shop.reserved("LAST") == {"EAST": 1}


async def test_everything_that_is_wrong_is_answered_at_once(desk: FrontDesk) -> None:
    """One 422 with a pointer and a code for each finding, and nothing is stored."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1), ("NOTHING", 1))
    body["lines"][0]["discount_minor"] = 5000
    body["currency"] = "EUR"
    body["ship_to"]["region"] = "ZZ"
    body["tenders"][0]["amount_minor"] = 1
    refused = await storefront.post("/v1/orders", body)
    assert refused.status_code == 422
    found = {(error["pointer"], error["code"]) for error in refused.json()["errors"]}
    assert found == {
        ("/currency", "currency_mismatch"),
        ("/lines/0/discount_minor", "discount_exceeds_line"),
        ("/lines/1/sku", "unknown_sku"),
        ("/total_minor", "total_mismatch"),
        ("/tenders", "tenders_do_not_cover"),
        ("/ship_to", "unknown_destination"),
    }
    assert await desk.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=body["external_ref"]) == []


def _changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split("/")
    place: Any = body
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("lines/0/quantity", 0, "greater_than_equal"),
        ("lines/0/quantity", -3, "greater_than_equal"),
        ("lines/0/quantity", 1.5, "int_type"),
        ("lines/0/quantity", "2", "int_type"),
        ("lines/0/quantity", True, "int_type"),
        ("lines/0/quantity", 100_001, "less_than_equal"),
        ("lines/0/unit_price_minor", 10**12 + 1, "less_than_equal"),
        ("lines/0/sku", "", "string_too_short"),
        ("lines/0/sku", "S" * 65, "string_too_long"),
        ("lines/0/colour", "red", "unknown_field"),
        ("lines", [], "too_short"),
        ("customer/name", "Jamie\u202eelpmaxE", "forbidden_characters"),
        ("customer/name", "Jamie\x07", "forbidden_characters"),
        ("customer/name", "4111 1111 1111 1111", "card_number"),
        ("ship_to/lines", ["Card 5500-0055-5555-5559"], "card_number"),
        ("customer/email", "no-address", "email"),
        ("customer/email", "a\x00b@example.com", "forbidden_characters"),
        ("customer/name", "\ud800", "string_unicode"),
        ("ship_to/country", "us", "string_pattern_mismatch"),
        ("tenders/0/reference", "4111111111111111", "card_number"),
        ("ship_to/postal_code", "4111111111111111", "card_number"),
        ("customer/locale", "en-41111111-11111111", "card_number"),
        ("tenders/0/state", "captured", "unknown_value"),
        ("preferences", {"backorder": "perhaps"}, "unknown_value"),
        ("status", "confirmed", "unknown_field"),
    ],
)
async def test_a_wrong_field_is_named(desk: FrontDesk, path: str, value: Any, code: str) -> None:
    """The pointer leads to the field, the code is stable, and the value is not repeated."""
    storefront = await desk.known("storefront")
    refused = await storefront.post("/v1/orders", _changed(desk.order(("LAMP", 1)), path, value))
    assert refused.status_code == 422, refused.text
    error = refused.json()["errors"][0]
    assert error["code"] == code
    assert error["pointer"].startswith(f"/{path}")
    if isinstance(value, str) and len(value) > 10:
        assert value not in refused.text


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"channel": "no-such-channel"}, "unknown_channel"),
        ({"currency": "XXX"}, "unknown_currency"),
    ],
)
async def test_unknown_references_are_named(desk: FrontDesk, change: dict[str, str], code: str) -> None:
    """A channel that does not exist, a currency that is not in use."""
    storefront = await desk.known("storefront")
    refused = await storefront.post("/v1/orders", {**desk.order(("LAMP", 1)), **change})
    assert refused.status_code == 422
    assert code in {error["code"] for error in refused.json()["errors"]}


async def test_a_channel_that_is_switched_off_takes_no_orders(desk: FrontDesk) -> None:
    """`channel_disabled`, and nothing else is wrong."""
    await desk.shop.sql("INSERT INTO channels VALUES ('closed-shop', 'USD', false) ON CONFLICT DO NOTHING")
    storefront = await desk.caller("storefront", channels=["closed-shop"])
    refused = await storefront.post("/v1/orders", {**desk.order(("LAMP", 1)), "channel": "closed-shop"})
    assert [error["code"] for error in refused.json()["errors"]] == ["channel_disabled"]


async def test_an_order_of_1114_lines_is_taken_and_1501_are_not(desk: FrontDesk) -> None:
    """The longest invoice of the retail data fits; beyond 1,500 lines is refused by name."""
    storefront = await desk.known("storefront")
    longest = desk.order(*[("LAMP" if n % 2 else "MUG", 1) for n in range(1114)])
    await desk.shop.sql("UPDATE stock_levels SET on_hand = on_hand + 5000 WHERE sku LIKE 'LAMP-%' OR sku LIKE 'MUG-%'")
    taken = await storefront.post("/v1/orders", longest, {"prefer": "wait=20"})
    assert taken.status_code == 201, taken.text[:500]
    assert len(taken.json()["lines"]) == 1114
    refused = await storefront.post("/v1/orders", desk.order(*[("MUG", 1)] * 1501))
    assert refused.json()["errors"][0]["code"] == "too_long"


async def test_a_city_with_its_own_zone_wins_over_its_region(desk: FrontDesk) -> None:
    """The order carries the zone of the metropolis; the region is the fallback."""
    await desk.shop.sql(
        "INSERT INTO zones VALUES ('US-MA-new-bedford', 'US', 'MA', 'new-bedford', 41.6, -70.9, 'America/New_York')"
        " ON CONFLICT DO NOTHING"
    )
    body = desk.order(("LAMP", 1))
    body["ship_to"]["city"] = "New  Bedford"
    storefront = await desk.known("storefront")
    await storefront.post("/v1/orders", body, {"prefer": "respond-async"})
    rows = await desk.shop.sql(
        "SELECT place_order ->> 'zone_id' AS z FROM intake WHERE external_ref = :e", e=body["external_ref"]
    )
    assert rows == [{"z": "US-MA-new-bedford"}]
    assert city_key(ShipTo.model_validate(body["ship_to"])) == "new-bedford"


async def test_respond_async_answers_before_the_outcome(desk: FrontDesk) -> None:
    """202 with Location at once; the order is accepted all the same."""
    storefront = await desk.known("storefront")
    answer = await storefront.post("/v1/orders", desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["status"] == "received"

    async def confirmed() -> bool:
        found = (await storefront.get(answer.headers["location"])).json()
        return bool(found["status"] != "received")

    await eventually(confirmed)


async def test_one_customer_keeps_one_reference_in_a_channel(desk: FrontDesk) -> None:
    """The shop's own customer id always leads to the same opaque reference, and is not stored in the clear."""
    storefront = await desk.known("storefront")
    refs = []
    for _ in range(2):
        body = desk.order(("LAMP", 1))
        body["customer"]["external_ref"] = "CUSTOMER-CANARY-7"
        refs.append((await storefront.post("/v1/orders", body, {"prefer": "wait=15"})).json()["customer"]["ref"])
    assert refs[0] == refs[1]
    rows = await desk.shop.sql(
        "SELECT 1 FROM intake WHERE place_order::text LIKE '%CANARY%'"
        " UNION ALL SELECT 1 FROM customer_refs WHERE encode(external_hash, 'escape') LIKE '%CANARY%'"
    )
    assert rows == []


async def test_a_create_is_one_write_transaction_of_the_front_end(desk: FrontDesk) -> None:
    """Key, intake and vault are one commit; reading the snapshot commits nothing."""
    storefront = await desk.known("storefront")
    body = desk.order(("LAMP", 1))
    body["customer"]["external_ref"] = "known-customer"
    await storefront.post("/v1/orders", {**body, "external_ref": "warm-up"}, {"prefer": "wait=15"})
    commits = 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1

    engine = desk.app.state.front.engine.sync_engine
    event.listen(engine, "commit", count)
    try:
        answer = await storefront.post("/v1/orders", body, {"prefer": "wait=15", "idempotency-key": "one-commit"})
    finally:
        event.remove(engine, "commit", count)
    assert answer.status_code == 201
    assert commits == 1
