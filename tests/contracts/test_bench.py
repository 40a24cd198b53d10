"""A measurement drives real orders to their end, and has no figure when anything went wrong."""

from collections.abc import AsyncIterator

import pytest

from bench.driver import Driven, NoFigure
from bench.orders import Rig, Timed, check, open_rig, run_timed, speed
from tests.support.stack import RunStack

ORDERS = 4


@pytest.fixture(scope="module")
async def rig(stack: RunStack) -> AsyncIterator[Rig]:
    """A site with its processes and a driver, on the engines of this run."""
    async with open_rig(stack) as opened:
        yield opened


async def test_both_kinds_of_load_are_driven_to_their_end(rig: Rig) -> None:
    """Every order ends, retail orders have the lines of their invoices, and every process used its CPU."""
    # when
    one_line = await run_timed(rig, await rig.load("one_line", "t", ORDERS, 3))
    retail = await run_timed(rig, await rig.load("retail", "t", ORDERS, 3))
    # then
    assert [timed.driven.statuses for timed in (one_line, retail)] == [{"completed": ORDERS}] * 2
    assert len({*one_line.driven.order_ids, *retail.driven.order_ids}) == 2 * ORDERS
    assert one_line.driven.lines == {"median": 1, "mean": 1, "most": 1}
    assert retail.driven.lines["most"] > 1
    assert all(ms > 0 for timed in (one_line, retail) for ms in timed.cpu_ms_per_order.values())
    assert one_line.orders_per_s == ORDERS / one_line.driven.seconds
    assert check(rig, 2 * ORDERS).violations == 0


async def test_a_load_that_loses_orders_has_no_figure(rig: Rig) -> None:
    """Orders that are refused are told of, and orders that the database does not have are missed."""
    # given
    load = await rig.load("one_line", "refused", 1, 1)
    by_nobody = load.model_copy(update={"storefront_key": rig.site.keys["warehouse"]})
    # then
    with pytest.raises(NoFigure, match="1 orders refused"):
        await rig.driver.drive(by_nobody)
    with pytest.raises(NoFigure, match="99 orders were driven"):
        check(rig, 99)


def test_figures_are_median_least_and_most() -> None:
    """Of three repetitions the middle one counts, and the others say how far apart they were."""
    runs = [Timed(_driven(), per_s, {"api": ms}) for per_s, ms in ((4.0, 20.0), (6.126, 10.0), (5.0, 60.0))]
    figures = speed(runs)
    assert figures["orders_per_s"] == {"median": 5.0, "least": 4.0, "most": 6.13}
    assert figures["cpu_ms_per_order"] == {"api": {"median": 20.0, "least": 10.0, "most": 60.0}}


def _driven() -> Driven:
    return Driven(seconds=1, statuses={}, lines={}, repeated_requests=0, order_ids=(), problems=())
