"""Filter expressions: what they keep, against oracles, and what they read."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import measure
from radiobject.errors import ExpressionError
from radiobject.format import tables
from radiobject.format.tables import Table, write_part
from radiobject.location import Location
from radiobject.model.expression import compile_expression, names_in
from radiobject.storage import Storage

pytestmark = pytest.mark.no_backend(reason="the text of filters and tables")

SCHEMA = pa.schema(
    [
        pa.field("obs_subject_id", pa.string(), nullable=False),
        ("age", pa.int64()),
        ("dose", pa.uint8()),
        ("weight", pa.float64()),
        ("dx", pa.string()),
        ("smoker", pa.bool_()),
        ("day", pa.date32()),
        ("scanned", pa.timestamp("ns")),
        ("site", pa.dictionary(pa.int32(), pa.string())),
    ]
)
COLUMNS = {f.name: f.type for f in SCHEMA}
DAYS = [dt.date(2019, 12, 31), dt.date(2020, 1, 1), dt.date(2020, 6, 1)]
VALUES: dict[str, list[Any]] = {
    "age": [-3, 0, 7, 40, 41, 2**40],
    "dose": [0, 1, 200, 255],
    "weight": [-1.5, 0.0, 40.0, 70.25, math.nan, math.inf],
    "dx": ["", "AD", "ad", "control", "größer"],
    "smoker": [True, False],
    "day": DAYS,
    "scanned": [dt.datetime.combine(d, dt.time(12)) for d in DAYS],
    "site": ["A", "B"],
}

Row = dict[str, Any]
Oracle = Callable[[Row], bool | None]


def known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def rows() -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries({c: st.sampled_from([None, *v]) for c, v in VALUES.items()})
    return st.lists(row, max_size=12)


def table_of(found: list[Row]) -> pa.Table:
    ids = [{"obs_subject_id": f"sub-{i:02d}", **row} for i, row in enumerate(found)]
    return pa.Table.from_pylist(ids, SCHEMA)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def said(value: Any) -> str:
    if isinstance(value, dt.date):
        return f'date("{value.isoformat()}")'
    return "1e999" if value == math.inf else repr(value)


def unknown(*values: Any) -> bool:
    return any(v is None for v in values)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Oracle]:
    """A leaf and what it is for a row: true, false, or None for unknown."""
    column = draw(st.sampled_from(sorted(VALUES)))
    plain = [v for v in VALUES[column] if known(v) is not None]
    if column in ("age", "dose", "weight"):
        plain += [-300, 6.5, 2**33]
    kind = draw(st.sampled_from(["compare", "swapped", "chain", "in", "none", "two", "arithmetic"]))
    order = ["==", "!="] if column == "smoker" else sorted(OPERATORS)
    one, two = draw(st.sampled_from(plain)), draw(st.sampled_from(plain))
    first, second = draw(st.sampled_from(order)), draw(st.sampled_from(order))
    if kind == "in":
        word = draw(st.sampled_from(["in", "not in"]))
        values = draw(st.lists(st.sampled_from(plain), max_size=3))
        return (
            f"{column} {word} [{', '.join(map(said, values))}]",
            lambda r: None if unknown(known(r[column])) else (r[column] in values) == (word == "in"),
        )
    if kind == "none":
        word = draw(st.sampled_from(["is", "is not"]))
        return f"{column} {word} None", lambda r: unknown(known(r[column])) == (word == "is")
    if kind == "chain":
        ends = OPERATORS[first], OPERATORS[second]
        return (
            f"{said(one)} {first} {column} {second} {said(two)}",
            lambda r: (
                None if unknown(known(r[column])) else ends[0](one, r[column]) and ends[1](r[column], two)
            ),
        )
    if kind == "two" and column in ("age", "dose", "weight"):
        other = draw(st.sampled_from(["age", "dose", "weight"]))
        return (
            f"{column} {first} {other}",
            lambda r: (
                None if unknown(known(r[column]), known(r[other])) else OPERATORS[first](r[column], r[other])
            ),
        )
    if kind == "arithmetic" and column in ("age", "dose"):
        sign, by = (
            draw(st.sampled_from(["+", "-", "*", "//", "%"])),
            draw(st.sampled_from([-7, -1, 0, 3, 40])),
        )
        compute: dict[str, Callable[[int], int | None]] = {
            "+": lambda v: v + by, "-": lambda v: v - by, "*": lambda v: v * by,
            "//": lambda v: v // by if by else None, "%": lambda v: v % by if by else None,
        }  # fmt: skip

        def computed(r: Row) -> bool | None:
            left = None if r[column] is None else compute[sign](r[column])
            return None if left is None else OPERATORS[first](left, one)

        return f"{column} {sign} {by} {first} {said(one)}", computed
    if kind == "swapped":
        return (
            f"{said(one)} {first} {column}",
            lambda r: None if unknown(known(r[column])) else OPERATORS[first](one, r[column]),
        )
    return (
        f"{column} {first} {said(one)}",
        lambda r: None if unknown(known(r[column])) else OPERATORS[first](r[column], one),
    )


def negated(leaf: tuple[str, Oracle]) -> tuple[str, Oracle]:
    text, oracle = leaf
    return f"not ({text})", lambda r: None if oracle(r) is None else not oracle(r)


def joined(word: str) -> Callable[[list[tuple[str, Oracle]]], tuple[str, Oracle]]:
    decisive = word == "or"

    def join(parts: list[tuple[str, Oracle]]) -> tuple[str, Oracle]:
        def oracle(r: Row) -> bool | None:
            found = [part(r) for _, part in parts]
            return decisive if decisive in found else None if None in found else not decisive

        return f" {word} ".join(f"({text})" for text, _ in parts), oracle

    return join


conditions = st.recursive(
    comparisons() | st.just(("smoker", lambda r: r["smoker"])),
    lambda inner: st.one_of(
        inner.map(negated),
        st.lists(inner, min_size=2, max_size=3).map(joined("and")),
        st.lists(inner, min_size=2, max_size=3).map(joined("or")),
    ),
    max_leaves=6,
)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    return


def stored(*parts: pa.Table) -> Table:
    storage = Storage(Location("memory://filters"))
    return Table(storage, "obs_meta", [write_part(storage, "obs_meta", part) for part in parts], SCHEMA)


@given(rows(), conditions)
@settings(max_examples=400, deadline=None)
def test_rows_are_kept_where_the_condition_is_known_to_be_true(found, condition) -> None:
    text, oracle = condition
    kept = table_of(found).filter(compile_expression(text, COLUMNS))["obs_subject_id"].to_pylist()
    assert kept == [f"sub-{i:02d}" for i, row in enumerate(found) if oracle(row) is True], text


def test_statistics_never_exclude_a_row_that_fits(small_groups: None) -> None:
    @given(rows(), rows(), conditions)
    @settings(max_examples=150, deadline=None)
    def check(first, second, condition) -> None:
        text, oracle = condition
        # in order, so that statistics are narrow; the second part lacks columns, and a type of it is narrower
        one = table_of(sorted(first, key=lambda r: str(r["age"])))
        small = [{**row, "age": None if row["age"] is None else row["age"] % 50} for row in second]
        two = table_of(small).drop_columns(["site", "dose"])
        two = two.set_column(two.schema.get_field_index("age"), "age", two["age"].cast(pa.int32()))
        table = stored(one, two)
        expression = compile_expression(text, COLUMNS)
        whole = table.read()
        expected = [i for i, row in enumerate(whole.to_pylist()) if oracle(row) is True]
        assert table.find(expression).tolist() == expected, text
        read = table.read(["age", "site"], expression).to_pylist()
        assert read == whole.select(["age", "site"]).take(pa.array(expected, pa.int64())).to_pylist()

    check()


def test_not_a_number_is_not_excluded_by_statistics(small_groups: None) -> None:
    table = stored(table_of([{**dict.fromkeys(VALUES), "weight": w} for w in (1.0, math.nan, 9.0, 9.0)]))
    assert table.find(~(pc.field("weight") <= 5)).tolist() == [1, 2, 3]  # as Arrow has it
    assert table.find(compile_expression("not (weight <= 5)", COLUMNS)).tolist() == [2, 3]
    assert table.find(compile_expression("weight is None", COLUMNS)).tolist() == [1]


@pytest.mark.parametrize(
    "text",
    ["age > 40", "not (age > 40)", "20 < age <= 40", "dx == 'AD' and age >= 40", "dx != 'AD' or age < 40",
     "dx in ('AD', 'control')", "weight / 2 > 30", "age * 2 - 1 > 70", "age % 7 == 3", "-age < -40"],
)  # fmt: skip
def test_rows_are_those_of_pandas(text: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": pd.array([None if a % 9 == 0 else int(a) for a in rng.integers(20, 80, 200)], "Int64"),
            "weight": rng.uniform(40, 100, 200),
            "dx": pd.array(rng.choice(["AD", "control", "MCI"], 200), "string"),
        }
    )
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    found = rows.filter(compile_expression(text, {f.name: f.type for f in rows.schema}))
    assert 0 < found.num_rows < 200
    # pandas' nullable integers know three values too; it evaluates text that is ours
    expected = frame[frame.eval(text, engine="python").fillna(False)]
    assert found["weight"].to_pylist() == expected["weight"].to_list()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('contains(dx, "D")', [0]), ('not contains(dx, "D")', [1, 2]), ('startswith(dx, "c")', [1]),
        (r'matches(dx, r"^\w{2}$")', [0, 2]), (r'matches(dx, r"(?i)AD")', [0, 2]),
        ('contains(site, "B")', [1]),
        ('scanned > date("2020-01-01")', [1]), ('scanned == date("2020-01-01T12:00:00")', [1]),
        ('day >= date("2019-12-31T23:00")', [1]),
        ('day in [date("2019-12-31")]', [0]), ("scanned > day", [0, 1]),
        ("age / 0 > 1 or age // 0 > 1", []), ("age in []", []), ("age not in []", [0, 1]),
        ("True", [0, 1, 2, 3]), ("1 > 2", []), ("obs_meta.age == 40", [0]), ('obs_meta["dx"] == "ad"', [2]),
    ],
)  # fmt: skip
def test_functions_dates_and_corner_cases(text: str, kept: list[int]) -> None:
    nothing = dict.fromkeys(VALUES)
    found = table_of(
        [
            {**nothing, "age": 40, "dx": "AD", "day": DAYS[0], "scanned": VALUES["scanned"][0]},
            {
                **nothing,
                "age": 41,
                "dx": "control",
                "site": "B",
                "day": DAYS[1],
                "scanned": VALUES["scanned"][1],
            },
            {**nothing, "dx": "ad"},
            nothing,
        ]
    )
    assert stored(found).find(compile_expression(text, COLUMNS, table="obs_meta")).tolist() == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("age % 5 == 2", [0, 1]), ("age % -5 == -3", [0, 1]), ("age // 5 == -2", [0]),
        ("age // -5 == -2", [1]),
        ("age / 2 == 3.5", [1]), ("age / 2 // 1 == -4", [0]), ("-age > 7.5", [0]), ("age != 6.5", [0, 1, 2]),
        ("not (age == 6.5)", [0, 1, 2]), ("age > 2.0 and age < 1e9", [1]), ("age in [7.0, 7.5]", [1]),
        ("dose > -1", [0, 1]), ("dose - 3 < 0", [1]), ("dose < 300", [0, 1]), ("dose in [200, -1]", [0]),
        ("weight != 1", [1]), ("not (weight == 1)", [1]), ("weight not in [1, 2]", [1]),
        ("not (weight > 9)", [0, 1]), ("weight is None", [2, 3]), ("not (weight is None)", [0, 1]),
        ("weight + 1 != 2", [1]), ("weight != age", [0, 1]),
    ],
)  # fmt: skip
def test_arithmetic_is_pythons_and_a_missing_number_equals_and_differs_from_nothing(text, kept) -> None:
    numbers = {
        "age": [-8, 7, 2**60, None],
        "dose": [200, 1, None, None],
        "weight": [1.0, 2.5, math.nan, None],
    }
    found = [{**dict.fromkeys(VALUES), **{c: v[i] for c, v in numbers.items()}} for i in range(4)]
    assert stored(table_of(found)).find(compile_expression(text, COLUMNS)).tolist() == kept


def test_a_zone_means_the_instant() -> None:
    noon = dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)
    for unit in ("s", "us", "ns"):
        rows = pa.table({"at": pa.array([noon], pa.timestamp(unit, "Europe/Berlin"))})
        for text, kept in (('at == date("2020-01-01T12:00")', 1), ('at == date("2020-01-01T13:00+01:00")', 1),
                           ('at > date("2020-01-01T12:00Z")', 0)):  # fmt: skip
            assert rows.filter(compile_expression(text, {"at": rows["at"].type})).num_rows == kept


def test_a_literal_takes_the_columns_type() -> None:
    rows = pa.table({"x": pa.array([0.1, 0.25], pa.float32()), "n": pa.nulls(2)})
    types = {f.name: f.type for f in rows.schema}
    assert rows.filter(compile_expression("x == 0.1", types)).num_rows == 1
    assert rows.filter(compile_expression("n > 3 or n == 'a' or n in [1]", types)).num_rows == 0
    assert rows.filter(compile_expression("n is None", types)).num_rows == 2


def test_names_in_finds_columns_and_their_tables() -> None:
    text = 'obs.age > age + 1 and contains(obs_meta["any name"], "x") and date("2020-01-01") < day'
    assert names_in(text) == {("obs", "age"), (None, "age"), ("obs_meta", "any name"), (None, "day")}
    assert names_in("1 < 2") == set()


def test_what_cannot_be_computed_is_our_error() -> None:
    table = stored(table_of([{**dict.fromkeys(VALUES), "age": 2**40}]))
    with pytest.raises(ExpressionError, match="overflow"):
        table.find(compile_expression("age * age > 3", COLUMNS))
    for wrong in (pc.field("agee") > 3, pc.field("age") + 1, pc.field("dx") > 3, pc.field(1) > 3):
        with pytest.raises(ExpressionError, match="filter on table obs_meta"):
            table.find(wrong)


def test_a_filter_reads_the_columns_it_names_and_skips_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 100)
    rng = np.random.default_rng(0)
    fat = pa.array([rng.bytes(1000).hex() for _ in range(1000)])
    rows = pa.table(
        {"obs_subject_id": [f"sub-{i:04d}" for i in range(1000)], "age": pa.array(range(1000)), "note": fat}
    )
    table = stored(rows.slice(0, 500), rows.slice(500))
    assert table.num_rows == len(table.read(["age"]))  # footers are read, and not counted below
    types = {f.name: f.type for f in rows.schema}

    def cost(text: str, columns: list[str], expected: list[int]) -> measure:
        with measure() as m:
            found = table.read(columns, compile_expression(text, types))
        assert found["age"].to_pylist() == expected
        return m

    # one row group is looked through, and once more for what was asked of its one row
    assert cost("age == 333", ["age", "note"], [333])["row_groups"] == 2
    assert cost("obs_subject_id in ['sub-0001', 'sub-0901']", ["age"], [1, 901])["row_groups"] == 4
    assert cost("200 <= age < 400", ["age"], list(range(200, 400)))["row_groups"] == 4
    assert cost("age > 5000", ["age"], [])["row_groups"] == 0
    assert cost("age % 1000 == 3", ["age"], [3])["row_groups"] == 11  # statistics say nothing of this one
    note = cost("age % 1000 == 3", ["age", "note"], [3])
    whole = cost("age >= 0", ["age", "note"], list(range(1000)))
    assert whole["bytes_read"] > 1_000_000
    assert note["bytes_read"] < whole["bytes_read"] / 8
