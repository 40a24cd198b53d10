"""Name, address and e-mail are in the vault and nowhere else."""

import json

import pytest
import structlog

from store.vault import VaultLocked, open_vault, seal, unseal
from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk

CANARIES = ("Canarina", "Vogelweg", "canarina@example.com", "98765-4321")
"""With letters or a dash that no digest, sealed byte or time of day can show by chance."""
RING = ((2, b"2" * 32), (1, b"1" * 32))


async def test_no_canary_leaves_the_vault(desk: FrontDesk) -> None:
    """A cancelled order with canaries: none in any table but the vault's sealed bytes, none in the history."""
    body = desk.order(("LAMP", 1))
    body["customer"] = {"external_ref": "Canarina-1", "name": "Canarina Bird", "email": "canarina@example.com"}
    body["ship_to"] = {**body["ship_to"], "name": "Canarina Bird", "lines": ["1 Vogelweg"], "postal_code": "98765-4321"}
    storefront = await desk.known("storefront")
    order = (await storefront.post("/v1/orders", body, {"prefer": "wait=15"})).json()
    part = await desk.packed(order["id"])
    assert part["ship_to"]["postal_code"] == "98765-4321"  # the node was shown where it goes
    await storefront.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, {"prefer": "wait=15"})
    tables = await desk.shop.sql(
        "SELECT table_name AS t FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    for table in tables:
        text = str(await desk.shop.sql(f"SELECT to_jsonb(x)::text AS j FROM {table['t']} x"))  # noqa: S608
        assert not [canary for canary in CANARIES if canary in text], table["t"]

    async def closed() -> bool:
        description = await desk.shop.client.get_workflow_handle(f"order-{order['id']}").describe()
        return bool(description.status and description.status.name == "COMPLETED")

    await eventually(closed)
    history = await desk.shop.client.get_workflow_handle(f"order-{order['id']}").fetch_history()
    assert not [canary for canary in CANARIES if canary in history.to_json()]


async def test_a_node_gets_the_address_of_its_own_work_and_of_nothing_else(desk: FrontDesk) -> None:
    """The whole ship-to for the node that ships, uncached; masked or coarse for others; in no list, no log."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    path = f"/v1/fulfillment-orders/{part['id']}"
    own, other = await desk.caller("warehouse", nodes=["EAST"]), await desk.caller("warehouse", nodes=["WEST"])
    with structlog.testing.capture_logs() as logs:
        shown = await own.get(path)
        listed = json.dumps(await own.all_of("/v1/fulfillment-orders?node=EAST&limit=200"))
    assert shown.json()["ship_to"] == {
        "name": "Jamie Example",
        "lines": ["1 Sample Street"],
        "city": "Cambridge",
        "postal_code": "02139",
        "region": "MA",
        "country": "US",
    }
    assert shown.headers["cache-control"] == "no-store"
    assert "jamie@" not in shown.text
    assert part["id"] in listed
    for place in (listed, json.dumps(logs)):
        assert not [word for word in ("Jamie", "Sample Street", "02139", "ship_to") if word in place]
    assert (await other.get(path)).status_code == 404
    coarse = {"region": "MA", "country": "US"}
    for role, seen in (("ops", {**coarse, "postal_code": "021**"}), ("auditor", coarse)):
        assert (await (await desk.known(role)).get(path)).json()["ship_to"] == seen


async def test_the_vault_opens_for_the_moment_of_use(desk: FrontDesk) -> None:
    """With the ring of the installation the sealed data is what was sent; an unknown order has none."""
    order = await desk.place(("LAMP", 1))
    ring = desk.app.state.front.vault
    async with desk.shop.engine.connect() as connection:
        content = await open_vault(connection, ring, order["id"])
        assert content is not None
        assert content["ship_to"]["lines"] == ["1 Sample Street"]
        assert await open_vault(connection, ring, "ord_none") is None
        with pytest.raises(VaultLocked):
            await open_vault(connection, ((1, b"x" * 32),), order["id"])


def test_a_sealed_row_cannot_be_moved_or_changed() -> None:
    """Another order, another customer, a changed byte, a missing key: locked."""
    row = seal(RING, "ord_1", "cus_1", {"customer": {"name": "Jamie"}})
    assert unseal(RING, "ord_1", "cus_1", row) == {"customer": {"name": "Jamie"}}
    assert row.key_version == 2
    assert b"Jamie" not in row.sealed
    changed = row._replace(sealed=row.sealed[:-1] + bytes([row.sealed[-1] ^ 1]))
    for order_id, customer_ref, wrong in (
        ("ord_2", "cus_1", row),
        ("ord_1", "cus_2", row),
        ("ord_1", "cus_1", changed),
        ("ord_1", "cus_1", row._replace(key_version=9)),
    ):
        with pytest.raises(VaultLocked):
            unseal(RING, order_id, customer_ref, wrong)
    with pytest.raises(VaultLocked):
        seal((), "ord_1", "cus_1", {})


def test_an_old_key_opens_what_it_sealed() -> None:
    """Rotation: the first key seals, all of them open."""
    old = seal(RING[1:], "ord_1", "cus_1", {"a": 1})
    assert old.key_version == 1
    assert unseal(RING, "ord_1", "cus_1", old) == {"a": 1}
