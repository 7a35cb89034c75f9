"""`radiobject materialize`: what was registered by `ingest --no-copy` is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from tests.command import Outcome
from tests.conftest import NiftiMaker

Cli = Callable[..., Outcome]


@pytest.fixture
def uri(tmp_path: Path, make_nifti: NiftiMaker) -> str:
    """A study apart from its files."""
    (tmp_path / "raw").mkdir()
    for name in ("a_CT", "b_CT", "a_seg"):
        (tmp_path / "raw" / f"{name}.nii").write_bytes(make_nifti(np.arange(24, dtype="u1").reshape(2, 3, 4)))
    place, images = (
        str(tmp_path / "made" / "study"),
        {n: str(tmp_path / "raw" / f"*_{n}.nii") for n in ("CT", "seg")},
    )
    RadiObject.from_niftis(place, images, copy=False, source_root=tmp_path / "raw", progress=False)
    return place


def test_one_collection_and_then_the_others(cli: Cli, uri: str, tmp_path: Path) -> None:
    words = ("materialize", uri, "--source-root", tmp_path / "raw")
    done = cli(*words, "--collection", "seg", "--workers", 1, "--message", "for good", "--json")
    assert done.json() == {"uri": uri, "version": 2, "from": 1, "collections": {"seg": "zarr"}, "failed": []}
    assert RadiObject(uri).versions()[-1]["message"] == "for good"
    done = cli(*words, "--commit-every", 1)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{uri}: 2 volumes stored, version 2 to 4\n"
    assert cli(*words).out == f"{uri}: nothing to do, version 4 stays\n"
    assert RadiObject(uri).CT.iloc[0][1, 2, 3] == 23


def test_files_that_are_gone_stop_it_or_are_told(cli: Cli, uri: str, tmp_path: Path) -> None:
    done = cli("materialize", uri)
    assert done.code == 1
    assert "--source-root" in done.err or "source_root=" in done.err
    (tmp_path / "raw" / "a_CT.nii").unlink()
    done = cli("materialize", uri, "--source-root", tmp_path / "raw", "--errors", "collect")
    assert (done.code, done.out) == (0, f"{uri}: 2 volumes stored, version 1 to 2\n")
    assert done.err.startswith("failed: MissingObjectError: a_CT.nii")
    again = cli("materialize", uri, "--source-root", tmp_path / "raw", "--errors", "collect")
    assert (again.code, again.err) == (0, done.err)  # it is no less true for being known
    assert again.out == f"{uri}: nothing could be done, version 2 stays\n"


def test_help_teaches(cli: Cli) -> None:
    said = cli("materialize", "--help").out
    for word in (
        "--no-copy",
        "Ctrl-C",
        "--collection",
        "--source-root",
        "radiobject materialize /archive/study",
    ):
        assert word in said
