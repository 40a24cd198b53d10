"""`accord demo` and `accord check` against real processes: stories end as told, retail orders add up."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cli.scenarios import SCENARIOS
from tests.support.command import wait_until
from tests.support.counter import Counter, open_counter
from tests.support.planted import plant
from tests.support.stack import Site

ENDS = {
    "happy-path": "completed",
    "split-shipment": "completed",
    "shortage": "rejected",
    "backorder": "completed",
    "payment-declined": "completed",
    "cancel-before-pick": "cancelled",
    "cancel-too-late": "completed",
    "lost-parcel": "completed",
}


@pytest.fixture(scope="module")
async def counter(
    new_site: Callable[[], Awaitable[Site]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Counter]:
    """The command, with a worker and an API behind it and the demo's data in the database."""
    opened = open_counter(await new_site(), tmp_path_factory.mktemp("counter"))
    yield opened
    opened.stop()


def test_every_story_is_listed(counter: Counter) -> None:
    """What is offered is what exists."""
    code, listed = counter.accord_json("demo", "list")
    assert code == 0
    assert [one["name"] for one in listed["data"]] == list(SCENARIOS) == [*ENDS, "worker-crash"]


@pytest.mark.parametrize("name", ENDS)
def test_a_story_ends_as_told(counter: Counter, name: str) -> None:
    """Each story plays to its end and shows its order and timeline."""
    code, told = counter.accord_json("demo", "run", name)
    assert code == 0
    assert told["order"]["status"] == ENDS[name]
    assert [event["sequence"] for event in told["events"]] == list(range(1, told["order"]["version"] + 1))


def test_a_killed_worker_loses_nothing(counter: Counter, tmp_path: Path) -> None:
    """The story kills the recorded worker with orders in flight; when another one starts, all orders end."""
    # given
    shutil.copy(counter.site.stack.root / "secrets.toml", tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"children": {"worker": counter.worker.child.record()}}))
    story = counter.start("demo", "run", "worker-crash", "--json", ACCORD_DATA_DIR=str(tmp_path))
    # when
    wait_until(lambda: not counter.worker.running() or story.poll() is not None)
    assert story.poll() is None, story.communicate()
    counter.worker.restart()
    # then
    printed, _ = story.communicate(timeout=150)
    assert story.returncode == 0, printed
    assert "6 orders ended, each captured exactly what it owes" in printed
    code, report = counter.accord_json("check")
    assert (code, report["violations"]) == (0, 0)


def test_without_a_worker_of_this_folder_none_is_killed(counter: Counter) -> None:
    """The story says where it can be played; the worker of somebody else stays alone."""
    done = counter.accord("demo", "run", "worker-crash")
    assert done.returncode == 1
    assert "in the folder of `up`" in done.stderr
    assert counter.worker.running()
    assert "placed" not in done.stdout
    code, told = counter.accord_json("demo", "run", "worker-crash")
    assert (code, told["exit_code"]) == (1, 1)
    assert told["error"].startswith("worker-crash: no worker")


def test_the_floor_says_what_it_did_when_it_is_interrupted(counter: Counter) -> None:
    """Ctrl-C ends it in order, with one document and exit code 0."""
    floor = subprocess.Popen(
        (sys.executable, "-m", "cli.main", "demo", "floor", "--json"), cwd=counter.path, text=True,
        env=counter.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert floor.stderr is not None
    assert "Ctrl-C ends it" in floor.stderr.readline()
    time.sleep(1)
    floor.send_signal(signal.SIGINT)
    printed, told = floor.communicate(timeout=30)
    assert floor.returncode == 0, told
    assert json.loads(printed).keys() >= {"packed", "handed_over", "delivered", "refused"}


def test_the_floor_finishes_orders_that_were_placed_by_hand(counter: Counter) -> None:
    """An order from the command line is packed, handed over and delivered; then the floor is idle and leaves."""
    code, order = counter.accord_json("orders", "create", "--sku", "LAMP-OAK:1", "--wait", "20")
    assert code == 0
    code, counts = counter.accord_json("demo", "floor", "--until-idle", "--disorder", "1", "--seconds", "60")
    assert (code, counts["packed"], counts["handed_over"], counts["delivered"]) == (0, 1, 1, 1)
    watched = counter.accord("orders", "watch", str(order["order_number"]), "--timeout", "30")
    assert (watched.returncode, watched.stdout.count("shipment.delivered")) == (0, 1)


def test_a_story_says_what_to_look_at(counter: Counter) -> None:
    """For people: steps, timeline, where to look further. An unknown name lists the known ones."""
    done = counter.accord("demo", "run", "shortage")
    assert done.returncode == 0, done.stderr
    for words in ("3 available", "order.rejected", "orders show", "/v1/orders/ord_"):
        assert words in done.stdout
    unknown = counter.accord("demo", "run", "teleport")
    assert unknown.returncode == 2
    assert "happy-path" in unknown.stderr


def test_every_sale_of_the_extract_is_accounted_for(counter: Counter) -> None:
    """All 51: cancelled at every moment, declined and paid again or given up, short and rejected; workflows agree.

    The seed draws one payment that is declined once, one that is always declined, one whose reply and one whose
    request is lost. A quarter of the fulfillment orders is in trouble.
    """
    # when
    wanted = ("--seed", "82", "--concurrency", "24", "--trouble", "0.25", "--parcel-trouble", "0", "--changes", "0.4")
    code, report = counter.accord_json("demo", "retail", *wanted)
    # then
    assert (code, report["ok"]) == (0, True), report
    refused = report["refused"].get("out_of_stock", 0)  # what a node did not find is missing for a later sale
    assert (report["posted"], report["accepted"] + refused, report["still_open"]) == (51, 51, 0)
    assert report["refused"].keys() <= {"out_of_stock"}
    assert refused <= 2
    assert report["completed"] + report["cancelled"] == report["accepted"]
    payments, asked = report["payments"], report["cancellations"]
    drawn = {"pm_ok": 47, "pm_decline_once": 1, "pm_declined": 1, "pm_timeout": 1, "pm_lost": 1}
    assert payments.items() >= {**drawn, "paid_again": 1, "given_up": 1}.items()
    answers = {name: count for name, count in asked.items() if name.startswith(("answered_", "refused_"))}
    assert asked["invoice_whole"] == 7
    assert sum(answers.values()) == asked["sent"] >= 8
    assert sum(report["moments"].values()) == 7
    assert report["moments"].get("late_accepted", 0) == 0
    changed = report["amendments"]
    assert changed["sent"] == sum(count for name, count in changed.items() if name != "sent")
    assert changed["sent"] > 0  # how many come before the node packs is a matter of the machine's speed
    floor = report["floor"]
    assert floor["short_picks"] > 0 < floor["rejected"] <= report["parcels_sourced_again"]
    assert floor["short_units"] >= floor["short_picks"]
    assert report["cancelled"] >= 1
    assert report["units"]["cancelled"] > 0 == report["units"]["open"]
    assert report["check"]["workflows"] == {
        "agreed": report["accepted"], "unanswered": 0, "skipped": None, "missing": [], "different": []
    }  # fmt: skip


def test_parcels_that_do_not_arrive_are_made_good(counter: Counter) -> None:
    """Half of the parcels of ten invoices: sent again or refunded, and every unit and penny is somewhere."""
    # when
    calm = ("--trouble", "0", "--changes", "0")
    wanted = ("--orders", "10", "--run", "unlucky", "--seed", "3", "--parcel-trouble", "0.5", *calm)
    code, report = counter.accord_json("demo", "retail", *wanted)
    # then
    assert (code, report["ok"]) == (0, True), report
    floor, units, money = report["floor"], report["units"], report["money"]
    assert min(floor["lost"], floor["damaged"], floor["brought_back"]) > 0
    assert units["not_delivered"] > 0 < units["sent_again"]
    assert money["refunded_minor"] == money["credited_minor"] > 0
    assert money["captured_minor"] == money["owed_minor"] + money["refunded_minor"]


def test_real_orders_are_accounted_for(counter: Counter) -> None:
    """Fifteen invoices of the extract: every order ends, every unit and penny is somewhere, every law holds."""
    # when
    calm = ("--trouble", "0", "--parcel-trouble", "0", "--changes", "0")
    code, report = counter.accord_json("demo", "retail", "--orders", "15", "--run", "first", "--seed", "5", *calm)
    # then
    assert (code, report["ok"]) == (0, True), report
    assert report["posted"] == report["accepted"] == report["completed"] == 15
    assert report["units"]["ordered"] == report["units"]["delivered"]
    assert report["money"]["captured_minor"] == report["money"]["owed_minor"] == report["money"]["ordered_minor"]
    assert (report["still_open"], report["refused"], report["check"]["violations"]) == (0, {}, 0)
    assert report["parcels"] == report["floor"]["handed_over"] == report["floor"]["delivered"] >= 15
    # and when
    code, again = counter.accord_json("demo", "retail", "--orders", "15", "--run", "first", "--seed", "5", *calm)
    # then
    assert (code, again["units"], again["money"]) == (0, report["units"], report["money"])
    assert (again["parcels"], again["floor"]["handed_over"]) == (report["parcels"], 0)
    assert again["check"]["orders"] == report["check"]["orders"]


def test_a_file_that_is_no_retail_file_is_refused(counter: Counter) -> None:
    """Exit code 2, and the missing columns by name."""
    other = counter.path / "other.csv"
    other.write_text("a,b\n1,2\n")
    done = counter.accord("demo", "retail", "--file", str(other))
    assert done.returncode == 2
    assert "InvoiceNo" in done.stderr
    late = counter.accord("demo", "retail", "--from", "2030-01-01")
    assert late.returncode == 2
    assert "holds no sale" in late.stderr


def test_check_compares_workflows_and_finds_what_is_planted(counter: Counter) -> None:
    """Exit code 0 while every law holds; 1 with the order's name when a row is no longer its workflow's."""
    # given
    _, told = counter.accord_json("demo", "run", "happy-path")
    order_id = told["order"]["id"]
    code, report = counter.accord_json("check", "--workflows", "200")
    assert (code, report["violations"], report["open_orders"]) == (0, 0, 0)
    assert report["workflows"]["agreed"] == report["orders"]
    # when
    plant(
        counter.site.database_url,
        f"UPDATE orders SET state_digest = 'forged' WHERE order_id = '{order_id}'",  # noqa: S608 - our own id
    )
    # then
    code, report = counter.accord_json("check", "--workflows", "200")
    found = {check["name"]: check["keys"] for check in report["checks"] if check["count"]}
    assert code == 1
    assert found == {"header_is_not_its_rows": [order_id], "workflow_is_not_its_row": [order_id]}
    assert "2 VIOLATIONS" in counter.accord("check", "--workflows", "200").stderr
