"""Finds the API and its keys: options, then environment, then the stack of this folder."""

import asyncio
import os
import tomllib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli.client import AccordClient, Target
from settings import SECRETS_FILE, InvalidSettings, Settings, load_settings, read_run_file

T = TypeVar("T")
URL_VARIABLE = "ACCORD_API_URL"
KEY_VARIABLE = "ACCORD_API_KEY"

ApiUrl = Annotated[
    str | None, typer.Option("--api-url", help=f"Where the API is; else {URL_VARIABLE}, else this folder.")
]
ApiKey = Annotated[str | None, typer.Option("--api-key", help=f"Key for every request; else {KEY_VARIABLE}.")]


def find_target(url: str | None = None, key: str | None = None) -> Target:
    """Where the API is and which keys there are.

    Raises:
        InvalidSettings: no key is known.
    """
    settings = load_settings()
    given = key or os.environ.get(KEY_VARIABLE)
    keys = {"*": given} if given else _generated_keys(settings.data_dir)
    if not keys:
        raise InvalidSettings(f"No API key: set {KEY_VARIABLE}, or run this in the folder of `accord up`.")
    return Target(url or os.environ.get(URL_VARIABLE) or _own_url(settings), keys)


def open_client(target: Target, role: str, **options: float) -> AccordClient:
    """A client with the key of a role."""
    try:
        key = target.key_for(role)
    except LookupError as problem:
        raise InvalidSettings(str(problem)) from None
    connections = int(options.get("connections", 20))
    return AccordClient(target.url, key, options.get("patience_s", 60.0), connections)


def temporal_ui(settings: Settings) -> str | None:
    """Address of the Temporal UI that runs with the stack of this folder, if one does."""
    run = read_run_file(settings.data_dir)
    port = run.get("ports", {}).get("ui")
    return f"http://localhost:{port}/namespaces/default/workflows" if port else None


def _own_url(settings: Settings) -> str:
    return f"http://{settings.api_host}:{settings.api_port}"


def _generated_keys(folder: Path) -> Mapping[str, str]:
    try:
        content = tomllib.loads((folder / SECRETS_FILE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise InvalidSettings(f"{folder / SECRETS_FILE} cannot be read: {problem}") from None
    return {str(role): str(key) for role, key in content.get("keys", {}).items()}


def call_api(
    ask: Callable[[AccordClient], Coroutine[Any, Any, T]], url: str | None, key: str | None, role: str = "ops"
) -> T:
    """What the API answers to `ask`, with the caller's key or the stack's own one for the role."""
    target = find_target(url, key)

    async def run() -> T:
        async with open_client(target, role, patience_s=8.0) as client:
            return await ask(client)

    return asyncio.run(run())
