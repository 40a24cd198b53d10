"""`accord orders return-quote`: what would come back if the customer gave goods back."""

from typing import Annotated

import typer

from cli.client import QuoteView
from cli.orders import OrderArgument, line_units, reference, refusals
from cli.output import AsJson, document
from cli.show import money
from cli.target import ApiKey, ApiUrl, call_api


def add_to(app: typer.Typer) -> None:
    """Put the command beside the others about orders."""
    app.command(name="return-quote")(return_quote)


def return_quote(
    order: OrderArgument,
    line: Annotated[
        list[str] | None,
        typer.Option(
            "--line", help="Units of a line, as NUMBER=UNITS; again for more. Without: all that can come back."
        ),
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say which units of an order can come back, and how much money for them. Changes nothing."""
    lines = [line_units(text) for text in line or ()]
    with refusals(as_json):
        quote = call_api(lambda c: c.quote_return(reference(order), lines), api_url, api_key)
    if as_json:
        document(quote.document)
    else:
        print(quote_text(quote))


def quote_text(quote: QuoteView) -> str:
    """A quote for people: a row per line, then the sums."""
    lines = [f" Return of {quote.order_id}, at version {quote.order_version}"]
    for one in quote.lines:
        when = {"now": one["returnable_now"], "after delivery": one["after_delivery"]}
        units = ", ".join(f"{count} {word}" for word, count in when.items() if count)
        lines.append(f"   line {one['line']}  {one['quantity']} x {one['sku']} ({units}): {_amounts(one, quote)}")
    return "\n".join([*lines, f"   together: {_amounts(quote.money, quote)}"])


def _amounts(found: dict[str, int], quote: QuoteView) -> str:
    refund, ours = (money(found[name], quote.currency) for name in ("refund_minor", "refund_if_ours_minor"))
    return f"{refund}, or {ours} where the cause is ours"
