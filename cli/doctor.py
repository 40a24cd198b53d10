"""`accord doctor`: check every part that exists, and print the fix for what is wrong."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path

import typer

from cli.config import unknown_variables
from cli.doctor_engines import check_api, check_database, check_providers, check_temporal
from cli.findings import Check, Finding, Verdict
from cli.output import AsJson, ExitCode, document, exit_code_of, program, speaker
from devstack import sources
from devstack.children import recorded_process
from devstack.folder import StackFolder
from devstack.ports import PREFERRED, holder_of, is_free
from devstack.report import StackError, silent
from devstack.versions import TEMPORAL_VERSION
from settings import SECRETS_FILE, Settings, load_settings, load_temporal, names_temporal

DISTRIBUTION = "accord-oms"
CHECKOUT = Path(__file__).parents[1]
ROOMS = ("domain", "store", "providers", "activities", "workflows", "api", "cli", "devstack")
LEAST_FREE_BYTES = 2 * 1024**3


def doctor(as_json: AsJson = False) -> None:
    """Run all checks; exit code 1 when one fails."""
    settings = load_settings()
    findings = [finding for check in CHECKS for finding in run_check(check, settings)]
    say = speaker(as_json)
    for finding in findings:
        say(f" {finding.verdict.value:<5} {finding.text}")
        if finding.fix:
            say(f"       -> {finding.fix}")
    failures = sum(finding.verdict is Verdict.FAIL for finding in findings)
    warnings = sum(finding.verdict is Verdict.WARN for finding in findings)
    say(f" {failures} problems, {warnings} warnings")
    if as_json:
        content = {"problems": failures, "warnings": warnings, "findings": [asdict(finding) for finding in findings]}
        document(content)
    if failures:
        raise typer.Exit(ExitCode.FAILED)


def run_check(check: Check, settings: Settings) -> list[Finding]:
    """Run one check; what it cannot reach is a finding, not an end of the report."""
    try:
        return list(check(settings))
    except Exception as problem:
        if exit_code_of(problem) is None:
            raise
        fix = problem.fix if isinstance(problem, StackError) else f"{program()} status, then {program()} up"
        what = check.__name__.removeprefix("_").removeprefix("check_").replace("_", " ")
        return [Finding(Verdict.FAIL, f"{what}: {str(problem).splitlines()[0]}", fix)]


def _check_environment(settings: Settings) -> Iterator[Finding]:
    strangers = [room for room in ROOMS if not _is_ours(room)]
    version = ".".join(map(str, sys.version_info[:3]))
    if strangers:
        yield Finding(
            Verdict.FAIL,
            f"another package is imported as {', '.join(strangers)}",
            "install Accord alone in its own environment: make up does",
        )
    else:
        yield Finding(Verdict.OK, f"Python {version}, accord {_version()}, alone in its environment")
    unknown = unknown_variables()
    if unknown:
        yield Finding(Verdict.WARN, f"no setting is called {', '.join(unknown)}", f"{program()} config show")
    yield from _lock_findings()


def _lock_findings() -> Iterator[Finding]:
    """Compare what is installed with the lock, in a checkout."""
    lock = CHECKOUT / "requirements.lock"
    if not lock.exists():
        return
    different = [
        f"{name} {installed or 'is missing'} (lock: {pinned})"
        for name, pinned in locked_versions(lock.read_text())
        if (installed := _installed(name)) != pinned and installed is not None
    ]
    if different:
        yield Finding(Verdict.WARN, "not as locked: " + "; ".join(different[:5]), "rm -r .venv && make up")
    else:
        yield Finding(Verdict.OK, "packages are those of requirements.lock")


def locked_versions(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of every pin in a lock file."""
    for line in lock.splitlines():
        name, found, rest = line.partition("==")
        if found and not line.startswith((" ", "#")):
            yield name.strip(), rest.split()[0].rstrip("\\;")


def _check_temporal_binaries(settings: Settings) -> Iterator[Finding]:
    if names_temporal():
        yield Finding(Verdict.OK, f"Temporal is named by the environment: {load_temporal(settings)['target_host']}")
        return
    source = sources.find_temporal(settings.temporal_server, silent, may_fetch=False)
    yield Finding(Verdict.OK, f"Temporal {TEMPORAL_VERSION} {source.describe()}")


def _check_stack(settings: Settings) -> Iterator[Finding]:
    folder = StackFolder(settings.data_dir)
    run = folder.read_run()
    if folder.root.exists() and folder.taken():
        yield Finding(Verdict.OK, f"stack in {folder.root}: {run.get('phase', 'starting')}")
        children = run.get("children", {})
        dead = [name for name, record in children.items() if recorded_process(record) is None]
        for name in dead:
            yield Finding(Verdict.FAIL, f"{name} does not run", f"{program()} logs {name}")
        return
    yield Finding(Verdict.WARN, f"no stack runs in {folder.root}", f"{program()} up")


def _check_ports(settings: Settings) -> Iterator[Finding]:
    """The ports that `up` takes, or would take: free, or who holds them."""
    folder = StackFolder(settings.data_dir)
    ours = folder.read_run().get("ports", {}) if folder.root.exists() and folder.taken() else {}
    wanted = PREFERRED if ours else {**PREFERRED, **folder.read_marker().get("ports", {})}
    taken = {name: port for name, port in wanted.items() if ours.get(name) != port and not is_free(port)}
    for name, port in taken.items():
        moved = f": moved to {ours[name]}" if name in ours else ""
        fix = f"{program()} up takes the next free one, or stop that program"
        yield Finding(Verdict.WARN, f"port {port} ({name}) is held by {holder_of(port)}{moved}", "" if moved else fix)
    if not taken:
        yield Finding(Verdict.OK, f"{len(wanted)} ports are {'ours or free' if ours else 'free'}, from {wanted['api']}")


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir / SECRETS_FILE
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(Verdict.FAIL, f"others can read {path}", f"chmod 600 {path}")
    missing = [name for name in ("key_pepper", "vault_keys", "cursor_keys") if getattr(settings, name) is None]
    if missing:
        yield Finding(
            Verdict.FAIL, "not set: " + ", ".join(f"ACCORD_{name.upper()}" for name in missing), f"{program()} up"
        )
    else:
        yield Finding(Verdict.OK, "secrets present")


def _check_disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.parent
    free = shutil.disk_usage(folder).free
    verdict = Verdict.OK if free >= LEAST_FREE_BYTES else Verdict.WARN
    fix = "" if verdict is Verdict.OK else "free some space: PostgreSQL stops when the disk is full"
    yield Finding(verdict, f"{free / 1024**3:.0f} GiB free at {folder}", fix)


def _is_ours(room: str) -> bool:
    spec = util.find_spec(room)
    return spec is not None and spec.origin is not None and Path(spec.origin).parent.parent == CHECKOUT


def _version() -> str:
    return _installed(DISTRIBUTION) or "from the checkout"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


CHECKS: tuple[Check, ...] = (
    _check_environment,
    _check_temporal_binaries,
    _check_stack,
    _check_ports,
    _check_secrets,
    check_database,
    check_temporal,
    check_providers,
    check_api,
    _check_disk,
)
