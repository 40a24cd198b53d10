"""The complaints that must be impossible here: each has a test that names it, so that none is forgotten."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
CASES = (
    *(f"A{n}" for n in range(6, 15)),
    *("C8", "C10", "C11"),
    *("D1", "D2", "D3", "D4", "D5", "D7", "D8", "D10", "D11", "D12"),
    *("R3", "R4", "R5", "R6", "R8"),
)
AWAITED: dict[str, str] = {}
"""Cases whose feature is not there yet, and which one it is. Whoever builds it takes the case out."""


def test_every_case_has_a_test_that_names_it() -> None:
    """A complaint without a test is a promise; the docstring of a test says which ones it keeps."""
    named = {case for docstring in _docstrings() for case in re.findall(r"\bCASE-([A-Z]\d+)\b", docstring)}
    missing = set(CASES) - named
    assert missing == set(AWAITED), "name the case in the docstring of its test, or take it out of AWAITED"
    assert set(AWAITED) <= set(CASES)


def _docstrings() -> Iterator[str]:
    """The docstrings of all test functions."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""
