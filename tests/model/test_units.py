"""Grids whose affines are in different units of length are told apart, never taken for one another."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import AlignmentError, GeometryError

SHAPE = (6, 5, 4)


def image(unit: str, spacing: float) -> nib.Nifti1Image:
    voxels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3).astype("u1")
    made = nib.Nifti1Image(voxels, np.diag([spacing, spacing, spacing, 1.0]))
    made.header.set_xyzt_units(unit, "sec")
    return made


@pytest.fixture
def radi(tmp_path: Path) -> RadiObject:
    """One grid, said in millimetres by the image and in micrometres by its mask."""
    sources = {"CT": [(image("mm", 1.0), "a")], "seg": [(image("micron", 1000.0), "a")]}
    return RadiObject.from_niftis(tmp_path / "study", sources, labels=["seg"], progress=False)


@pytest.mark.parametrize("grid", ["error", "first"])
def test_samples_of_two_units_are_refused(radi: RadiObject, grid: str) -> None:
    ml = pytest.importorskip("radiobject.ml")
    with pytest.raises(AlignmentError, match=r"a_CT and a_seg.*one unit of length"):
        ml.PatchPlan(ml.SampleSpec("CT", "seg", grid=grid), radi)


def test_channels_of_two_units_are_refused(radi: RadiObject) -> None:
    pytest.importorskip("monai")
    from radiobject.ml.monai import sliding_window

    with pytest.raises(AlignmentError, match=r"expected an affine in um.*got one in mm"):
        sliding_window([radi.seg.iloc[0], radi.CT.iloc[0]], lambda windows: windows[:, :1], 2)


def test_an_array_on_a_grid_of_another_unit_is_refused(radi: RadiObject) -> None:
    pytest.importorskip("xarray")
    with pytest.raises(GeometryError, match=r"expected a grid in um.*got one in mm"):
        radi.seg.to_xarray(grid=radi.CT.iloc[0])


def test_an_array_on_a_grid_of_its_own_unit_has_its_values(radi: RadiObject) -> None:
    pytest.importorskip("xarray")
    found = radi.seg.to_xarray(grid=radi.seg.iloc[0])
    np.testing.assert_array_equal(found[0].values, radi.seg.iloc[0].to_numpy())
    assert found.coords["x"].attrs["units"] == "um"


def test_itk_lengths_are_millimetres(radi: RadiObject, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    volume = radi.seg.iloc[0].slicer[2:]
    volume.to_nifti(tmp_path / "a.nii")
    theirs, ours = sitk.ReadImage(str(tmp_path / "a.nii")), volume.to_sitk()
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), rtol=1e-6)
