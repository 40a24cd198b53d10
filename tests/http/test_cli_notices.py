"""`accord orders notices` and `resend` as a person meets them: real processes, the worker's own schedule."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.command import wait_until
from tests.support.counter import Counter, open_counter
from tests.support.stack import Site

DONE, FAILED, USAGE, REFUSED, UNREACHABLE = range(5)
BODY = {
    "channel": "web-us",
    "external_ref": "W-NOTICES",
    "currency": "USD",
    "customer": {"name": "Jamie Example", "email": "jamie@example.com"},
    "ship_to": {
        "name": "Jamie Example",
        "lines": ["1 Sample Street"],
        "city": "Boston",
        "region": "MA",
        "postal_code": "02108",
        "country": "US",
    },
    "lines": [{"sku": "LAMP-OAK", "quantity": 1, "unit_price_minor": 4500}],
    "tenders": [{"reference": "pm_ok", "amount_minor": 4500}],
    "total_minor": 4500,
}


@pytest.fixture(scope="module")
async def counter(
    new_site: Callable[[], Awaitable[Site]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Counter]:
    """The command, with a worker and an API behind it and the demo's data in the database."""
    opened = open_counter(await new_site(), tmp_path_factory.mktemp("counter"))
    yield opened
    opened.stop()


def test_told_and_told_again(counter: Counter) -> None:
    """The worker's own job sends it within seconds; a second one by hand names the first."""
    # given
    (counter.path / "order.json").write_text(json.dumps(BODY))
    code, order = counter.accord_json("orders", "create", "order.json", "--wait", "20")
    assert code == DONE
    number = str(order["order_number"])

    def listed() -> list[dict[str, Any]]:
        status, found = counter.accord_json("orders", "notices", number)
        assert status == DONE
        return list(found["data"])

    # when
    wait_until(lambda: [notice["state"] for notice in listed()] == ["sent"], 30)
    (first,) = listed()
    code, new = counter.accord_json("orders", "resend", number, first["id"])
    # then
    assert (code, new["resends"], new["asked_by"]["role"]) == (DONE, first["id"], "ops")
    wait_until(lambda: [notice["state"] for notice in listed()] == ["sent", "sent"], 30)
    shown = counter.accord("orders", "notices", number)
    assert (shown.returncode, shown.stdout.count("order_confirmed")) == (DONE, 2)
    assert f"again, as {first['id']}" in shown.stdout
    assert "jamie" not in shown.stdout.lower()


def test_what_is_not_there_or_not_allowed_has_its_exit_code(counter: Counter) -> None:
    """No such order or notice: failed; no id at all: wrong usage."""
    code, order = counter.accord_json("orders", "create", "--wait", "20", "--sku", "MUG-BLUE:1")
    assert code == DONE
    nobody = "ntc_01M84BZNW00000000000000000"
    assert counter.accord("orders", "notices", "nobody").returncode == FAILED
    assert counter.accord("orders", "resend", order["id"], nobody).returncode == FAILED
    assert counter.accord("orders", "resend", order["id"], "first").returncode == USAGE
