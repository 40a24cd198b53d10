"""What a run of the retail demo will do: which orders, to whom, from which stock, and what goes wrong.

Everything is drawn from the seed and the invoice's own number, so the same seed plans the same run.
"""

import gzip
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from cli import network
from cli.bodies import address
from domain.retail import Invoice, Match, RetailFile, match_cancellations, read_retail

CHANNEL = "retail-uk"
CURRENCY = network.CHANNELS[CHANNEL]
STOCK_FACTOR_PERCENT = 110
NODE_PROBABILITY = 0.5

# Share of orders whose payment does something else than go through, summed up from below.
PAYMENTS = (
    (0.020, "pm_decline_once"),  # declined, then paid by another reference
    (0.030, "pm_declined"),  # declined; the customer gives up
    (0.040, "pm_timeout"),  # authorized, the reply is lost
    (0.045, "pm_lost"),  # the request is lost
    (0.050, "pm_slow"),  # a second late
)
PAYS = "pm_ok"


class Moment(StrEnum):
    """When a customer cancels or wishes for something else."""

    AT_ONCE = "at_once"  # as soon as the order is answered
    IN_FLIGHT = "in_flight"  # within its first seconds
    AT_NODE = "at_node"  # once a node begins to pack: its answer decides
    ON_ITS_WAY = "on_its_way"  # once a parcel has left: refused for what is in it
    LATE = "late"  # once it has ended: must be refused


@dataclass(frozen=True)
class PlannedCancel:
    """A cancellation invoice to send at a moment of the order's life, `after_s` seconds later.

    `lines` are line number and units; none for the whole order.
    """

    invoice: str
    moment: Moment
    after_s: float = 0.0
    lines: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class PlannedAmendment:
    """Another quantity of one line, wished for at a moment of the order's life, `after_s` seconds later.

    The invoices know nothing of such wishes: they are drawn.
    """

    line: int
    quantity: int
    moment: Moment
    after_s: float = 0.0


PlannedChange = PlannedCancel | PlannedAmendment
"""What a customer changes their mind about. Another kind of change becomes a class of its own and joins here."""


@dataclass(frozen=True)
class PlannedOrder:
    """One order to place, and how the customer's mind changes."""

    invoice: str
    key: str
    body: dict[str, Any]
    reference: str
    changes: tuple[PlannedChange, ...] = ()

    @property
    def units(self) -> int:
        """Units over all lines."""
        return sum(line["quantity"] for line in self.body["lines"])


@dataclass(frozen=True)
class RetailPlan:
    """Everything that a run needs."""

    run_id: str
    orders: tuple[PlannedOrder, ...]
    names: dict[str, str]
    counts: tuple[tuple[str, str, int], ...]
    matches: dict[str, int]
    file: RetailFile


def read_file(path: Path) -> RetailFile:
    """Read a retail file, plain or gzip."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
            return read_retail(lines)
    with path.open(encoding="utf-8", errors="replace") as lines:
        return read_retail(lines)


def make_plan(
    file: RetailFile, *, run_id: str, seed: int, limit: int | None, start: date | None, amend_share: float = 0.0
) -> RetailPlan:
    """Choose sales in the order of the file and plan their orders, changes of mind and stock.

    `amend_share` is the share of orders whose customer wishes for another quantity of a line.
    """
    chosen = [sale for sale in file.sales if start is None or sale.placed_at.date() >= start][:limit]
    matches = _matches(file, chosen)
    backs: dict[str | None, list[Match]] = defaultdict(list)
    for match in matches:
        backs[match.sale].append(match)
    skus = sorted({line.sku for sale in chosen for line in sale.lines})
    return RetailPlan(
        run_id=run_id,
        orders=tuple(_order(sale, run_id, seed, backs[sale.number], amend_share) for sale in chosen),
        names={sku: file.names[sku] for sku in skus},
        counts=tuple(opening_stock(chosen, seed)),
        matches=dict(Counter(match.state.value for match in matches)),
        file=file,
    )


def opening_stock(sales: Iterable[Invoice], seed: int) -> Iterable[tuple[str, str, int]]:
    """Counts as (SKU, node, units): 1.1 times the demand, spread over each node with probability one half.

    A node that holds a SKU holds at least its largest sale: in a small file the demand of most items is one
    sale, and stock scattered in single units would split every order.
    """
    demand: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for sale in sales:
        demand.update(sale.units_by_sku)
        largest |= Counter(sale.units_by_sku)
    node_ids = [node.node_id for node in network.nodes()]
    for sku in sorted(demand):
        dice = random.Random(f"{seed}/stock/{sku}")  # noqa: S311 - a seeded plan
        holders = [node for node in node_ids if dice.random() < NODE_PROBABILITY] or [dice.choice(node_ids)]
        units = math.ceil(demand[sku] * STOCK_FACTOR_PERCENT / 100)
        for place, node in enumerate(holders):
            share = units // len(holders) + (place < units % len(holders))
            yield sku, node, max(share, largest[sku])


def _matches(file: RetailFile, chosen: Sequence[Invoice]) -> list[Match]:
    """Cancellations of the chosen sales; which sale each one means is decided over the whole file."""
    numbers = {sale.number for sale in chosen}
    return [match for match in match_cancellations(file.sales, file.cancellations) if match.sale in numbers]


def _order(sale: Invoice, run_id: str, seed: int, backs: Sequence[Match], amend_share: float) -> PlannedOrder:
    dice = random.Random(f"{seed}/order/{sale.number}")  # noqa: S311 - a seeded plan
    draw = dice.random()
    reference = next((name for limit, name in PAYMENTS if draw < limit), PAYS)
    key = f"{run_id}-{sale.number}"
    return PlannedOrder(
        invoice=sale.number,
        key=key,
        body=_body(sale, key, seed, reference),
        reference=reference,
        changes=(*(_cancel(match, seed) for match in backs), *_amendments(sale, seed, amend_share)),
    )


def _cancel(match: Match, seed: int) -> PlannedCancel:
    dice = random.Random(f"{seed}/cancel/{match.cancellation}")  # noqa: S311 - a seeded plan
    return PlannedCancel(match.cancellation, *_moment(dice), match.lines)


def _amendments(sale: Invoice, seed: int, share: float) -> tuple[PlannedAmendment, ...]:
    """One line gets a unit more, or half of its units."""
    dice = random.Random(f"{seed}/amend/{sale.number}")  # noqa: S311 - a seeded plan
    if dice.random() >= share:
        return ()
    number = dice.randrange(len(sale.lines))
    quantity = sale.lines[number].quantity
    wanted = dice.choice([quantity + 1, quantity + 1, quantity // 2])
    return (PlannedAmendment(number + 1, wanted, *_moment(dice)),)


def _moment(dice: random.Random) -> tuple[Moment, float]:
    """When somebody changes their mind: the moment, and so many seconds later."""
    moment = dice.choice(list(Moment))
    return moment, dice.uniform(0.1, 1.0) if moment is Moment.IN_FLIGHT else 0.0


def _body(sale: Invoice, key: str, seed: int, reference: str) -> dict[str, Any]:
    total = sale.items_minor + sale.shipping_minor
    who = f"Customer {sale.customer}" if sale.customer else "Guest"
    customer: dict[str, Any] = {"name": who}
    if sale.customer:
        customer["external_ref"] = sale.customer
    return {
        "channel": CHANNEL,
        "external_ref": key,
        "currency": CURRENCY,
        "customer": customer,
        "ship_to": address(_city(sale, seed), who),
        "lines": [
            {"sku": line.sku, "quantity": line.quantity, "unit_price_minor": line.unit_price_minor}
            for line in sale.lines
        ],
        "shipping": {"price_minor": sale.shipping_minor},
        "tenders": [{"provider": "simulated", "reference": reference, "state": "to_authorize", "amount_minor": total}],
        "total_minor": total,
    }


def _city(sale: Invoice, seed: int) -> network.City:
    """Where the customer lives: drawn by population, the same for every order of one customer."""
    dice = random.Random(f"{seed}/city/{sale.customer or sale.number}")  # noqa: S311 - a seeded plan
    cities = network.cities()
    return dice.choices(cities, weights=[city.population for city in cities])[0]
