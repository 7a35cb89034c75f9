"""benchmarks/registering.py runs: the study reads what pydicom reads, and figures are written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_registering_runs_on_a_few_series(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    small = ["--series", "3", "--files", "4", "--side", "4", "--rounds", "2"]
    script = str(ROOT / "benchmarks" / "registering.py")
    done = subprocess.run(
        [sys.executable, script, *small, "--json", str(tmp_path / "out.json")],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["files"] == 12
    assert list(found["seconds"]) == ["pydicom: read the headers", "radiobject: register"]
    assert all(value > 0 for values in found["seconds"].values() for value in values)
    assert "times the rate of pydicom alone" in done.stdout
