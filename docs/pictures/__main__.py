"""Makes the pictures that the pages show, into docs/images: `python docs/pictures`, in a checkout.

And the table of docs/dicom-cases.md, where RADIOBJECT_TEST_DATA names the real data that it is about.
Another folder, for pictures alone, and a voxel size in mm may follow: `python docs/pictures FOLDER 8`.
Chromium must be there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cases
import plots
import report
import viewer

__all__ = ["main"]


def main(folder: Path, spacing: float | None = None) -> None:
    """All of them; the pages name what is on them."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in (plots, report, viewer):
        if spacing is None:
            kind.draw(folder)
        else:
            kind.draw(folder, spacing)


if __name__ == "__main__":
    given = sys.argv[1:]
    place = Path(given[0]) if given else Path(__file__).resolve().parents[1] / "images"
    main(place, float(given[1]) if given[1:] else None)
    if not given:
        cases.write(place.parent / "dicom-cases.md")
