"""`resume=True`: what an earlier run has finished is used again, when and only when it is still right."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import IngestError, StudyNotFoundError

BAD = 3


@pytest.fixture
def folder(tmp_path: Path, make_nifti) -> Path:
    """Six subjects, one of them damaged."""
    place = tmp_path / "in"
    place.mkdir()
    for n in range(6):
        data = gzip.compress(make_nifti(np.full((6, 5, 4), n, "i2")))
        (place / f"sub-{n}_T1w.nii.gz").write_bytes(data[:-9] if n == BAD else data)
    return place


@pytest.fixture
def mend(folder: Path, make_nifti):
    def mend(n: int = BAD, value: int = BAD) -> None:
        (folder / f"sub-{n}_T1w.nii.gz").write_bytes(
            gzip.compress(make_nifti(np.full((6, 5, 4), value, "i2")))
        )

    return mend


def attempts(study: Path) -> dict[str, int]:
    """How often each volume was written."""
    places = (study / "collections" / "T1w").glob("*/*.ome.zarr")
    found: dict[str, int] = {}
    for place in places:
        found[place.parent.name] = found.get(place.parent.name, 0) + 1
    return found


def fail(folder: Path, uri: Any, **options: Any) -> None:
    with pytest.raises(IngestError, match="1 of 6"):
        RadiObject.from_niftis(uri, {"T1w": folder}, **options)
    with pytest.raises(StudyNotFoundError, match="resume=True"):
        RadiObject(uri)


def values(radi: RadiObject) -> list[int]:
    return [int(v[0, 0, 0]) for v in RadiObject(radi._study.location.uri).T1w]


def outcomes(radi: RadiObject) -> list[str]:
    return radi.ledger.read(["outcome"])["outcome"].to_list()


def test_a_mended_file_is_all_that_is_written_again(folder, mend, tmp_path) -> None:
    with measure() as whole:
        fail(folder, tmp_path / "study")
    mend()
    with measure() as rest:
        radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert values(radi) == list(range(6))
    assert outcomes(radi) == ["ingested" if n == BAD else "resumed" for n in range(6)]
    assert attempts(tmp_path / "study") == {f"sub-{n}_T1w": 1 for n in range(6)}
    assert rest["door_write"] < whole["door_write"]
    assert radi.validate("full").ok


def test_every_backend_resumes(folder, mend, backend) -> None:
    fail(folder, backend.uri(), backend=backend.backend)
    mend()
    radi = RadiObject.from_niftis(backend.uri(), {"T1w": folder}, resume=True, backend=backend.backend)
    assert values(radi) == list(range(6))
    assert set(outcomes(radi)) == {"ingested", "resumed"}


def test_without_resume_everything_is_written_again(folder, mend, tmp_path) -> None:
    fail(folder, tmp_path / "study")
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder})
    assert values(radi) == list(range(6))
    assert set(outcomes(radi)) == {"ingested"}


def test_a_source_that_changed_in_between_is_read_again(folder, mend, tmp_path) -> None:
    fail(folder, tmp_path / "study")
    mend()
    mend(1, 100)
    # equal in size and later by a tick: only the time tells
    path = folder / "sub-2_T1w.nii.gz"
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert values(radi) == [0, 100, 2, 3, 4, 5]
    assert outcomes(radi) == ["resumed", "ingested", "ingested", "ingested", "resumed", "resumed"]


@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_a_volume_that_did_not_survive_the_crash_is_written_again(folder, mend, tmp_path, damage) -> None:
    fail(folder, tmp_path / "study")
    mend()
    (shard,) = (tmp_path / "study" / "collections" / "T1w" / "sub-4_T1w").glob("*/0/c/0/0/0")
    data = shard.read_bytes()
    shard.unlink()
    if damage == "short":
        shard.write_bytes(data[:-1])
    elif damage == "flipped":
        shard.write_bytes(data[:8] + bytes([data[8] ^ 1]) + data[9:])
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert values(radi) == list(range(6))
    assert outcomes(radi)[4] == "ingested"
    assert outcomes(radi)[5] == "resumed"
    assert radi.validate("full").ok


@pytest.mark.parametrize(
    "options",
    [
        {"write": WriteConfig(tile=TileConfig(chunks=(2, 2, 2)))},
        {"labels": ["T1w"]},
        {"axis4": "time"},
        {"write": WriteConfig.preset("none")},
    ],
    ids=["tile", "labels", "axis4", "codec"],
)
def test_other_settings_are_another_plan(folder, mend, tmp_path, options) -> None:
    """Volumes of the first run would be right bytes under a wrong meaning."""
    fail(folder, tmp_path / "study")
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True, **options)
    assert set(outcomes(radi)) == {"ingested"}
    assert values(radi) == list(range(6))


def test_files_below_another_root_are_another_plan(folder, mend, tmp_path) -> None:
    """Paths of the first run begin elsewhere: taken over, they would lead nowhere."""
    (folder / f"sub-{BAD}_T1w.nii.gz").write_bytes(b"no NIfTI")
    fail(folder, tmp_path / "study", copy=False, source_root=folder)
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, copy=False, resume=True)
    assert set(outcomes(radi)) == {"ingested"}
    assert values(radi) == list(range(6))
    assert radi.validate("full").ok


def test_an_interrupted_run_keeps_what_it_had_finished(folder, mend, tmp_path) -> None:
    mend()

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, executor="serial", progress=interrupt)
    with pytest.raises(StudyNotFoundError):
        RadiObject(tmp_path / "study")
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert outcomes(radi) == ["resumed"] * 4 + ["ingested"] * 2
    assert values(radi) == list(range(6))


def test_a_resumed_run_may_fail_and_be_resumed(folder, mend, tmp_path) -> None:
    fail(folder, tmp_path / "study")
    fail(folder, tmp_path / "study", resume=True)
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert outcomes(radi).count("resumed") == 5
    assert attempts(tmp_path / "study") == {f"sub-{n}_T1w": 1 for n in range(6)}


def test_an_append_resumes(folder, mend, tmp_path, study) -> None:
    radi = study({"flair": {f"sub-{n}": np.zeros((2, 2, 2), "u1") for n in range(6)}})
    with pytest.raises(IngestError):
        radi.append({"T1w": folder})
    assert RadiObject(radi.uri).version == 1
    mend()
    radi.append({"T1w": folder}, resume=True)
    assert values(radi) == list(range(6))
    assert outcomes(radi)[6:] == ["ingested" if n == BAD else "resumed" for n in range(6)]


def test_resume_without_an_earlier_run_is_a_run(folder, mend, tmp_path) -> None:
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    assert values(radi) == list(range(6))


def test_thumbnails_and_statistics_of_resumed_volumes_are_there(folder, mend, tmp_path) -> None:
    fail(folder, tmp_path / "study")
    mend()
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": folder}, resume=True)
    pictures = radi._study.snapshot.table("thumbnails", "T1w").read()
    assert pictures["obs_id"].to_pylist() == radi.T1w.obs_ids
    assert all(pictures["jpeg"].to_pylist())
    assert radi.T1w.obs.read(["intensity_max"])["intensity_max"].to_list() == list(range(6))
