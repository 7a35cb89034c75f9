"""`da.radi.affine` is that of the voxels that are left, whatever was done to the array since."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy.grids import OBLIQUE, affines, slices
from radiobject import Volume
from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine

SHAPE = (9, 7, 5)


def volume(affine: np.ndarray = OBLIQUE, **options: object) -> Volume:
    return Volume.from_numpy(np.arange(9 * 7 * 5, dtype="i2").reshape(SHAPE), affine, **options)


def volume_array(affine: np.ndarray) -> xr.DataArray:
    return volume(affine).to_xarray()


def affine_of(array: xr.DataArray) -> np.ndarray:
    return array.radi.affine


@settings(deadline=None)
@given(affines())
def test_of_a_whole_volume_it_is_the_volumes_to_the_bit(affine: np.ndarray) -> None:
    vol = volume(affine)
    assert (vol.to_xarray().radi.affine == vol.affine).all()
    assert vol.to_xarray().radi.spacing == vol.spacing
    assert vol.to_xarray().radi.axcodes == vol.axcodes


@settings(deadline=None)
@given(affines(), st.lists(st.tuples(*[slices(n) for n in (9, 7, 5)]), min_size=1, max_size=3))
def test_slices_strides_and_flips_are_those_of_slicer(
    affine: np.ndarray, keys: list[tuple[slice, ...]]
) -> None:
    vol = volume(affine)
    array = vol.to_xarray()
    for key in keys:
        if any(len(range(n)[s]) == 0 for n, s in zip(vol.shape, key, strict=True)):
            break
        vol, array = vol.slicer[key], array[key]
    expected = vol.affine
    for axis, n in enumerate(vol.shape):
        if n == 1:  # a single voxel is as thick as it was stored, however many were left out beside it
            expected[:3, axis] = affine[:3, axis]
    assert (array.radi.affine == expected).all()


@given(st.permutations("xyz"), st.integers(0, 6))
def test_transposing_and_taking_an_axis_away_keep_the_world(order: list[str], index: int) -> None:
    vol = volume()
    array = vol.to_xarray().transpose(*order)
    assert (array.radi.affine == OBLIQUE).all()
    plane = array.isel(y=index)
    assert (plane.radi.affine == Affine(OBLIQUE).crop((0, index, 0)).matrix).all()


def test_selections_by_millimetre_have_the_affine_of_their_voxels() -> None:
    vol = volume(np.diag([-2.0, 2.0, 3.0, 1.0]))
    part = vol.to_xarray().sel(x=slice(-4, -12), y=[4, 8, 12])
    assert (part.radi.affine == vol.slicer[2:7, 2:7:2].affine).all()
    nearest = vol.to_xarray().sel(z=7.4, method="nearest")
    assert nearest.radi.affine[2, 3] == 6


def test_arithmetic_masks_and_reductions_keep_it() -> None:
    array = volume().to_xarray()
    for made in (array * 2 - array, array.where(array > 10), array > 3, array.astype("f4"), array.fillna(0)):
        assert (made.radi.affine == OBLIQUE).all()
    timed = Volume.from_numpy(np.zeros((*SHAPE, 4)), OBLIQUE, time_step=2.0).to_xarray()
    assert (timed.mean("t").radi.affine == OBLIQUE).all()
    assert (timed.isel(t=2).radi.affine == OBLIQUE).all()


def test_arrays_of_equal_grids_join_whichever_way_they_are_stored() -> None:
    vol = volume(np.diag([2.0, 2.0, 3.0, 1.0]))
    flipped = vol.reorient("LAS").to_xarray()
    both = vol.to_xarray() - flipped  # xarray aligns by coordinates
    assert both.shape == SHAPE
    assert not both.any()


def test_means_of_blocks_and_points_between_voxels_have_their_own() -> None:
    array = volume().to_xarray()
    coarse = array.isel(x=slice(8), y=slice(6), z=slice(4)).coarsen(x=2, y=2, z=2).mean()
    expected = OBLIQUE @ np.diag([2, 2, 2, 1.0])
    expected[:3, 3] = Affine(OBLIQUE).apply((0.5, 0.5, 0.5))
    assert np.abs(coarse.radi.affine - expected).max() < 1e-7
    fine = array.interp(x=np.linspace(float(array.x[0]), float(array.x[-1]), 17))
    assert np.abs(fine.radi.affine - OBLIQUE @ np.diag([0.5, 1, 1, 1.0])).max() < 1e-7


def test_volumes_of_different_grids_behind_each_other_keep_their_own() -> None:
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += [0, 0, 5]
    same = xr.concat([volume().to_xarray(), volume().to_xarray()], dim="obs_id")
    assert (same.radi.affine == OBLIQUE).all()
    one, two = (a.drop_vars(["x", "y", "z", "direction"]) for a in map(volume_array, (OBLIQUE, shifted)))
    apart = xr.concat([one, two], dim="obs_id").assign_coords(x=range(9), y=range(7), z=range(5))
    assert (apart[:, ::2].radi.affine == [volume(a).slicer[::2].affine for a in (OBLIQUE, shifted)]).all()
    assert (apart[1].radi.affine == shifted).all()
    assert apart[:0].radi.affine.shape == (0, 4, 4)
    # by coordinates: the union of both grids is uneven, and that is said
    apart = xr.concat([volume_array(OBLIQUE), volume_array(shifted)], dim="obs_id", join="outer")
    with pytest.raises(GeometryError, match="even steps"):
        affine_of(apart)


def test_arrays_of_two_grids_combined_have_none_and_say_so() -> None:
    array = volume().to_xarray()
    turned = OBLIQUE.copy()
    turned[:3, :3] = turned[:3, :3] @ np.linalg.qr(np.eye(3) + 0.01)[0]
    other = volume(turned).to_xarray().assign_coords({a: array[a].variable for a in "xyz"})
    with pytest.raises(GeometryError, match=r"'direction', because 'x' is in mm.*assign that of the one"):
        affine_of(array + other)
    with pytest.raises(GeometryError, match="'direction'"):
        affine_of(array.drop_vars("direction"))
    with pytest.raises(GeometryError, match="neither"):
        affine_of(array.drop_vars(["direction", "affine"]).assign_coords(x=range(9), y=range(7), z=range(5)))
    mended = (array + other).assign_coords(direction=array.direction, affine=array.affine)
    assert (mended.radi.affine == OBLIQUE).all()


def test_without_the_stored_grid_the_millimetres_still_tell() -> None:
    array = volume().to_xarray().drop_vars("affine")
    assert np.abs(array[::-1, 1::2].radi.affine - volume().slicer[::-1, 1::2].affine).max() < 1e-7
    with pytest.raises(GeometryError, match="two voxels along z"):
        affine_of(array[..., :1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.isel(x=[0, 1, 5]), "'x' of DataArray 'volume': expected even steps"),
        (lambda a: a.isel(x=[]), "'x' of DataArray 'volume': expected finite"),
        (lambda a: a.max("z"), r"coordinates x, y and z, got none of \['z'\]"),
        (lambda a: a.assign_coords(affine="[[1]]"), "'affine' of DataArray 'volume': expected 4x4"),
        (lambda a: a.assign_coords(direction="no"), "'direction' of DataArray 'volume': .*3x3"),
        (lambda a: a.pad(x=1), "'x' of DataArray 'volume': expected finite"),
    ],
)
def test_where_it_cannot_be_known_the_error_says_why(change, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        affine_of(change(volume().to_xarray()))


def saved(array: xr.DataArray, path: Path, engine: str) -> xr.DataArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what zarr-python says of its own format does not matter here
        if engine == "zarr":
            array.to_zarr(path)
            return xr.open_zarr(path, chunks=None)[array.name]
        array.to_netcdf(path, engine=engine)
        return xr.open_dataset(path, engine=engine)[array.name]


@pytest.mark.parametrize("kind", ["zarr", "scipy"])
def test_it_survives_files(tmp_path: Path, kind: str) -> None:
    array = volume(kind="label").to_xarray()[2:, ::-1, 3]
    again = saved(array, tmp_path / "a", kind)
    assert (again.radi.affine == array.radi.affine).all()
    assert (again.radi.to_volume().affine == array.radi.affine).all()
    assert again.attrs["kind"] == "label"
    again.close()


@pytest.mark.parametrize(
    "key", [np.s_[2:5], np.s_[:, ::-1], np.s_[1:8:2, :, 1:]], ids=["part", "flipped", "strided"]
)
def test_arrays_of_one_grid_join_on_the_voxels_that_both_have(key) -> None:
    whole, part = volume().to_xarray(), volume().slicer[key].to_xarray()
    assert (whole - part).shape == part.shape
    assert not (whole - part).any()
    turned = volume().reorient("LPS").to_xarray()
    assert not (turned - part).any()
    assert (turned - part).sizes == part.sizes
