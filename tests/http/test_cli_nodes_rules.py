"""`accord nodes` and `accord rules risk` as a person meets them: real processes, JSON, exit codes."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

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


def test_a_node_is_frozen_listed_and_works_again(counter: Counter) -> None:
    """An unknown node and an inverted period are refused."""
    code, listed = counter.accord_json("nodes", "list")
    node = listed["data"][0]["id"]
    assert (code, listed["data"][0]["frozen"]) == (DONE, False)
    code, frozen = counter.accord_json(
        "nodes", "freeze", node, "--reason", "flooded", "--until", "2999-01-01T00:00:00Z"
    )
    assert (code, frozen["frozen"], frozen["freeze"]["reason"]) == (DONE, True, "flooded")
    shown = counter.accord("nodes", "list")
    assert f" {node}" in shown.stdout
    assert "frozen from" in shown.stdout
    code, thawed = counter.accord_json("nodes", "unfreeze", node)
    assert (code, thawed["frozen"]) == (DONE, False)
    assert counter.accord("nodes", "freeze", "ATLANTIS").returncode not in (DONE, UNREACHABLE)
    inverted = counter.accord("nodes", "freeze", node, "--until", "2020-01-01T00:00:00Z")
    assert inverted.returncode == USAGE
    assert "inverted_period" in inverted.stderr or "ends before" in inverted.stderr


def test_limits_of_nodes_are_set_and_shown(counter: Counter, tmp_path: Path) -> None:
    """A node that there is not is refused by name, and nothing is set."""
    node = counter.accord_json("nodes", "list")[1]["data"][0]["id"]
    file, wrong = tmp_path / "silence.json", tmp_path / "wrong.json"
    file.write_text(json.dumps({"nodes": {node: {"accept_s": 3600}}}))
    wrong.write_text(json.dumps({"nodes": {"ATLANTIS": {"accept_s": 3600}}}))
    refused = counter.accord("rules", "silence", "set", str(wrong))
    assert refused.returncode == USAGE
    assert "unknown_node" in refused.stderr
    code, now = counter.accord_json("rules", "silence", "set", str(file))
    assert (code, now["ruleset"], now["action"]) == (DONE, "node_silence@2", "re_source")
    assert counter.accord_json("rules", "silence", "set", str(file))[1]["version"] == 2
    assert f"{node:<8} accept_s 3600" in counter.accord("rules", "silence", "show").stdout


def test_rules_are_tried_set_and_hold_an_order(counter: Counter, tmp_path: Path) -> None:
    """First on made-up facts, then in force; a wrong rule is refused by name."""
    file, wrong = tmp_path / "rules.json", tmp_path / "wrong.json"
    file.write_text(json.dumps({"rules": [{"name": "many_lamps", "when": "units > 1"}]}))
    wrong.write_text(json.dumps({"rules": [{"name": "unknown", "when": "email == 'x'"}]}))
    code, tried = counter.accord_json("rules", "risk", "test", "--file", str(file), "--facts", '{"units": 2}')
    assert (code, tried["holds"], tried["reason"], tried["ruleset"]) == (DONE, True, "many_lamps", "draft")
    refused = counter.accord("rules", "risk", "set", str(wrong))
    assert refused.returncode == USAGE
    assert "email" in refused.stderr
    assert counter.accord("rules", "risk", "set", str(tmp_path / "none.json")).returncode == USAGE
    code, set_now = counter.accord_json("rules", "risk", "set", str(file))
    assert (code, set_now["ruleset"]) == (DONE, "risk@2")
    shown = counter.accord("rules", "risk", "show")
    assert "many_lamps" in shown.stdout
    code, order = counter.accord_json("orders", "create", "--wait", "20", "--sku", "LAMP-OAK:2")
    assert (code, [hold["reason"] for hold in order["holds"]]) == (DONE, ["under_review"])
    code, order = counter.accord_json("orders", "show", order["id"])
    assert (code, [hold["reason"] for hold in order["holds"]]) == (DONE, ["many_lamps"])
    code, again = counter.accord_json("rules", "risk", "test", "--order", order["id"])
    assert (code, again["matched"], again["ruleset"]) == (DONE, ["many_lamps"], "risk@2")
