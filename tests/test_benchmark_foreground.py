"""The benchmark of foreground patches runs: ours reads an index, and of the mask the patches alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("nilearn")

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "foreground.py"


def test_the_benchmark_of_foreground_patches_runs_on_a_small_volume(tmp_path: Path) -> None:
    small = ["--shape", "96", "96", "64", "--edge", "16", "--rounds", "1", "--work", str(tmp_path)]
    subprocess.run(
        [sys.executable, str(SCRIPT), *small, "--json", str(tmp_path / "out.json")],
        check=True, timeout=200, capture_output=True,
    )  # fmt: skip
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["cost"]["indexes_opened"] == 1
    assert found["cost"]["bytes_used"] == 4 * 16**3 * 3  # an int16 and a uint8 a voxel
    assert 0 < found["index"]["bytes"] < 10**6
    assert found["ratio_of_label_maps"] > 0
