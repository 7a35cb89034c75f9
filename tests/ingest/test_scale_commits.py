"""`commit_every=`: versions on the way, and going on from the last of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError, IngestError
from radiobject.format.rows import MAX_PARTS


@pytest.fixture
def folder(tmp_path: Path, make_nifti) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for n in range(10):
        data = gzip.compress(make_nifti(np.full((6, 5, 4), n, "i2")))
        (place / f"sub-{n}_T1w.nii.gz").write_bytes(data)
    return place


def held(radi: RadiObject, version: int | None = None) -> list[int]:
    return [int(v[0, 0, 0]) for v in RadiObject(radi.uri, version=version).T1w]


def outcomes(radi: RadiObject) -> list[str]:
    found: list[str] = RadiObject(radi.uri).ledger.read(["outcome"])["outcome"].to_list()
    return found


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_version_whenever_so_many_are_finished(folder, tmp_path, executor) -> None:
    how: dict[str, Any] = {"executor": executor, "commit_every": 4}
    obs = {"T1w": {"obs_id": [f"sub-{n}_T1w" for n in range(10)], "site": [f"site {n}" for n in range(10)]}}
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, obs=obs, **how)
    assert radi.version == 3
    assert [len(held(radi, version)) for version in (1, 2, 3)] == [4, 8, 10]
    assert {
        v: row["site"] for v, (_, row) in zip(held(radi), radi.T1w.obs.read().iterrows(), strict=True)
    } == {n: f"site {n}" for n in range(10)}
    assert len(radi) == 10
    assert outcomes(radi) == ["ingested"] * 10
    assert radi.validate("full").ok


def test_what_is_committed_and_what_is_finished_is_not_done_again(folder, tmp_path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RadiObject.from_niftis(
            tmp_path / "study", {"T1w": folder}, executor="serial", commit_every=4, progress=interrupt
        )
    radi = RadiObject(tmp_path / "study")
    assert (radi.version, held(radi)) == (1, [0, 1, 2, 3])
    told: list[tuple[int, int]] = []
    radi.append(
        {"T1w": folder}, on_conflict="skip", resume=True, commit_every=4, executor="serial",
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[0] == (2, 6)
    assert (radi.version, held(radi)) == (3, list(range(10)))
    assert outcomes(radi) == ["ingested"] * 4 + ["resumed"] * 2 + ["ingested"] * 4
    assert radi.validate("full").ok


def test_failures_are_in_the_ledger_of_the_next_version(folder, tmp_path) -> None:
    (folder / "sub-1_T1w.nii.gz").write_bytes(b"<html>")
    (folder / "sub-9_T1w.nii.gz").write_bytes(b"<html>")
    radi = RadiObject.from_niftis(
        tmp_path / "study", {"T1w": folder}, executor="serial", commit_every=4, errors="collect"
    )
    assert (radi.version, held(radi)) == (3, [0, 2, 3, 4, 5, 6, 7, 8])
    assert [outcomes(radi).count(what) for what in ("ingested", "failed")] == [8, 2]


def test_a_failure_stops_at_the_next_version_and_says_what_was_committed(folder, tmp_path) -> None:
    (folder / "sub-5_T1w.nii.gz").write_bytes(b"<html>")
    with pytest.raises(IngestError, match="1 of 10 sources failed, 3 volumes were committed before"):
        RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, executor="serial", commit_every=3)
    assert held(RadiObject(tmp_path / "study")) == [0, 1, 2]


def test_many_commits_leave_few_parts_of_tables(folder, tmp_path, make_nifti) -> None:
    for n in range(10, MAX_PARTS + 4):
        (folder / f"sub-{n}_T1w.nii.gz").write_bytes(gzip.compress(make_nifti(np.full((6, 5, 4), n, "i2"))))
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, executor="serial", commit_every=1)
    commit = RadiObject(radi.uri)._study.snapshot.commit
    tables = [*commit.tables.values(), *commit.collection("T1w").tables.values()]
    assert commit.version == MAX_PARTS + 4
    assert max(len(parts) for parts in tables) <= MAX_PARTS
    assert held(radi) == list(range(MAX_PARTS + 4))


def test_less_than_one_is_refused(folder, tmp_path) -> None:
    with pytest.raises(ConfigError, match="commit_every="):
        RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, commit_every=0)
