"""Aliases: the text columns of other tools, read and filtered by name; the rest is still pushed down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject import RadiObject, measure
from radiobject.errors import ExpressionError, UnknownColumnError, UnknownIdError
from radiobject.format import catalog, tables
from radiobject.model.aliases import Aliases

SHAPES = ((6, 5, 4), (6, 5, 4, 3), (4, 5, 6))
SPACINGS = ((1.0, 1.0, 2.0), (0.1 + 0.2, 1.0, 1e-5), (2.5, 2.5, 3.0))
COLUMNS = ("dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "spacing_x", "spacing_y", "spacing_z")


@pytest.fixture(scope="module")
def radi(everywhere: None, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """Subjects s0, s1, s2 of different grids; s1 has three time points. `dose` is a column of obs."""
    images = [
        ((np.zeros(shape, "i2"), np.diag([*spacing, 1.0])), f"s{i}")
        for i, (shape, spacing) in enumerate(zip(SHAPES, SPACINGS, strict=True))
    ]
    meta = pd.DataFrame({"obs_subject_id": ["s0", "s1", "s2"], "age": [30, 50, 70], "site": ["A", "A", "B"]})
    obs = pd.DataFrame({"obs_id": [f"s{i}_T1w" for i in range(3)], "dose": [1, 2, 3]})
    place = tmp_path_factory.mktemp("aliases") / "study"
    return RadiObject.from_niftis(
        place, {"T1w": images, "CT": images[:1]}, meta, obs={"T1w": obs}, axis4="time"
    )


def test_they_read_as_python_writes_the_tuples_of_the_volume(radi: RadiObject) -> None:
    rows = radi.T1w.obs.read(["obs_id", "dimensions", "voxel_spacing", "series_type"])
    for row, volume, shape in zip(rows.itertuples(), radi.T1w, SHAPES, strict=True):
        assert row.dimensions == str(volume.shape) == str(shape)
        assert row.voxel_spacing == str(volume.spacing)
        assert row.series_type == "T1w"
    assert rows["voxel_spacing"][1] == "(0.30000000000000004, 1.0, 1e-05)"
    assert radi.T1w.obs.read(["series_type"])["series_type"].to_list() == ["T1w"] * 3
    assert not {"dimensions", "voxel_spacing", "series_type"} & set(radi.T1w.obs.columns)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("dimensions == '(6, 5, 4)'", [0]),
        ("dimensions == '(6, 5, 4, 3)'", [1]),
        ("dimensions != '(6, 5, 4)'", [1, 2]),
        ("not (dimensions == '(6, 5, 4)')", [1, 2]),
        ("startswith(dimensions, '(6, 5, ')", [0, 1]),
        ("voxel_spacing == '(1.0, 1.0, 2.0)'", [0]),
        ("voxel_spacing in ['(1.0, 1.0, 2.0)', '(2.5, 2.5, 3.0)']", [0, 2]),
        ("contains(voxel_spacing, '1e-05')", [1]),
        ("voxel_spacing is None", []),
        ("series_type == 'T1w'", [0, 1, 2]),
        ("series_type == 'T2w'", []),
        ("series_type in ['T1w', 'FLAIR'] and dose > 1", [1, 2]),
        ("series_type == 'CT' or dose == 2", [1]),
        ("dose < 3 and dimensions == '(6, 5, 4)'", [0]),
        ("obs.dimensions == '(4, 5, 6)' and obs_meta.site == 'B'", [2]),
        ("age > 40 and dimensions == '(6, 5, 4, 3)'", [1]),
        ("age > 60 or dimensions == '(6, 5, 4)'", [0, 2]),
        ("age > 20 and (site == 'B' or voxel_spacing == '(1.0, 1.0, 2.0)') and dose > 1", [2]),
    ],
)  # fmt: skip
def test_they_are_filtered_with_columns_of_both_tables(radi, text: str, kept: list[int]) -> None:
    ids = [f"s{i}_T1w" for i in kept]
    assert radi.T1w.filter(text).obs_ids == ids
    assert radi.T1w.iloc[[1, 2]].filter(text).obs_ids == [i for i in ids if i > "s1"]
    if "age" not in text and "site" not in text:
        assert radi.T1w.obs.read(["obs_id"], text)["obs_id"].to_list() == ids
        assert radi.T1w.head(2).obs.read(["obs_id"], text)["obs_id"].to_list() == [i for i in ids if i < "s2"]


def test_each_collection_has_its_own_series_type_whatever_its_folder(study) -> None:
    radi = study()
    radi.rename_collection("T1w", "MPRAGE")
    assert len(radi.MPRAGE.filter("series_type == 'MPRAGE'")) == 3
    assert len(radi.MPRAGE.filter("series_type == 'T1w'")) == 0
    assert len(radi.seg.filter("series_type == 'seg'")) == 3


def test_a_column_of_that_name_wins(study) -> None:
    obs = pd.DataFrame({"obs_subject_id": ["sub-01"], "series_type": ["MPRAGE"]})
    meta = pd.DataFrame({"obs_subject_id": ["sub-01"], "dimensions": [7]})
    radi = study({"T1w": {"sub-01": np.zeros((6, 5, 4), "i2")}}, meta, obs={"T1w": obs})
    assert radi.T1w.obs.read(["series_type"])["series_type"].to_list() == ["MPRAGE"]
    assert len(radi.T1w.filter("series_type == 'MPRAGE'")) == 1
    assert len(radi.T1w.filter("series_type == 'T1w'")) == 0
    # the subject's column, too, comes before what is only computed; a table can be named
    assert len(radi.T1w.filter("dimensions == 7")) == 1
    assert len(radi.T1w.filter("obs.dimensions == '(6, 5, 4)'")) == 1


def test_tables_without_grids_have_none(radi: RadiObject) -> None:
    for refused in (
        lambda: radi.filter("dimensions == '(6, 5, 4)'"),
        lambda: radi.T1w.filter("obs_meta.dimensions == '(6, 5, 4)'"),
        lambda: radi.obs_meta.read(filter="series_type == 'T1w'"),
    ):
        with pytest.raises(UnknownColumnError):
            refused()
    with pytest.raises(UnknownIdError, match="voxel_spacing"):
        radi.obs_meta.read(["voxel_spacing"])


def test_mistakes_are_named_as_for_columns(radi: RadiObject) -> None:
    with pytest.raises(UnknownColumnError, match="Did you mean 'dimensions'"):
        radi.T1w.filter("dimension == '(6, 5, 4)'")
    with pytest.raises(ExpressionError, match="dimensions, which is string: expected text"):
        radi.T1w.filter("dose > 1 and dimensions == 6")
    with pytest.raises(ExpressionError) as caught:
        radi.T1w.filter("dose > 'x' and agee > 3")
    assert caught.value.text is not None
    assert caught.value.text[slice(*caught.value.span)] == "'x'"  # the first mistake


@pytest.mark.no_backend(reason="tables in memory")
@given(st.lists(st.tuples(*[st.floats(1e-12, 1e20)] * 3), max_size=5))
def test_the_text_of_any_spacing_is_pythons(spacings: list[tuple[float, float, float]]) -> None:
    rows = pa.table(
        {f"spacing_{a}": pa.array([s[i] for s in spacings], pa.float64()) for i, a in enumerate("xyz")}
    )
    filled = Aliases(rows.schema.names, "T1w").filled(rows, ["voxel_spacing"])
    assert filled["voxel_spacing"].to_pylist() == [repr(s) for s in spacings]


@pytest.mark.no_backend(reason="tables in memory")
def test_an_axis_without_a_value_leaves_no_text() -> None:
    sizes = {
        "dim_x": [6, 6],
        "dim_y": [5, None],
        "dim_z": [4, 4],
        "dim_t": pa.nulls(2, pa.int32()),
        "dim_c": [3, 3],
    }
    aliases = Aliases(list(sizes), "T1w")
    assert aliases.filled(pa.table(sizes), ["dimensions"])["dimensions"].to_pylist() == ["(6, 5, 4, 3)", None]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows in a row group, so that a small table has many."""
    monkeypatch.setattr(tables, "ROW_GROUP", 2)


Cost = Callable[[str], measure]


@pytest.fixture
def cost(study, small_groups: None) -> Cost:
    """What a filter of T1w reads of a study with 20 subjects, of which the parts are open already."""
    images = {"T1w": {f"s{i:02d}": np.zeros((6, 5, 4 + i % 2), "i2") for i in range(20)}}
    meta = pd.DataFrame({"obs_subject_id": list(images["T1w"]), "age": range(20), "weight": [50.0] * 20})
    uri = study(images, meta).uri

    def measured(text: str) -> measure:
        catalog._snapshots.clear()
        radi = RadiObject(uri)
        radi.obs_meta.columns, radi.T1w.obs.columns, radi.T1w.obs_subject_ids  # noqa: B018 - footers, ids
        radi.obs_subject_ids  # noqa: B018
        with measure() as m:
            radi.T1w.filter(text)
        return m

    return measured


def test_an_alias_does_not_stop_the_pushdown_of_the_rest(cost: Cost) -> None:
    pushed, every = cost("obs_id < 's02'"), cost("dimensions == '(6, 5, 4)'")
    assert (pushed["row_groups"], every["row_groups"]) == (1, 10)
    both = cost("obs_id < 's02' and dimensions == '(6, 5, 4)'")
    assert both["row_groups"] == 2  # one to find the rows, one for their grids
    spaced = cost("(obs_id < 's02' and age >= 0) and voxel_spacing == '(1.0, 1.0, 1.0)'")
    assert spaced["row_groups"] == 2 + 10  # the same, and the ages, which exclude nobody


def test_the_collections_name_costs_nothing(cost: Cost) -> None:
    assert cost("series_type == 'T1w'")["requests"] == 0
    assert cost("series_type == 'T2w' and dimensions == '(6, 5, 4)'")["requests"] == 0
    assert cost("series_type == 'T1w' and obs_id < 's02'")["row_groups"] == 1


def test_conditions_on_either_table_are_pushed_into_its_read(cost: Cost) -> None:
    assert cost("obs_id < 's02' and age < 2")["row_groups"] == 2
    assert cost("obs_id < 's02' and obs.dim_z < obs_meta.age + 4")["row_groups"] == 3
    nobody = cost("obs_id < 'a' and age < 2 and dim_z < obs_meta.weight and dimensions == ''")
    assert nobody["row_groups"] == 0


def test_pyarrow_expressions_name_columns_only(radi: RadiObject) -> None:
    with pytest.raises(ExpressionError):
        radi.T1w.filter(pc.field("dimensions") == "(6, 5, 4)")
