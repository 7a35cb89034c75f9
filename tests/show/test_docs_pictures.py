"""The pictures of the documentation are those that its script makes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.peers
def test_the_script_makes_every_picture_that_pages_show(tmp_path: Path) -> None:
    runpy.run_path(str(DOCS / "pictures.py"))["draw"](tmp_path, spacing=8)
    for made in sorted(tmp_path.iterdir()):
        shown = DOCS / "images" / made.name
        assert shown.stat().st_size < 150_000
        with Image.open(made) as a, Image.open(shown) as b:
            assert a.width == b.width
            assert len(a.convert("RGB").getcolors(2**24)) > 50
    names = {path.name for path in tmp_path.iterdir()}
    page = (DOCS / "how-to" / "pictures.md").read_text(encoding="utf-8")
    assert all(f"](../images/{name})" in page for name in names)
