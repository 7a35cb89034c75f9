"""transaction(): changes that see each other, one commit at the end, nothing on an error."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import (
    ConflictError,
    DuplicateIdError,
    IngestError,
    MetadataError,
    MissingObjectError,
    StorageError,
    TransactionError,
    ViewError,
)
from radiobject.format import journal
from radiobject.format.cleanup import cleanup
from radiobject.model import staging
from radiobject.storage import Storage

META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [30, 10, 20]}


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((6, 5, 4), value, "i2"), np.eye(4)


def values(radi: RadiObject) -> dict[str, int]:
    return {v.obs_id: int(v[0, 0, 0]) for name in radi for v in radi.collection(name)}


def block(radi: RadiObject, *changes: Callable[[RadiObject], Any]) -> None:
    """The changes in one transaction."""
    with radi.transaction() as t:
        for change in changes:
            change(t)


def journals(radi: RadiObject) -> list[str]:
    return [info.key for info in radi._study.snapshot.storage.list("transactions")]


CHANGES: dict[str, Callable[[RadiObject], Any]] = {
    "append": lambda t: t.append({"T1w": [(scan(1), "x")]}, {"obs_subject_id": ["x"]}),
    "add_collection": lambda t: t.add_collection("half", t.T1w.lazy().map(lambda v, row: v)),
    "delete": lambda t: t.delete(subjects="sub-01"),
    "rename": lambda t: t.rename_collection("T1w", "T1"),
    "split": lambda t: t.split(2),
    "update": lambda t: t.obs_meta.update({"obs_subject_id": ["sub-01"], "age": [1]}),
    "add_column": lambda t: t.T1w.obs.add_column("qc", "str"),
    "drop_column": lambda t: t.obs_meta.drop_column("age"),
    "tag": lambda t: t.tag("x"),
    "restore": lambda t: t.restore(99),
    "transaction": lambda t: t.transaction().__enter__(),
}


@pytest.fixture
def radi(study) -> RadiObject:
    return study(None, META)


def test_changes_see_each_other_and_are_one_version(backend) -> None:
    images = {"T1w": [(scan(n), s) for n, s in enumerate("abc")]}
    radi = RadiObject.from_niftis(backend.uri(), images, backend=backend.backend)
    with radi.transaction("second wave") as t:
        t.append({"T1w": [(scan(7), "d")], "seg": [(scan(8), "d")]}, {"obs_subject_id": ["d"]})
        t.obs_meta.add_column("wave", fill=1).update({"obs_subject_id": ["d"], "wave": [2]})
        t.T1w.obs.add_column("qc", "str", values={"d_T1w": "good"})
        t.rename_collection("T1w", "T1")
        t.append({"T1": [(scan(9), "a")]}, on_conflict="replace")
        t.delete(subjects="b")
        assert t.collection_names == ("T1", "seg")
        assert values(t) == {"a_T1w": 0, "c_T1w": 2, "d_T1w": 7, "a_T1": 9, "d_seg": 8}
        assert t.sel(wave=2).T1.sel(qc="good")[0, 0, 0] == 7
        assert (t.version, radi.version, RadiObject(backend.uri()).version) == (2, 1, 1)
        assert values(radi) == {"a_T1w": 0, "b_T1w": 1, "c_T1w": 2}
    for one in (radi, t, RadiObject(backend.uri())):
        assert one.version == 2
        assert values(one) == {"a_T1w": 0, "c_T1w": 2, "d_T1w": 7, "a_T1": 9, "d_seg": 8}
        assert one.obs_meta.read().to_dict("list") == {"obs_subject_id": ["a", "c", "d"], "wave": [1, 1, 2]}
    assert [(v["operation"], v["message"]) for v in radi.versions()] == [
        ("create", ""),
        ("transaction", "second wave"),
    ]
    assert radi.validate("full").ok
    assert journals(radi) == []


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_an_error_commits_nothing_and_goes_on(radi, error) -> None:
    seen = []

    def fail(t: RadiObject) -> None:
        seen.append(t)
        raise error

    with pytest.raises(type(error)) as caught:
        block(radi, CHANGES["append"], CHANGES["delete"], fail)
    assert caught.value is error
    assert (radi.version, RadiObject(radi.uri).version) == (1, 1)
    assert radi.obs_subject_ids == ["sub-03", "sub-01", "sub-02"]
    assert radi.validate("full").ok
    with pytest.raises(TransactionError, match="has ended"):
        seen[0].delete(subjects="sub-03")


def test_a_change_that_fails_inside_leaves_the_others(radi, tmp_path) -> None:
    (tmp_path / "bad.nii").write_bytes(b"no image")
    with radi.transaction() as t:
        t.obs_meta.add_column("n", fill=1)
        with pytest.raises(MetadataError, match="add_column"):
            t.obs_meta.update({"obs_subject_id": ["sub-01"], "m": [1]})
        with pytest.raises(IngestError, match="1 of 1"):
            t.append({"T2w": [(tmp_path / "bad.nii", "sub-01")]})
        t.obs_meta.update({"obs_subject_id": ["sub-01"], "n": [2]})
    assert radi.obs_meta["n"].to_list() == [1, 2, 1]
    assert radi.collection_names == ("T1w", "seg")


def test_a_block_without_changes_makes_no_version_and_writes_nothing(radi) -> None:
    before = [i.key for i in radi._study.snapshot.storage.list()]
    with radi.transaction() as t:
        t.obs_meta.update(t.obs_meta.read())
        t.append({"T1w": [(scan(3), "sub-03")]}, on_conflict="skip")
        assert [i.key for i in radi._study.snapshot.storage.list()] == before
    assert (t.version, radi.version) == (1, 1)


def test_messages_of_the_changes_are_kept_where_the_block_has_none(radi) -> None:
    with radi.transaction() as t:
        t.delete(obs_ids="sub-01_seg", message="bad mask")
        t.obs_meta.drop_column("age", message="not ours")
    assert radi.versions()[-1]["message"] == "bad mask; not ours"


@pytest.mark.parametrize("name", CHANGES)
def test_after_the_block_its_study_reads_and_refuses_changes(radi, name) -> None:
    with radi.transaction() as t:
        t.delete(obs_ids="sub-01_seg")
        mask = t.seg
    with pytest.raises(TransactionError, match=rf"{name}\(\).*has ended"):
        CHANGES[name](t)
    with pytest.raises(TransactionError, match="has ended"):
        mask.obs.drop_column("x")
    assert [int(v[0, 0, 0]) for v in mask] == [13, 12]
    assert RadiObject(radi.uri).version == 2


@pytest.mark.parametrize("name", ["tag", "restore", "transaction", "validate"])
def test_what_cannot_wait_is_refused_inside(radi, name) -> None:
    change = {**CHANGES, "validate": lambda t: t.validate()}[name]
    with radi.transaction() as t:
        with pytest.raises(TransactionError, match=rf"{name}\(\) inside"):
            change(t)
        t.delete(subjects="sub-01")
        with pytest.raises(TransactionError, match="not committed"):
            pickle.dumps(t.T1w.iloc[0])
    assert radi.version == 2


def test_views_have_no_transactions(radi) -> None:
    with pytest.raises(ViewError), radi.head(1).transaction():
        pass
    with radi.transaction() as t, pytest.raises(ViewError):
        t.head(1).delete(subjects="sub-03")


def test_ids_are_unique_across_staged_changes_and_come_free_again(radi) -> None:
    with radi.transaction() as t:
        t.append({"T2w": [(scan(5), "sub-01")]})
        with pytest.raises(DuplicateIdError, match="sub-01_T2w"):
            t.append({"T2w": [(scan(6), "sub-01")]})
        t.delete(obs_ids="sub-01_T2w")
        t.append({"T2w": [(scan(7), "sub-01")]})
    assert values(radi)["sub-01_T2w"] == 7
    assert radi.validate("full").ok


def test_what_came_and_went_in_the_block_is_not_in_the_commit(radi) -> None:
    with radi.transaction() as t:
        t.append({"T2w": [(scan(5), "x")], "T1w": [(scan(6), "x")]}, {"obs_subject_id": ["x"], "age": [1]})
        t.delete(obs_ids="x_T1w", collections="T2w")
        t.delete(subjects=["x", "sub-02"])
        t.append({"T1w": [(scan(9), "sub-02")]}, {"obs_subject_id": ["sub-02"], "age": [20]})
    assert radi._study.snapshot.commit.change.to_json() == {
        "subjects_updated": ["sub-02"],
        "volumes_removed": ["sub-02_seg"],
        "volumes_replaced": ["sub-02_T1w"],
    }
    assert radi.validate("full").ok


def test_another_writers_change_of_other_things_stays(radi) -> None:
    with radi.transaction() as t:
        t.append({"T1w": [(scan(7), "d")]}, {"obs_subject_id": ["d"], "age": [40]})
        t.obs_meta.add_column("arm", fill="a")
        t.rename_collection("seg", "mask")
        other = RadiObject(radi.uri)
        other.append({"T1w": [(scan(8), "e")]}, {"obs_subject_id": ["e"], "age": [50]})
        other.append({"seg": [(scan(9), "e")]})
        assert (t.version, other.version) == (2, 3)
    assert (radi.version, t.version) == (4, 4)
    assert radi.obs_meta.read().to_dict("list") == {
        "obs_subject_id": [*META["obs_subject_id"], "e", "d"],
        "age": [*META["age"], 50, 40],
        "arm": ["a"] * 5,
    }
    assert (values(radi)["d_T1w"], values(radi)["e_T1w"], values(t)["e_seg"]) == (7, 8, 9)
    assert radi.collection_names == ("T1w", "mask")
    assert radi.validate("full").ok


def test_a_table_taken_early_in_the_block_changes_what_the_block_has_now(radi) -> None:
    with radi.transaction() as t:
        meta, t1 = t.obs_meta, t.T1w
        t.append({"T1w": [(scan(7), "d")]}, {"obs_subject_id": ["d"], "age": [40]})
        meta.update({"obs_subject_id": ["d", "sub-01"], "age": [41, 11]})
        t1.obs.update({"obs_id": ["d_T1w"], "run": [5]})
        t1.obs.add_column("qc", fill=1)
    assert radi.obs_meta["age"].to_list() == [30, 11, 20, 41]
    assert radi.T1w.obs["qc"].to_list() == [1] * 4
    assert radi.T1w.sel(run=5).obs_id == "d_T1w"


def test_added_collections_wait_too_and_know_volumes_of_the_block_as_parents(radi, study) -> None:
    other = study({"PET": {"sub-01": np.full((2, 2, 2), 4, "i2"), "new": np.full((2, 2, 2), 5, "i2")}})
    with radi.transaction() as t:
        t.append({"T1w": [(scan(7), "d")]}, {"obs_subject_id": ["d"], "age": [1]})
        t.add_collection("twice", t.T1w.lazy().map(lambda voxels, row: voxels * 2))
        t.add_collection("PET", other.PET)
        t.delete(subjects="sub-02")
        assert t.collection_names == ("T1w", "seg", "twice", "PET")
        assert radi.collection_names == ("T1w", "seg")
    assert radi.version == 2
    assert {i: v for i, v in values(radi).items() if "twice" in i or "PET" in i} == {
        "sub-03_twice": 6, "sub-01_twice": 2, "d_twice": 14, "sub-01_PET": 4, "new_PET": 5,
    }  # fmt: skip
    assert radi.twice.obs["parent_obs_id"].to_list() == radi.T1w.obs_ids
    assert radi.validate("full").ok


def test_the_old_name_of_a_renamed_collection_is_free(radi) -> None:
    with radi.transaction() as t:
        t.rename_collection("T1w", "T1")
        t.delete(obs_ids="sub-01_T1w")
        t.append({"T1w": [(scan(9), "sub-01")]})
    assert [radi.T1.obs_ids, radi.T1w.obs_ids] == [["sub-03_T1w", "sub-02_T1w"], ["sub-01_T1w"]]
    assert values(radi)["sub-01_T1w"] == 9
    assert radi.validate("full").ok


def test_the_outer_handle_may_change_too(radi) -> None:
    with radi.transaction() as t:
        t.delete(obs_ids="sub-01_seg")
        radi.delete(obs_ids="sub-02_seg")
    assert (radi.version, radi.seg.obs_ids) == (3, ["sub-03_seg"])


@pytest.mark.parametrize(
    ("mine", "theirs", "what"),
    [
        ("update", lambda o: o.obs_meta.update({"obs_subject_id": ["sub-01"], "age": [2]}), "sub-01"),
        ("delete", lambda o: o.append({"T2w": [(scan(1), "sub-01")]}), "sub-01"),
        ("append", lambda o: o.append({"T1w": [(scan(2), "x")]}, {"obs_subject_id": ["x"]}), "x_T1w"),
        ("rename", lambda o: o.rename_collection("T1w", "other"), "T1w"),
        ("add_column", lambda o: o.T1w.obs.update({"obs_id": ["sub-01_T1w"], "run": [1]}), "sub-01_T1w"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_another_writers_change_of_the_same_is_a_conflict_that_names_both(radi, mine, theirs, what) -> None:
    with pytest.raises(ConflictError, match=rf"{what}.*ersion 2 \("):
        block(
            radi,
            lambda t: t.seg.obs.add_column("unrelated", "str"),
            CHANGES[mine],
            lambda t: theirs(RadiObject(t.uri)),
        )
    assert (radi.version, RadiObject(radi.uri).version) == (1, 2)
    assert RadiObject(radi.uri).validate("full").ok


def test_a_collection_renamed_and_deleted_in_the_block_may_not_have_grown(radi) -> None:
    with pytest.raises(ConflictError, match=r"collections \['T1w'\].*version 2"):
        block(
            radi,
            lambda t: t.rename_collection("T1w", "T1"),
            lambda t: RadiObject(t.uri).append({"T1w": [(scan(9), "e")]}, {"obs_subject_id": ["e"]}),
            lambda t: t.delete(collections="T1"),
        )
    assert values(RadiObject(radi.uri))["e_T1w"] == 9


def test_a_store_that_fails_at_the_end_leaves_the_version_before(radi, monkeypatch) -> None:
    def create(storage: Storage, key: str, data: bytes) -> bool:
        raise StorageError("503")

    monkeypatch.setattr(Storage, "create", create)
    monkeypatch.setattr("radiobject.format.exclusive._TRIES", 1)
    with pytest.raises(StorageError, match="503"):
        block(radi, CHANGES["delete"])
    assert (radi.version, RadiObject(radi.uri).version) == (1, 1)


def test_a_part_that_is_gone_at_the_end_is_an_error_and_no_version(radi) -> None:
    with pytest.raises(MissingObjectError, match="tables/obs_meta"):
        block(radi, CHANGES["update"], lambda t: Path(t.obs_meta.files()[0]).unlink())
    assert RadiObject(radi.uri).validate("full").ok


def test_clean_up_takes_nothing_of_an_open_block(radi) -> None:
    storage = radi._study.snapshot.storage
    litter = Path(radi.uri, "tables", "litter")
    litter.touch()
    os.utime(litter, (0, 0))
    with radi.transaction() as t:
        t.obs_meta.add_column("n", fill=1)
        hour_ago = Path(radi.uri).stat().st_mtime - 3600  # the block began, and half an hour later wrote that
        for key in journals(radi):
            os.utime(Path(radi.uri, key), (hour_ago, hour_ago))
        os.utime(t.obs_meta.files()[0], (hour_ago + 1800, hour_ago + 1800))
        t.append({"T1w": [(scan(7), "d")]}, {"obs_subject_id": ["d"], "age": [1], "n": [2]})
        cleanup(storage, keep=1, older_than=1e-9, force=True)
        assert not litter.exists()
        t.obs_meta.update({"obs_subject_id": ["sub-01"], "n": [3]})
    assert radi.obs_meta["n"].to_list() == [1, 3, 1, 2]
    assert values(radi)["d_T1w"] == 7
    assert radi.validate("full").ok


def test_an_open_block_says_again_and_again_that_it_lives(radi, monkeypatch) -> None:
    monkeypatch.setattr(staging, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(journal, "TOUCH_SECONDS", 0)
    with radi.transaction() as t:
        t.append({"T1w": [(scan(7), "d")]}, {"obs_subject_id": ["d"], "age": [1]})
        while sum(key.endswith("/alive") for key in journals(radi)) < 2:
            pass  # the test's own time limit ends this: both journals must be renewed
    assert journals(radi) == []


def test_volumes_of_a_block_that_failed_are_used_again(radi, tmp_path, make_nifti) -> None:
    for n in range(3):
        (tmp_path / f"sub-0{n + 1}.nii").write_bytes(make_nifti(np.full((6, 5, 4), n, "i2")))
    images = {"T2w": str(tmp_path / "*.nii")}
    with pytest.raises(ZeroDivisionError):
        block(radi, lambda t: t.append(images), lambda t: 1 / 0)
    with radi.transaction() as t:
        t.append(images, resume=True)
    assert radi.ledger.read(filter="collection == 'T2w'")["outcome"].to_list() == ["resumed"] * 3
    assert [int(v[0, 0, 0]) for v in radi.T2w] == [0, 1, 2]
    assert radi.validate("full").ok
