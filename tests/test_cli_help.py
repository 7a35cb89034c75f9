"""What `--help` says in a terminal of 80 columns, and counts of one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from radiobject import RadiObject
from radiobject.cli.application import application
from tests.command import Outcome
from tests.conftest import NiftiMaker

Cli = Callable[..., Outcome]

COMMANDS = typer.main.get_command(application()).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_breaks_in_a_narrow_terminal(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = [line.strip() for line in cli(command, "--help").out.splitlines()]
    _, *body = COMMANDS[command].help.split("\n\n")
    for line in "\n".join(body).replace("\b", "").splitlines():
        assert line.strip() in shown


def test_the_first_help_names_what_studies_are_made_of(cli: Cli) -> None:
    for kind in ("NIfTI", "DICOM", "BIDS"):
        assert kind in cli("--help").out.split("Options")[0]


def test_one_thing_is_not_told_as_several(cli: Cli, tmp_path: Path, make_nifti: NiftiMaker) -> None:
    (tmp_path / "sub-01_T1w.nii").write_bytes(make_nifti(np.zeros((3, 4, 5), "u1")))
    study = tmp_path / "study"
    made = cli("ingest", study, "--images", f"T1w={tmp_path}/*.nii")
    assert f"{study}: 1 volume of 1 subject, version 1" in made.out
    assert "1 version, 1 volume, " in cli("validate", study).out
    assert cli("export", study, tmp_path / "out").out.startswith("1 file, ")
    assert f"{tmp_path / 'copy'}: 1 volume of 1 subject, " in cli("copy", study, tmp_path / "copy").out


def test_hints_speak_of_options_too(cli: Cli, tmp_path: Path, make_nifti: NiftiMaker) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub-01_T1w.nii").write_bytes(make_nifti(np.zeros((3, 4, 5), "u1")))
    study = tmp_path / "study"
    assert "in a shell radiobject ingest URI FOLDER" in cli("info", study).err
    images = ("--images", f"T1w={tmp_path / 'in'}")
    assert cli("ingest", study, *images).code == 0
    assert "in a shell: radiobject ingest URI FOLDER" in cli("ingest", study, *images).err
    assert "--on-conflict skip" in cli("ingest", study, tmp_path / "in").err
    refused = cli("ingest", tmp_path / "other", "--dicom", tmp_path / "in", "--no-copy")
    assert "--no-deidentify" in refused.err


@pytest.mark.parametrize("place", ["beside", "away/copy"])
def test_a_copy_away_from_its_files_says_how_it_opens(
    cli: Cli, tmp_path: Path, make_nifti: NiftiMaker, place: str
) -> None:
    (tmp_path / "sub-01_T1w.nii").write_bytes(make_nifti(np.zeros((3, 4, 5), "u1")))
    images = {"T1w": [tmp_path / "sub-01_T1w.nii"]}
    RadiObject.from_niftis(tmp_path / "study", images, copy=False, progress=False)
    said = cli("copy", tmp_path / "study", tmp_path / place, "--json")
    line = f"voxels stay in files below {tmp_path}: open this copy with --source-root {tmp_path}\n"
    assert said.err == ("" if place == "beside" else line)
    assert said.json()["version"] == 1
    words = said.err.split()[-2:]
    assert cli("validate", tmp_path / place, "--level", "full", *words).code == 0
    assert cli("copy", tmp_path / "study", tmp_path / "away" / "stored", "--backend", "zarr").err == ""
