"""Values of JSON that a stranger may have written are taken as their types, or refused; never converted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from radiobject import strict

REFUSED: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((strict.text, (value,)) for value in (None, 7, b"a", ["a"], "\ud800")),
    *((strict.count, (value,)) for value in (None, True, 1.0, "1", -1, 2**50 + 1, 10**400)),
    (strict.count, (0, 1)),
    *((strict.key, (value, "tables")) for value in (None, "tables", "tables/../a", "tables//a", "other/a")),
    *((strict.key, (value, "tables")) for value in ("/tables/a", "tables/a\\b", "tables/a\0", "tables/./a")),
    *((strict.number, (value,)) for value in (None, True, "1.5", float("nan"), float("inf"), 10**400)),
    *((strict.one_of, (value, "a", "b")) for value in (None, 1, "", "c", ["a"])),
    *((strict.listed, (value,)) for value in (None, "ab", {"a": 1}, (1, 2))),
    *((strict.mapped, (value,)) for value in (None, "ab", ["a"], {"\ud800": 1}, {1: 1})),
]


@pytest.mark.parametrize(("take", "given"), REFUSED)
def test_what_is_of_another_type_is_refused(take: Callable[..., Any], given: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        take(*given)


TAKEN: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (strict.text, ("",)), (strict.text, ("sub-ä",)), (strict.count, (0,)), (strict.count, (2**50,)),
    (strict.count, (1, 1)), (strict.key, ("tables/a/b.parquet", "tables")), (strict.number, (1.5,)),
    (strict.one_of, ("b", "a", "b")), (strict.listed, ([],)), (strict.mapped, ({"a": None},)),
]  # fmt: skip


@pytest.mark.parametrize(("take", "given"), TAKEN)
def test_what_is_right_comes_back_as_it_is(take: Callable[..., Any], given: tuple[Any, ...]) -> None:
    assert take(*given) is given[0]


def test_a_whole_number_serves_as_a_number() -> None:
    assert isinstance(strict.number(3), float)


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(TypeError) as caught:
        strict.count("9" * 10**6)
    assert len(str(caught.value)) < 200
