"""A study over time, as a user has it: pins, differences, clean-up and purge on every backend."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import (
    ConfigError,
    ConflictError,
    CorruptObjectError,
    IntegrityError,
    SnapshotExpiredError,
    TransactionError,
    UnknownIdError,
    ViewError,
)
from radiobject.format import catalog
from radiobject.format.changes import Edit
from radiobject.format.layout import version_key
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.storage import Storage
from tests.servers.s3 import s3_server


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((6, 5, 4), value, dtype="i2"), np.eye(4)


def grown(uri: str, **options: Any) -> RadiObject:
    """Three versions: two subjects, one replaced, one volume less."""
    images = {"T1w": [(scan(1), "sub-01"), (scan(2), "sub-02")], "seg": [(scan(3), "sub-01")]}
    radi = RadiObject.from_niftis(uri, images, progress=False, **options)
    radi.append({"T1w": [(scan(9), "sub-02")]}, on_conflict="replace", progress=False)
    return radi.delete(obs_ids="sub-01_seg")


# pins


def test_a_pin_opens_its_version_and_no_other(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    pins = [RadiObject(backend.uri(), version=v).pin() for v in (1, 2, 3)]
    for number, pin in enumerate(pins, 1):
        said = radi.versions()[number - 1]["sha256"]
        assert pin == f"{radi.uri}@{number}#sha256:{said[:16]}"
        opened = RadiObject(pin)
        assert (opened.version, opened.pin()) == (number, pin)
    assert int(RadiObject(pins[0]).T1w.loc["sub-02_T1w"][0, 0, 0]) == 2
    assert int(RadiObject(pins[1]).T1w.loc["sub-02_T1w"][0, 0, 0]) == 9
    wrong = pins[0].replace("@1#", "@2#")
    with pytest.raises(IntegrityError) as caught:
        RadiObject(wrong)
    assert isinstance(caught.value, CorruptObjectError)
    for digest in (pins[0][-16:], pins[1][-16:]):
        assert digest in str(caught.value)  # what was asked for, and what is there


@pytest.mark.no_backend(reason="pins are texts")
def test_a_damaged_pin_is_named_as_one(tmp_path: Path) -> None:
    for hashed in ("ab12", "", "AB12CD34", "x" * 16):
        with pytest.raises(ConfigError, match="6 to 64 hex digits"):
            RadiObject(f"{tmp_path}/study@1#sha256:{hashed}")


def test_a_study_whose_name_looks_like_a_pin_is_pinned(tmp_path: Path) -> None:
    radi = grown(str(tmp_path / "study@7"))
    assert radi.pin().startswith(f"{tmp_path}/study@7@3#sha256:")
    assert RadiObject(radi.pin()).version == 3
    assert RadiObject(tmp_path / "study@7").version == 3


def test_a_view_has_the_pin_of_its_study(study) -> None:
    radi = study()
    for view in (radi.head(1), radi.select_collections(["seg"]), radi.loc["sub-01"]):
        assert view.pin() == radi.pin()


def test_what_is_not_committed_has_no_pin(study) -> None:
    radi = study()
    with radi.transaction() as t:
        t.delete(subjects="sub-01")
        for call in (t.pin, lambda: t.cleanup(keep=1), lambda: t.purge("sub-02", "asked")):
            with pytest.raises(TransactionError, match="inside a transaction"):
                call()
        assert t.diff(1).subjects.removed == ("sub-01",)  # what the block would change


# differences


def test_a_difference_by_number_and_tag(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    RadiObject(backend.uri(), version=1).tag("begin")
    for found in (radi.diff("begin"), radi.diff(1), radi.diff(1, 3), RadiObject(radi.pin()).diff("begin", 3)):
        assert found
        assert (found.old, found.new) == (1, 3)
        assert found.collections["T1w"].replaced == ("sub-02_T1w",)
        assert found.collections["seg"].removed == ("sub-01_seg",)
        assert not found.subjects
        rows = found.to_pandas()
        assert rows["change"].tolist() == ["replaced", "removed"]
        assert rows["name"].tolist() == ["sub-02_T1w", "sub-01_seg"]
    assert not radi.diff(3)
    for missing in (9, "nightly"):
        with pytest.raises(UnknownIdError):
            radi.diff(missing)


def test_views_have_no_history_of_their_own(study) -> None:
    view = study().head(1)
    calls = (lambda: view.diff(1), lambda: view.cleanup(keep=1), lambda: view.purge("sub-01", "asked"))
    for call in calls:
        with pytest.raises(ViewError, match="whole study"):
            call()


# tags beside versions


def test_versions_say_their_tags_also_where_only_the_tag_keeps_them(study) -> None:
    radi = study()
    radi.tag("a")
    radi.tag("b")
    radi.delete(subjects="sub-01").delete(subjects="sub-02")
    radi.cleanup(keep=1, older_than=0, force=True)
    assert [(v["version"], v["tags"]) for v in radi.versions()] == [(1, ["a", "b"]), (3, []), (4, [])]


# clean-up


@pytest.mark.parametrize("age", [timedelta(days=7), "7 days", "168h", 7 * 86400])
def test_an_age_is_seconds_a_timedelta_or_text(age: Any, study) -> None:
    radi = study().delete(subjects="sub-01")
    done = radi.cleanup(keep=1, older_than=age)
    assert (done.expired, done.objects) == ([1], 0)  # all of it is younger


def test_ages_that_are_none_or_too_short_are_refused(study) -> None:
    radi = study()
    for age in ("soon", "7 parsecs", timedelta(hours=1), "2 hours", 0):
        with pytest.raises(ConfigError, match="older_than"):
            radi.cleanup(keep=1, older_than=age)
    with pytest.raises(ConfigError, match="keep"):
        radi.cleanup(keep=0)


def test_a_dry_run_says_what_the_next_run_does(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    storage = radi._study.snapshot.storage
    before = [(i.key, i.bytes) for i in storage.list("")]
    planned = radi.cleanup(keep=1, older_than=-1, force=True, dry_run=True)
    assert [(i.key, i.bytes) for i in storage.list("")] == before
    assert radi.version == 3
    done = radi.cleanup(keep=1, older_than=-1, force=True)
    assert (planned.expired, planned.objects, planned.bytes) == (done.expired, done.objects, done.bytes)
    assert done.expired == [1, 2]
    assert radi.version == 4
    assert "dry run" in repr(planned)
    assert "1 to 2" in repr(done)
    with pytest.raises(SnapshotExpiredError):
        RadiObject(backend.uri(), version=1)
    assert int(RadiObject(backend.uri()).T1w.loc["sub-02_T1w"][0, 0, 0]) == 9
    assert radi.validate("full").ok


def test_what_an_interrupted_copy_left_is_litter_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study
) -> None:
    radi, real, written = study(), Storage.write, list[str]()

    def interrupted(self: Storage, key: str, data: bytes) -> None:
        real(self, key, data)
        written.append(key)
        if key.startswith("tables/"):
            raise KeyboardInterrupt

    other = study({"CT": {"new-1": np.ones((4, 4, 4), "i2")}})
    monkeypatch.setattr(Storage, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        radi.add_collection("CT", other.CT, progress=False)
    monkeypatch.undo()
    litter = radi.validate().litter
    assert litter > 0
    # documents of folders stay while there is a journal: who writes may rely on them
    done = [radi.cleanup(keep=1, older_than=-1, force=True).objects for _ in range(2)]
    assert sum(done) == litter
    assert RadiObject(radi.uri).validate("full").litter == 0
    assert RadiObject(radi.uri).T1w.obs_ids == radi.T1w.obs_ids


def test_a_copy_that_was_interrupted_is_made_again_and_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study
) -> None:
    radi, real = study(), Storage.write
    place = str(tmp_path / "copy")

    def interrupted(self: Storage, key: str, data: bytes) -> None:
        real(self, key, data)
        if key.startswith("tables/"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Storage, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        radi.write(place, progress=False)
    monkeypatch.undo()
    made = radi.write(place, progress=False)
    litter = made.validate().litter
    assert litter > 0
    assert sum(made.cleanup(keep=1, older_than=-1, force=True).objects for _ in range(2)) == litter
    assert made.validate("full").litter == 0


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    pytest.importorskip("moto")
    with s3_server("bucket") as options:
        yield options


@pytest.mark.only("zarr-python", reason="what S3 itself promises is the same for every engine")
def test_clean_up_keeps_its_promises_on_s3(s3: dict[str, Any], tmp_path: Path) -> None:
    uri = "s3://bucket/cleaned"
    radi = grown(uri, storage_options=s3)
    RadiObject(uri, version=1, storage_options=s3).tag("begin")
    storage = radi._study.snapshot.storage
    storage.write("collections/T1w/x/litter.ome.zarr/0/c/0/0/0", b"young")
    assert radi.cleanup(keep=2).objects == 0  # 48 hours by the server's clock
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"no")
    running = {"FLAIR": [(scan(5), "sub-01"), (str(broken), "sub-02")]}
    with pytest.raises(ValueError):
        radi.append(running, executor="serial", progress=False)
    done = radi.cleanup(keep=1, older_than=1e-3, force=True)
    finished = [i.key for i in storage.list("collections/FLAIR") if "ome.zarr/" in i.key]
    assert finished  # a run that resumes may still need it
    assert done.expired == [2, 3]
    assert int(RadiObject(uri, version="begin", storage_options=s3).T1w.loc["sub-02_T1w"][0, 0, 0]) == 2
    assert int(RadiObject(uri, storage_options=s3).T1w.loc["sub-02_T1w"][0, 0, 0]) == 9
    for version in (2, 3):
        with pytest.raises(SnapshotExpiredError):
            RadiObject(uri, version=version, storage_options=s3)
    assert RadiObject(uri, storage_options=s3).validate("full").ok


# purge, from outside


def test_a_purged_subject_is_gone_and_the_handle_goes_on(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    done = radi.purge("sub-02", "withdrew consent")
    assert (done.subjects, done.volumes, done.expired) == (1, 2, (1, 2, 3))
    for handle in (radi, RadiObject(backend.uri())):
        assert (handle.version, handle.obs_subject_ids, handle.T1w.obs_ids) == (4, ["sub-01"], ["sub-01_T1w"])
        assert int(handle.T1w.iloc[0][0, 0, 0]) == 1
    assert radi.validate("full").ok
    radi.append({"T1w": [(scan(7), "sub-03")]}, {"obs_subject_id": ["sub-03"]}, progress=False)
    assert RadiObject(backend.uri()).obs_subject_ids == ["sub-01", "sub-03"]


def test_validate_sees_that_a_number_came_free(study) -> None:
    radi = study()
    radi.purge("sub-01", "asked")
    storage = Storage(Location(radi.uri))
    storage.delete(version_key(1))
    (problem,) = radi.validate().problems
    assert problem.where == version_key(1)
    assert "old handle" in problem.message


class Dead(BaseException):
    """Like SIGKILL, it is caught by no `except Exception`."""


@pytest.mark.only("tensorstore", reason="about the order of calls to the store")
def test_dying_at_every_call_of_cleanup_leaves_what_a_second_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    grown(str(base))
    real, calls, lock, dies_at = Storage._call, list[str](), threading.Lock(), [0]

    def call(self: Storage, operation: str, key: str, *rest: Any) -> Any:
        with lock:
            calls.append(operation)
            if 0 < dies_at[0] <= len(calls):
                raise Dead
        return real(self, operation, key, *rest)

    monkeypatch.setattr(Storage, "_call", call)

    def fresh(number: int) -> RadiObject:
        shutil.rmtree(tmp_path / "study", ignore_errors=True)
        shutil.copytree(base, tmp_path / "study")
        catalog._snapshots.clear()
        radi = RadiObject(tmp_path / "study")
        calls.clear()
        dies_at[0] = number
        return radi

    fresh(0).cleanup(keep=1, older_than=-1, force=True)
    total = len(calls)
    assert total > 20
    for number in range(1, total + 1):
        radi = fresh(number)
        with pytest.raises(Dead):
            radi.cleanup(keep=1, older_than=-1, force=True)
        dies_at[0] = 0
        catalog._snapshots.clear()
        radi = RadiObject(tmp_path / "study")
        assert int(radi.T1w.loc["sub-02_T1w"][0, 0, 0]) == 9, number
        radi.cleanup(keep=1, older_than=-1, force=True)
        report = RadiObject(tmp_path / "study").validate("quick")
        assert ([p for p in report.problems if p.kind != "hint"], report.litter) == ([], 0), number


def test_a_restore_of_what_a_clean_up_took_meanwhile_is_a_conflict(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    RadiObject(backend.uri()).cleanup(keep=1, older_than=-1, force=True)
    edit = Edit(restore=radi._study.snapshot.commit)  # any older commit will do: the study has moved on
    with pytest.raises(ConflictError, match="restore from there"):
        Transaction(radi._study.snapshot.storage, radi._study.snapshot, "restore").commit(edit)


def test_a_study_may_lose_all_its_subjects(backend) -> None:
    radi = grown(backend.uri(), backend=backend.backend)
    radi.purge(radi.index, "the trial was withdrawn")
    assert (len(RadiObject(backend.uri())), RadiObject(backend.uri()).T1w.obs_ids) == (0, [])
    assert RadiObject(backend.uri()).validate("full").ok
    radi.append({"T1w": [(scan(7), "sub-01")]}, {"obs_subject_id": ["sub-01"]}, progress=False)
    assert int(RadiObject(backend.uri()).T1w.iloc[0][0, 0, 0]) == 7


@pytest.mark.parametrize(
    "subject", ["a\nb", "\x1b[31mred", "../../up", "ä b/c", "x" * 300, 'q"uo"te', "[a-z]+("]
)
def test_ids_of_every_kind_are_erased(subject: str, tmp_path: Path) -> None:
    place = str(tmp_path / "study")
    radi = RadiObject.from_niftis(place, {"T1w": [(scan(1), "kept"), (scan(2), subject)]}, progress=False)
    radi.delete(subjects=subject)
    assert "\x1b" not in repr(radi.diff(1))
    assert len(repr(radi.diff(1)).splitlines()) == 3
    radi.purge(subject, "asked")
    assert radi.obs_subject_ids == ["kept"]
    files = [p for p in (tmp_path / "study").rglob("*") if p.is_file()]
    assert not [p for p in files if subject.encode() in p.read_bytes()]
    if radi.T1w.backend != "memory":
        assert len(list((tmp_path / "study" / "collections" / "T1w").iterdir())) == 2  # zarr.json, kept
