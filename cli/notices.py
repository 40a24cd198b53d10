"""`accord orders notices` and `accord orders resend`: what the customer was told, and telling it again."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.client import NoticeView
from cli.orders import OrderArgument, reference, refusals
from cli.output import AsJson, document, people, program
from cli.target import ApiKey, ApiUrl, call_api


def add_to(app: typer.Typer) -> None:
    """Put the commands beside the others about orders."""
    app.command()(notices)
    app.command()(resend)


def notices(order: OrderArgument, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List what the customer of an order was told, or is going to be."""
    with refusals(as_json):
        found = call_api(lambda c: c.notices(reference(order)), api_url, api_key)
    if as_json:
        document({"data": [notice.document for notice in found]})
        return
    for notice in found:
        print(row_text(notice))
    if not found:
        people("no notices: nothing has happened yet that the customer is told of")


def resend(
    order: OrderArgument,
    notice: Annotated[str, typer.Argument(help="Id of the notice (ntc_...).")],
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again sends it no second time.")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send a notice again. The first one stays as it is, with what became of it."""
    with refusals(as_json):
        new = call_api(lambda c: c.resend(reference(order), notice, key), api_url, api_key)
    if as_json:
        document(new.document)
        return
    print(row_text(new))
    people(f" Next      {program()} orders notices {order}")


def row_text(notice: NoticeView) -> str:
    """A notice on one line."""
    what = f" again, as {notice.resends}" if notice.resends else ""
    why = f" ({notice.why})" if notice.why else ""
    tries = f", attempt {notice.attempts}" if notice.attempts > 1 else ""
    when = _day_time(notice.settled_at or notice.created_at)
    return f" {notice.id}  {when}  {notice.kind:<21} {notice.language:<3} {notice.state}{why}{tries}{what}"


def _day_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %b %H:%M:%S UTC")
