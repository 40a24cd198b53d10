"""A worker that dies at a named point of a named order, once, and is there again at once.

`python -m tests.support.failpoints FOLDER`: a file in FOLDER with the name of a workflow, or with its type where
the engine makes the names, arms a point; its text is `activity stage`. The worker that gets there renames the file to
`*.struck` and sends itself SIGKILL: no `finally`, no farewell to the database or the engine. A parent that has
imported everything and started nothing forks the next worker, so a death costs tenths of a second and not an
interpreter's start.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop
from temporalio import activity

from activities.contract import Stage
from devstack.children import Child, ChildSpec
from settings import load_settings
from tests.support.stack import Site
from worker import run

STRUCK = ".struck"


class Failpoints:
    """Arms points, and tells which were reached."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arm(self, workflow_id: str, name: str, stage: Stage) -> None:
        """The worker will die when this order gets there."""
        (self._folder / f"{workflow_id}{STRUCK}").unlink(missing_ok=True)
        (self._folder / workflow_id).write_text(f"{name} {stage}")

    def struck(self, workflow_id: str) -> bool:
        """Whether a worker died for this order."""
        return (self._folder / f"{workflow_id}{STRUCK}").exists()

    def __call__(self, name: str, stage: Stage) -> None:
        """The checkpoint of the worker."""
        info = activity.info()
        for armed in (self._folder / str(known) for known in (info.workflow_id, info.workflow_type)):
            if armed.exists() and armed.read_text() == f"{name} {stage}":
                armed.rename(f"{armed}{STRUCK}")
                os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def dying_worker(site: Site, folder: Path) -> Iterator[Failpoints]:
    """A worker of this site that dies wherever the points in the folder say, and comes back each time.

    It runs without the sandbox, which would be built anew in every life.
    """
    spec = ChildSpec(
        name="dying-worker",
        command=(sys.executable, "-m", "tests.support.failpoints", str(folder)),
        log=folder / "worker.log",
        environment=site.stack.stack.environment(site.environment({"ACCORD_WORKER_SANDBOX": "false"})),
        stop_limit_s=10,
    )
    child = Child(spec)
    child.start()
    try:
        yield Failpoints(folder)
    finally:
        child.stop()


def main() -> None:
    """Fork a worker, and another one whenever it was killed."""
    checkpoint = Failpoints(Path(sys.argv[1]))
    ending = False
    worker = 0

    def end(number: int, frame: object) -> None:
        nonlocal ending
        ending = True
        with suppress(ProcessLookupError):
            os.kill(worker, number)

    while not ending:
        worker = os.fork()
        if not worker:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            uvloop.run(run(load_settings(), checkpoint))
            os._exit(0)
        signal.signal(signal.SIGTERM, end)
        _, status = os.waitpid(worker, 0)
        ending = ending or not os.WIFSIGNALED(status)


if __name__ == "__main__":
    main()
