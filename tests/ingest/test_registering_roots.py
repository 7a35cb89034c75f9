"""Files that are registered later lie below the root of those registered before, or nothing is written."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError
from radiobject.ingest import source_root
from radiobject.location import Location
from tests.conftest import NiftiMaker

RAMP = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)
ALL = ("sub-01", "sub-02", "sub-03")


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    """An archive beside the folder of the study."""
    (tmp_path / "arc").mkdir()
    for number, subject in enumerate(ALL):
        for name in ("T1w", "T2w"):
            (tmp_path / "arc" / f"{subject}_{name}.nii").write_bytes(make_nifti(RAMP + number))
    return tmp_path


def given(folder: Path, subjects: tuple[str, ...] = ALL, *names: str) -> dict[str, Any]:
    return {n: [folder / f"{s}_{n}.nii" for s in subjects] for n in names or ("T1w", "T2w")}


@pytest.fixture
def radi(files: Path) -> RadiObject:
    """Two subjects of three, below the archive; opened by whoever forgot to say so."""
    arc = files / "arc"
    made = RadiObject.from_niftis(files / "study", given(arc, ALL[:2]), copy=False, source_root=arc)
    return RadiObject(made.uri)


def third(radi: RadiObject, folder: Path, **options: Any) -> RadiObject:
    rows = {"obs_subject_id": ["sub-03"]}
    return radi.append(given(folder, ALL[2:]), rows, copy=False, progress=False, **options)


def sound(study: Path, root: Path | str | None) -> bool:
    return RadiObject(study, source_root=root).validate("full").ok


def test_a_forgotten_root_is_told(radi: RadiObject, files: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file of 'T1w' there, such as that of 'sub-01_T1w'.*--source"):
        third(radi, files / "arc")
    with pytest.raises(ConfigError, match=r"which the study was opened with.*Open the study"):
        third(radi, files / "arc", source_root=files / "arc")
    assert RadiObject(radi.uri).version == 1
    right = third(RadiObject(radi.uri, source_root=files / "arc"), files / "arc")
    assert (right.version, sound(files / "study", files / "arc")) == (2, True)


def test_what_is_stored_asks_for_no_root(radi: RadiObject, files: Path) -> None:
    rows = {"obs_subject_id": ["sub-03"]}
    radi.append(given(files / "arc", ALL[2:]), rows, progress=False)
    assert sound(files / "study", files / "arc")


def test_a_file_that_is_left_is_enough(radi: RadiObject, files: Path) -> None:
    for name in ("sub-01_T1w", "sub-02_T1w", "sub-01_T2w"):
        (files / "arc" / f"{name}.nii").unlink()
    radi = third(RadiObject(radi.uri, source_root=files / "arc"), files / "arc")
    assert radi.version == 2


def test_few_of_many_are_looked_for(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = files / "arc" / "sub-01_T1w.nii"
    for n in range(100):
        first.with_name(f"sub-01_{n}.nii").hardlink_to(first)
    many = [(first.with_name(f"sub-01_{n}.nii"), "sub-01", f"v{n:03}") for n in range(100)]
    radi = RadiObject.from_niftis(files / "study", {"T1w": many}, copy=False, source_root=files / "arc")
    looked: list[int] = []
    asked = source_root._holds_one
    monkeypatch.setattr(
        source_root, "_holds_one", lambda *given: looked.append(len(given[2])) or asked(*given)
    )
    radi.append({"T2w": [files / "arc" / "sub-01_T2w.nii"]}, copy=False, progress=False)
    assert looked == [1]
    with pytest.raises(ConfigError):
        RadiObject(radi.uri).append({"T1w": [(first, "sub-01", "more")]}, copy=False, progress=False)
    assert looked[1:] == [1, 31, 1, 0]
    forgotten = RadiObject(radi.uri).append(
        given(files / "arc", ALL[:1], "T2w"), copy=False, on_conflict="skip"
    )
    assert (forgotten.version, len(looked)) == (2, 5)  # nothing was to be registered


def test_all_of_them_may_be_registered_below_another_root_and_a_part_may_not(
    radi: RadiObject, files: Path
) -> None:
    (files / "other" / "deep").mkdir(parents=True)
    for source in (files / "arc").iterdir():
        shutil.move(source, files / "other" / "deep")  # not named there as they were
    deep = files / "other" / "deep"
    moved = RadiObject(radi.uri, source_root=files / "other")
    with pytest.raises(ConfigError, match="no file of 'T2w'"):
        moved.append(given(deep, ALL[:2], "T1w"), copy=False, on_conflict="update", progress=False)
    moved.append(given(deep, ALL[:2]), copy=False, on_conflict="update", progress=False)
    assert sound(files / "study", files / "other")
    third(moved, deep)
    assert sound(files / "study", files / "other")


def test_collections_may_be_updated_one_by_one_where_paths_stay(radi: RadiObject, files: Path) -> None:
    shutil.copytree(files / "arc", files / "moved")  # without the times
    shutil.rmtree(files / "arc")
    moved = RadiObject(radi.uri, source_root=files / "moved")
    for name in ("T1w", "T2w"):
        moved.append(given(files / "moved", ALL[:2], name), copy=False, on_conflict="update", progress=False)
    assert sound(files / "study", files / "moved")


def test_a_root_in_a_store_is_asked(files: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fs, path = Location(root).filesystem()
    for source in (files / "arc").iterdir():
        fs.pipe_file(f"{path}/arc/deep/{source.name}", source.read_bytes())
    first, second = ({"T1w": [(f"{root}/arc/deep/{s}_T1w.nii", s)]} for s in ALL[:2])
    RadiObject.from_niftis(files / "study", first, copy=False, source_root=f"{root}/arc/deep")
    rows = {"obs_subject_id": ["sub-02"]}
    with pytest.raises(ConfigError, match=f"source_root {root}/arc:"):
        RadiObject(files / "study", source_root=f"{root}/arc").append(second, rows, copy=False)
    RadiObject(files / "study", source_root=f"{root}/arc/deep").append(second, rows, copy=False)
    assert sound(files / "study", f"{root}/arc/deep")
    fs.rm(path, recursive=True)
