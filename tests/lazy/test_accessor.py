"""`da.radi`: back to a Volume or a NIfTI file, and turned without a read."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import xarray as xr

from lazy.grids import OBLIQUE
from radiobject import RadiObject, Volume, measure
from radiobject.errors import FormatError, GeometryError, SelectionError
from radiobject.writing.objects import from_object

VOXELS = np.arange(9 * 7 * 5, dtype="i2").reshape(9, 7, 5)
PIR = np.array([[0, 0, 2.0, -5], [-1, 0, 0, 7], [0, -3, 0, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [np.diag([-2.0, 2, 3, 1]), PIR, OBLIQUE], ids=["LAS", "PIR", "oblique"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
@pytest.mark.parametrize("chunks", [None, "chunk"])
def test_reorient_is_the_volumes_and_reads_nothing(study, affine, codes: str, chunks) -> None:
    volume = study({"T1w": {"a": (VOXELS, affine)}}).T1w.iloc[0]
    turned = volume.reorient(codes)
    with measure() as m:
        array = volume.to_xarray(chunks).radi.reorient(codes)
        assert "".join(array.radi.axcodes) == codes
    assert m["lazy_reads"] == 0
    assert array.dims == ("x", "y", "z")
    assert np.abs(array.radi.affine - turned.affine).max() < 1e-9
    assert np.array_equal(array, turned[...])
    part = array[2:, ::-1, [1, 0]]
    assert np.array_equal(part, turned[2:, ::-1, [1, 0]])
    assert np.array_equal(array.radi.reorient("".join(volume.axcodes)), VOXELS)


def test_reorient_leaves_other_axes_where_they_are(study) -> None:
    radi = study({"bold": {s: (np.stack([VOXELS, VOXELS + 1], -1), PIR) for s in "ab"}}, axis4="time")
    array = radi.bold.to_xarray().radi.reorient("RAS")
    assert array.dims == ("obs_id", "x", "y", "z", "t")
    expected = radi.bold.iloc[1].reorient("RAS")
    assert np.array_equal(array[1], expected[...])
    assert (array.radi.affine == expected.affine).all()
    assert array.obs_subject_id.to_numpy().tolist() == ["a", "b"]


def test_reorient_of_a_plane_or_to_no_orientation_is_refused() -> None:
    array = Volume.from_numpy(VOXELS, OBLIQUE).to_xarray()
    with pytest.raises(GeometryError, match=r"reorient of DataArray 'volume': .*no axis y"):
        array.isel(y=3).radi.reorient("RAS")
    with pytest.raises(GeometryError, match="axis codes"):
        array.radi.reorient("RAR")


def test_a_volume_comes_back_as_it_was(study) -> None:
    radi = study(
        {"seg": {"s": [(VOXELS.astype("u2"), OBLIQUE)]}}, labels={"seg": {1: "grey matter", 2: "Läsion"}}
    )
    volume = radi.seg.iloc[0]
    array = volume.to_xarray()
    assert array.radi.labels == {1: "grey matter", 2: "Läsion"}
    again = array.radi.to_volume()
    assert (again.obs_id, again.obs_subject_id) == ("s_seg", "s")
    assert (again.affine == volume.affine).all()
    assert (again.meta.kind, again.meta.labels) == ("label", volume.meta.labels)
    assert again.dtype == np.uint16
    assert np.array_equal(again[...], volume[...])


def test_time_steps_follow_strides(study) -> None:
    volume = Volume.from_numpy(np.zeros((3, 4, 5, 9), "f4"), OBLIQUE, time_step=0.7)
    array = volume.to_xarray()
    assert array.radi.to_volume().meta.time_step == 0.7
    for key in (slice(None, None, 3), slice(2, 3), slice(None, None, -2)):
        expected = volume.slicer[..., key].meta
        found = array.isel(t=key).radi.to_volume().meta
        assert found.time_step == expected.time_step
        assert found.dims == expected.dims
    assert array.isel(t=4).radi.to_volume().meta.dims == ("z", "y", "x")
    assert array.isel(t=[0, 1, 5]).radi.to_volume().meta.time_step is None
    assert array.mean("t").radi.to_volume().meta.time_step is None


def test_a_plane_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    volume = Volume.from_numpy(VOXELS, OBLIQUE)
    plane = volume.to_xarray().isel(y=3)
    plane.radi.to_nifti(tmp_path / "plane.nii.gz")
    image = nibabel.load(tmp_path / "plane.nii.gz")
    assert image.shape == (9, 1, 5)
    assert np.allclose(image.affine, volume.slicer[:, 3:4].affine, atol=1e-5)
    assert np.array_equal(np.asarray(image.dataobj)[:, 0], VOXELS[:, 3])


def test_results_of_computing_are_volumes_too(tmp_path: Path, study) -> None:
    volume = study({"T1w": {"a": (VOXELS, OBLIQUE)}}).T1w.iloc[0]
    for chunks in (None, "chunk"):
        array = volume.to_xarray(chunks)
        smooth = ((array - array.mean()) / array.std()).transpose("z", "x", "y").radi.to_volume()
        assert smooth.dtype == np.float64
        assert np.allclose(smooth[...], (VOXELS - VOXELS.mean()) / VOXELS.std())
        assert (smooth.affine == OBLIQUE).all()
        assert np.array_equal((array > 9).radi.to_volume()[...], (VOXELS > 9).astype("u1"))


def test_ingest_takes_a_sliced_oblique_array_where_it_lies(study, tmp_path: Path) -> None:
    volume = study({"T1w": {"a": (VOXELS, OBLIQUE)}}).T1w.iloc[0]
    part = volume.to_xarray()[::2, ::-1, 1:]
    radi = RadiObject.from_niftis(tmp_path / "again", {"T1w": [(part.transpose("z", "y", "x"), "a")]})
    assert (radi.T1w.iloc[0].affine == volume.slicer[::2, ::-1, 1:].affine).all()
    assert np.array_equal(radi.T1w.iloc[0][...], VOXELS[::2, ::-1, 1:])
    timed = Volume.from_numpy(np.zeros((3, 4, 5, 6)), OBLIQUE, time_step=2.0).to_xarray()
    assert from_object(timed, "a").meta.time_step == 2.0
    with pytest.raises(ValueError, match=r"a: .*'direction', because 'x' is in mm"):
        from_object(part.drop_vars("direction"), "a")


def test_ingest_leaves_coordinates_of_others_alone() -> None:
    places = {"x": np.arange(9) * 2.0, "y": range(7), "z": range(5)}
    others = {"direction": ("t", [0.5, 0.7]), "affine": 3}
    foreign = xr.DataArray(VOXELS[..., None].repeat(2, -1), dims=("x", "y", "z", "t"), coords=places | others)
    assert np.diag(from_object(foreign, "a").meta.affine.matrix).tolist() == [2, 1, 1, 1]


def test_units_other_than_millimetres_stay_themselves(study) -> None:
    array = Volume.from_numpy(VOXELS, OBLIQUE).to_xarray()
    for name in ("affine", "x", "y", "z"):
        array[name].attrs["units"] = "um"
    assert array.radi.to_volume().meta.space_unit == "um"
    assert np.allclose(from_object(array, "a").meta.affine.matrix[:3], OBLIQUE[:3] / 1000)
    array["affine"].attrs["units"] = "parsec"
    with pytest.raises(ValueError, match=r"a: expected units one of mm, .*got 'parsec'"):
        from_object(array, "a")


def test_what_is_no_single_volume_is_refused(study) -> None:
    turned = OBLIQUE @ np.diag([1, 1, 2.0, 1])
    array = study({"T1w": {"a": (VOXELS, OBLIQUE), "b": (VOXELS, turned)}}).T1w.to_xarray(grid="index")
    with pytest.raises(SelectionError, match=r"axes x, y, z.*got obs_id too.*da.isel\(obs_id=0\)"):
        array.radi.to_volume()
    with pytest.raises(SelectionError, match=r"2 volumes on grids of their own.*isel\(obs_id=0\)"):
        array.radi.reorient("RAS")
    assert (array[1].radi.to_volume().affine == turned).all()
    assert array[1].radi.to_volume().obs_id == "b_T1w"


def test_labels_that_are_not_ours_are_refused() -> None:
    array = Volume.from_numpy(VOXELS, kind="label").to_xarray()
    assert array.radi.labels == {}
    for wrong in ("{", "[[1]]", '[["a", "b", null]]', 7):
        with pytest.raises(FormatError, match="attribute 'labels' of DataArray 'volume'"):
            array.assign_attrs(labels=wrong).radi.labels  # noqa: B018


def test_foreign_arrays_have_no_place_until_they_are_given_one() -> None:
    foreign = xr.DataArray(VOXELS, dims=("x", "y", "z"))
    with pytest.raises(GeometryError, match="neither"):
        foreign.radi.to_volume()
    ours = Volume.from_numpy(VOXELS, OBLIQUE).to_xarray()
    assert (foreign.assign_coords(ours.coords).radi.affine == OBLIQUE).all()
