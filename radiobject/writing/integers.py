"""Integers: images of floats that hold whole numbers only, kept as integers, and given back as floats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.format.meta import Scaling, VolumeMeta
from radiobject.writing.loaded import Loaded

__all__ = ["as_floats", "as_integers"]

_TYPES = ("u1", "i1", "i2", "u2", "i4")
"""From the smallest; of two that hold all values the first."""

_BLOCK = 2**16
"""Voxels that are turned, turned back and compared in one step: they stay in the processor's cache."""

_PROBE = 2**12
"""Voxels in the middle of the array that are looked at first: most images with fractions show one there."""


def as_integers(loaded: Loaded) -> Loaded:
    """The same image with its voxels as the smallest integers that give back every float bit for bit.

    Unchanged where there are none that take fewer bytes: a fraction, NaN, an infinity or -0.0 is enough. So
    are labels, integers, and floats that their source scales. Beside the result one block is held.
    """
    voxels, meta = loaded.voxels, loaded.meta
    if voxels.dtype.kind != "f" or meta.kind == "label" or meta.scaling is not None:
        return loaded
    found = _integers(voxels.reshape(-1))
    if found is None:
        return loaded
    meta = replace(meta, scaling=Scaling(1.0, 0.0, voxels.dtype.name))
    return replace(loaded, voxels=found.reshape(voxels.shape), meta=meta)


def as_floats(voxels: npt.NDArray[Any], meta: VolumeMeta) -> tuple[npt.NDArray[Any], VolumeMeta]:
    """Stored voxels and their meta as the source had them: what `as_integers` made of floats is undone."""
    if meta.scaling is None or not meta.scaling.is_cast:
        return voxels, meta
    return meta.scaling.apply(voxels), replace(meta, scaling=None)


def _integers(flat: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    middle = flat[flat.size // 2 :][:_PROBE]
    with np.errstate(invalid="ignore"):  # of NaN, and of what no integer holds: told apart by what comes back
        if not np.array_equal(np.rint(middle), middle):
            return None
        dtype = _smallest(float(flat.min()), float(flat.max()), flat.itemsize)
        if dtype is None:
            return None
        found, bits = np.empty(flat.size, dtype), np.dtype(f"u{flat.itemsize}")
        for start in range(0, flat.size, _BLOCK):
            block, part = flat[start : start + _BLOCK], found[start : start + _BLOCK]
            np.copyto(part, block, casting="unsafe")
            # as bits, because -0.0 equals 0
            if not np.array_equal(part.astype(flat.dtype).view(bits), block.view(bits)):
                return None
    return found


def _smallest(low: float, high: float, itemsize: int) -> np.dtype[Any] | None:
    """The type for that range, if one of fewer bytes has it; NaN and infinities lie in none."""
    for dtype in map(np.dtype, _TYPES):
        info = np.iinfo(dtype)
        if dtype.itemsize < itemsize and info.min <= low and high <= info.max:
            return dtype
    return None
