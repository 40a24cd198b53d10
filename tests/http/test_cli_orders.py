"""`accord orders` as a person meets it: real processes, JSON on request, and exit codes that mean something."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cli.client import AccordClient, WorkView
from providers.simulation import Simulation
from tests.support.command import wait_until
from tests.support.counter import Counter, open_counter
from tests.support.eventually import eventually
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


def place(counter: Counter, *options: str) -> dict[str, object]:
    """Place an order and return it."""
    code, order = counter.accord_json("orders", "create", "--wait", "20", *(options or ("--sku", "LAMP-OAK:2")))
    assert code == DONE
    return order


def test_an_order_from_options_is_promised(counter: Counter) -> None:
    """Two lamps and a mug at the demo's prices, held and promised."""
    order = place(counter, "--sku", "LAMP-OAK:2", "--sku", "MUG-BLUE", "--city", "Boston")
    assert order["status"] in ("confirmed", "in_fulfillment")
    assert order["totals"]["ordered_minor"] == 2 * 4500 + 1200  # type: ignore[index]
    assert order["promise"]["state"] == "on_track"  # type: ignore[index]


def test_an_order_from_a_file_is_placed_once(counter: Counter, tmp_path: Path) -> None:
    """The same key again answers with the first order."""
    body = {
        "channel": "web-us",
        "currency": "USD",
        "customer": {"name": "Jamie Example"},
        "ship_to": {
            "name": "Jamie Example",
            "lines": ["1 Sample Street"],
            "city": "Cambridge",
            "region": "MA",
            "postal_code": "02139",
            "country": "US",
        },
        "lines": [{"sku": "MUG-BLUE", "quantity": 1, "unit_price_minor": 1200}],
        "tenders": [{"reference": "pm_ok", "amount_minor": 1200}],
        "total_minor": 1200,
    }
    file = tmp_path / "order.json"
    file.write_text(json.dumps(body))
    first = place(counter, str(file), "--idempotency-key", "file-1")
    again = place(counter, str(file), "--idempotency-key", "file-1")
    assert first["id"] == again["id"]


def test_show_tells_the_story_on_one_screen(counter: Counter) -> None:
    """Header, promise, parts, timeline, who is waited for, what can be done; JSON holds the events too."""
    order = place(counter)
    number = str(order["order_number"])
    shown = counter.accord("orders", "show", number)
    assert shown.returncode == DONE
    for words in (f"Order {number} · web-us · 1 lines · 90.00 USD", "Promise", "order.confirmed", "Can do", "waiting"):
        assert words in shown.stdout
    code, by_id = counter.accord_json("orders", "show", str(order["id"]))
    assert code == DONE
    assert by_id["order_number"] == number
    assert by_id["events"][0]["type"] == "order.confirmed"


def test_list_filters_and_reads_as_json(counter: Counter) -> None:
    """Newest first, bounded, of one status."""
    newest = place(counter)
    code, listed = counter.accord_json("orders", "list", "--limit", "1")
    assert code == DONE
    assert [order["id"] for order in listed["data"]] == [newest["id"]]
    code, none = counter.accord_json("orders", "list", "--status", "completed", "--channel", "retail-uk")
    assert (code, none) == (DONE, {"data": []})
    assert str(newest["order_number"]) in counter.accord("orders", "list").stdout


def test_a_cancelled_order_ends_and_can_be_followed(counter: Counter) -> None:
    """The plan first, then the outcome; `watch` prints one document per event and ends with the order."""
    number = str(place(counter)["order_number"])
    code, plan = counter.accord_json("orders", "cancel", number, "--dry-run")
    assert (code, plan["allowed"]) == (DONE, True)
    code, outcome = counter.accord_json("orders", "cancel", number, "--wait", "20")
    assert (code, outcome["state"]) == (DONE, "confirmed")
    watched = counter.accord("orders", "watch", number, "--timeout", "30", "--json")
    assert watched.returncode == DONE
    events = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "order.cancelled"


def test_goods_are_written_off_and_money_kept_by_option(counter: Counter) -> None:
    """`--write-off --no-refund`: the plan and the outcome say the same, and the screen names both."""
    number = str(place(counter)["order_number"])
    options = ("--reason", "other", "--write-off", "--no-refund")
    code, plan = counter.accord_json("orders", "cancel", number, *options, "--dry-run")
    assert (code, plan["allowed"], plan["restock"]) == (DONE, True, False)
    screen = counter.accord("orders", "cancel", number, *options, "--wait", "20")
    assert screen.returncode == DONE, screen.stdout + screen.stderr
    assert "paid all the same" in screen.stdout
    assert "written off at" in screen.stdout


def test_later_goods_for_a_cancelled_order_are_placed_for_it(counter: Counter) -> None:
    """`create --replaces` by number; both screens name the other order, and what does not exist is exit code 1."""
    old = place(counter)
    number = str(old["order_number"])
    assert counter.accord("orders", "cancel", number, "--wait", "20").returncode == DONE
    new = place(counter, "--sku", "LAMP-OAK", "--replaces", number)
    assert new["replaces_order"] == old["id"]
    assert f"Replaces  {old['id']}" in counter.accord("orders", "show", str(new["order_number"])).stdout
    assert f"Replaced  by order {new['order_number']}" in counter.accord("orders", "show", number).stdout
    code, problem = counter.accord_json("orders", "create", "--sku", "LAMP-OAK", "--replaces", "no-such-number")
    assert (code, problem["status"]) == (FAILED, 404)


async def _hand_over(counter: Counter, order_id: str) -> None:
    """The node packs what it has of the order, and the carrier takes it."""
    async with AccordClient(counter.api.url, counter.site.keys["warehouse"]) as floor:

        async def at_node(*, labelled: bool) -> WorkView | None:
            mine = [one for one in await floor.work() if one.order_id == order_id and one.stage != "allocated"]
            return next((one for one in mine if bool(one.tracking_number) or not labelled), None)

        work = await eventually(lambda: at_node(labelled=False))
        await floor.report(work.id, "packed", f"{work.id}-packed")
        await eventually(lambda: at_node(labelled=True))
        await floor.report(work.id, "handed_over", f"{work.id}-handed_over")


async def test_a_return_is_quoted_or_refused(counter: Counter) -> None:
    """Exit code 3 while nothing has left, and what to do instead; then the amounts, and whoever cancels is led here."""
    order = place(counter)
    number = str(order["order_number"])
    code, refused = counter.accord_json("orders", "return-quote", number, "--line", "1=1")
    assert (code, refused["reason"], refused["alternative"]) == (REFUSED, "not_returnable", "cancel")
    assert counter.accord("orders", "return-quote", number, "--line", "one").returncode == USAGE
    await _hand_over(counter, str(order["id"]))
    code, quote = counter.accord_json("orders", "return-quote", number, "--line", "1=1")
    assert (code, quote["money"]["refund_minor"]) == (DONE, 4500)
    screen = counter.accord("orders", "return-quote", number)
    assert "line 1  2 x LAMP-OAK (2 after delivery): 90.00 USD, or 90.00 USD where the cause is ours" in screen.stdout
    late = counter.accord("orders", "cancel", number)
    assert late.returncode == REFUSED
    assert f"accord orders return-quote {order['id']}" in late.stderr


async def test_a_parcel_that_has_left_is_asked_back(counter: Counter) -> None:
    """Refused without `--recall`, which the refusal names; planned and asked with it, and seen on the order."""
    order = place(counter, "--sku", "MUG-BLUE:1")
    number = str(order["order_number"])
    await _hand_over(counter, str(order["id"]))
    code, refused = counter.accord_json("orders", "cancel", number)
    assert (code, refused["reason"], refused["alternative"]) == (REFUSED, "already_handed_over", "return")
    assert "with recall" in refused["detail"]
    code, plan = counter.accord_json("orders", "cancel", number, "--recall", "--dry-run")
    assert (code, [line["outcome"] for line in plan["lines"]]) == (DONE, ["needs_carrier"])
    screen = counter.accord("orders", "cancel", number, "--recall")
    assert screen.returncode == DONE, screen.stdout + screen.stderr
    assert "recall_requested" in screen.stdout
    assert "asked back from the carrier: shp_" in screen.stdout
    wait_until(lambda: "return_to_sender  recall agreed" in counter.accord("orders", "show", number).stdout)
    code, again = counter.accord_json("orders", "cancel", number, "--recall")
    assert (code, again["reason"]) == (REFUSED, "cannot_be_recalled")


def test_an_order_that_does_not_end_in_time_is_told_on_one_line_too(counter: Counter) -> None:
    """`watch --json` prints one document a line, the last one says that the order is still open; exit code 1."""
    number = str(place(counter)["order_number"])
    watched = counter.accord("orders", "watch", number, "--timeout", "1", "--json")
    assert watched.returncode == FAILED
    *events, last = [json.loads(line) for line in watched.stdout.splitlines()]
    assert events[0]["type"] == "order.confirmed"
    assert (last["error"], last["exit_code"]) == ("still open after 1 s", FAILED)


def test_an_order_is_held_shown_and_released(counter: Counter) -> None:
    """The hold's id stands on the order's screen; a second release is refused, and a reject cancels."""
    order = place(counter, "--sku", "LAMP-OAK:2", "--payment", "pm_declined")
    number = str(order["order_number"])
    code, held = counter.accord_json("orders", "hold", number, "--type", "address", "--for", "24h", "--line", "1")
    assert code == DONE
    assert (held["state"], held["blocks"], held["line"]) == ("placed", ["release", "ship"], 1)
    shown = counter.accord("orders", "show", number).stdout
    assert "Hold      address  line 1  blocks release, ship until" in shown
    assert held["id"] in shown
    released = counter.accord("orders", "release", number, str(held["id"]), "--reason", "customer_confirmed")
    assert released.returncode == DONE
    assert f"Hold {held['id']}: address, released" in released.stdout
    code, problem = counter.accord_json("orders", "release", number, str(held["id"]))
    assert (code, problem["reason"]) == (REFUSED, "hold_not_placed")
    code, fraud = counter.accord_json("orders", "hold", number, "--type", "fraud", "--block", "release")
    assert (code, fraud["blocks"]) == (DONE, ["release"])
    code, rejected = counter.accord_json("orders", "release", number, str(fraud["id"]), "--reject")
    assert (code, rejected["state"]) == (DONE, "rejected")
    watched = counter.accord("orders", "watch", number, "--timeout", "30", "--json")
    assert json.loads(watched.stdout.splitlines()[-1])["type"] == "order.cancelled"


def test_a_short_pick_is_told_at_the_terminal(counter: Counter) -> None:
    """Tried first, then told: the node's order is rejected and its units are placed again; a repeat changes nothing."""
    # given
    order = place(counter)
    number = str(order["order_number"])

    def parts() -> list[dict[str, str]]:
        found: list[dict[str, str]] = counter.accord_json("orders", "show", number)[1]["fulfillment_orders"]
        return found

    wait_until(lambda: [part["state"] for part in parts()] == ["submitted"])
    (there,) = parts()
    # when
    tried = counter.accord("orders", "short", number, "--line", "1=1", "--dry-run")
    told = ("orders", "short", number, "--line", "1=1", "--cause", "damaged", "--report-id", "bin-7")
    first = counter.accord(*told)
    again = counter.accord_json("orders", "short", there["id"], *told[3:])
    # then
    assert f"Would report 1 of line 1 of {there['id']} short" in tried.stdout
    assert first.returncode == DONE, first.stdout + first.stderr
    assert f"Reported 1 of line 1 of {there['id']} short (damaged): taken" in first.stdout
    assert (again[0], again[1]["applied"], again[1]["why"]) == (DONE, False, "reported before")
    events = counter.accord_json("orders", "show", number)[1]["events"]
    assert "fulfillment.short" in {event["type"] for event in events}


def test_a_short_pick_of_nothing_at_a_node_leaves_with_two(counter: Counter) -> None:
    """An order that no node works on, and units that cannot be read."""
    number = str(place(counter)["order_number"])
    assert counter.accord("orders", "cancel", number, "--wait", "20").returncode == DONE
    ended = counter.accord("orders", "short", number)
    assert (ended.returncode, "no node is working on" in ended.stderr) == (USAGE, True)
    assert counter.accord("orders", "short", number, "--line", "one").returncode == USAGE


def test_a_cancellation_that_the_node_declines_leaves_with_three(counter: Counter) -> None:
    """Asked with `--wait`: the node has handed the parcel over, and its answer decides."""
    order = place(counter)
    number = str(order["order_number"])
    with Simulation(counter.site.simulated_state) as simulation:
        simulation.set_control("warehouses.stop", "too_late", str(order["id"]))
    wait_until(lambda: "for node until" in counter.accord("orders", "show", number).stdout)
    code, outcome = counter.accord_json("orders", "cancel", number, "--wait", "20")
    assert (code, outcome["state"]) == (REFUSED, "declined")


def test_what_a_rule_refuses_leaves_with_three(counter: Counter) -> None:
    """A closed order cannot be cancelled, a shortage says what is available; both print the problem."""
    number = str(place(counter)["order_number"])
    assert counter.accord("orders", "cancel", number, "--wait", "20").returncode == DONE
    assert counter.accord("orders", "watch", number, "--timeout", "30").returncode == DONE
    code, problem = counter.accord_json("orders", "cancel", number)
    assert (code, problem["status"]) == (REFUSED, 409)
    code, problem = counter.accord_json("orders", "create", "--sku", "CLOCK-BRASS:40", "--wait", "20")
    assert (code, problem["type"]) == (REFUSED, "/problems/out-of-stock")
    assert problem["lines"] == [{"line": 1, "sku": "CLOCK-BRASS", "requested": 40, "available": 3}]
    assert "3 available" in counter.accord("orders", "create", "--sku", "CLOCK-BRASS:40").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create",), "at least one --sku"),
        (("create", "--sku", "LAMP-OAK:x"), "SKU:QUANTITY"),
        (("create", "--sku", "NO-SUCH:1"), "add a price"),
        (("create", "--sku", "LAMP-OAK:1", "--city", "Atlantis"), "Atlantis"),
        (("create", "missing.json"), "missing.json"),
        (("create", "--sku", "NO-SUCH:1@100"), "unknown_sku"),
        (("list", "--status", "lost"), "status"),
        (("list", "--limit", "0"), "limit"),
        (("cancel", "1", "--reason"), "reason"),
        (("hold", "1", "--for", "soon"), "no duration"),
        (("hold", "1", "--for", "1s"), "greater than or equal to 60"),
        (("hold", "1", "--type", "mood"), "/type"),
        (("release", "1"), "HOLD"),
    ],
)
def test_what_cannot_be_meant_leaves_with_two(counter: Counter, arguments: tuple[str, ...], says: str) -> None:
    """Usage errors name what was wrong, and nothing is placed."""
    done = counter.accord("orders", *arguments)
    assert done.returncode == USAGE, done.stderr
    assert says in done.stderr


def test_what_does_not_exist_leaves_with_one(counter: Counter) -> None:
    """An unknown order is a failed command, told in words and as the API's problem."""
    for command in ("show", "watch", "cancel"):
        code, problem = counter.accord_json("orders", command, "404404")
        assert (code, problem["type"]) == (FAILED, "/problems/not-found")


def test_an_api_that_is_not_there_leaves_with_four(counter: Counter) -> None:
    """After its patience the command says so and how to start one."""
    done = counter.accord("orders", "list", ACCORD_API_URL="http://127.0.0.1:9")
    assert done.returncode == UNREACHABLE
    assert "did not answer" in done.stderr


def test_without_a_key_the_command_says_where_to_get_one(counter: Counter, tmp_path: Path) -> None:
    """No folder of a stack and no key in the environment: usage, exit code 2."""
    done = counter.accord("orders", "list", ACCORD_DATA_DIR=str(tmp_path))
    assert done.returncode == USAGE
    assert "ACCORD_API_KEY" in done.stderr


def test_a_key_of_another_role_is_refused(counter: Counter) -> None:
    """The API decides what a key may do."""
    code, problem = counter.accord_json("orders", "list", ACCORD_API_KEY=counter.site.keys["warehouse"])
    assert (code, problem["status"]) == (REFUSED, 403)
