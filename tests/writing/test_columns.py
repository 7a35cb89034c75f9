"""Values attached to volumes one by one: types over all rows, mistakes at the row that makes them."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject.errors import MetadataError
from radiobject.format.schema import OBS_SCHEMA
from radiobject.writing.columns import OWN_COLUMNS, Columns, column_types, plain_value

NOON = datetime.datetime(2020, 5, 17, 12)  # noqa: DTZ001 - a time as scanners write it, without a zone
EAST = NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
ZULU = NOON.replace(tzinfo=datetime.UTC)


def gathered(*values: Any, types: dict[str, pa.DataType] | None = None) -> pa.Table:
    """One column "x" with these values, for the volumes "0", "1", ..."""
    columns = Columns("obs", types)
    for number, value in enumerate(values):
        columns.add(str(number), {"x": value})
    return columns.table(str(n) for n in range(len(values)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([0.5, None, 1], pa.float64()),
        ([None, True], pa.bool_()),
        (["a", "ä"], pa.string()),
        ([b"a"], pa.binary()),
        ([NOON], pa.timestamp("us")),
        ([datetime.date(2020, 5, 17)], pa.date32()),
        ([datetime.timedelta(seconds=3)], pa.duration("us")),
        ([[1, 2], [], [0.5], None], pa.list_(pa.float64())),
        ([[], ["a"]], pa.list_(pa.string())),
        ([[[1]], [[]]], pa.list_(pa.list_(pa.int64()))),
    ],
)
def test_a_type_is_that_of_all_rows(values, kind) -> None:
    table = gathered(*values)
    assert table["x"].type == kind
    assert table["x"].to_pylist() == values


def test_missing_values_are_null_and_empty_columns_are_left_out() -> None:
    columns = Columns("obs")
    columns.add("a", {"x": 1, "never": None, "nan": math.nan})
    columns.add("b", {"y": "late", "never": pd.NA})
    assert columns.names == ["x", "y"]
    assert columns.table(["b", "unknown", "a"]).to_pydict() == {
        "x": [None, None, 1],
        "y": ["late", None, None],
    }
    nothing = Columns("obs").table(["a", "b"])
    assert nothing.num_columns == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, "1"), (True, 1), (1, True), ("a", b"a"), (NOON, NOON.date()), ([1], ["a"]), ([1], 1), (NOON, ZULU)],
)
def test_kinds_that_clash_are_refused_at_the_row_that_brings_the_second(first, second) -> None:
    columns = Columns("obs of T1w")
    columns.add("vol-a", {"x": first})
    with pytest.raises(MetadataError, match=r"'x'.*'vol-a'.*'vol-b'"):
        columns.add("vol-b", {"x": second})
    assert columns.table(["vol-a", "vol-b"]).num_rows == 2
    assert columns.table(["vol-b"])["x"].to_pylist() == [None]


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, "\ud800", [1, "a"], [1, [2]], object(), {"a": 1}, {1}, 1j, np.longdouble(1)],
)
def test_what_no_column_can_hold_is_refused_at_once(value) -> None:
    with pytest.raises(MetadataError, match="'x'"):
        Columns("obs").add("a", {"x": value})


def test_an_integer_that_a_float_cannot_hold_is_not_rounded() -> None:
    for values in ([2**53 + 1, 0.5], [0.5, 2**53 + 1]):
        columns = Columns("obs")
        columns.add("0", {"x": values[0]})
        with pytest.raises(MetadataError, match="'x'"):
            columns.add("1", {"x": values[1]})
    assert gathered(2**62)["x"].to_pylist() == [2**62]


def test_times_in_several_zones_are_the_same_moments() -> None:
    column = gathered(EAST, ZULU)["x"]
    assert column.type == pa.timestamp("us", "UTC")
    assert column.to_pylist() == [EAST, ZULU]


@pytest.mark.parametrize("name", ["", "_hidden", 3, "obs_id", "obs_subject_id", "affine", "intensity_mean"])
def test_names_of_the_engine_are_refused(name) -> None:
    with pytest.raises(MetadataError, match="obs of 'a'"):
        Columns("obs").add("a", {name: 1})


def test_the_columns_of_the_model_keep_its_types() -> None:
    columns = Columns("obs")
    columns.add("a", {"session": "pre", "run": np.float64(2), "acquisition_time": pd.Timestamp(NOON)})
    table = columns.table(["a"])
    assert {f.name: f.type for f in table.schema} == {n: OBS_SCHEMA.field(n).type for n in OWN_COLUMNS}
    assert table.to_pylist() == [{"session": "pre", "run": 2, "acquisition_time": NOON}]
    for wrong in ({"session": 1}, {"run": "1"}, {"run": True}, {"run": 1.5}, {"acquisition_time": "noon"},
                  {"acquisition_time": ZULU}):  # fmt: skip
        with pytest.raises(MetadataError, match=rf"'b'.*{next(iter(wrong))}"):
            columns.add("b", wrong)


def test_a_look_keeps_nothing() -> None:
    columns = Columns("obs")
    columns.check("a", {"x": "text"})
    columns.add("b", {"x": 1})
    with pytest.raises(MetadataError, match="'x'"):
        columns.check("c", {"x": "text"})
    assert columns.table(["a", "b"])["x"].to_pylist() == [None, 1]


def test_promised_types_are_kept_even_without_values() -> None:
    types = {"age": pa.int16(), "site": pa.string(), "dx": pa.dictionary(pa.int32(), pa.string())}
    columns = Columns("obs", types)
    columns.add("a", {"age": 40.0, "dx": "tumour"})
    columns.add("b", {"extra": 1})
    table = columns.table(["a", "b"])
    assert table.schema.names == ["age", "site", "dx", "extra"]
    assert [table.schema.field(n).type for n in types] == list(types.values())
    assert table.to_pylist()[0] == {"age": 40, "site": None, "dx": "tumour", "extra": None}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int16(), 40_000), (pa.int16(), 1.5), (pa.int64(), True), (pa.float32(), True), (pa.bool_(), 1),
        (pa.string(), 1), (pa.date32(), NOON), (pa.list_(pa.int64()), [0.5]), (pa.timestamp("us"), ZULU),
        (pa.dictionary(pa.int32(), pa.string()), 1), (pa.int64(), math.inf),
    ],
)  # fmt: skip
def test_a_value_that_a_promised_type_cannot_hold_is_refused_at_once(kind, value) -> None:
    with pytest.raises(MetadataError, match=r"'0'.*'x'"):
        gathered(value, types={"x": kind})


def test_dtypes_may_be_named_in_many_ways() -> None:
    given_types = {
        "a": int, "b": "int32", "c": np.float32, "d": "U16", "e": object, "f": "category",
        "g": pd.Int64Dtype(), "h": "string", "i": bool, "j": datetime.datetime, "k": "datetime64[us, UTC]",
        "l": pa.list_(pa.int8()), "m": "float16",
    }  # fmt: skip
    assert column_types(given_types, "obs_schema") == {
        "a": pa.int64(), "b": pa.int32(), "c": pa.float32(), "d": pa.string(), "e": pa.string(),
        "f": pa.dictionary(pa.int32(), pa.string()), "g": pa.int64(), "h": pa.string(), "i": pa.bool_(),
        "j": pa.timestamp("us"), "k": pa.timestamp("us", "UTC"), "l": pa.list_(pa.int8()), "m": pa.float32(),
    }  # fmt: skip
    assert column_types(None, "obs_schema") == {}
    for wrong in ({"age": "no such"}, {"age": complex}, ["age"]):
        with pytest.raises(MetadataError, match="obs_schema"):
            column_types(wrong, "obs_schema")
    with pytest.raises(MetadataError, match="obs_id"):
        Columns("obs_schema", column_types({"obs_id": str}, "obs_schema"))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int16(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a"),
        (math.nan, None), (np.float64("nan"), None), (pd.NaT, None), (np.datetime64("NaT", "ns"), None),
        (pd.NA, None),
        (decimal.Decimal("1.5"), 1.5), (decimal.Decimal("NaN"), None), ((1, 2), [1, 2]),
        (np.array(3), 3), (np.array([1.0, math.nan]), [1.0, None]), (np.eye(2, dtype="i2"), [[1, 0], [0, 1]]),
        (np.datetime64("2020-05-17T12", "ns"), pd.Timestamp(NOON)),
        (np.array("2020-05-17T12", "M8[ns]"), pd.Timestamp(NOON)),
        (np.array(["2020-05-17T12"], "M8[ns]"), [pd.Timestamp(NOON)]),
        (np.timedelta64(3, "s"), pd.Timedelta(seconds=3)), (pd.Series([1, 2]), [1, 2]),
    ],
)  # fmt: skip
def test_scalars_and_arrays_of_libraries_become_plain(value, plain) -> None:
    found = plain_value(value, "x")
    assert found == plain
    assert type(found) is type(plain)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary(),
    st.datetimes(), st.dates(), st.lists(st.one_of(st.integers(-10, 10), st.floats(width=32)), max_size=3),
)  # fmt: skip


@given(st.lists(VALUES, max_size=8))
def test_what_was_taken_comes_back_as_it_was(values) -> None:
    columns, taken = Columns("obs"), []
    for number, value in enumerate(values):
        try:
            columns.add(str(number), {"x": value})
        except MetadataError:
            continue
        taken.append(number)
    table = columns.table(str(n) for n in range(len(values)))
    found = table["x"].to_pylist() if table.num_columns else [None] * len(values)
    expected = [plain_value(v, "x") if n in taken else None for n, v in enumerate(values)]
    assert found == expected
