"""Pyramids as they are written: which levels, with which voxels, by every way that volumes come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import (
    CompressionConfig,
    RadiObject,
    RadiObjectWriter,
    TileConfig,
    Volume,
    VolumeCollectionWriter,
    WriteConfig,
    configure,
    measure,
)
from radiobject.errors import ConfigError, IngestError
from radiobject.geometry.blocks import block_means, block_modes
from radiobject.writing import pyramid

AFFINE = np.array([[-0.8, 0, 0, 30], [0, 1, 0, -32.5], [0, 0, 2, 5], [0, 0, 0, 1]])
FACTORS = [(2, 2, 1), (4, 4, 2)]
SMALL = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 8, 4)), pyramid=2)
TWO = WriteConfig(pyramid=2)


def voxels(*shape: int, dtype: str = "i2", top: int = 1000) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top, shape).astype(dtype)


def means(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """What a level holds of an array (x, y, z)."""
    return block_means(array.T, factors[::-1]).T


def modes(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    return block_modes(array.T, factors[::-1]).T


def assert_levels(volume: Volume, array: np.ndarray, of: Any = means) -> None:
    assert volume.n_levels == 3
    np.testing.assert_array_equal(volume.to_numpy(raw=True), array)
    for k, factors in enumerate(FACTORS, 1):
        found = volume.level(k)
        assert found.dtype == volume.dtype
        np.testing.assert_array_equal(found.to_numpy(raw=True), of(array, factors))


# which levels


@pytest.mark.parametrize("value", ["all", "AUTO", None, 0, -1, 1.5, True])
def test_settings_that_mean_nothing_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"WriteConfig\(pyramid=\)"):
        WriteConfig(pyramid=value)


def test_nothing_is_written_beside_the_voxels_unless_asked_for(tmp_path: Path) -> None:
    assert WriteConfig().pyramid == WriteConfig.preset("archive").pyramid == "none"
    volume = Volume.from_numpy(np.zeros((300, 2, 2), "u1"), uri=tmp_path / "a.ome.zarr")
    assert volume.n_levels == 1
    assert not (tmp_path / "a.ome.zarr" / "pyramid").exists()


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ((256, 256, 256), []),
        ((257, 4, 4), [(129, 2, 2), (65, 1, 1), (33, 1, 1)]),
        ((4, 512, 4), [(2, 256, 2), (1, 128, 1), (1, 64, 1)]),
        ((2, 2, 300), [(1, 1, 150), (1, 1, 75), (1, 1, 38)]),
    ],
)
def test_auto_writes_levels_of_large_volumes(shape: Any, levels: Any) -> None:
    spec = pyramid.plan_array(shape[::-1], "u1", ("z", "y", "x"))
    planned = pyramid.Pyramid.planned(spec, (1, 1, 1), WriteConfig(pyramid="auto"))
    assert [level.spec.shape[::-1] for level in planned.levels] == [shape, *levels]
    assert [level.path for level in planned.levels] == [
        "0",
        *(f"pyramid/{k + 1}" for k in range(len(levels))),
    ]


def test_thick_slices_wait_until_the_others_have_grown(tmp_path: Path) -> None:
    volume = Volume.from_numpy(
        np.zeros((320, 300, 12), "u1"),
        np.diag([0.5, 0.5, 5, 1]),
        tmp_path / "a.ome.zarr",
        write=WriteConfig(pyramid="auto"),
    )
    assert [v.shape for v in volume.levels] == [(320, 300, 12), (160, 150, 12), (80, 75, 12), (40, 38, 12)]
    np.testing.assert_allclose(volume.level(-1).spacing, (4, 4, 5))


def test_a_number_of_levels_ends_at_one_voxel(tmp_path: Path) -> None:
    volume = Volume.from_numpy(voxels(5, 3, 2), uri=tmp_path / "a.ome.zarr", write=WriteConfig(pyramid=9))
    assert [v.shape for v in volume.levels] == [(5, 3, 2), (3, 2, 1), (2, 1, 1), (1, 1, 1)]
    single = Volume.from_numpy(voxels(1, 1, 1), uri=tmp_path / "b.ome.zarr", write=TWO)
    assert single.n_levels == 1


# which voxels


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_levels_hold_means_on_every_backend(backend: Any, dtype: str) -> None:
    array = voxels(13, 10, 7, dtype=dtype, top=100)
    RadiObject.from_niftis(
        backend.uri(), {"T1w": [((array, AFFINE), "a")]}, backend=backend.backend, write=SMALL, progress=False
    )
    radi = RadiObject(backend.uri())
    assert_levels(radi.T1w.iloc[0], array)
    assert radi.validate("full").ok


def test_levels_of_labels_hold_values_that_were_there(backend: Any) -> None:
    array = voxels(13, 10, 7, dtype="i4", top=3) * 100_003
    radi = RadiObject.from_niftis(
        backend.uri(), {"seg": [((array, AFFINE), "a")]}, backend=backend.backend, write=SMALL, progress=False
    )
    assert_levels(radi.seg.iloc[0], array, modes)
    assert set(np.unique(radi.seg.iloc[0].level(2)[...])) <= {0, 100_003, 200_006}


def test_time_points_and_channels_are_not_averaged(tmp_path: Path) -> None:
    array = voxels(6, 5, 4, 3, 2)
    volume = Volume.from_numpy(array, np.eye(4), tmp_path / "a.ome.zarr", write=WriteConfig(pyramid=1))
    coarse = volume.level(1)
    assert (coarse.shape, coarse.axes) == ((3, 3, 2, 3, 2), ("x", "y", "z", "t", "c"))
    for t, c in np.ndindex(3, 2):
        np.testing.assert_array_equal(coarse[..., t, c], means(array[..., t, c], (2, 2, 2)))


def test_a_level_is_made_of_the_voxels_and_not_of_the_level_before(tmp_path: Path) -> None:
    # 0.4 rounds to 0 and would be lost; three of four halves have a mode that the whole has not
    array = np.zeros((4, 4, 4), "i2")
    array[::2, ::2, ::2] = 4
    labels = np.zeros((4, 4, 4), "u1")
    labels[:2, :2] = 1
    labels[2:] = np.where(np.indices((2, 4, 4)).sum(axis=0) % 2, 2, 3)
    image = Volume.from_numpy(array, uri=tmp_path / "a.ome.zarr", write=TWO)
    seg = Volume.from_numpy(labels, uri=tmp_path / "b.ome.zarr", kind="label", write=TWO)
    assert image.level(2)[...].tolist() == [[[0]]]  # 8 of 64 voxels are 4: exactly half
    assert seg.level(2)[...].item() == np.bincount(labels.ravel())[1:].argmax() + 1


def test_nan_is_left_out_of_means(tmp_path: Path) -> None:
    array = np.ones((4, 4, 4), "f4")
    array[0, 0, 0] = np.nan
    array[2:, 2:, 2:] = np.nan
    coarse = Volume.from_numpy(array, uri=tmp_path / "a.ome.zarr", write=WriteConfig(pyramid=1)).level(1)[...]
    assert np.isnan(coarse[1, 1, 1])
    assert (np.delete(coarse.ravel(), 7) == 1).all()


def test_levels_are_scaled_as_the_volume_is(tmp_path: Path, make_nifti: Any) -> None:
    array = voxels(6, 6, 6)
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(array, affine=np.eye(4), fields={"scl_slope": 2.0, "scl_inter": -1024.0}))
    volume = Volume.from_nifti(path, tmp_path / "a.ome.zarr", write=WriteConfig(pyramid=1))
    wanted = means(array, (2, 2, 2)).astype("i8") * 2 - 1024
    np.testing.assert_array_equal(volume.level(1)[...], wanted)
    volume.to_nifti(tmp_path / "back.nii")
    assert (tmp_path / "back.nii").read_bytes() == path.read_bytes()


def test_a_level_has_chunks_shards_and_codec_of_its_own_volume(tmp_path: Path) -> None:
    write = WriteConfig(
        tile=TileConfig(chunks=(8, 4, 4), shards=(16, 8, 4)),
        label_compression=CompressionConfig("zstd", 7, "bitshuffle"),
        pyramid=1,
    )
    volume = Volume.from_numpy(
        voxels(40, 12, 9, top=3), uri=tmp_path / "a.ome.zarr", kind="label", write=write
    )
    fine, coarse = (level.spec for level in volume._handle.levels)
    assert (coarse.chunks, coarse.shards) == ((4, 4, 8), (4, 8, 16))
    assert coarse.codec == fine.codec == write.label_compression
    assert len(list((tmp_path / "a.ome.zarr" / "pyramid" / "1" / "c").rglob("*"))) > 4


# which ways in


def test_every_way_in_writes_them(study: Any, tmp_path: Path) -> None:
    array, other = voxels(13, 10, 7), voxels(9, 12, 7)
    with configure(write=TWO):
        radi = study({"T1w": {"a": (array, AFFINE)}})
        radi.append({"T1w": [((other, AFFINE), "b")]}, {"obs_subject_id": ["b"]}, progress=False)
        radi.append({"T1w": [((array, AFFINE), "b")]}, on_conflict="replace", progress=False)
        radi.add_collection("twice", radi.T1w.lazy().map(lambda v, row: v * 2), progress=False)
        with VolumeCollectionWriter(tmp_path / "one", name="CT") as one:
            one.write_volume(array, "a_CT", "a", affine=AFFINE)
        with RadiObjectWriter(tmp_path / "many") as many:
            many.add_collection("CT").write_volume(array, "a_CT", "a", affine=AFFINE)
        copied = RadiObject.from_images(tmp_path / "images", {"T1w": list(radi.T1w)})
    for volume in (*radi.T1w, RadiObject(tmp_path / "many").CT.iloc[0], one.collection.iloc[0], *copied.T1w):
        assert_levels(volume, array)
    for volume in radi.twice:
        assert_levels(volume, array * 2)
    assert radi.validate("full").ok


def test_reorientation_comes_first(study: Any) -> None:
    array = voxels(13, 10, 7)
    radi = study({"T1w": {"a": (array, AFFINE)}}, reorient="RAS", write=TWO)
    assert_levels(radi.T1w.iloc[0], array[::-1])


@pytest.mark.parametrize("other", ["zarr", "tiledb"])
def test_copies_keep_them(study: Any, tmp_path: Path, other: str) -> None:
    pytest.importorskip("tiledb")
    array = voxels(13, 10, 7)
    radi = study({"T1w": {"a": (array, AFFINE), "b": (array, AFFINE)}, "seg": {}}, write=SMALL)
    copy = radi.loc[["b"]].write(tmp_path / "copy", backend=other)
    assert copy.T1w.backend == other
    assert_levels(copy.T1w.iloc[0], array)
    assert copy.validate("full").ok


def test_tables_know_nothing_of_levels(study: Any) -> None:
    array = voxels(13, 10, 7)
    told = []
    for write in (WriteConfig(), TWO):
        radi = study({"T1w": {"a": (array, AFFINE)}}, write=write)
        rows = radi._study.snapshot.table("obs", "T1w").read().to_pandas()
        thumbnails = radi._study.snapshot.table("thumbnails", "T1w").read().to_pandas()
        told.append((rows.drop(columns=["_path", "_hint", "_objects"]), thumbnails))
    for one, two in zip(*told, strict=True):
        pd.testing.assert_frame_equal(one, two)


def test_opening_a_level_costs_no_request(study: Any) -> None:
    radi = RadiObject(study({"T1w": {"a": (voxels(13, 10, 7), AFFINE)}}, write=TWO).uri)
    volume = radi.T1w.iloc[0]
    with measure() as cost:
        coarse = volume.level(2)
        assert coarse.shape == (4, 3, 4)
    assert cost["requests"] == 0


def test_a_damaged_level_is_an_error_and_harms_no_other(study: Any) -> None:
    array = voxels(13, 10, 7)
    radi = study({"T1w": {"a": (array, AFFINE)}}, write=TWO)
    (shard,) = Path(radi.uri).glob("collections/T1w/*/*/pyramid/1/c/0/0/0")
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    report = RadiObject(radi.uri).validate("full")
    assert ["pyramid/1/c/0/0/0" in p.where for p in report.problems] == [True]
    volume = RadiObject(radi.uri).T1w.iloc[0]
    with pytest.raises(OSError, match="pyramid/1"):
        volume.level(1)[...]
    np.testing.assert_array_equal(volume[...], array)


def test_a_run_that_resumes_takes_over_volumes_of_its_own_settings_only(
    tmp_path: Path, make_nifti: Any
) -> None:
    array = voxels(8, 8, 8)
    for n in range(2):
        (tmp_path / f"sub-{n}_T1w.nii").write_bytes(make_nifti(array)[: -9 if n else None])
    sources = {"T1w": str(tmp_path / "*.nii")}
    for write in (WriteConfig(), TWO, TWO):
        with pytest.raises(IngestError):
            RadiObject.from_niftis(tmp_path / "study", sources, write=write, resume=True, progress=False)
    written = list((tmp_path / "study" / "collections" / "T1w" / "sub-0_T1w").glob("*.ome.zarr"))
    assert sorted((place / "pyramid").exists() for place in written) == [False, True]
