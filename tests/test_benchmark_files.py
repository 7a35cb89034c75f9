"""benchmarks/files.py runs, all its readers agree, and it writes figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_files_where_they_lie_runs_on_a_small_head(tmp_path: Path) -> None:
    for package in ("torch", "nilearn"):
        pytest.importorskip(package)
    out = ["--work", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "files.py"), "--shrink", "6", "--rounds", "1", *out],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report["ms"]) == {"cube of .nii", "whole .nii.gz", "cube of .nii.gz, later"}
    assert all(times for readers in report["ms"].values() for times in readers.values())
    assert "map, opened" in done.stdout
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
