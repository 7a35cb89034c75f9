"""One commit a change: lost replies, lost races, rebases and conflicts."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.errors import (
    ConcurrencyError,
    ConflictError,
    CorruptObjectError,
    DuplicateIdError,
    MetadataError,
    MissingObjectError,
    StorageError,
    StudyExistsError,
)
from radiobject.format import exclusive, transaction
from radiobject.format.changes import Edit
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.storage import Storage


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((4, 4, 4), value, dtype=np.uint8), np.eye(4)


def meta(*subjects: str, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"obs_subject_id": list(subjects), **columns})


def total(radi: RadiObject, obs_id: str) -> int:
    return int(radi.get_volume(obs_id).to_numpy().sum()) // 64


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place = str(tmp_path / "s") if request.param == "file" else f"memory://{tmp_path.name}/s"
    RadiObject.from_niftis(place, {"T1w": [(scan(1), "a"), (scan(2), "b")]}, meta("a", "b", age=[30, 40]))
    return place


class LostReply:
    """A store whose commits succeed and then say that they failed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        self.tries = 0
        real = Storage.create

        def create(storage: Storage, key: str, data: bytes) -> bool:
            done = real(storage, key, data)
            if key.startswith("versions/"):
                self.tries += 1
                if error is None:
                    return False
                raise error
            return done

        monkeypatch.setattr(Storage, "create", create)


@pytest.mark.parametrize("error", [StorageError("timeout"), None], ids=["raises", "says taken"])
def test_a_commit_whose_reply_is_lost_is_reported_once(
    uri: str, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    lost = LostReply(monkeypatch, error)
    radi = RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    assert (radi.version, lost.tries) == (2, 1)
    assert RadiObject(uri).T1w.obs_ids == ["a_T1w", "b_T1w", "c_T1w"]
    assert len(RadiObject(uri).versions()) == 2


def test_a_store_that_keeps_failing_is_an_error_and_no_version(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(storage: Storage, key: str, data: bytes) -> bool:
        raise StorageError("503")

    monkeypatch.setattr(Storage, "create", create)
    with pytest.raises(StorageError, match="503"):
        RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    assert RadiObject(uri).version == 1


def test_a_store_that_fails_twice_is_tried_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = Storage.create, [StorageError("500"), StorageError("reset")]

    def create(storage: Storage, key: str, data: bytes) -> bool:
        if failures:
            raise failures.pop()
        return real(storage, key, data)

    monkeypatch.setattr(Storage, "create", create)
    assert RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[50])).version == 2


def two(uri: str) -> tuple[RadiObject, RadiObject]:
    return RadiObject(uri), RadiObject(uri)


def test_writers_of_different_subjects_both_win(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    second.append({"T1w": [(scan(4), "d")]}, meta("d", age=[60]))
    radi = RadiObject(uri)
    assert (radi.version, radi.obs_subject_ids) == (3, ["a", "b", "c", "d"])
    assert [total(radi, f"{s}_T1w") for s in "abcd"] == [1, 2, 3, 4]
    assert radi.validate("full").ok


def test_writers_of_two_layers_of_the_same_new_subject_both_win(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    second.append({"FLAIR": [(scan(4), "c")]}, meta("c", age=[50]))
    radi = RadiObject(uri)
    assert radi.obs_subject_ids == ["a", "b", "c"]
    assert (total(radi, "c_T1w"), total(radi, "c_FLAIR")) == (3, 4)
    assert radi.validate("full").ok


def test_the_same_subject_with_other_values_is_a_conflict(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    with pytest.raises(ConflictError, match="'c'"):
        second.append({"FLAIR": [(scan(4), "c")]}, meta("c", age=[51]))
    assert RadiObject(uri).collection_names == ("T1w",)


def test_the_same_volume_twice_is_a_conflict_naming_both_sides(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "a")]}, on_conflict="replace")
    with pytest.raises(ConflictError, match=r"a_T1w.*version 2 \(append"):
        second.append({"T1w": [(scan(4), "a")]}, on_conflict="replace")
    assert total(RadiObject(uri), "a_T1w") == 3


def test_new_volume_of_a_subject_deleted_meanwhile_is_a_conflict(uri: str) -> None:
    first, second = two(uri)
    first.delete(subjects="b")
    with pytest.raises(ConflictError, match="'b'"):
        second.append({"FLAIR": [(scan(4), "b")]})
    assert RadiObject(uri).validate("standard").ok


def test_deleting_a_subject_that_gained_a_volume_meanwhile_is_a_conflict(uri: str) -> None:
    first, second = two(uri)
    first.append({"FLAIR": [(scan(4), "b")]})
    with pytest.raises(ConflictError, match="'b'"):
        second.delete(subjects="b")


def test_deleting_a_collection_that_grew_meanwhile_is_a_conflict(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    with pytest.raises(ConflictError, match="T1w"):
        second.delete(collections="T1w")


def test_appending_to_a_collection_deleted_meanwhile_is_a_conflict(uri: str) -> None:
    first, second = two(uri)
    first.delete(collections="T1w")
    with pytest.raises(ConflictError, match="T1w"):
        second.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))


def test_a_column_whose_type_clashes_is_a_conflict_only_after_a_race(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50], dx=["AD"]))
    with pytest.raises(ConflictError, match="dx"):
        second.append({"T1w": [(scan(4), "d")]}, meta("d", age=[50], dx=[7]))
    with pytest.raises(MetadataError, match="dx"):
        RadiObject(uri).append({"T1w": [(scan(4), "d")]}, meta("d", age=[50], dx=[7]))


def test_new_columns_are_null_before_and_integers_widen(uri: str) -> None:
    RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[50.5], dx=["AD"]))
    frame = RadiObject(uri).obs_meta.read()
    assert frame["age"].tolist() == [30.0, 40.0, 50.5]
    assert frame["dx"].isna().tolist() == [True, True, False]


def test_compaction_rebases_over_an_append(uri: str) -> None:
    first, second = two(uri)
    first.append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]))
    base = second._study.snapshot
    made = Transaction(base.storage, base, "compact").commit(Edit(compact=True))
    assert made.version == 3
    assert RadiObject(uri).T1w.obs_ids == ["a_T1w", "b_T1w", "c_T1w"]
    assert all(len(parts) == 1 for c in made.commit.collections for parts in c.tables.values())


def test_tables_of_many_parts_are_folded_by_the_commit_that_passes_the_limit(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/many"
    radi = RadiObject.from_niftis(place, {"T1w": [(scan(0), "s0")]})
    for number in range(1, 36):
        radi.append({"T1w": [(scan(number), f"s{number}")]}, meta(f"s{number}"))
    parts = radi._study.snapshot.commit.tables["obs_meta"]
    assert len(parts) == 36 - 33 + 1
    assert radi.obs_subject_ids == [f"s{n}" for n in range(36)]
    assert [total(radi, f"s{n}_T1w") for n in (0, 17, 35)] == [0, 17, 35]


def test_only_one_of_two_creators_wins(tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    started, outcomes = threading.Barrier(2), list[object]()

    def create(value: int) -> None:
        started.wait()
        try:
            outcomes.append(RadiObject.from_niftis(place, {"T1w": [(scan(value), f"s{value}")]}))
        except (ConflictError, StudyExistsError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=create, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(o, RadiObject) for o in outcomes) == [False, True]
    assert len(RadiObject(place)) == 1


def test_a_taken_id_and_a_missing_object_stop_the_commit(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DuplicateIdError, match="a_T1w"):
        RadiObject(uri).append({"T1w": [(scan(3), "a")]})
    real = Storage.size

    def gone(storage: Storage, key: str) -> int | None:
        return None if key.endswith("0/c/0/0/0") else real(storage, key)

    if uri.startswith("memory"):
        return  # the memory backend keeps no objects to lose
    monkeypatch.setattr(Storage, "size", gone)
    with pytest.raises(MissingObjectError, match="0/c/0/0/0"):
        RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[1]))
    monkeypatch.setattr(Storage, "size", lambda s, k: 1 if k.endswith("0/c/0/0/0") else real(s, k))
    with pytest.raises(CorruptObjectError, match=r"expected \d+ bytes, got 1"):
        RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[1]))


def test_a_long_change_list_stands_beside_the_commit(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_IDS_IN_COMMIT", 3)
    first, second = two(uri)
    first.append({"T1w": [(scan(n), f"n{n}") for n in range(3)]}, meta("n0", "n1", "n2", age=[1, 2, 3]))
    commit = first._study.snapshot.commit
    assert commit.change is None
    assert commit.change_list is not None
    with pytest.raises(ConflictError, match="n1"):
        second.append({"FLAIR": [(scan(4), "n1")]}, meta("n1", age=[9]))
    assert first.validate("full").ok


def test_a_place_without_exclusive_creation_wants_to_be_told(tmp_path: Path) -> None:
    storage = Storage(Location("http://127.0.0.1:9/study"))
    with pytest.raises(ConcurrencyError, match="single_writer=True"):
        Transaction(storage, None, "create")


def test_a_server_that_ignores_conditions_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(storage: Storage, key: str, data: bytes) -> bool:
        storage.write(key, data)
        return True

    monkeypatch.setattr(Storage, "create", careless)
    storage = Storage(Location(uri))
    storage.location.scheme = "s3"
    storage._call = RadiObject(uri)._study.snapshot.storage._call  # type: ignore[method-assign]
    with pytest.raises(ConcurrencyError, match="If-None-Match"):
        exclusive.require_exclusive(storage)


def test_the_commit_says_who_when_and_what(uri: str) -> None:
    radi = RadiObject(uri).append({"T1w": [(scan(3), "c")]}, meta("c", age=[50]), message="more scans")
    last = radi.versions()[-1]
    assert (last["operation"], last["message"], last["version"]) == ("append", "more scans", 2)
    change = json.loads(radi._study.snapshot.commit.to_bytes()[0])["change"]
    assert change == {"subjects_added": ["c"], "volumes_added": ["c_T1w"]}


def test_long_ids_stand_beside_the_commit(tmp_path: Path) -> None:
    ids = [f"{n:03d}{'x' * 40_000}" for n in range(30)]
    images = {"T1w": [((np.zeros((2, 2, 2), "u1"), None), "s", i) for i in ids]}
    RadiObject.from_niftis(tmp_path / "s", images, progress=False)
    size = (tmp_path / "s" / "versions" / "000000000001.json").stat().st_size
    assert size < 2**20 < sum(map(len, ids))
    radi = RadiObject(tmp_path / "s")
    assert radi.T1w.obs_ids == ids
    assert radi.validate("full").ok
