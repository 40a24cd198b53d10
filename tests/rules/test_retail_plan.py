"""What a retail run plans: the same seed plans the same, stock covers the demand, amounts add up."""

import gzip
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from cli import network
from cli.bodies import WantedError, find_city, order_body, parse_wanted
from cli.retail_plan import CHANNEL, PAYS, Moment, PlannedAmendment, RetailPlan, make_plan, opening_stock, read_file
from domain.retail import RetailFormatError, read_retail

EXTRACT = Path(__file__).parents[2] / "cli" / "data" / "retail-extract.csv.gz"


def plan(seed: int = 1, limit: int | None = None, start: date | None = None, run_id: str = "run") -> RetailPlan:
    """A plan for the committed extract."""
    return make_plan(read_file(EXTRACT), run_id=run_id, seed=seed, limit=limit, start=start)


def test_the_same_seed_plans_the_same_run() -> None:
    """Another seed draws other cities, payments and stock."""
    assert plan(seed=3) == plan(seed=3)
    assert plan(seed=3).orders != plan(seed=4).orders
    assert plan(seed=3).counts != plan(seed=4).counts


def test_every_body_adds_up_and_goes_to_a_known_city() -> None:
    """Lines and carriage sum to the total, which the tender covers."""
    known = {(city.name, city.region) for city in network.cities()}
    orders = plan().orders
    assert len(orders) == 51
    for order in orders:
        body = order.body
        items = sum(line["quantity"] * line["unit_price_minor"] for line in body["lines"])
        assert items + body["shipping"]["price_minor"] == body["total_minor"] > 0
        assert [tender["amount_minor"] for tender in body["tenders"]] == [body["total_minor"]]
        assert (body["ship_to"]["city"], body["ship_to"]["region"]) in known
        assert (body["channel"], body["currency"]) == (CHANNEL, "GBP")


def test_a_run_names_its_orders() -> None:
    """Two runs place different orders, the same run places none twice."""
    assert {order.key for order in plan(run_id="a").orders}.isdisjoint(order.key for order in plan(run_id="b").orders)
    assert len({order.key for order in plan().orders}) == 51


def test_a_customer_has_one_address() -> None:
    """Orders of one customer go to one city."""
    cities: dict[str, set[str]] = {}
    for order in plan().orders:
        customer = order.body["customer"].get("external_ref")
        if customer:
            cities.setdefault(customer, set()).add(order.body["ship_to"]["city"])
    assert len(cities) < 48  # there are customers with more than one order
    assert all(len(found) == 1 for found in cities.values())


@pytest.mark.parametrize("seed", range(5))
def test_the_opening_stock_covers_the_demand(seed: int) -> None:
    """At least 1.1 times what is ordered, at nodes that exist, and every holder can serve the largest sale."""
    sales = read_file(EXTRACT).sales
    demand: Counter[str] = Counter()
    for sale in sales:
        demand.update(sale.units_by_sku)
    stock: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    nodes = {node.node_id for node in network.nodes()}
    for sku, node, units in opening_stock(sales, seed):
        assert node in nodes
        assert units >= max(sale.units_by_sku.get(sku, 0) for sale in sales)
        stock[sku] += units
        holders[sku] += 1
    assert set(stock) == set(demand)
    assert all(stock[sku] * 100 >= demand[sku] * 110 for sku in demand)
    assert 4.5 < sum(holders.values()) / len(holders) < 5.5


def test_whole_cancellations_are_planned_and_others_are_counted() -> None:
    """Seven sales of the extract were taken back as a whole."""
    planned = plan()
    assert planned.matches == {"whole": 7}
    cancelled = {order.invoice for order in planned.orders if order.changes}
    assert cancelled == {"537217", "537410", "538313", "538534", "539109", "540842", "541431"}
    changes = [change for seed in range(20) for order in plan(seed=seed).orders for change in order.changes]
    assert {change.moment for change in changes} == set(Moment)
    assert {change.lines for change in changes} == {()}


def test_a_partial_cancellation_names_line_and_units() -> None:
    """Three of six units are taken back by an invoice of its own."""
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    rows = ["1,85123A,LAMP,6,2010-12-01 08:00:00,2.55,17850,UK", "C2,85123A,LAMP,-3,2010-12-02 08:00:00,2.55,17850,UK"]
    found = make_plan(read_retail([head, *rows]), run_id="r", seed=1, limit=None, start=None)
    assert found.matches == {"partial": 1}
    assert [(change.invoice, change.lines) for change in found.orders[0].changes] == [("C2", ((1, 3),))]


def test_a_share_of_the_customers_wishes_for_another_quantity() -> None:
    """Another quantity of a line that the order has, at most one wish per order; none unless asked for."""
    wishes = make_plan(read_file(EXTRACT), run_id="run", seed=1, limit=None, start=None, amend_share=0.5)
    drawn = [(order, c) for order in wishes.orders for c in order.changes if isinstance(c, PlannedAmendment)]
    assert 10 < len(drawn) < 40
    for order, wish in drawn:
        ordered = order.body["lines"][wish.line - 1]["quantity"]
        assert wish.quantity in (ordered + 1, ordered // 2)
    assert not any(isinstance(change, PlannedAmendment) for order in plan().orders for change in order.changes)


def test_limit_and_first_day_choose_in_the_order_of_the_file() -> None:
    """The stock is counted for the chosen sales only."""
    assert [order.invoice for order in plan(limit=3).orders] == ["536365", "536366", "536367"]
    late = plan(start=date(2010, 12, 10))
    assert late.orders[0].invoice == "538313"
    assert {sku for sku, _, _ in late.counts} == set(late.names) < set(plan().names)


def test_some_payments_go_wrong() -> None:
    """About one in twenty is declined, lost or late; every way is met within a few seeds."""
    references = Counter(order.reference for seed in range(40) for order in plan(seed=seed).orders)
    assert set(references) == {PAYS, "pm_decline_once", "pm_declined", "pm_timeout", "pm_lost", "pm_slow"}
    share = 1 - references[PAYS] / references.total()
    assert 0.03 < share < 0.07


def test_plain_and_packed_files_read_the_same(tmp_path: Path) -> None:
    """What is no retail file is refused by name."""
    plain = tmp_path / "retail.csv"
    plain.write_bytes(gzip.decompress(EXTRACT.read_bytes()))
    assert read_file(plain) == read_file(EXTRACT)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RetailFormatError, match="InvoiceNo"):
        read_file(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("text", "sku", "quantity", "price"),
    [("LAMP-OAK", "LAMP-OAK", 1, 4500), ("LAMP-OAK:2", "LAMP-OAK", 2, 4500), ("X:3@7", "X", 3, 7), ("X@0", "X", 1, 0)],
)
def test_a_line_is_typed_as_sku_quantity_and_price(text: str, sku: str, quantity: int, price: int) -> None:
    """Items of the demo need no price."""
    wanted = parse_wanted(text)
    assert (wanted.sku, wanted.quantity, wanted.price_minor) == (sku, quantity, price)


@pytest.mark.parametrize("text", ["", ":2", "LAMP-OAK:x", "LAMP-OAK:-1", "LAMP-OAK:1@1.5", "UNKNOWN", "UNKNOWN:2"])
def test_a_line_that_cannot_be_read_is_refused(text: str) -> None:
    """The text says how it is written."""
    with pytest.raises(WantedError, match="like"):
        parse_wanted(text)


def test_a_city_is_found_by_name() -> None:
    """A state tells two cities of one name apart; an unknown one is refused."""
    assert find_city("boston").zone_id == "US-MA-boston"
    assert find_city("Columbus, OH").region == "OH"
    for name in ("Columbus, TX", "Atlantis"):
        with pytest.raises(WantedError, match="99 cities"):
            find_city(name)


def test_an_order_from_options_adds_up() -> None:
    """Shipping is part of the total."""
    body = order_body([parse_wanted("LAMP-OAK:2"), parse_wanted("X:1@5")], find_city("Boston"), shipping_minor=900)
    assert body["total_minor"] == 2 * 4500 + 5 + 900 == body["tenders"][0]["amount_minor"]
