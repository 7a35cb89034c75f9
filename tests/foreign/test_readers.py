"""Readers that we did not write agree voxel for voxel, from disk and over HTTP, without a warning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore as ts
import xarray as xr
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import v05

from foreign.server import FileServer
from foreign.studies import Written
from radiobject import RadiObject

PLACES = ("disk", "http")


@pytest.fixture(params=PLACES)
def base(request: pytest.FixtureRequest, written: Written, served: FileServer) -> str:
    """What stands before the relative folder of a volume."""
    return str(written.root) if request.param == "disk" else served.url


def assert_same(found: npt.NDArray[Any], expected: npt.NDArray[Any], name: str) -> None:
    assert found.dtype == expected.dtype, name
    assert found.shape == expected.shape, name
    assert found.tobytes() == expected.tobytes(), f"{name}: other voxels"


def axes_of(voxels: npt.NDArray[Any], written: Written) -> tuple[str, ...]:
    fourth = written.name.rsplit("-", 1)[-1][0]
    return {3: (), 4: (fourth,), 5: ("t", "c")}[voxels.ndim] + ("z", "y", "x")


def through(reader: Callable[[str], npt.NDArray[Any]], base: str, written: Written) -> None:
    for name, folder, voxels in written.items():
        assert_same(reader(f"{base}/{folder}"), voxels, name)


def test_tensorstore_reads_from_nothing_but_the_place(written: Written, base: str) -> None:
    def read(volume: str) -> npt.NDArray[Any]:
        kvstore = {"driver": "file", "path": f"{volume}/0/"}
        if volume.startswith("http"):
            kvstore = {"driver": "http", "base_url": f"{volume}/0/"}
        array: npt.NDArray[Any] = ts.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()
        return array

    through(read, base, written)


def test_zarr_opens_group_and_array(written: Written, base: str) -> None:
    for name, folder, voxels in written.items():
        group = zarr.open(f"{base}/{folder}", mode="r")
        assert isinstance(group, zarr.Group), name
        assert [key for key, _ in group.members(max_depth=None)] == ["0"], name
        assert_same(group["0"][...], voxels, name)
        array = zarr.open(f"{base}/{folder}/0", mode="r")
        assert isinstance(array, zarr.Array), name
        assert array.metadata.dimension_names == axes_of(voxels, written), name
        assert_same(array[...], voxels, name)


def test_xarray_opens_the_volumes_url(written: Written, base: str) -> None:
    for name, folder, voxels in written.items():
        with xr.open_zarr(f"{base}/{folder}", chunks=None) as dataset:
            assert list(dataset.data_vars) == ["0"], name
            assert dataset["0"].dims == axes_of(voxels, written), name
            assert_same(dataset["0"].to_numpy(), voxels, name)


def test_yaozarrs_accepts_metadata_and_structure(written: Written, base: str) -> None:
    for name, folder, voxels in written.items():
        group = yaozarrs.validate_zarr_store(f"{base}/{folder}")
        assert group.ome_version() == "0.5", name
        image = group.ome_metadata()
        assert [axis.name for axis in image.multiscales[0].axes] == list(axes_of(voxels, written)), name


def test_ome_zarr_models_accept_the_image(written: Written, base: str) -> None:
    for name, folder, voxels in written.items():
        kind = v05.ImageLabel if name == "seg" else v05.Image
        image = kind.from_zarr(zarr.open_group(f"{base}/{folder}", mode="r"))
        assert image.ome_attributes.multiscales[0].ndim == voxels.ndim, name


def test_the_reference_implementation_reads_the_image(written: Written, base: str) -> None:
    for name, folder, voxels in written.items():
        location = parse_url(f"{base}/{folder}")
        assert location is not None, name
        (node,) = Reader(location)()
        (data,) = node.data
        assert_same(np.asarray(data), voxels, name)
        assert [axis["name"] for axis in node.metadata["axes"]] == list(axes_of(voxels, written)), name


def test_a_study_walks_as_groups_down_to_its_arrays(written: Written) -> None:
    root = zarr.open_group(f"{written.root}/{written.name}/collections", mode="r", use_consolidated=False)
    found = {path: item for path, item in root.members(max_depth=None) if isinstance(item, zarr.Array)}
    wanted = {folder.split("/collections/")[1] + "/0": v for _, folder, v in written.items()}
    assert set(found) == set(wanted)
    for path, voxels in wanted.items():
        assert found[path].shape == voxels.shape
    tree = str(root.tree())
    assert all(name in tree for name in ("image", "label", ".ome.zarr", "seg_label"))


def test_the_nifti_header_beside_the_voxels_disturbs_nobody(
    served: FileServer, make_nifti: Callable[..., bytes], tmp_path: Path
) -> None:
    raw = make_nifti(np.arange(60, dtype="i2").reshape(3, 4, 5))
    (tmp_path / "a.nii").write_bytes(raw)
    study = Path(served.root) / "nifti"
    RadiObject.from_niftis(study, {"T1w": [str(tmp_path / "a.nii")]}, progress=False)
    (folder,) = study.glob("collections/T1w/*/*.ome.zarr")
    url = f"{served.url}/{folder.relative_to(served.root)}"
    for place in (str(folder), url):
        assert yaozarrs.validate_zarr_store(place).ome_version() == "0.5"
        group = zarr.open_group(place, mode="r")
        assert v05.Image.from_zarr(group).ome_attributes.multiscales[0].ndim == 3
        assert sorted(key for key, _ in group.members()) == ["0", "nifti"]
        assert group["nifti"][...].tobytes() == raw[:352]
        with xr.open_zarr(place, chunks=None) as dataset:
            assert dataset["nifti"].dims == ("byte",)
            assert dataset["nifti"].to_numpy().tobytes() == raw[:352]


def test_one_flipped_bit_is_refused_by_others_too(written: Written, tmp_path: Path) -> None:
    """The checksums are real: readers of another make refuse the changed chunk."""
    shutil.copytree(written.root / written.folders["i2_3d"] / "0", tmp_path / "0")
    shard = tmp_path / "0" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[3] ^= 1
    shard.write_bytes(data)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/0/"}}
    with pytest.raises(ValueError, match="Digest mismatch"):
        ts.open(spec).result().read().result()
    with pytest.raises(ValueError, match="checksum"):
        zarr.open(tmp_path / "0", mode="r")[...]
