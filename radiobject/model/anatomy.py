"""Anatomy: which array plane of a volume an axial, coronal or sagittal one is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from radiobject.errors import IndexingError, SelectionError
from radiobject.geometry.affine import Affine
from radiobject.geometry.planes import Plane, plane_axis

__all__ = ["plane_index"]


def plane_index(
    affine: Affine, shape: Sequence[int], plane: Plane, index: int | None, mm: float | None
) -> tuple[int, int]:
    """Array axis and index of an anatomical plane: `index` as it is, the one at `mm`, or the middle one.

    `mm` is the world coordinate of the plane's centre (of an oblique plane, too). `IndexingError` when it
    lies more than half a voxel outside.

    >>> plane_index(Affine.from_spacing((1, 1, 2), (0, 0, -10)), (9, 9, 9), "axial", None, -3.5)
    (2, 3)
    """
    axis = plane_axis(affine, plane)
    if index is not None and mm is not None:
        raise SelectionError(plane, expected="an index or mm=", got="both")
    if index is not None:
        return axis, index
    n = shape[axis]
    if mm is None:
        # of an even number the same one of the two middle planes, whichever way the axis runs
        return axis, n // 2 if affine.signs[axis] > 0 else n - 1 - n // 2
    world = affine.world_axes[axis]
    centre = [(n - 1) / 2 for n in shape[:3]]
    centre[axis] = 0.0
    zero, step = float(affine.apply(centre)[world]), float(affine.matrix[world, axis])
    nearest = round((mm - zero) / step) if math.isfinite(mm) else -1
    if not 0 <= nearest < n:
        low, high = sorted((zero, zero + step * (n - 1)))
        raise IndexingError(f"{plane}(mm={mm})", expected=f"{low:.1f} to {high:.1f} mm", got=f"{mm}")
    return axis, nearest
