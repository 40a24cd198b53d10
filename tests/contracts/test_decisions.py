"""Decision records: each says why, what else was possible, and which check keeps it true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
PARTS = ("Context", "Decision", "Consequence", "Alternatives", "Enforced by")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem[:4])
def test_a_decision_has_all_its_parts(record: Path) -> None:
    """Numbered, with context, decision, consequence, alternatives and the check that enforces it."""
    text = record.read_text()
    assert text.startswith(f"# {record.stem[:4]} ")
    parts = [part.rstrip(".") for part in re.findall(r"^\*\*([A-Z][a-z ]+\.?)\*\*", text, re.MULTILINE)]
    assert [part for part in PARTS if part not in parts] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem[:4])
def test_the_checks_that_a_decision_names_exist(record: Path) -> None:
    """A renamed test takes its name along."""
    named = re.findall(r"`((?:tests|bench|activities|domain|devstack|store|docs)/[\w/.*-]+)`", record.read_text())
    assert [path for path in named if not list(ROOT.glob(path))] == []


def test_a_number_is_given_once() -> None:
    """A decision is quoted by its number."""
    numbers = [record.name[:4] for record in RECORDS]
    assert sorted(set(numbers)) == numbers
