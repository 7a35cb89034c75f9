"""A figure that a page claims is made by a command: pages hold what the kept run gives, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

for package in ("nilearn", "matplotlib"):
    pytest.importorskip(package)

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "bench.json"
MARKER = re.compile(r"<!-- figures: ([a-z0-9]+) -->")


@pytest.fixture(scope="module")
def page() -> Any:
    """The module that writes pages, as `python benchmarks` sees it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from proof import page

        return page
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "docs/performance.md"])
def test_the_page_holds_the_figures_of_the_kept_run(name: str, page: Any) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert MARKER.search(text)
    assert page.filled(text, json.loads(KEPT.read_text())) == text


def test_a_changed_figure_on_a_page_is_seen(page: Any) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    report = json.loads(KEPT.read_text())
    report["images"]["CT-like, int16"]["reads"]["64-cube"]["radiobject"]["median"] *= 2
    assert page.filled(text, report) != text


def test_every_marker_has_its_end_and_its_maker(page: Any) -> None:
    for path in page.PAGES:
        text = path.read_text(encoding="utf-8")
        names = MARKER.findall(text)
        assert text.count("<!-- /figures -->") == len(names)
        assert set(names) <= {"machine", *page.EVERY}


def test_the_kept_run_was_whole() -> None:
    report = json.loads(KEPT.read_text())
    assert "--full" in report["command"]
    assert report["many"]["volumes"] == 100
    assert {"10000", "100000"} <= set(report["tables"])


def test_pictures_of_the_page_are_small() -> None:
    for name in ("bench-reads.png", "bench-patches.png"):
        assert (ROOT / "docs" / "images" / name).stat().st_size < 250_000
