"""Materializing what cannot be stored: nothing is committed twice, and nothing goes where nobody finds it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError
from tests.conftest import NiftiMaker

RAMP = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)


@pytest.fixture(scope="module")
def everywhere() -> None:
    """Not that of the other tests of the model: these are on one backend."""


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    for number in (1, 2):
        (tmp_path / f"sub-0{number}_T1w.nii").write_bytes(make_nifti(RAMP + number))
    return tmp_path


@pytest.fixture
def radi(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "study", {"T1w": str(files / "*.nii")}, copy=False, progress=False)


def collected(radi: RadiObject) -> list[tuple[str, str]]:
    """What the ledger has to say after another run that goes on where volumes fail."""
    radi.materialize(errors="collect", executor="serial", progress=False)
    lines = radi.ledger.to_arrow().to_pylist()[2:]
    return [(line["obs_id"], line["error"] or line["outcome"]) for line in lines]


def test_what_fails_again_is_not_committed_again(radi: RadiObject, files: Path) -> None:
    first, second = files / "sub-01_T1w.nii", files / "sub-02_T1w.nii"
    first.rename(files / "one")
    second.rename(files / "two")
    said = [("sub-01_T1w", "MissingObjectError"), ("sub-02_T1w", "MissingObjectError")]
    assert (collected(radi), radi.version) == (said, 2)
    assert (collected(radi), radi.version) == (said, 2)
    assert not list((files / "study" / "transactions").rglob("*.*"))
    first.write_bytes(b"another")
    said.append(("sub-01_T1w", "SourceChangedError"))
    assert (collected(radi), radi.version) == (said, 3)
    first.unlink()
    said.append(("sub-01_T1w", "MissingObjectError"))  # it is the last word that counts
    assert (collected(radi), radi.version) == (said, 4)
    os.rename(files / "two", second)
    said.append(("sub-02_T1w", "ingested"))
    assert (collected(radi), radi.version) == (said, 5)
    assert radi.validate("standard").ok


def test_a_study_on_disk_takes_no_volumes_that_would_not_last(radi: RadiObject, files: Path) -> None:
    with pytest.raises(ConfigError, match=r"'memory'.*zarr"):
        radi.materialize(backend="memory")
    assert (RadiObject(radi.uri).version, radi.T1w.backend) == (1, "files")
    place = f"memory://{uuid.uuid4().hex}/study"
    there = RadiObject.from_niftis(
        place, {"T1w": str(files / "*.nii")}, copy=False, source_root=files, progress=False
    )
    assert there.materialize(backend="memory").T1w.backend == "memory"
    np.testing.assert_array_equal(there.T1w.iloc[0].to_numpy(), RAMP + 1)


@pytest.mark.parametrize(
    "wrong", [{"resume": True}, {"resume": False}, {"commit_every": 2}, {"errors": "collect"}]
)
def test_a_copy_is_not_resumed_and_has_one_commit(
    radi: RadiObject, files: Path, wrong: dict[str, Any]
) -> None:
    for place in (files / "copy", f"{files}/copy"):
        with pytest.raises(TypeError, match=f"no {next(iter(wrong))}"):
            radi.materialize(place, **wrong)
    assert not (files / "copy").exists()
