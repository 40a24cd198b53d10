"""`accord orders`: place, list, show, follow and cancel orders over the HTTP API."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.bodies import Wanted, WantedError, find_city, json_file, order_body, parse_wanted
from cli.client import AccordClient, ApiProblem, OrderView
from cli.output import AsJson, ExitCode, document, document_line, leave, people, program
from cli.show import cancellation_text, event_text, order_text, refusal_text, row_text
from cli.target import ApiKey, ApiUrl, call_api, temporal_ui
from settings import load_settings

app = typer.Typer(help="Place orders, look at them, and change them.", no_args_is_help=True)

OrderArgument = Annotated[str, typer.Argument(help="Order id (ord_...), order number, or external:CHANNEL:REFERENCE.")]
WaitSeconds = Annotated[int, typer.Option("--wait", min=0, max=600, help="Wait so many seconds for the outcome.")]
_POLL_S = 0.3
_USAGE_STATUSES = (400, 413, 415, 422)
_FAILED_STATUSES = (404, 500)


@app.command()
def create(  # noqa: PLR0917 - each option is a parameter
    file: Annotated[Path | None, typer.Argument(help="The order as JSON, `-` for standard input.")] = None,
    sku: Annotated[
        list[str] | None, typer.Option("--sku", help="SKU:QUANTITY or SKU:QUANTITY@PRICE, repeatable.")
    ] = None,
    city: Annotated[str, typer.Option(help="Where it goes: one of the demo's cities.")] = "New York",
    payment: Annotated[str, typer.Option(help="Payment reference, like pm_ok or pm_decline_once.")] = "pm_ok",
    service: Annotated[str, typer.Option(help="standard or express.")] = "standard",
    replaces: Annotated[
        str | None, typer.Option(help="An earlier order, like ORDER of `show`: this one brings later goods for it.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again places no second order.")
    ] = None,
    wait: WaitSeconds = 0,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Place an order from a JSON file, or from options."""
    with refusals(as_json):
        body = _body(file, sku or [], city, payment, service)
        order = call_api(lambda c: _create(c, body, key, wait, replaces), api_url, api_key, "storefront")
    if as_json:
        document(order.document)
    else:
        print(order_text(order, (), temporal_ui(load_settings())))
    if order.status == "rejected":
        people(f"refused: {refusal_text(order.document.get('rejection') or {})}")
        raise typer.Exit(ExitCode.REFUSED)
    people(f" Next      {program()} orders watch {order.order_number}")


@app.command(name="list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only with this status, repeatable.")] = None,
    waiting_on: Annotated[list[str] | None, typer.Option(help="Only waiting for this, repeatable.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only of this sales channel.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 20,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first."""

    async def ask(client: AccordClient) -> list[OrderView]:
        return await client.list_orders(limit, status=status, waiting_on=waiting_on, channel=channel)

    with refusals(as_json):
        orders = call_api(ask, api_url, api_key)
    if as_json:
        document({"data": [order.document for order in orders]})
        return
    for order in orders:
        print(row_text(order))
    if not orders:
        people(f"no orders  -> {program()} orders create --sku LAMP-OAK:2 --city Boston")


@app.command()
def show(order: OrderArgument, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show one order: money, promise, parcels, timeline, who is waited for, what can be done."""

    async def ask(client: AccordClient) -> tuple[OrderView, list[Any]]:
        found = await client.get_order(reference(order))
        return found, await client.events(found.id)

    with refusals(as_json):
        found, events = call_api(ask, api_url, api_key)
    if as_json:
        document({**found.document, "events": [event.document for event in events]})
        return
    print(order_text(found, events, temporal_ui(load_settings())))


@app.command()
def watch(
    order: OrderArgument,
    timeout: Annotated[int, typer.Option(min=1, help="Stop after so many seconds.")] = 86_400,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Follow an order's timeline until the order has ended."""
    with refusals(as_json):
        ended = call_api(lambda c: _watch(c, reference(order), timeout, as_json), api_url, api_key)
    if not ended:
        leave(f"still open after {timeout} s\n  -> {program()} orders show {order}", ExitCode.FAILED, as_json=as_json)


@app.command()
def cancel(  # noqa: PLR0917 - each option is a parameter
    order: OrderArgument,
    reason: Annotated[
        str, typer.Option(help="changed_mind, duplicate, found_elsewhere, fraud or other.")
    ] = "changed_mind",
    line: Annotated[
        list[str] | None, typer.Option(help="Units of a line, as NUMBER=UNITS; again for more. Without: all.")
    ] = None,
    write_off: Annotated[
        bool, typer.Option("--write-off", help="What a node has of it does not come back to stock.")
    ] = False,
    no_refund: Annotated[bool, typer.Option("--no-refund", help="The customer pays for it all the same.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Not at all where some of it has left or is being stopped.")
    ] = False,
    recall: Annotated[
        bool, typer.Option("--recall", help="Ask the carrier to bring back whole parcels that have left.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    wait: WaitSeconds = 0,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Cancel units of an order, or everything that has not left yet, and print the outcome."""
    lines = [line_units(text) for text in line or ()]
    options = {
        "restock": not write_off,
        "refund": "none" if no_refund else "full",
        "all_or_nothing": all_or_nothing,
        "recall": recall,
    }
    with refusals(as_json):
        if dry_run:
            plan = call_api(lambda c: c.preview_cancel(reference(order), reason, lines, options), api_url, api_key)
            document(plan)
            if not plan.get("allowed"):
                raise typer.Exit(ExitCode.REFUSED)
            return

        async def ask(client: AccordClient) -> tuple[OrderView, Any]:
            found = await client.get_order(reference(order))
            outcome = await client.cancel(found.id, reason, lines=lines, options=options)
            until = time.monotonic() + wait
            while outcome.state == "requested" and time.monotonic() < until:
                await asyncio.sleep(_POLL_S)
                outcome = await client.cancellation(found.id, outcome.id)
            return found, outcome

        found, outcome = call_api(ask, api_url, api_key)
    if as_json:
        document(outcome.document)
    else:
        print(cancellation_text(outcome, found.currency))
    if outcome.state == "declined":
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def note(
    order: OrderArgument,
    text: Annotated[str, typer.Argument(help="What the note says, `-` for standard input.")],
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again writes no second note.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Write a note on an order: for colleagues, stored sealed."""
    content = sys.stdin.read().rstrip() if text == "-" else text
    with refusals(as_json):
        written = call_api(lambda c: c.add_note(reference(order), content, key), api_url, api_key, "service")
    if as_json:
        document(written.document)
    else:
        print(f" Note {written.id} on {written.order_id}")


def reference(text: str) -> str:
    """How the API names the order that a person typed: an id, a number, or `external:...` as it is."""
    return text if text.startswith(("ord_", "number:", "external:")) else f"number:{text}"


@contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Print a problem document and leave with its exit code."""
    try:
        yield
    except ApiProblem as problem:
        if as_json:
            document_line(problem.document)
        people(f"{problem.document.get('title', 'Refused')}\n   {refusal_text(problem.document)}")
        raise typer.Exit(exit_code_of(problem)) from None
    except WantedError as problem:
        leave(str(problem), ExitCode.USAGE, as_json=as_json)


def exit_code_of(problem: ApiProblem) -> ExitCode:
    """What a problem of the API means for the caller of the command."""
    if problem.status in _USAGE_STATUSES:
        return ExitCode.USAGE
    return ExitCode.FAILED if problem.status in _FAILED_STATUSES else ExitCode.REFUSED


def _body(file: Path | None, skus: list[str], city: str, payment: str, service: str) -> dict[str, Any]:
    if file is None:
        lines: list[Wanted] = [parse_wanted(text) for text in skus]
        if not lines:
            raise WantedError("give a JSON file, or at least one --sku, like --sku LAMP-OAK:2 --city Boston")
        return order_body(lines, find_city(city), reference=payment, service_level=service)
    return json_file(file, "an order")


async def _create(
    client: AccordClient, body: dict[str, Any], key: str | None, wait: int, replaces: str | None
) -> OrderView:
    """Place the order; with `wait`, look again until its workflow has answered."""
    until = time.monotonic() + wait
    if replaces:
        earlier = await client.get_order(reference(replaces))
        body = {**body, "replaces_order": earlier.id}
    order = await client.create_order(body, key, wait_s=min(wait, 20) or None)
    while not order.answered and time.monotonic() < until:
        await asyncio.sleep(_POLL_S)
        order = await client.get_order(order.id)
    return order


async def _watch(client: AccordClient, order: str, timeout_s: int, as_json: bool) -> bool:
    """Print events as they come; True when the order has ended."""
    until = time.monotonic() + timeout_s
    after = 0
    while True:
        found = await client.get_order(order)
        for event in await client.events(found.id, after):
            after = event.sequence
            print(json.dumps(event.document) if as_json else f" {event_text(event)}", flush=True)
        if found.ended and after >= found.version:
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_POLL_S)


def line_units(text: str) -> tuple[int, int]:
    """Line number and units, as typed: `2=3`."""
    number, _, units = text.partition("=")
    if not (number.isdigit() and units.isdigit()):
        raise typer.BadParameter(f"{text} is not NUMBER=UNITS", param_hint="--line")
    return int(number), int(units)
