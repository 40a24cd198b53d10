"""`accord check`: are the conservation laws kept?"""

import asyncio
from typing import Annotated

import typer

from cli.output import AsJson, ExitCode, document, people
from settings import load_settings

_SAMPLE = 50


def check(
    sample: Annotated[int, typer.Option("--workflows", min=0, help="How many workflows to compare.")] = _SAMPLE,
    as_json: AsJson = False,
) -> None:
    """Check the conservation laws; exit code 1 when one is broken."""
    from rich.console import Console

    from cli.checking import check_everything, check_table, summary

    report = asyncio.run(check_everything(load_settings(), sample))
    if as_json:
        document(report.model_dump(mode="json"))
    else:
        Console().print(check_table(report))
    people(summary(report))
    if report.violations:
        raise typer.Exit(ExitCode.FAILED)
