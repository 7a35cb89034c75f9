"""Resampling: a volume on another grid, computed from the source voxels that a read needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, plan_array
from radiobject.errors import CapabilityError, ConfigError, GeometryError
from radiobject.format.layout import python_axes, to_disk
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box
from radiobject.geometry.resample import Grid, GridMap, resampled_dtype
from radiobject.model.voxels import Voxels

__all__ = ["ResampledHandle", "grid_like", "refuse_other_unit", "settled_order"]


def settled_order(order: int | None, kind: str, what: str) -> int:
    """The interpolation order: 1 for images and 0 for labels unless given; labels take no other.

    Raises `ConfigError`.
    """
    if kind != "label":
        return 1 if order is None else order
    if order not in (None, 0):
        raise ConfigError(
            f"resampling labels of {what} with order={order}",
            expected="order=0",
            hint="Between two labels lies none.",
        )
    return 0


_LENGTHS = ("m", "mm", "um")


def grid_like(like: Any, unit: str = "mm") -> Grid:
    """Shape (x, y, z) and affine of a volume, of anything with both, or of a pair `(shape, affine)`.

    Raises `GeometryError`, also for a volume whose affine is in another unit of length than `unit`.
    """
    refuse_other_unit(getattr(getattr(like, "meta", None), "space_unit", unit), unit)
    pair = like if isinstance(like, tuple) else (getattr(like, "shape", None), getattr(like, "affine", None))
    try:
        shape, affine = pair
        x, y, z = (int(n) for n in tuple(shape)[:3])
    except (TypeError, ValueError) as error:
        raise GeometryError(
            "resample(like=)", expected="a Volume, or (shape, affine)", got=repr(like)
        ) from error
    return (x, y, z), affine if isinstance(affine, Affine) else Affine(affine)


def refuse_other_unit(theirs: str, unit: str) -> None:
    """Raise `GeometryError` for a grid in another unit of length than that of what is resampled to it."""
    if theirs != unit and {theirs, unit} <= set(_LENGTHS):
        raise GeometryError(
            "resample(like=)", expected=f"a grid in {unit}, as the volume's own", got=f"one in {theirs}",
            hint=f"Pass a pair (shape, affine) whose affine is in {unit}.",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ResampledHandle:
    """A `VolumeHandle` whose voxels are interpolated from `source` when they are read.

    A read costs one read of the source box and margin that `GridMap.source_box` names; none where the
    target lies outside. `plan` has disk axes (z, y, x).
    """

    source: Voxels
    plan: GridMap
    fill: float
    spec: ArraySpec

    @classmethod
    def make(cls, source: Voxels, grid: Grid, order: int, fill: float) -> ResampledHandle:
        """The handle for a target grid. Raises `ConfigError` for a fill that the type cannot hold."""
        meta, (shape, affine) = source.meta, grid
        plan = GridMap.between(meta.affine, source.shape, affine, shape, order).reversed_axes()
        dtype = resampled_dtype(source.dtype, order)
        if dtype.kind in "iu" and not (
            float(fill).is_integer() and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max
        ):
            raise ConfigError("fill", expected=f"a value of {dtype}", got=repr(fill))
        sizes = dict(zip(python_axes(meta.dims), (*shape, *source.shape[3:]), strict=True))
        return cls(source, plan, fill, plan_array([sizes[d] for d in meta.dims], dtype, meta.dims))

    @property
    def levels(self) -> tuple[Level, ...]:
        """One: pyramids are of stored volumes."""
        return (Level("0", self.spec),)

    @property
    def attrs(self) -> dict[str, Any]:
        """Nothing is stored."""
        return {}

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """Interpolated voxels of a box in disk order."""
        self.spec.check(box)
        lead = len(box.start) - 3
        target = Box(box.start[lead:], box.stop[lead:])
        needed = self.plan.source_box(target)
        if needed.size == 0:
            return np.full(box.shape, self.fill, self.spec.dtype)
        dims = self.spec.dims
        spans = dict(zip(dims, (*box.slices[:lead], *needed.slices), strict=True))
        block = to_disk(self.source[tuple(spans[a] for a in python_axes(dims))], dims)
        return self.plan.apply(block, needed, target, self.fill)

    def extra(self, name: str) -> bytes:
        """Bytes kept beside the source's voxels."""
        return self.source.extra(name) or b""

    def native(self) -> Any:
        """There is no array: `CapabilityError`."""
        raise CapabilityError(
            "array of a resampled volume", expected="a stored volume", hint="Use vol[...]; it is computed."
        )
