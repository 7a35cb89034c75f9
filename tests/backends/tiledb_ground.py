"""What the tests of the TileDB backend stand on: one small array in eight fragments, written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, StoredVolume, VolumeHandle, plan_array
from radiobject.backends.tiledb import TileDBBackend
from radiobject.config import CompressionConfig, TileConfig
from radiobject.location import Location
from radiobject.testing import voxels

__all__ = ["ARRAY", "SPEC", "ZYX", "opened", "planned", "right", "write"]

ZYX = ("z", "y", "x")
SPEC = plan_array((40, 40, 40), "i2", ZYX, TileConfig(chunks=(16, 16, 16), shards=(32, 32, 32)))
"""Eight shards of up to eight chunks."""
ARRAY = voxels(SPEC)


def planned(
    shape: tuple[int, ...], dtype: str = "i2", codec: CompressionConfig | None = None, **tile: Any
) -> ArraySpec:
    """A spec of these tiles."""
    return plan_array(shape, dtype, ZYX, TileConfig(**tile), codec)


def write(
    place: str | Path | Location,
    path: str = "v",
    spec: ArraySpec = SPEC,
    array: npt.NDArray[Any] = ARRAY,
    attrs: dict[str, Any] | None = None,
    extras: dict[str, bytes] | None = None,
) -> StoredVolume:
    """Write a volume with one level."""
    location = place if isinstance(place, Location) else Location(place)
    writer = TileDBBackend(location).create_volume(path, [Level("0", spec)], attrs or {}, extras or {})
    for box in spec.shard_boxes():
        writer.write(0, box, array[box.slices])
    return writer.finish()


def opened(place: str | Path | Location, path: str = "v", hint: str | None = None) -> VolumeHandle:
    """A handle that nobody has read by."""
    location = place if isinstance(place, Location) else Location(place)
    return TileDBBackend(location).open_volume(path, hint)


def right(handle: VolumeHandle) -> bool:
    """Whether it gives the voxels of ARRAY."""
    return bool(np.array_equal(handle.read(SPEC.box), ARRAY))
