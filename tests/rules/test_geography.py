"""Distances are whole miles along the great circle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.geography import Point, distance_mi

HALF_WAY_AROUND_MI = 12_437

points = st.builds(Point, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))


@pytest.mark.parametrize(
    ("a", "b", "miles"),
    [
        ((40.6413, -73.7781), (33.9416, -118.4085), 2_469),  # New York JFK to Los Angeles, on a round earth
        ((51.4700, -0.4543), (49.0097, 2.5479), 216),  # London Heathrow to Paris Charles de Gaulle
        ((0, 0), (0, 1), 69),  # a degree along the equator
        ((0, 179.5), (0, -179.5), 69),  # the same over the date line
        ((90, 12), (90, -140), 0),  # one pole, whatever the longitude
        ((0, 0), (0, 180), HALF_WAY_AROUND_MI),
        ((90, 0), (-90, 0), HALF_WAY_AROUND_MI),
    ],
)
def test_known_distances(a: tuple[float, float], b: tuple[float, float], miles: int) -> None:
    """Airports, degrees, the date line and the poles, to the mile."""
    start, end = (Point(latitude=place[0], longitude=place[1]) for place in (a, b))
    assert abs(distance_mi(start, end) - miles) <= 1


@given(points, points, points)
def test_distance_is_a_metric(a: Point, b: Point, c: Point) -> None:
    """The same there and back, zero at home, never longer than a detour, never more than half the way around."""
    assert distance_mi(a, b) == distance_mi(b, a)
    assert distance_mi(a, a) == 0
    assert distance_mi(a, c) <= distance_mi(a, b) + distance_mi(b, c) + 1
    assert 0 <= distance_mi(a, b) <= HALF_WAY_AROUND_MI


@pytest.mark.parametrize("place", [(91, 0), (0, 181), (float("nan"), 0)])
def test_a_point_is_on_the_earth(place: tuple[float, float]) -> None:
    """Swapped or broken coordinates are refused."""
    with pytest.raises(ValidationError):
        Point(latitude=place[0], longitude=place[1])
