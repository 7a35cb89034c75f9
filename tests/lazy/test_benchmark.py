"""benchmarks/xarray_open.py runs, and both sides of it agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_of_opening_runs_on_a_few_volumes(tmp_path: Path) -> None:
    few = ["--volumes", "60", "--peer", "5", "--rounds", "1", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "xarray_open.py"), *few],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert all(row["seconds"] > 0 for row in report["opening"].values())
    assert report["peer"]["ours"]["sum"] == report["peer"]["xr.open_zarr"]["sum"]
    assert report["peer"]["xr.open_zarr"]["extrapolated"] == 12 * report["peer"]["xr.open_zarr"]["open"]
    assert report["all"]["volumes_opened"] == 60
    assert "extrapolated" in done.stdout
