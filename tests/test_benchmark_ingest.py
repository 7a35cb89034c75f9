"""benchmarks/ingest.py runs: the study holds what nibabel reads, and figures are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_ingest_runs_on_a_few_volumes(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    small = ["--no-upstream", "--volumes", "2", "--contents", "1", "--rounds", "1", "--workers", "1"]
    out = ["--work", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "ingest.py"), *small, *out],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert next(r["who"] for r in report["runs"]) == "radiobject"
    assert all(r["seconds"] > 0 and r["cpu"] > 0 and r["bytes"] > 2_000_000 for r in report["runs"])
    assert report["stages"]["gunzip (isal)"] > 0
    assert "20,000 studies" in done.stdout
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
