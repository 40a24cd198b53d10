"""Another address over HTTP: it goes to the vault before the order hears of it, and nowhere else."""

from typing import Any

from store.vault import open_vault
from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk

WAIT = {"prefer": "wait=15"}
CANARIES = ("Kingfisherin", "Wagtail Mews", "Dunnockham", "90124")
NEW: dict[str, Any] = {
    "name": "Kingfisherin Example",
    "lines": ["7 Wagtail Mews"],
    "city": "Dunnockham",
    "region": "MA",
    "postal_code": "90124",
    "country": "US",
}


def move(**changes: str) -> dict[str, Any]:
    """A change of the address."""
    return {"changes": [{"op": "set_ship_to", "ship_to": {**NEW, **changes}}]}


async def _vault(desk: FrontDesk, order_id: str) -> dict[str, Any]:
    async with desk.shop.engine.connect() as connection:
        content = await open_vault(connection, desk.app.state.front.vault, order_id)
    assert content is not None
    return content


async def _waiting(desk: FrontDesk, order_id: str) -> int:
    """Addresses that wait for a change of this order."""
    rows = await desk.shop.sql("SELECT 1 FROM vault_changes WHERE order_id = :o", o=order_id)
    return len(rows)


async def test_a_parcel_goes_to_the_new_address(desk: FrontDesk) -> None:
    """CAP-H01: tried first, nothing stays of that; done, the node that has the work stops and ships anew, to there."""
    # given
    order = await desk.place(("LAMP", 1))
    first = await desk.at_node(order["id"])
    service, storefront = await desk.known("service"), await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    plan = (await service.post(path, {**move(), "dry_run": True})).json()
    tried = await _waiting(desk, order["id"])
    done = await service.post(path, move(), WAIT)
    # then
    assert (plan["allowed"], tried) == (True, 0)
    assert plan["cost_of_change"]["nodes_asked"] == ["EAST"]
    assert done.status_code == 201, done.text
    assert done.json()["state"] == "confirmed"
    assert not [canary for canary in CANARIES if canary in done.text]
    vault = await _vault(desk, order["id"])
    assert vault["ship_to"] == NEW
    assert vault["customer"]["email"] == "jamie@example.com"
    assert await _waiting(desk, order["id"]) == 0
    shown = (await storefront.get(f"/v1/orders/{order['id']}")).json()["ship_to"]
    assert (shown["region"], shown["postal_code"]) == ("MA", "901**")

    async def again() -> dict[str, Any] | None:
        found = (await service.get(f"/v1/orders/{order['id']}")).json()["fulfillment_orders"]
        return next((part for part in found if part["id"] != first["id"] and part["state"] == "submitted"), None)

    part = await eventually(again)
    warehouse = await desk.caller("warehouse", nodes=["EAST"])
    to = (await warehouse.get(f"/v1/fulfillment-orders/{part['id']}")).json()["ship_to"]
    assert (to["name"], to["city"]) == ("Kingfisherin Example", "Dunnockham")


async def test_a_refused_change_leaves_the_old_address_and_keeps_nothing_of_the_new(desk: FrontDesk) -> None:
    """Too late for the storefront; the same request again meets the same refusal."""
    # given
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/amendments"
    key = {"idempotency-key": f"move-{order['id']}", **WAIT}
    # when
    answers = [await storefront.post(path, move(), key) for _ in range(2)]
    # then
    assert [(a.status_code, a.json()["reason"]) for a in answers] == [(409, "cut_off_passed")] * 2
    assert (await _vault(desk, order["id"]))["ship_to"]["city"] == "Cambridge"
    assert await _waiting(desk, order["id"]) == 0


async def test_a_declined_change_leaves_the_old_address(desk: FrontDesk) -> None:
    """The node that has the goods says it is too late: the parcel goes where it was going."""
    # given
    body = desk.order(("LAMP", 1))
    storefront, service = await desk.known("storefront"), await desk.known("service")
    order = (await storefront.post("/v1/orders", body, WAIT)).json()
    await desk.at_node(order["id"])
    desk.shop.simulation.set_control("warehouses.stop", "too_late", order["id"])
    # when
    answer = await service.post(f"/v1/orders/{order['id']}/amendments", move(), WAIT)
    # then
    assert (answer.status_code, answer.json()["reason"]) == (409, "node_too_late")
    assert (await _vault(desk, order["id"]))["ship_to"]["city"] == "Cambridge"
    assert await _waiting(desk, order["id"]) == 0


async def test_where_nothing_is_delivered_to_nothing_is_stored(desk: FrontDesk) -> None:
    """Unknown destination, an address that is none, two addresses at once: 422 or refused, and no trace."""
    # given
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    nowhere = await service.post(path, move(region="ZZ"), WAIT)
    tried = await service.post(path, {**move(region="ZZ"), "dry_run": True})
    broken = await service.post(path, move(country="Usa"), WAIT)
    twice = await service.post(path, {"changes": [*move()["changes"], *move(city="Boston")["changes"]]}, WAIT)
    # then
    assert [answer.status_code for answer in (nowhere, tried, broken, twice)] == [422, 422, 422, 409]
    (finding,) = nowhere.json()["errors"]
    assert (finding["pointer"], finding["code"]) == ("/changes/0/ship_to", "unknown_destination")
    assert twice.json()["reason"] == "conflicting_changes"
    assert not [canary for answer in (nowhere, broken, twice) for canary in CANARIES if canary in answer.text]
    assert await _waiting(desk, order["id"]) == 0


async def test_the_same_key_moves_once(desk: FrontDesk) -> None:
    """The repeat is the same change; another address under the key is refused, and not stored."""
    # given
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    key = {"idempotency-key": f"move-{order['id']}", **WAIT}
    # when
    first = await service.post(path, move(), key)
    second = await service.post(path, move(), key)
    other = await service.post(path, move(city="Boston"), key)
    # then
    assert (first.status_code, second.status_code, other.status_code) == (201, 201, 422)
    assert second.json()["id"] == first.json()["id"]
    assert len((await service.get(path)).json()["data"]) == 1
    assert (await _vault(desk, order["id"]))["ship_to"]["city"] == "Dunnockham"
    assert await _waiting(desk, order["id"]) == 0


async def test_whose_data_was_erased_is_not_moved(desk: FrontDesk) -> None:
    """There is no customer to ship to any more: refused by name, and nothing is stored."""
    # given
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    await desk.shop.sql("DELETE FROM customer_vault WHERE order_id = :o", o=order["id"])
    service = await desk.known("service")
    # when
    answer = await service.post(f"/v1/orders/{order['id']}/amendments", move(), WAIT)
    # then
    assert (answer.status_code, answer.json()["reason"]) == (409, "personal_data_erased")
    assert await desk.shop.sql("SELECT 1 FROM commands WHERE order_id = :o AND kind = 'amend'", o=order["id"]) == []


async def test_no_canary_of_a_new_address_leaves_the_vault(desk: FrontDesk) -> None:
    """One change done, one declined, one refused: no word of the address in any table, history or query."""
    # given
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    service, storefront = await desk.known("service"), await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/amendments"
    # when
    assert (await service.post(path, move(), WAIT)).status_code == 201
    assert (await storefront.post(path, {**move(), "reference": "pm_declined"}, WAIT)).status_code in (201, 409)
    handle = desk.shop.client.get_workflow_handle(f"order-{order['id']}")
    # then
    tables = await desk.shop.sql("SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        text = str(await desk.shop.sql(f"SELECT to_jsonb(x)::text AS j FROM {table['t']} x"))  # noqa: S608
        assert not [canary for canary in CANARIES if canary in text], table["t"]
    seen = (await handle.fetch_history()).to_json() + str(await handle.query("state"))
    events = "".join(
        event.SerializeToString().decode("utf-8", "replace") for event in (await handle.fetch_history()).events
    )
    listed = (await service.get(path)).text
    assert not [canary for canary in CANARIES if canary in seen + events + listed]


async def test_an_address_waits_with_its_command_while_nobody_works(idle_desk: FrontDesk) -> None:
    """202: stored with the command in one transaction, sealed; it goes when the command ends otherwise."""
    # given
    shop = idle_desk.shop
    storefront, service = await idle_desk.known("storefront"), await idle_desk.known("service")
    taken = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)))
    assert taken.status_code == 202
    order_id = taken.json()["id"]
    # when
    answer = await service.post(f"/v1/orders/{order_id}/amendments", move(), {"prefer": "wait=1"})
    # then
    assert answer.status_code == 202, answer.text
    (row,) = await shop.sql("SELECT command_id, sealed FROM vault_changes WHERE order_id = :o", o=order_id)
    assert not [canary for canary in CANARIES if canary.encode() in bytes(row["sealed"])]
    (command,) = await shop.sql("SELECT state, payload FROM commands WHERE order_id = :o", o=order_id)
    assert command["state"] == "received"
    assert command["payload"]["changes"] == [
        {"op": "set_ship_to", "country": "US", "region": "MA", "zone_id": "US-MA", "tax": None}
    ]
