"""How far two places are apart. Owner: fulfillment.

Distances only rank nodes and price a unit's way, so whole miles along the great circle are enough.
"""

import math

from pydantic import BaseModel, ConfigDict, Field

_EARTH_RADIUS_MI = 3_958.761  # the mean radius of 6,371.009 km


class Point(BaseModel):
    """A place on the earth, in degrees; north and east are positive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


def distance_mi(a: Point, b: Point) -> int:
    """The great-circle distance in whole miles, rounded; the same in both directions."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat = (lat_b - lat_a) / 2
    half_lon = math.radians(b.longitude - a.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    # Rounding can push the chord of two opposite points a hair above 1, where asin is not defined.
    return round(2 * _EARTH_RADIUS_MI * math.asin(math.sqrt(min(1.0, chord))))
