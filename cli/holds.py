"""`accord orders hold` and `accord orders release`: stop an order for a while, and let it go on or cancel it."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.bodies import WantedError
from cli.client import HoldView
from cli.orders import OrderArgument, reference, refusals
from cli.output import AsJson, ExitCode, document
from cli.show import refusal_text
from cli.target import ApiKey, ApiUrl, call_api

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
KeyOption = Annotated[str | None, typer.Option("--idempotency-key", help="The same key again does it no second time.")]
Reason = Annotated[str, typer.Option(help="Why, as a short code like number_missing; never free text.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands beside the others about orders."""
    app.command()(hold)
    app.command()(release)


def hold(  # noqa: PLR0917 - each option is a parameter
    order: OrderArgument,
    hold_type: Annotated[
        str, typer.Option("--type", help="fraud, address, payment, credit, manual or quality.")
    ] = "manual",
    line: Annotated[int | None, typer.Option(min=1, help="Only what contains this line.")] = None,
    lasts: Annotated[str | None, typer.Option("--for", help="How long at most, like 30m, 24h or 2d.")] = None,
    block: Annotated[
        list[str] | None, typer.Option(help="schedule, release, ship or refund, repeatable; else as the type says.")
    ] = None,
    reason: Reason = "unspecified",
    key: KeyOption = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stop steps of an order until somebody decides, or the hold's limit does."""
    with refusals(as_json):
        body: dict[str, Any] = {"type": hold_type, "reason": reason, "blocks": block or []}
        if line is not None:
            body["line"] = line
        if lasts is not None:
            body["lasts_s"] = parse_duration(lasts)
        held = call_api(lambda c: c.place_hold(reference(order), body, key), api_url, api_key)
    _show(held, as_json)


def release(
    order: OrderArgument,
    hold_id: Annotated[str, typer.Argument(metavar="HOLD", help="Id of the hold (hld_...).")],
    reject: Annotated[bool, typer.Option("--reject", help="Cancel what it holds instead.")] = False,
    reason: Reason = "unspecified",
    key: KeyOption = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """End a hold: the order goes on; with --reject what it holds is cancelled."""
    body = {"decision": "reject" if reject else "release", "reason": reason}
    with refusals(as_json):
        ended = call_api(lambda c: c.release_hold(reference(order), hold_id, body, key), api_url, api_key)
    _show(ended, as_json)


def parse_duration(text: str) -> int:
    """Seconds in `90s`, `30m`, `24h` or `2d`.

    Raises:
        WantedError: it does not read like that.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise WantedError(f"{text!r} is no duration: write it like 90s, 30m, 24h or 2d")
    return int(found.group(1)) * _SECONDS[found.group(2)]


def hold_text(held: HoldView) -> str:
    """A hold on two lines."""
    scope = "the order" if held.line is None else f"line {held.line}"
    until = f" until {_day_time(held.expires_at)}" if held.expires_at and held.state == "placed" else ""
    lines = [
        f" Hold {held.id}: {held.type}, {held.state}",
        f"   {scope}, blocks {', '.join(held.blocks)}{until}; then: {held.at_limit}",
        f"   owner {held.owner}, ended by {', '.join(held.released_by)}",
    ]
    if held.refusal:
        lines.append(f"   {refusal_text(held.refusal)}")
    if held.cancellation_id:
        lines.append(f"   cancellation {held.cancellation_id}")
    return "\n".join(lines)


def _show(held: HoldView, as_json: bool) -> None:
    if as_json:
        document(held.document)
    else:
        print(hold_text(held))
    if held.state == "declined":
        raise typer.Exit(ExitCode.REFUSED)


def _day_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %b %H:%M UTC")
