"""Units of length: grids in different ones are told apart, and what says mm means mm in each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.errors import AlignmentError, GeometryError, IndexingError
from tests.command import Outcome

SHAPE = (6, 5, 4)


def image(unit: str, spacing: float, origin: float = 0.0) -> nib.Nifti1Image:
    voxels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3).astype("u1")
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    made = nib.Nifti1Image(voxels, affine)
    made.header.set_xyzt_units(unit, "sec")
    return made


@pytest.fixture
def radi(tmp_path: Path) -> RadiObject:
    """One grid, said in millimetres by the image and in micrometres by its mask."""
    sources = {"CT": [(image("mm", 1.0), "a")], "seg": [(image("micron", 1000.0), "a")]}
    return RadiObject.from_niftis(tmp_path / "study", sources, labels=["seg"], progress=False)


@pytest.mark.parametrize("grid", ["error", "first"])
def test_samples_of_two_units_are_refused(radi: RadiObject, grid: str) -> None:
    pytest.importorskip("torch")
    from radiobject import ml

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


@pytest.fixture(params=["mm", "micron", "meter"])
def block(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    """The same voxels at one place, 2 mm wide, from (10, 10, 10) mm on."""
    per = {"mm": 1.0, "micron": 1e3, "meter": 1e-3}[request.param]
    sources = {"CT": [(image(request.param, 2.0 * per, 10.0 * per), "a")]}
    return RadiObject.from_niftis(tmp_path / "study", sources, progress=False).CT.iloc[0]


def test_planes_are_picked_by_millimetres(block: Volume) -> None:
    np.testing.assert_array_equal(block.axial(mm=14.0), block.axial(2))
    with pytest.raises(IndexingError, match=r"expected 10.0 to 16.0 mm, got 14000"):
        block.axial(mm=14_000.0)


def test_a_region_in_millimetres_is_one(block: Volume) -> None:
    found = block.read_mm((14.0, 14.0, 14.0), 6.0, order=0)
    np.testing.assert_array_equal(found, block[1:4, 1:4, 1:4])


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_one_grid_is_within_a_thousandth_of_a_millimetre(unit: str, tmp_path: Path) -> None:
    per = {"mm": 1.0, "micron": 1e3, "meter": 1e-3}[unit]
    for moved, same in ((0.9, False), (0.0005, True)):
        pair = [(image(unit, 2.0 * per, at * per), s) for at, s in ((0.0, "a"), (moved, "b"))]
        found = RadiObject.from_niftis(tmp_path / f"{same}", {"CT": pair}, progress=False)
        assert found.CT.same_grid is same


@pytest.fixture
def moved(tmp_path: Path) -> RadiObject:
    """Voxels of 0.25 um; the second image, and the masks, three of them further on."""
    here, there = (image("micron", 0.25, at) for at in (0.0, 0.75))
    sources = {"EM": [(here, "a"), (there, "b")], "seg": [(there, "a"), (there, "b")]}
    return RadiObject.from_niftis(tmp_path / "study", sources, labels=["seg"], progress=False)


def test_a_voxel_is_a_voxel_however_small(moved: RadiObject) -> None:
    assert not moved.EM.same_grid
    assert moved.seg.same_grid
    with pytest.raises(AlignmentError, match=r"expected one grid, got corners 0.00075 mm apart"):
        moved.EM.stats_by(moved.seg, progress=False)


def test_small_voxels_of_two_grids_are_no_array(moved: RadiObject) -> None:
    pytest.importorskip("xarray")
    with pytest.raises(AlignmentError, match=r"1 of 2 volumes on others \(up to 0.00075 mm apart\): b_EM"):
        moved.EM.to_xarray()
    with pytest.raises(
        AlignmentError, match=r"'a_EM' and 'a_seg': expected one grid for the volumes of a row"
    ):
        moved.to_xarray(grid="index")
    found = moved.EM.to_xarray(grid="index")
    np.testing.assert_array_equal(found.radi.affine[:, 0, 3], [0.0, 0.75])


def test_small_voxels_of_two_grids_are_no_sample(moved: RadiObject) -> None:
    pytest.importorskip("torch")
    from radiobject import ml
    from radiobject.ml.lazy_tensor import refuse_other_grids

    with pytest.raises(AlignmentError, match=r"1 of 2 samples: a_EM and a_seg.*up to 0.00075 mm apart"):
        ml.PatchPlan(ml.SampleSpec("EM", "seg"), moved)
    with pytest.raises(AlignmentError, match=r"a_seg as a channel beside a_EM.*up to 0.00075 mm apart"):
        refuse_other_grids([moved.EM.iloc[0], moved.seg.iloc[0]])


def test_small_voxels_of_two_grids_are_no_case(moved: RadiObject, tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match=r"'a_seg': expected the grid of 'a_EM'.*up to 0.00075 mm away"):
        moved.export(tmp_path / "task", "msd", images=["EM"], labels="seg", progress=False)


def test_a_report_tells_of_small_voxels_of_two_grids(moved: RadiObject) -> None:
    found = moved.report().findings
    off = found[found["kind"] == "grid"]
    assert dict(zip(off["obs_id"], off["message"], strict=True)) == {
        "a_seg": "corners 0.00075 mm apart: a_EM in EM"
    }


def test_samples_are_spaced_and_placed_in_millimetres(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from radiobject import ml

    sources = {"CT": [(image("mm", 2.0, 10.0), "a"), (image("micron", 2000.0, 10_000.0), "b")]}
    radi = RadiObject.from_niftis(tmp_path / "study", sources, progress=False)
    for spec in (ml.SampleSpec("CT", patch_size=2), ml.SampleSpec("CT", patch_size=2, spacing=1.0)):
        plan = ml.PatchPlan(spec, radi, ml.Grid(), shuffle=False)
        one, other = (list(part) for part in _by_subject(ml.RadiLoader(plan)))
        assert len(one) == len(other) > 1
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours["image"], theirs["image"])
            np.testing.assert_allclose(ours["affine"], theirs["affine"], rtol=1e-12)


def _by_subject(loader: Any) -> Any:
    batches = list(loader)
    return [[b for b in batches if b["obs_subject_id"] == [name]] for name in "ab"]


def test_images_of_other_libraries_are_placed_in_millimetres(block: Volume) -> None:
    pytest.importorskip("monai")
    pytest.importorskip("torchio")
    from radiobject.ml.monai import RadiReader
    from radiobject.ml.torchio import scalar_image

    _, meta = RadiReader().get_data(block)
    assert meta["affine"].flags.writeable  # torch warns of arrays that are not
    for affine in (meta["affine"], scalar_image(block).affine):
        np.testing.assert_allclose(affine, [[2, 0, 0, 10], [0, 2, 0, 10], [0, 0, 2, 10], [0, 0, 0, 1]])


def test_the_summary_is_in_millimetres(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    RadiObject.from_niftis(tmp_path / "study", {"CT": [(image("micron", 50.0), "a")]}, progress=False)
    assert "0.05x0.05x0.05" in cli("info", tmp_path / "study").out
