"""benchmarks/scaling.py runs on a few subjects, fits exponents, and draws two pictures that can be read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of benchmarks/, which is no package; it finds its neighbours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_of_scaling_runs_on_a_few_subjects_and_adds_a_size(tmp_path: Path) -> None:
    for package in ("nilearn", "matplotlib", "xarray"):
        pytest.importorskip(package)
    out = ["--work", str(tmp_path), "--json", str(tmp_path / "out.json"), "--plots", str(tmp_path)]
    small = ["--commits", "3", "--volumes", "2", "--spacing", "8", "--add", "--one-process"]
    for subjects in ("12", "6"):
        done = subprocess.run(
            [sys.executable, str(BENCHMARKS / "scaling.py"), "--subjects", subjects, *small, *out],
            capture_output=True, text=True, timeout=280, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report["sizes"]) == ["6", "12"]
    for of in report["sizes"].values():
        assert of["operations"].keys() == report["exponents"].keys()
        assert all(row["seconds"] > 0 for row in of["operations"].values())
        assert of["operations"]["open"]["requests"] == of["after_commits"]["open"]["requests"] == 3
        assert of["operations"]["append 1"]["bytes_written"] > 0 == of["operations"]["pairs"]["bytes_written"]
        assert of["tables"].keys() == {"obs_meta", "ledger", "obs", "thumbnails"}
    assert abs(report["exponents"]["append 1"]["bytes_written"]["last"]) < 0.1
    assert report["voxels"]["bytes"] > 0
    for picture in ("scaling-time.png", "scaling-work.png"):
        assert (tmp_path / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_slopes_are_the_exponents_of_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    slope = benchmark("scaling", monkeypatch).slope
    assert slope([10, 100, 1000], [5, 50, 500]) == pytest.approx(1)
    assert slope([10, 100, 1000], [7, 7, 7]) == pytest.approx(0)
    assert slope([10, 100], [3, 0]) is None
    assert slope([10], [3]) is None


def test_labels_keep_their_order_and_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = benchmark("scaling_plot", monkeypatch).spread

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted))
    def check(places: list[float]) -> None:
        made = spread(places, 0.05)
        assert len(made) == len(places)
        assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(made))
        if all(b - a >= 0.05 for a, b in pairwise(places)):
            assert made == pytest.approx(places)

    check()


def test_the_pictures_of_the_page_are_small() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for picture in ("scaling-time.png", "scaling-work.png"):
        assert (ROOT / "docs" / "images" / picture).stat().st_size < 200_000
        assert f"images/{picture}" in page
