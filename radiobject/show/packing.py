"""Packing: a volume in so few bytes that a page can carry it, at the finest spacing that fits.

Values become 256 steps of a range, labels their number in a list. Each code is stored less the median of its
neighbours to the left, above and in the slice before, and the rest as zlib has it: about a tenth less than
PNG takes. Browsers inflate it by themselves, and exactly, where some falsify what is read from a picture.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radiobject.geometry.affine import Affine
from radiobject.geometry.resample import Grid

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["Codes", "Steps", "coarse_grid", "label_codes", "packed", "sampled", "unpacked"]

Codes = npt.NDArray[np.uint8]
"""Axes frame, z, y, x."""

_TILE = 192
"""Voxels of the source along a side that are read at a time: 14 MB of 16 bits."""


@dataclass(frozen=True)
class Steps:
    """256 values at equal distances from `low` to `high`; `exact` when every value in between is one."""

    low: float
    high: float
    exact: bool = False

    @classmethod
    def over(cls, low: float, high: float, dtype: np.dtype[Any]) -> Steps:
        """Steps over a range. Integers of which no more than 256 lie in it are kept as they are.

        >>> Steps.over(0, 90, np.dtype("u1"))
        Steps(low=0.0, high=255.0, exact=True)
        """
        if dtype.kind in "iu" and math.ceil(high) - math.floor(low) <= 255:
            return cls(float(math.floor(low)), math.floor(low) + 255.0, exact=True)
        return cls(float(low), float(high))

    @property
    def width(self) -> float:
        """From one step to the next."""
        return (self.high - self.low) / 255

    def codes(self, values: npt.NDArray[Any]) -> Codes:
        """The nearest step of each value; what is no number is as `low`."""
        codes = np.empty(values.shape, np.uint8)
        for index in np.ndindex(values.shape[:1]):  # a plane at a time, which float64 may blow up
            with np.errstate(over="ignore"):
                unit = (values[index].astype(np.float64) - self.low) / (self.high - self.low)
            unit = np.clip(np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
            codes[index] = (unit * 255).round()
        return codes


def coarse_grid(volume: Volume, most: int) -> Grid:
    """The finest grid of at most `most` voxels (or of one) with the axes and field of view of a 3D volume.

    Spacing grows along the axes where it is finest, so that thick slices stay as they are. Where the volume
    has no more voxels, it is its own grid.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> scan = Volume.from_numpy(np.zeros((64, 64, 10), "u1"), np.diag([1.0, 1.0, 5.0, 1.0]))
    >>> coarse_grid(scan, 10_000)[0]
    (31, 31, 10)
    """
    spacing = min(volume.spacing)
    while math.prod(shape := _shape(volume, spacing)) > most and shape != (1, 1, 1):
        spacing *= 1.01
    factors = np.array(volume.shape[:3]) / shape
    matrix = volume.meta.affine.matrix.copy()
    matrix[:3, 3] += matrix[:3, :3] @ ((factors - 1) / 2)
    matrix[:3, :3] *= factors
    return shape, Affine(matrix)


def _shape(volume: Volume, spacing: float) -> tuple[int, int, int]:
    x, y, z = (
        max(round(n * fine / max(spacing, fine)), 1)
        for n, fine in zip(volume.shape, volume.spacing, strict=False)
    )
    return x, y, z


def sampled(volume: Volume, grid: Grid) -> npt.NDArray[Any]:
    """A 3D volume on another grid, axes z, y, x: floats, NaN outside; of labels their own type, 0 outside.

    A coarser grid takes means over blocks, of labels the most frequent values; from a pyramid where there is
    one. No more of the volume is in memory at a time than a cube.
    """
    shape, affine = grid
    fill = 0 if volume.meta.kind == "label" else np.nan
    found = volume.resample(like=grid, antialias=True, fill=fill)
    out = np.empty(shape[::-1], found.dtype)
    moves = np.abs(np.linalg.solve(volume.affine[:3, :3], affine.matrix[:3, :3])).sum(axis=1).max()
    step = max(int(_TILE / moves), 1)
    for x, y, z in itertools.product(*(range(0, n, step) for n in shape)):
        key = tuple(slice(start, start + step) for start in (x, y, z))
        out[key[::-1]] = found[key].T
    return out


def label_codes(values: npt.NDArray[Any], known: npt.NDArray[Any]) -> Codes:
    """The number of each value in `known` (sorted); of more than 256 the high bytes follow the low ones."""
    place = np.searchsorted(known, values)
    if len(known) <= 256:
        return place.astype(np.uint8)
    return np.concatenate([(place & 255).astype(np.uint8), (place >> 8).astype(np.uint8)])


def packed(codes: Codes) -> bytes:
    """The bytes of codes; `unpacked` and the script of the page undo it."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    parts = []
    for frame in codes:
        left, above, before = (_shifted(frame, axis) for axis in (2, 1, 0))
        parts.append(deflate.compress((frame - _median(left, above, before)).tobytes()))
    return b"".join([*parts, deflate.flush()])


def unpacked(data: bytes, shape: Sequence[int]) -> Codes:
    """Codes of that shape again, voxel by voxel as the script does it; for small volumes."""
    codes: Codes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape).copy()
    for frame in codes:
        for z, y, x in np.ndindex(frame.shape):
            left = frame[z, y, x - 1] if x else np.uint8(0)
            above = frame[z, y - 1, x] if y else np.uint8(0)
            before = frame[z - 1, y, x] if z else np.uint8(0)
            frame[z, y, x] = (int(frame[z, y, x]) + int(_median(left, above, before))) % 256
    return codes


def _shifted(frame: Codes, axis: int) -> Codes:
    """Of each voxel its neighbour with the next lower index; 0 where there is none."""
    moved = np.zeros_like(frame)
    np.moveaxis(moved, axis, 0)[1:] = np.moveaxis(frame, axis, 0)[:-1]
    return moved


def _median(a: Any, b: Any, c: Any) -> Any:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
