"""`accord keys`: make, list and revoke API keys. Works on the database itself: a fresh API lets nobody in yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from api.credentials import digest, mint
from cli.output import AsJson, ExitCode, document, leave, people
from domain.permissions import OPERATIONS, Role, Rule
from settings import Environment, Settings, load_settings
from store.engine import make_engine, transaction
from store.keys import KeyListed, list_keys, put_key, revoke_key

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

T = TypeVar("T")
NEEDS = ((Rule.OWN_CHANNEL, "channel"), (Rule.OWN_NODE, "node"))


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Who will use it, for people.")],
    role: Annotated[list[Role], typer.Option(help="What it may do, repeatable; see docs/permissions.md.")],
    channel: Annotated[list[str] | None, typer.Option(help="Sales channel, repeatable; `*` for all.")] = None,
    node: Annotated[list[str] | None, typer.Option(help="Node, repeatable; `*` for all.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Valid for so many days; else until revoked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: this once, only its digest is stored."""
    channels, nodes = channel or [], node or []
    _check_reach(role, {"channel": channels, "node": nodes})
    settings = load_settings()
    pepper = settings.pepper
    minted = mint("live" if settings.env is Environment.PRODUCTION else "dev")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    roles = [one.value for one in role]

    async def store(connection: AsyncConnection) -> None:
        await put_key(connection, minted.key_id, digest(minted.text, pepper), name, roles, channels, nodes, expires_at)

    _in_database(settings, store)
    people(f" {name}: {_may(roles, channels, nodes)}. The key is shown this once; keep it where {name} finds it.")
    if as_json:
        made = {"id": minted.key_id, "key": minted.text, "name": name, "expires_at": expires_at}
        document({**made, "roles": roles, "channels": channels, "nodes": nodes})
    else:
        print(minted.text)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List all keys, oldest first: what each may do, never the key itself."""
    found = _in_database(load_settings(), list_keys)
    if as_json:
        document({"data": [_listed(key) for key in found]})
        return
    for key in found:
        print(f" {key.key_id}  {key.state:<8} {key.name:<28} {_may(key.roles, key.channels, key.nodes)}")
    if not found:
        people("no keys  -> accord keys create --name shop --role storefront --channel web-us")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, see `accord keys list`.")],
    as_json: AsJson = False,
) -> None:
    """Make a key useless; an API that knows it already notices within 30 seconds."""
    if not _in_database(load_settings(), lambda connection: revoke_key(connection, key_id)):
        leave(f"no valid key has the id {key_id}\n  -> accord keys list", ExitCode.FAILED, as_json=as_json)
    people(f" {key_id} is revoked")
    if as_json:
        document({"id": key_id, "state": "revoked"})


def _check_reach(roles: list[Role], given: dict[str, list[str]]) -> None:
    """Refuse a key that could reach nothing: it would meet `not found` everywhere."""
    rules = {operation.allow[role] for operation in OPERATIONS.values() for role in roles if role in operation.allow}
    if Role.SHOPPER in roles:
        raise typer.BadParameter("a shopper has no key: they sign in with a token of your identity provider")
    for rule, word in NEEDS:
        if rule in rules and not given[word]:
            raise typer.BadParameter(f"{', '.join(roles)}: give at least one --{word}, or --{word} '*' for all")


def _in_database(settings: Settings, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = make_engine(settings.dsn, pool_size=1)
        try:
            return await transaction(engine, work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def _listed(key: KeyListed) -> dict[str, object]:
    content = asdict(key)
    return {"id": content.pop("key_id"), **content}


def _may(roles: Sequence[str], channels: Sequence[str], nodes: Sequence[str]) -> str:
    """What a key may do, in words."""
    where = [f"{word} {', '.join(names)}" for word, names in (("channels", channels), ("nodes", nodes)) if names]
    return "; ".join([", ".join(roles), *where])
