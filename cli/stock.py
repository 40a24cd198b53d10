"""`accord stock`: book goods that came in, and say which items may be waited for."""

import secrets
from typing import Annotated

import typer

from cli.orders import refusals
from cli.output import AsJson, document
from cli.target import ApiKey, ApiUrl, call_api

app = typer.Typer(no_args_is_help=True, help="Goods that come in, and items that may be waited for.")

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The item.")]


@app.command()
def receive(
    sku: Sku,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Where the goods came in.")],
    quantity: Annotated[int, typer.Argument(metavar="QTY", min=1, help="How many units.")],
    receipt_id: Annotated[
        str | None, typer.Option("--receipt-id", help="The node's own id: the same one again books nothing.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Book units that came in, and tell the orders that wait for them."""
    body = {"receipt_id": receipt_id or f"cli-{secrets.token_hex(8)}", "node": node, "sku": sku, "quantity": quantity}
    with refusals(as_json):
        booked = call_api(lambda c: c.receive_stock(body), api_url, api_key)
    if as_json:
        document(booked.document)
        return
    print(f" {booked.sku} at {booked.node}: {booked.on_hand} on hand; {booked.orders_told} waiting orders are told")


@app.command()
def backorder(
    sku: Sku,
    allow: Annotated[
        bool, typer.Option("--allow/--refuse", help="Whether orders may wait for units that no node has.")
    ] = True,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an item may be waited for."""
    with refusals(as_json):
        rule = call_api(lambda c: c.set_backorder(sku, allowed=allow), api_url, api_key)
    if as_json:
        document(rule.document)
        return
    print(f" {sku}: orders {'may wait for it' if allow else 'are refused when it is not in stock'}")
