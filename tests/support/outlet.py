"""An outlet: real API and worker processes, a shop's stock behind them, and orders over HTTP."""

from dataclasses import dataclass
from typing import Any

from cli.client import AccordClient
from providers.payments.simulated import SimulatedPayments
from providers.simulation import Simulation
from store.checks import Checked, ProviderObject, run_checks
from store.engine import make_engine
from tests.support.shop import Shop
from tests.support.stack import RunningProcess, Site


@dataclass
class Outlet:
    """Processes of one site, and the shop whose stock they sell."""

    site: Site
    shop: Shop
    api: RunningProcess
    worker: RunningProcess

    @classmethod
    async def opens(cls, site: Site, **stock: int) -> "Outlet":
        """Start a worker and an API; `stock` is put on hand as LAMP per node."""
        engine = make_engine(site.settings().dsn, 4)
        shop = await Shop(await site.connect(), engine, Simulation(site.simulated_state)).opens()
        await shop.stocks("LAMP", **stock)
        return cls(site, shop, site.start_api(), site.start_worker())

    def client(self, role: str, patience_s: float = 120) -> AccordClient:
        """A client of the API in a role; it repeats what did not get an answer."""
        return AccordClient(self.api.url, self.site.keys[role], patience_s=patience_s, connections=64)

    def body(self, quantity: int = 1, reference: str = "pm_ok") -> dict[str, Any]:
        """An order of lamps to Boston at 10.00 each."""
        total = quantity * 1000
        return {
            "channel": self.shop.channel,
            "currency": "USD",
            "customer": {"external_ref": "C-1", "name": "Jamie Example", "email": "jamie@example.com"},
            "ship_to": {
                "name": "Jamie Example",
                "lines": ["1 Sample Street"],
                "city": "Boston",
                "region": "MA",
                "postal_code": "02139",
                "country": "US",
            },
            "lines": [{"sku": self.shop.sku("LAMP"), "quantity": quantity, "unit_price_minor": 1000}],
            "tenders": [
                {"provider": "simulated", "reference": reference, "state": "to_authorize", "amount_minor": total}
            ],
            "total_minor": total,
        }

    async def open_orders(self) -> int:
        """Orders that were accepted and have not ended."""
        rows = await self.shop.sql("SELECT count(*) AS n FROM orders WHERE NOT terminal")
        unheard = await self.shop.sql("SELECT count(*) AS n FROM intake WHERE state = 'received'")
        return int(rows[0]["n"]) + int(unheard[0]["n"])

    async def check(self, known: list[ProviderObject] | None = None) -> Checked:
        """All laws on one snapshot of the database, against what the payment provider really did."""

        async def listing() -> list[ProviderObject]:
            return known if known is not None else await self.provider_objects()

        return await run_checks(self.shop.engine, listing)

    async def provider_objects(self) -> list[ProviderObject]:
        """What the simulated payment provider has on its books."""
        return await provider_objects(self.shop.simulation)

    async def closes(self) -> None:
        """End the processes and the connections."""
        self.api.stop()
        self.worker.stop()
        await self.shop.engine.dispose()


async def provider_objects(simulation: Simulation) -> list[ProviderObject]:
    """Everything that the simulated payment provider has on its books."""
    found: list[ProviderObject] = []
    after: str | None = None
    provider = SimulatedPayments(simulation)
    while page := await provider.objects(after, 500):
        found += [
            ProviderObject(o.key, o.order_id, o.kind, o.provider_ref, o.amount_minor, o.currency, o.state) for o in page
        ]
        after = page[-1].provider_ref
    return found
