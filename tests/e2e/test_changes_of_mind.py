"""Random commands at random moments of many orders' lives: the reference model agrees and every law holds.

A state machine of Hypothesis places orders and says things to them; the orders live on a real server meanwhile.
`python -m tests.e2e.test_changes_of_mind --orders 2000 --seed 1` does more of it than a test run has time for.
"""

import argparse
import sys
import time
from collections import Counter
from random import Random

from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.e2e.lives_that_went_wrong import FOUND
from tests.support.fickle import BUILDERS, WORK, Sayings, a_script
from tests.support.lives import Life, Lives, lives_on
from tests.support.stack import RunStack, start_run_stack
from workflows.order_desk import COMMANDS

ORDERS = 50
DOZEN = 12
"""Orders of one run of the machine: they live at the same time."""
STEPS = 70
MOST = 10
"""Commands to one order. The engine takes ten updates of an order at a time; whoever sends more waits."""
SEED = 20_261_124
ONE_IN = 4
"""How seldom patience ends: an order that is closed by force hears nothing more."""
SELDOM = ("choose_remedy", "leave_node", "payment_event", "retry_now", "supply_arrived", "write_off")
DICE = st.randoms(use_true_random=False)


class Minds(RuleBasedStateMachine):
    """Orders, and those who change their minds about them.

    A rule only says something: no rule waits for an order. All that is drawn is known before it is sent (which parcel
    is meant, and which hold, is named by number), so what is said follows from the seed; what the engine makes of it
    in which order does not. A failure is therefore told with its script, and never made smaller.
    """

    orders: Bundle[tuple[Life, Sayings]] = Bundle("orders")

    def __init__(self, lives: Lives) -> None:
        super().__init__()
        self._lives = lives
        self._own: list[Life] = []

    @initialize(target=orders, dice=DICE, count=st.integers(0, DOZEN))
    def opens(self, dice: Random, count: int) -> MultipleResults[tuple[Life, Sayings]]:
        """A few customers are there already. Hypothesis begins with the simplest run: nobody is, that is none."""
        if count == 0:
            reject()
        return multiple(*(self._begins(dice) for _ in range(max(count, DOZEN // 2))))

    @precondition(lambda self: len(self._own) < DOZEN)
    @rule(target=orders, dice=DICE)
    def place(self, dice: Random) -> tuple[Life, Sayings]:
        """Another customer comes."""
        return self._begins(dice)

    def _begins(self, dice: Random) -> tuple[Life, Sayings]:
        self._own.append(self._lives.begins(a_script(dice)))
        return self._own[-1], Sayings()

    @rule(order=orders, dice=DICE)
    def cancel(self, order: tuple[Life, Sayings], dice: Random) -> None:
        """Units are cancelled, or all of it."""
        self._say(order, dice, "cancel")

    @rule(order=orders, dice=DICE)
    def amend(self, order: tuple[Life, Sayings], dice: Random) -> None:
        """Something else is wanted."""
        self._say(order, dice, "amend")

    @rule(order=orders, dice=DICE, kind=st.sampled_from(["place_hold", "release_hold"]))
    def hold(self, order: tuple[Life, Sayings], dice: Random, kind: str) -> None:
        """Somebody holds the order, or ends a hold."""
        self._say(order, dice, kind)

    @rule(order=orders, dice=DICE)
    def report(self, order: tuple[Life, Sayings], dice: Random) -> None:
        """A node reports."""
        self._say(order, dice, "node_report")

    @rule(order=orders, dice=DICE)
    def scan(self, order: tuple[Life, Sayings], dice: Random) -> None:
        """A carrier scans."""
        self._say(order, dice, "carrier_event")

    @rule(order=orders, dice=DICE, kind=st.sampled_from(SELDOM))
    def urge(self, order: tuple[Life, Sayings], dice: Random, kind: str) -> None:
        """Somebody wants the order to go on, or to go on otherwise."""
        self._say(order, dice, kind)

    @rule(order=orders, dice=DICE, chance=st.integers(1, ONE_IN))
    def lose_patience(self, order: tuple[Life, Sayings], dice: Random, chance: int) -> None:
        """Now and then operations close an order by force; mostly they let its nodes work."""
        self._say(order, dice, "force_close" if chance == ONE_IN else WORK)

    @rule(order=orders, dice=DICE)
    def work(self, order: tuple[Life, Sayings], dice: Random) -> None:
        """Nodes and carriers do what comes next."""
        self._say(order, dice, WORK)

    def _say(self, order: tuple[Life, Sayings], dice: Random, kind: str) -> None:
        life, sayings = order
        if len(life.script.steps) < MOST:
            self._lives.says(life, sayings.step(kind, dice))

    def teardown(self) -> None:
        """The orders end; model and laws are asked. What went wrong is kept: the other runs go on."""
        if self._own:
            self._lives.end(self._own)


def _run(lives: Lives, orders: int, number: int) -> int:
    """One run of the machine after the other until so many orders have lived, each with a seed of its own: the last.

    More examples of one run would be much alike: Hypothesis varies what it has tried.
    """
    while lives.orders < orders:
        lives.title = f"seed {number}"
        run_state_machine_as_test(seed(number)(lambda: Minds(lives)), settings=ONE_RUN)
        number += 1
    return number - 1


ONE_RUN = settings(
    max_examples=1,
    stateful_step_count=STEPS,
    phases=[Phase.generate],  # what the engine's timing has broken does not get smaller by trying
    database=None,
    deadline=None,  # a run takes as long as a dozen orders take
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],  # for the same reason
)


def test_whatever_is_said_in_whatever_order_every_law_holds(stack: RunStack) -> None:
    """Each command has one outcome, no unit and no penny is lost, and the workflow agrees with its rows."""
    with lives_on(stack.new_site, ORDERS * 2) as lives:
        _run(lives, ORDERS, SEED)
    assert lives.problems == []
    assert lives.orders >= ORDERS


def test_what_once_went_wrong_goes_well(stack: RunStack) -> None:
    """The lives that found a fault, each a few times: the moments are never the same."""
    with lives_on(stack.new_site, len(FOUND) * 8) as lives:
        lives.end([lives.begins(script) for script in FOUND * 3])
    assert lives.problems == []


def test_every_command_is_said() -> None:
    """A kind of command that nobody says here would prove nothing."""
    assert set(BUILDERS) == set(COMMANDS)


def main() -> int:
    """Run many; the exit code tells whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stack = start_run_stack()
    began = time.monotonic()
    try:
        with lives_on(stack.new_site, arguments.orders * 2 + DOZEN) as lives:
            lives.watch = lambda lives, found: _progress(lives, found, time.monotonic() - began)
            last = _run(lives, arguments.orders, arguments.seed)
    finally:
        stack.stop()
        time.sleep(0.3)  # the SDK aborts now and then when a process ends right after a worker
    commands = f"{lives.said.total()} commands ({_counts(lives.said)})"
    runs = f"seeds {arguments.seed} to {last}, {time.monotonic() - began:.0f} s, {len(lives.problems)} problems"
    sys.stdout.write(f"{lives.orders} orders, {commands}, {_counts(lives.became)}, {runs}\n")
    return 1 if lives.problems else 0


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


def _progress(lives: Lives, found: list[str], elapsed_s: float) -> None:
    """Tell whoever waits how far it is, and what went wrong since."""
    so_far = f"{lives.orders} orders, {lives.said.total()} commands, {len(lives.problems)} problems, {elapsed_s:.0f} s"
    sys.stdout.write("\n".join([*found, so_far]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
