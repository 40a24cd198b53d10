"""`accord demo`: its data, its named stories, and real orders of a real retailer."""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Callable
from typing import Annotated

import psutil
import typer

from cli.client import EventView, OrderView
from cli.orders import refusals
from cli.output import AsJson, ExitCode, document, leave, people, program, speaker
from cli.retail import retail
from cli.show import event_text
from cli.target import ApiKey, ApiUrl, find_target, open_client, temporal_ui
from settings import load_settings, read_run_file

app = typer.Typer(help="Demo data, named stories, and real retail orders.", no_args_is_help=True)
app.command(help="Send real retail invoices through the stack, and account for everything.")(retail)


@app.command()
def seed(as_json: AsJson = False) -> None:
    """Write the demo's network, items and stock; what is there already stays."""
    from cli.seeding import Seeded, seed_demo
    from store.engine import make_engine

    settings = load_settings()

    async def run() -> Seeded:
        engine = make_engine(settings.dsn, pool_size=1, statement_timeout_ms=60_000)
        try:
            return await seed_demo(engine)
        finally:
            await engine.dispose()

    seeded = asyncio.run(run())
    speaker(as_json)(
        f"{seeded.nodes} nodes, {seeded.zones} zones, {seeded.lanes} lanes, {seeded.items} items, "
        f"{seeded.stock_levels} stock levels, {seeded.channels} channels are new"
    )
    if as_json:
        document(seeded.model_dump())


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the named stories."""
    from cli.scenarios import SCENARIOS

    if as_json:
        document({"data": [{"name": one.name, "shows": one.shows} for one in SCENARIOS.values()]})
        return
    for one in SCENARIOS.values():
        print(f" {one.name:<20} {one.shows}")
    people(f" Play one  {program()} demo run happy-path        Real orders  {program()} demo retail")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of a story, see `accord demo list`.")],
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Play one named story against the running stack; exit code 1 when it does not end as it must."""
    from cli.scenarios import SCENARIOS, ScenarioFailed, play

    if name not in SCENARIOS:
        raise typer.BadParameter(f"{name} is not one of {', '.join(SCENARIOS)}")
    target = find_target(api_url, api_key)
    say = speaker(as_json)
    playing = play(name, lambda role: open_client(target, role), lambda text: say(f" · {text}"), _find_worker)
    try:
        with refusals(as_json):
            told = asyncio.run(playing)
    except ScenarioFailed as problem:
        leave(f"{name}: {problem}", ExitCode.FAILED, as_json=as_json)
    if as_json:
        document(told)
        return
    for event in told.get("events", ()):
        print(f" ├ {event_text(EventView.model_validate(event))}")
    _what_to_look_at(OrderView.model_validate(told["order"]), target.url)


@app.command()
def floor(
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds; else at Ctrl-C.")] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when no fulfillment order is open.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed does the same.")] = 0,
    disorder: Annotated[float, typer.Option(min=0, max=1, help="Share of parcels with disorderly events.")] = 0.0,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Be the simulated warehouse and carrier: pack, hand over and deliver whatever is open."""
    from cli.floor import Floor, FloorCounts, Habits

    until = time.monotonic() + seconds if seconds is not None else math.inf

    async def work() -> FloorCounts:
        told = _at_ctrl_c()
        async with open_client(find_target(api_url, api_key), "warehouse") as client:
            worker = Floor(client, Habits(seed, disorder))
            await worker.run(lambda: told.is_set() or time.monotonic() > until or (until_idle and worker.idle))
            return worker.counts

    people(" the floor works" + ("" if until_idle or seconds is not None else ", Ctrl-C ends it"))
    with refusals(as_json):
        counts = asyncio.run(work())
    speaker(as_json)(f" {counts.packed} packed, {counts.handed_over} handed over, {counts.delivered} delivered")
    if as_json:
        document({**vars(counts), "refused": dict(counts.refused)})


def _at_ctrl_c() -> asyncio.Event:
    """Set at the first Ctrl-C, which lets what is under way be completed; the second one interrupts."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note() -> None:
        told.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, note)
    return told


def _find_worker() -> Callable[[], None] | None:
    """What kills the worker of this folder's stack, by the ids that the stack has recorded; None without one."""
    from devstack.children import recorded_process

    record = read_run_file(load_settings().data_dir).get("children", {}).get("worker")
    worker = recorded_process(record) if record else None
    if worker is None:
        return None

    def kill() -> None:
        for process in (worker, *worker.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    return kill


def _what_to_look_at(order: OrderView, url: str) -> None:
    print(f" └ {order.status}\n")
    print(f"   Show      {program()} orders show {order.order_number}")
    print(f"   API       {url}/v1/orders/{order.id}")
    ui = temporal_ui(load_settings())
    if ui:
        print(f"   Temporal  {ui}/order-{order.id}")
