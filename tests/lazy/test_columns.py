"""Columns as coordinates: every type in a form that xarray computes with and writes to files."""

from __future__ import annotations

import datetime as dt
import decimal
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from radiobject.errors import SelectionError, UnknownIdError
from radiobject.lazy.columns import column_coords

BERLIN = dt.timezone(dt.timedelta(hours=2))
DAY = dt.datetime(2024, 2, 29, 12, 30)  # noqa: DTZ001 - a column without time zone


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "expected"),
    [
        ([1, 2], pa.int16(), "int16", [1, 2]),
        ([1, None], pa.int16(), "float64", [1.0, np.nan]),
        ([2**60 + 1, None], pa.int64(), "object", [2**60 + 1, None]),
        ([True, False], pa.bool_(), "bool", [True, False]),
        ([True, None], pa.bool_(), "float64", [1.0, np.nan]),
        ([0.5, None], pa.float32(), "float32", [0.5, np.nan]),
        (["ä", "b"], pa.string(), "object", ["ä", "b"]),
        (["ä", None], pa.large_string(), "object", ["ä", None]),
        (["low", None], pa.dictionary(pa.int8(), pa.string()), "object", ["low", None]),
        ([3, None], pa.dictionary(pa.int8(), pa.int64()), "float64", [3, np.nan]),
        ([DAY, None], pa.timestamp("us"), "datetime64[us]", [DAY, "NaT"]),
        ([DAY.replace(tzinfo=BERLIN)] * 2, pa.timestamp("ms", "Europe/Berlin"), "datetime64[ms]",
         [DAY - dt.timedelta(hours=2)] * 2),
        ([dt.date(2024, 2, 29), None], pa.date32(), "datetime64[s]", ["2024-02-29", "NaT"]),
        ([dt.timedelta(seconds=3), None], pa.duration("us"), "timedelta64[us]", [3_000_000, "NaT"]),
        ([decimal.Decimal("1.5"), None], pa.decimal128(5, 2), "float64", [1.5, np.nan]),
    ],
)  # fmt: skip
def test_types_and_gaps(values: list, kind: pa.DataType, dtype: str, expected: list) -> None:
    made = column_coords(pa.table({"c": pa.array(values, kind)}), "obs_id", ())["c"]
    assert made.dims == ("obs_id",)
    assert made.dtype == np.dtype(dtype)
    wanted = np.array(expected, dtype=dtype)
    missing = np.array([v is None for v in values])
    assert (made.isnull().to_numpy() == missing).all()
    assert (made.to_numpy()[~missing] == wanted[~missing]).all()


def test_names_of_axes_are_not_taken_and_empty_columns_left_out() -> None:
    rows = pa.table({"x": [1, 2], "obs_x": [3, 4], "t": ["a", "b"], "none": pa.nulls(2, pa.int8())})
    coords = column_coords(rows, "obs_id", ("x", "t"))
    assert {name: c.to_numpy().tolist() for name, c in coords.items()} == {
        "obs_obs_x": [1, 2], "obs_x": [3, 4], "obs_t": ["a", "b"],
    }  # fmt: skip


META = {
    "obs_subject_id": ["sub-03", "sub-01", "sub-02"],
    "age": [70, None, 55],
    "site": ["B", None, "A"],
    "smoker": [True, None, False],
    "seen": [dt.datetime(2024, 1, day) for day in (1, 2, 3)],  # noqa: DTZ001
    "x": [7, 8, 9],
}


def test_obs_and_subject_columns_are_coordinates_and_survive_files(study, tmp_path: Path) -> None:
    array = study(None, META).T1w.to_xarray()
    assert array.obs_id.to_numpy().tolist() == ["sub-03_T1w", "sub-01_T1w", "sub-02_T1w"]
    assert array.obs_subject_id.to_numpy().tolist() == META["obs_subject_id"]
    assert array.dim_x.to_numpy().tolist() == [6, 6, 6]
    assert array.obs_x.to_numpy().tolist() == [7, 8, 9]
    assert array.x.to_numpy().tolist() == list(range(6))
    assert array.age.isnull().to_numpy().tolist() == [False, True, False]
    assert array.sel(obs_id="sub-01_T1w").max() == 1
    assert array.where(array.smoker == 1, drop=True).max() == 3
    assert array.groupby("site").max(...).to_numpy().tolist() == [2, 3]
    assert "run" not in array.coords  # nobody has one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr-python's own format
        array.to_zarr(tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr", chunks=None) as again:
        assert np.array_equal(again.T1w, array)
        for name in ("age", "seen", "dim_x", "smoker"):
            assert again[name].equals(array[name]), name
        assert again.site.to_numpy().tolist() == ["B", "", "A"]  # what xarray writes for missing text


def test_columns_are_chosen_by_name(study) -> None:
    radi = study(None, META)
    array = radi.T1w.to_xarray(columns=["age", "intensity_mean"])
    assert {c for c in array.coords if array[c].dims == ("obs_id",)} == {
        "obs_id", "obs_subject_id", "age", "intensity_mean",
    }  # fmt: skip
    assert array.intensity_mean.to_numpy().tolist() == [3, 1, 2]
    bare = radi.T1w.to_xarray(columns=[])
    assert [c for c in bare.coords if bare[c].dims == ("obs_id",)] == ["obs_id", "obs_subject_id"]
    with pytest.raises(UnknownIdError, match=r"columns \['agee'\]: expected some of \['obs_subject_id'"):
        radi.T1w.to_xarray(columns=["agee"])
    with pytest.raises(SelectionError, match="column 'intensity_histogram' as a coordinate"):
        radi.T1w.to_xarray(columns=["intensity_histogram"])
    with pytest.raises(UnknownIdError, match="_path"):
        radi.T1w.to_xarray(columns=["_path"])
