"""`accord orders short`: what a node cannot find, told at a terminal."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer

from cli.bodies import WantedError
from cli.client import AccordClient
from cli.orders import line_units, reference, refusals
from cli.output import AsJson, document
from cli.target import ApiKey, ApiUrl, call_api

Json = dict[str, Any]
_AT_THE_NODE = ("submitted", "accepted", "in_progress", "cancellation_requested")
_FULFILLMENT = "ful_"


def add_to(app: typer.Typer) -> None:
    """Put the command beside the others about orders."""
    app.command()(short)


def short(
    order: Annotated[
        str, typer.Argument(help="Order, as in the other commands, or one of its fulfillment orders (ful_...).")
    ],
    line: Annotated[
        list[str] | None, typer.Option(help="Units of a line that are missing, as NUMBER=UNITS. Without: all.")
    ] = None,
    cause: Annotated[str, typer.Option(help="not_found, damaged, no_capacity, closed or other.")] = "not_found",
    report_id: Annotated[
        str | None, typer.Option("--report-id", help="The node's own id: the same again changes nothing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be reported.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Report a short pick: the node cannot ship these units, and they are placed elsewhere."""
    missing = [line_units(text) for text in line or ()]

    async def ask(client: AccordClient) -> tuple[str, Json]:
        part = order if order.startswith(_FULFILLMENT) else await _at_the_node(client, order)
        if dry_run:
            return part, {}
        return part, await client.report(part, "short", report_id or f"short-{uuid4()}", missing, cause)

    with refusals(as_json):
        part, told = call_api(ask, api_url, api_key)
    if as_json:
        document({"fulfillment_order": part, "lines": missing, "reason": cause, "dry_run": dry_run, **told})
    else:
        print(short_text(part, missing, cause, told))


def short_text(part: str, missing: Sequence[tuple[int, int]], cause: str, told: Json) -> str:
    """What was reported, or would be, and what it did."""
    units = ", ".join(f"{count} of line {number}" for number, count in missing) or "all units"
    if not told:
        return f" Would report {units} of {part} short: {cause}"
    what = "taken" if told.get("applied") else str(told.get("why") or "stored, the order's answer follows")
    return f" Reported {units} of {part} short ({cause}): {what}"


async def _at_the_node(client: AccordClient, order: str) -> str:
    """The one fulfillment order that a node is working on.

    Raises:
        WantedError: there is none, or there are several.
    """
    found = await client.get_order(reference(order))
    there = [part for part in found.fulfillment_orders if part["state"] in _AT_THE_NODE]
    if len(there) == 1:
        return str(there[0]["id"])
    if not there:
        raise WantedError(f"no node is working on {order}")
    several = ", ".join(f"{part['id']} at {part['node']}" for part in there)
    raise WantedError(f"several nodes are working on {order}: name one of {several}")
