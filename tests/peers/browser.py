"""A headless Chromium that opens one page; required under CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["opened"]


@contextmanager
def opened(url: str, profile: Path, *flags: str) -> Iterator[None]:
    """The page is open until the block ends. `profile` is a folder for what the browser keeps.

    `flags` are added to its command line.
    """
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    chromium = next((path for path in found if path), None)
    if chromium is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("Chromium is required here: apt-get install chromium")
        pytest.skip("no Chromium: apt-get install chromium")
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        f"--user-data-dir={profile}",
        *flags,
        url,
    ]
    page = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        page.terminate()
        page.wait(20)
