"""Purge and columns of every type: what would still name a subject is refused before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from radiobject import RadiObject
from radiobject.errors import MetadataError
from radiobject.format.traces import Traces
from tests.format.purged import scan, unchanged

PEOPLE = ["p-01", "p-02", "p-03"]
"""Ids too short to be looked for in raw bytes."""

WORDS = pa.array(["p-02", "x"])
NESTED = {
    "fixed_size_list": pa.array([["p-02", "x"]], pa.list_(pa.string(), 2)),
    "list_view": pa.array([["x"], ["p-02"]], pa.list_view(pa.string())),
    "large_list_view": pa.array([["x"], ["p-02"]], pa.large_list_view(pa.string())),
    "large_list": pa.array([["p-02"]], pa.large_list(pa.large_string())),
    "map of text": pa.array([[("p-02", 1)]], pa.map_(pa.string(), pa.int64())),
    "map to text": pa.array([[(1, "p-02")]], pa.map_(pa.int64(), pa.string())),
    "struct's names": pa.array([{"p-02": 1}]),
    "names deep inside": pa.array([[{"a": {"p-02": 1}}]]),
    "list of categories": pa.array([["p-02"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "fixed_size_binary": pa.array([b"p-02\0\0"], pa.binary(6)),
    "binary": pa.array([b"of p-02"]),
}
UNSTORED = {
    "string_view": WORDS.cast(pa.string_view()),
    "binary_view": pa.array([b"p-02"], pa.binary_view()),
    "lists of views": pa.array([["p-02"]], pa.list_(pa.string_view())),
    "run_end_encoded": pc.run_end_encode(WORDS),
    "sparse union": pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [WORDS]),
    "union's names": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])], ["p-02"]),
    "extension": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"like": "p-02"}'])),
}


@pytest.mark.parametrize("kind", [*NESTED, *UNSTORED])
def test_an_id_is_found_in_columns_of_every_type(kind: str) -> None:
    column = (NESTED | UNSTORED)[kind]
    assert Traces(["p-02"]).in_column(column)
    assert Traces(["p-02"]).in_column(pa.chunked_array([column]))
    assert not Traces(["p-03"]).in_column(column)


def test_bytes_that_are_no_text_hold_no_short_id() -> None:
    assert not Traces(["p-02"]).in_column(pa.array([b"\xff p-02"]))


def study(place: Path, column: pa.Array, field: pa.Field | None = None) -> str:
    images = {"T1w": [(scan(n), who) for n, who in enumerate(PEOPLE)]}
    field = field or pa.field("similar", column.type)
    meta = pa.table([pa.array(PEOPLE), column], pa.schema([pa.field("obs_subject_id", pa.string()), field]))
    RadiObject.from_niftis(str(place), images, meta, progress=False)
    return str(place)


@pytest.mark.parametrize("kind", NESTED)
def test_rows_of_others_that_name_them_inside_are_refused(tmp_path: Path, kind: str) -> None:
    held = NESTED[kind].to_pylist()[-1]
    place = study(tmp_path / "study", pa.array([held, None, None], NESTED[kind].type))
    call = RadiObject(place).purge
    unchanged(place, lambda: call("p-02", "asked"), MetadataError, "column 'similar' of obs_meta")


@pytest.mark.parametrize("kind", ["fixed_size_list", "list_view", "map of text", "fixed_size_binary"])
def test_what_only_their_own_row_holds_goes_with_it(tmp_path: Path, kind: str) -> None:
    held = NESTED[kind].to_pylist()[-1]
    place = study(tmp_path / "study", pa.array([None, held, None], NESTED[kind].type))
    RadiObject(place).purge("p-02", "asked")
    assert RadiObject(place).obs_meta.to_arrow()["similar"].to_pylist() == [None, None]


def test_metadata_of_a_column_that_names_them_is_refused(tmp_path: Path) -> None:
    field = pa.field("age", pa.int64(), metadata={"note": "guessed for p-02"})
    place = study(tmp_path / "study", pa.array([1, 2, 3]), field)
    call = RadiObject(place).purge
    unchanged(place, lambda: call("p-02", "asked"), MetadataError, "column 'age' of obs_meta")


def test_a_type_that_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = study(tmp_path / "study", pa.array([[0.5], [1.5], None]))
    monkeypatch.setattr("radiobject.format.traces._is_number", lambda kind: False)  # as one of a later Arrow
    call = RadiObject(place).purge
    unchanged(place, lambda: call("p-02", "asked"), MetadataError, "column .*ids can be looked for.*double")
