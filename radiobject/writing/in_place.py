"""InPlace: one volume that stays in the files where it lies, with all that must be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from radiobject.backends.files.source import Source
from radiobject.format.meta import VolumeMeta, scaled_dtype

__all__ = ["InPlace"]


@dataclass(frozen=True)
class InPlace:
    """`Loaded` without voxels: nobody has read them. `shape` and `dtype` are those of the stored values.

    `extras` are bytes to keep beside, `ranges` names such that lie in a file of the source: (number of the
    member, first byte, bytes). `stored_range` are the least and the greatest value that can be stored, None
    for what the type allows.
    """

    source: Source
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    meta: VolumeMeta
    extras: Mapping[str, bytes]
    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    stored_range: tuple[int, int] | None = None

    def settled(self) -> VolumeMeta:
        """The meta with the type that scaled reads return: one that holds all that could be stored."""
        scaling = self.meta.scaling
        if scaling is None:
            return self.meta
        low, high = self.stored_range or (0, 0)
        if self.stored_range is None and self.dtype.kind in "iu":
            low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        wide = scaled_dtype(self.dtype, scaling.slope, scaling.inter, low, high)
        return replace(self.meta, scaling=replace(scaling, dtype=wide))
