"""Every name of docs/moving-from-upstream.md does what its row says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import radiobject
from radiobject.errors import RadiObjectError
from tests.upstream import (
    cases_collection,
    cases_contexts,
    cases_rest,
    cases_study,
    cases_top,
    cases_training,
    cases_volume,
)
from tests.upstream.ground import Case, Ground, make_ground, plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "moving-from-upstream.md"
MODULES = (cases_top, cases_contexts, cases_study, cases_collection, cases_volume, cases_rest, cases_training)
CASES: dict[str, Case] = {name: case for module in MODULES for name, case in module.CASES.items()}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    theirs: str
    here: str
    how: str


def rows() -> list[Row]:
    """The table's lines, without its head."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            found.append(Row(cells[0].strip("`"), cells[1].strip("`"), cells[2]))
    return found


ROWS = rows()


def marked(how: str) -> list[object]:
    """The rows of one kind, as parameters."""
    return [pytest.param(row, id=row.theirs) for row in ROWS if row.how == how]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_ground(tmp_path_factory.mktemp("upstream"))


@pytest.fixture
def ground(made: tuple[Path, Path], tmp_path: Path) -> Iterator[Ground]:
    yield Ground(*made, tmp_path)
    radiobject.reset_radiobject_config()


def compare(case: Case, ground: Ground) -> None:
    theirs, ours = case(ground)
    assert plain(theirs) == plain(ours)


def test_the_table_and_the_cases_are_the_same_names() -> None:
    names = [row.theirs for row in ROWS]
    assert len(names) == len(set(names))
    assert set(names) == set(CASES)
    assert len(CASES) == sum(len(module.CASES) for module in MODULES)


def test_every_row_says_how() -> None:
    assert {row.how for row in ROWS} <= {"same", "alias", "error"}
    assert all(row.here for row in ROWS if row.how in ("alias", "error"))


@pytest.mark.parametrize("row", marked("same"))
def test_a_name_works_as_it_does_there(row: Row, ground: Ground) -> None:
    compare(CASES[row.theirs], ground)


@pytest.mark.parametrize("row", marked("alias"))
def test_an_alias_gives_what_the_name_here_gives(row: Row, ground: Ground) -> None:
    compare(CASES[row.theirs], ground)


@pytest.mark.parametrize("row", marked("error"))
def test_an_error_names_what_to_use(row: Row, ground: Ground) -> None:
    with pytest.raises((RadiObjectError, TypeError)) as caught:
        CASES[row.theirs](ground)
    assert row.here in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "Radiobject", "_private", "measured"])
def test_a_name_that_nobody_has_is_simply_not_there(name: str) -> None:
    assert not hasattr(radiobject, name)
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from radiobject import {name}")


def test_a_module_that_nobody_has_is_simply_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        exec("import radiobject.nothing")
