"""The demo's network: nodes, destinations, lanes and items, read from `cli/data`.

Places and populations are facts; calendars, transit days, items and stock are this demo's own choice.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from domain.geography import Point, distance_mi

DATA = Path(__file__).with_name("data")
COUNTRY = "US"
CHANNELS = {"web-us": "USD", "retail-uk": "GBP"}

# Transit by distance, in carrier days: the first band whose limit in miles is not exceeded.
_STANDARD_DAYS = ((150, 1), (500, 2), (1000, 3), (1700, 4))
_STANDARD_FAR_DAYS = 5
_EXPRESS_DAYS = ((1000, 1),)
_EXPRESS_FAR_DAYS = 2
_OFF_MAINLAND = {"PR": 2}  # days added by the way over the sea


@dataclass(frozen=True)
class City:
    """A metropolitan area that orders can be shipped to."""

    name: str
    region: str
    point: Point
    population: int
    time_zone: str

    @property
    def key(self) -> str:
        """The city as an address names it, in lower case."""
        return self.name.lower()

    @property
    def zone_id(self) -> str:
        """For example `US-MO-st-louis`."""
        slug = "".join(c if c.isalnum() else " " for c in self.key)
        return f"{COUNTRY}-{self.region}-{'-'.join(slug.split())}"


@dataclass(frozen=True)
class Node:
    """A fulfillment center."""

    node_id: str
    region: str
    point: Point
    time_zone: str


@dataclass(frozen=True)
class Zone:
    """A destination of the transit table: a metro, or a whole state when `city_key` is None."""

    zone_id: str
    region: str
    city_key: str | None
    point: Point
    time_zone: str


@dataclass(frozen=True)
class Lane:
    """How many carrier days a parcel takes from a node to a zone."""

    node_id: str
    zone_id: str
    service_level: str
    transit_days: int


@dataclass(frozen=True)
class Item:
    """A demo item with its price in US cents, the opening count per node, and whether orders may wait for it."""

    sku: str
    name: str
    price_minor: int
    stock: tuple[tuple[str, int], ...]
    backorder: bool = False


@cache
def cities() -> tuple[City, ...]:
    """All metros, largest first."""
    return tuple(
        City(row["city"], row["region"], _point(row), int(row["population"]), row["time_zone"])
        for row in _rows("cities.csv")
    )


@cache
def nodes() -> tuple[Node, ...]:
    """All fulfillment centers."""
    return tuple(Node(row["node"], row["region"], _point(row), row["time_zone"]) for row in _rows("nodes.csv"))


@cache
def items() -> tuple[Item, ...]:
    """The demo catalog."""
    return tuple(
        Item(row["sku"], row["name"], int(row["price_minor"]), _stock(row["stock"]), row["backorder"] == "yes")
        for row in _rows("items.csv")
    )


@cache
def zones() -> tuple[Zone, ...]:
    """One zone per metro, and one per state that has a metro, at the centre of its people."""
    by_region = defaultdict(list)
    for city in cities():
        by_region[city.region].append(city)
    metros = [Zone(c.zone_id, c.region, c.key, c.point, c.time_zone) for c in cities()]
    return (*metros, *(_state_zone(region, members) for region, members in sorted(by_region.items())))


@cache
def lanes() -> tuple[Lane, ...]:
    """Transit days of every node to every zone, for both service levels."""
    found = []
    for zone in zones():
        extra = _OFF_MAINLAND.get(zone.region, 0)
        for node in nodes():
            miles = distance_mi(node.point, zone.point)
            standard = _days(miles, _STANDARD_DAYS, _STANDARD_FAR_DAYS) + extra
            express = _days(miles, _EXPRESS_DAYS, _EXPRESS_FAR_DAYS) + extra
            found.append(Lane(node.node_id, zone.zone_id, "standard", standard))
            found.append(Lane(node.node_id, zone.zone_id, "express", express))
    return tuple(found)


def price_minor(sku: str) -> int | None:
    """Price of a demo item in US cents; None for an item that the demo does not know."""
    return next((item.price_minor for item in items() if item.sku == sku), None)


def _state_zone(region: str, members: list[City]) -> Zone:
    people = sum(city.population for city in members)
    centre = Point(
        latitude=round(sum(c.point.latitude * c.population for c in members) / people, 4),
        longitude=round(sum(c.point.longitude * c.population for c in members) / people, 4),
    )
    largest = max(members, key=lambda city: city.population)
    return Zone(f"{COUNTRY}-{region}", region, None, centre, largest.time_zone)


def _days(miles: int, bands: tuple[tuple[int, int], ...], beyond: int) -> int:
    return next((days for limit, days in bands if miles <= limit), beyond)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _point(row: dict[str, str]) -> Point:
    return Point(latitude=float(row["latitude"]), longitude=float(row["longitude"]))


def _stock(text: str) -> tuple[tuple[str, int], ...]:
    pairs = (part.split(":") for part in text.split())
    return tuple((node, int(count)) for node, count in pairs)
