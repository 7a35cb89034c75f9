"""Rows of materialized volumes say what is stored, and nothing of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError
from radiobject.format import catalog
from tests.conftest import NiftiMaker
from tests.ingest.dicom_series import save, slices

pytestmark = pytest.mark.only("tensorstore", reason="one engine that stores voxels stands for all")

RAMP = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    """NIfTI of three subjects, below a folder of their own."""
    (tmp_path / "arc").mkdir()
    for number in range(3):
        (tmp_path / "arc" / f"sub-0{number}_T1w.nii").write_bytes(make_nifti(RAMP + number))
    return tmp_path


@pytest.fixture
def radi(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "study", {"T1w": files / "arc"}, copy=False, progress=False)


def fresh(radi: RadiObject) -> RadiObject:
    """The study as somebody else opens it."""
    catalog._snapshots.clear()
    return RadiObject(radi.uri)


def problems(radi: RadiObject) -> list[str]:
    return [str(p) for p in radi.validate("full").problems if p.kind != "hint"]


def whole_floats(folder: Path, make_nifti: NiftiMaker) -> RadiObject:
    """NIfTI of floats that are all whole numbers."""
    folder.mkdir()
    for dtype in ("f4", "f8"):
        (folder / f"{dtype}_im.nii").write_bytes(make_nifti((RAMP % 7).astype(dtype)))
    return RadiObject.from_niftis(folder / "study", {"im": str(folder / "*.nii")}, copy=False)


def scaled_slices(folder: Path, make_nifti: NiftiMaker) -> RadiObject:
    """A DICOM series of which each slice has a scale of its own, so that it is read as floats."""
    save(folder / "in", slices(RescaleSlope=lambda n: str(n + 1), RescaleIntercept="0"))
    return RadiObject.from_dicoms(folder / "study", folder / "in", deidentify=False, copy=False)


@pytest.mark.only("memory", "tensorstore", "tiledb", reason="two engines read Zarr by the same rows")
@pytest.mark.parametrize("made", [whole_floats, scaled_slices])
def test_floats_that_are_kept_as_integers_make_a_sound_study_and_sound_copies(
    tmp_path: Path, make_nifti: NiftiMaker, made: Callable[[Path, NiftiMaker], RadiObject], engine: str
) -> None:
    radi = made(tmp_path / "a", make_nifti)
    name = radi.collection_names[0]
    seen = [(str(v.dtype), v.to_numpy().tolist()) for v in radi.collection(name)]
    radi.materialize()
    stored = {str(v.stored_dtype) for v in radi.collection(name)}
    assert all(dtype.startswith(("int", "uint")) for dtype in stored)
    assert set(radi.collection(name).obs.read()["dtype"]) == stored
    copies = [radi.write(tmp_path / kind, backend=kind) for kind in ("zarr", "memory")]
    copies += [radi.write(tmp_path / "tdb", backend="tiledb")] if engine == "tiledb" else []
    for study in (radi if engine == "memory" else fresh(radi), *copies):
        assert problems(study) == []
        assert [(str(v.dtype), v.to_numpy().tolist()) for v in study.collection(name)] == seen


@pytest.mark.skipif(os.name == "nt", reason="links and their targets are another matter there")
def test_the_ledger_names_no_folder_of_this_machine(radi: RadiObject, files: Path) -> None:
    names = sorted((files / "arc").iterdir())
    names[0].unlink()
    names[1].unlink()
    names[1].symlink_to("/etc/hostname")
    names[2].unlink()
    names[2].mkdir()
    radi.materialize(errors="collect", executor="serial", progress=False)
    messages = [line["message"] for line in radi.ledger.to_arrow().to_pylist() if line["error"]]
    assert [m for m in messages if str(files) in m] == []
    assert messages[0].startswith("arc/sub-00_T1w.nii: ")
    assert messages[0].endswith("if not below the source root.")
    assert messages[1] == "arc/sub-01_T1w.nii: expected a file below the source root, got a link out of it"


def test_a_collection_is_not_stored_on_two_backends(radi: RadiObject, files: Path) -> None:
    pytest.importorskip("tiledb")
    last = files / "arc" / "sub-02_T1w.nii"
    last.rename(files / "away")
    radi.materialize(backend="tiledb", errors="collect")
    (files / "away").rename(last)
    with pytest.raises(ConfigError, match=r"'zarr' for 'T1w'.*got some on 'tiledb'"):
        radi.materialize(backend="zarr")
    assert fresh(radi).materialize("T1w").T1w.backend == "tiledb"


def test_what_is_stored_later_joins_what_is_stored_already(
    radi: RadiObject, files: Path, make_nifti: NiftiMaker
) -> None:
    pytest.importorskip("tiledb")
    (files / "arc" / "sub-02_T1w.nii").rename(files / "away")
    radi.materialize(backend="tiledb", errors="collect")
    (files / "away").rename(files / "arc" / "sub-02_T1w.nii")
    (files / "sub-03_T1w.nii").write_bytes(make_nifti(RAMP))
    radi.append({"T1w": [files / "sub-03_T1w.nii"]}, {"obs_subject_id": ["sub-03"]}, progress=False)
    assert radi.T1w.backend == "files"
    assert radi.materialize().T1w.backend == "tiledb"
    assert problems(fresh(radi)) == []


@pytest.mark.only("tensorstore", "tiledb", reason="two engines read Zarr by the same rows")
def test_a_copy_that_stores_says_what_materialize_does(
    radi: RadiObject, files: Path, make_nifti: NiftiMaker, engine: str
) -> None:
    (files / "arc" / "sub-00_seg.nii").write_bytes(make_nifti((RAMP % 3).astype("u1")))
    (files / "arc" / "sub-00_whole.nii").write_bytes(make_nifti((RAMP % 3).astype("f4")))
    more = {n: [files / "arc" / f"sub-00_{n}.nii"] for n in ("seg", "whole")}
    radi.append(more, copy=False, progress=False)
    radi.append({"T1w": [((RAMP, np.eye(4)), "sub-00", "stored")]}, progress=False)
    kind, executor = ("tiledb", "threads") if engine == "tiledb" else ("zarr", "processes")
    copy = radi.write(files / "copy", backend=kind, executor=executor, workers=2)
    radi.materialize(backend=kind)
    assert problems(copy) == []
    for name in radi.collection_names:
        here, there = copy.collection(name), radi.collection(name)
        assert here.backend == there.backend == kind
        assert here.obs.read().map(str).equals(there.obs.read().map(str))
        assert here.obs.read()["source_digest"].notna().all()
        pictures = [r._study.snapshot.table("thumbnails", name).read() for r in (copy, radi)]
        assert sorted(pictures[0].to_pylist(), key=str) == sorted(pictures[1].to_pylist(), key=str)
        for v, w in zip(here, there, strict=True):
            assert (v.dtype, v.stored_dtype) == (w.dtype, w.stored_dtype)
            np.testing.assert_array_equal(v.to_numpy(), w.to_numpy())
    index = copy.seg.obs.to_arrow(["_foreground"])["_foreground"]
    assert index.null_count == 0
    assert copy.T1w.filter("intensity_mean > 60").obs_ids == ["sub-01_T1w", "sub-02_T1w"]


def test_a_volume_that_is_added_to_another_study_is_stored_under_its_new_id(
    radi: RadiObject, files: Path
) -> None:
    radi.add_collection("again", radi.T1w.lazy())
    assert radi.again.backend == "files"  # the study looks at the same place
    (files / "apart").mkdir()
    other = RadiObject.from_niftis(
        files / "apart" / "study", {"T2w": [(files / "arc" / "sub-00_T1w.nii", "s")]}
    )
    other.add_collection("T1w", radi.T1w)
    assert other.T1w.obs.read()["intensity_mean"].notna().all()
    assert problems(other) == []


def test_collections_that_need_two_backends_are_appended_to_one_by_one(
    radi: RadiObject, files: Path, make_nifti: NiftiMaker
) -> None:
    pytest.importorskip("tiledb")
    (files / "sub-03_T1w.nii").write_bytes(make_nifti(RAMP))
    more = [files / "sub-03_T1w.nii"]
    (files / "arc" / "sub-02_T1w.nii").rename(files / "away")
    radi.materialize(backend="tiledb", errors="collect")
    subject = {"obs_subject_id": ["sub-03"]}
    with pytest.raises(ConfigError, match=r"'T1w' on tiledb, 'CT' on (memory|zarr)"):
        radi.append({"T1w": more, "CT": more}, subject, progress=False)
    radi.append({"CT": more}, subject, progress=False)
    radi.append({"T1w": more}, progress=False)
    assert radi.CT.backend != "tiledb"
    assert radi.T1w.iloc[-1].uri.endswith(".tdb")
