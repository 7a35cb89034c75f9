"""Statistics against NumPy on the scaled values, for every dtype, axis order and kind of voxel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiobject.errors import FormatError
from radiobject.format.meta import Scaling
from radiobject.format.schema import OBS_SCHEMA
from radiobject.writing.statistics import PERCENTILES, Statistics, volume_statistics

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
DISK = ("z", "y", "x")


def assert_like_numpy(got: Statistics, scaled: np.ndarray) -> None:
    values = np.sort(scaled[np.isfinite(scaled)].astype(np.float64))
    span = max(values[-1] - values[0], 0.0)
    close: dict[str, Any] = {"rel": 1e-9, "abs": 1e-9 * span}
    assert (got.min, got.max) == pytest.approx((values[0], values[-1]), **close)
    assert got.mean == pytest.approx(values.mean(), **close)
    assert got.std == pytest.approx(values.std(), rel=1e-6, abs=1e-9 * span)
    for name, p in PERCENTILES.items():
        rank = max(math.ceil(values.size * p / 1000 - 1e-9) - 1, 0)
        assert getattr(got, name) == pytest.approx(values[rank], **close), name
    assert got.histogram.sum() == values.size
    assert got.n_nonfinite == scaled.size - values.size


@pytest.mark.parametrize("scaling", [None, Scaling(0.5, -3.0), Scaling(-2.0, 10.0)], ids=["no", "up", "down"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_those_of_the_scaled_voxels(dtype: str, scaling: Scaling | None) -> None:
    rng = np.random.default_rng(7)
    info = np.finfo if dtype[0] == "f" else np.iinfo
    top = min(float(info(dtype).max), 2.0**40)
    spread = rng.gamma(2.0, top / 20, (11, 13, 17)) - (0 if dtype[0] == "u" else top / 10)
    voxels = np.clip(spread, max(float(info(dtype).min), -(2.0**40)), top - 1).astype(dtype)
    slope, inter = (1.0, 0.0) if scaling is None else (scaling.slope, scaling.inter)
    scaled = voxels.astype(np.float64) * slope + inter
    got = volume_statistics(voxels, scaling, DISK)
    assert_like_numpy(got, scaled)
    expected, _ = np.histogram(scaled, 256, (scaled.min(), scaled.max()))
    # A voxel exactly on an edge may round to either side.
    assert np.abs(np.cumsum(got.histogram) - np.cumsum(expected)).max() <= max(2, 0.02 * voxels.size)


def test_percentiles_are_numpys_inverted_cdf() -> None:
    voxels = np.random.default_rng(1).normal(size=(5, 40, 41)).astype("f4")
    got = volume_statistics(voxels, None, DISK)
    for name, p in PERCENTILES.items():
        assert getattr(got, name) == np.percentile(voxels, p / 10, method="inverted_cdf")


@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8", "i2", "u8", "i8"]).map(np.dtype),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    )
)
@example(np.full((1, 1, 2), np.inf))
@example(np.array([[[-1.7e308, 1.7e308]]]))
@example(np.array([[[0.0, 5e-324]]]))
@example(np.array([[[2**64 - 1, 2**64 - 9]]], dtype="u8"))
@example(np.array([[[-(2**63), 2**63 - 1]]], dtype="i8"))
def test_any_array_has_finite_statistics_or_none(voxels: np.ndarray) -> None:
    got = volume_statistics(voxels, None, DISK)
    finite = voxels[np.isfinite(voxels)]
    assert got.n_nonfinite == voxels.size - finite.size
    assert got.histogram.sum() == finite.size
    if finite.size == 0:
        assert math.isnan(got.mean)
        assert got.as_row()["intensity_mean"] is None
        return
    assert (got.min, got.max) == (float(finite.min()), float(finite.max()))
    assert got.min <= got.p0_5 <= got.p1 <= got.p50 <= got.p99 <= got.p99_5 <= got.max
    assert math.isfinite(got.std)


@given(hnp.arrays(np.int16, (3, 4, 5), elements=st.integers(-1, 1), fill=st.just(0)), st.permutations("tzyx"))
def test_the_box_is_in_x_y_z_whatever_the_axis_order(voxels: np.ndarray, order: list[str]) -> None:
    data = np.stack([voxels, np.zeros_like(voxels)])
    turned = data.transpose(["tzyx".index(d) for d in order])
    got = volume_statistics(turned, None, order)
    where = np.argwhere(voxels.transpose(2, 1, 0) != 0)
    expected = None if not len(where) else (*where.min(axis=0), *(where.max(axis=0) + 1))
    assert got.nonzero_box == expected
    assert_like_numpy(got, data)


def test_the_box_is_of_what_reads_as_nonzero() -> None:
    voxels = np.full((3, 4, 5), 1024, "u2")
    voxels[1, 2, 3] = 1025
    got = volume_statistics(voxels, Scaling(2.0, -2048.0), DISK)
    assert got.nonzero_box == (3, 2, 1, 4, 3, 2)
    assert (got.min, got.max) == (0.0, 2.0)


def test_nan_and_infinity_are_counted_and_nothing_else() -> None:
    voxels = np.zeros((3, 4, 5), "f4")
    voxels[1, 2, 3] = 6
    clean = volume_statistics(voxels, None, DISK)
    voxels[0, 0, 0], voxels[2, 3, 4] = np.nan, -np.inf
    got = volume_statistics(voxels, None, DISK)
    assert got.n_nonfinite == 2
    assert (got.min, got.max, got.mean) == (0.0, 6.0, pytest.approx(6 / 58))
    assert got.nonzero_box == clean.nonzero_box == (3, 2, 1, 4, 3, 2)


@pytest.mark.parametrize("scaling", [Scaling(0.0, 5.0), Scaling(math.nan, 0.0), Scaling(1.0, math.inf)])
def test_a_scaling_that_means_none_is_none(scaling: Scaling) -> None:
    voxels = np.arange(24, dtype="u1").reshape(2, 3, 4)
    assert volume_statistics(voxels, scaling, DISK).as_row() == volume_statistics(voxels, None, DISK).as_row()


def test_a_constant_volume_has_no_spread() -> None:
    for dtype in ("i2", "f4"):
        got = volume_statistics(np.full((2, 3, 4), 7, dtype), None, DISK)
        assert (got.min, got.max, got.mean, got.std, got.p50, got.histogram[0]) == (7, 7, 7, 0, 7, 24)


def test_more_voxels_than_one_step_give_the_same_numbers() -> None:
    voxels = np.sort(np.random.default_rng(3).normal(100, 40, 504_000)).reshape(70, 80, 90)
    for dtype in ("f4", "i2"):
        assert_like_numpy(volume_statistics(voxels.astype(dtype), None, DISK), voxels.astype(dtype))


def test_the_row_has_the_columns_of_the_volume_table() -> None:
    row = volume_statistics(np.ones((2, 3, 4), "i2"), None, DISK).as_row()
    assert set(row) <= set(OBS_SCHEMA.names)
    assert len(row["intensity_histogram"]) == 256
    assert row["nonzero_box"] == [0, 0, 0, 4, 3, 2]
    assert all(isinstance(v, float | int | list) for v in row.values())


@pytest.mark.parametrize(
    ("voxels", "dims"),
    [
        (np.zeros((2, 2, 2), "c8"), DISK),
        (np.zeros((0, 2, 2), "i2"), DISK),
        (np.zeros((2, 2, 2), "i2"), ("t", "y", "x")),
        (np.zeros((2, 2, 2), "i2"), ("t", "z", "y", "x")),
    ],
    ids=["complex", "empty", "no z", "too many names"],
)
def test_what_is_no_volume_is_refused(voxels: np.ndarray, dims: tuple[str, ...]) -> None:
    with pytest.raises(FormatError):
        volume_statistics(voxels, None, dims)
