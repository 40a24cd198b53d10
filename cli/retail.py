"""`accord demo retail`: orders of a real retailer through the running stack, with everything accounted for."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.orders import refusals
from cli.output import AsJson, ExitCode, document, leave, people, program
from cli.target import ApiKey, ApiUrl, find_target, open_client
from settings import load_settings

EXTRACT = Path(__file__).with_name("data") / "retail-extract.csv.gz"


def retail(  # noqa: PLR0917 - each option is a parameter
    file: Annotated[Path, typer.Option(help="A file in the Online Retail format, .csv or .csv.gz.")] = EXTRACT,
    orders: Annotated[int | None, typer.Option("--orders", min=1, help="Place at most so many orders.")] = None,
    start: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Begin at this day.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Orders under way at once.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed plans the same run.")] = 1,
    run: Annotated[str | None, typer.Option(help="Name of the run; the same name again places no order twice.")] = None,
    disorder: Annotated[float, typer.Option(min=0, max=1, help="Share of parcels with disorderly events.")] = 0.2,
    trouble: Annotated[
        float, typer.Option(min=0, max=1, help="Share of fulfillment orders that a node is short of, or rejects.")
    ] = 0.05,
    parcel_trouble: Annotated[
        float, typer.Option(min=0, max=1, help="Share of parcels that get lost, are damaged or come back.")
    ] = 0.02,
    changes: Annotated[
        float, typer.Option(min=0, max=1, help="Share of orders whose customer wishes for another quantity of a line.")
    ] = 0.05,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send real invoices through the stack as orders, let the floor finish them, and account for everything."""
    from rich.console import Console

    from cli.floor import Habits
    from cli.retail_plan import make_plan, read_file
    from cli.retail_report import report_table
    from cli.retail_run import play
    from domain.retail import RetailFormatError

    settings = load_settings()
    people(f" reading {file.name}")
    try:
        content = read_file(file)
    except (OSError, EOFError, RetailFormatError) as problem:
        leave(f"{file} cannot be read: {problem}", ExitCode.USAGE, as_json=as_json)
    day = start.date() if start else None
    name = run or f"r{secrets.token_hex(3)}"
    plan = make_plan(content, run_id=name, seed=seed, limit=orders, start=day, amend_share=changes)
    if not plan.orders:
        leave(f"{file.name} holds no sale{f' from {day} on' if day else ''}", ExitCode.USAGE, as_json=as_json)
    target = find_target(api_url, api_key)
    with refusals(as_json), _progress(len(plan.orders)) as tick:
        shop = open_client(target, "storefront", patience_s=120.0, connections=concurrency + 4)
        floor = open_client(target, "warehouse", patience_s=120.0, connections=16)
        habits = Habits(seed, disorder, 0.1, trouble, parcel_trouble)
        report = asyncio.run(play(settings, plan, shop, floor, concurrency, habits, tick))
    if as_json:
        document({**report.model_dump(mode="json"), "ok": report.ok})
    else:
        Console().print(report_table(report))
    if not report.ok:
        people(f"  -> {program()} check")
        raise typer.Exit(ExitCode.FAILED)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error; yields what counts one order."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(" orders"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("orders", total=total)
        yield lambda: bar.advance(task)
