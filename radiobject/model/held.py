"""Held: voxels in memory behind the same handle as stored ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, plan_array
from radiobject.errors import MissingObjectError
from radiobject.geometry.box import Box
from radiobject.writing.loaded import Loaded

__all__ = ["HeldHandle"]


@dataclass(frozen=True, eq=False)
class HeldHandle:
    """A `VolumeHandle` on an array in disk order. Reads are copies."""

    voxels: npt.NDArray[Any]
    extras: dict[str, bytes]
    spec: ArraySpec

    @classmethod
    def of(cls, loaded: Loaded) -> HeldHandle:
        """The handle on a volume in memory."""
        voxels = loaded.voxels
        return cls(voxels, loaded.extras, plan_array(voxels.shape, voxels.dtype, loaded.meta.dims))

    @property
    def levels(self) -> tuple[Level, ...]:
        """One: pyramids are of stored volumes."""
        return (Level("0", self.spec),)

    @property
    def attrs(self) -> dict[str, Any]:
        """Nothing is stored."""
        return {}

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """A copy of the voxels of a box in disk order."""
        self.spec.check(box)
        return np.array(self.voxels[box.slices], order="C")

    def extra(self, name: str) -> bytes:
        """Bytes kept beside the voxels; `MissingObjectError` when there are none of that name."""
        if name not in self.extras:
            raise MissingObjectError(f"extra {name!r}", expected=f"one of {sorted(self.extras)}")
        return self.extras[name]

    def native(self) -> npt.NDArray[Any]:
        """The array itself, in disk axis order."""
        return self.voxels
