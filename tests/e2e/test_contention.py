"""Two hundred buyers of the last unit, over HTTP, against real processes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from cli.client import ApiProblem
from tests.support.outlet import Outlet
from tests.support.stack import Site

BUYERS = 200


async def test_two_hundred_buyers_of_the_last_unit(new_site: Callable[[], Awaitable[Site]]) -> None:
    """Exactly one is accepted, 199 get a clean refusal, and no unit is left stranded."""
    # given
    outlet = await Outlet.opens(await new_site(), EAST=1)
    # when
    gate = asyncio.Semaphore(60)  # connections at once; all two hundred are under way together
    async with outlet.client("storefront") as storefront:

        async def buy(number: int) -> str:
            try:
                async with gate:
                    order = await storefront.create_order(outlet.body(), key=f"buyer-{number}", wait_s=20)
            except ApiProblem as problem:
                return f"{problem.status} {problem.document['type']}"
            return order.status

        answers = Counter(await asyncio.gather(*(buy(n) for n in range(BUYERS))))
        for _ in range(3):  # a 202 is no answer yet: the same key finds out
            if set(answers) <= {"confirmed", "in_fulfillment", "409 /problems/out-of-stock"}:
                break
            answers = Counter(await asyncio.gather(*(buy(n) for n in range(BUYERS))))
    # then
    refused = answers.pop("409 /problems/out-of-stock")
    assert refused == BUYERS - 1
    assert sum(answers.values()) == 1
    assert set(answers) <= {"confirmed", "in_fulfillment"}
    assert await outlet.shop.reserved("LAMP") == {"EAST": 1}
    assert (await outlet.check()).violations == 0
    await outlet.closes()
