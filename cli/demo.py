"""`accord demo`: its data, its named stories, and real orders of a real retailer."""

import asyncio
from typing import Annotated

import typer

from cli.client import EventView, OrderView
from cli.orders import refusals
from cli.output import AsJson, ExitCode, document, people, program, speaker
from cli.retail import retail
from cli.show import event_text
from cli.target import ApiKey, ApiUrl, find_target, open_client, temporal_ui
from settings import load_settings

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
    try:
        with refusals(as_json):
            told = asyncio.run(play(name, lambda role: open_client(target, role), lambda text: say(f" · {text}")))
    except ScenarioFailed as problem:
        people(f"{name}: {problem}")
        raise typer.Exit(ExitCode.FAILED) from None
    if as_json:
        document(told)
        return
    for event in told.get("events", ()):
        print(f" ├ {event_text(EventView.model_validate(event))}")
    _what_to_look_at(OrderView.model_validate(told["order"]), target.url)


def _what_to_look_at(order: OrderView, url: str) -> None:
    print(f" └ {order.status}\n")
    print(f"   Show      {program()} orders show {order.order_number}")
    print(f"   API       {url}/v1/orders/{order.id}")
    ui = temporal_ui(load_settings())
    if ui:
        print(f"   Temporal  {ui}/order-{order.id}")
