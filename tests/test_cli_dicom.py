"""`radiobject ingest` on DICOM: what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from radiobject import RadiObject, pseudonym
from radiobject.cli import main
from tests.upstream.series import write_series

KEY = "00" * 32


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(w) for w in words])
    return int(left.value.code or 0)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "study.key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def test_a_folder_is_ingested_with_the_key_of_a_file(
    tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_series(tmp_path / "in")
    assert run("ingest", tmp_path / "study", "--dicom", folder, "--deid-key", key) == 0
    assert "1 volume of 1 subject" in capsys.readouterr().out
    assert RadiObject(tmp_path / "study").obs_subject_ids == [pseudonym("MRN-4711", KEY)]


def test_options_of_privacy_reach_the_study(tmp_path: Path, key: Path) -> None:
    folder = write_series(tmp_path / "in", (0.0, 2.5, 7.5), PatientSex="F")
    (tmp_path / "map.csv").write_text("patient_id,obs_subject_id\nMRN-4711,sub-01\n")
    options = ["--deid-key", key, "--deid-map", tmp_path / "map.csv", "--keep-phi", "PatientSex"]
    words = ["--images", f"CT={folder}", *options, "--irregular", "keep"]
    assert run("ingest", tmp_path / "study", *words) == 0
    radi = RadiObject(tmp_path / "study")
    obs = radi.CT.obs.read()
    assert radi.CT.obs_ids == ["sub-01_CT"]
    assert (list(obs["patient_sex"]), list(obs["irregular_slices"])) == (["F"], [True])


def test_ids_stay_when_that_is_asked_for(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in")
    assert run("ingest", tmp_path / "study", "--dicom", folder, "--no-deidentify") == 0
    assert RadiObject(tmp_path / "study").obs_subject_ids == ["MRN-4711"]


def test_a_volume_that_fails_is_told_and_nothing_committed(
    tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_series(tmp_path / "in", (0.0, 2.5, 7.5))
    assert run("ingest", tmp_path / "study", "--dicom", folder, "--deid-key", key) == 1
    assert "1 missing of 4" in capsys.readouterr().err
    assert not (tmp_path / "study").exists() or not list((tmp_path / "study").glob("commits/*"))


def test_images_or_dicom_not_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ingest", tmp_path / "study", "--dicom", tmp_path, "--images", f"CT={tmp_path}") == 2
    assert "give one of them" in capsys.readouterr().err
