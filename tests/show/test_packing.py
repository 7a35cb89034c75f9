"""Packing: codes come back as they were, grids keep the field of view, and memory stays bounded."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiobject import Volume
from radiobject.geometry.affine import Affine
from radiobject.show.packing import Steps, coarse_grid, label_codes, packed, sampled, unpacked


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_codes_come_back(codes: np.ndarray) -> None:
    np.testing.assert_array_equal(unpacked(packed(codes), codes.shape), codes)


def test_smooth_voxels_take_less_than_deflate_alone() -> None:
    z, y, x = np.mgrid[:20, :30, :40]
    smooth = (100 + 40 * np.sin(x / 9) * np.cos(y / 7) + 30 * np.sin(z / 5)).astype(np.uint8)
    noisy = smooth + np.random.default_rng(0).integers(0, 4, smooth.shape, np.uint8)
    assert len(packed(noisy[None])) < 0.75 * len(zlib.compress(noisy.tobytes(), 9))


@given(
    hnp.arrays(st.sampled_from(["i2", "u1", "f4", "f8", "i8"]).map(np.dtype), 20),
    st.floats(-1e4, 1e4),
    st.floats(1e-2, 1e5),
)
def test_a_code_is_the_nearest_step(values: np.ndarray, low: float, width: float) -> None:
    steps = Steps.over(low, low + width, values.dtype)
    codes = steps.codes(values)
    shown = steps.low + codes.astype("f8") * steps.width
    wanted = np.clip(np.nan_to_num(values.astype("f8"), nan=steps.low), steps.low, steps.high)
    np.testing.assert_allclose(shown, wanted, atol=(0.5 + 1e-3) * steps.width + 1e-5 * abs(low))
    if steps.exact:
        inside = (values >= steps.low) & (values <= steps.high)
        np.testing.assert_array_equal(shown[inside], values[inside])


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 60)] * 3), st.tuples(*[st.floats(0.3, 9)] * 3), st.integers(1, 60_000))
def test_a_coarser_grid_has_the_same_edges(shape: Any, spacing: Any, most: int) -> None:
    volume = Volume.from_numpy(np.zeros(shape, "u1"), np.diag([*spacing, 1.0]))
    coarse, affine = coarse_grid(volume, most)
    assert np.prod(coarse) <= max(most, 1)
    for index in (-0.5, -0.5, -0.5), tuple(n - 0.5 for n in coarse):
        corner = volume.meta.affine.inverse().apply(affine.apply(index))
        edge = [-0.5] * 3 if index[0] < 0 else [n - 0.5 for n in shape]
        np.testing.assert_allclose(corner, edge, atol=1e-6)
    if np.prod(shape) <= most:
        assert (coarse, affine) == (volume.shape, volume.meta.affine)


def test_thick_slices_are_kept_while_thin_ones_grow() -> None:
    volume = Volume.from_numpy(np.zeros((200, 200, 20), "u1"), np.diag([1.0, 1.0, 6.0, 1.0]))
    assert coarse_grid(volume, 50 * 50 * 20)[0] == (50, 50, 20)


def test_coarser_voxels_are_means_and_labels_the_most_frequent() -> None:
    fine = np.zeros((8, 8, 8), "i2")
    fine[::2] = 100  # every second sheet: samples would be all or nothing
    image = Volume.from_numpy(fine)
    grid = (4, 4, 4), Affine(np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1.0]]))
    np.testing.assert_array_equal(sampled(image, grid), np.full((4, 4, 4), 50, "f4"))
    array = np.zeros((8, 8, 8), "u2")
    array[0:2, 0:2, 0:2] = 700
    array[0, 0, 0] = 3
    labels = Volume.from_numpy(array, kind="label")
    found = sampled(labels, grid)
    assert (found.dtype, int(found[0, 0, 0])) == (np.dtype("u2"), 700)
    assert set(np.unique(found)) == {0, 700}


def test_sampling_by_cubes_is_sampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = np.array([[0.9, -0.3, 0.1, 2], [0.3, 0.9, 0, -9], [-0.1, 0, 1.2, 3], [0, 0, 0, 1]])
    volume = Volume.from_numpy(np.random.default_rng(0).normal(size=(20, 30, 17)), turn)
    grid = (19, 22, 12), Affine(np.diag([1.1, 1.2, 1.3, 1.0]))
    whole = sampled(volume, grid)
    monkeypatch.setattr("radiobject.show.packing._TILE", 7)
    np.testing.assert_array_equal(sampled(volume, grid), whole)
    assert np.isnan(whole).any()
    assert np.isfinite(whole).any()


def test_more_than_256_labels_have_a_second_byte() -> None:
    known = np.arange(0, 3000, 5, dtype="u2")
    values = known[::-1].reshape(1, 10, 10, 6)
    codes = label_codes(values, known)
    assert (codes.shape, codes.dtype) == ((2, 10, 10, 6), np.dtype("u1"))
    np.testing.assert_array_equal(known[codes[0] + 256 * codes[1].astype(int)], values[0])
    few = label_codes(values[..., :2], known[480:])
    assert few.shape == (1, 10, 10, 2)
