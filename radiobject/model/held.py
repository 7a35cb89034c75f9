"""Held: voxels in memory behind the same handle as stored ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import ArraySpec, Level, plan_array
from radiobject.errors import CapabilityError, MissingObjectError
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
        """The handle on a volume in memory; it shares no memory that somebody else could write to."""
        voxels = _own(loaded.voxels)
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
        if level != 0:
            raise CapabilityError("level of a volume in memory", expected="0", got=str(level))
        self.spec.check(box)
        block: npt.NDArray[Any] = np.array(self.voxels[box.slices], order="C")
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
        return block

    def extra(self, name: str) -> bytes:
        """Bytes kept beside the voxels; `MissingObjectError` when there are none of that name."""
        if name not in self.extras:
            raise MissingObjectError(f"extra {name!r}", expected=f"one of {sorted(self.extras)}")
        return self.extras[name]

    def native(self) -> npt.NDArray[Any]:
        """The array itself as a read-only view, in disk axis order."""
        view = self.voxels.view()
        view.flags.writeable = False
        return view


def _own(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, copied unless its memory is its own or that of bytes, which nobody can change."""
    root: Any = voxels
    while isinstance(root, np.ndarray) and root.base is not None:
        root = root.base
    return voxels if root is voxels or isinstance(root, bytes) else voxels.copy()
