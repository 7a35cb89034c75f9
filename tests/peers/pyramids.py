"""A volume of two levels, the second at "pyramid/1", as a later version will write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import Level, plan_array
from radiobject.backends.zarr import ZarrBackend
from radiobject.format.meta import VolumeMeta
from radiobject.format.ome import ome_attributes
from radiobject.geometry.affine import Affine
from radiobject.location import Location

__all__ = ["SPACING", "write_pyramid"]

SPACING = (0.8, 1.0, 2.0)
"""x, y, z in mm."""

_DIMS = ("z", "y", "x")


def write_pyramid(folder: Path, name: str) -> list[npt.NDArray[np.int16]]:
    """Write the volume `name` and return its levels in disk order, finest first."""
    z, y, x = np.mgrid[:40, :36, :70]
    full = (3000 * ((z - 20) ** 2 + (y - 18) ** 2 + (x - 35) ** 2 < 250) + x).astype("i2")
    half = full.reshape(20, 2, 18, 2, 35, 2).mean((1, 3, 5)).astype("i2")
    paths = ["0", "pyramid/1"]
    levels = [Level(p, plan_array(a.shape, a.dtype, _DIMS)) for p, a in zip(paths, (full, half), strict=True)]
    meta = VolumeMeta(Affine.from_spacing(SPACING, origin=(-90, 0, 5)), _DIMS)
    ome = ome_attributes(meta, "v", [("0", (1, 1, 1)), ("pyramid/1", (2, 2, 2))], data_range=(0, 3069))
    attrs = {"ome": ome, "radiobject": meta.to_json()}
    writer = ZarrBackend(Location(folder)).create_volume(name, levels, attrs, {})
    for number, array in enumerate((full, half)):
        for box in levels[number].spec.shard_boxes():
            writer.write(number, box, array[box.slices])
    writer.finish()
    return [full, half]
