"""`radiobject report`: what it prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject.cli import main
from tests.show.planted import Planted

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in an empty folder; exit code, stdout, stderr."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["report", *map(str, words)])
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> str:
    planted = Planted()
    planted.images[2] = (np.zeros_like(planted.images[2][0]), planted.images[2][1])
    return str(planted.write(tmp_path_factory.mktemp("odd") / "study").uri)


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(Planted().write(tmp_path_factory.mktemp("fine") / "study").uri)


def test_findings_are_listed_and_the_page_is_written(call: Call, odd: str) -> None:
    code, out, err = call(odd)
    assert (code, err) == (0, "")
    assert f"{odd} version 1, 32 volumes: 1 problem, 0 odd" in out
    assert "sub-03_T1w" in out
    assert "every voxel is 0" in out
    assert "report.html: " in out
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_study_without_findings_says_so(call: Call, fine: str) -> None:
    code, out, _ = call(fine, "-o", "deep/page.html", "--thumbnails", "3")
    assert code == 0
    assert "nothing stands out" in out
    assert Path("deep/page.html").read_text(encoding="utf-8").count("<img") == 3


def test_json_has_every_finding_and_writes_a_page_only_where_asked(call: Call, odd: str) -> None:
    code, out, _ = call(odd, "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["version"], document["subjects"], document["volumes"]) == (1, 16, 32)
    (finding,) = document["findings"]
    assert finding == {
        "severity": "problem", "kind": "constant", "collection": "T1w", "obs_subject_id": "sub-03",
        "obs_id": "sub-03_T1w", "message": "every voxel is 0", "volumes": 1,
    }  # fmt: skip
    assert document["page"] is None
    assert not list(Path().iterdir())
    assert json.loads(call(odd, "--json", "--out", "page.html")[1])["page"] == "page.html"
    assert Path("page.html").exists()


def test_columns_of_subjects_are_left_out_where_asked(call: Call, fine: str) -> None:
    call(fine, "-o", "with.html")
    call(fine, "-o", "without.html", "--no-obs-meta")
    assert "median 37.5" in Path("with.html").read_text(encoding="utf-8")
    assert "median 37.5" not in Path("without.html").read_text(encoding="utf-8")
