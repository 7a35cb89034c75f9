"""Pyramid: the coarser levels that are written beside a volume, a shard at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, VolumeWriter, plan_array
from radiobject.config import WriteConfig
from radiobject.geometry.blocks import block_means, block_modes
from radiobject.geometry.pyramid import Factors, coarse_shape, fine_box, level_factors

__all__ = ["Pyramid", "has_levels"]

_LARGE = 256
"""Voxels along an axis beyond which "auto" writes levels: what is no larger is one small read."""

_SMALL = 64
"""Voxels along the longest axis at which "auto" stops: half a megabyte, a volume at a glance."""


@dataclass(frozen=True)
class Pyramid:
    """The levels of a volume, finest first, the volume itself included, and the factors of each."""

    levels: tuple[Level, ...]
    factors: tuple[Factors, ...]

    @classmethod
    def planned(cls, spec: ArraySpec, spacing: Sequence[float], write: WriteConfig) -> Pyramid:
        """What the settings ask for, of an array with that spacing along x, y, z. Time and channels stay."""
        x, y, z = spec.shape[:-4:-1]
        lead = (1,) * (len(spec.shape) - 3)
        factors = [(1, 1, 1), *_wanted((x, y, z), spacing, write)]
        levels = [Level("0", spec)]
        for number, factor in enumerate(factors[1:], 1):
            shape = coarse_shape(spec.shape, (*lead, *factor[::-1]))
            coarse = plan_array(shape, spec.dtype, spec.dims, write.tile, spec.codec)
            levels.append(Level(f"pyramid/{number}", coarse))
        return cls(tuple(levels), tuple(factors))

    @property
    def scales(self) -> list[tuple[str, Factors]]:
        """Path and factors (x, y, z) of each level, as `ome_attributes` takes them."""
        return [(level.path, f) for level, f in zip(self.levels, self.factors, strict=True)]

    def write(self, writer: VolumeWriter, voxels: npt.NDArray[Any], *, labels: bool) -> None:
        """Write every coarser level of `voxels` (disk order): means over blocks, of labels the modes.

        Each level is made of the voxels themselves, so that a mean is rounded once; besides the volume no
        more than one shard of a level is held.
        """
        reduce = block_modes if labels else block_means
        for number, (level, factors) in enumerate(zip(self.levels, self.factors, strict=True)):
            if number == 0:
                continue
            block = (*[1] * (voxels.ndim - 3), *factors[::-1])
            for box in level.spec.shard_boxes():
                fine = voxels[fine_box(box, block, voxels.shape).slices]
                writer.write(number, box, reduce(fine, block[-3:]))


def has_levels(shape: Factors, spacing: Sequence[float], write: WriteConfig) -> bool:
    """Whether the settings ask for a coarser level of that shape and spacing along x, y, z."""
    return next(_wanted(shape, spacing, write), None) is not None


def _wanted(shape: Factors, spacing: Sequence[float], write: WriteConfig) -> Iterator[Factors]:
    every = level_factors(shape, spacing)
    if write.pyramid == "none":
        return
    if isinstance(write.pyramid, str):
        if max(shape) <= _LARGE:
            return
        for factors in every:
            yield factors
            if max(coarse_shape(shape, factors)) <= _SMALL:
                return
    else:
        yield from itertools.islice(every, int(write.pyramid))
