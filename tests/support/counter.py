"""A person at a terminal: a real worker, a real API, and the `accord` command as real processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import Folder
from tests.support.stack import RunningProcess, Site


@dataclass
class Counter(Folder):
    """A folder whose commands speak to the processes of one site."""

    site: Site
    api: RunningProcess
    worker: RunningProcess

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of that person: where everything is, and the folder with the keys."""
        here = {
            **self.site.environment(),
            "ACCORD_DATA_DIR": str(self.site.stack.root),
            "ACCORD_API_URL": self.api.url,
            "TEMPORAL_ADDRESS": self.site.stack.temporal_address,
        }
        return super().environment({**here, **dict(extra or {})})

    def stop(self) -> None:
        """End the two processes."""
        self.api.stop()
        self.worker.stop()


def open_counter(site: Site, path: Path) -> Counter:
    """Start worker and API of this site, with the demo's data."""
    worker = site.start_worker()
    counter = Counter(path, site, site.start_api(), worker)
    seeded = counter.accord("demo", "seed")
    assert seeded.returncode == 0, seeded.stderr
    return counter
