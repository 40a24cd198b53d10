"""`accord nodes`: which nodes take new work, over the HTTP API."""

from typing import Annotated

import typer

from cli.client import NodeView
from cli.orders import refusals
from cli.output import AsJson, document, people
from cli.target import ApiKey, ApiUrl, call_api

app = typer.Typer(help="List nodes, freeze one, and let it work again.", no_args_is_help=True)

NodeArgument = Annotated[str, typer.Argument(help="Id of the node, like STL.")]
Reason = Annotated[str, typer.Option(help="Why, as a short code like flooded; never free text.")]


@app.command(name="list")
def list_(api_url: ApiUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List nodes, and the work that they have not accepted."""
    with refusals(as_json):
        nodes = call_api(lambda c: c.list_nodes(), api_url, api_key)
    if as_json:
        document({"data": [node.document for node in nodes]})
        return
    for node in nodes:
        print(row_text(node))
    if not nodes:
        people("no nodes")


@app.command()
def freeze(
    node: NodeArgument,
    begins: Annotated[str | None, typer.Option("--from", help="From when on, like 2026-12-01T06:00:00Z.")] = None,
    ends: Annotated[str | None, typer.Option("--until", help="Until when; without it until it is unfrozen.")] = None,
    reason: Reason = "unspecified",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give a node no new work; what it has not accepted goes elsewhere if another node has it."""
    named = {"begins_at": begins, "ends_at": ends}
    body = {"reason": reason, **{name: value for name, value in named.items() if value}}
    with refusals(as_json):
        found = call_api(lambda c: c.freeze_node(node, body), api_url, api_key)
    _show(found, as_json)


@app.command()
def unfreeze(
    node: NodeArgument,
    reason: Reason = "unspecified",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a node take new work again."""
    with refusals(as_json):
        found = call_api(lambda c: c.unfreeze_node(node, {"reason": reason}), api_url, api_key)
    _show(found, as_json)


def row_text(node: NodeView) -> str:
    """A node on one line."""
    words = f"{node.id:<8} {node.name:<24} {_state(node):<10} {node.not_accepted} not accepted"
    return f" {words}{_period(node)}"


def _state(node: NodeView) -> str:
    if not node.enabled:
        return "disabled"
    return "frozen" if node.frozen else "works"


def _period(node: NodeView) -> str:
    if node.freeze is None:
        return ""
    until = f" until {node.freeze['ends_at']}" if node.freeze["ends_at"] else ""
    return f"   frozen from {node.freeze['begins_at']}{until} ({node.freeze['reason']}, {node.freeze['actor']})"


def _show(node: NodeView, as_json: bool) -> None:
    if as_json:
        document(node.document)
        return
    print(row_text(node))
    if node.recalled:
        people(f" {node.recalled} fulfillment orders are asked to leave it")
