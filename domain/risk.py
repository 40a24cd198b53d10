"""Which orders somebody must look at before anything ships: rules in CEL over facts of the order. Owner: finance.

A rule sees the facts below and nothing else: no name, no address, no reference of the customer. What is refused when
rules are set can not fail later for its form; what still fails when an order is judged holds the order, so that a
person looks: it is never lost, and never passed unseen. CEL is pure, and each rule is bounded in length and walks.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any

import cel
from pydantic import ConfigDict, Field, StringConstraints

from domain.orders import Frozen, HoldReason, OrderLine, PlaceOrder
from domain.refusals import OrderRuleError

MAX_RULES = 50
MAX_LENGTH = 500
MAX_DEPTH = 16
NOT_EVALUATED = "risk_not_evaluated"
"""The reason of a hold because a rule could not be evaluated."""

_WALKS = ("all", "exists", "exists_one", "map", "filter")
_WALK = re.compile(rf"\.\s*({'|'.join(_WALKS)})\s*\(\s*([A-Za-z_]\w*)?")
_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "int", "double", "string", "@in", "@not_strictly_false"}
)
_OPERATOR = re.compile(r"[_!\-]?[_<>=!+\-*/%&|?:\[\]]+")


class RiskFacts(Frozen):
    """What a rule can ask. Amounts in minor units of `currency`."""

    channel: str
    currency: str
    country: str
    region: str
    zone_id: str
    service_level: str
    split: str
    total_minor: int
    shipping_minor: int
    discount_minor: int
    lines: int
    units: int
    skus: tuple[str, ...]
    max_quantity: int  # of one line
    max_unit_price_minor: int
    tenders: int
    providers: tuple[str, ...]


class RiskRule(Frozen):
    """One rule: orders for which `when` is true are held, for the reason `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: HoldReason
    when: Annotated[str, StringConstraints(min_length=1, max_length=MAX_LENGTH)]


class RiskRules(Frozen):
    """The ruleset `risk`. Without rules nothing is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: Annotated[tuple[RiskRule, ...], Field(max_length=MAX_RULES)] = ()


class RuleFinding(Frozen):
    """What is wrong with a rule: its place in the document, a stable code, a sentence."""

    index: int
    code: str
    message: str


class RiskVerdict(Frozen):
    """The rules that hold the order, in the order of the document, and those that could not be evaluated."""

    matched: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()  # name, what went wrong

    @property
    def reason(self) -> str | None:
        """Why the order is held; None where it is not."""
        if self.matched:
            return self.matched[0]
        return NOT_EVALUATED if self.failed else None


class _WrongRule(OrderRuleError):
    """The rule cannot be used."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def facts_of(order: PlaceOrder) -> RiskFacts:
    """The facts of an order."""
    lines: tuple[OrderLine, ...] = order.lines
    return RiskFacts(
        channel=order.channel,
        currency=order.currency,
        country=order.country,
        region=order.region,
        zone_id=order.zone_id,
        service_level=order.service_level,
        split=order.split,
        total_minor=order.total_minor,
        shipping_minor=order.shipping_minor,
        discount_minor=sum(line.discount_minor for line in lines),
        lines=len(lines),
        units=order.units,
        skus=tuple(sorted({line.sku for line in lines})),
        max_quantity=max((line.quantity for line in lines), default=0),
        max_unit_price_minor=max((line.unit_price_minor for line in lines), default=0),
        tenders=len(order.tenders),
        providers=tuple(sorted({tender.provider for tender in order.tenders})),
    )


def judge(rules: RiskRules, facts: RiskFacts) -> RiskVerdict:
    """What the rules say of an order. Never raises: a rule that fails is in the verdict."""
    known = _variables(facts)
    matched, failed = [], []
    for rule in rules.rules:
        try:
            if _holds(rule.when, known):
                matched.append(rule.name)
        except _WrongRule as problem:
            failed.append((rule.name, problem.detail[:200]))
    return RiskVerdict(matched=tuple(matched), failed=tuple(failed))


def find_wrong(rules: RiskRules) -> tuple[RuleFinding, ...]:
    """Everything that is wrong with a document; nothing where it can be used.

    Each rule is read, its names are looked up, and it is tried on orders that differ in every fact.
    """
    findings = []
    names: set[str] = set()
    for index, rule in enumerate(rules.rules):
        if rule.name in names:
            findings.append(RuleFinding(index=index, code="name_taken", message=f"two rules are named {rule.name}"))
        names.add(rule.name)
        try:
            _check(rule.when)
        except _WrongRule as problem:
            findings.append(RuleFinding(index=index, code=problem.code, message=problem.detail))
    return tuple(findings)


def _check(expression: str) -> None:
    """Raises `_WrongRule` where the rule cannot be used."""
    if _depth(expression) > MAX_DEPTH:
        raise _WrongRule("too_complex", f"brackets are nested more than {MAX_DEPTH} deep")
    walks = _WALK.findall(_without_texts(expression))
    if len(walks) > 1:
        raise _WrongRule("too_complex", f"one of {', '.join(_WALKS)} per rule; make two rules of it")
    program = _program(expression)
    bound = {name for _, name in walks}
    unknown = sorted(set(program.variables()) - set(RiskFacts.model_fields) - bound)
    if unknown:
        facts = ", ".join(RiskFacts.model_fields)
        raise _WrongRule("unknown_fact", f"there is no fact {', '.join(unknown)}; there are {facts}")
    foreign = [name for name in program.functions() if name not in _FUNCTIONS and not _OPERATOR.fullmatch(name)]
    if foreign:
        usable = ", ".join(sorted(name for name in _FUNCTIONS if name.isalpha()))
        raise _WrongRule("unknown_function", f"there is no function {', '.join(foreign)}; there are {usable}")
    for facts_tried in _SAMPLES:
        _holds(expression, _variables(facts_tried))


def _holds(expression: str, known: Mapping[str, Any]) -> bool:
    """Whether the rule is true. CEL does not guess: a number is no text, and only true is true.

    Raises:
        _WrongRule: it cannot be read, it fails on these facts, or says something else than yes or no.
    """
    program = _program(expression)
    try:
        answer = program.execute(dict(known))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # a panic of the library is no Exception
        raise _WrongRule("does_not_evaluate", _first_line(problem)) from None
    if not isinstance(answer, bool):
        raise _WrongRule("not_yes_or_no", f"it gives {type(answer).__name__}, not true or false")
    return answer


@lru_cache(maxsize=1024)
def _program(expression: str) -> cel.Program:
    """The rule as CEL reads it.

    Raises:
        _WrongRule: it cannot be read.
    """
    try:
        return cel.compile(expression)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        raise _WrongRule("not_readable", _first_line(problem)) from None


def _first_line(problem: BaseException) -> str:
    """What the library says, without what it repeats of the expression."""
    text = str(problem).partition("ERROR: ")[2] or str(problem)
    return (text.splitlines() or [type(problem).__name__])[0][:200]


def _variables(facts: RiskFacts) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts}


def _depth(expression: str) -> int:
    deepest = depth = 0
    for sign in _without_texts(expression):
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _without_texts(expression: str) -> str:
    """The expression with its literals emptied: what stands in quotes is no syntax."""
    return re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", "''", expression)


def _sample(number: int, texts: Iterable[str]) -> RiskFacts:
    one, *more = texts
    words = dict.fromkeys(("channel", "currency", "country", "region", "zone_id", "service_level", "split"), one)
    amounts = dict.fromkeys(
        (
            "total_minor",
            "shipping_minor",
            "discount_minor",
            "lines",
            "units",
            "max_quantity",
            "max_unit_price_minor",
            "tenders",
        ),
        number,
    )
    return RiskFacts.model_validate({**words, **amounts, "skus": tuple(more), "providers": tuple(more)})


_SAMPLES = (_sample(0, ("", "a")), _sample(1, ("US", "A-1", "B-2")), _sample(10**9, ("web-us", "simulated")))
