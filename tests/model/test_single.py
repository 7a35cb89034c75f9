"""One volume without a study: opened by its URL, made of an array or a NIfTI file, in memory or not."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import zarr
from foreign.server import FileServer, serve

from radiobject import (
    RadiObject,
    Volume,
    VolumeCollection,
    measure,
)
from radiobject.errors import (
    AxisAmbiguousError,
    CapabilityError,
    ConfigError,
    FormatError,
    MissingObjectError,
    SelectionError,
    SourceNotFoundError,
    SourceUnsupportedError,
    StudyExistsError,
    UnknownIdError,
)

AFFINE = np.array([[0, 0, 3.0, -7], [-2.0, 0, 0, 30], [0, 2.5, 0, 4], [0, 0, 0, 1]])
"""x runs to P, y to S, z to R."""


def voxels(*shape: int, dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def own_url(radi: RadiObject, obs_id: str) -> str:
    """Where a volume of a study stands."""
    for name in radi.collection_names:
        table = radi._study.obs(name)
        for row in table.read(["obs_id", "_path"]).to_pylist():
            if row["obs_id"] == obs_id:
                return f"{radi.uri}/{row['_path']}"
    raise KeyError(obs_id)


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


# opening by URL


def test_a_volume_of_a_study_opens_by_its_own_url(backend, scan, tmp_path) -> None:
    radi = RadiObject.from_niftis(backend.uri(), {"CT": [(scan, "sub-1")]}, backend=backend.backend)
    stored, alone = radi.CT.iloc[0], Volume(own_url(radi, "sub-1_CT"))
    np.testing.assert_array_equal(alone[...], stored[...])
    np.testing.assert_array_equal(alone.to_numpy(raw=True), stored.to_numpy(raw=True))
    np.testing.assert_array_equal(alone.affine, stored.affine)
    assert (alone.shape, alone.dtype, alone.axcodes, alone.meta) == (
        stored.shape, stored.dtype, stored.axcodes, stored.meta,
    )  # fmt: skip
    assert (alone.obs_id, alone.obs_subject_id, alone.metadata) == ("", "", {})
    assert alone.get_statistics() == pytest.approx(stored.get_statistics())
    alone.to_nifti(tmp_path / "back.nii.gz")
    assert content_of(tmp_path / "back.nii.gz") == content_of(scan)


def test_opening_reads_no_voxel(study) -> None:
    radi = study()
    url = own_url(radi, "sub-01_T1w")
    with measure() as cost:
        vol = Volume(url)
        assert (vol.shape, vol.spacing) == ((6, 5, 4), (1, 1, 1))
    assert cost["chunks_decoded"] == 0


def foreign_image(folder: Path, **ome: Any) -> np.ndarray:
    """An OME-Zarr 0.5 image as others write it, without attributes of ours."""
    array = voxels(4, 5, 6)  # z, y, x
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scale = [{"type": "scale", "scale": [3000.0, 2000.0, 1000.0]},
             {"type": "translation", "translation": [0.0, 5000.0, -1000.0]}]  # fmt: skip
    image = {"axes": axes, "datasets": [{"path": "scale0/image", "coordinateTransformations": scale}]}
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image], **ome}
    made = group.create_array(
        "scale0/image", shape=array.shape, dtype=array.dtype, chunks=(2, 5, 6), dimension_names=list("zyx")
    )
    made[...] = array
    return array.T


def test_a_foreign_image_is_read_as_it_says(tmp_path) -> None:
    array = foreign_image(tmp_path / "theirs.zarr")
    vol = Volume(tmp_path / "theirs.zarr")
    np.testing.assert_array_equal(vol[...], array)
    np.testing.assert_allclose(vol.affine, [[1, 0, 0, -1], [0, 2, 0, 5], [0, 0, 3, 0], [0, 0, 0, 1]])
    assert vol.meta.source.format == "ome-zarr"
    np.testing.assert_array_equal(vol.slicer[1:3, ::2][...], array[1:3, ::2])
    radi = RadiObject.from_niftis(tmp_path / "study", {"CT": [(vol, "sub-1")]})
    np.testing.assert_array_equal(radi.CT.iloc[0][...], array)
    np.testing.assert_allclose(radi.CT.iloc[0].affine, vol.affine)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with serve(tmp_path) as running:
        yield running


@pytest.mark.gap("memory", reason="no server can read this process's memory", raises=MissingObjectError)
@pytest.mark.gap("tiledb", reason="libtiledb reads disks and S3, no http://", raises=CapabilityError)
def test_volumes_open_over_http(server, tmp_path, study) -> None:
    array = foreign_image(tmp_path / "theirs.zarr")
    np.testing.assert_array_equal(Volume(f"{server.url}/theirs.zarr")[...], array)
    radi = study(uri=tmp_path / "study")
    url = own_url(radi, "sub-02_T1w").replace(str(tmp_path), server.url)
    assert np.unique(Volume(url)[...]).tolist() == [2]
    with pytest.raises(MissingObjectError, match="nothing there"):
        Volume(f"{server.url}/elsewhere.zarr")


def test_what_is_no_volume_says_what_it_is(tmp_path, study, scan) -> None:
    radi = study()
    with pytest.raises(FormatError, match=r"got a study.*RadiObject\(uri\)"):
        Volume(radi.uri)
    with pytest.raises(FormatError, match="got a Zarr node that is no OME-Zarr image"):
        Volume(radi.T1w.uri)
    with pytest.raises(MissingObjectError, match=r"nowhere\.ome\.zarr: expected a volume"):
        Volume(tmp_path / "nowhere.ome.zarr")
    with pytest.raises(MissingObjectError, match="nothing there"):
        Volume(tmp_path / "nowhere.mem")
    with pytest.raises(FormatError, match=r"Volume\.from_nifti"):
        Volume(scan)
    zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    with pytest.raises(FormatError, match="got Zarr v2"):
        Volume(tmp_path / "old.zarr")
    foreign_image(tmp_path / "newer.zarr", version="0.6")
    with pytest.raises(FormatError, match=r"ome\.version 0\.5"):
        Volume(tmp_path / "newer.zarr")
    for name in ("/", "s3://bucket"):
        with pytest.raises(ConfigError, match="a folder and a name"):
            Volume(name)


def test_a_study_url_in_memory_is_no_volume_either(backend) -> None:
    images = {"T1w": [((voxels(4, 4, 4), None), "sub-1")]}
    RadiObject.from_niftis(backend.uri(), images, backend=backend.backend)
    with pytest.raises(FormatError, match="got a study"):
        Volume(backend.uri())


def test_a_collection_opens_by_url_and_name(backend) -> None:
    images = {n: [((voxels(4, 4, 4), None), "sub-1")] for n in ("T1w", "seg")}
    radi = RadiObject.from_niftis(backend.uri(), images, backend=backend.backend)
    seg = VolumeCollection(f"{backend.uri()}#seg")
    assert (seg.name, seg.kind, seg.obs_ids) == ("seg", "label", radi.seg.obs_ids)
    with pytest.raises(SelectionError, match=r"uri#name, got 2: \['T1w', 'seg'\]"):
        VolumeCollection(backend.uri())
    with pytest.raises(UnknownIdError, match="'CT'"):
        VolumeCollection(f"{backend.uri()}#CT")
    radi.delete(collections="seg")
    assert VolumeCollection(backend.uri()).name == "T1w"
    assert VolumeCollection(f"{backend.uri()}@1#seg").obs_ids == ["sub-1_seg"]


# making one


def place_of(backend, name: str = "scan") -> str:
    return backend.uri(name + {"memory": ".mem", "tiledb": ".tdb"}.get(backend.backend, ".ome.zarr"))


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ((6, 5, 4), ("x", "y", "z"), {}),
        ((6, 5, 4, 3), ("x", "y", "z", "t"), {"time_step": 2.5}),
        ((6, 5, 4, 3), ("x", "y", "z", "c"), {"axis4": "channel"}),
        ((6, 5, 4, 3, 2), ("x", "y", "z", "t", "c"), {"time_step": 0.5}),
    ],
)
def test_an_array_is_kept_at_a_place_or_in_memory(backend, shape, axes, options) -> None:
    array = voxels(*shape)
    held = Volume.from_numpy(array, AFFINE, **options)
    written = Volume.from_numpy(array, AFFINE, place_of(backend), **options)
    for vol in (held, written, Volume(place_of(backend))):
        np.testing.assert_array_equal(vol[...], array)
        np.testing.assert_array_equal(vol.affine, AFFINE)
        assert (vol.axes, vol.dtype, vol.meta.time_step) == (axes, array.dtype, options.get("time_step"))
        assert (vol.obs_id, vol.obs_subject_id, vol.metadata) == ("", "", {})


def test_uri_and_array_come_in_either_order(tmp_path, scan, suffix) -> None:
    array = voxels(3, 4, 5)
    for name, make in {
        "a": lambda uri: Volume.from_numpy(uri, array),
        "b": lambda uri: Volume.from_numpy(uri, array, AFFINE),
        "c": lambda uri: Volume.from_numpy(array, AFFINE, uri=uri),
        "d": lambda uri: Volume.from_numpy(Path(uri), array),
    }.items():
        uri = str(tmp_path / f"{name}{suffix}")
        make(uri)
        np.testing.assert_array_equal(Volume(uri)[...], array)
        assert np.array_equal(Volume(uri).affine, AFFINE if name in "bc" else np.eye(4))
    for name, make in {
        "e": lambda uri: Volume.from_nifti(scan, uri),
        "f": lambda uri: Volume.from_nifti(uri, scan),
        "g": lambda uri: Volume.from_nifti(str(uri), str(scan)),
        "h": lambda uri: Volume.from_nifti(uri, nibabel.load(scan)),
    }.items():
        place = tmp_path / f"{name}{suffix}"
        make(place)
        assert Volume(place).dtype == np.dtype("i2")


def test_a_place_that_is_taken_is_left_as_it_is(backend) -> None:
    place, array = place_of(backend), voxels(3, 3, 3)
    Volume.from_numpy(array, uri=place)
    with pytest.raises(StudyExistsError, match="scan"):
        Volume.from_numpy(array + 1, uri=place)
    np.testing.assert_array_equal(Volume(place)[...], array)


def test_studies_folders_and_files_are_taken_places(tmp_path, study, scan, suffix) -> None:
    radi = study()
    folder, file, empty = (tmp_path / f"{name}{suffix}" for name in ("folder", "file", "empty"))
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    file.write_text("mine")
    empty.mkdir()
    for place in (radi.uri, folder, file):
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(StudyExistsError, match="a free place"):
            Volume.from_nifti(scan, place)
        assert sorted(os.listdir(tmp_path)) == before
    assert Volume.from_nifti(scan, empty).shape == (6, 5, 4)
    assert radi.validate("full").ok


@pytest.mark.no_backend(reason="voxels in memory")
def test_a_nifti_name_is_no_place_for_a_volume(tmp_path, scan) -> None:
    for make in (
        lambda: Volume.from_numpy(voxels(3, 3, 3), uri=tmp_path / "out.nii.gz"),
        lambda: Volume.from_nifti(scan, tmp_path / "out.nii.gz"),
    ):
        with pytest.raises(ConfigError, match="to_nifti"):
            make()
    assert os.listdir(tmp_path) == [scan.name]


def test_a_failed_write_leaves_the_place_free(tmp_path, scan, suffix) -> None:
    place = tmp_path / "out" / f"scan{suffix}"
    with pytest.raises(SourceUnsupportedError, match="integers for a label map"):
        Volume.from_numpy(voxels(3, 3, 3, dtype="f4"), uri=place, kind="label")
    with pytest.raises(SourceNotFoundError):
        Volume.from_nifti(tmp_path / "missing.nii", place)
    assert Volume.from_nifti(scan, place).shape == (6, 5, 4)


@pytest.mark.no_backend(reason="voxels in memory")
def test_labels_are_never_scaled_and_never_floats(scan) -> None:
    vol = Volume.from_nifti(scan, kind="label")
    np.testing.assert_array_equal(vol[...], vol.to_numpy(raw=True))
    assert Volume.from_numpy(voxels(3, 3, 3, dtype="u1"), kind="label").meta.kind == "label"
    with pytest.raises(SourceUnsupportedError, match="float32"):
        Volume.from_numpy(voxels(3, 3, 3, dtype="f4"), kind="label")
    with pytest.raises(ConfigError, match="'image' or 'label'"):
        Volume.from_numpy(voxels(3, 3, 3), kind="mask")


@pytest.mark.no_backend(reason="voxels in memory")
@pytest.mark.parametrize(
    ("array", "affine", "error", "match"),
    [
        (voxels(3, 3), None, SourceUnsupportedError, "2 axes"),
        (voxels(3, 3, 3, 3), None, AxisAmbiguousError, "axis4"),
        (np.zeros((3, 0, 3), "i2"), None, SourceUnsupportedError, "at least one voxel"),
        (np.zeros((3, 3, 3), complex), None, SourceUnsupportedError, "complex128"),
        (np.array([[["a"]]]), None, SourceUnsupportedError, "expected one of"),
        (voxels(3, 3, 3), np.zeros((4, 4)), SourceUnsupportedError, "affine"),
        (voxels(3, 3, 3), "RAS", SourceUnsupportedError, "affine"),
        (np.ma.masked_less(voxels(3, 3, 3), 50), None, SourceUnsupportedError, "filled"),
        (nibabel.Nifti1Image(voxels(3, 3, 3), AFFINE), None, SourceUnsupportedError, "its affine"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_volume(array, affine, error, match) -> None:
    with pytest.raises(error, match=match):
        Volume.from_numpy(array, affine)


@pytest.mark.no_backend(reason="voxels in memory")
def test_lists_bools_and_byte_orders_become_volumes() -> None:
    assert Volume.from_numpy([[[1, 2]]]).shape == (1, 1, 2)
    assert Volume.from_numpy(np.ones((2, 2, 2), bool)).dtype == np.uint8
    big = voxels(2, 3, 4).astype(">i2")
    vol = Volume.from_numpy(big)
    assert vol.dtype.isnative
    np.testing.assert_array_equal(vol[...], big)
