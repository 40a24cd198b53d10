"""`make bench`: every measurement, one after the other; results in bench/results/."""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
SCRIPTS = ("counts", "sourcing", "isolation", "orders")


def main() -> int:
    """Run all; the exit code is that of the first that failed."""
    RESULTS.mkdir(exist_ok=True)
    for name in SCRIPTS:
        print(f"-- bench.{name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
        ended = subprocess.run(command, check=False)
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
