"""Readers that we did not write find our levels, with the right voxels in the right place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import v05

from radiobject import Volume, WriteConfig

AFFINE = np.array([[-0.8, 0, 0, 30], [0, 1, 0, -32.5], [0, 0, 2, 5], [0, 0, 0, 1]])
PATHS = ["0", "pyramid/1", "pyramid/2"]
KINDS = {"image": ("i2", (13, 9, 6)), "label": ("u1", (13, 9, 6)), "time": ("f4", (13, 9, 6, 3))}


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    dtype, shape = KINDS[request.param]
    array = np.random.default_rng(0).integers(0, 5, shape).astype(dtype)
    return Volume.from_numpy(
        array,
        AFFINE,
        tmp_path / "a.ome.zarr",
        axis4="time",
        kind="label" if request.param == "label" else "image",
        write=WriteConfig(pyramid=2),
    )


def on_disk(level: Volume) -> np.ndarray:
    return level[...].transpose(range(level.ndim)[::-1])


def test_models_and_validators_accept_them(volume: Volume) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = yaozarrs.validate_zarr_store(volume.uri).ome_metadata()
    assert [d.path for d in image.multiscales[0].datasets] == PATHS
    kind = v05.ImageLabel if volume.meta.kind == "label" else v05.Image
    model = kind.from_zarr(zarr.open_group(volume.uri, mode="r"))
    assert [d.path for d in model.ome_attributes.multiscales[0].datasets] == PATHS


def test_the_reference_implementation_reads_every_level(volume: Volume) -> None:
    location = parse_url(volume.uri)
    assert location is not None
    (node,) = Reader(location)()
    assert len(node.data) == volume.n_levels == 3
    for found, level in zip(node.data, volume.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(found), on_disk(level))


def test_engines_read_every_level(volume: Volume) -> None:
    group = zarr.open_group(volume.uri, mode="r")
    for path, level in zip(PATHS, volume.levels, strict=True):
        np.testing.assert_array_equal(group[path][...], on_disk(level))
        assert group[path].metadata.dimension_names == tuple(reversed(level.axes))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{volume.uri}/{path}/"}}
        np.testing.assert_array_equal(ts.open(spec).result().read().result(), on_disk(level))


def test_xarray_still_opens_the_volumes_url(volume: Volume) -> None:
    with xr.open_zarr(volume.uri, chunks=None) as dataset:
        assert list(dataset.data_vars) == ["0"]
        np.testing.assert_array_equal(dataset["0"].to_numpy(), on_disk(volume))


def test_a_voxel_that_holds_its_coordinate_still_does_in_a_level(tmp_path: Path) -> None:
    """By the OME metadata alone: scale times index plus translation, of each level."""
    shape = (16, 12, 8)
    for axis, name in enumerate("xyz"):
        index = np.indices(shape)[axis]
        signed = AFFINE[axis, axis] * index + AFFINE[axis, 3]
        coordinate = signed if AFFINE[axis, axis] > 0 else -signed
        Volume.from_numpy(coordinate, AFFINE, tmp_path / f"{name}.ome.zarr", write=WriteConfig(pyramid=2))
        group = zarr.open_group(tmp_path / f"{name}.ome.zarr", mode="r")
        ome: Any = group.attrs["ome"]
        for dataset in ome["multiscales"][0]["datasets"]:
            found = group[dataset["path"]][...].T
            scale, shift = dataset["coordinateTransformations"]
            wanted = (
                scale["scale"][::-1][axis] * np.indices(found.shape)[axis] + shift["translation"][::-1][axis]
            )
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
        assert group["pyramid/2"].shape == (4, 3, 4)
