"""What is stored already is not un-stored by registering; a collection is one of files while it has some."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from radiobject import RadiObject
from radiobject.format import catalog
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.transaction import Transaction
from radiobject.model.study import Study
from tests.conftest import NiftiMaker

from .dicom_series import save, slices

RAMP = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    for number in (1, 2):
        image = make_nifti(RAMP + number, fields={"scl_slope": 2, "scl_inter": -10})
        (tmp_path / f"sub-0{number}_T1w.nii").write_bytes(image)
    return tmp_path


@pytest.fixture
def radi(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "study", {"T1w": str(files / "*.nii")}, copy=False, progress=False)


def fresh(radi: RadiObject) -> RadiObject:
    catalog._snapshots.clear()
    return RadiObject(radi.uri)


def again(radi: RadiObject, files: Path, **options: Any) -> RadiObject:
    images = {"T1w": str(files / "*.nii")}
    radi.append(images, **{"on_conflict": "update", "copy": False, "progress": False, **options})
    return radi


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def paths(radi: RadiObject) -> list[str]:
    return [path.rpartition(".")[2] for path in radi.T1w.obs.to_arrow(["_path"])["_path"].to_pylist()]


# -- registering what is stored


def test_what_is_stored_stays_so_while_its_source_is_the_same(radi: RadiObject, files: Path) -> None:
    radi.materialize()
    means, version = radi.T1w.obs.read()["intensity_mean"].tolist(), radi.version
    touch(files / "sub-01_T1w.nii")  # the content decides: nobody kept the time of what was copied
    again(radi, files)
    assert (radi.version, radi.T1w.backend) == (version, "zarr")
    assert radi.T1w.obs.read()["intensity_mean"].tolist() == means
    assert means[0] > 0


def test_what_changed_since_it_was_stored_is_registered(
    radi: RadiObject, files: Path, make_nifti: NiftiMaker
) -> None:
    radi.materialize()
    (files / "sub-02_T1w.nii").write_bytes(make_nifti(RAMP + 9))
    again(radi, files)
    assert paths(radi) == ["zarr", "files"]
    np.testing.assert_array_equal(radi.T1w.iloc[1].to_numpy(), RAMP + 9)


def test_series_that_are_stored_stay_so(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    options: dict[str, Any] = {"deidentify": False, "progress": False}
    radi = RadiObject.from_dicoms(tmp_path / "study", folder, **options)
    radi.append(dicom_dirs=folder, copy=False, on_conflict="update", **options)
    assert (radi.version, radi.MR.backend) == (1, "zarr")


def test_what_cannot_be_compared_is_left_and_told(
    radi: RadiObject, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = RadiObject._of(Study(without_digests(radi.materialize())))
    with caplog.at_level(logging.INFO, "radiobject"):
        again(stored, files)
    assert (stored.version, stored.T1w.backend) == (3, "zarr")
    assert "2 left as they are, with no digest to compare" in caplog.text


def without_digests(radi: RadiObject) -> Snapshot:
    """The study as one that was made by somebody who kept none."""
    snapshot = radi._study.snapshot
    rows = snapshot.table("obs", "T1w").read(["obs_id", "source_digest"])
    rows = rows.set_column(1, "source_digest", pa.nulls(rows.num_rows, pa.string()))
    edit = Edit(collections={"T1w": CollectionEdit(updated=rows)})
    return Transaction(snapshot.storage, snapshot, "test", "").commit(edit)


# -- the last registered volume goes


def _mixed(radi: RadiObject, files: Path) -> None:
    radi.append({"T1w": [(files / "sub-01_T1w.nii", "sub-01", "stored")]}, progress=False)
    assert radi.T1w.backend == "files"


def _renamed_in_a_transaction(radi: RadiObject, files: Path) -> None:
    _mixed(radi, files)
    with radi.transaction() as t:
        t.rename_collection("T1w", "other")
        t.delete(obs_ids=["sub-01_T1w", "sub-02_T1w"])
        t.rename_collection("other", "T1w")


def _one_by_one_from_stale_handles(radi: RadiObject, files: Path) -> None:
    _mixed(radi, files)
    handles = [fresh(radi), fresh(radi)]
    for handle, obs_id in zip(handles, ("sub-01_T1w", "sub-02_T1w"), strict=True):
        handle.delete(obs_ids=obs_id)


def _emptied_and_filled(radi: RadiObject, files: Path) -> None:
    radi.delete(obs_ids=["sub-01_T1w", "sub-02_T1w"])
    again(radi, files, copy=True)


def _purged(radi: RadiObject, files: Path) -> None:
    radi.append({"T1w": [(files / "sub-01_T1w.nii", "sub-01")]}, on_conflict="replace", progress=False)
    radi.purge("sub-02", "withdrew consent")


GOING: dict[str, Callable[[RadiObject, Path], Any]] = {
    "deleted": lambda radi, files: (
        _mixed(radi, files),
        radi.delete(obs_ids=["sub-01_T1w", "sub-02_T1w"]),
    ),
    "replaced": lambda radi, files: again(radi, files, copy=True, on_conflict="replace"),
    "updated": lambda radi, files: again(radi, files, copy=True),
    "renamed in a transaction": _renamed_in_a_transaction,
    "from stale handles": _one_by_one_from_stale_handles,
    "emptied and filled": _emptied_and_filled,
    "purged": _purged,
}


@pytest.mark.parametrize("go", GOING.values(), ids=GOING)
def test_a_collection_without_registered_volumes_is_none_of_files(
    radi: RadiObject, files: Path, go: Callable[[RadiObject, Path], Any]
) -> None:
    go(radi, files)
    now = fresh(radi)
    assert set(paths(now)) == {"zarr"}
    assert now.T1w.backend == "zarr"
    assert now.validate("full").ok


def test_a_change_from_before_does_not_make_it_one_of_files_again(radi: RadiObject) -> None:
    before = fresh(radi)
    radi.materialize()
    before.T1w.obs.add_column("rating", values=["good", "bad"])
    assert fresh(radi).T1w.backend == "zarr"


def test_one_that_is_left_keeps_it_one_of_files(radi: RadiObject, files: Path) -> None:
    _mixed(radi, files)
    radi.delete(obs_ids="sub-01_T1w")
    assert fresh(radi).T1w.backend == "files"


def _stored_on_two_backends(radi: RadiObject, files: Path) -> None:
    pytest.importorskip("tiledb")
    before = fresh(radi)
    radi.append({"T1w": [(files / "sub-01_T1w.nii", "sub-01")]}, on_conflict="replace", progress=False)
    before.materialize(backend="tiledb")
    now = fresh(radi)
    assert (now.T1w.backend, paths(now)) == ("files", ["zarr", "tdb"])  # no other can hold both


def _emptied(radi: RadiObject, files: Path) -> None:
    radi.delete(obs_ids=["sub-01_T1w", "sub-02_T1w"])


@pytest.mark.parametrize("go", [_emptied, _stored_on_two_backends])
def test_another_root_may_be_named_when_nothing_lies_below_the_first(
    radi: RadiObject, files: Path, go: Callable[[RadiObject, Path], None]
) -> None:
    go(radi, files)
    radi = fresh(radi)
    more = {"T1w": [(files / "sub-01_T1w.nii", "sub-01", "more")]}
    radi.append(more, copy=False, source_root=files.parent, progress=False)
    opened = RadiObject(radi.uri, source_root=files.parent)
    np.testing.assert_array_equal(opened.T1w.loc["more"].to_numpy(raw=True), RAMP + 1)
