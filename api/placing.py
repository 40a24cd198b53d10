"""From a storefront's body to the order that enters the workflow; everything that is wrong, at once."""

from collections.abc import Callable
from datetime import datetime

from api.problems import Finding, Problem, invalid
from api.schemas import CreateOrder, ShipTo
from domain.ids import OrderId, Sku, TenderId, derived_id
from domain.money import UnknownCurrency, currency_digits
from domain.orders import MAX_MINOR, OrderLine, PlaceOrder, TenderAsk
from store.intake import OrderFacts

MAX_UNITS = 1_000_000


def city_key(address: ShipTo) -> str:
    """The city as metropolitan zones name it: small letters, words joined by hyphens."""
    return "-".join(address.city.casefold().split())


def check_order(body: CreateOrder, facts: OrderFacts) -> None:
    """Check sums, references and destination.

    Raises:
        Problem: `validation` with every finding.
    """
    checks: tuple[Callable[[CreateOrder, OrderFacts], list[Finding]], ...] = (
        _channel,
        _number,
        _replaced,
        _lines,
        _total,
        _tenders,
        _destination,
    )
    findings = [finding for check in checks for finding in check(body, facts)]
    if findings:
        raise invalid(findings)


def _channel(body: CreateOrder, facts: OrderFacts) -> list[Finding]:
    findings = []
    try:
        currency_digits(body.currency)
    except UnknownCurrency as problem:
        findings.append(Finding("/currency", problem.code, str(problem)))
    if facts.currency is None:
        findings.append(Finding("/channel", "unknown_channel", "there is no such sales channel"))
    elif not facts.enabled:
        findings.append(Finding("/channel", "channel_disabled", "this sales channel takes no orders"))
    elif facts.currency != body.currency:
        text = f"this channel sells in {facts.currency}"
        findings.append(Finding("/currency", "currency_mismatch", text))
    return findings


def _number(_: CreateOrder, facts: OrderFacts) -> list[Finding]:
    if not facts.number_taken:
        return []
    return [Finding("/order_number", "order_number_taken", "another order of this channel has this number")]


def _replaced(body: CreateOrder, facts: OrderFacts) -> list[Finding]:
    at, earlier = "/replaces_order", facts.replaced
    if body.replaces_order is None:
        return []
    if earlier is None:
        return [Finding(at, "unknown_order", "this channel has no such order, or it is not yours")]
    if not earlier.answered:
        return [Finding(at, "order_not_answered", "that order is still being taken in; its answer comes first")]
    named = body.customer.external_ref is not None
    if named and earlier.customer_known and facts.customer_ref != earlier.customer_ref:
        return [Finding(at, "other_customer", "that order is of another customer")]
    return []


def _lines(body: CreateOrder, facts: OrderFacts) -> list[Finding]:
    findings = []
    for position, line in enumerate(body.lines):
        at = f"/lines/{position}"
        if line.sku in facts.unknown_skus:
            findings.append(Finding(f"{at}/sku", "unknown_sku", "there is no such item, or it is not sold"))
        if line.discount_minor > line.quantity * line.unit_price_minor:
            text = f"more than the line's {line.quantity * line.unit_price_minor}"
            findings.append(Finding(f"{at}/discount_minor", "discount_exceeds_line", text))
        if line.quantity * line.unit_price_minor > MAX_MINOR:
            findings.append(Finding(at, "amount_too_large", f"a line is at most {MAX_MINOR} minor units"))
    if sum(line.quantity for line in body.lines) > MAX_UNITS:
        findings.append(Finding("/lines", "too_many_units", f"an order has at most {MAX_UNITS} units"))
    return findings


def _total(body: CreateOrder, _: OrderFacts) -> list[Finding]:
    lines = sum(line.quantity * line.unit_price_minor - line.discount_minor + line.tax_minor for line in body.lines)
    total = lines + body.shipping.price_minor + body.shipping.tax_minor
    if total == body.total_minor:
        return []
    text = f"lines and shipping add up to {total}, not to {body.total_minor}"
    return [Finding("/total_minor", "total_mismatch", text)]


def _tenders(body: CreateOrder, _: OrderFacts) -> list[Finding]:
    offered = sum(tender.amount_minor for tender in body.tenders)
    if offered == body.total_minor:
        return []
    code = "tenders_do_not_cover" if offered < body.total_minor else "tenders_exceed_total"
    return [Finding("/tenders", code, f"tenders add up to {offered}, the order to {body.total_minor}")]


def _destination(_: CreateOrder, facts: OrderFacts) -> list[Finding]:
    if facts.zone_id is not None:
        return []
    return [Finding("/ship_to", "unknown_destination", "we do not deliver to this country and region")]


def place_order_of(
    body: CreateOrder, facts: OrderFacts, order_id: OrderId, customer_ref: str, now: datetime
) -> PlaceOrder:
    """The order as the workflow gets it, without any personal data. `check_order` has passed."""
    if facts.zone_id is None:
        raise Problem("internal", "The order was not checked before it was placed.")
    return PlaceOrder(
        order_id=order_id,
        order_number=body.order_number or str(facts.order_number),
        channel=body.channel,
        currency=body.currency,
        customer_ref=customer_ref,
        country=body.ship_to.country,
        region=body.ship_to.region,
        zone_id=facts.zone_id,
        lines=tuple(
            OrderLine(
                line_no=number,
                sku=Sku(line.sku),
                quantity=line.quantity,
                unit_price_minor=line.unit_price_minor,
                discount_minor=line.discount_minor,
                tax_minor=line.tax_minor,
            )
            for number, line in enumerate(body.lines, start=1)
        ),
        shipping_minor=body.shipping.price_minor,
        shipping_tax_minor=body.shipping.tax_minor,
        service_level=body.shipping.service_level,
        split=body.preferences.split,
        backorder=body.preferences.backorder,
        tenders=tuple(
            TenderAsk(
                tender_id=TenderId(derived_id("tnd", order_id, number)),
                sequence=number,
                provider=tender.provider,
                reference=tender.reference,
                amount_minor=tender.amount_minor,
            )
            for number, tender in enumerate(body.tenders, start=1)
        ),
        total_minor=body.total_minor,
        placed_at=body.placed_at or now,
        replaces_order=OrderId(body.replaces_order) if body.replaces_order else None,
    )
