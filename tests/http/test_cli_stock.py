"""`accord stock` as a person meets it: real processes, JSON, exit codes."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.counter import Counter, open_counter
from tests.support.stack import Site

DONE, FAILED, USAGE = range(3)


@pytest.fixture(scope="module")
async def counter(
    new_site: Callable[[], Awaitable[Site]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Counter]:
    """The command, with a worker and an API behind it and the demo's data in the database."""
    opened = open_counter(await new_site(), tmp_path_factory.mktemp("counter"))
    yield opened
    opened.stop()


def test_goods_come_in_once_for_who_waits(counter: Counter) -> None:
    """An order waits; the same receipt twice is booked once, and with other units refused."""
    code, order = counter.accord_json("orders", "create", "--wait", "20", "--sku", "LANTERN-TIN:1")
    assert (code, order["lines"][0]["quantities"]) == (DONE, {"backordered": 1})
    receive = ("stock", "receive", "LANTERN-TIN", "AVP3", "--receipt-id", "ASN-1")
    code, booked = counter.accord_json(*receive, "3")
    assert (code, booked["on_hand"], booked["quantity"]) == (DONE, 3, 3)
    code, again = counter.accord_json(*receive, "3")
    assert (code, again["on_hand"], again["orders_told"]) == (DONE, 3, 0)
    code, _ = counter.accord_json(*receive, "4")
    assert code != DONE
    shown = counter.accord("stock", "receive", "LANTERN-TIN", "AVP3", "2")
    assert (shown.returncode, "5 on hand" in shown.stdout) == (DONE, True)


def test_what_may_be_waited_for_is_said_per_item(counter: Counter) -> None:
    """Allowed and taken back; an item that there is not, and no units."""
    code, rule = counter.accord_json("stock", "backorder", "CLOCK-BRASS", "--allow")
    assert (code, rule) == (DONE, {"sku": "CLOCK-BRASS", "allowed": True})
    assert "refused" in counter.accord("stock", "backorder", "CLOCK-BRASS", "--refuse").stdout
    assert counter.accord("stock", "backorder", "NOTHING").returncode == FAILED
    assert counter.accord("stock", "receive", "LANTERN-TIN", "AVP3", "0").returncode == USAGE
