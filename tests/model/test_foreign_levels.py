"""Levels that other programs wrote, and what is made of such images; and levels that are no halvings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from radiobject import RadiObject, Volume, WriteConfig
from radiobject.backends import get_backend
from radiobject.backends.base import Level, plan_array
from radiobject.errors import CapabilityError, FormatError
from radiobject.format.meta import VolumeMeta
from radiobject.format.ome import ome_attributes
from radiobject.geometry.affine import Affine
from radiobject.geometry.blocks import block_means
from radiobject.location import Location

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 1.9, 12.5], [0, 0, 0, 1]])


def foreign(folder: Path, *, offset: float = 0.0, levels: int = 3, t: bool = False) -> np.ndarray:
    """An OME-Zarr image whose levels are every second, fourth ... voxel, without the rest of odd lengths."""
    array = np.random.default_rng(3).integers(0, 999, (10, 9, 8)).astype("u2")  # z, y, x
    lead = ["t"] if t else []
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    datasets = []
    for k in range(levels):
        step = 2**k
        level = array[::step, ::step, ::step][: 10 // step, : 9 // step, : 8 // step]
        level = level[None][:, ...].repeat(4 // step, axis=0) if t else level
        made = group.create_array(
            f"s{k}", shape=level.shape, dtype="u2", chunks=level.shape,
            dimension_names=[*lead, *"zyx"],
        )  # fmt: skip
        made[...] = level
        scale = {"type": "scale", "scale": [*[1.0] * t, 3.0 * step, 2.0 * step, 1.0 * step]}
        shift = {"type": "translation", "translation": [*[0.0] * t, 10 + 3 * k * offset, 5.0, -1.0]}
        datasets.append({"path": f"s{k}", "coordinateTransformations": [scale, shift]})
    axes = [{"name": "t", "type": "time"}] * t
    axes += [{"name": a, "type": "space", "unit": "millimeter"} for a in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return array.T


def test_levels_of_others_lie_where_they_say(tmp_path: Path) -> None:
    array = foreign(tmp_path / "a.zarr", offset=0.25)
    volume = Volume(tmp_path / "a.zarr")
    assert [v.shape for v in volume.levels] == [(8, 9, 10), (4, 4, 5), (2, 2, 2)]
    coarse = volume.level(1)
    np.testing.assert_allclose(coarse.affine, [[2, 0, 0, -1], [0, 4, 0, 5], [0, 0, 6, 10.75], [0, 0, 0, 1]])
    np.testing.assert_array_equal(coarse[...], array[::2, ::2, ::2][:, :4, :5])
    part = volume.slicer[4:7, 8:, ::-1].level(1)
    np.testing.assert_array_equal(part[...], coarse[2:4, 3:4, ::-1])


def test_antialias_does_not_trust_levels_of_others(tmp_path: Path) -> None:
    array = foreign(tmp_path / "a.zarr")
    volume = Volume(tmp_path / "a.zarr")
    held = Volume.from_numpy(array, volume.affine)
    found = volume.resample(spacing=6.5, antialias=True)
    np.testing.assert_array_equal(found[...], held.resample(spacing=6.5, antialias=True)[...])


def test_what_is_made_of_an_image_of_others_has_levels_of_ours(tmp_path: Path) -> None:
    foreign(tmp_path / "a.zarr")
    made = Volume(tmp_path / "a.zarr").resample(like=((8, 9, 10), OBLIQUE), order=0)
    assert made.meta.source.format == "ome-zarr"
    radi = RadiObject.from_images(
        tmp_path / "study", {"T1w": [(made, "a")]}, write=WriteConfig(pyramid=1), progress=False
    )
    coarse = radi.T1w.iloc[0].level(1)
    np.testing.assert_array_equal(coarse[...], block_means(made[...].T, (2, 2, 2)).T)
    np.testing.assert_allclose(coarse.affine[:3, :3], OBLIQUE[:3, :3] * 2)


def test_a_level_with_fewer_time_points_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path / "a.zarr", t=True)
    with pytest.raises(CapabilityError, match="as many t as level 0"):
        Volume(tmp_path / "a.zarr").level(1)


def test_a_level_that_no_halving_gives_is_refused(tmp_path: Path) -> None:
    """Our own attributes, and a level of some other volume."""
    voxels, other = np.zeros((11, 14, 19), "i2"), np.zeros((6, 5, 10), "i2")
    meta = VolumeMeta(Affine(OBLIQUE), ("z", "y", "x"))
    scales = [("0", (1, 1, 1)), ("pyramid/1", (2, 2, 2))]
    levels = [
        Level(path, plan_array(a.shape, "i2", meta.dims))
        for (path, _), a in zip(scales, (voxels, other), strict=True)
    ]
    attrs = {"ome": ome_attributes(meta, "a", scales), "radiobject": meta.to_json()}
    writer = get_backend("zarr", Location(tmp_path)).create_volume("a.ome.zarr", levels, attrs, {})
    for number, level in enumerate((voxels, other)):
        writer.write(number, levels[number].spec.box, level)
    writer.finish()
    with pytest.raises(FormatError, match="14 voxels halved"):
        Volume(tmp_path / "a.ome.zarr").level(1)
