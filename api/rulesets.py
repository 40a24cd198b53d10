"""Routes of rulesets: the risk rules (owner finance) to look at, set and try; silent nodes (fulfillment)."""

from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.bodies import pointer_part
from api.front import Call, CurrentCall
from api.orders import PRIVATE
from api.problems import Finding, invalid, not_found
from api.rendering import stamp
from api.routing import BODY_PROBLEMS, Routes
from api.ruleset_models import (
    RULES,
    SILENCE,
    TEST,
    RiskRuleIn,
    RiskRuleset,
    RiskRulesets,
    RiskRulesIn,
    RiskTested,
    RiskTestIn,
    SilenceIn,
    SilenceRuleset,
    SilenceRulesets,
)
from domain.lifecycle import Team
from domain.orders import NodeSilence
from domain.permissions import EVERY, actor_of
from domain.risk import RiskFacts, RiskRule, RiskRules, facts_of, find_wrong, judge
from store.nodes import unknown_nodes
from store.rulesets import Row, add_version, has_channel, in_force, newest, placed_order

routes = Routes()

KIND = "risk"
SILENCE_KIND = "node_silence"


@routes.add(
    "GET",
    "/v1/rulesets/node-silence",
    "getSilenceRules",
    answers={200: (SilenceRulesets, "The rules in force, per channel.")},
)
async def get_silence(call: CurrentCall) -> Response:
    """What follows when a node is silent beyond its limit. An order keeps the version that it was accepted by."""
    rows = await _in_force(call, SILENCE_KIND)
    return JSONResponse({"data": [_silence(row) for row in rows]}, 200, PRIVATE)


@routes.add(
    "POST",
    "/v1/rulesets/node-silence/versions",
    "setSilenceRules",
    answers={
        200: (SilenceRuleset, "These rules are in force already."),
        201: (SilenceRuleset, "A new version, in force for orders from now on."),
    },
    problems=BODY_PROBLEMS,
    body=(SilenceIn, SILENCE),
)
async def set_silence(call: CurrentCall) -> Response:
    """Says how long nodes may be silent, and whether another node ships then, or a person looks."""
    body, _ = await call.body(SilenceIn, call.front.limits.command_bytes)
    await _check_channel(call, body.channel)
    unknown = await call.front.read(lambda c: unknown_nodes(c, sorted(body.nodes)))
    if unknown:
        raise invalid([Finding(f"/nodes/{pointer_part(name)}", "unknown_node", "no such node") for name in unknown])
    content = body.model_dump(mode="json", include={"action", "nodes"})
    row, fresh = await call.front.write(
        lambda c: _added(c, call, SILENCE_KIND, body.channel, Team.FULFILLMENT, content)
    )
    return JSONResponse(_silence(row), 201 if fresh else 200, PRIVATE)


def _silence(row: Row) -> dict[str, Any]:
    rules = NodeSilence.model_validate({**row["body"], "version": _name(row)})
    shown = rules.model_dump(mode="json", include={"action", "nodes"})
    return {**_about(row), **shown}


@routes.add(
    "GET",
    "/v1/rulesets/risk",
    "getRiskRules",
    answers={200: (RiskRulesets, "The rules in force, per channel.")},
)
async def get(call: CurrentCall) -> Response:
    """Which new orders are held for somebody to look at. An order keeps the version that it was accepted by."""
    return JSONResponse({"data": [_risk(row) for row in await _in_force(call, KIND)]}, 200, PRIVATE)


async def _in_force(call: Call, kind: str) -> list[Row]:
    """The newest version of each channel that the caller may see, and that of all others."""
    rows = await call.front.read(lambda c: in_force(c, kind))
    return [row for row in rows if row["channel"] == EVERY or call.scope.covers_channel(row["channel"])]


@routes.add(
    "POST",
    "/v1/rulesets/risk/versions",
    "setRiskRules",
    answers={
        200: (RiskRuleset, "These rules are in force already."),
        201: (RiskRuleset, "A new version, in force for orders from now on."),
    },
    problems=BODY_PROBLEMS,
    body=(RiskRulesIn, RULES),
)
async def set_(call: CurrentCall) -> Response:
    """Sets all rules of a channel at once. Each is checked first; one that cannot be used refuses all of them."""
    body, _ = await call.body(RiskRulesIn, call.front.limits.command_bytes)
    await _check_channel(call, body.channel)
    rules = _checked(body.rules)
    content = rules.model_dump(mode="json")
    row, fresh = await call.front.write(lambda c: _added(c, call, KIND, body.channel, Team.FINANCE, content))
    return JSONResponse(_risk(row), 201 if fresh else 200, PRIVATE)


async def _check_channel(call: Call, channel: str) -> None:
    """Who looks after some channels sets the rules of those alone, and not of all.

    Raises:
        Problem: `validation`, where there is no such channel, or it is not the caller's.
    """
    if call.scope.covers_channel(channel) and await call.front.read(lambda c: has_channel(c, channel)):
        return
    raise invalid([Finding("/channel", "unknown_channel", "there is no such sales channel, or it is not yours")])


async def _added(
    connection: AsyncConnection, call: Call, kind: str, channel: str, owner: Team, content: dict[str, Any]
) -> tuple[Row, bool]:
    author = actor_of(call.principal, call.operation_id).model_dump(mode="json", exclude_none=True)
    return await add_version(connection, kind, channel, owner, content, author)


@routes.add(
    "POST",
    "/v1/rulesets/risk:test",
    "testRiskRules",
    answers={200: (RiskTested, "What the rules say. Nothing was changed.")},
    problems=(*BODY_PROBLEMS, "not-found"),
    body=(RiskTestIn, TEST),
)
async def try_(call: CurrentCall) -> Response:
    """What would be held? Changes nothing."""
    body, _ = await call.body(RiskTestIn, call.front.limits.command_bytes)
    if (body.order_id is None) == (body.facts is None):
        raise invalid([Finding("/facts", "one_of", "give either an order_id or facts")])
    name, rules = await _to_test(call, body)
    facts = await _facts(call, body)
    verdict = judge(rules, facts)
    answer = {
        "ruleset": name,
        "facts": facts.model_dump(mode="json"),
        "holds": verdict.reason is not None,
        "reason": verdict.reason,
        "matched": list(verdict.matched),
        "failed": [{"rule": rule, "why": why} for rule, why in verdict.failed],
    }
    return JSONResponse(answer, 200, PRIVATE)


async def _to_test(call: Call, body: RiskTestIn) -> tuple[str, RiskRules]:
    if body.rules is not None:
        return "draft", _checked(body.rules)
    row = await call.front.read(lambda c: newest(c, KIND, body.channel))
    row = row or await call.front.read(lambda c: newest(c, KIND, "*"))
    if row is None:
        raise not_found("ruleset")
    return _name(row), RiskRules.model_validate(row["body"])


async def _facts(call: Call, body: RiskTestIn) -> RiskFacts:
    if body.facts is not None:
        return RiskFacts.model_validate(body.facts.model_dump())
    placed = await call.front.read(lambda c: placed_order(c, body.order_id or ""))
    if placed is None or not call.scope.covers_channel(placed.channel):
        raise not_found("order")
    return facts_of(placed)


def _checked(given: Sequence[RiskRuleIn]) -> RiskRules:
    """The rules, once each of them can be used.

    Raises:
        Problem: `validation`, with everything that is wrong with any of them.
    """
    rules = RiskRules(rules=tuple(RiskRule(name=one.name, when=one.when) for one in given))
    wrong = find_wrong(rules)
    if wrong:
        raise invalid([Finding(f"/rules/{one.index}", one.code, one.message) for one in wrong])
    return rules


def _name(row: Row) -> str:
    """As orders, events and decisions name it."""
    suffix = "" if row["channel"] == "*" else f":{row['channel']}"
    return f"{row['kind']}{suffix}@{row['version']}"


def _risk(row: Row) -> dict[str, Any]:
    return {**_about(row), "rules": row["body"].get("rules", [])}


def _about(row: Row) -> dict[str, Any]:
    return {
        "ruleset": _name(row),
        "kind": row["kind"],
        "channel": row["channel"],
        "version": row["version"],
        "owner": row["owner"],
        "created_at": stamp(row["created_at"]),
    }
