"""A volume of two levels, the second at "pyramid/1"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from radiobject import Volume, WriteConfig

__all__ = ["SPACING", "write_pyramid"]

SPACING = (0.8, 1.0, 1.1)
"""x, y, z in mm."""


def write_pyramid(folder: Path, name: str) -> list[npt.NDArray[np.int16]]:
    """Write the volume `name` and return its levels in disk order, finest first."""
    z, y, x = np.mgrid[:40, :36, :70]
    full = (3000 * ((z - 20) ** 2 + (y - 18) ** 2 + (x - 35) ** 2 < 250) + x).astype("i2")
    half = full.reshape(20, 2, 18, 2, 35, 2).mean((1, 3, 5)).round().astype("i2")  # half way to the even one
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -90, 0, 5
    Volume.from_numpy(full.T, affine, folder / name, write=WriteConfig(pyramid=1))
    return [full, half]
