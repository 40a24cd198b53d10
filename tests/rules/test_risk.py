"""Risk rules: what a rule may say, what is refused by name, and that a failing one never passes an order unseen."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import cel
import pytest

from api.ruleset_models import FactsIn
from domain.orders import OrderLine, PlaceOrder, TenderAsk
from domain.risk import (
    MAX_LENGTH,
    NOT_EVALUATED,
    RiskFacts,
    RiskRule,
    RiskRules,
    RiskVerdict,
    facts_of,
    find_wrong,
    judge,
)


def _order() -> PlaceOrder:
    return PlaceOrder(
        order_id="ord_1",  # type: ignore[arg-type]
        order_number="1",
        channel="web-us",
        currency="USD",
        customer_ref="cus_secret",
        country="US",
        region="MA",
        zone_id="US-MA",
        lines=(OrderLine(1, "LAMP", 2, 4000, 500, 0), OrderLine(2, "RUG", 5, 100, 0, 0)),  # type: ignore[arg-type]
        shipping_minor=500,
        tenders=(TenderAsk(tender_id="t", sequence=1, provider="simulated", reference="pm_x", amount_minor=8500),),  # type: ignore[arg-type]
        total_minor=8500,
        placed_at=datetime(2026, 11, 27, tzinfo=UTC),
    )


def _rules(*whens: str) -> RiskRules:
    return RiskRules(
        rules=tuple(
            RiskRule(name=f"rule_{'abcdefghijklmnopqrstuvwxyz'[n % 26]}", when=when) for n, when in enumerate(whens)
        )
    )


def _codes(*whens: str) -> list[tuple[int, str]]:
    return [(one.index, one.code) for one in find_wrong(_rules(*whens))]


def test_the_package_is_the_one_that_we_mean() -> None:
    """Others import as `cel` too."""
    assert "variables" in dir(cel.Program)
    assert Path(cel.__file__).with_name("cel.pyi").exists()
    assert sys.modules["cel"] is cel


def test_the_facts_of_an_order_hold_no_reference_of_a_person() -> None:
    """Sums and counts over the lines; nothing that names the customer or the payment method."""
    facts = facts_of(_order())
    assert (facts.total_minor, facts.discount_minor, facts.lines, facts.units) == (8500, 500, 2, 7)
    assert (facts.skus, facts.max_quantity, facts.max_unit_price_minor) == (("LAMP", "RUG"), 5, 4000)
    assert (facts.tenders, facts.providers) == (1, ("simulated",))
    text = facts.model_dump_json()
    assert "cus_secret" not in text
    assert "pm_x" not in text
    assert set(FactsIn.model_fields) == set(RiskFacts.model_fields)


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("total_minor > 8000 && country == 'US'", True),
        ("total_minor > 8500", False),
        ("country in ['CA', 'MX']", False),
        ("skus.exists(s, s.startsWith('RU'))", True),
        ("size(skus) > 1 && max_quantity >= 5", True),
        ("double(total_minor) / 100.0 > 90.5", False),
        ("!(service_level == 'standard')", False),
        ("channel.matches('^web-')", True),
        ("tenders > 1 ? true : shipping_minor * 10 > total_minor", False),
    ],
)
def test_what_a_rule_can_say(when: str, holds: bool) -> None:
    """Each may be set, and says what it says."""
    assert _codes(when) == []
    assert judge(_rules(when), facts_of(_order())).matched == (("rule_a",) if holds else ())


@pytest.mark.parametrize(
    ("when", "code"),
    [
        ("total_minor >", "not_readable"),
        ("grand_total > 5", "unknown_fact"),
        ("customer_ref == 'cus_1'", "unknown_fact"),
        ("total_minor > 1 || grand_total > 5", "unknown_fact"),
        ("blacklisted(country)", "unknown_function"),
        ("timestamp('2026-01-01T00:00:00Z') > timestamp('2025-01-01T00:00:00Z')", "unknown_function"),
        ("total_minor", "not_yes_or_no"),
        ("total_minor > '100'", "does_not_evaluate"),
        ("1000 / units > 3", "does_not_evaluate"),
        ("skus.exists(s, skus.exists(t, s == t))", "too_complex"),
        ("(" * 17 + "true" + ")" * 17, "too_complex"),
        ("country.matches('(')", "does_not_evaluate"),
    ],
)
def test_what_is_refused_and_by_which_name(when: str, code: str) -> None:
    """Of several rules the wrong one is named."""
    assert _codes("units > 3", when) == [(1, code)]


def test_a_document_is_bounded_and_names_are_used_once() -> None:
    """The second rule of a name could never be told from the first."""
    twice = RiskRules(rules=(RiskRule(name="same", when="units > 1"), RiskRule(name="same", when="units > 2")))
    assert [(one.index, one.code) for one in find_wrong(twice)] == [(1, "name_taken")]
    with pytest.raises(ValueError, match="at most"):
        RiskRule(name="long", when="x" * (MAX_LENGTH + 1))
    with pytest.raises(ValueError, match="pattern"):
        RiskRule(name="Not A Code", when="true")
    with pytest.raises(ValueError, match="at most"):
        _rules(*["true"] * 51)


def test_a_rule_that_fails_holds_the_order_and_the_others_still_count() -> None:
    """It overflows on this order only: what could not be judged is looked at."""
    facts = facts_of(_order()).model_copy(update={"total_minor": 10**12, "units": 10**9})
    verdict = judge(_rules("total_minor * units > 5", "country == 'CA'"), facts)
    assert verdict.matched == ()
    assert [name for name, _ in verdict.failed] == ["rule_a"]
    assert verdict.reason == NOT_EVALUATED
    assert judge(_rules("total_minor * units > 5", "country == 'US'"), facts).reason == "rule_b"


def test_no_rules_hold_nothing() -> None:
    """The state of a new installation."""
    assert judge(RiskRules(), facts_of(_order())) == RiskVerdict()
    assert RiskVerdict().reason is None
