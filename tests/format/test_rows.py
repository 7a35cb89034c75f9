"""Rows and columns exchanged in the parts of a table, against a model that is a list of dictionaries."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import ConflictError, MetadataError
from radiobject.format.rows import (
    NewColumn,
    check_join,
    differing_rows,
    with_column,
    with_rows,
    without_columns,
    without_rows,
)
from radiobject.format.schema import SUBJECT_SCHEMA
from radiobject.format.tables import Table, write_part
from radiobject.location import Location
from radiobject.storage import Storage

KEY = "obs_subject_id"
TYPES = {
    "number": (pa.int64(), pa.float64()),
    "text": (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())),
    "grade": (pa.dictionary(pa.int32(), pa.string(), ordered=True),),
    "items": (pa.list_(pa.string()),),
    "moment": (pa.timestamp("us", "UTC"),),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-3, 3),
    "text": st.sampled_from(["a", "ü", "東"]),
    "grade": st.sampled_from(["I", "II", "III"]),
    "items": st.lists(st.sampled_from(["x", "y"]), max_size=2),
    "moment": st.datetimes(timezones=st.just(datetime.UTC)),
}
_places = itertools.count()

Model = list[dict[str, Any]]


@st.composite
def some_rows(draw: st.DrawFn, ids: list[str], columns: list[str] | None = None) -> pa.Table:
    """Rows of these ids with some columns, each in one of the types that it may have."""
    if columns is None:
        columns = draw(st.lists(st.sampled_from(sorted(TYPES)), unique=True))
    found = {KEY: pa.array(ids, pa.string())}
    for name in columns:
        kind = draw(st.sampled_from(TYPES[name]))
        values = draw(st.lists(st.none() | VALUES[name], min_size=len(ids), max_size=len(ids)))
        found[name] = pa.array(values, kind)
    return pa.table(found)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, Model]:
    """A table of a few parts with columns of their own, and what it says."""
    storage = Storage(Location(f"memory://rows/{next(_places)}"))
    ids = [f"s{n:02d}" for n in draw(st.permutations(range(draw(st.integers(1, 8)))))]
    parts, at = [], 0
    while at < len(ids):
        some = ids[at : at + draw(st.integers(1, 4))]
        parts.append(write_part(storage, "obs_meta", draw(some_rows(some))))
        at += len(some)
    table = Table(storage, "obs_meta", parts, SUBJECT_SCHEMA)
    return table, table.read().to_pylist()


def again(table: Table, parts: list[Any]) -> Model:
    rows: Model = Table(table.storage, "obs_meta", parts, SUBJECT_SCHEMA).read().to_pylist()
    return rows


def filled(model: Model, names: set[str]) -> Model:
    return [{n: row.get(n) for n in names} for row in model]


@settings(deadline=None)
@given(tables(), st.data(), st.booleans())
def test_rows_are_exchanged_in_place_and_no_others(made, data, merge) -> None:
    table, model = made
    ids = data.draw(st.lists(st.sampled_from(table.ids()), unique=True, min_size=1))
    fresh = data.draw(some_rows(ids))
    new = {row[KEY]: row for row in fresh.to_pylist()}
    expected = [row if row[KEY] not in new else {**(row if merge else {}), **new[row[KEY]]} for row in model]
    names = {*table.schema.names, *fresh.schema.names}
    parts = with_rows(table, fresh, set(ids), table.storage, merge=merge)
    assert filled(again(table, parts), names) == filled(expected, names)
    untouched = [p for p in table.parts if not {*ids} & {*table.only(p)[KEY].to_pylist()}]
    assert [p for p in parts if p in table.parts] == untouched


@settings(deadline=None)
@given(tables(), st.data())
def test_a_column_has_its_values_its_fill_and_its_type_in_every_part(made, data) -> None:
    table, model = made
    ids = data.draw(st.none() | st.lists(st.sampled_from(table.ids()), unique=True))
    name = data.draw(st.sampled_from(sorted(TYPES)))
    kind = TYPES[name][0]
    fill = data.draw(st.none() | VALUES[name])
    values = None if ids is None else data.draw(some_rows(ids, [name])).rename_columns([KEY, "new"])
    if values is not None:
        values = values.set_column(1, "new", values["new"].cast(kind))
    parts = with_column(table, NewColumn("new", pa.array([fill], kind), values), table.storage)
    given_values = {} if values is None else {r[KEY]: r["new"] for r in values.to_pylist()}
    assert again(table, parts) == [{**row, "new": given_values.get(row[KEY], fill)} for row in model]
    dropped = without_columns(Table(table.storage, "obs_meta", parts, SUBJECT_SCHEMA), ["new"], table.storage)
    assert again(table, dropped) == model


@settings(deadline=None)
@given(tables(), st.data())
def test_rows_differ_where_a_value_that_they_bring_does(made, data) -> None:
    table, model = made
    ids = data.draw(st.permutations(table.ids()))
    fresh = data.draw(some_rows(ids))
    held = {row[KEY]: row for row in model}
    expected = [r[KEY] for r in fresh.to_pylist() if any(held[r[KEY]].get(n) != v for n, v in r.items())]
    assert differing_rows(table, fresh, ids) == expected


def test_nan_equals_itself_and_a_null_is_no_value() -> None:
    storage = Storage(Location("memory://rows/nan"))
    held = pa.table({KEY: ["a", "b", "c"], "x": pa.array([float("nan"), None, float("nan")])})
    table = Table(storage, "obs_meta", [write_part(storage, "obs_meta", held)], SUBJECT_SCHEMA)
    mine = pa.table({KEY: ["a", "b", "c"], "x": pa.array([float("nan"), None, None])})
    assert differing_rows(table, mine, ["a", "b", "c"]) == ["c"]


def test_a_part_in_whose_range_an_id_only_seems_to_be_stays() -> None:
    storage = Storage(Location("memory://rows/range"))
    parts = [
        write_part(storage, "obs_meta", pa.table({KEY: ids, "x": [1, 1]})) for ids in (["a", "z"], ["m", "n"])
    ]
    table = Table(storage, "obs_meta", parts, SUBJECT_SCHEMA)
    new = with_rows(table, pa.table({KEY: ["m"], "x": [2]}), {"m"}, storage, merge=True)
    assert (new[0] is parts[0], new[1] is parts[1]) == (True, False)
    assert without_rows(table, ["m"], storage)[0] is parts[0]


def test_order_and_unused_categories_outlive_an_exchange() -> None:
    storage = Storage(Location("memory://rows/order"))
    kind = TYPES["grade"][0]
    codes = pa.DictionaryArray.from_arrays(pa.array([2, 0], pa.int32()), ["I", "II", "III"], ordered=True)
    part = write_part(storage, "obs_meta", pa.table({KEY: ["a", "b"], "grade": codes}))
    table = Table(storage, "obs_meta", [part], SUBJECT_SCHEMA)
    fresh = pa.table({KEY: ["b"], "grade": pa.array(["III"]).cast(kind)})
    (new,) = with_rows(table, fresh, {"b"}, storage, merge=True)
    column = Table(storage, "obs_meta", [new], SUBJECT_SCHEMA).read()["grade"].combine_chunks()
    assert (column.type, column.dictionary.to_pylist()) == (kind, ["I", "II", "III"])
    assert column.to_pylist() == ["III", "III"]


@pytest.mark.parametrize("wrong", [MetadataError, ConflictError])
def test_rows_that_would_spoil_a_column_of_the_table_do_not_join(wrong) -> None:
    storage = Storage(Location("memory://rows/join"))
    held = pa.table({KEY: ["a"], "big": [2**53 + 1], "small": [1]})
    table = Table(storage, "obs_meta", [write_part(storage, "obs_meta", held)], SUBJECT_SCHEMA)
    check_join(table, pa.table({KEY: ["b"], "small": [0.5], "new": ["x"]}), "obs_meta", wrong)
    with pytest.raises(wrong, match=r"'big'.*9007199254740993"):
        check_join(table, pa.table({KEY: ["b"], "big": [0.5]}), "obs_meta", wrong)
    with pytest.raises(wrong, match="one type for each column"):
        check_join(table, pa.table({KEY: ["b"], "small": ["x"]}), "obs_meta", wrong)
