"""Where the Temporal server comes from: first hit wins, and the choice is told to people."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import platformdirs

from devstack import gobuild
from devstack.report import Say, StackError, run_told
from devstack.versions import PROGRAMS, SQL_TOOL, TEMPORAL_VERSION, UI, GoProgram

DOWNLOAD_LIMIT_S = 60.0
DEV_SERVER_PREFIX = "temporal-sdk-python-"


class SourceKind(StrEnum):
    """How a Temporal server was found."""

    ELSEWHERE = "elsewhere"  # an address or a profile names somebody else's server: nothing is started
    NAMED = "named"  # ACCORD_TEMPORAL_SERVER
    CACHE = "cache"  # built before
    BUILT = "built"  # built now, by `go install`
    DEV_SERVER = "dev server"  # the SDK's download: its own data file, one shard, good for a look


@dataclass(frozen=True)
class TemporalSource:
    """The programs to run; none of them when the server is somebody else's."""

    kind: SourceKind
    server: Path | None = None
    sql_tool: Path | None = None
    ui: Path | None = None

    @property
    def engine(self) -> str:
        """Which server keeps the workflows, whatever way it was found: `server`, `dev server` or `elsewhere`."""
        apart = (SourceKind.ELSEWHERE, SourceKind.DEV_SERVER)
        return self.kind.value if self.kind in apart else "server"

    def describe(self) -> str:
        """For the first-run output."""
        words = {
            SourceKind.ELSEWHERE: "as configured, nothing started",
            SourceKind.NAMED: f"from {self.server}",
            SourceKind.CACHE: "from the cache",
            SourceKind.BUILT: "built from source",
            SourceKind.DEV_SERVER: "dev server of the SDK, own data file",
        }
        return words[self.kind]


def cache_folder() -> Path:
    """Where built programs are kept, for all stacks of this user."""
    return Path(platformdirs.user_cache_path("accord")) / "bin"


def find_temporal(named: Path | None, say: Say, *, may_fetch: bool = True, may_build: bool = True) -> TemporalSource:
    """Find the programs of the Temporal server on this machine, or get them.

    Args:
        named: the server's program, when a setting names it; its companions are beside it or in the cache.
        say: told about progress.
        may_fetch: build or download what is missing; a test run never does.
        may_build: build what is missing; not for a folder that began with the dev server.

    Raises:
        StackError: nothing found; names the ways out.
    """
    if named is not None:
        return _named(named)
    cached = [cache_folder() / program.file_name for program in PROGRAMS]
    if all(path.exists() for path in cached):
        return TemporalSource(SourceKind.CACHE, *cached)
    if not may_fetch:
        raise StackError(f"Temporal {TEMPORAL_VERSION} is not in {cache_folder()}", "accord temporal install")
    if may_build and (gobuild.find_go() or gobuild.fetch_go(say)):
        gobuild.install(PROGRAMS, cache_folder(), say)
        return TemporalSource(SourceKind.BUILT, *cached)
    dev_server = _downloaded() or _download(say)
    if dev_server is not None:
        return TemporalSource(SourceKind.DEV_SERVER, dev_server)
    raise gobuild.no_go()


def _named(server: Path) -> TemporalSource:
    if not os.access(server, os.X_OK) or server.is_dir():
        raise StackError(f"ACCORD_TEMPORAL_SERVER is {server}, which cannot be run", "unset ACCORD_TEMPORAL_SERVER")
    if server.name == "temporal" or server.name.startswith(DEV_SERVER_PREFIX):
        return TemporalSource(SourceKind.DEV_SERVER, server)
    tool, ui = _companion(server, SQL_TOOL), _companion(server, UI)
    if tool is None:
        raise StackError(f"{SQL_TOOL.name} is neither beside {server} nor in the cache", "accord temporal install")
    return TemporalSource(SourceKind.NAMED, server, tool, ui)


def _companion(server: Path, program: GoProgram) -> Path | None:
    beside = (server.with_name(program.name), server.with_name(program.file_name))
    candidates = (*beside, cache_folder() / program.file_name)
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _downloaded() -> Path | None:
    return next(iter(sorted(cache_folder().glob(f"{DEV_SERVER_PREFIX}*"), reverse=True)), None)


def _download(say: Say) -> Path | None:
    """Ask the SDK for its dev server, in a process of its own because the call cannot be interrupted."""
    say(f"   no Go found: asking the SDK for its dev server (at most {DOWNLOAD_LIMIT_S:.0f} s)")
    cache_folder().mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "devstack.download", str(cache_folder()))
    ended = run_told(command, say, "dev server", DOWNLOAD_LIMIT_S, directory=Path(__file__).parents[1])
    if ended.code != 0:
        say("   it cannot be downloaded from here")
        return None
    return _downloaded()
