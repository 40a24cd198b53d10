"""The `accord` command: every sub-command, and what a problem turns into."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import typer

from cli import processes, stack
from cli.output import told_errors


def _mount_the_rest(root: typer.Typer) -> None:
    for name in ("orders", "demo"):
        with suppress(ModuleNotFoundError):
            root.add_typer(import_module(f"cli.{name}").app, name=name)
    with suppress(ModuleNotFoundError):
        root.command(name="check")(import_module("cli.check").check)


app = typer.Typer(
    name="accord",
    help="An order orchestrator: each order is one durable Temporal workflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stack.add_to(app)
_mount_the_rest(app)
processes.add_to(app)


def main() -> None:
    """Run one command and exit with its code."""
    with told_errors():
        app()


if __name__ == "__main__":
    main()
