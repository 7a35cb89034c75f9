"""benchmarks/backends.py runs, its stores agree about every voxel, and it writes figures and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_backends_runs_on_a_few_small_brains(tmp_path: Path) -> None:
    for package in ("tiledb", "nilearn", "matplotlib"):
        pytest.importorskip(package)
    small = ["--no-upstream", "--volumes", "3", "--spacing", "8", "--rounds", "1", "--patches", "12"]
    out = ["--work", str(tmp_path), "--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "backends.py"), *small, *out],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["stores"] == ["Zarr", "TileDB"]
    assert set(report["kinds"]) == {"int16", "float32"}
    for found in report["kinds"].values():
        for what in (
            "ingest",
            "open",
            "axial",
            "coronal",
            "sagittal",
            "64-cube",
            "whole",
            "patches",
            "bytes",
        ):
            assert found[what].keys() == {"Zarr", "TileDB"}
            assert all(value > 0 for value in found[what].values())
        assert found["limits"]["copy"] < found["64-cube"]["Zarr"]
    assert (tmp_path / "out.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "patches, s" in done.stdout
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_the_picture_of_the_page_is_small() -> None:
    picture = ROOT / "docs" / "images" / "backends.png"
    assert picture.stat().st_size < 200_000
    assert "images/backends.png" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
