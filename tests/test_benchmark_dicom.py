"""benchmarks/dicom.py runs: the study holds what pydicom reads, and figures are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_dicom_runs_on_a_small_series(tmp_path: Path) -> None:
    for package in ("pydicom", "nilearn"):
        pytest.importorskip(package)
    small = ["--slices", "6", "--size", "32", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "dicom.py"), *small, "--json", str(tmp_path / "out.json")],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds = json.loads((tmp_path / "out.json").read_text())["seconds"]
    assert list(seconds) == ["radiobject", "pydicom: read, sort, stack", "tensorstore: write"]
    assert all(value > 0 for values in seconds.values() for value in values)
    assert "times as long as both parts together" in done.stdout
