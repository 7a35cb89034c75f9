"""`radiobject ingest URI FOLDER`: the plan is shown, saved, estimated, edited and run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.cli import main
from radiobject.examples import cohort

pytest.importorskip("nilearn")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(w) for w in words])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scans")
    cohort(place, 2, spacing=16.0, progress=False)
    return place


def test_a_dry_run_shows_and_saves_and_writes_no_study(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ingest", tmp_path / "study", folder, "--dry-run", "--plan", tmp_path / "plan.csv") == 0
    said = capsys.readouterr().out
    assert "Plan of 6 volumes (nifti): 3 T1w, 3 seg (label)" in said
    assert "sub-02_T1w_acq-1" in said
    assert len(pd.read_csv(tmp_path / "plan.csv")) == 6
    assert not (tmp_path / "study").exists()


def test_an_edited_plan_is_what_is_ingested(folder: Path, tmp_path: Path) -> None:
    run("ingest", tmp_path / "study", folder, "--dry-run", "--plan", tmp_path / "plan.csv")
    table = pd.read_csv(tmp_path / "plan.csv")
    table[table["collection"] == "T1w"].to_csv(tmp_path / "plan.csv", index=False)
    assert run("ingest", tmp_path / "study", folder, "--plan", tmp_path / "plan.csv") == 0
    assert RadiObject(tmp_path / "study").collection_names == ("T1w",)


def test_a_folder_joins_the_study_that_is_there(folder: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"collection": "T1w", "stem": "T1w"}]))
    assert run("ingest", tmp_path / "study", folder, "--rules", rules) == 0
    assert run("ingest", tmp_path / "study", folder) == 1
    assert run("ingest", tmp_path / "study", folder, "--on-conflict", "skip") == 0
    radi = RadiObject(tmp_path / "study")
    assert (radi.version, radi.collection_names) == (2, ("T1w", "seg"))


def test_an_estimate_is_printed_as_text_and_as_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ingest", tmp_path / "study", folder, "--estimate", "--workers", "2") == 0
    assert "6 volumes, " in capsys.readouterr().out
    assert run("ingest", tmp_path / "study", folder, "--estimate", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["estimate"]["volumes"] == len(document["rows"]) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ingest", "study", "--dry-run"], "give one of them"),
        (["ingest", "study", "--images", "a=b", "--dry-run"], "they need FOLDER"),
        (["ingest", "study", "folder", "--images", "a=b"], "give one of them"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_rules_that_are_no_json_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.json").write_text("[")
    assert run("ingest", tmp_path / "study", folder, "--rules", tmp_path / "rules.json") == 1
    assert "rules.json" in capsys.readouterr().err


def test_versions_are_made_on_the_way_when_asked(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "in")
    (place / "readme.txt").write_text("no image")
    assert run("ingest", tmp_path / "study", place, "--commit-every", "2", "--workers", "1") == 0
    radi = RadiObject(tmp_path / "study")
    assert (radi.version, len(radi.T1w) + len(radi.seg)) == (3, 6)
    noted = [r for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "noted"]
    assert len(noted) == 1
