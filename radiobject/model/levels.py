"""Levels: the coarser resolutions of a volume, stored beside it as a pyramid or computed when read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, VolumeHandle, plan_array
from radiobject.errors import CapabilityError, IndexingError, SelectionError
from radiobject.format.ome import read_ome
from radiobject.geometry.affine import Affine
from radiobject.geometry.blocks import block_means, block_modes
from radiobject.geometry.box import Box
from radiobject.geometry.pyramid import (
    coarse_affine,
    coarse_range,
    coarse_shape,
    factors_of,
    fine_box,
    sampling_factors,
)
from radiobject.model.slicing import Region
from radiobject.model.voxels import Voxels

__all__ = ["AveragedHandle", "LevelHandle", "Multiscale"]


class Multiscale(Voxels):
    """A volume with the resolutions that are stored of it."""

    __slots__ = ()

    @property
    def n_levels(self) -> int:
        """How many resolutions are stored; 1, the volume itself, where no pyramid was written."""
        return len(self._handle.levels)

    @property
    def levels(self) -> tuple[Self, ...]:
        """Every resolution as a lazy Volume, the volume itself first; see `level`."""
        return tuple(self.level(k) for k in range(self.n_levels))

    def level(self, k: int) -> Self:
        """A lazy Volume of resolution `k`: 0 is this volume, 1 the next coarser one, -1 the coarsest.

        Its `affine`, `spacing` and `shape` are its own. Its voxels are means over blocks of this volume's, or
        of labels the most frequent values. A sliced or turned volume keeps its part and its axes, rounded
        outwards to whole voxels of the level. `WriteConfig(pyramid=)` says what is stored.

        Raises `IndexingError` for a level that is not there.

        >>> from radiobject import Volume, WriteConfig
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     levels = WriteConfig(pyramid=2)
        ...     vol = Volume.from_numpy(np.ones((8, 8, 6), "i2"), uri=f"{folder}/a.ome.zarr", write=levels)
        ...     vol.level(1).shape, vol.level(-1).spacing
        ((4, 4, 3), (4.0, 4.0, 4.0))
        """
        n = self.n_levels
        if not hasattr(k, "__index__"):
            raise SelectionError("level(k)", expected="an int", got=repr(k))
        try:
            number = range(n)[k]
        except IndexError:
            raise IndexingError(
                f"level of {self.obs_id or 'volume'}",
                expected=f"{-n} to {n - 1}",
                got=repr(k),
                hint=None if n > 1 else "WriteConfig(pyramid=) writes coarser levels when a volume is made.",
            ) from None
        if number == 0:
            return self
        handle = LevelHandle(self._handle, number)
        lead = len(handle.spec.shape) - 3
        if handle.spec.shape[:lead] != self._handle.spec.shape[:lead]:
            raise CapabilityError(
                f"level {number} of {self.obs_id or 'volume'}",
                expected=f"as many {', '.join(handle.spec.dims[:lead])} as level 0",
                got=str(handle.spec.shape[:lead]),
            )
        return self._coarser(handle, *self._placed(number))

    def _placed(self, number: int) -> tuple[Affine, Sequence[float], Sequence[float]]:
        """Affine, factors, and where voxel 0 lies in voxels of level 0, of a stored level."""
        stored = self._stored_affine
        if self._is_foreign():
            where = f"level {number} of {self.obs_id or self.uri or 'volume'}"
            affine = read_ome(self._handle.attrs, where, level=number).affine
            step = stored.inverse() @ affine
            return affine, np.diag(step.matrix)[:3].tolist(), step.matrix[:3, 3].tolist()
        factors = self._factors(number)
        return coarse_affine(stored, factors), factors, [(f - 1) / 2 for f in factors]

    def _is_foreign(self) -> bool:
        """Whether another program wrote the levels: what they are, its metadata alone knows."""
        return self._meta.source.format == "ome-zarr" and "radiobject" not in self._handle.attrs

    def _factors(self, number: int) -> tuple[int, int, int]:
        """By how much the voxels of a level of ours are wider; it follows from the shapes."""
        levels = self._handle.levels
        fine, coarse = (levels[n].spec.shape[:-4:-1] for n in (0, number))
        return factors_of(fine, coarse, f"level {number} of {self.obs_id or 'volume'}")

    def _averaged(self, target: Affine) -> Self:
        """This volume as a grid of block means (of labels: modes) fine enough for samples at `target`.

        Which blocks depends on the grids alone. What is stored is used, the rest computed to the same values.
        """
        stored, shape = self._stored_affine, self._stored_shape[:3]
        moves = np.linalg.solve(stored.matrix[:3, :3], target.matrix[:3, :3])
        factors = sampling_factors(shape, stored.spacing, np.linalg.norm(moves, axis=1).tolist())
        if factors == (1, 1, 1):
            return self
        scaling = self._scaling
        handle: VolumeHandle = AveragedHandle.make(
            self._handle,
            factors,
            labels=self._meta.kind == "label",
            dtype=np.dtype(scaling.dtype) if scaling is not None and scaling.is_cast else None,
        )
        if self.n_levels > 1 and not self._is_foreign():
            same = [n for n in range(1, self.n_levels) if self._factors(n) == factors]
            handle = LevelHandle(self._handle, same[0]) if same else handle
        return self._coarser(handle, coarse_affine(stored, factors), factors, [(f - 1) / 2 for f in factors])

    def _coarser(
        self, handle: VolumeHandle, affine: Affine, factors: Sequence[float], offset: Sequence[float]
    ) -> Self:
        """The same part of the body on a coarser grid."""
        region = self._region
        if region is not None:
            lengths = handle.spec.shape[:-4:-1]
            ranges = [
                r if (f, o) == (1, 0) else coarse_range(r, f, o, n)
                for r, f, o, n in zip(region.ranges, factors, offset, lengths, strict=False)
            ]
            region = Region((*ranges, *region.ranges[3:]), region.dropped, region.order)
        source = replace(self._meta.source, exact=False)
        return self._derived(handle, replace(self._meta, affine=affine, source=source), region)


@dataclass(frozen=True, eq=False)
class LevelHandle:
    """A `VolumeHandle` on one stored level of a volume."""

    volume: VolumeHandle
    number: int

    @property
    def spec(self) -> ArraySpec:
        """The array of this level."""
        return self.volume.levels[self.number].spec

    @property
    def levels(self) -> tuple[Level, ...]:
        """This one."""
        return (Level("0", self.spec),)

    @property
    def attrs(self) -> dict[str, Any]:
        """Those of the volume speak of all its levels."""
        return {}

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """The voxels of a box in disk order."""
        return self.volume.read(box, self.number)

    def extra(self, name: str) -> bytes:
        """Bytes kept beside the volume's voxels."""
        return self.volume.extra(name)

    def native(self) -> Any:
        """The engine hands out level 0 alone: `CapabilityError`."""
        path = self.volume.levels[self.number].path
        raise CapabilityError(
            "array of a coarser level",
            expected="level 0",
            got=f"level {self.number}",
            hint=f"Use vol[...], or open {path!r} in the volume by the engine itself.",
        )


@dataclass(frozen=True, eq=False)
class AveragedHandle:
    """A `VolumeHandle` whose voxels are means (of labels: modes) over blocks of another's, made when read."""

    volume: VolumeHandle
    block: tuple[int, ...]
    labels: bool
    spec: ArraySpec

    @classmethod
    def make(
        cls, volume: VolumeHandle, factors: Sequence[int], *, labels: bool, dtype: np.dtype[Any] | None = None
    ) -> AveragedHandle:
        """The handle for blocks of `factors` voxels along x, y, z.

        `dtype` is another type to average in than the stored one: floats that are kept as integers have means
        with fractions.
        """
        fine = volume.spec
        block = (*[1] * (len(fine.shape) - 3), *factors[::-1])
        shape = coarse_shape(fine.shape, block)
        return cls(volume, block, labels, plan_array(shape, dtype or fine.dtype, fine.dims))

    @property
    def levels(self) -> tuple[Level, ...]:
        """One: it is computed."""
        return (Level("0", self.spec),)

    @property
    def attrs(self) -> dict[str, Any]:
        """Nothing is stored."""
        return {}

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """Means or modes of a box in disk order; reads the blocks that they are of."""
        self.spec.check(box)
        fine = self.volume.read(fine_box(box, self.block, self.volume.spec.shape))
        fine = fine.astype(self.spec.dtype, copy=False)
        return (block_modes if self.labels else block_means)(fine, self.block[-3:])

    def extra(self, name: str) -> bytes:
        """Bytes kept beside the source's voxels."""
        return self.volume.extra(name)

    def native(self) -> Any:
        """There is no array: `CapabilityError`."""
        raise CapabilityError(
            "array of computed means", expected="a stored volume", hint="Use vol[...]; it is computed."
        )
