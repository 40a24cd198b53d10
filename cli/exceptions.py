"""`accord exceptions`: the queue of orders that need a person, over the HTTP API."""

import asyncio
import time
from typing import Annotated

import typer

from cli.client import AccordClient, CaseView
from cli.orders import reference, refusals
from cli.output import AsJson, ExitCode, document, people, program
from cli.target import ApiKey, ApiUrl, call_api

app = typer.Typer(help="List, take, park and resolve what needs a person.", no_args_is_help=True)

CaseArgument = Annotated[str, typer.Argument(help="Id of the case (exc_...).")]
_OPEN = ("open", "assigned", "escalated", "waiting")
_POLL_S = 0.3
_LONGEST_WAIT_S = 20


@app.command(name="list")
def list_(
    owner: Annotated[list[str] | None, typer.Option(help="Only of this team, repeatable.")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this state, repeatable; without it: all that are not closed.")
    ] = None,
    code: Annotated[list[str] | None, typer.Option(help="Only of this kind, repeatable.")] = None,
    assignee: Annotated[list[str] | None, typer.Option(help="Only those that this one has, repeatable.")] = None,
    order: Annotated[str | None, typer.Option(help="Only of this order: id, number, or external:...")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 20,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List cases, the most urgent first."""
    names = {"owner": owner, "state": state or list(_OPEN), "code": code, "assignee": assignee}
    wanted = {**names, "order": reference(order) if order else None}
    with refusals(as_json):
        cases = call_api(lambda c: c.list_cases(limit, **wanted), api_url, api_key)
    if as_json:
        document({"data": [case.document for case in cases]})
        return
    for case in cases:
        print(row_text(case))
    if not cases:
        people("no cases: nothing needs a person")


@app.command()
def assign(
    case: CaseArgument,
    to: Annotated[str | None, typer.Option("--to", help="Who works on it from now on; without it: you.")] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give a case to somebody, or take it."""
    with refusals(as_json):
        found = call_api(lambda c: c.assign_case(case, to), api_url, api_key)
    _show(found, as_json)


@app.command()
def park(
    case: CaseArgument,
    until: Annotated[str, typer.Option("--until", help="Until when, as 2026-12-01T09:00:00Z; at most 30 days.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Who is waited for, a short code: carrier_asked.")
    ] = "outside_answer",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a case that somebody has wait for an answer from outside; at the date it is theirs again."""
    with refusals(as_json):
        found = call_api(lambda c: c.park_case(case, until, reason), api_url, api_key)
    _show(found, as_json)


@app.command()
def resolve(
    case: CaseArgument,
    choice: Annotated[
        str, typer.Argument(help="retry, cancel, refund, reship, write_off or dismiss, as the case offers.")
    ],
    wait: Annotated[int, typer.Option("--wait", min=0, max=600, help="Wait so many seconds for the outcome.")] = 0,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again sends no second command.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Resolve a case: the order does the step again, cancels what has not left, or is told nothing."""
    with refusals(as_json):
        found = call_api(lambda c: _resolve(c, case, choice, key, wait), api_url, api_key)
    _show(found, as_json)
    if found.resolution and found.resolution["state"] == "declined":
        people(f"the order refused: {found.resolution['reason']}")
        raise typer.Exit(ExitCode.REFUSED)


def row_text(case: CaseView) -> str:
    """One case on one line."""
    who = case.assignee or "nobody"
    words = f"{case.id}  {case.order_number:<12} {case.owner:<12} {case.code:<24} {case.state:<10} due {case.due_at}"
    parked = f", waits until {case.parked['until']} ({case.parked['reason']})" if case.parked else ""
    return f" {words}  {who}{parked}"


def _show(case: CaseView, as_json: bool) -> None:
    if as_json:
        document(case.document)
        return
    print(row_text(case))
    print(f"   {case.detail}")
    if case.resolution:
        print(f"   {case.resolution['choice']}: {case.resolution['state']}")
    elif case.choices:
        people(f" Next      {program()} exceptions resolve {case.id} {'|'.join(case.choices)}")


async def _resolve(client: AccordClient, case: str, choice: str, key: str | None, wait: int) -> CaseView:
    """Resolve; with `wait`, look again until the order has answered."""
    until = time.monotonic() + wait
    found = await client.resolve_case(case, choice, key, wait_s=min(wait, _LONGEST_WAIT_S) or None)
    while found.resolution and found.resolution["state"] == "requested" and time.monotonic() < until:
        await asyncio.sleep(_POLL_S)
        found = await client.get_case(case)
    return found
