"""How long a sourcing plan takes: `python -m bench.sourcing [--json FILE]`, on one core, without any I/O.

`in full` means that a node has a SKU for the whole order or not at all, as in most real baskets; `partial`
means that stock is as scarce as the demand, so lines are divided between nodes. Validation of the question
happens before the clock starts; the plan with its explanation and hashes is what is measured.
"""

import argparse
import random
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

from bench.meters import circumstances, publish
from domain.ids import NodeId, Sku
from domain.sourcing import Demand, NodeOffer, SourcingAsk, SourcingRules, plan_sourcing

_SEED = 20_261_124
_QUESTIONS = 50  # different ones per case, asked in turn


class Case(NamedTuple):
    """A size of order and network. `limit_ms` is the p99 that we owe, where we owe one."""

    name: str
    lines: int
    nodes: int
    partial: bool
    runs: int
    limit_ms: float | None


CASES = (
    Case("10 lines x 10 nodes, in full", 10, 10, partial=False, runs=2_000, limit_ms=3.0),
    Case("10 lines x 10 nodes, partial", 10, 10, partial=True, runs=2_000, limit_ms=3.0),
    Case("50 lines x 10 nodes, in full", 50, 10, partial=False, runs=500, limit_ms=None),
    Case("50 lines x 10 nodes, partial", 50, 10, partial=True, runs=500, limit_ms=None),
    Case("1114 lines x 10 nodes, in full", 1_114, 10, partial=False, runs=100, limit_ms=150.0),
    Case("1114 lines x 10 nodes, partial", 1_114, 10, partial=True, runs=50, limit_ms=150.0),
    Case("10 lines x 50 nodes, partial", 10, 50, partial=True, runs=500, limit_ms=None),
)


def question(rnd: random.Random, case: Case) -> SourcingAsk:
    """Half of the SKUs at each node, as far away as nodes in one country are."""
    most = 6 if case.partial else 1
    demand = tuple(
        Demand(line_no=i, sku=Sku(f"SKU-{i}"), quantity=rnd.randint(1, most)) for i in range(1, case.lines + 1)
    )
    nodes = tuple(
        NodeOffer(
            node_id=NodeId(f"N{i:02}"),
            usable=tuple(
                (line.sku, rnd.randint(0, most) if case.partial else 100) for line in demand if rnd.random() < 0.5
            ),
            distance_mi=rnd.randint(10, 2_500),
            transit_days=3,
            arrival=date(2026, 12, 1),
        )
        for i in range(case.nodes)
    )
    return SourcingAsk(demand=demand, nodes=nodes, rules=SourcingRules(version="bench"))


def measure(case: Case) -> dict[str, object]:
    """Milliseconds per plan, and how large the explanation of the last one is."""
    rnd = random.Random(_SEED)
    asks = [question(rnd, case) for _ in range(min(_QUESTIONS, case.runs))]
    plan = plan_sourcing(asks[0])
    times_ms = []
    for run in range(case.runs):
        start = time.perf_counter()
        plan = plan_sourcing(asks[run % len(asks)])
        times_ms.append((time.perf_counter() - start) * 1_000)
    times_ms.sort()
    p99 = round(times_ms[case.runs * 99 // 100], 3)
    return {
        "case": case.name,
        "runs": case.runs,
        "p50_ms": round(times_ms[case.runs // 2], 3),
        "p99_ms": p99,
        "max_ms": round(times_ms[-1], 3),
        "limit_p99_ms": case.limit_ms,
        "within_limit": None if case.limit_ms is None else p99 <= case.limit_ms,
        "explanation_bytes": len(plan.explanation.model_dump_json()),
    }


def main() -> None:
    """Measure every case and print."""
    parser = argparse.ArgumentParser(description="Measure the time of a sourcing plan.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    target: Path | None = parser.parse_args().json
    about = circumstances({"seed": _SEED, "questions_per_case": _QUESTIONS})
    publish({**about, "cases": [measure(case) for case in CASES]}, target)


if __name__ == "__main__":
    main()
