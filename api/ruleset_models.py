"""What can be asked about rulesets, and how they are shown. Each has its owner team."""

from typing import Annotated, Any

from pydantic import Field

from api.answers import Answer
from api.schemas import Body
from domain.orders import AtSilence, HoldReason, LimitS
from domain.risk import MAX_LENGTH, MAX_RULES

RULE = {"name": "high_value_abroad", "when": "total_minor > 50000 && country != 'US'"}
RULES = {"channel": "*", "rules": [RULE]}
SILENCE = {"action": "re_source", "nodes": {"STL": {"accept_s": 3600, "pack_s": 28_800}}}
TEST = {"rules": [RULE], "facts": {"total_minor": 80_000, "country": "CA"}}


class RiskRuleIn(Body):
    """Orders for which `when` (CEL over the facts of the order) is true are held, for the reason `name`."""

    name: HoldReason
    when: Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]


_Rules = Annotated[list[RiskRuleIn], Field(max_length=MAX_RULES)]


class RiskRulesIn(Body):
    """All risk rules of a channel, or of those that have none of their own (`*`), in the place of the old ones."""

    channel: Annotated[str, Field(min_length=1, max_length=64)] = "*"
    rules: _Rules


class FactsIn(Body):
    """Facts of an order that is not there. What is not said is empty or 0."""

    channel: str = ""
    currency: str = ""
    country: str = ""
    region: str = ""
    zone_id: str = ""
    service_level: str = "standard"
    split: str = "asap"
    total_minor: int = 0
    shipping_minor: int = 0
    discount_minor: int = 0
    lines: int = 1
    units: int = 1
    skus: Annotated[tuple[str, ...], Field(max_length=1500)] = ()
    max_quantity: int = 1
    max_unit_price_minor: int = 0
    tenders: int = 1
    providers: Annotated[tuple[str, ...], Field(max_length=50)] = ()


class RiskTestIn(Body):
    """What would be held? Of an order that was placed, or of made-up facts; by these rules, or those in force."""

    channel: Annotated[str, Field(min_length=1, max_length=64)] = "*"
    rules: _Rules | None = None
    order_id: Annotated[str, Field(max_length=64)] | None = None
    facts: FactsIn | None = None


class NodeLimitsIn(Body):
    """How long one node may be silent, in seconds. Without one, the limit of all nodes."""

    accept_s: LimitS | None = None
    pack_s: LimitS | None = None


class SilenceIn(Body):
    """What follows when a node is silent: another node ships (`re_source`), or a person looks (`case`)."""

    channel: Annotated[str, Field(min_length=1, max_length=64)] = "*"
    action: AtSilence = AtSilence.RE_SOURCE
    nodes: Annotated[dict[str, NodeLimitsIn], Field(max_length=1000, default_factory=dict)]


class SilenceRuleset(Answer):
    """A version of the rules about silent nodes, in force for new orders unless a newer one is. Owner: fulfillment."""

    ruleset: str
    kind: str
    channel: str
    version: int
    owner: str
    action: str
    nodes: dict[str, dict[str, int | None]]
    created_at: str


class SilenceRulesets(Answer):
    """The rules in force, per channel."""

    data: list[SilenceRuleset]


class RiskRuleset(Answer):
    """A version of the risk rules, in force for new orders unless a newer one is. Owner: finance."""

    ruleset: str
    kind: str
    channel: str
    version: int
    owner: str
    rules: list[dict[str, str]]
    created_at: str


class RiskRulesets(Answer):
    """The rules in force, per channel."""

    data: list[RiskRuleset]


class RiskTested(Answer):
    """What the rules say of these facts. `failed` rules hold the order too, for a person to look."""

    ruleset: str
    facts: dict[str, Any]
    holds: bool
    reason: str | None
    matched: list[str]
    failed: list[dict[str, str]]
