"""How the Online Retail format is read: each oddity of the file has a named rule and is counted.

Owner: commerce. The format is one line per item of an invoice: `InvoiceNo, StockCode, Description, Quantity,
InvoiceDate, UnitPrice, CustomerID, Country`; an invoice number that begins with `C` takes an earlier sale
back. Prices are pounds. What is left out, changed or refused is decided here and nowhere else.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import NamedTuple

from domain.orders import MAX_LINES, MAX_QUANTITY, Frozen

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
LONG_INVOICE_LINES = 1000
NAME_CHARS = 80

_CARRIAGE = frozenset({"POST", "DOT", "C2"})
_FEES = frozenset({"M", "D", "S", "B", "CRUK", "BANK CHARGES", "AMAZONFEE"})
_VOUCHER = "GIFT_"
_SKU = re.compile(r"[0-9A-Z][0-9A-Z_-]{1,19}")
_ORIGINAL_DATE = "%m/%d/%Y %H:%M"


class RetailRule(StrEnum):
    """A rule that met a row, an invoice or a cancellation. The value is the name of its counter."""

    # rows
    UNREADABLE_ROW = "unreadable_row"  # no invoice, code, whole quantity, date or price: left out
    CARRIAGE = "carriage"  # POST, DOT, C2: becomes the order's shipping charge
    FEE = "fee"  # manual entries, discounts, samples, bank charges, marketplace fees: left out
    VOUCHER = "voucher"  # gift vouchers are no goods: left out
    ODD_CODE = "odd_code"  # a code that cannot be a SKU: left out
    CODE_CASE = "code_case"  # 84997a is 84997A: read in upper case
    PRICE_ZERO = "price_zero"  # samples and stock corrections: left out
    PRICE_BELOW_PENNY = "price_below_penny"  # rounds to nothing: left out
    PRICE_NEGATIVE = "price_negative"  # an adjustment of debt: left out
    NEGATIVE_QUANTITY = "negative_quantity"  # outside cancellations, a stock correction: left out
    POSITIVE_IN_CANCELLATION = "positive_in_cancellation"  # left out
    QUANTITY_ABOVE_LIMIT = "quantity_above_limit"  # the whole invoice is refused
    NO_DESCRIPTION = "no_description"  # named by another row of the same code, else by the code
    # invoices
    NO_CUSTOMER = "no_customer"  # sold to a guest; no cancellation can be matched to it
    REPEATED_CODE = "repeated_code"  # the same code twice: two order lines
    SEVERAL_TIMES = "several_times"  # rows of different minutes: the first one counts
    LONG_INVOICE = "long_invoice"  # above 1,000 lines: one order
    TOO_MANY_LINES = "too_many_lines"  # above what an order may have: refused
    NO_GOODS = "no_goods"  # nothing is left to ship: refused
    UNKNOWN_INVOICE_KIND = "unknown_invoice_kind"  # neither a sale nor a cancellation: refused


REFUSING = (
    RetailRule.TOO_MANY_LINES,
    RetailRule.NO_GOODS,
    RetailRule.UNKNOWN_INVOICE_KIND,
    RetailRule.QUANTITY_ABOVE_LIMIT,
)


class RetailFormatError(ValueError):
    """The file is not in the Online Retail format."""


class RetailLine(NamedTuple):
    """Goods on an invoice. In a cancellation `quantity` counts the units taken back."""

    sku: str
    quantity: int
    unit_price_minor: int


class Invoice(Frozen):
    """A sale that can be ordered, or a cancellation. `customer` is None for a guest."""

    number: str
    placed_at: datetime
    customer: str | None
    lines: tuple[RetailLine, ...]
    shipping_minor: int = 0

    @property
    def units_by_sku(self) -> dict[str, int]:
        """Units per SKU, lines of one code added up."""
        units: dict[str, int] = defaultdict(int)
        for line in self.lines:
            units[line.sku] += line.quantity
        return dict(units)

    @property
    def items_minor(self) -> int:
        """What the goods cost together."""
        return sum(line.quantity * line.unit_price_minor for line in self.lines)


class RetailFile(Frozen):
    """Everything that was read, in the order of the file."""

    sales: tuple[Invoice, ...]
    cancellations: tuple[Invoice, ...]
    names: dict[str, str]
    rows: int
    invoices: int
    rules: dict[str, int]


class MatchState(StrEnum):
    """What a cancellation invoice is to the orders that were chosen."""

    WHOLE = "whole"  # takes back every unit of an order: can be sent
    PARTIAL = "partial"  # takes back a part of an order, by line and quantity
    UNMATCHED = "unmatched"  # no chosen order of this customer holds the units
    NO_CUSTOMER = "no_customer"  # cannot be matched to anybody


class Match(Frozen):
    """A cancellation invoice and the sale that it takes back, if one was found.

    `lines` names the units of a part: line number of the order, counted from 1, and units. Empty for the whole.
    """

    cancellation: str
    state: MatchState
    sale: str | None = None
    lines: tuple[tuple[int, int], ...] = ()


def read_retail(lines: Iterable[str]) -> RetailFile:
    """Read a whole file from its text lines.

    Raises:
        RetailFormatError: a column is missing.
    """
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise RetailFormatError(f"columns {', '.join(missing)} are missing; expected {', '.join(COLUMNS)}")
    rules: Counter[str] = Counter()
    drafts: dict[str, _Draft] = {}
    names: dict[str, str] = {}
    rows = 0
    for row in reader:
        rows += 1
        parsed = _parse_row(row, rules)
        if parsed is not None:
            drafts.setdefault(parsed.invoice, _Draft()).rows.append(parsed)
            names.setdefault(parsed.sku, "")
            names[parsed.sku] = names[parsed.sku] or parsed.name
    invoices = [
        (number, invoice)
        for number, draft in drafts.items()
        if (invoice := _invoice(number, draft.rows, rules)) is not None
    ]
    sold = {line.sku for _, invoice in invoices for line in invoice.lines}
    return RetailFile(
        sales=tuple(invoice for number, invoice in invoices if not _takes_back(number)),
        cancellations=tuple(invoice for number, invoice in invoices if _takes_back(number)),
        names={sku: names[sku] or sku for sku in sorted(sold)},
        rows=rows,
        invoices=len(drafts),
        rules=dict(sorted(rules.items())),
    )


def match_cancellations(sales: Iterable[Invoice], cancellations: Iterable[Invoice]) -> tuple[Match, ...]:
    """Find for each cancellation the latest earlier sale to the same customer that holds its units.

    A sale that takes back exactly these units wins over one that holds more. No unit of a sale is taken back
    twice: what earlier cancellations took is not there for later ones.
    """
    by_customer: dict[str, list[Invoice]] = defaultdict(list)
    for sale in sales:
        if sale.customer is not None:
            by_customer[sale.customer].append(sale)
    left: dict[str, list[int]] = {}
    return tuple(_match(cancellation, by_customer, left) for cancellation in cancellations)


def _match(cancellation: Invoice, by_customer: Mapping[str, list[Invoice]], left: dict[str, list[int]]) -> Match:
    """Find the sale; `left` counts the units per line of sales that were taken back in part, and is lowered here."""
    number = cancellation.number
    if cancellation.customer is None:
        return Match(cancellation=number, state=MatchState.NO_CUSTOMER)
    earlier = [s for s in by_customer.get(cancellation.customer, []) if s.placed_at <= cancellation.placed_at]
    wanted = cancellation.units_by_sku
    for sale in reversed(earlier):
        if sale.number not in left and sale.units_by_sku == wanted:
            left[sale.number] = [0] * len(sale.lines)
            return Match(cancellation=number, state=MatchState.WHOLE, sale=sale.number)
    for sale in reversed(earlier):
        units = left.get(sale.number) or [line.quantity for line in sale.lines]
        lines = _take_back(sale, units, wanted)
        if lines:
            left[sale.number] = units
            return Match(cancellation=number, state=MatchState.PARTIAL, sale=sale.number, lines=lines)
    return Match(cancellation=number, state=MatchState.UNMATCHED)


def _take_back(sale: Invoice, units: list[int], wanted: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """The wanted units per SKU as lines of the sale, taken off `units`; none when the sale holds fewer."""
    held: Counter[str] = Counter()
    for line, count in zip(sale.lines, units, strict=True):
        held[line.sku] += count
    if any(held[sku] < count for sku, count in wanted.items()):
        return ()
    open_units, lines = dict(wanted), []
    for position, line in enumerate(sale.lines):
        taken = min(units[position], open_units.get(line.sku, 0))
        if taken:
            units[position] -= taken
            open_units[line.sku] -= taken
            lines.append((position + 1, taken))
    return tuple(lines)


class _Row(NamedTuple):
    """One readable row."""

    invoice: str
    sku: str
    name: str
    quantity: int
    at: datetime
    price: Decimal
    customer: str | None


class _Draft:
    """Rows of one invoice while the file is read."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []


def _parse_row(row: Mapping[str, str | None], rules: Counter[str]) -> _Row | None:
    """The row as values, or None when it cannot be read."""
    code = (row["StockCode"] or "").strip()
    name = " ".join((row["Description"] or "").split())[:NAME_CHARS]
    at = _date(row["InvoiceDate"] or "")
    try:
        invoice = (row["InvoiceNo"] or "").strip().upper()
        quantity = _whole(row["Quantity"] or "")
        price = Decimal((row["UnitPrice"] or "").strip())
    except (ValueError, InvalidOperation):
        invoice = ""
    if not invoice or not code or at is None or not price.is_finite():
        rules[RetailRule.UNREADABLE_ROW] += 1
        return None
    if code != code.upper():
        rules[RetailRule.CODE_CASE] += 1
    if not name:
        rules[RetailRule.NO_DESCRIPTION] += 1
    customer = (row["CustomerID"] or "").strip().removesuffix(".0")
    return _Row(
        invoice=invoice,
        sku=code.upper(),
        name=name,
        quantity=quantity,
        at=at,
        price=price,
        customer=customer or None,
    )


def _whole(text: str) -> int:
    """A whole number, also when a spreadsheet wrote it as `6.0`."""
    return int(text.strip().removesuffix(".0"))


def _date(text: str) -> datetime | None:
    """The local time of a row, as our file has it or as the published workbook does."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    try:
        return datetime.strptime(text.strip(), _ORIGINAL_DATE)  # noqa: DTZ007 - the file names no zone
    except ValueError:
        return None


def _takes_back(number: str) -> bool:
    return number.startswith("C")


def _invoice(number: str, rows: list[_Row], rules: Counter[str]) -> Invoice | None:
    """The invoice that the rows make, or None when a rule refuses it."""
    back = _takes_back(number)
    if not number.removeprefix("C").isdigit():
        rules[RetailRule.UNKNOWN_INVOICE_KIND] += 1
        return None
    lines = [line for row in rows if (line := _line(row, back, rules)) is not None]
    refusal = _refusal(lines)
    if refusal is not None:
        rules[refusal] += 1
        return None
    _count_oddities(rows, lines, rules)
    return Invoice(
        number=number,
        placed_at=rows[0].at,
        customer=rows[0].customer,
        lines=tuple(lines),
        shipping_minor=0 if back else sum(_carriage(row, rules) for row in rows),
    )


def _refusal(lines: list[RetailLine]) -> RetailRule | None:
    if not lines:
        return RetailRule.NO_GOODS
    if len(lines) > MAX_LINES:
        return RetailRule.TOO_MANY_LINES
    if any(line.quantity > MAX_QUANTITY for line in lines):
        return RetailRule.QUANTITY_ABOVE_LIMIT
    return None


def _count_oddities(rows: list[_Row], lines: list[RetailLine], rules: Counter[str]) -> None:
    """Count what is unusual about an invoice and changes nothing."""
    if rows[0].customer is None:
        rules[RetailRule.NO_CUSTOMER] += 1
    if len({line.sku for line in lines}) < len(lines):
        rules[RetailRule.REPEATED_CODE] += 1
    if len({row.at for row in rows}) > 1:
        rules[RetailRule.SEVERAL_TIMES] += 1
    if len(lines) > LONG_INVOICE_LINES:
        rules[RetailRule.LONG_INVOICE] += 1


def _line(row: _Row, back: bool, rules: Counter[str]) -> RetailLine | None:
    """The goods of a row, or None when a rule leaves it out."""
    if row.sku in _CARRIAGE:
        return None  # counted where it becomes the shipping charge
    price_minor = int((row.price * 100).to_integral_value())
    rule = _line_rule(row, back, price_minor)
    if rule is not None:
        rules[rule] += 1
        return None
    return RetailLine(sku=row.sku, quantity=abs(row.quantity), unit_price_minor=price_minor)


def _line_rule(row: _Row, back: bool, price_minor: int) -> RetailRule | None:
    if row.sku in _FEES:
        return RetailRule.FEE
    if row.sku.startswith(_VOUCHER):
        return RetailRule.VOUCHER
    if not _SKU.fullmatch(row.sku):
        return RetailRule.ODD_CODE
    if (row.quantity < 0) != back or row.quantity == 0:
        return RetailRule.POSITIVE_IN_CANCELLATION if back else RetailRule.NEGATIVE_QUANTITY
    if row.price < 0:
        return RetailRule.PRICE_NEGATIVE
    if price_minor == 0:
        return RetailRule.PRICE_BELOW_PENNY if row.price else RetailRule.PRICE_ZERO
    return None


def _carriage(row: _Row, rules: Counter[str]) -> int:
    """The shipping charge in a row, in pence; 0 for goods and for carriage given back."""
    if row.sku not in _CARRIAGE:
        return 0
    rules[RetailRule.CARRIAGE] += 1
    return max(0, int((row.price * row.quantity * 100).to_integral_value()))
