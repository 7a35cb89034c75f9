"""The page of differences is complete, and the tests that it names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "differences-from-upstream.md"
ROWS = re.findall(r"^\| (W\d+) \|(.*)\|(.*)\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_number_is_there_once() -> None:
    assert [row[0] for row in ROWS] == [f"W{n}" for n in range(1, 37)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_tests_of_a_row_exist(row: tuple[str, str, str, str]) -> None:
    named = NAMED.findall(row[3])
    if not named:
        assert re.fullmatch(r"\s*with issue [D-G]\s*", row[3]), "neither a test nor an issue"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in [n.name for n in tree.body if isinstance(n, ast.FunctionDef)], f"{file}::{name}"


def test_every_test_of_a_difference_is_named() -> None:
    named = {name for row in ROWS for _, name in NAMED.findall(row[3])}
    for file in sorted(Path(__file__).parent.glob("test_differences_*.py")):
        tests = re.findall(r"^def (test_w\d+_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(tests) <= named, file.name
