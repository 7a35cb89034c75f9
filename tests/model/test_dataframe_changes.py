"""update, add_column and drop_column: the right cells change, no others, and every handle shows it."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from radiobject import RadiObject, VolumeCollection
from radiobject.errors import (
    DuplicateIdError,
    MetadataError,
    UnknownColumnError,
    UnknownIdError,
    ViewError,
)

IDS = ["sub-03", "sub-01", "Müller-2"]


def people(ids: list[str] = IDS) -> pd.DataFrame:
    """One column of each kind, with a missing value in the last row where the kind knows one."""
    return pd.DataFrame(
        {
            "obs_subject_id": ids,
            "age": pd.array([41, 2**53 + 1, None], dtype="Int64"),
            "bmi": [21.5, 30.25, np.nan],
            "smoker": pd.array([True, False, None], dtype="boolean"),
            "consent": [True, True, False],
            "dx": pd.Categorical(["AD", "control", None], categories=["control", "AD", "MCI"]),
            "grade": pd.Categorical(["I", "III", "II"], categories=["I", "II", "III"], ordered=True),
            "born": pd.to_datetime(["1950-02-03", "1980-01-01", None]),
            "seen": pd.to_datetime(["2024-01-02T03:04:05.678901Z"] * 3).tz_convert("Asia/Tokyo"),
            "stay": pd.to_timedelta([1, 2, 3], unit="D"),
            "site": ["Zürich", "東京", None],
            "small": np.array([1, 2, 255], dtype="u1"),
            "Größe (cm)": np.array([1.5, 2.5, 3.5], dtype="f4"),
            "tags": [["a", "b"], [], None],
        }
    )


def rows(table: Any) -> dict[str, dict[str, Any]]:
    """Every row of a table by its key, as plain values."""
    found = table.to_arrow()
    key = "obs_id" if "obs_id" in found.schema.names else "obs_subject_id"
    return {r[key]: r for r in found.to_pylist()}


@pytest.fixture
def radi(study) -> RadiObject:
    return study({"T1w": {i: np.full((3, 3, 3), n, "i2") for n, i in enumerate(IDS)}}, people())


@pytest.fixture(scope="module")
def uri(module_study) -> str:
    return module_study({"T1w": {i: np.zeros((3, 3, 3), "i2") for i in IDS}}, people()).uri


@pytest.fixture
def unchanged(uri: str) -> RadiObject:
    """A study for tests of what is refused: they leave version 1 as it is."""
    return RadiObject(uri)


def later(radi: RadiObject) -> RadiObject:
    """Somebody else's handle on the newest version."""
    return RadiObject(radi.uri)


def test_update_in_another_order_with_some_columns_keeps_all_the_rest(radi) -> None:
    before = rows(radi.obs_meta)
    radi.obs_meta.update(
        pd.DataFrame({"obs_subject_id": ["Müller-2", "sub-03"], "bmi": [3.5, 1.5], "site": ["東", "b"]})
    )
    before["Müller-2"] |= {"bmi": 3.5, "site": "東"}
    before["sub-03"] |= {"bmi": 1.5, "site": "b"}
    assert rows(radi.obs_meta) == rows(later(radi).obs_meta) == before
    assert radi.obs_subject_ids == IDS
    assert [v.obs_subject_id for v in radi.T1w] == IDS
    assert radi.validate("full").ok


def test_a_known_and_a_new_subject_in_one_update(radi) -> None:
    before = rows(radi.obs_meta)
    radi.obs_meta.update({"obs_subject_id": ["new", "sub-01"], "small": [9, 8]})
    after = rows(radi.obs_meta)
    assert after["sub-01"] == before["sub-01"] | {"small": 8}
    assert after["new"] == dict.fromkeys(before["sub-01"]) | {"obs_subject_id": "new", "small": 9}
    assert radi.obs_subject_ids == [*IDS, "new"]
    assert (radi.version, radi.versions()[-1]["operation"]) == (2, "update")


@pytest.mark.parametrize("column", [c for c in people() if c != "obs_subject_id"])
def test_every_kind_of_value_can_be_set_and_set_to_null(radi, column) -> None:
    kind, before = radi.obs_meta.dtypes[column], rows(radi.obs_meta)
    value = before["sub-03"][column]
    radi.obs_meta.update(people()[["obs_subject_id", column]].iloc[[0]].assign(obs_subject_id=["Müller-2"]))
    assert rows(radi.obs_meta)["Müller-2"] == before["Müller-2"] | {column: value}
    radi.obs_meta.update(pd.DataFrame({"obs_subject_id": ["sub-03"], column: [None]}, dtype=object))
    assert rows(radi.obs_meta)["sub-03"] == before["sub-03"] | {column: None}
    assert rows(radi.obs_meta)["sub-01"] == before["sub-01"]
    assert radi.obs_meta.dtypes[column] == kind


def test_the_whole_frame_can_be_read_changed_and_handed_back(radi) -> None:
    frame = radi.obs_meta.read()
    frame.loc[frame["obs_subject_id"] == "sub-01", "site"] = "c"
    radi.obs_meta.update(frame.set_index("obs_subject_id"))
    assert rows(radi.obs_meta)["sub-01"]["site"] == "c"
    assert radi._study.snapshot.commit.change.subjects_updated == {"sub-01"}
    radi.obs_meta.update(radi.obs_meta.to_arrow())
    assert later(radi).version == 2, "what equals the stored values makes no version"


def test_categories_keep_their_order_and_may_grow_only_where_they_have_none(radi) -> None:
    radi.obs_meta.update({"obs_subject_id": ["sub-03", "sub-01"], "grade": ["III", "I"], "dx": ["PD", None]})
    frame = radi.obs_meta.read()
    assert frame["grade"].cat.categories.to_list() == ["I", "II", "III"]
    assert frame["grade"].cat.ordered
    assert frame["grade"].max() == "III"
    assert frame["dx"].cat.categories.to_list() == ["control", "AD", "MCI", "PD"]
    assert frame["dx"].astype(object).fillna("-").to_list() == ["PD", "-", "-"]
    with pytest.raises(MetadataError, match="'IV'"):
        radi.obs_meta.update({"obs_subject_id": ["sub-03"], "grade": ["IV"]})


def test_update_of_a_table_whose_parts_have_different_columns(radi) -> None:
    scan = (np.zeros((3, 3, 3), "i2"), np.eye(4))
    more = pd.DataFrame(
        {"obs_subject_id": ["a", "z"], "bmi": [1, 2], "visit": ["x", "y"], "dx": ["MCI", "FTD"]}
    )
    radi.append({"T1w": [(scan, "a"), (scan, "z")]}, more)
    before = rows(radi.obs_meta)
    radi.obs_meta.update({"obs_subject_id": ["z", "sub-01"], "visit": ["q", "r"], "bmi": [0.5, 0.25]})
    before["z"] |= {"visit": "q", "bmi": 0.5}
    before["sub-01"] |= {"visit": "r", "bmi": 0.25}
    assert rows(radi.obs_meta) == rows(later(radi).obs_meta) == before
    assert radi.obs_subject_ids == [*IDS, "a", "z"]
    radi.obs_meta.drop_column("visit")
    assert "visit" not in radi.obs_meta.columns


def test_obs_is_updated_by_obs_id_and_keeps_what_opens_the_volumes(radi) -> None:
    t1 = radi.T1w
    t1.obs.add_column("qc", "Int64").update(
        {"obs_id": ["sub-01_T1w", "sub-03_T1w"], "qc": [1, 3], "run": [7, 8]}
    )
    assert [(r["qc"], r["run"]) for r in rows(t1.obs).values()] == [(3, 8), (1, 7), (None, None)]
    assert [int(v[0, 0, 0]) for v in t1] == [0, 1, 2]
    assert t1.sel(qc=3).obs_id == "sub-03_T1w"
    t1.obs.update({"obs_id": ["sub-01_T1w"], "obs_subject_id": ["sub-01"], "qc": [5]})
    with pytest.raises(MetadataError, match="obs_subject_id that the study holds"):
        t1.obs.update({"obs_id": ["sub-01_T1w"], "obs_subject_id": ["sub-03"], "qc": [6]})
    with pytest.raises(UnknownIdError, match=r"nobody_T1w.*append"):
        t1.obs.update({"obs_id": ["nobody_T1w"], "qc": [1]})
    assert rows(later(radi).T1w.obs)["sub-01_T1w"]["qc"] == 5
    assert radi.validate("full").ok


NEWS = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("column", "value", "types"),
    [
        ("age", 0.5, ("int64", "double")),
        ("age", "41", ("int64", "string")),
        ("age", True, ("int64", "bool")),
        ("small", 256, ("uint8", "int64")),
        ("bmi", 2**53 + 1, ("double", "int64")),
        ("Größe (cm)", 0.1, ("float", "double")),
        ("consent", 1, ("bool", "int64")),
        ("site", 7, ("string", "int64")),
        ("born", NEWS, ("timestamp", "tz=UTC")),
        ("seen", NEWS.replace(tzinfo=None), ("tz=Asia/Tokyo", "timestamp[us]")),
        ("tags", "a", ("list", "string")),
        ("tags", [1], ("list", "list<item: int64>")),
    ],
)
def test_a_value_that_the_stored_type_would_change_is_refused(unchanged, column, value, types) -> None:
    with pytest.raises(MetadataError) as caught:
        unchanged.obs_meta.update(pa.table({"obs_subject_id": ["sub-01"], column: [value]}))
    assert all(t in str(caught.value) for t in (repr(column), *types)), caught.value
    assert later(unchanged).version == 1


def test_a_value_that_fits_is_taken_whatever_its_type(radi) -> None:
    radi.obs_meta.update(
        {
            "obs_subject_id": ["sub-01"],
            "age": [7.0],
            "bmi": [7],
            "seen": [NEWS],
            "site": pd.Categorical(["x"]),
        }
    )
    row = rows(radi.obs_meta)["sub-01"]
    assert (row["age"], row["bmi"], row["seen"], row["site"]) == (7, 7.0, NEWS, "x")


@pytest.mark.parametrize(
    ("frame", "kind", "match"),
    [
        ({"age": [1]}, MetadataError, "obs_subject_id"),
        ({"obs_subject_id": ["sub-01"], "agee": [1]}, MetadataError, "add_column"),
        ({"obs_subject_id": ["sub-01"], "_x": [1]}, MetadataError, "_x"),
        ({"obs_subject_id": ["sub-01", "sub-01"], "age": [1, 2]}, DuplicateIdError, "sub-01"),
        ({"obs_subject_id": [None], "age": [1]}, MetadataError, "obs_subject_id"),
        ({"obs_subject_id": [7], "age": [1]}, MetadataError, "text"),
        ({"obs_subject_id": ["sub-01"], "age": [1, 2]}, MetadataError, "one length"),
        ([1, 2], MetadataError, "DataFrame"),
    ],
)
def test_a_frame_that_does_not_fit_changes_nothing(unchanged, frame, kind, match) -> None:
    with pytest.raises(kind, match=match):
        unchanged.obs_meta.update(frame)
    assert later(unchanged).version == 1


@pytest.mark.parametrize("column", ["dim_x", "affine", "source_digest", "parent_obs_id", "_path"])
def test_what_the_engine_fills_is_not_for_callers(unchanged, column) -> None:
    with pytest.raises(MetadataError, match=column):
        unchanged.T1w.obs.update({"obs_id": ["sub-01_T1w"], column: [None]})
    with pytest.raises(MetadataError, match=column):
        unchanged.T1w.obs.add_column(column, "str")
    with pytest.raises(ValueError, match=column):
        unchanged.T1w.obs.drop_column(column)
    assert later(unchanged).version == 1


def test_a_column_without_fill_is_null_everywhere_and_of_its_type(radi) -> None:
    radi.obs_meta.add_column("score", "int32")
    frame = later(radi).obs_meta.read(["score"])
    assert frame["score"].isna().all()
    assert radi.obs_meta.dtypes["score"] == "int32"
    assert radi.obs_meta.shape == (3, len(people().columns) + 1)


@pytest.mark.parametrize(
    ("dtype", "fill", "stored", "read"),
    [
        ("Int64", 3, "int64", [3] * 3),
        (np.float32, 0.5, "float", [0.5] * 3),
        (bool, False, "bool", [False] * 3),
        (str, "ü", "string", ["ü"] * 3),
        ("category", "a", "dictionary<values=string, indices=int32, ordered=0>", ["a"] * 3),
        (pa.date32(), datetime.date(2020, 1, 2), "date32[day]", [datetime.date(2020, 1, 2)] * 3),
        ("timestamp[ms]", None, "timestamp[ms]", [None] * 3),
        ("datetime64[us, UTC]", NEWS, "timestamp[us, tz=UTC]", [NEWS] * 3),
        (None, 2**53 + 1, "int64", [2**53 + 1] * 3),
        (None, np.float32(0.1), "float", [np.float32(0.1)] * 3),
        (None, [2**53 + 1, None], "list<element: int64>", [[2**53 + 1, None]] * 3),
        (None, ["x"], "list<element: string>", [["x"]] * 3),
    ],
)
def test_a_column_takes_types_by_every_name_and_one_value_for_all(radi, dtype, fill, stored, read) -> None:
    radi.obs_meta.add_column("new", dtype, fill)
    found = later(radi).obs_meta.to_arrow(["new"])
    assert radi.obs_meta.dtypes["new"] == stored
    assert found["new"].to_pylist() == read


def test_categories_of_a_dtype_are_kept_in_their_order_without_a_value(radi) -> None:
    radi.obs_meta.add_column(
        "grade2", pd.CategoricalDtype(["low", "high"], ordered=True), values={IDS[1]: "high"}
    )
    column = later(radi).obs_meta["grade2"]
    assert column.cat.categories.to_list() == ["low", "high"]
    assert column.cat.ordered
    assert column.isna().to_list() == [True, False, True]


@pytest.mark.parametrize(
    "values",
    [
        {"sub-01": 1, "Müller-2": 2},
        pd.Series([2, 1], index=["Müller-2", "sub-01"]),
        [9, 1, 2],
        (9, 1, 2),
        np.array([9, 1, 2]),
        pa.array([9, 1, 2]),
        pd.array([9, 1, 2], dtype="Int64"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_come_by_key_or_in_the_order_of_the_rows(radi, values) -> None:
    radi.obs_meta.add_column("n", fill=9, values=values)
    assert radi.obs_meta.to_arrow(["n"])["n"].to_pylist() == [9, 1, 2]
    assert radi.obs_meta.dtypes["n"] == "int64"


def test_integers_beside_a_missing_one_stay_integers(radi) -> None:
    radi.obs_meta.add_column("n", values=[1, None, 2**53 + 1])
    assert radi.obs_meta.to_arrow(["n"])["n"].to_pylist() == [1, None, 2**53 + 1]


@pytest.mark.parametrize(
    ("name", "options", "kind", "match"),
    [
        ("age", {"fill": 1}, MetadataError, "one that exists, of type int64"),
        ("obs_subject_id", {"dtype": "str"}, MetadataError, "obs_subject_id"),
        ("obs_id", {"dtype": "str"}, MetadataError, "obs_id"),
        ("_x", {"dtype": "str"}, MetadataError, "_x"),
        ("", {"dtype": "str"}, MetadataError, "name"),
        ("n", {}, MetadataError, "dtype"),
        ("n", {"dtype": "nonsense"}, MetadataError, "nonsense"),
        ("n", {"dtype": "period[D]"}, MetadataError, "Parquet"),
        ("n", {"dtype": "int8", "fill": 300}, MetadataError, "300"),
        ("n", {"values": {"nobody": 1}}, UnknownIdError, "nobody"),
        ("n", {"values": [1, 2]}, MetadataError, "3 values"),
        ("n", {"values": "abc"}, MetadataError, "fill="),
        ("n", {"values": pd.Series([1, 2, 3])}, MetadataError, "values by 0"),
        ("n", {"values": [1, "a", 2]}, MetadataError, "one type"),
        ("n", {"values": {"sub-01": 1}, "fill": "x"}, MetadataError, "string"),
    ],
)
def test_a_column_that_cannot_be_is_refused(unchanged, name, options, kind, match) -> None:
    with pytest.raises(kind, match=match):
        unchanged.obs_meta.add_column(name, **options)
    assert later(unchanged).version == 1


@pytest.mark.parametrize("name", ["dimensions", "series_type", "voxel_spacing"])
def test_a_column_may_not_hide_an_alias(unchanged, name) -> None:
    with pytest.raises(MetadataError, match=name):
        unchanged.T1w.obs.add_column(name, "str")


def test_a_dropped_column_is_gone_and_older_versions_have_it(radi) -> None:
    radi.obs_meta.drop_column("age", message="not needed")
    assert "age" not in later(radi).obs_meta.columns
    assert RadiObject(radi.uri, version=1).obs_meta["age"].to_list()[1] == 2**53 + 1
    assert radi.versions()[-1]["message"] == "not needed"
    for kind in (KeyError, ValueError, UnknownColumnError):
        with pytest.raises(kind, match="age"):
            radi.obs_meta.drop_column("age")
    with pytest.raises(MetadataError, match="obs_subject_id"):
        radi.obs_meta.drop_column("obs_subject_id")
    with pytest.raises(MetadataError, match="null"):
        radi.T1w.obs.drop_column("session")
    assert radi.version == 2


def test_an_empty_table_keeps_a_new_column(study) -> None:
    radi = study()
    radi.delete(obs_ids=radi.seg.obs_ids)
    radi.seg.obs.add_column("rater", "str")
    assert (len(radi.seg.obs), radi.seg.obs.dtypes["rater"]) == (0, "string")
    scan = (np.ones((3, 3, 3), "u1"), np.eye(4))
    radi.append({"seg": [(scan, "sub-01")]}, obs={"seg": {"obs_subject_id": ["sub-01"], "rater": ["me"]}})
    assert radi.seg.obs["rater"].to_list() == ["me"]
    assert radi.validate("full").ok


Change = Callable[[Any, str], Any]
CHANGES: dict[str, Change] = {
    "update": lambda table, key: table.update({key: ["x"], "note": ["y"]}),
    "add_column": lambda table, key: table.add_column("note", "str"),
    "drop_column": lambda table, key: table.drop_column("note"),
}


@pytest.mark.parametrize("operation", CHANGES)
def test_views_and_tables_of_the_engine_refuse_every_change(radi, operation) -> None:
    change = CHANGES[operation]
    view = radi.loc[["sub-01"]]
    volumes = radi.sel(dtype="int16")  # narrows volumes, not subjects
    for table in (view.obs_meta, radi.select_collections(["T1w"]).obs_meta, volumes.obs_meta):
        with pytest.raises(ViewError, match=rf"{operation}\(\)"):
            change(table, "obs_subject_id")
    for table in (view.T1w.obs, radi.T1w.head(1).obs, radi.select_collections(["T1w"]).T1w.obs):
        with pytest.raises(ViewError, match=rf"{operation}\(\)"):
            change(table, "obs_id")
    with pytest.raises(ViewError, match="only the engine"):
        change(radi.ledger, "obs_id")
    assert later(radi).version == 1


def test_the_table_the_collection_and_the_study_show_a_change(radi) -> None:
    meta, t1 = radi.obs_meta, radi.T1w
    obs = t1.obs
    assert meta.add_column("n", fill=1) is meta
    obs.add_column("qc", fill=2)
    assert meta.columns[-1] == "n"
    for table in (obs, t1.obs, radi.T1w.obs, later(radi).T1w.obs):
        assert table["qc"].to_list() == [2, 2, 2]
    assert (radi.version, len(radi.obs_meta.columns)) == (3, len(meta.columns))
    # a table that is one change behind changes the newest, and does not take that change back
    meta.update({"obs_subject_id": ["sub-01"], "n": [5]})
    assert radi.obs_meta["n"].to_list() == [1, 5, 1]
    assert radi.T1w.obs["qc"].to_list() == [2, 2, 2]


def test_a_collection_opened_by_itself_can_be_changed_and_tables_pickle(radi, tmp_path) -> None:
    alone = VolumeCollection(f"{radi.uri}#T1w")
    alone.obs.add_column("qc", fill="ok")
    assert alone.obs["qc"].to_list() == ["ok"] * 3
    assert pickle.loads(pickle.dumps(alone.obs)).read().equals(later(radi).T1w.obs.read())
    assert pickle.loads(pickle.dumps(radi.obs_meta)).columns == radi.obs_meta.columns
