"""`accord orders force-close`: the last resort, over the HTTP API."""

from typing import Annotated

import typer

from cli.client import ForceClosingView
from cli.orders import OrderArgument, reference, refusals
from cli.output import AsJson, document
from cli.target import ApiKey, ApiUrl, call_api

Reason = Annotated[str, typer.Option(help="Why, as a short code like node_gone; never free text.")]
KeyOption = Annotated[str | None, typer.Option("--idempotency-key", help="The same key again does it no second time.")]


def add_to(app: typer.Typer) -> None:
    """Put the command beside the others about orders."""
    app.command(name="force-close")(force_close)


def force_close(
    order: OrderArgument,
    reason: Reason,
    key: KeyOption = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """End an order that nothing else ends: what can be undone is undone, the rest is one case for a person."""
    with refusals(as_json):
        closing = call_api(lambda c: c.force_close(reference(order), reason, key), api_url, api_key)
    if as_json:
        document(closing.document)
        return
    print(closing_text(closing))


def closing_text(closing: ForceClosingView) -> str:
    """What was undone at once, and what a person has to see to."""
    lines = [f" Closing by force: {closing.state}, {closing.cancelled_units or 0} units cancelled"]
    lines += [f"   still there: {text}" for text in closing.left_at_nodes]
    lines += [f"   on its way: {shipment}" for shipment in closing.on_their_way]
    return "\n".join(lines)
