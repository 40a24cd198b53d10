"""The laptop's stack: `up`, `down`, `status`, `logs`, `doctor`, `config show`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import psutil
import typer

from cli.output import AsJson, ExitCode, document, people, program, speaker
from devstack.children import last_lines, recorded_process
from devstack.folder import StackFolder
from devstack.generated import ROLES
from devstack.report import Say, StackError
from devstack.stack import Stack, StackOptions
from devstack.supervisor import Supervisor
from settings import Environment, Settings, UnsafeSettings, load_settings, names_temporal

START_LIMIT_S = 1800.0  # the first start may build Temporal
STOP_LIMIT_S = 150.0  # more than the limits of all children together
PROGRESS = re.compile(r" · | ! |   \S")  # what the supervisor prints until an empty line ends the start
SERVICES = ("api", "worker", "temporal", "postgres", "ui", "steps", "supervisor")


def add_to(app: typer.Typer) -> None:
    """Mount all commands of this module."""
    from cli.config import config
    from cli.doctor import doctor

    app.command(help="Start the whole stack in this folder, or show the links of the one that runs.")(up)
    app.command(help="Stop the stack of this folder.")(down)
    app.command(help="What runs in this folder, and where.")(status)
    app.command(help="The log of one service.")(logs)
    app.command(help="Check every part and print the fix for what is wrong.")(doctor)
    app.add_typer(config, name="config")


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    demo: Annotated[
        bool | None,
        typer.Option(help="Load the demo's network and stock at the first start; by default into a database of ours."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the whole stack, in the foreground unless detached."""
    settings = load_settings()
    if settings.env is Environment.PRODUCTION:
        raise UnsafeSettings(("`accord up` is for development: start `accord api` and `accord worker` instead",))
    say = speaker(as_json)
    folder = StackFolder(settings.data_dir)
    if folder.taken():
        _wait_until_ready(folder, say, owner=None)
        say(" already running")
    elif detach:
        _start_detached(folder, demo, say)
    else:
        raise typer.Exit(_run_here(settings, demo, say=say, as_json=as_json))
    _show_links(folder, say, as_json)


def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Also remove all data of this folder.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the stack in order; remove its data when asked."""
    folder = StackFolder(load_settings().data_dir)
    say = speaker(as_json)
    if wipe and not yes and folder.root.exists():
        typer.confirm(f"Remove {folder.root} with all orders in it?", abort=True, err=True)
    was_running = folder.taken()
    if was_running:
        _stop_supervisor(folder, say)
    leftovers = folder.end_leftovers()
    say(" stopped" if was_running or leftovers else f" nothing runs in {folder.root}")
    if wipe:
        folder.wipe()
        say(f" removed {folder.root}")
    if as_json:
        document({"was_running": was_running, "leftovers": leftovers, "wiped": wipe})


def status(as_json: AsJson = False) -> None:
    """Show the stack of this folder; exit code 4 when nothing runs."""
    folder = StackFolder(load_settings().data_dir)
    run = folder.read_run()
    if not run or not folder.taken():
        if as_json:
            document({"phase": "stopped", "folder": str(folder.root)})
        people(f"nothing runs in {folder.root}  -> {program()} up")
        raise typer.Exit(ExitCode.UNREACHABLE)
    children = {name: recorded_process(record) is not None for name, record in run["children"].items()}
    say = speaker(as_json)
    say(f" {run['phase']}   {folder.root}")
    for name, alive in children.items():
        say(f" {name:<10} {'up' if alive else 'DOWN':<5} pid {int(run['children'][name]['pid'])}")
    _show_links(folder, say, as_json)


def logs(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.")] = "api",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is added.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the end of one log."""
    if service not in SERVICES:
        raise typer.BadParameter(f"{service} is not one of {', '.join(SERVICES)}")
    log = StackFolder(load_settings().data_dir).logs / f"{service}.log"
    if not log.exists():
        raise StackError(f"{log} does not exist", f"{program()} up")
    found = last_lines(log, lines)
    if as_json:
        document({"service": service, "lines": found})
        return
    print("\n".join(found))
    if follow:
        _follow(log)


def _run_here(settings: Settings, demo: bool | None, *, say: Say, as_json: bool) -> int:
    stack = Stack(stack_options(settings), say)
    # Somebody else's database gets the demo's channels, nodes and stock only when asked.
    with_demo = not stack.options.own_database if demo is None else demo

    def ready() -> None:
        _show_links(stack.folder, say, as_json)
        if with_demo:
            say(f"   Try            {program()} demo run happy-path")
            say(f"                  {program()} demo retail --orders 100")
            say(f"                  {program()} orders list")
        say(f"   Stop           Ctrl-C; data stays in {_short(stack.folder.root)}")
        say(f"   Start over     {program()} down --wipe")

    return Supervisor(stack, say, demo=with_demo, grace_s=settings.worker_grace_s).run(ready)


def stack_options(settings: Settings) -> StackOptions:
    """What of the stack exists already, according to the environment."""
    own_database = "ACCORD_DATABASE_URL" in os.environ or "ACCORD_DATABASE_URL_FILE" in os.environ
    ports = {"api": int(os.environ["ACCORD_API_PORT"])} if os.environ.get("ACCORD_API_PORT") else {}
    return StackOptions(
        settings.data_dir,
        own_database=own_database,
        own_temporal=names_temporal(),
        temporal_server=settings.temporal_server,
        preferred_ports=ports,
    )


def _start_detached(folder: StackFolder, demo: bool | None, say: Say) -> None:
    folder.prepare()
    log = folder.logs / "supervisor.log"
    choice = {None: (), True: ("--demo",), False: ("--no-demo",)}[demo]
    command = (sys.executable, "-m", "cli.main", "up", *choice)
    with log.open("wb") as output:
        owner = subprocess.Popen(  # noqa: S603 - this very program
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    _wait_until_ready(folder, say, owner)


def _wait_until_ready(folder: StackFolder, say: Say, owner: subprocess.Popen[bytes] | None) -> None:
    """Wait until the stack of this folder is ready, telling what its supervisor prints."""
    log = folder.logs / "supervisor.log"
    told = 0
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        ready = _is_ready(folder.read_run(), owner)
        if owner is not None:
            printed = log.read_text(errors="replace").split("\n")[:-1]  # the last line may still be in the making
            steps = steps_of(printed)
            for line in steps[told:]:
                say(line)
            told = len(steps)
            if owner.poll() is not None:
                problem = [line for line in printed if line.strip() and line not in steps]
                raise StackError("The stack did not start:\n    " + "\n    ".join(problem[-15:]), f"{program()} doctor")
        elif not folder.taken():
            raise StackError("The stack that was starting here has ended", f"{program()} up")
        if ready:
            return
        time.sleep(0.2)
    raise StackError("The stack did not get ready in time", f"{program()} logs supervisor")


def _is_ready(run: dict[str, Any], owner: subprocess.Popen[bytes] | None) -> bool:
    """True when a living supervisor says so: what a dead one has left behind does not count."""
    supervisor = recorded_process(run["supervisor"]) if "supervisor" in run else None
    if supervisor is None or (owner is not None and supervisor.pid != owner.pid):
        return False
    return bool(run.get("phase") == "ready")


def steps_of(printed: Sequence[str]) -> list[str]:
    """The lines about the start among what a supervisor printed: neither its links nor what went wrong."""
    return [line for line in takewhile(str.strip, printed) if PROGRESS.match(line)]


def _stop_supervisor(folder: StackFolder, say: Say) -> None:
    supervisor = recorded_process(folder.read_run().get("supervisor", {"pid": 0, "started": 0.0}))
    if supervisor is None:
        raise StackError(f"{folder.root} is taken by a process that has not said who it is", "try again in a second")
    say(" stopping")
    supervisor.send_signal(signal.SIGTERM)
    limit = time.monotonic() + STOP_LIMIT_S
    while folder.taken() and time.monotonic() < limit:
        time.sleep(0.1)
    if folder.taken():
        say(" it does not end: killing it, then its children, each by its id")
        supervisor.kill()
        psutil.wait_procs([supervisor], timeout=10)


def _show_links(folder: StackFolder, say: Say, as_json: bool) -> None:
    run = folder.read_run()
    links = _links(run, folder)
    say("")
    for title, link in links.items():
        say(f"   {title:<14} {link}")
    say("")
    if as_json:
        document({**{name: run[name] for name in ("phase", "ports") if name in run}, "links": links})


_ORDERS = "?query=" + quote('WorkflowType="Order"')
"""Without it the list shows a chore every thirty seconds among the orders."""


def _links(run: dict[str, Any], folder: StackFolder) -> dict[str, str]:
    ports = run.get("ports", {})
    links = {"API and docs": f"http://localhost:{ports.get('api')}/docs"}
    if "ui" in run.get("children", {}) or run.get("temporal_source") == "dev server":
        links["Temporal UI"] = f"http://localhost:{ports.get('ui')}/namespaces/default/workflows{_ORDERS}"
    links["Keys"] = f"{_short(folder.secrets)}    ({', '.join(ROLES)})"
    return links


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _follow(log: Path) -> None:
    with log.open(errors="replace") as file:
        file.seek(0, os.SEEK_END)
        try:
            while True:
                print(file.read(), end="", flush=True)
                time.sleep(0.3)
        except KeyboardInterrupt:
            return
