"""Handles that outlive clean-up, stores that lie, forks at a bad moment: what a long day brings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import (
    ConcurrencyError,
    ConfigError,
    IngestError,
    SnapshotExpiredError,
    StorageError,
    StorageFullError,
)
from radiobject.format import catalog, exclusive
from radiobject.format.cleanup import cleanup
from radiobject.format.commit import sealed
from radiobject.format.tags import create_tag, tags
from radiobject.location import Location
from radiobject.storage import Storage


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((4, 4, 4), value, dtype=np.uint8), np.eye(4)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    place = str(tmp_path / "study")
    RadiObject.from_niftis(place, {"T1w": [(scan(1), "s1")]})
    return place


def grow(uri: str, first: int, last: int) -> None:
    for number in range(first, last + 1):
        meta = {"obs_subject_id": [f"s{number}"]}
        RadiObject(uri).append({"T1w": [(scan(number), f"s{number}")]}, meta)


def clean(uri: str, keep: int = 1) -> None:
    cleanup(Storage(Location(uri)), keep=keep, older_than=-1, force=True)


def test_an_old_handle_cannot_win_a_number_again(uri: str) -> None:
    old = RadiObject(uri)
    grow(uri, 2, 6)
    clean(uri)
    old.append({"T1w": [(scan(9), "s9")]}, {"obs_subject_id": ["s9"]})
    catalog._snapshots.clear()
    radi = RadiObject(uri)
    assert radi.version == 8
    assert radi.obs_subject_ids == ["s1", "s2", "s3", "s4", "s5", "s6", "s9"]
    assert radi.validate("full").ok


def test_a_late_hint_does_not_bring_an_expired_version_back(uri: str) -> None:
    first = RadiObject(uri)._study.snapshot.commit
    grow(uri, 2, 4)
    clean(uri)
    late, _ = sealed({"latest": 1, "oldest": 1, "sha256": first.sha256})
    Path(uri, "hint.json").write_bytes(late)
    assert RadiObject(uri).version == 5


def test_a_failed_append_leaves_committed_groups_alone(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {p: p.read_bytes() for p in Path(uri, "collections").rglob("zarr.json")}
    real = Storage._call

    def full(self: Storage, operation: str, key: str, *rest: object) -> object:
        if operation in ("write", "replace", "create"):
            raise StorageFullError(key)
        return real(self, operation, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "_call", full)
    with pytest.raises(StorageFullError):
        RadiObject(uri).append({"T1w": [(scan(9), "s1")]}, on_conflict="replace")
    assert {p: p.read_bytes() for p in groups} == groups


def test_an_append_writes_no_group_that_is_there(uri: str) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(uri, "collections").rglob("zarr.json")}
    grow(uri, 2, 2)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_resume_sees_that_one_half_of_a_pair_changed(tmp_path: Path) -> None:
    place, folder = str(tmp_path / "s"), tmp_path / "in"
    folder.mkdir()
    for value in (1, 7):
        pair = nib.Nifti1Pair(np.full((4, 4, 4), value, np.uint8), np.eye(4))
        nib.save(pair, folder / f"{value}.hdr")
    (folder / "broken.nii").write_bytes(b"no")
    images = {"T1w": [(str(folder / "1.hdr"), "a"), (str(folder / "broken.nii"), "b")]}
    with pytest.raises(IngestError):
        RadiObject.from_niftis(place, images, executor="serial")
    os.replace(folder / "7.img", folder / "1.img")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), folder / "broken.nii")
    radi = RadiObject.from_niftis(place, images, executor="serial", resume=True)
    assert int(radi.T1w.iloc[0][0, 0, 0]) == 7


def test_a_tag_asks_the_server_first(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Storage, key: str, data: bytes) -> bool:
        self.write(key, data)
        return True

    storage, local = Storage(Location(uri)), Storage(Location(uri))
    storage.location.scheme = "s3"  # an object store, as far as anybody can tell, that ignores conditions
    storage._call = local._call  # type: ignore[method-assign]
    monkeypatch.setattr(Storage, "create", careless)
    with pytest.raises(ConcurrencyError, match="If-None-Match"):
        create_tag(storage, "x", 1, "0" * 64)
    assert tags(local) == {}


def test_litter_of_a_crash_among_the_tags_is_no_tag(uri: str) -> None:
    RadiObject(uri).tag("good")
    Path(uri, "tags", "bad.json.0123abcd.tmp").write_bytes(b"{")
    assert list(tags(Storage(Location(uri)))) == ["good"]
    assert RadiObject(uri).validate("full").ok
    clean(uri)


def test_what_a_live_write_has_finished_survives_clean_up(uri: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"no")
    good = tmp_path / "good.nii"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 5, np.uint8), np.eye(4)), good)
    images = {"T2w": [(str(good), "s1"), (str(broken), "s1")]}
    with pytest.raises(IngestError):
        RadiObject(uri).append(images, executor="serial")
    volume = next(Path(uri, "collections", "T2w", "s1_T2w").glob("*.ome.zarr"))
    clean(uri)
    assert (volume / "0" / "c" / "0" / "0" / "0").exists()


def test_an_unreadable_answer_is_asked_for_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "_FIRST_PAUSE", 0)
    create, read, failures = Storage.create, Storage.read, [StorageError("reset")]

    def lost(self: Storage, key: str, data: bytes) -> bool:
        create(self, key, data)
        raise StorageError("timeout")

    def flaky(self: Storage, key: str, at_most: int = 2**62) -> bytes:
        if key.endswith("000000000002.json") and failures:
            raise failures.pop()
        return read(self, key, at_most)

    monkeypatch.setattr(Storage, "create", lost)
    monkeypatch.setattr(Storage, "read", flaky)
    assert RadiObject(uri).delete(obs_ids="s1_T1w").version == 2
    assert not failures


def test_an_outcome_that_cannot_be_known_is_said(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "_FIRST_PAUSE", 0)
    radi = RadiObject(uri)

    def down(self: Storage, *rest: object) -> bytes:
        raise StorageError("down")

    monkeypatch.setattr(Storage, "create", down)
    monkeypatch.setattr(Storage, "read", down)
    with pytest.raises(StorageError, match="outcome is unknown"):
        radi.delete(obs_ids="s1_T1w")


def test_trouble_of_the_store_is_not_called_corruption(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Storage, key: str, start: int, stop: int) -> bytes:
        raise StorageError("timeout")

    radi = RadiObject(uri)
    monkeypatch.setattr(Storage, "read_range", slow)
    catalog._snapshots.clear()
    with pytest.raises(StorageError, match="timeout"):
        RadiObject(uri).obs_meta.read()
    monkeypatch.undo()
    grow(uri, 2, 2)
    assert radi.obs_meta.read()["obs_subject_id"].tolist() == ["s1"]


def test_a_table_that_clean_up_took_says_that_the_version_expired(uri: str) -> None:
    old = RadiObject(uri)
    RadiObject(uri).delete(obs_ids="s1_T1w")
    clean(uri)
    with pytest.raises(SnapshotExpiredError, match="version 1"):
        old.T1w.obs.read()


def test_other_options_are_another_cache_entry(uri: str) -> None:
    one = RadiObject(uri)._study.snapshot
    assert RadiObject(uri)._study.snapshot is one
    assert RadiObject(uri, storage_options={"auto_mkdir": True})._study.snapshot is not one


def test_a_password_in_a_uri_is_refused() -> None:
    with pytest.raises(ConfigError, match="storage_options"):
        Location("https://user:hush@127.0.0.1/study")


FORK = """
import os, sys, threading
from radiobject import RadiObject
radi = RadiObject(sys.argv[1])
stop = threading.Event()

def busy():
    while not stop.is_set():
        radi._study.obs("T1w").read()

reader = threading.Thread(target=busy)
reader.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        ok = len(radi.T1w.obs.read()) == 1 and int(radi.T1w.iloc[0][0, 0, 0]) == 1
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
# an interpreter that ends while Arrow's threads still hold Python's buffers may hang, with a fork or without
reader.join()
print("done")
"""


def test_a_fork_while_another_thread_reads_does_not_hang(uri: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, uri], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "done", done.stderr
