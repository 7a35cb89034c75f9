"""Purge beside other writers: those before it cannot commit, those after it lose nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from radiobject import RadiObject
from radiobject.errors import ConflictError, IntegrityError, SnapshotExpiredError
from radiobject.format import catalog, transaction
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.journal import Journal
from radiobject.format.layout import version_key
from radiobject.format.schema import OBS_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.storage import Storage
from tests.format.purged import erase, grow, holding, objects, scan
from tests.servers.s3 import s3_server


def test_a_number_with_a_tombstone_is_never_won_again(local: str) -> None:
    old = RadiObject(local, version=2)
    mine = Transaction(Storage(Location(local)), old._study.snapshot, "append")
    erase(local)
    before = objects(Storage(Location(local)))
    with pytest.raises(ConflictError, match="erased"):
        mine.commit(Edit(renamed_collections={"T1w": "t1"}))
    after = objects(Storage(Location(local)))
    assert {k: v for k, v in after.items() if k.startswith("versions/")} == {
        k: v for k, v in before.items() if k.startswith("versions/")
    }


@pytest.mark.parametrize("behind", [0, 2])
def test_a_write_that_began_before_the_purge_cannot_commit(local: str, behind: int) -> None:
    newest = RadiObject(local).version
    radi = RadiObject(local, version=newest - behind)
    erase(local)
    with pytest.raises(ConflictError, match="erased the versions before it"):
        radi.rename_collection("T1w", "t1")
    catalog._snapshots.clear()
    with pytest.raises((ConflictError, SnapshotExpiredError)):  # whose tables it wants to read are gone
        radi.append({"T1w": [(scan(9), "pat-7777")]}, {"obs_subject_id": ["pat-7777"]})
    assert RadiObject(local).validate("full").ok


def test_a_restore_cannot_bring_them_back(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    radi, real = RadiObject(local), Transaction._publish

    def late(self: Transaction, number: int, data: bytes) -> bool:
        monkeypatch.setattr(transaction.Transaction, "_publish", real)
        erase(local)  # another one is faster by a moment
        return real(self, number, data)

    monkeypatch.setattr(transaction.Transaction, "_publish", late)
    with pytest.raises(ConflictError):
        radi.restore(1)
    assert RadiObject(local).obs_subject_ids == ["pat-1"]
    assert holding(Storage(Location(local))) == []


def test_a_commit_in_between_is_erased_too(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transaction._publish

    def late(self: Transaction, number: int, data: bytes) -> bool:
        monkeypatch.setattr(transaction.Transaction, "_publish", real)
        RadiObject(local).append({"T1w": [(scan(9), "pat-0042", "zz-odd-51")]})
        Path(local, "notes.txt").write_text("zz-odd-51 is new")
        return real(self, number, data)

    monkeypatch.setattr(transaction.Transaction, "_publish", late)
    with pytest.raises(IntegrityError, match=r"notes\.txt"):  # its ids are looked for as well
        erase(local)
    Path(local, "notes.txt").unlink()
    erase(local)
    assert RadiObject(local).T1w.obs_ids == ["pat-1_T1w"]
    assert holding(Storage(Location(local))) == []


def after_the_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[Snapshot], object]) -> None:
    """Let another writer act between a purge's commit and its removals."""
    real = Transaction.commit

    def commit(self: Transaction, *edits: Edit) -> Snapshot:
        made = real(self, *edits)
        if self.operation == "purge":
            act(made)
        return made

    monkeypatch.setattr(Transaction, "commit", commit)


def write_more(place: str, options: dict[str, Any] | None = None) -> None:
    radi = RadiObject(place, storage_options=options or {})
    radi.obs_meta.update({"obs_subject_id": ["pat-1"], "family": ["two"]})
    radi.append({"T1w": [(scan(8), "pat-2")]}, {"obs_subject_id": ["pat-2"]}, progress=False)


def more_is_there(place: str, options: dict[str, Any] | None = None) -> bool:
    catalog._snapshots.clear()
    radi = RadiObject(place, storage_options=options or {})
    assert radi.obs_meta.read()["family"].tolist()[:1] == ["two"]
    assert int(radi.T1w.loc["pat-2_T1w"][0, 0, 0]) == 8
    return radi.validate("full").ok


def test_versions_committed_before_the_removal_keep_their_data(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(Location(local))

    def act(purged: Snapshot) -> None:
        held = set(objects(storage))
        write_more(local)
        committed = os.stat(Path(local, version_key(purged.version))).st_mtime
        for key in set(objects(storage)) - held:  # as on a store whose clock tells whole seconds
            os.utime(Path(local, key), (committed, committed))

    after_the_commit(monkeypatch, act)
    erase(local)
    assert more_is_there(local)
    assert holding(storage) == []


def test_versions_committed_before_the_removal_keep_their_data_on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto")
    with s3_server("bucket") as options:
        place = "s3://bucket/study"
        radi = grow(place, tmp_path, options)
        after_the_commit(monkeypatch, lambda _: write_more(place, options))
        radi.purge(["pat-0042", "Ärztin 7"], "asked", force=True)
        assert more_is_there(place, options)
        assert holding(radi._study.snapshot.storage) == []


def test_what_a_later_write_took_over_stays(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(Location(local))
    folders = {who: f"collections/new/{who}/one.ome.zarr" for who in ("pat-1_new", "pat-8_new")}
    for folder in folders.values():
        storage.write(f"{folder}/zarr.json", b"{}")
    storage.write("collections/new/zarr.json", b"{}")
    for name in ("one", "other"):
        storage.write(f"indexes/new/{name}.fg", b"index")
    index = {"path": "indexes/new/one.fg", "bytes": 5, "crc32c": 0}

    def act(_: Snapshot) -> None:
        later = Journal(storage, "later")
        later.begin("append", "plan")
        row = {"obs_subject_id": "pat-1", "_path": folders["pat-1_new"], "_foreground": index}
        schema = pa.schema([OBS_SCHEMA.field(name) for name in row])
        later.record("obs", pa.Table.from_pylist([row], schema))

    after_the_commit(monkeypatch, act)
    erase(local)
    new = ("collections/new", "indexes/new", "transactions")
    assert {key for key in objects(storage) if key.startswith(new)} == {
        "collections/new/zarr.json", f"{folders['pat-1_new']}/zarr.json", "indexes/new/one.fg",
        "transactions/later/begin.json", "transactions/later/000001.parquet",
    }  # fmt: skip


def test_what_came_while_the_purge_was_committed_goes_only_if_it_names_them(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, real = Storage(Location(local)), Transaction._publish
    texts = {"theirs": b"of pat-0042", "others": b"of pat-5"}
    keys = {who: f"tables/obs_meta/{who}.parquet" for who in texts}

    def publish(self: Transaction, number: int, data: bytes) -> bool:
        for who, text in texts.items():
            storage.write(keys[who], text)
            os.utime(Path(local, keys[who]), (0, 0))
        return real(self, number, data)

    monkeypatch.setattr(Transaction, "_publish", publish)
    erase(local)
    assert {who: storage.size(key) for who, key in keys.items()} == {"theirs": None, "others": 8}
