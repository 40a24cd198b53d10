"""`accord orders amend`: change an order in flight, tried first or done."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.bodies import WantedError, json_file
from cli.client import AccordClient, AmendmentView
from cli.holds import KeyOption, Reason
from cli.orders import OrderArgument, WaitSeconds, reference, refusals
from cli.output import AsJson, ExitCode, document
from cli.show import refusal_text
from cli.target import ApiKey, ApiUrl, call_api

_POLL_S = 0.5
_SET = re.compile(r"(\d+)=(\d+)")
_ADD = re.compile(r"([^=@]+)=(\d+)@(\d+)")
_TAX = re.compile(r"(\d+|shipping)=(\d+)")
_SERVICE = re.compile(r"([a-z]+)(?:@(\d+))?")
_SUBSTITUTE = re.compile(r"(\d+)=([^@]+)(?:@(\d+))?")


def add_to(app: typer.Typer) -> None:
    """Put the command beside the others about orders."""
    app.command()(amend)


def amend(  # noqa: PLR0917 - each option is a parameter
    order: OrderArgument,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Wanted units of a line, as NUMBER=UNITS.")] = None,
    add: Annotated[list[str] | None, typer.Option(help="A new line, as SKU=UNITS@PRICE in minor units.")] = None,
    substitute: Annotated[
        list[str] | None, typer.Option(help="Another item for a line, as NUMBER=SKU or NUMBER=SKU@PRICE.")
    ] = None,
    ship_to: Annotated[
        Path | None, typer.Option(help="Another address: a JSON file as `ship_to` of an order, `-` for standard input.")
    ] = None,
    tax: Annotated[
        list[str] | None,
        typer.Option(
            help="The tax at the new address of what has not left, in minor units: NUMBER=AMOUNT per line, and "
            "shipping=AMOUNT."
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The currency of --tax, like USD.")] = None,
    service: Annotated[
        str | None, typer.Option(help="standard or express, or with its price of shipping as LEVEL@PRICE.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="The day it is wanted by, like 2026-12-01.")] = None,
    reason: Reason = "customer_request",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    wait: WaitSeconds = 0,
    key: KeyOption = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Change an order in flight: all of it or nothing. What it costs more is authorized first."""
    with refusals(as_json):
        moved = address_change(ship_to, tax or (), currency)
        changes = wanted_changes(set_ or (), add or (), substitute or (), service, by, moved)
        body = {"changes": changes, "reason": reason}
        if dry_run:
            plan = call_api(lambda c: c.preview_amend(reference(order), body), api_url, api_key)
            document(plan)
            if not plan.get("allowed"):
                raise typer.Exit(ExitCode.REFUSED)
            return
        done = call_api(lambda c: _until_decided(c, reference(order), body, key, wait), api_url, api_key)
    if as_json:
        document(done.document)
    else:
        print(amendment_text(done))
    if done.state == "declined":
        raise typer.Exit(ExitCode.REFUSED)


def wanted_changes(
    sets: Sequence[str],
    adds: Sequence[str],
    substitutes: Sequence[str],
    service: str | None,
    by: str | None,
    moved: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The changes as the API takes them.

    Raises:
        WantedError: one of them does not read as it should, or there is none.
    """
    changes: list[dict[str, Any]] = []
    for line, units in (_read(_SET, text, "NUMBER=UNITS") for text in sets):
        changes.append({"op": "set_quantity", "line": int(line), "quantity": int(units)})
    for sku, units, price in (_read(_ADD, text, "SKU=UNITS@PRICE") for text in adds):
        changes.append({"op": "add_line", "sku": sku, "quantity": int(units), "unit_price_minor": int(price)})
    for line, sku, price in (_read(_SUBSTITUTE, text, "NUMBER=SKU or NUMBER=SKU@PRICE") for text in substitutes):
        priced = {"unit_price_minor": int(price)} if price else {}
        changes.append({"op": "substitute", "line": int(line), "sku": sku, **priced})
    if moved:
        changes.append(moved)
    if service:
        level, price = _read(_SERVICE, service, "LEVEL or LEVEL@PRICE")
        priced = {"shipping_minor": int(price)} if price else {}
        changes.append({"op": "set_service_level", "service_level": level, **priced})
    if by:
        changes.append({"op": "set_requested_by", "requested_by": by})
    if not changes:
        raise WantedError("nothing to change: name --set, --add, --substitute, --ship-to, --service or --by")
    return changes


def address_change(ship_to: Path | None, taxes: Sequence[str], currency: str | None) -> dict[str, Any] | None:
    """Another address as the API takes it, with the tax there; None where none is named.

    Raises:
        WantedError: a tax does not read as it should, or is named without an address or a currency.
    """
    if not ship_to:
        if taxes or currency:
            raise WantedError("--tax is the tax at another address: name it with --ship-to")
        return None
    change: dict[str, Any] = {"op": "set_ship_to", "ship_to": json_file(ship_to, "an address")}
    named = [_read(_TAX, text, "NUMBER=AMOUNT or shipping=AMOUNT") for text in taxes]
    if not named:
        return change
    if not currency:
        raise WantedError("--tax needs --currency: minor units of what?")
    shipping = [int(amount) for line, amount in named if line == "shipping"]
    if len(shipping) > 1:
        raise WantedError("the tax of shipping is named twice")
    lines = [{"line": int(line), "tax_minor": int(amount)} for line, amount in named if line != "shipping"]
    tax = {"currency": currency, "lines": lines, **({"shipping_tax_minor": shipping[0]} if shipping else {})}
    return {**change, "tax": tax}


def amendment_text(done: AmendmentView) -> str:
    """A change in a few lines."""
    lines = [f" Change {done.id}: {done.state}"]
    lines += [
        f"   line {one['line']} ({one['sku']}): {one['from_quantity']} -> {one['to_quantity']}" for one in done.lines
    ]
    if done.money:
        lines.append(f"   owed {done.money['total_before_minor']} -> {done.money['total_after_minor']} minor units")
        deltas = (("shipping", done.money["shipping_delta_minor"]), ("tax", done.money["tax_delta_minor"]))
        lines += [f"   of it {word} {delta:+}" for word, delta in deltas if delta]
    if done.promise and done.promise["to"]:
        lines.append(f"   promised by {done.promise['to']}")
    lines += [
        f"   line {one['line']}: {one['quantity']} wait for supply until {one['until']}" for one in done.backordered
    ]
    if done.refusal:
        lines.append(f"   {refusal_text(done.refusal)}")
    return "\n".join(lines)


async def _until_decided(
    client: AccordClient, order: str, body: dict[str, Any], key: str | None, wait: int
) -> AmendmentView:
    found = await client.get_order(order)
    done = await client.amend(found.id, body, key)
    for _ in range(int(wait / _POLL_S)):
        if done.state != "requested":
            break
        await asyncio.sleep(_POLL_S)
        done = await client.amendment(found.id, done.id)
    return done


def _read(pattern: re.Pattern[str], text: str, form: str) -> tuple[str, ...]:
    found = pattern.fullmatch(text)
    if found is None:
        raise WantedError(f"{text!r} does not read as {form}")
    return found.groups()
