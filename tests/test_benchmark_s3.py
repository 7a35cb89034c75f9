"""benchmarks/s3.py runs: the readers agree, and its rounds are those that the documentation names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_s3_runs_on_small_volumes(tmp_path: Path) -> None:
    for package in ("nilearn", "moto", "s3fs", "tiledb"):
        pytest.importorskip(package)
    small = ["--server", "moto", "--edge", "128", "--rounds", "1", "--delays", "0", "80"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "s3.py"), *small, "--json", str(tmp_path / "out.json")],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reads = json.loads((tmp_path / "out.json").read_text())["reads"]
    for reader in ("radiobject", "radiobject, explicit keys"):
        waited = {kind: found[reader]["80"]["rounds"] for kind, found in reads.items()}
        most = {"open": 2, "first 64-cube": 2, "next 64-cube": 1, "slice": 1, "whole": 1}
        assert waited.keys() == most.keys()
        assert all(waited[kind] <= most[kind] for kind in most), waited
    assert "first 64-cube at 80 ms" in done.stdout
