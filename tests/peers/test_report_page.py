"""A study's report in Chromium: it loads nothing, keeps its own policy, and enlarges pictures by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from peers.devtools import DevTools, browsing
from tests.show.planted import N, Planted

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    Planted().write(folder / "study").report(folder / "report.html")
    return folder / "report.html"


def test_the_page_asks_for_nothing_and_keeps_its_own_policy(page: Path, tmp_path: Path) -> None:
    with browsing(f"file://{page}", tmp_path / "profile") as tools:
        asked = [url for url in tools.asked if not url.startswith("data:image/jpeg")]
        assert asked == [f"file://{page}"]
        assert tools.errors == []
        # the style of the block whose hash is right was taken
        assert tools.value("getComputedStyle(document.body).maxWidth") == "1344px"
        assert tools.value("[...document.images].filter((i) => i.naturalWidth > 0).length") == 2 * N


def test_what_is_put_into_the_page_is_not_run(page: Path, tmp_path: Path) -> None:
    tampered = tmp_path / "tampered.html"
    put = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\"><h2"
    tampered.write_text(page.read_text(encoding="utf-8").replace("<h2", put, 1), encoding="utf-8")
    with browsing(f"file://{tampered}", tmp_path / "profile") as tools:
        assert tools.value("document.title") != "run"
        assert "Content Security Policy" in " ".join(tools.errors)


def key(tools: DevTools, name: str) -> str:
    """The anchor at which the page is after a key."""
    tools.value(f"dispatchEvent(new KeyboardEvent('keydown', {{key: '{name}'}}))")
    return str(tools.value("location.hash"))


def test_pictures_are_enlarged_and_leafed_through_by_keyboard(page: Path, tmp_path: Path) -> None:
    with browsing(f"file://{page}#c0v3-large", tmp_path / "profile", 800, 600) as tools:
        upper = tools.picture()[:300]
        assert (upper < 30).mean() > 0.25  # the black around the head
        assert upper[2, 2].max() < 20  # up to the border of the window
        assert key(tools, "ArrowRight") == "#c0v4-large"
        assert key(tools, "ArrowLeft") == key(tools, "Home") == "#c0v3-large"
        assert key(tools, "Escape") == "#c0v3"
        assert tools.value("document.querySelector('figure:target')") is None
