"""An API in the test's own process, over the real database and the real engine, and callers of every role."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI
from temporalio.client import Client

from api.app import RETRY, create_app
from api.credentials import digest, mint
from api.limits import Limits
from settings import Settings
from store.keys import put_key
from tests.support.eventually import eventually
from tests.support.shop import Shop
from tests.support.stack import Site

AT = "2026-11-24T10:00:00Z"
UNLIMITED = Limits(requests_per_s=0)
_COUNT = itertools.count(1)


@dataclass
class Caller:
    """Somebody with a credential."""

    http: httpx2.AsyncClient
    credential: str

    async def get(self, path: str, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        """GET as this caller."""
        return await self.http.get(path, headers=self._headers(headers), **options)

    async def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        """POST as this caller; `body` is sent as JSON unless `content` is given."""
        if "content" in options:
            options.setdefault("headers", {})
            given = {"content-type": "application/json", **(headers or {})}
            return await self.http.post(path, headers=self._headers(given), content=options["content"])
        given = {"content-type": "application/json", **(headers or {})}
        return await self.http.post(path, content=json.dumps(body).encode(), headers=self._headers(given))

    async def all_of(self, path: str) -> list[dict[str, Any]]:
        """Every entry of a list, page after page. A list that has pages is asked with a query already."""
        entries: list[dict[str, Any]] = []
        following: str | None = ""
        while following is not None:
            answer = await self.get(path + (f"&cursor={following}" if following else ""))
            assert answer.status_code == 200, answer.text
            entries += answer.json()["data"]
            following = answer.json().get("next_cursor")
        return entries

    async def call(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Any method."""
        return await self.http.request(method, path, json=body, headers=self._headers(None))

    def _headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        known = {"authorization": f"Bearer {self.credential}"} if self.credential else {}
        return {**known, **(headers or {})}


@dataclass
class FrontDesk:
    """The API under test, a shop behind it, and its callers."""

    app: FastAPI
    http: httpx2.AsyncClient
    shop: Shop
    pepper: bytes
    callers: dict[str, Caller] = field(default_factory=dict)

    async def caller(
        self, *roles: str, channels: Sequence[str] | None = None, nodes: Sequence[str] | None = None
    ) -> Caller:
        """A program with these roles, for the shop's channel and for all nodes unless told otherwise."""
        minted = mint("test")
        wanted = [self.shop.channel] if channels is None else list(channels)
        at = ["*"] if nodes is None else list(nodes)
        if not {"storefront", "service", "warehouse"} & set(roles):
            wanted, at = list(channels or ()), list(nodes or ())
        async with self.shop.engine.begin() as connection:
            stored = digest(minted.text, self.pepper)
            await put_key(connection, minted.key_id, stored, f"{roles}", list(roles), wanted, at)
        return Caller(self.http, minted.text)

    async def known(self, role: str) -> Caller:
        """The one caller of this role that tests share."""
        if role not in self.callers:
            self.callers[role] = await self.caller(role)
        return self.callers[role]

    def order(self, *lines: tuple[str, int], pay: str = "pm_ok", **changes: Any) -> dict[str, Any]:
        """A body of createOrder: (item, units) at 10.00 each, plus 5.00 shipping."""
        number = next(_COUNT)
        total = sum(quantity for _, quantity in lines) * 1000 + 500
        return {
            "channel": self.shop.channel,
            "external_ref": f"W-{number}",
            "currency": "USD",
            "customer": {"external_ref": f"C-{number}", "name": "Jamie Example", "email": "jamie@example.com"},
            "ship_to": {
                "name": "Jamie Example",
                "lines": ["1 Sample Street"],
                "city": "Cambridge",
                "region": "MA",
                "postal_code": "02139",
                "country": "US",
            },
            "lines": [
                {"sku": self.shop.sku(name), "quantity": quantity, "unit_price_minor": 1000} for name, quantity in lines
            ],
            "shipping": {"price_minor": 500},
            "tenders": [{"reference": pay, "amount_minor": total}],
            "total_minor": total,
            **changes,
        }

    async def place(self, *lines: tuple[str, int], **options: Any) -> dict[str, Any]:
        """Place an order and get its snapshot; it must be accepted."""
        storefront = await self.known("storefront")
        answer = await storefront.post("/v1/orders", self.order(*lines, **options), {"prefer": "wait=15"})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def becomes(self, order_id: str, **wanted: Any) -> dict[str, Any]:
        """Wait until the snapshot says so."""
        ops = await self.known("ops")

        async def so() -> dict[str, Any] | None:
            found: dict[str, Any] = (await ops.get(f"/v1/orders/{order_id}")).json()
            return found if all(found.get(name) == value for name, value in wanted.items()) else None

        return await eventually(so)

    async def at_node(self, order_id: str, state: str = "submitted") -> dict[str, Any]:
        """Wait until the order's first fulfillment order is in this state, and the order itself knows it."""
        ops = await self.known("ops")
        workflow = self.shop.client.get_workflow_handle(f"order-{order_id}")

        async def so() -> dict[str, Any] | None:
            found: dict[str, Any] = (await ops.get(f"/v1/orders/{order_id}")).json()
            parts = found.get("fulfillment_orders", [])
            if not parts or parts[0]["state"] != state:
                return None
            known = await workflow.query("state")
            return parts[0] if known["fulfillments"][parts[0]["id"]]["state"] == state else None

        return await eventually(so)

    async def report(self, fulfillment_id: str, kind: str, report_id: str = "") -> dict[str, Any]:
        """A node reports; the status is in the answer."""
        warehouse = await self.known("warehouse")
        body = {"report_id": report_id or f"{fulfillment_id}-{kind}", "kind": kind, "occurred_at": AT}
        path = f"/v1/fulfillment-orders/{fulfillment_id}/reports"
        answer = await warehouse.post(path, body, {"prefer": "wait=15"})
        return {"status": answer.status_code, **answer.json()}

    async def labelled(self, fulfillment_id: str) -> dict[str, Any]:
        """Wait until the parcel has its tracking number."""
        warehouse = await self.known("warehouse")

        async def look() -> dict[str, Any] | None:
            found: dict[str, Any] = (await warehouse.get(f"/v1/fulfillment-orders/{fulfillment_id}")).json()
            return found if found["tracking_number"] else None

        return await eventually(look)

    async def packed(self, order_id: str) -> dict[str, Any]:
        """The order's one fulfillment order, packed and with a label."""
        part = await self.at_node(order_id)
        assert (await self.report(part["id"], "packed"))["status"] == 201
        return await self.labelled(part["id"])


@asynccontextmanager
async def open_front(
    settings: Settings, client: Client, shop: Shop, limits: Limits = UNLIMITED
) -> AsyncIterator[FrontDesk]:
    """The API with its connections, as the product composes it."""
    app = create_app(settings, limits, client)
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://front", timeout=30) as http,
    ):
        yield FrontDesk(app, http, shop, settings.pepper)


async def front_client(site: Site) -> Client:
    """A client with the API's own retry rules."""
    return await site.connect(lazy=True, retry_config=RETRY)
