"""Purge: no object of the study names its subjects any more, whatever happened on the way."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject
from radiobject.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    MetadataError,
    SnapshotExpiredError,
    UnknownIdError,
)
from radiobject.format import catalog
from radiobject.format.catalog import Catalog
from radiobject.format.layout import version_key
from radiobject.format.purge import purge
from radiobject.location import Location
from radiobject.storage import Storage
from tests.format.purged import GONE, erase, folders, grow, holding, objects, scan, unchanged
from tests.servers.s3 import s3_server


def test_nothing_is_left_of_a_purged_subject(local: str) -> None:
    storage = Storage(Location(local))
    assert len(set(holding(storage))) > 10  # the search can see them
    done = erase(local)
    assert (done.subjects, done.volumes) == (2, 4)
    assert holding(storage) == []
    assert not [i for i in GONE if i in folders(local)]
    radi = RadiObject(local)
    assert (radi.obs_subject_ids, radi.T1w.obs_ids, radi.seg.obs_ids) == (["pat-1"], ["pat-1_T1w"], [])
    assert int(radi.FLAIR.iloc[0][0, 0, 0]) == 6
    assert radi.obs_meta["family"].cat.categories.tolist() == ["two", "one"]
    assert radi.obs_meta["family"].cat.ordered
    report = radi.validate("full")
    assert (report.ok, report.litter) == (True, 0), report


def test_the_record_says_why_and_how_many_and_not_who(local: str) -> None:
    done = erase(local)
    (record,) = RadiObject(local).versions()
    assert (record["version"], record["operation"]) == (done.version, "purge")
    assert record["message"] == "withdrew consent (2 subjects, 4 volumes)"
    assert not [i for i in GONE if i in repr(done)]
    assert "2" in repr(done)


def test_a_later_purge_keeps_the_earlier_record(local: str) -> None:
    erase(local)
    storage = Storage(Location(local))
    RadiObject(local).append({"T1w": [(scan(8), "pat-9999")]}, {"obs_subject_id": ["pat-9999"]})
    RadiObject(local).purge("pat-9999", "wrong study")
    stone = json.loads(storage.read(version_key(5)))
    assert (stone["type"], stone["operation"]) == ("tombstone", "purge")
    assert stone["message"] == "withdrew consent (2 subjects, 4 volumes)"
    assert holding(storage, (*GONE, "pat-9999")) == []


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_older_versions_have_expired(local: str, version: int) -> None:
    old = RadiObject(local, version=version)
    volume = old.T1w.loc["pat-0042_T1w"]
    erase(local)
    with pytest.raises(SnapshotExpiredError):
        RadiObject(local, version=version)
    catalog._snapshots.clear()
    with pytest.raises(SnapshotExpiredError, match="tombstone"):
        Catalog(Storage(Location(local))).commit(version)
    with pytest.raises(SnapshotExpiredError):
        volume.to_numpy()


def test_backends_forget_their_volumes(backend, tmp_path: Path) -> None:
    radi = grow(backend.uri(), tmp_path, backend=backend.backend)
    volume = radi.T1w.loc["pat-0042_T1w"]
    erase(backend.uri())
    with pytest.raises(IntegrityError if backend.backend == "memory" else SnapshotExpiredError):
        volume.to_numpy()
    assert holding(radi._study.snapshot.storage) == []
    assert int(RadiObject(backend.uri()).T1w.iloc[0][0, 0, 0]) == 1
    assert RadiObject(backend.uri()).validate("full").ok


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    pytest.importorskip("moto")
    with s3_server("bucket") as options:
        yield options


def test_nothing_is_left_on_s3(s3: dict[str, Any], tmp_path: Path) -> None:
    radi = grow("s3://bucket/purged", tmp_path, s3)
    storage = radi._study.snapshot.storage
    assert len(set(holding(storage))) > 10
    radi.purge(["pat-0042", "Ärztin 7"], "withdrew consent", force=True)
    assert holding(storage) == []
    assert RadiObject("s3://bucket/purged", storage_options=s3).validate("full").ok


# what is refused, before anything is changed


def test_a_reason_that_names_the_subject_is_refused(local: str) -> None:
    radi = RadiObject(local)
    for reason in ("pat-0042 asked", "zz-scan-31", "  "):
        unchanged(local, lambda r=reason: radi.purge(["pat-0042", "Ärztin 7"], r), ConfigError, "reason")


def test_an_id_that_stands_nowhere_is_refused(local: str) -> None:
    unchanged(local, lambda: RadiObject(local).purge("pat-43", "typo"), UnknownIdError, "pat-43")
    unchanged(local, lambda: RadiObject(local).purge([], "none"), ConfigError, "at least one")


def test_a_running_write_is_refused(local: str) -> None:
    call = RadiObject(local).purge
    unchanged(local, lambda: call("pat-0042", "asked"), ConflictError, "not finished")


def test_tags_of_versions_that_hold_them_want_a_word(local: str) -> None:
    RadiObject(local, version=1).tag("paper")
    call = RadiObject(local).purge
    unchanged(local, lambda: call("pat-0042", "asked", force=True), ConflictError, r"\['paper'\].*tags=True")
    assert erase(local, tags=True).tags == ("paper",)
    assert holding(Storage(Location(local)), (*GONE, "paper")) == []


def test_a_tag_of_a_version_without_them_stays(local: str) -> None:
    RadiObject(local).delete(subjects=["pat-1"])
    radi = RadiObject(local)
    radi.append({"T1w": [(scan(8), "new-9")]}, {"obs_subject_id": ["new-9"]})
    storage = Storage(Location(local))
    erase(local)
    radi = RadiObject(local)
    radi.tag("without")
    radi.append({"T1w": [(scan(7), "pat-0043")]}, {"obs_subject_id": ["pat-0043"]}).purge("pat-0043", "asked")
    assert RadiObject(local, version="without").T1w.obs_ids == ["new-9_T1w"]
    assert int(RadiObject(local, version="without").T1w.iloc[0][0, 0, 0]) == 8
    assert RadiObject(local).validate("full").ok
    assert holding(storage, (*GONE, "pat-0043")) == []


def test_rows_of_others_that_name_them_are_refused(local: str) -> None:
    RadiObject(local).obs_meta.update({"obs_subject_id": ["pat-1"], "family": ["of pat-0042"]})
    unchanged(local, lambda: erase(local), MetadataError, "column 'family' of obs_meta")


def test_a_file_of_somebody_else_that_names_them_is_refused(local: str) -> None:
    Path(local, "notes.txt").write_text("pat-0042 came late")
    unchanged(local, lambda: erase(local), MetadataError, "notes.txt")


def test_a_dry_run_changes_nothing_and_says_the_same(local: str) -> None:
    before = objects(Storage(Location(local)))
    planned = erase(local, dry_run=True)
    assert objects(Storage(Location(local))) == before
    done = erase(local)
    for name in ("version", "subjects", "volumes", "expired", "tags"):
        assert getattr(planned, name) == getattr(done, name), name


def test_ids_that_are_parts_of_others_stay_apart(tmp_path: Path) -> None:
    place = str(tmp_path / "study")
    subjects = ["sub-1", "sub-10", "sub-1-b", "1", "10"]
    images = {"T1w": [(scan(n), s) for n, s in enumerate(subjects)]}
    notes = ["", "like sub-123, elsewhere", "", "", ""]
    RadiObject.from_niftis(place, images, {"obs_subject_id": subjects, "note": notes}, progress=False)
    RadiObject(place).purge(["sub-1", "1"], "asked")
    radi = RadiObject(place)
    assert radi.obs_subject_ids == ["sub-10", "sub-1-b", "10"]
    assert [int(v[0, 0, 0]) for v in radi.T1w] == [1, 2, 4]


def test_an_id_that_another_subject_has_now_stays(tmp_path: Path) -> None:
    place = str(tmp_path / "study")
    radi = RadiObject.from_niftis(place, {"T1w": [(scan(1), "wrong-1", "scan-77"), (scan(2), "right-2")]})
    radi.delete(obs_ids="scan-77")
    radi.append({"T1w": [(scan(3), "right-2", "scan-77")]})
    radi.purge("wrong-1", "mixed up")
    assert RadiObject(place).T1w.obs_ids == ["right-2_T1w", "scan-77"]
    assert int(RadiObject(place).T1w.loc["scan-77"][0, 0, 0]) == 3


# crashes


class Dead(BaseException):
    """Like SIGKILL, it is caught by no `except Exception`."""


CHANGES = frozenset({"write", "replace", "create", "delete", "sync"})
"""Calls that leave something else behind. Who dies before one that reads has died after the one before it."""


def test_dying_at_every_call_of_a_purge_leaves_a_study_that_a_second_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(tmp_path / "base")
    RadiObject.from_niftis(base, {"T1w": [(scan(1), "pat-1"), (scan(2), "pat-0042", "zz-scan-31")]})
    RadiObject(base).append({"T1w": [(scan(9), "pat-0042", "zz-odd-51")]})
    RadiObject(base).tag("both")
    real, calls, lock, dies_at = Storage._call, list[str](), threading.Lock(), [0]

    def call(self: Storage, operation: str, key: str, *rest: Any) -> Any:
        with lock:
            calls.extend({operation} & CHANGES)
            if operation in CHANGES and 0 < dies_at[0] <= len(calls):
                raise Dead
        return real(self, operation, key, *rest)

    monkeypatch.setattr(Storage, "_call", call)

    def fresh(number: int) -> str:
        place = tmp_path / f"study-{number}"
        shutil.rmtree(tmp_path / f"study-{number - 1}", ignore_errors=True)
        shutil.copytree(base, place)
        catalog._snapshots.clear()
        return str(place)

    def run(place: str) -> None:
        purge(Storage(Location(place)), ["pat-0042"], "asked", tags=True)

    place = fresh(0)
    calls.clear()
    run(place)
    total = len(calls)
    for number in range(1, total + 1):
        place = fresh(number)
        calls.clear()
        dies_at[0] = number
        with pytest.raises(Dead):
            run(place)
        dies_at[0] = 0
        catalog._snapshots.clear()
        radi = RadiObject(place)
        assert radi.T1w.obs_ids in (["pat-1_T1w"], ["pat-1_T1w", "zz-scan-31", "zz-odd-51"]), number
        assert int(radi.T1w.loc["pat-1_T1w"][0, 0, 0]) == 1
        assert [p for p in radi.validate("full").problems if p.kind != "hint"] == [], number
        run(place)
        storage = Storage(Location(place))
        assert holding(storage) == [], number
        assert not [i for i in GONE if i in folders(place)], number
        assert RadiObject(place).T1w.obs_ids == ["pat-1_T1w"]
        assert [info.key for info in storage.list("transactions")] == [], number
        report = RadiObject(place).validate("full")
        assert (report.ok, report.litter) == (True, 0), number
    with capsys.disabled():
        print(f" [purge: crashed at each of {total} calls that change something]", end="")


def test_a_search_that_finds_something_names_it(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiobject.format.purge._bury", lambda *rest: None)
    with pytest.raises(IntegrityError, match=r"versions/000000000001\.json"):
        erase(local)
