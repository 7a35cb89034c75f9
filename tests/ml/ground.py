"""A small study whose voxels say where they are, so that a patch can be checked without reading it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from radiobject import RadiObject
from tests.conftest import as_sources

SHAPES = {"a": (13, 11, 9), "b": (10, 14, 8), "c": (7, 9, 12), "d": (12, 12, 12)}
"""Subjects and the voxels x, y, z of their volumes."""


def affine_of(number: int) -> npt.NDArray[np.float64]:
    """Another grid for each subject: turned, flipped, of other spacing."""
    turns = [
        np.diag([1.0, 1.0, 1.0]),
        np.diag([-1.5, 2.0, 1.0]),
        np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
        np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 2.0]]),
    ]
    made = np.eye(4)
    made[:3, :3] = turns[number]
    made[:3, 3] = (10.0 * number, -5.0, 3.0)
    return made


def coded(shape: tuple[int, int, int]) -> npt.NDArray[np.int32]:
    """x + 100 y + 10,000 z in every voxel."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (x + 100 * y + 10_000 * z).astype("i4")


def decoded(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Voxels x, y, z that values name, in a last axis."""
    codes = np.asarray(values).astype(np.int64)
    return np.stack([codes % 100, codes // 100 % 100, codes // 10_000], axis=-1)


def mask_of(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Class 1 in one corner, class 3 in a single voxel."""
    made = np.zeros(shape, dtype="u1")
    made[-4:, -3:, -3:] = 1
    made[1, 2, 3] = 3
    return made


def make_study(folder: Path, **options: Any) -> RadiObject:
    """Collections `CT` (coded), `PET` (coded, negative) and `seg`, of four subjects with columns."""
    grids = {s: affine_of(n) for n, s in enumerate(SHAPES)}
    images = {
        "CT": {s: (coded(shape), grids[s]) for s, shape in SHAPES.items()},
        "PET": {s: (-coded(shape), grids[s]) for s, shape in SHAPES.items()},
        "seg": {s: (mask_of(shape), grids[s]) for s, shape in SHAPES.items()},
    }
    people = pd.DataFrame(
        {"obs_subject_id": list(SHAPES), "age": [40, 50, 60, 70], "dx": ["ill", "well", "ill", "well"]}
    )
    return RadiObject.from_niftis(folder / "study", as_sources(images), people, labels=["seg"], **options)
