"""How the Online Retail format is read: every oddity meets its rule, and the counters add up."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import MAX_LINES
from domain.retail import (
    REFUSING,
    Invoice,
    MatchState,
    RetailFile,
    RetailFormatError,
    RetailLine,
    RetailRule,
    match_cancellations,
    read_retail,
)

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
ROOT = Path(__file__).parents[2]
EXTRACT = ROOT / "cli" / "data" / "retail-extract.csv.gz"
FULL = ROOT.parent / "shared" / "data" / "online-retail" / "2010-12_2011-07.csv.gz"


def row(
    invoice: str = "536365",
    code: str = "85123A",
    name: str = "LANTERN",
    quantity: object = 6,
    at: str = "2010-12-01 08:26:00",
    price: object = "2.55",
    customer: str = "17850.0",
) -> str:
    """One line of the file."""
    return f"{invoice},{code},{name},{quantity},{at},{price},{customer},United Kingdom"


def read(*rows: str) -> RetailFile:
    """Read a file of these rows."""
    return read_retail([HEADER, *rows])


def test_a_plain_invoice_becomes_a_sale_in_pence() -> None:
    """Two rows of one invoice are one sale with two lines."""
    file = read(row(), row(code="71053", name="METAL LANTERN", quantity=2, price="3.39"))
    (sale,) = file.sales
    assert (sale.number, sale.customer, sale.shipping_minor) == ("536365", "17850", 0)
    assert sale.lines == (RetailLine("85123A", 6, 255), RetailLine("71053", 2, 339))
    assert sale.items_minor == 6 * 255 + 2 * 339
    assert file.rules == {}
    assert file.names == {"71053": "METAL LANTERN", "85123A": "LANTERN"}


@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        (row(quantity=""), RetailRule.UNREADABLE_ROW),
        (row(quantity="2.5"), RetailRule.UNREADABLE_ROW),
        (row(price="cheap"), RetailRule.UNREADABLE_ROW),
        (row(price="NaN"), RetailRule.UNREADABLE_ROW),
        (row(at="yesterday"), RetailRule.UNREADABLE_ROW),
        (row(invoice=""), RetailRule.UNREADABLE_ROW),
        (row(code=""), RetailRule.UNREADABLE_ROW),
        ("536365,85123A", RetailRule.UNREADABLE_ROW),
        (row(code="BANK CHARGES"), RetailRule.FEE),
        (row(code="AMAZONFEE"), RetailRule.FEE),
        (row(code="m"), RetailRule.FEE),
        (row(code="gift_0001_20"), RetailRule.VOUCHER),
        (row(code="???"), RetailRule.ODD_CODE),
        (row(price="0"), RetailRule.PRICE_ZERO),
        (row(price="0.001"), RetailRule.PRICE_BELOW_PENNY),
        (row(price="-11062.06"), RetailRule.PRICE_NEGATIVE),
        (row(quantity=-3), RetailRule.NEGATIVE_QUANTITY),
        (row(quantity=0), RetailRule.NEGATIVE_QUANTITY),
    ],
)
def test_an_odd_row_is_left_out_and_counted(odd: str, rule: RetailRule) -> None:
    """The rest of the invoice is sold as if the row were not there."""
    file = read(row(), odd)
    assert file.sales == read(row()).sales
    assert file.rules[rule] == 1


def test_an_invoice_without_goods_is_refused() -> None:
    """Fees alone are nothing that could be shipped."""
    file = read(row(code="BANK CHARGES", price="15"))
    assert file.sales == ()
    assert file.rules == {"fee": 1, "no_goods": 1}


def test_carriage_becomes_the_shipping_charge() -> None:
    """POST, DOT and C2 rows add up; they are no order lines."""
    file = read(row(), row(code="POST", quantity=3, price="18.00"), row(code="dot", quantity=1, price="0.55"))
    assert file.sales[0].shipping_minor == 5455
    assert len(file.sales[0].lines) == 1
    assert file.rules == {"carriage": 2, "code_case": 1}


def test_a_guest_buys_too() -> None:
    """No customer: the sale stands, nothing can be matched to it."""
    file = read(row(customer=""), row(invoice="C536366", quantity=-6, customer=""))
    assert file.sales[0].customer is None
    assert file.rules == {"no_customer": 2}
    assert match_cancellations(file.sales, file.cancellations)[0].state is MatchState.NO_CUSTOMER


def test_a_missing_description_is_taken_from_another_row_of_the_code() -> None:
    """Else the code itself is the name."""
    file = read(row(name=""), row(invoice="536366"), row(invoice="536367", code="22752", name=""))
    assert file.names == {"22752": "22752", "85123A": "LANTERN"}
    assert file.rules == {"no_description": 2}


def test_codes_are_read_in_upper_case() -> None:
    """84997a and 84997A are one item."""
    file = read(row(code="84997a"), row(code="84997A"))
    assert file.sales[0].units_by_sku == {"84997A": 12}
    assert file.rules == {"code_case": 1, "repeated_code": 1}


def test_the_same_code_twice_stays_two_lines() -> None:
    """Their prices may differ, so they are not added up."""
    file = read(row(price="2.55"), row(price="2.10"))
    assert [line.unit_price_minor for line in file.sales[0].lines] == [255, 210]
    assert file.rules == {"repeated_code": 1}


@pytest.mark.parametrize(
    ("lines", "sold", "rule"),
    [(1000, 1, None), (1001, 1, "long_invoice"), (1114, 1, "long_invoice"), (1501, 0, "too_many_lines")],
)
def test_long_invoices_are_ordered_up_to_the_limit(lines: int, sold: int, rule: str | None) -> None:
    """1,114 lines are one order; more than an order may have are refused."""
    file = read(*(row(code=f"{10000 + n}") for n in range(lines)))
    assert len(file.sales) == sold
    assert file.rules == ({rule: 1} if rule else {})


def test_more_units_than_an_order_line_may_have_refuse_the_invoice() -> None:
    """Leaving the line out would sell something else than was bought."""
    file = read(row(), row(code="71053", quantity=100_001))
    assert file.sales == ()
    assert file.rules == {"quantity_above_limit": 1}


def test_neither_a_sale_nor_a_cancellation_is_refused() -> None:
    """`A` invoices adjust bad debt."""
    file = read(row(invoice="A563185", price="11062.06", quantity=1))
    assert file.sales == file.cancellations == ()
    assert file.rules == {"unknown_invoice_kind": 1}


def test_rows_of_several_minutes_take_the_first() -> None:
    """An invoice that was written over a minute's end is one sale."""
    file = read(row(), row(code="71053", at="2010-12-01 08:27:00"))
    assert file.sales[0].placed_at.minute == 26
    assert file.rules == {"several_times": 1}


def test_the_published_date_form_is_read_too() -> None:
    """The workbook writes 12/1/2010 8:26."""
    assert read(row(at="12/1/2010 8:26")).sales == read(row()).sales


def test_a_cancellation_counts_units_taken_back() -> None:
    """Positive rows of a cancellation are left out."""
    file = read(row(invoice="C536380", quantity=-2), row(invoice="C536380", quantity=5))
    assert file.sales == ()
    assert file.cancellations[0].lines == (RetailLine("85123A", 2, 255),)
    assert file.rules == {"positive_in_cancellation": 1}


def test_a_missing_column_is_named() -> None:
    """Another file is refused before anything is done with it."""
    with pytest.raises(RetailFormatError, match="Quantity, InvoiceDate"):
        read_retail(["InvoiceNo,StockCode,Description,UnitPrice,CustomerID", "1,2,3,4,5"])
    with pytest.raises(RetailFormatError, match="InvoiceNo"):
        read_retail([])


@pytest.mark.parametrize(
    ("back", "at", "customer", "state"),
    [
        ((6, 2), "2010-12-01 09:00:00", "17850.0", MatchState.WHOLE),
        ((6, 1), "2010-12-01 09:00:00", "17850.0", MatchState.PARTIAL),
        ((6, 0), "2010-12-01 09:00:00", "17850.0", MatchState.PARTIAL),
        ((7, 2), "2010-12-01 09:00:00", "17850.0", MatchState.UNMATCHED),
        ((6, 2), "2010-12-01 08:00:00", "17850.0", MatchState.UNMATCHED),
        ((6, 2), "2010-12-01 09:00:00", "12345.0", MatchState.UNMATCHED),
    ],
)
def test_a_cancellation_finds_its_sale(back: tuple[int, int], at: str, customer: str, state: MatchState) -> None:
    """Same customer, earlier, and no more units than were sold."""
    rows = [row(), row(code="71053", quantity=2)]
    codes = zip(("85123A", "71053"), back, strict=True)
    taken = [row("C1", code, quantity=-n, at=at, customer=customer) for code, n in codes if n]
    file = read(*rows, *taken)
    (match,) = match_cancellations(file.sales, file.cancellations)
    assert match.state is state
    assert match.sale == ("536365" if state in (MatchState.WHOLE, MatchState.PARTIAL) else None)


def test_two_cancellations_do_not_take_back_the_same_sale() -> None:
    """Of two equal sales the later goes first; a third cancellation finds none."""
    again = row(invoice="536370", at="2010-12-01 08:30:00")
    backs = [row(f"C53638{n}", quantity=-6, at="2010-12-02 08:30:00") for n in range(3)]
    file = read(row(), again, *backs)
    matches = match_cancellations(file.sales, file.cancellations)
    assert [match.sale for match in matches] == ["536370", "536365", None]
    assert matches[2].state is MatchState.UNMATCHED


def test_parts_are_taken_back_by_line_and_no_unit_twice() -> None:
    """A code on two lines is taken from the first on; what an earlier cancellation took is not there any more."""
    sale = (row(quantity=2), row(quantity=3))
    backs = [row(f"C53638{n}", quantity=-2, at="2010-12-02 08:30:00") for n in range(3)]
    first, second, third = match_cancellations(read(*sale, *backs).sales, read(*sale, *backs).cancellations)
    assert (first.state, first.lines) == (MatchState.PARTIAL, ((1, 2),))
    assert (second.state, second.lines) == (MatchState.PARTIAL, ((2, 2),))
    assert (third.state, third.lines) == (MatchState.UNMATCHED, ())


def test_a_part_that_spans_lines_takes_from_each() -> None:
    """Four of two and three: all of the first line and two of the second."""
    file = read(row(quantity=2), row(quantity=3), row("C536380", quantity=-4, at="2010-12-02 08:30:00"))
    (match,) = match_cancellations(file.sales, file.cancellations)
    assert match.lines == ((1, 2), (2, 2))


CELL = st.text(alphabet='0C5A.-" ,ße', max_size=8)


@given(st.lists(st.tuples(CELL, CELL, CELL, CELL, CELL, CELL, CELL), max_size=30))
def test_no_cell_can_crash_the_reader(cells: list[tuple[str, ...]]) -> None:
    """Whatever stands in the file, each row is read, left out or refused."""
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in entry) for entry in cells]
    file = read_retail([HEADER, *lines])
    assert file.rows == len(cells)
    assert all(1 <= len(sale.lines) <= MAX_LINES for sale in file.sales)


QUANTITIES = st.lists(st.tuples(st.integers(0, 9), st.integers(-9, 9), st.integers(0, 300)), max_size=40)


@given(QUANTITIES)
def test_every_row_is_sold_or_counted(entries: list[tuple[int, int, int]]) -> None:
    """Lines that became order lines and rows that a rule left out are all rows there were."""
    rows = [row(invoice=f"{536365 + n}", quantity=q, price=p / 100) for n, q, p in entries]
    file = read(*rows)
    left_out = sum(file.rules.get(rule, 0) for rule in ("negative_quantity", "price_zero"))
    assert sum(len(sale.lines) for sale in file.sales) + left_out == len(entries)
    assert len(file.sales) + sum(file.rules.get(rule, 0) for rule in REFUSING) == file.invoices


def test_the_extract_reads_as_its_description_says() -> None:
    """The committed extract holds the oddities that the demo shows."""
    with gzip.open(EXTRACT, "rt", encoding="utf-8") as file:
        read_file = read_retail(file)
    assert (read_file.rows, read_file.invoices) == (624, 66)
    assert (len(read_file.sales), len(read_file.cancellations)) == (51, 9)
    assert read_file.rules == {
        "carriage": 3,
        "code_case": 1,
        "fee": 2,
        "negative_quantity": 2,
        "no_customer": 3,
        "no_description": 3,
        "no_goods": 6,
        "price_zero": 1,
        "repeated_code": 3,
        "voucher": 1,
    }
    states = [match.state for match in match_cancellations(read_file.sales, read_file.cancellations)]
    assert (states.count(MatchState.WHOLE), states.count(MatchState.UNMATCHED)) == (7, 2)
    assert max(_largest(sale) for sale in read_file.sales) == 74_215


@pytest.mark.skipif(not FULL.exists(), reason="the full Online Retail file is not beside the checkout")
def test_the_full_file_is_read_without_a_gap() -> None:
    """285,421 rows: every invoice is a sale, a cancellation or refused by a named rule."""
    with gzip.open(FULL, "rt", encoding="utf-8") as file:
        read_file = read_retail(file)
    assert (read_file.rows, read_file.invoices) == (285_421, 14_722)
    assert (len(read_file.sales), len(read_file.cancellations)) == (11_044, 2_042)
    refused = sum(read_file.rules.get(rule, 0) for rule in REFUSING)
    assert refused == 14_722 - 11_044 - 2_042


def _largest(sale: Invoice) -> int:
    return max(line.quantity for line in sale.lines)
