"""Volumes in memory: they do what stored ones do, and share nothing with what they were made of."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject import (
    OrientationConfig,
    RadiObject,
    Volume,
    WriteConfig,
    configure,
    measure,
)
from radiobject.errors import (
    CapabilityError,
    GeometryError,
)

AFFINE = np.array([[0, 0, 3.0, -7], [-2.0, 0, 0, 30], [0, 2.5, 0, 4], [0, 0, 0, 1]])
"""x runs to P, y to S, z to R."""


def voxels(*shape: int, dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def scan(tmp_path: Path, make_nifti) -> Path:
    """A CT as scanners write it: scaled integers, an extension, bytes after the voxels."""
    content = make_nifti(
        voxels(6, 5, 4, dtype="u2"),
        affine=AFFINE,
        extensions=[(6, b"a comment")],
        fields={"scl_slope": 1, "scl_inter": -1024, "descrip": b"scanner 7", "xyzt_units": 2},
        tail=b"left over",
    )
    path = tmp_path / "sub-1_CT.nii.gz"
    path.write_bytes(gzip.compress(content))
    return path


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_a_nifti_file_in_memory_is_what_ingest_would_make_of_it(scan, tmp_path, suffix) -> None:
    held = Volume.from_nifti(scan)
    stored = RadiObject.from_niftis(tmp_path / "study", {"CT": [scan]}).CT.iloc[0]
    assert (held.dtype, held.stored_dtype, held.meta) == (stored.dtype, stored.stored_dtype, stored.meta)
    assert held.dtype == np.int16
    np.testing.assert_array_equal(held[...], stored[...])
    assert held.orientation_info == stored.orientation_info
    for name, vol in {
        "held.nii.gz": held,
        "alone.nii.gz": Volume.from_nifti(scan, tmp_path / f"alone{suffix}"),
    }.items():
        vol.to_nifti(tmp_path / name)
        assert content_of(tmp_path / name) == content_of(scan)


@pytest.mark.no_backend(reason="voxels in memory")
def test_an_image_of_nibabel_keeps_what_its_file_has(scan, tmp_path) -> None:
    Volume.from_nifti(nibabel.load(scan)).to_nifti(tmp_path / "back.nii.gz")
    assert content_of(tmp_path / "back.nii.gz") == content_of(scan)


def test_voxels_are_turned_on_the_way_in_when_asked(scan, tmp_path, suffix) -> None:
    plain = Volume.from_nifti(scan)
    assert plain.axcodes == ("P", "S", "R")
    asked = [
        Volume.from_nifti(scan, reorient=True),
        Volume.from_nifti(scan, tmp_path / f"vol{suffix}", reorient="RAS"),
        Volume.from_nifti(scan, write=WriteConfig(orientation=OrientationConfig(reorient_on_load=True))),
    ]
    with configure(write=WriteConfig(orientation=OrientationConfig(True, "LPS"))):
        asked.append(Volume.from_nifti(scan))
        assert Volume.from_nifti(scan, reorient=False).axcodes == plain.axcodes
    assert ["".join(v.axcodes) for v in asked] == ["RAS", "RAS", "RAS", "LPS"]
    for vol in asked:
        np.testing.assert_array_equal(vol[...], plain.reorient(vol.axcodes)[...])
        np.testing.assert_allclose(vol.affine, plain.reorient(vol.axcodes).affine)
    with pytest.raises(GeometryError, match="RAX"):
        Volume.from_nifti(scan, reorient="RAX")


def test_volumes_without_a_study_pickle(scan, tmp_path, suffix) -> None:
    place = tmp_path / f"scan{suffix}"
    for vol in (
        Volume.from_nifti(scan),
        Volume.from_nifti(scan, place),
        Volume(place),
        Volume.from_nifti(scan).slicer[1:4].resample(spacing=2.0),
    ):
        back = pickle.loads(pickle.dumps(vol))
        np.testing.assert_array_equal(back[...], vol[...])
        np.testing.assert_array_equal(back.affine, vol.affine)
        assert (back.meta, back.obs_id) == (vol.meta, "")


def test_a_volume_in_memory_does_what_a_stored_one_does(scan, tmp_path, suffix) -> None:
    held, stored = Volume.from_nifti(scan), Volume.from_nifti(scan, tmp_path / f"scan{suffix}")
    views = {
        "part": lambda v: v.slicer[1:5, ::-1, 1:],
        "turned": lambda v: v.reorient("RAS"),
        "coarse": lambda v: v.resample(spacing=4.0),
        "all": lambda v: v.slicer[1:5].reorient("LPS").resample(spacing=(2, 2, 2), order=0),
    }
    for name, view in views.items():
        one, two = view(held), view(stored)
        np.testing.assert_array_equal(one[...], two[...])
        np.testing.assert_array_equal(one.affine, two.affine)
        for vol, path in ((one, tmp_path / f"{name}-1.nii"), (two, tmp_path / f"{name}-2.nii")):
            vol.to_nifti(path)
        assert (tmp_path / f"{name}-1.nii").read_bytes() == (tmp_path / f"{name}-2.nii").read_bytes()
    center = held.affine[:3] @ [2, 2, 2, 1]
    np.testing.assert_array_equal(held.read_mm(center, 6.0), stored.read_mm(center, 6.0))
    np.testing.assert_array_equal(held.axial(display=True), stored.axial(display=True))
    assert held.get_statistics([5, 50]) == pytest.approx(stored.get_statistics([5, 50]))
    assert held.compute_histogram()[0].tolist() == stored.compute_histogram()[0].tolist()
    assert repr(held) == repr(stored)
    np.testing.assert_array_equal(np.asarray(held.to_nibabel().dataobj), stored[...])
    assert held.tile_orientation == stored.tile_orientation
    with pytest.raises(CapabilityError, match="level"):
        held._handle.read(held._handle.spec.shard_boxes()[0], 1)


@pytest.mark.no_backend(reason="voxels in memory")
def test_a_volume_in_memory_goes_to_simpleitk(scan) -> None:
    sitk = pytest.importorskip("SimpleITK")
    held = Volume.from_nifti(scan)
    image = held.to_sitk()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), held[...].T)


@pytest.mark.no_backend(reason="voxels in memory")
def test_reads_of_a_volume_in_memory_are_counted() -> None:
    vol = Volume.from_numpy(voxels(8, 8, 8))
    with measure() as cost:
        vol[2:4, 2:4, 2:4]
    assert cost["bytes_used"] == 2 * 2 * 2 * 2


@pytest.mark.no_backend(reason="voxels in memory")
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_caller_may_go_on_writing_to_the_array(order) -> None:
    array = np.array(voxels(4, 5, 6), order=order)
    before = array.copy()
    held = Volume.from_numpy(array)
    through_image = Volume.from_nifti(nibabel.Nifti1Image(array, np.eye(4)))
    view = Volume.from_numpy(array[::2, :, 1:])
    array[...] = -1
    np.testing.assert_array_equal(held[...], before)
    np.testing.assert_array_equal(through_image[...], before)
    np.testing.assert_array_equal(view[...], before[::2, :, 1:])
    held[...][...] = -1
    with pytest.raises(ValueError, match="read-only"):
        held.array[...] = -1
    np.testing.assert_array_equal(held.to_numpy(), before)
