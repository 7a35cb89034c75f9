"""Fitting: a value comes out of another type as it went in, or the cast is refused."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import MetadataError
from radiobject.writing.fitting import categories_of, fitted

NUMBERS = [
    pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(),
]  # fmt: skip
TIMES = [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.date32()]
ORDERED = pa.dictionary(pa.int32(), pa.string(), ordered=True)
PLAIN = pa.dictionary(pa.int32(), pa.string())


def same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)


def check(values: list[Any], source: pa.DataType, target: pa.DataType) -> None:
    """All values arrive as they were, or it is refused because one of them cannot."""
    array = pa.array(values, source)
    if not all(fits(v, source, target) for v in values):
        with pytest.raises(MetadataError, match=f"{target}.*{source}"):
            fitted(array, target, "column")
        return
    got = fitted(array, target, "column")
    assert got.type == target
    assert all(same(a, b) for a, b in zip(array.to_pylist(), got.to_pylist(), strict=True))


def fits(value: Any, source: pa.DataType, target: pa.DataType) -> bool:
    """Whether Python finds the value in the target type again."""
    if value is None:
        return True
    if pa.types.is_integer(target) and (not math.isfinite(value) or value != int(value)):
        return False
    try:
        plain = pa.scalar(value, source).as_py()
        there = pa.scalar(int(plain) if pa.types.is_integer(target) else plain, target).as_py()
    except (pa.ArrowException, OverflowError):
        return False
    return same(plain, there)


floats = st.one_of(st.floats(width=16), st.floats(width=32), st.floats(), st.integers(-300, 300).map(float))
whole = st.one_of(st.integers(-300, 300), st.integers(-(2**63), 2**63 - 1))


@settings(deadline=None)
@given(st.lists(st.none() | floats, max_size=3), st.sampled_from(NUMBERS))
def test_floats_become_what_holds_them(values, target) -> None:
    check(values, pa.float64(), target)


@settings(deadline=None)
@given(st.lists(st.none() | whole, max_size=3), st.sampled_from(NUMBERS))
def test_integers_become_what_holds_them(values, target) -> None:
    check(values, pa.int64(), target)


@settings(deadline=None)
@given(
    st.datetimes(*(datetime.datetime.fromisoformat(f"{year}-01-01") for year in (1700, 2200))),
    st.sampled_from(TIMES),
    st.booleans(),
)
def test_times_keep_every_microsecond(moment, target, midnight) -> None:
    moment = moment.replace(hour=0, minute=0, second=0, microsecond=0) if midnight else moment
    try:
        got = fitted(pa.array([moment], pa.timestamp("us")), target, "column")
    except MetadataError:
        assert not midnight
        return
    assert got.cast(pa.timestamp("us")).to_pylist() == [moment]


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (["1"], pa.int64()),
        ([1], pa.string()),
        ([True], pa.int64()),
        ([1], pa.bool_()),
        ([b"a"], pa.string()),
        ([datetime.datetime.fromisoformat("2020-01-01")], pa.timestamp("us", "UTC")),
        ([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("us")),
        ([1], pa.timestamp("us")),
        ([["a"]], pa.list_(pa.int64())),
        ([[1.5]], pa.list_(pa.int64())),
        ([[1]], pa.int64()),
        ([{"a": 1}], pa.struct([("a", pa.string())])),
    ],
)
def test_one_kind_of_thing_is_not_read_as_another(value, target) -> None:
    with pytest.raises(MetadataError):
        fitted(pa.array(value), target, "column")


@pytest.mark.parametrize("target", [*NUMBERS, *TIMES, pa.string(), PLAIN, ORDERED, pa.list_(pa.string())])
def test_nulls_fit_everywhere(target) -> None:
    assert fitted(pa.nulls(2), target, "column") == pa.nulls(2, target)


def test_lists_fit_when_their_values_do() -> None:
    assert fitted(pa.array([[1], [], None]), pa.list_(pa.float64()), "c").to_pylist() == [[1.0], [], None]
    assert fitted(pa.array([[], None]), pa.list_(pa.string()), "c").to_pylist() == [[], None]


def test_new_categories_come_last_but_not_into_an_order() -> None:
    known = pa.array(["low", "high"])
    got = fitted(pa.array(["new", None, "high"]), PLAIN, "column", known)
    assert got.to_pylist() == ["new", None, "high"]
    assert got.dictionary.to_pylist() == ["low", "high", "new"]
    ordered = fitted(pa.array(["high", "low"]).dictionary_encode(), ORDERED, "column", known)
    assert (ordered.type, ordered.dictionary.to_pylist()) == (ORDERED, ["low", "high"])
    with pytest.raises(MetadataError, match=r"'low', 'high'.*'new'"):
        fitted(pa.array(["new"]), ORDERED, "column", known)


def test_categories_are_those_of_all_chunks() -> None:
    chunks = pa.chunked_array([pa.array(v).dictionary_encode() for v in (["b"], ["a", "b"])])
    assert categories_of(chunks).to_pylist() == ["b", "a"]
    assert categories_of(pa.chunked_array([["a"]])) is None
