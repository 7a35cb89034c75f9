"""Makes the pictures that the pages show, into docs/images: `python docs/pictures.py`, in a checkout.

Another folder and a voxel size in mm may follow: `python docs/pictures.py /tmp/images 8`. One picture is of a
page in Chromium, which must be there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from radiobject.examples import study

__all__ = ["draw"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def draw(folder: Path, spacing: float = 1.0) -> None:
    """Write every picture; the brains have voxels of `spacing` mm."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        radi = study(3, Path(place) / "study", spacing=spacing, progress=False)
        brain, labels = radi["sub-03"].T1w.iloc[0], radi["sub-03"].seg.iloc[0]
        radi.plot_subject("sub-01").savefig(folder / "demo.png")
        brain.plot(at=(24, -18, 10), overlay=labels, opacity=0.35).savefig(folder / "plot.png")
        brain.show(overlay=labels, at=(24, -18, 10), opacity=0.35).save(Path(place) / "page.html")
        _photograph(Path(place) / "page.html", folder / "show.png")
    for name in ("demo", "plot", "show"):
        _shrink(folder / f"{name}.png")


def _photograph(page: Path, picture: Path) -> None:
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise SystemExit("docs/pictures.py needs Chromium: apt-get install chromium")
    command = [
        browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,720",
        f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=20000",
        f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a page made here


def _shrink(path: Path) -> None:
    """256 colours are enough for greys and a handful of labels, and take half the bytes."""
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE
        )
    few.save(path, optimize=True)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent / "images"
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else here, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
