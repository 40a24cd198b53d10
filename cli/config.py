"""`accord config show`: every setting, its value, and where it came from."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from cli.output import AsJson, document, speaker
from cli.target import KEY_VARIABLE, URL_VARIABLE
from settings import PREFIX, SECRETS_FILE, Settings, load_settings, load_temporal, names_temporal, read_run_file

config = typer.Typer(help="Settings.", no_args_is_help=True)


@config.command(help="Every setting, its value, and where it came from.")
def show(
    redact: Annotated[bool, typer.Option(help="Mask secrets.")] = True,
    as_json: AsJson = False,
) -> None:
    """Print the settings that a process started here and now would get."""
    settings = load_settings()
    rows = {
        name: (_shown(getattr(settings, name), redact=redact), _origin(settings, name))
        for name in Settings.model_fields
    }
    address = str(load_temporal(settings)["target_host"])
    say = speaker(as_json)
    for name, (value, origin) in rows.items():
        say(f"{PREFIX + name.upper():<32} {value!s:<44} {origin}")
    say(f"{'temporal address':<32} {address:<44} {_temporal_origin(settings)}")
    if as_json:
        content = {PREFIX + name.upper(): {"value": value, "from": origin} for name, (value, origin) in rows.items()}
        document({**content, "temporal": {"address": address, "from": _temporal_origin(settings)}})


def unknown_variables() -> tuple[str, ...]:
    """Variables with our prefix that no setting reads: most often a typing mistake."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {name + "_FILE" for name in known} | {URL_VARIABLE, KEY_VARIABLE}
    return tuple(sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known))


def _shown(value: Any, *, redact: bool) -> Any:
    if isinstance(value, SecretStr):
        return "**********" if redact else value.get_secret_value()
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _origin(settings: Settings, name: str) -> str:
    variable = PREFIX + name.upper()
    if os.environ.get(variable):
        return "environment"
    if os.environ.get(variable + "_FILE"):
        return f"file {os.environ[variable + '_FILE']}"
    if name not in settings.model_fields_set:
        return "default"
    return "running stack" if name in read_run_file(settings.data_dir) else SECRETS_FILE


def _temporal_origin(settings: Settings) -> str:
    if names_temporal():
        return "environment or profile"
    return "running stack" if "temporal_address" in read_run_file(settings.data_dir) else "default"
