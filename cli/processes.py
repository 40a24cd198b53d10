"""The long-running processes and the one-off steps: `worker`, `api`, `init`, `db`, `temporal`."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, document, speaker
from settings import SECRETS_FILE, InvalidSettings, load_settings, load_temporal, point_at_stack

database = typer.Typer(help="The tables of Accord.", no_args_is_help=True)
temporal = typer.Typer(help="The Temporal server that `accord up` runs.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Mount all commands of this module."""
    app.command(help="Run workflows and activities until asked to stop.")(worker)
    app.command(help="Serve the HTTP API until asked to stop.")(api)
    app.command(help="One-off set-up: tables, namespace, search attributes, keys.")(init)
    database.command(help="Bring the tables to the newest revision.")(upgrade)
    temporal.command(help="Build the Temporal server, its schema tool and its UI into the cache.")(install)
    app.add_typer(database, name="db")
    app.add_typer(temporal, name="temporal")


def worker() -> None:
    """Run workflows and activities."""
    import worker as process

    settings = load_settings()
    point_at_stack(settings)
    process.main(settings)


def api() -> None:
    """Serve the HTTP API."""
    from api.app import main

    settings = load_settings()
    point_at_stack(settings)
    main(settings)


def init(
    keys: Annotated[Path | None, typer.Option(help="TOML file whose table [keys] holds role = API key.")] = None,
    recreate: Annotated[
        list[str] | None, typer.Option(help="Search attribute to create anew because its type is wrong.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set up database and Temporal; idempotent."""
    from temporalio.client import Client

    from cli.setup import SetupDone, set_up

    settings = load_settings()
    found = read_keys(keys or settings.data_dir / SECRETS_FILE, required=keys is not None)

    async def run() -> SetupDone:
        client = await Client.connect(**load_temporal(settings))
        pepper = settings.pepper if found else None
        return await set_up(client, settings.dsn, found, pepper, recreate or ())

    done = asyncio.run(run())
    speaker(as_json)(
        f"database at revision {done.revision}; namespace {done.namespace}, retention {done.retention_days} d, "
        f"{done.search_attributes} search attributes readable; {done.keys} API keys registered"
    )
    if as_json:
        document(asdict(done))


def read_keys(path: Path, *, required: bool) -> Mapping[str, str]:
    """Role -> API key from a secrets file.

    Raises:
        InvalidSettings: the file was named and cannot be used.
    """
    try:
        keys = tomllib.loads(path.read_text()).get("keys", {})
    except FileNotFoundError:
        if required:
            raise InvalidSettings(f"{path} does not exist") from None
        return {}
    except tomllib.TOMLDecodeError as problem:
        raise InvalidSettings(f"{path} is not TOML: {problem}") from problem
    return {str(role): str(key) for role, key in keys.items()}


def upgrade(as_json: AsJson = False) -> None:
    """Bring the tables to the newest revision."""
    from cli.setup import upgrade_database

    revision = upgrade_database(load_settings().dsn)
    speaker(as_json)(f"database at revision {revision}")
    if as_json:
        document({"revision": revision})


def install(as_json: AsJson = False) -> None:
    """Build what is missing in the cache, once per version; `accord up` would do the same."""
    from devstack.gobuild import install as build
    from devstack.sources import cache_folder
    from devstack.versions import PROGRAMS

    say = speaker(as_json)
    built = build(PROGRAMS, cache_folder(), say)
    for program in PROGRAMS:
        path = cache_folder() / program.file_name
        say(f" {'built' if path in built else 'there'}  {path}")
    if as_json:
        document({"cache": str(cache_folder()), "built": [path.name for path in built]})
