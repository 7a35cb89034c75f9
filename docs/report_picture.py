"""Makes the picture of a report that the pages show: `python docs/report_picture.py`, in a checkout.

Another file and a voxel size in mm may follow: `python docs/report_picture.py /tmp/report.png 8`. Chromium
must be there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from radiobject import RadiObject
from radiobject.examples import LABELS, study

__all__ = ["draw"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def draw(picture: Path, spacing: float = 2.0) -> None:
    """Photograph the head of the report of a cohort in which a few volumes went wrong."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise SystemExit("docs/report_picture.py needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place:
        _spoilt(Path(place), spacing).report(Path(place) / "report.html")
        command = [
            browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,1480",
            f"--user-data-dir={place}/profile", f"--screenshot={picture}",
            (Path(place) / "report.html").as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - our own page
    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def _spoilt(place: Path, spacing: float) -> RadiObject:
    """Twelve subjects: one image is all zero, one too bright, one lacks slices, and one label has moved."""
    cohort = study(12, place / "before", spacing=spacing, progress=False)
    images: list[Any] = [(v.to_numpy(), v.affine) for v in cohort.T1w]
    labels: list[Any] = [(v.to_numpy(), v.affine) for v in cohort.seg]
    images[3] = (np.zeros_like(images[3][0]), images[3][1])
    images[8] = ((images[8][0] * 2.5).astype("int16"), images[8][1])
    for side in (images, labels):
        side[13] = (side[13][0][:, :, ::2], side[13][1] @ np.diag([1, 1, 2, 1]))
    moved = np.eye(4)
    moved[1, 3] = 6
    labels[10] = (labels[10][0], moved @ labels[10][1])
    subjects = cohort.T1w.obs_subject_ids
    return RadiObject.from_images(
        place / "cohort",
        {"T1w": list(zip(images, subjects, strict=True)), "seg": list(zip(labels, subjects, strict=True))},
        cohort.obs_meta.read(),
        labels={"seg": LABELS},
        progress=False,
        message="last night",
    )


if __name__ == "__main__":
    here = Path(__file__).resolve().parent / "images" / "report.png"
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else here, float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
