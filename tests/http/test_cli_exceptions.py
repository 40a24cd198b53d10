"""`accord exceptions` and `accord orders note` as a person meets them: real processes, JSON, exit codes."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.simulation import Simulation
from tests.support.counter import Counter, open_counter
from tests.support.stack import Site

DONE, FAILED, USAGE, REFUSED, UNREACHABLE = range(5)


@pytest.fixture(scope="module")
async def counter(
    new_site: Callable[[], Awaitable[Site]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Counter]:
    """The command, with a worker and an API behind it and the demo's data in the database."""
    opened = open_counter(await new_site(), tmp_path_factory.mktemp("counter"))
    yield opened
    opened.stop()


def refused_by_its_node(counter: Counter) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order that no node takes at the moment, and its case. From now on nodes take what comes."""
    simulation = Simulation(counter.site.simulated_state)
    simulation.set_control("warehouses.decline", 1)
    code, order = counter.accord_json("orders", "create", "--wait", "20", "--sku", "LAMP-OAK:1")
    assert code == DONE
    until = time.monotonic() + 30
    while time.monotonic() < until:
        code, listed = counter.accord_json("exceptions", "list", "--order", str(order["order_number"]))
        assert code == DONE
        if listed["data"]:
            simulation.clear_control("warehouses.decline")
            return order, listed["data"][0]
    raise AssertionError("no case was opened")


def test_from_the_queue_to_a_resolved_case(counter: Counter) -> None:
    """Listed, taken, resolved by a retry; afterwards it is among the closed ones only."""
    order, case = refused_by_its_node(counter)
    assert (case["code"], case["owner"], case["state"]) == ("node_refused", "fulfillment", "open")
    code, taken = counter.accord_json("exceptions", "assign", case["id"], "--to", "maria")
    assert (code, taken["state"], taken["assignee"]) == (DONE, "assigned", "maria")
    shown = counter.accord("exceptions", "list", "--assignee", "maria")
    assert shown.returncode == DONE
    assert case["id"] in shown.stdout
    code, resolved = counter.accord_json("exceptions", "resolve", case["id"], "retry", "--wait", "20")
    assert (code, resolved["state"], resolved["resolution"]["state"]) == (DONE, "resolved", "applied")
    number = str(order["order_number"])
    assert counter.accord_json("exceptions", "list", "--order", number) == (DONE, {"data": []})
    code, closed = counter.accord_json("exceptions", "list", "--order", order["id"], "--state", "resolved")
    assert [found["id"] for found in closed["data"]] == [case["id"]]
    again = counter.accord("exceptions", "resolve", case["id"], "dismiss")
    assert again.returncode == REFUSED
    assert "case_closed" in again.stderr


def test_a_case_is_parked_until_a_day(counter: Counter) -> None:
    """Taken, parked, shown as waiting among those that are open; a date that has passed is refused by name."""
    _, case = refused_by_its_node(counter)
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    assert counter.accord_json("exceptions", "assign", case["id"], "--to", "maria")[0] == DONE
    code, problem = counter.accord_json("exceptions", "park", case["id"], "--until", "2026-01-05T09:00:00Z")
    assert (code, problem["reason"]) == (REFUSED, "date_passed")
    parked = ("exceptions", "park", case["id"], "--until", until, "--reason", "carrier_asked")
    code, waiting = counter.accord_json(*parked)
    assert (code, waiting["state"], waiting["assignee"]) == (DONE, "waiting", "maria")
    assert (waiting["parked"]["until"], waiting["parked"]["reason"]) == (until, "carrier_asked")
    shown = counter.accord("exceptions", "list", "--order", case["order_id"])
    assert f"waits until {until} (carrier_asked)" in shown.stdout
    assert counter.accord_json("exceptions", "park", case["id"], "--until", "tomorrow")[0] == USAGE


def test_a_case_is_resolved_once_per_key(counter: Counter) -> None:
    """The same key again is the same resolution; for people one line, and what was chosen."""
    _, case = refused_by_its_node(counter)
    command = ("exceptions", "resolve", case["id"], "cancel", "--wait", "20", "--idempotency-key", case["id"])
    first, second = counter.accord(*command), counter.accord(*command)
    assert (first.returncode, second.returncode) == (DONE, DONE), first.stderr + second.stderr
    assert "cancel: applied" in first.stdout
    assert case["id"] in second.stdout


def test_what_is_not_allowed_not_there_or_not_meant(counter: Counter) -> None:
    """Another team's key is refused, an unknown case is a failure, a choice that does not exist is usage."""
    _, case = refused_by_its_node(counter)
    key = {"ACCORD_API_KEY": counter.site.keys["finance"]}
    code, problem = counter.accord_json("exceptions", "resolve", case["id"], "dismiss", **key)
    assert (code, problem["status"], problem["needs_role"]) == (REFUSED, 403, ["ops", "warehouse"])
    code, problem = counter.accord_json("exceptions", "assign", "exc_none")
    assert (code, problem["type"]) == (FAILED, "/problems/not-found")
    code, problem = counter.accord_json("exceptions", "resolve", case["id"], "force")
    assert (code, problem["status"]) == (USAGE, 422)
    assert counter.accord("exceptions", "list", "--state", "lost").returncode == USAGE
    assert counter.accord("exceptions", "list", ACCORD_API_URL="http://127.0.0.1:9").returncode == UNREACHABLE


def test_a_note_is_written_from_the_command_line(counter: Counter) -> None:
    """One document, once per key; an unknown order is a failure, an empty note is usage."""
    code, order = counter.accord_json("orders", "create", "--wait", "20", "--sku", "LAMP-OAK:1")
    number = str(order["order_number"])
    wanted = ("orders", "note", number, "Ring twice.", "--idempotency-key", "ring")
    (code, note), (again, same) = counter.accord_json(*wanted), counter.accord_json(*wanted)
    assert (code, note["text"], note["order_id"]) == (DONE, "Ring twice.", order["id"])
    assert (again, same) == (DONE, note)
    assert f"on {order['id']}" in counter.accord("orders", "note", number, "Left with the neighbour.").stdout
    assert counter.accord_json("orders", "note", "404404", "x")[0] == FAILED
    assert counter.accord_json("orders", "note", number, " ")[0] == USAGE
