"""Chromium without a window, and what makes its pictures small."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from PIL import Image

__all__ = ["command", "photograph", "shrink"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def command(profile: Path, width: int, height: int) -> list[str]:
    """How to start it with a window of that size; a profile of its own keeps it from a running one."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise SystemExit("The pictures of pages need Chromium: apt-get install chromium")
    size, own = f"--window-size={width},{height}", f"--user-data-dir={profile}"
    return [found, "--headless=new", "--no-sandbox", "--hide-scrollbars", size, own]


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """The head of a page."""
    start = command(page.parent / "profile", width, height)
    drawn = ["--virtual-time-budget=20000", f"--screenshot={picture}", page.as_uri()]
    subprocess.run([*start, *drawn], check=True, capture_output=True, timeout=120)  # noqa: S603 - our page


def shrink(path: Path, *, method: Image.Quantize = Image.Quantize.MAXCOVERAGE) -> None:
    """256 colours are enough for greys and a handful of labels, and take half the bytes."""
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256, method, kmeans=4, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
