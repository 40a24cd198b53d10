"""`accord rules`: which new orders are held, and what follows when a node is silent, over the HTTP API."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.bodies import WantedError
from cli.client import RiskView, RulesetView, SilenceView
from cli.orders import refusals
from cli.output import AsJson, document
from cli.target import ApiKey, ApiUrl, call_api

app = typer.Typer(help="Look at the rules of the business, and set them.", no_args_is_help=True)
risk = typer.Typer(help="Which new orders are held for somebody to look at.", no_args_is_help=True)
silence = typer.Typer(help="How long nodes may be silent, and what follows.", no_args_is_help=True)
app.add_typer(risk, name="risk")
app.add_typer(silence, name="silence")

ROLE = "finance"  # the owner team of these rules
Channel = Annotated[str, typer.Option(help="Sales channel; `*` for those without rules of their own.")]
RulesFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON: {"rules": [{"name": "abroad", "when": "country != \'US\'"}]}')
]


@risk.command()
def show(api_url: ApiUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the rules in force."""
    with refusals(as_json):
        found = call_api(lambda c: c.risk_rules(), api_url, api_key, ROLE)
    if as_json:
        document({"data": [one.document for one in found]})
        return
    for one in found:
        print(rules_text(one))


@risk.command(name="set")
def set_(
    file: RulesFile,
    channel: Channel = "*",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Set all rules of a channel, for orders from now on."""
    with refusals(as_json):
        body = {"channel": channel, "rules": rules_in(file)}
        found = call_api(lambda c: c.set_risk_rules(body), api_url, api_key, ROLE)
    if as_json:
        document(found.document)
    else:
        print(rules_text(found))


@risk.command(name="test")
def try_(
    order: Annotated[str | None, typer.Option(help="Id of an order that was placed (ord_...).")] = None,
    facts: Annotated[str | None, typer.Option(help='Made-up facts as JSON: {"total_minor": 80000}.')] = None,
    file: Annotated[Path | None, typer.Option(help="Rules to try; without it, those in force.")] = None,
    channel: Channel = "*",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be held, and change nothing."""
    with refusals(as_json):
        body: dict[str, Any] = {"channel": channel}
        if order is not None:
            body["order_id"] = order
        if facts is not None:
            body["facts"] = _read_json(facts, "--facts")
        if file is not None:
            body["rules"] = rules_in(file)
        found = call_api(lambda c: c.test_risk_rules(body), api_url, api_key, ROLE)
    if as_json:
        document(found.document)
    else:
        print(verdict_text(found))


@silence.command(name="show")
def show_silence(api_url: ApiUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the rules in force."""
    with refusals(as_json):
        found = call_api(lambda c: c.silence_rules(), api_url, api_key)
    if as_json:
        document({"data": [one.document for one in found]})
        return
    for one in found:
        print(silence_text(one))


@silence.command(name="set")
def set_silence(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help='JSON: {"action": "re_source", "nodes": {"STL": {"accept_s": 3600}}}')
    ],
    channel: Channel = "*",
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Set limits and what follows, for orders of a channel from now on."""
    with refusals(as_json):
        content = _read_file(file)
        if not isinstance(content, dict):
            raise WantedError(f'{file} holds no rules: write {{"action": "re_source", "nodes": {{}}}}')
        found = call_api(lambda c: c.set_silence_rules({"channel": channel, **content}), api_url, api_key)
    if as_json:
        document(found.document)
    else:
        print(silence_text(found))


def rules_in(file: Path) -> list[Any]:
    """The rules in a file.

    Raises:
        WantedError: it cannot be read, or holds no list of rules.
    """
    content = _read_file(file)
    rules = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(rules, list):
        raise WantedError(f'{file} holds no rules: write {{"rules": [...]}}')
    return rules


def rules_text(one: RulesetView) -> str:
    """A version with its rules, one a line."""
    lines = [f" {one.ruleset}  owner {one.owner}, for {'all channels' if one.channel == '*' else one.channel}"]
    lines += [f"   {rule['name']:<28} {rule['when']}" for rule in one.rules] or ["   no rules: nothing is held"]
    return "\n".join(lines)


def verdict_text(found: RiskView) -> str:
    """What the rules say."""
    lines = [f" {found.ruleset}: {f'held ({found.reason})' if found.holds else 'not held'}"]
    lines += [f"   matched {name}" for name in found.matched]
    lines += [f"   failed  {one['rule']}: {one['why']}" for one in found.failed]
    return "\n".join(lines)


def silence_text(one: SilenceView) -> str:
    """A version with its limits, one node a line."""
    lines = [f" {one.ruleset}  owner {one.owner}, then: {one.action}"]
    for node, limits in sorted(one.nodes.items()):
        words = [f"{name} {value}" for name, value in limits.items() if value is not None]
        lines.append(f"   {node:<8} {', '.join(words)}")
    return "\n".join(lines)


def _read_file(file: Path) -> Any:
    """The JSON in a file.

    Raises:
        WantedError: it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise WantedError(f"{file} cannot be read: {problem}") from None
    return _read_json(text, str(file))


def _read_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise WantedError(f"{where} is no JSON: {problem}") from None
