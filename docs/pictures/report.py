"""The picture of a report."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from browser import photograph, shrink
from PIL import Image

from radiobject import RadiObject
from radiobject.examples import LABELS, study

__all__ = ["draw"]


def draw(folder: Path, spacing: float = 2.0) -> None:
    """Write report.png: the head of the report of a cohort in which a few volumes went wrong."""
    with tempfile.TemporaryDirectory() as place:
        _spoilt(Path(place), spacing).report(Path(place) / "report.html")
        photograph(Path(place) / "report.html", folder / "report.png", 1200, 1480)
    shrink(folder / "report.png", method=Image.Quantize.MEDIANCUT)


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
