"""Orders to place, made from what a person types or from the demo's catalog."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import network

Json = dict[str, Any]


class WantedError(ValueError):
    """What was typed does not make an order."""


@dataclass(frozen=True)
class Wanted:
    """One line to order; the price is in minor units."""

    sku: str
    quantity: int
    price_minor: int


def parse_wanted(text: str) -> Wanted:
    """Read `SKU`, `SKU:QUANTITY` or `SKU:QUANTITY@PRICE`, the price in minor units; else the demo's price.

    Raises:
        WantedError: it does not read like that, or the item has no price here.
    """
    head, _, price = text.partition("@")
    sku, _, quantity = head.partition(":")
    units = quantity or "1"
    if not sku or not units.isdecimal() or (price and not price.isdecimal()):
        raise WantedError(f"{text!r} is not SKU:QUANTITY or SKU:QUANTITY@PRICE, like LAMP-OAK:2 or MUG-BLUE:1@1200")
    known = network.price_minor(sku)
    if not price and known is None:
        raise WantedError(f"{sku} is no item of the demo: add a price in minor units, like {sku}:{units}@1200")
    return Wanted(sku, int(units), int(price) if price else known or 0)


def find_city(name: str) -> network.City:
    """A metro by name, like `Boston` or `Columbus, OH`.

    Raises:
        WantedError: there is no such metro in the demo's network.
    """
    city, _, region = (part.strip() for part in name.partition(","))
    for found in network.cities():
        if found.key == city.lower() and region.upper() in ("", found.region):
            return found
    some = ", ".join(found.name for found in network.cities()[:8])
    raise WantedError(f"{name!r} is not among the {len(network.cities())} cities of the demo, such as {some}")


def address(city: network.City, name: str) -> Json:
    """An address in a city."""
    return {
        "name": name,
        "lines": ["1 Sample Street"],
        "city": city.name,
        "region": city.region,
        "postal_code": "00000",
        "country": network.COUNTRY,
    }


def order_body(
    lines: list[Wanted],
    city: network.City,
    *,
    reference: str = "pm_ok",
    service_level: str = "standard",
    shipping_minor: int = 0,
    external_ref: str | None = None,
) -> Json:
    """An order of the demo's channel. Prices include tax."""
    total = sum(line.quantity * line.price_minor for line in lines) + shipping_minor
    body: Json = {
        "channel": "web-us",
        "currency": network.CHANNELS["web-us"],
        "customer": {"name": "Jamie Example", "email": "jamie@example.com"},
        "ship_to": address(city, "Jamie Example"),
        "lines": [{"sku": line.sku, "quantity": line.quantity, "unit_price_minor": line.price_minor} for line in lines],
        "shipping": {"service_level": service_level, "price_minor": shipping_minor},
        "tenders": [{"provider": "simulated", "reference": reference, "state": "to_authorize", "amount_minor": total}],
        "total_minor": total,
    }
    return body if external_ref is None else {**body, "external_ref": external_ref}


def json_file(file: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file; `-` reads standard input.

    Raises:
        WantedError: it cannot be read, or holds no object.
    """
    try:
        content = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise WantedError(f"{file} cannot be read as JSON: {problem}") from None
    if not isinstance(content, dict):
        raise WantedError(f"{file} does not hold {what}")
    return content
