"""The page on importing: its commands and its script run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from radiobject import RadiObject
from tests.upstream.conftest import Theirs

pytest.importorskip("tiledb")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "import-upstream.md"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_every_block_of_the_page_runs(theirs: Theirs, tmp_path: Path) -> None:
    shutil.copytree(theirs.uri("msd"), tmp_path / "old" / "glioma")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    runs = [["bash", "-c", text] for text in blocks("sh")]
    runs += [[sys.executable, "-W", "error", "-c", text] for text in blocks("py")]
    assert len(runs) == 2
    for words in runs:
        ran = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "position" in ran.stdout
        shutil.rmtree(tmp_path / "studies")


def test_the_page_has_every_kind_of_finding(theirs: Theirs, tmp_path: Path) -> None:
    named = set(re.findall(r"`([a-z ]+)`", PAGE.read_text(encoding="utf-8")))
    for name in sorted(theirs.answers):
        radi = RadiObject.from_upstream(theirs.uri(name), tmp_path / name)
        rows = radi.ledger.to_arrow(["outcome", "error"]).to_pylist()
        assert {r["error"] for r in rows if r["outcome"] in ("repaired", "noted")} <= named
