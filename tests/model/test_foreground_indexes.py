"""Foreground indexes through the life of a study: written, built later, copied, damaged, erased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from radiobject import RadiObject, WriteConfig
from radiobject.backends.base import StoredObject
from radiobject.errors import (
    ConfigError,
    ConflictError,
    CorruptObjectError,
    FormatError,
    IngestError,
    MissingObjectError,
    StaleIndexError,
    StorageError,
    ViewError,
)
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.journal import running
from radiobject.format.schema import OBJECT
from radiobject.format.transaction import Transaction
from radiobject.model import foreground as building
from radiobject.model.foreground import _indexed, stored_index
from radiobject.model.study import Study
from radiobject.storage import Storage
from radiobject.writing.foreground import put_index
from tests.conftest import Place

SUBJECTS = ("a", "b", "c")
PLAIN = WriteConfig(foreground_index=False)


def mask(number: int) -> npt.NDArray[np.uint8]:
    made = np.zeros((6, 5, 4), "u1")
    made[number:, 1:, 2] = number + 1
    return made


def make(uri: Any, **options: Any) -> RadiObject:
    images = {
        "CT": {s: (np.arange(120, dtype="i2").reshape(6, 5, 4), None) for s in SUBJECTS},
        "seg": {s: (mask(n), None) for n, s in enumerate(SUBJECTS)},
    }
    sources = {name: [(image, s) for s, image in of.items()] for name, of in images.items()}
    return RadiObject.from_niftis(uri, sources, labels=["seg"], progress=False, **options)


@pytest.fixture
def radi(backend: Place) -> RadiObject:
    return make(backend.uri(), backend=backend.backend)


@pytest.fixture
def plain(backend: Place) -> RadiObject:
    return make(backend.uri(), backend=backend.backend, write=PLAIN)


def keys(radi: RadiObject) -> list[str]:
    """Indexes that lie in the study, whether or not anything names them."""
    return [i.key for i in radi._study.snapshot.storage.list("") if i.key.startswith("indexes/")]


def named(radi: RadiObject, name: str = "seg") -> list[str | None]:
    table = radi._study.obs(name)
    if "_foreground" not in table.schema.names:
        return [None] * table.num_rows
    return [row and row["path"] for row in table.read(["_foreground"])["_foreground"].to_pylist()]


def assert_indexed(radi: RadiObject, name: str = "seg") -> None:
    for position, volume in enumerate(radi.collection(name)):
        index = stored_index(radi._study, name, position)
        assert index is not None
        values, counts = np.unique(volume.to_numpy(), return_counts=True)
        assert (index.values.tolist(), index.counts.tolist()) == (values.tolist(), counts.tolist())


def test_labels_have_an_index_and_images_none(radi: RadiObject) -> None:
    assert_indexed(radi)
    assert named(radi, "CT") == [None] * 3
    assert sorted(keys(radi)) == sorted(key for key in named(radi) if key)
    assert radi.validate("full").ok


def test_indexes_are_built_for_volumes_that_have_none(plain: RadiObject) -> None:
    assert keys(plain) == []
    assert stored_index(plain._study, "seg", 0) is None
    assert plain.index_foreground().version == 2
    assert_indexed(plain)
    assert plain.validate("full").ok
    assert plain.index_foreground("seg").version == 2
    before = named(plain)
    assert plain.index_foreground(rebuild=True).version == 3
    assert_indexed(plain)
    assert not set(before) & set(named(plain))
    assert [v["operation"] for v in plain.versions()][1:] == ["index foreground"] * 2


def test_only_new_volumes_are_indexed_beside_older_ones(plain: RadiObject) -> None:
    plain.append({"seg": [((mask(1), None), "d")]}, {"obs_subject_id": ["d"]}, progress=False)
    assert [key is not None for key in named(plain)] == [False, False, False, True]
    last = named(plain)[-1]
    assert named(plain.index_foreground())[-1] == last
    assert_indexed(plain)


def test_derived_and_replaced_label_volumes_have_their_own(radi: RadiObject) -> None:
    radi.add_collection("doubled_seg", radi.seg.lazy().map(lambda v, row: v * 2), progress=False)
    assert_indexed(radi, "doubled_seg")
    old = named(radi)[0]
    radi.append({"seg": [((mask(2), None), "a")]}, on_conflict="replace", progress=False)
    assert named(radi)[0] not in (None, old)
    assert_indexed(radi)


@pytest.mark.parametrize("target", ["zarr", "memory"])
def test_a_copy_has_indexes_of_its_own(radi: RadiObject, target: str, tmp_path: Path) -> None:
    copy = radi.write(tmp_path / "copy", backend=target, progress=False)
    assert_indexed(copy)
    assert copy.validate("full").ok
    assert len(keys(copy)) == 3


def test_a_view_is_copied_with_its_indexes_alone(radi: RadiObject, tmp_path: Path) -> None:
    copy = radi.loc["b"].write(tmp_path / "one", progress=False)
    assert len(keys(copy)) == 1
    assert_indexed(copy)


def test_older_versions_keep_theirs_and_clean_up_takes_the_rest(radi: RadiObject) -> None:
    first = set(named(radi))
    radi.index_foreground(rebuild=True)
    second = set(named(radi))
    assert set(keys(radi)) == first | second
    radi.cleanup(keep=3, older_than=-1, force=True)
    assert set(keys(radi)) == first | second
    radi.cleanup(keep=1, older_than=-1, force=True)
    assert set(keys(radi)) == second
    assert_indexed(radi)


def test_a_restored_version_has_its_indexes(radi: RadiObject) -> None:
    first = named(radi)
    radi.delete(obs_ids="b_seg").restore(1)
    assert named(radi) == first
    assert_indexed(radi)


def test_erased_subjects_leave_no_index(radi: RadiObject) -> None:
    gone = named(radi)[1]
    radi.purge("b", "withdrew consent")
    assert gone not in keys(radi)
    assert len(keys(radi)) == 2
    assert_indexed(radi)


def test_the_last_erased_subject_leaves_no_folder(tmp_path: Path) -> None:
    make(tmp_path / "study").purge(SUBJECTS, "withdrew consent")
    assert not (tmp_path / "study" / "indexes").exists()


def rewritten(radi: RadiObject, key: str, data: bytes | None) -> None:
    storage = radi._study.snapshot.storage
    storage.delete(key)
    if data is not None:
        storage.write(key, data)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_index_is_an_error_that_validate_finds(radi: RadiObject, damage: str) -> None:
    key = str(named(radi)[1])
    data = radi._study.snapshot.storage.read(key)
    bad = {"cut": data[:-5], "flipped": data[:300] + bytes([data[300] ^ 1]) + data[301:], "gone": None}
    rewritten(radi, key, bad[damage])
    with pytest.raises(MissingObjectError if damage == "gone" else CorruptObjectError, match=key):
        stored_index(radi._study, "seg", 1)
    report = radi.validate("full")
    assert [key in str(problem) for problem in report.problems].count(True) >= 1
    radi.index_foreground(rebuild=True)
    assert_indexed(radi)
    assert radi.validate("full").ok


def restated(radi: RadiObject, rows: pa.Table) -> RadiObject:
    """The study when rows of `seg` name other indexes."""
    transaction = Transaction(radi._study.snapshot.storage, radi._study.snapshot, "swap")
    transaction.commit(Edit(collections={"seg": CollectionEdit("label", radi.seg.backend, updated=rows)}))
    return RadiObject(radi.uri)


def test_an_object_of_another_kind_is_no_index(radi: RadiObject) -> None:
    root = StoredObject.of("zarr.json", radi._study.snapshot.storage.read("zarr.json"))
    named_root = pa.table({"obs_id": ["a_seg"], "_foreground": pa.array([asdict(root)], OBJECT)})
    with pytest.raises(FormatError, match="below indexes/"):
        stored_index(restated(radi, named_root)._study, "seg", 0)


def test_an_index_of_other_voxels_is_stale(radi: RadiObject) -> None:
    rows = radi._study.obs("seg").read(["obs_id", "_foreground"])
    swapped = pa.table({"obs_id": rows["obs_id"][:1], "_foreground": rows["_foreground"][1:2].cast(OBJECT)})
    radi = restated(radi, swapped)
    with pytest.raises(StaleIndexError, match="index_foreground"):
        stored_index(radi._study, "seg", 0)
    assert stored_index(radi._study, "seg", 1) is not None
    assert radi.validate().ok
    (problem,) = radi.validate("full").problems
    assert "indexes/seg" in str(problem)
    radi.index_foreground(rebuild=True)
    assert_indexed(radi)
    assert radi.validate("full").ok


def test_an_index_of_another_shape_is_refused(radi: RadiObject) -> None:
    index = stored_index(radi._study, "seg", 0)
    assert index is not None
    storage = radi._study.snapshot.storage
    stated = put_index(replace(index, shape=(40, 50, 60)), "indexes/seg/wide.fg", storage)
    wide = {"obs_id": pa.array(["a_seg"]), "_foreground": pa.array([stated], OBJECT)}
    radi = restated(radi, pa.table(wide))
    with pytest.raises(FormatError, match=r"\(4, 5, 6\) voxels"):
        stored_index(radi._study, "seg", 0)


def test_a_copy_that_fails_leaves_no_index(radi: RadiObject, tmp_path: Path) -> None:
    rewritten(radi, str(named(radi)[2]), b"cut off")
    with pytest.raises(CorruptObjectError, match="indexes/seg"):
        radi.write(tmp_path / "copy", backend="zarr", executor="serial", progress=False)
    assert not list((tmp_path / "copy").rglob("*.fg"))


def test_an_index_that_is_not_there_cannot_be_committed(radi: RadiObject) -> None:
    table = radi._study.obs("seg").read(["obs_id", "_foreground"])
    rewritten(radi, str(named(radi)[0]), None)
    edit = CollectionEdit("label", radi.seg.backend, updated=table)
    transaction = Transaction(radi._study.snapshot.storage, radi._study.snapshot, "index")
    with pytest.raises(MissingObjectError, match="indexes/seg"):
        transaction.commit(Edit(collections={"seg": edit}))
    assert RadiObject(radi.uri).version == 1


def test_volumes_appended_meanwhile_are_no_conflict(plain: RadiObject) -> None:
    other = RadiObject(plain.uri)
    other.append({"seg": [((mask(1), None), "d")]}, {"obs_subject_id": ["d"]}, progress=False)
    plain.index_foreground()
    assert plain.version == 3
    assert_indexed(plain)


def failed_once(folder: Path) -> tuple[RadiObject, dict[str, Any], str]:
    """A study, sources of label volumes of which one was finished before another failed, and its index."""
    radi = make(folder / "study")
    before = set(keys(radi))
    early, late = folder / "early.nii", folder / "late.nii"
    nib.save(nib.Nifti1Image(mask(1), np.eye(4)), early)
    late.write_bytes(b"no")
    sources = {"more": [(str(early), "a"), (str(late), "b")]}
    with pytest.raises(IngestError):
        radi.append(sources, labels=["more"], executor="serial", progress=False)
    nib.save(nib.Nifti1Image(mask(2), np.eye(4)), late)
    (finished,) = set(keys(radi)) - before
    return radi, sources, finished


def test_an_index_that_a_live_write_has_finished_survives_clean_up(tmp_path: Path) -> None:
    radi, _, finished = failed_once(tmp_path)
    radi.cleanup(keep=1, older_than=-1, force=True)
    assert finished in keys(radi)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_finished_volume_is_taken_over_with_its_index_if_that_is_whole(
    tmp_path: Path, damaged: bool
) -> None:
    radi, sources, finished = failed_once(tmp_path)
    if damaged:
        data = radi._study.snapshot.storage.read(finished)
        rewritten(radi, finished, data[:-9] + b"123456789")
    radi.append(sources, labels=["more"], resume=True, progress=False)
    assert_indexed(radi, "more")
    assert (finished in named(radi, "more")) != damaged


def between(monkeypatch: pytest.MonkeyPatch, number: int, change: Callable[[], Any]) -> None:
    """Let another writer come in when `index_foreground` is at its volume of that number."""
    seen: list[int] = []

    def indexed(study: Study, name: str, position: int) -> dict[str, Any]:
        seen.append(position)
        if len(seen) == number:
            change()
        return _indexed(study, name, position)

    monkeypatch.setattr(building, "_indexed", indexed)


def test_volumes_that_others_move_between_two_commits_are_found_by_their_ids(
    plain: RadiObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_GROUP", 1)
    between(monkeypatch, 2, lambda: RadiObject(plain.uri).delete(subjects="a"))
    plain.index_foreground(executor="serial")
    assert plain.seg.obs_ids == ["b_seg", "c_seg"]
    assert_indexed(plain)


def test_others_see_that_indexes_are_being_built(plain: RadiObject, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    between(monkeypatch, 1, lambda: seen.append(len(running(plain._study.snapshot.storage))))
    plain.index_foreground(executor="serial")
    assert (seen, running(plain._study.snapshot.storage)) == ([1], [])


def test_indexing_that_fails_lets_others_go_on(plain: RadiObject, monkeypatch: pytest.MonkeyPatch) -> None:
    new = {"seg": [((mask(2), None), "a")]}
    other = RadiObject(plain.uri)
    between(monkeypatch, 1, lambda: other.append(new, on_conflict="replace", progress=False))
    with pytest.raises(ConflictError, match="a_seg"):
        plain.index_foreground(executor="serial")
    other.purge("b", "withdrew consent")  # which waits for writes that may be alive
    other.cleanup(keep=1, older_than=-1, force=True)
    assert keys(other) == [key for key in named(other) if key]


def test_images_and_views_are_refused(radi: RadiObject) -> None:
    with pytest.raises(ConfigError, match="'CT'"):
        radi.index_foreground("CT")
    with pytest.raises(ViewError, match="index_foreground"):
        radi.loc["a"].index_foreground()


def test_a_write_that_fails_at_the_index_leaves_no_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write

    def full(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("indexes/"):
            raise StorageError(key, expected="room", got="a full disk")
        write(self, key, data)

    monkeypatch.setattr(Storage, "write", full)
    with pytest.raises(Exception, match="a full disk"):
        make(tmp_path / "study")
    left = [p for p in (tmp_path / "study" / "collections" / "seg").rglob("*") if p.is_file()]
    assert {p.name for p in left} <= {"zarr.json"}
    assert not [p for p in left if ".ome.zarr" in str(p)]


@pytest.mark.only("tensorstore", "zarr-python", reason="damages a file of Zarr")
def test_a_volume_that_cannot_be_read_is_told_when_the_others_are_done(tmp_path: Path) -> None:
    radi = make(tmp_path / "study", write=PLAIN)
    (shard,) = (tmp_path / "study" / "collections" / "seg" / "b_seg").rglob("0/c/0/0/0")
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(CorruptObjectError, match="b_seg") as failure:
        radi.index_foreground()
    assert "1 of 3 volumes" in failure.value.__notes__[0]
    assert [key is not None for key in named(RadiObject(tmp_path / "study"))] == [True, False, True]


@pytest.mark.gap("memory", reason="other processes do not see it", raises=ConfigError)
def test_other_processes_can_do_it(tmp_path: Path) -> None:
    radi = make(tmp_path / "study", write=PLAIN)
    assert_indexed(radi.index_foreground(executor="processes", workers=2, progress=False))
