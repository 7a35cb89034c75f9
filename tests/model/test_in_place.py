"""Volumes that lie in their source files, in the hands of queries, workers, xarray, dask and loaders."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.backends.files.decoded import DecodedVolumes
from radiobject.backends.files.source import Whole
from radiobject.errors import CapabilityError
from tests.conftest import NiftiMaker
from tests.ingest.layout_trees import bids_tree

SUBJECTS = ("sub-01", "sub-02", "sub-03")


@pytest.fixture(scope="module")
def everywhere() -> None:
    """Not that of the other tests of the model: these are on one backend."""


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    for number, subject in enumerate(SUBJECTS):
        voxels = np.arange(20 * 18 * 16, dtype="i2").reshape(20, 18, 16) + number
        (tmp_path / f"{subject}_T1w.nii").write_bytes(make_nifti(voxels))
        (tmp_path / f"{subject}_seg.nii.gz").write_bytes(gzip.compress(make_nifti((voxels % 4).astype("u1"))))
    return tmp_path


def images(files: Path) -> dict[str, str]:
    return {"T1w": str(files / "*_T1w.nii"), "seg": str(files / "*_seg.nii.gz")}


@pytest.fixture
def both(files: Path) -> tuple[RadiObject, RadiObject]:
    """The study over files, and the ingested one."""
    here = RadiObject.from_niftis(files / "study", images(files), copy=False, progress=False)
    return here, RadiObject.from_niftis(files / "ingested", images(files), progress=False)


def test_queries_run_and_what_they_make_is_stored(both: Any) -> None:
    here, there = both
    for radi in both:
        radi.add_collection("half", radi.T1w.lazy().map(lambda v, row: (v / 2, {"top": float(v.max())})))
    assert here.half.backend == there.half.backend == "zarr"
    for mine, theirs in zip(here.half, there.half, strict=True):
        np.testing.assert_array_equal(mine[...], theirs[...])
    found = here.T1w.filter("obs_subject_id != 'sub-02'").lazy().map(lambda v, row: v + 1).to_numpy_stack()
    assert found.shape == (2, 20, 18, 16)
    with pytest.raises(CapabilityError, match="zarr"):
        here.T1w.lazy().map(lambda v, row: v).write(Path(here.uri).parent / "q", backend="files")


def test_other_processes_read_and_register(both: Any, files: Path) -> None:
    here, _ = both
    tops = here.seg.lazy().map(lambda v, row: (v, {"top": int(v.max())}))
    made = tops.write(files / "made", executor="processes", workers=2, progress=False)
    assert made.obs["top"].tolist() == [3, 3, 3]
    again = RadiObject.from_niftis(
        files / "again", images(files), copy=False, executor="processes", workers=2, progress=False
    )
    np.testing.assert_array_equal(again.seg.iloc[2][...], here.seg.iloc[2][...])


def test_partners_and_statistics_by_label_are_those_of_the_ingested_study(both: Any) -> None:
    here, there = both
    assert here.pairs("T1w", "seg").map(str).equals(there.pairs("T1w", "seg").map(str))
    tables = [radi.T1w.stats_by(radi.seg) for radi in both]
    assert tables[0].map(str).equals(tables[1].map(str))


def test_xarray_opens_it_by_its_uri(both: Any, files: Path) -> None:
    xr = pytest.importorskip("xarray")
    shutil.move(files / "study", files / "away" / "study")
    ds = xr.open_dataset(files / "away" / "study", engine="radiobject", collection="T1w", source_root=files)
    np.testing.assert_array_equal(ds["T1w"][1, 3:9, 2], both[1].T1w.iloc[1][3:9, 2])


def test_xarray_and_dask_read_when_they_are_asked(both: Any) -> None:
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    here, there = both
    for chunks in (None, "volume", "chunk"):
        arrays = [radi.T1w.to_xarray(chunks=chunks)[1, 3:9, :, 2].compute() for radi in both]
        np.testing.assert_array_equal(arrays[0], arrays[1])
    one = here.seg.iloc[0].to_dask()
    np.testing.assert_array_equal(one[::2, 3].compute(), there.seg.iloc[0][::2, 3])


@pytest.mark.parametrize("kept", ["nothing", "memory", "scratch"])
def test_loaders_give_the_same_batches(both: Any, tmp_path: Path, kept: str) -> None:
    pytest.importorskip("torch")
    from radiobject.ml import InMemory, Scratch, create_segmentation_dataloader

    found = []
    for radi in both:
        cache: Any = {
            "nothing": None,
            "memory": InMemory(2**24),
            "scratch": Scratch(tmp_path / radi.uri[-4:]),
        }
        loader = create_segmentation_dataloader(
            radi.T1w, radi.seg, patch_size=8, batch_size=2, seed=3, cache=cache[kept]
        )
        found.append([{key: np.asarray(batch[key]) for key in ("image", "label")} for batch in loader])
    assert len(found[0]) == len(found[1]) > 0
    for mine, theirs in zip(*found, strict=True):
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key])


def test_a_bids_folder_is_left_where_it_is(tmp_path: Path) -> None:
    tree = bids_tree(tmp_path / "tree")
    options: dict[str, Any] = {"errors": "collect", "progress": False}
    here = RadiObject.from_bids(tmp_path / "study", tree, copy=False, **options)
    there = RadiObject.from_bids(tmp_path / "ingested", tree, **options)
    assert here.collection_names == there.collection_names
    for name in here:
        assert here.collection(name).obs_ids == there.collection(name).obs_ids
        for mine, theirs in zip(here.collection(name), there.collection(name), strict=True):
            np.testing.assert_array_equal(mine[...], theirs[...])
            for beside in theirs.meta.source.extras:
                assert mine.extra(beside) == theirs.extra(beside)
    before = here.version
    here.ingest(_scan(tree), on_conflict="update", copy=False, **options)
    assert here.version == before


def _scan(tree: Path) -> Any:
    from radiobject import scan

    return scan(tree, "bids")


def test_decoded_volumes_are_kept_as_far_as_there_is_room_and_the_last_one_always(both: Any) -> None:
    here, _ = both
    handles: list[Any] = [volume._handle for volume in here.seg]
    size = handles[0].spec.nbytes
    for room, kept in ((3 * size, 3), (2 * size, 2), (size // 2, 1)):
        cache = DecodedVolumes(room)
        for handle in handles:
            assert isinstance(handle.source, Whole)
            first = cache.get(handle._files, handle.source, "volume")
            assert cache.get(handle._files, handle.source, "volume") is first
        assert len(cache._kept) == kept
    cache.clear()
    assert not cache._kept
