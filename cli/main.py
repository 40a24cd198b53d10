"""The `accord` command: every sub-command, and what a problem turns into."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

import typer

from cli import processes, stack
from cli.output import ExitCode, interrupted, told_errors

# They bring the HTTP client and the database with them.
HEAVY = ("orders", "demo", "check", "keys", "exceptions", "stock", "nodes", "rules")
SDK_PAUSE_S = 0.3
"""SDK 1.35.0 aborts now and then when a process ends right after it has called: its threads need this long to end."""


def make_app(wanted: str | None = None) -> typer.Typer:
    """All commands, without importing those that were not asked for.

    Args:
        wanted: first word of the command line; anything that is not a command (`--help`, a typing mistake)
            brings in everything, so that the list is complete.
    """
    app = typer.Typer(
        name="accord",
        help="An order orchestrator: each order is one durable Temporal workflow.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    stack.add_to(app)
    processes.add_to(app)
    if wanted in HEAVY or wanted not in names(app):
        _add_heavy(app, HEAVY if wanted not in HEAVY else (wanted,))
    return app


def names(app: typer.Typer) -> set[str]:
    """Names of the commands and groups of an application."""
    commands = {one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands}
    return commands | {str(group.name) for group in app.registered_groups}


def _add_heavy(app: typer.Typer, chosen: tuple[str, ...]) -> None:
    if "orders" in chosen:
        from cli import amending, closing, holds, notices, picking, returning
        from cli.orders import app as orders

        amending.add_to(orders)
        holds.add_to(orders)
        closing.add_to(orders)
        notices.add_to(orders)
        picking.add_to(orders)
        returning.add_to(orders)
        app.add_typer(orders, name="orders")
    if "demo" in chosen:
        from cli.demo import app as demo

        app.add_typer(demo, name="demo")
    if "exceptions" in chosen:
        from cli.exceptions import app as exceptions

        app.add_typer(exceptions, name="exceptions")
    if "stock" in chosen:
        from cli.stock import app as stock_app

        app.add_typer(stock_app, name="stock")
    if "nodes" in chosen:
        from cli.nodes import app as nodes

        app.add_typer(nodes, name="nodes")
    if "rules" in chosen:
        from cli.rules import app as rules

        app.add_typer(rules, name="rules")
    if "keys" in chosen:
        from cli.keys import app as keys

        app.add_typer(keys, name="keys")
    if "check" in chosen:
        from cli.check import check

        app.command(help="Check the conservation laws of stock, quantities and money.")(check)


def main() -> None:
    """Run one command and exit with its code."""
    try:
        _run()
    finally:
        if "temporalio.bridge" in sys.modules:
            time.sleep(SDK_PAUSE_S)


def _run() -> NoReturn:
    app = make_app(sys.argv[1] if len(sys.argv) > 1 else None)
    with told_errors():
        code = app(standalone_mode=False) or ExitCode.DONE
    if code == ExitCode.INTERRUPTED:
        interrupted()
    sys.exit(code)


if __name__ == "__main__":
    main()
