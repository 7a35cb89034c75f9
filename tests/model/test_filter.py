"""Filters of studies, collections, views and tables: which rows they see, and what they give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from radiobject import RadiObject
from radiobject.errors import ExpressionError, SelectionError, UnknownColumnError


@pytest.fixture(scope="module")
def radi(everywhere: None, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """Subjects s0 to s5 with two scans each, `_acq-1` later; `age` is in both tables, and differs."""
    images = [((np.full((2, 2, 2), i, "i2"), np.eye(4)), f"s{i}") for i in range(6) for _ in range(2)]
    ids = [f"s{i}_T1w{suffix}" for i in range(6) for suffix in ("", "_acq-1")]
    meta = pd.DataFrame(
        {
            "obs_subject_id": [f"s{i}" for i in (3, 1, 0, 2, 5, 4)],
            "age": pd.array([30, 10, 0, 20, None, 40], "Int64"),
            "dx": pd.Categorical(["AD", "cn", "AD", None, "AD", "cn"]),
        }
    )
    obs = pd.DataFrame(
        {"obs_id": ids, "age": range(100, 112), "visit": [1, 2] * 6, "slice gap": [0.5, None] * 6}
    )
    place = tmp_path_factory.mktemp("filters") / "study"
    return RadiObject.from_niftis(place, {"T1w": images}, meta, obs={"T1w": obs})


def test_a_study_is_filtered_by_its_subjects(radi: RadiObject) -> None:
    assert radi.filter("age > 10").obs_subject_ids == ["s3", "s2", "s4"]
    assert radi.filter("dx == 'AD'").filter("age is None").obs_subject_ids == ["s5"]
    assert radi.loc[["s4", "s2"]].filter("age > 10").obs_subject_ids == ["s2", "s4"]
    assert radi.filter(pc.field("age") > 10).T1w.obs_subject_ids == ["s2", "s2", "s3", "s3", "s4", "s4"]
    assert radi.filter("age > 1000").T1w.obs_ids == []
    assert radi.filter("age > 10").is_view
    with pytest.raises(UnknownColumnError):
        radi.filter("nothing == 1")
    with pytest.raises(SelectionError, match="text or a pyarrow expression"):
        radi.filter(3)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("visit == 2 and age < 104", ["s0_T1w_acq-1", "s1_T1w_acq-1"]),  # on a clash obs wins
        ("obs_meta.age >= 30", ["s3_T1w", "s3_T1w_acq-1", "s4_T1w", "s4_T1w_acq-1"]),
        ("visit == 1 and dx == 'AD'", ["s0_T1w", "s3_T1w", "s5_T1w"]),
        ("visit == 1 and not (dx == 'AD')", ["s1_T1w", "s4_T1w"]),
        ("obs.age - 100 == obs_meta.age / 5", [f"s{i}_T1w" for i in range(5)]),
        ('obs["slice gap"] < 1 and obs_meta.age is None', ["s5_T1w"]),
        ("obs_subject_id == 's3'", ["s3_T1w", "s3_T1w_acq-1"]),
        ((pc.field("visit") == 1) & (pc.field("dx").cast(pa.string()) == "cn"), ["s1_T1w", "s4_T1w"]),
        (pc.field("age") > 109, ["s5_T1w", "s5_T1w_acq-1"]),
        (pc.field("dx").is_null(), ["s2_T1w", "s2_T1w_acq-1"]),
    ],
)  # fmt: skip
def test_a_collection_is_filtered_by_its_rows_and_their_subjects(radi, expression, expected) -> None:
    assert radi.T1w.filter(expression).obs_ids == expected
    assert radi.T1w.head(6).filter(expression).obs_ids == [i for i in expected if i < "s3"]
    assert [v.obs_id for v in radi.T1w.filter(expression)] == expected


@pytest.mark.parametrize("column", ["visit", "dimensions"])
def test_a_column_of_volumes_in_a_filter_of_subjects_is_told_where_to_go(
    column: str, radi: RadiObject
) -> None:
    hint = f"`{column}` is a column of volumes: filter a collection, radi.T1w.filter"
    with pytest.raises(UnknownColumnError, match=hint) as caught:
        radi.filter(f"age > 3 and {column} == 1")
    assert str(caught.value).endswith("\n" + " " * 16 + "^" * len(column))  # still shown where it stands
    for other in ("nothing == 1", "_path == 'a'", f"obs_meta.{column} == 1"):
        with pytest.raises(UnknownColumnError) as caught:
            radi.filter(other)
        assert "column of volumes" not in str(caught.value)


def test_a_collection_says_which_columns_both_tables_have(radi: RadiObject) -> None:
    with pytest.raises(UnknownColumnError, match="Did you mean 'visit'"):
        radi.T1w.filter("vist == 1 and dx == 'AD'")
    with pytest.raises(UnknownColumnError):
        radi.T1w.filter("obs_meta.visit == 1")
    with pytest.raises(UnknownColumnError):
        radi.T1w.filter("_path is None")
    with pytest.raises(ExpressionError):
        radi.T1w.filter(pc.field("nothing") == 1)
    with pytest.raises(SelectionError):
        radi.T1w.filter(None)


def test_tables_are_read_by_filter_as_text_or_pyarrow(radi: RadiObject) -> None:
    for part, expected in ((radi, ["s3", "s4"]), (radi.loc[["s4", "s1"]], ["s4"])):
        for filter in ("age >= 30", pc.field("age") >= 30):
            assert part.obs_meta.read(["obs_subject_id"], filter)["obs_subject_id"].to_list() == expected
    rows = radi.T1w.obs.to_arrow(["obs_id", "voxel_spacing"], "visit == 2 and age > 109")
    assert rows.to_pylist() == [{"obs_id": "s5_T1w_acq-1", "voxel_spacing": "(1.0, 1.0, 1.0)"}]
    assert radi.T1w.iloc[[9, 10]].obs.read(["age"])["age"].to_list() == [109, 110]
