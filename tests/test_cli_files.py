"""Files where they lie, from a shell: `ingest --no-copy`, and `--source-root` wherever a study opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.command import Outcome
from tests.conftest import NiftiMaker

Cli = Callable[..., Outcome]


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    for subject in ("sub-01", "sub-02"):
        ramp = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)
        (tmp_path / "nifti" / f"{subject}_T1w.nii").parent.mkdir(exist_ok=True)
        (tmp_path / "nifti" / f"{subject}_T1w.nii").write_bytes(make_nifti(ramp))
    return tmp_path


def test_a_study_is_made_over_files_and_copied_with_them(cli: Cli, files: Path) -> None:
    study = files / "study"
    made = cli("ingest", study, "--images", f"T1w={files / 'nifti'}", "--no-copy")
    assert made.code == 0, made.err
    assert "files" in made.out
    assert cli("validate", study, "--level", "full").code == 0
    away = files / "away" / "study"
    shutil.move(study, away)
    lost = cli("export", away, files / "lost")
    assert lost.code != 0
    assert "source_root" in lost.err
    for words in (
        ("export", away, files / "out"),
        ("copy", away, files / "stored", "--backend", "zarr"),
        ("info", away),
        ("report", away, "--out", files / "page.html"),
    ):
        done = cli(*words, "--source-root", files)
        assert done.code == 0, done.err
    found = sorted(p for p in (files / "out").rglob("*.nii*"))
    assert len(found) == 2


def test_a_folder_is_planned_and_left_where_it_is(cli: Cli, files: Path) -> None:
    made = cli("ingest", files / "study", files / "nifti", "--no-copy", "--source-root", files)
    assert made.code == 0, made.err
    assert "files" in made.out
    refused = cli("ingest", files / "other", files / "nifti", "--no-copy", "--backend", "zarr")
    assert refused.code != 0
    assert "backend" in refused.err
