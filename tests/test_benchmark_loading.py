"""benchmarks/loading.py runs, everybody in it hands out patches, and it writes figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_loading_runs_on_two_small_volumes(tmp_path: Path) -> None:
    for package in ("torch", "nilearn"):
        pytest.importorskip(package)
    small = ["--no-upstream", "--no-peers", "--volumes", "2", "--rounds", "1", "--patches", "8"]
    some = ["--edges", "32", "--cores", "1", "--kinds", "float32", "--size", "0.3"]
    out = ["--work", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "loading.py"), *small, *some, *out],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert (run["kind"], run["cores"]) == ("float32", 1)
    assert set(run["rates"]["32"]) == {
        "tensorstore", "RadiLoader", "RadiLoader, float32", "RadiLoader, locality 8", "RadiLoader, Scratch",
        "arrays in memory",
    }  # fmt: skip
    for rates in (run["rates"], run["cpu_rates"]):
        assert all(rate > 0 for rate in rates["32"].values())
    assert "RadiLoader, Scratch" in done.stdout
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
