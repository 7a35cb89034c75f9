"""A cohort of small heads with labels in which nothing is odd, until a test plants something."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject import RadiObject

__all__ = ["LABELS", "Planted"]

LABELS = {1: "grey matter", 2: "white matter"}
SHAPE = (14, 16, 12)
N = 16

Scan = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]


@dataclass
class Planted:
    """Images and labels of 16 subjects, to be changed before `write`.

    Heads are ellipsoids in a background of 0, two voxels from every border, grey around white, each with its
    own size, brightness and noise; seeds make them equal for equal seeds.
    """

    seed: int = 0
    images: list[Scan] = field(default_factory=list)
    labels: list[Scan | None] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
        affine = np.diag([3.0, 3.0, 4.0, 1.0])
        affine[:3, 3] = [-20, -24, -22]
        for number in range(1, N + 1):
            radius = np.sqrt(((grid / rng.uniform(0.66, 0.72, 3)[:, None, None, None]) ** 2).sum(axis=0))
            seg = np.where(radius < 0.6, 2, np.where(radius < 1, 1, 0)).astype("u1")
            bright = np.choose(seg, [0, 500, 800]) * rng.uniform(0.9, 1.1)
            image = np.where(seg > 0, bright + rng.normal(0, 30, SHAPE), 0).clip(0).astype("i2")
            placed = affine.copy()
            placed[:3, 3] += rng.uniform(-3, 3, 3)
            self.images.append((image, placed))
            self.labels.append((seg, placed))
            self.subjects.append(f"sub-{number:02d}")

    def write(self, uri: Path | str, **options: Any) -> RadiObject:
        """The study."""
        images = list(zip(self.images, self.subjects, strict=True))
        labels = [(s, i) for s, i in zip(self.labels, self.subjects, strict=True) if s is not None]
        meta = {"obs_subject_id": sorted(set(self.subjects)), "age": range(30, 30 + len(set(self.subjects)))}
        import pandas as pd

        return RadiObject.from_images(
            uri, {"T1w": images, "seg": labels}, pd.DataFrame(meta), labels={"seg": LABELS}, **options
        )
