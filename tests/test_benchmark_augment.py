"""benchmarks/augment.py runs, everybody in it turns masks as their images, and it writes figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_augmentation_runs_on_a_small_batch(tmp_path: Path) -> None:
    for package in ("torch", "monai"):
        pytest.importorskip(package)
    small = ["--edge", "24", "--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "augment.py"), *small],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert {"torch", "MONAI AffineTransform", "MONAI dictionary transforms"} <= set(report["ms"])
    assert all(milliseconds > 0 for milliseconds in report["ms"].values())
    assert all(dice > 0.98 for dice in report["agreement"].values())
