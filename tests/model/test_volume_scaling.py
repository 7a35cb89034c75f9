"""What reads return for each slope, intercept and stored type; labels and raw reads are never scaled."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.format.meta import scaled_dtype

IN_PLACE = True

RAMP = np.arange(60).reshape(3, 4, 5)


@pytest.fixture
def scaled(tmp_path: Path, make_nifti):
    """The volume of a NIfTI file with these stored values, slope and intercept."""

    def make(stored: np.ndarray, slope: float, inter: float, *, name: str = "ct", **options: Any) -> Volume:
        path = tmp_path / "sub-1.nii.gz"
        path.write_bytes(gzip.compress(make_nifti(stored, fields={"scl_slope": slope, "scl_inter": inter})))
        radi = RadiObject.from_niftis(tmp_path / "study", {name: [(path, "sub-1")]}, **options)
        return radi.collection(name).iloc[0]

    return make


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, -np.inf])
def test_a_slope_that_means_none_leaves_values_as_stored(scaled, slope) -> None:
    stored = RAMP.astype("i2")
    vol = scaled(stored, slope, 7.0)
    assert vol.dtype == np.int16
    np.testing.assert_array_equal(vol[...], stored)


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype"),
    [
        (RAMP.astype("u2") * 60, 1, -1024, "int16"),  # CT in Hounsfield units
        (RAMP.astype("i2"), 1, -1024, "int16"),
        (RAMP.astype("u1"), 2, 0, "int8"),
        (RAMP.astype("u1") + 100, 1, 0, "uint8"),  # identity
        (RAMP.astype("u1") + 100, 1, 1, "int16"),
        (RAMP.astype("i2"), -1, 0, "int8"),
        (RAMP.astype("i2") * 500, 2, 0, "int32"),
        (RAMP.astype("i4") * 10**7, 100, 0, "int64"),
        (RAMP.astype("i2"), 0.5, 0, "float32"),
        (RAMP.astype("u1"), 1, 0.25, "float32"),
        (RAMP.astype("i4"), 0.5, 0, "float64"),
        (RAMP.astype("u8"), 0.5, 0, "float64"),
        (RAMP.astype("f4"), 2, 1, "float64"),
        (RAMP.astype("f8"), 2, 1, "float64"),
    ],
)
def test_the_type_holds_the_scaled_range(scaled, engine, stored, slope, inter, dtype) -> None:
    if engine == "files" and dtype.startswith("int"):
        # nobody has read the voxels: it holds whatever could be stored
        info = np.iinfo(stored.dtype)
        dtype = scaled_dtype(stored.dtype, slope, inter, info.min, info.max)
    vol = scaled(stored, slope, inter)
    assert (vol.stored_dtype, vol.dtype) == (stored.dtype, np.dtype(dtype))
    expected = stored.astype("f8") * slope + inter
    got = vol[...]
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    if np.dtype(dtype).kind == "i":
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(vol[1, ::-1, 2], got[1, ::-1, 2])
    np.testing.assert_array_equal(np.asarray(vol.slicer[:, 1:3]), got[:, 1:3])


def test_raw_gives_what_is_stored(scaled) -> None:
    stored = RAMP.astype("u2")
    vol = scaled(stored, 0.5, 3)
    raw = vol.to_numpy(raw=True)
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw, stored)
    np.testing.assert_array_equal(vol.slicer[1:].to_numpy(raw=True), stored[1:])


@pytest.mark.parametrize("how", [{"name": "seg"}, {"labels": ["ct"]}, {"labels": {"ct": {1: "liver"}}}])
def test_labels_are_never_scaled(scaled, engine, how) -> None:
    stored = RAMP.astype("u1")
    vol = scaled(stored, 2, 1, **how)
    assert vol.dtype == np.uint8
    np.testing.assert_array_equal(vol[...], stored)
    assert vol.metadata["intensity_max"] == (None if engine == "files" else 59.0)


def test_a_scaled_image_agrees_with_nibabel_and_keeps_its_integers(scaled, tmp_path) -> None:
    vol = scaled(RAMP.astype("i2"), 1.5, -3)
    reference = nibabel.load(tmp_path / "sub-1.nii.gz")
    np.testing.assert_allclose(vol[...], reference.get_fdata(), rtol=1e-6)
    vol.to_nifti(tmp_path / "back.nii.gz")
    back = nibabel.load(tmp_path / "back.nii.gz")
    assert (back.dataobj.slope, back.dataobj.inter) == (1.5, -3.0)
    np.testing.assert_array_equal(back.dataobj.get_unscaled(), reference.dataobj.get_unscaled())
