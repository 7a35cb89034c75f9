"""The pictures of the documentation are those that its script makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.peers
def test_the_script_makes_every_picture_that_pages_show(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    subprocess.run([sys.executable, str(DOCS / "pictures"), str(folder), "8"], check=True, cwd=tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"demo.png", "plot.png", "show.png", "report.png", "view.png"}
    pages = "".join(p.read_text(encoding="utf-8") for p in [DOCS.parent / "README.md", *DOCS.rglob("*.md")])
    for name in names:
        assert f"images/{name})" in pages
        shown = DOCS / "images" / name
        assert shown.stat().st_size < 150_000
        with Image.open(folder / name) as made, Image.open(shown) as image:
            assert made.width == image.width
            assert len(made.convert("RGB").getcolors(2**24)) > 50
