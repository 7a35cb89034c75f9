"""Resampling: which source voxels a part of a target grid needs, and the interpolation between them.

Target voxel `i` lies at the continuous source index `c = matrix @ i + offset`. Its value is

- order 0: the nearest voxel; half way between two, the one of lower index;
- order 1: `(1 - f) * v[n] + f * v[n + 1]` along each axis, where `n = floor(c)` and `f = c - n`;
- order 3: the sum of four voxels `v[n - 1] ... v[n + 2]` along each axis, weighted by Keys' cubic convolution
  with a = -1/2 (Catmull-Rom), which passes through the voxels and reproduces quadratic fields. It overshoots
  beside edges.

A voxel is as wide as the spacing: up to half a voxel beyond the outermost centres the outermost voxel counts
on; what lies further out is `fill`. Nothing is smoothed before: a coarser grid takes samples, not means.
Every weight depends on the target index alone, so that a part of a grid has the values of the whole.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, GeometryError
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box

__all__ = ["ORDERS", "GridMap", "grid_around", "grid_spaced", "resampled_dtype"]

ORDERS = (0, 1, 3)

_NOISE = 1e-6
"""Source indices nearer than this to a voxel centre are that centre: noise of inverting an affine."""

_FLOAT32 = 1e-6
"""Spacings nearer than this part of themselves are equal: headers hold them with 24 bits."""

_SLAB = 2**17
"""Target voxels computed in one step where axes are not parallel: coordinates stay in the cache."""

Floats = npt.NDArray[np.float64]
Taps = list[tuple[npt.NDArray[np.intp], Floats | None]]
Grid = tuple[tuple[int, int, int], Affine]


def resampled_dtype(dtype: np.dtype[Any], order: int) -> np.dtype[Any]:
    """Type of the values: the source's for order 0, else float32, and float64 where float32 is too coarse.

    >>> resampled_dtype(np.dtype("int16"), 0), resampled_dtype(np.dtype("int16"), 1)
    (dtype('int16'), dtype('float32'))
    """
    if order == 0:
        return dtype
    fits = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if fits else np.float64)


def grid_spaced(affine: Affine, shape: Sequence[int], spacing: float | Sequence[float]) -> Grid:
    """The grid of another spacing (mm, one or three numbers) with the same axes and the same centre.

    It covers the field of view of the source, from voxel edge to voxel edge, and exceeds it by less than one
    voxel; what is less than a millionth of the source counts for nothing. Raises `GeometryError` for a
    spacing that is not above zero.

    >>> shape, affine = grid_spaced(Affine.from_spacing((1, 1, 2)), (10, 10, 8), 0.5)
    >>> shape, affine.spacing, affine.translation
    ((20, 20, 32), (0.5, 0.5, 0.5), (-0.25, -0.25, -0.75))
    """
    wanted = _three("spacing in mm", spacing, above=0.0)
    steps = [new / old for new, old in zip(wanted, affine.spacing, strict=True)]
    x, y, z = (max(math.ceil(n / step * (1 - _FLOAT32)), 1) for n, step in zip(shape[:3], steps, strict=True))
    matrix = affine.matrix.copy()
    for axis, (old, new, step) in enumerate(zip(shape, (x, y, z), steps, strict=False)):
        matrix[:3, 3] += affine.matrix[:3, axis] * ((old - 1) / 2 - step * (new - 1) / 2)
        matrix[:3, axis] *= step
    return (x, y, z), Affine(matrix)


def grid_around(
    affine: Affine, center: Sequence[float], size: float | Sequence[float], spacing: Any = None
) -> Grid:
    """The grid of `size` mm (rounded to whole voxels, at least one) whose centre lies at world `center` (mm).

    Its axes are those of `affine`, and so is its spacing unless given.
    """
    middle = np.array(_three("center in mm", center))
    extent = _three("size in mm", size, above=0.0)
    wanted = affine.spacing if spacing is None else _three("spacing in mm", spacing, above=0.0)
    x, y, z = (max(math.floor(e / s + 0.5), 1) for e, s in zip(extent, wanted, strict=True))
    matrix = affine.matrix.copy()
    matrix[:3, :3] *= np.array(wanted) / affine.spacing
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
    return (x, y, z), Affine(matrix)


def _three(what: str, value: Any, above: float = -math.inf) -> tuple[float, float, float]:
    try:
        x, y, z = np.broadcast_to(np.asarray(value, dtype=np.float64), (3,)).tolist()
    except (TypeError, ValueError) as error:
        raise GeometryError(what, expected="three numbers", got=repr(value)) from error
    if not all(above < v < math.inf for v in (x, y, z)):
        sort = "finite numbers" if above < 0 else f"finite numbers above {above:g}"
        raise GeometryError(what, expected=sort, got=repr(value))
    return x, y, z


@dataclass(frozen=True, eq=False)
class GridMap:
    """From the voxels of a target grid to those of a source grid, and the interpolation order.

    The three axes are in any order that matrix, shapes, boxes and the last three axes of arrays share.
    """

    matrix: Floats
    offset: Floats
    source: tuple[int, ...]
    target: tuple[int, ...]
    order: int

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ConfigError("interpolation order", expected="0, 1 or 3", got=repr(self.order))
        if len(self.target) != 3 or any(n < 1 for n in self.target):
            raise GeometryError("target shape", expected="three sizes above zero", got=repr(self.target))

    @classmethod
    def between(cls, source: Affine, shape: Sequence[int], target: Affine, into: Sequence[int],
                order: int) -> GridMap:  # fmt: skip
        """The map for two grids by affine and shape (x, y, z)."""
        step: Floats = np.eye(4)
        if source != target:  # the inverse would leave noise
            step = np.asarray(np.linalg.solve(source.matrix, target.matrix))
        return cls(step[:3, :3], step[:3, 3], tuple(shape[:3]), tuple(into), order)

    def reversed_axes(self) -> GridMap:
        """The same map with the axes z, y, x."""
        return GridMap(
            self.matrix[::-1, ::-1], self.offset[::-1], self.source[::-1], self.target[::-1], self.order
        )

    @cached_property
    def parallel(self) -> tuple[int, ...] | None:
        """For each source axis the target axis that alone moves along it; None where two or more do.

        An axis that moves by less than 1e-6 of a voxel over the whole target grid does not move.
        """
        moves = np.abs(self.matrix) * np.maximum(np.array(self.target) - 1, 1) > _NOISE
        found = tuple(int(a) for a in moves.argmax(axis=1))
        return found if (moves.sum(axis=1) == 1).all() and sorted(found) == [0, 1, 2] else None

    def source_box(self, box: Box) -> Box:
        """The source voxels that the target voxels of `box` need, and no more where axes are parallel.

        Empty (start equals stop) when all of them lie outside the source.
        """
        bounds = [self._bounds(axis, box) for axis in range(3)] if box.size else []
        found = [b for b in bounds if b is not None]
        if len(found) < 3:
            return Box((0, 0, 0), (0, 0, 0))
        return Box(tuple(low for low, _ in found), tuple(high + 1 for _, high in found))

    def _bounds(self, axis: int, box: Box) -> tuple[int, int] | None:
        """First and last source index along an axis."""
        n = self.source[axis]
        if self.parallel is not None:
            along = self.parallel[axis]
            taps, inside = self._taps(self._line(axis, box.start[along], box.stop[along]), n)
            chosen = [index[inside] for index, _ in taps]
            if not inside.any():
                return None
            return min(int(c.min()) for c in chosen), max(int(c.max()) for c in chosen)
        # an affine map has its extremes at the corners
        low = high = float(self.offset[axis])
        for step, a, b in zip(self.matrix[axis].tolist(), box.start, box.stop, strict=True):
            low, high = low + min(step * a, step * (b - 1)), high + max(step * a, step * (b - 1))
        if high < -0.5 - _NOISE or low > n - 0.5 + _NOISE:
            return None
        margin = 1 if self.order == 3 else 0
        first = math.floor(max(low - _NOISE, 0)) - margin
        last = math.ceil(min(high + _NOISE, n - 1)) + margin
        return min(max(first, 0), n - 1), max(min(last, n - 1), 0)

    def _line(self, axis: int, start: int, stop: int) -> Floats:
        """Source coordinates along an axis, of parallel grids."""
        assert self.parallel is not None
        line: Floats = np.arange(start, stop) * self.matrix[axis, self.parallel[axis]] + self.offset[axis]
        return line

    def _taps(self, at: Floats, n: int) -> tuple[Taps, npt.NDArray[np.bool_]]:
        """Indices and weights of the voxels around each coordinate, and whether it lies in the source."""
        near = np.rint(at)
        at = np.where(np.abs(at - near) < _NOISE, near, at)
        inside = (at >= -0.5 - _NOISE) & (at <= n - 0.5 + _NOISE)
        if self.order == 0:
            # half way is rounded down in spite of noise, in a part of a grid as in the whole
            nearest = np.ceil(np.clip(at, 0, n - 1) - 0.5 - _NOISE).astype(np.intp)
            return [(nearest, None)], inside
        at = np.clip(at, 0, n - 1)
        base = np.floor(at).astype(np.intp)
        f = at - base
        if not f.any():
            return [(base, None)], inside
        if self.order == 1:
            weights = {0: 1 - f, 1: f}
        else:
            weights = {
                -1: f * (-0.5 + f * (1.0 - 0.5 * f)),
                0: 1 + f * f * (-2.5 + 1.5 * f),
                1: f * (0.5 + f * (2.0 - 1.5 * f)),
                2: f * f * (-0.5 + 0.5 * f),
            }
        # a voxel without weight is not looked at: it may lie outside the box that was read, or be NaN
        return [
            (np.where(w == 0, base, np.clip(base + k, 0, n - 1)), np.asarray(w)) for k, w in weights.items()
        ], inside

    def apply(self, block: npt.NDArray[Any], source_box: Box, box: Box, fill: float = 0) -> npt.NDArray[Any]:
        """Target values of `box` from `block`, the source voxels of `source_box` (see there).

        Axes before the last three (channels, time points) are carried along. The result is C-contiguous
        and its own memory, of `resampled_dtype`.
        """
        dtype = resampled_dtype(block.dtype, self.order)
        if box.size == 0 or block.size == 0:
            return np.full((*block.shape[:-3], *box.shape), fill, dtype)
        if self.parallel is not None:
            return self._separable(block, source_box, box, fill, dtype)
        out = np.empty((math.prod(block.shape[:-3]), *box.shape), dtype)
        flat = block.reshape(len(out), -1)
        step = max(_SLAB // max(math.prod(box.shape[1:]), 1), 1)
        for first in range(0, box.shape[0], step):
            last = min(first + step, box.shape[0])
            part = Box((box.start[0] + first, *box.start[1:]), (box.start[0] + last, *box.stop[1:]))
            self._gather(flat, source_box, part, fill, out[:, first:last])
        return out.reshape(*block.shape[:-3], *box.shape)

    def _separable(
        self, block: npt.NDArray[Any], source_box: Box, box: Box, fill: float, dtype: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        """One axis after the other. Their order is that of the whole grids, so that rounding is, too."""
        assert self.parallel is not None
        along = self.parallel
        lead = block.ndim - 3
        finite = block.dtype.kind != "f" or bool(np.isfinite(block).all())
        outside: dict[int, npt.NDArray[np.bool_]] = {}
        for axis in sorted(range(3), key=lambda a: self.target[along[a]] / self.source[a]):
            line = self._line(axis, box.start[along[axis]], box.stop[along[axis]])
            taps, inside = self._taps(line, self.source[axis])
            if not inside.all():
                outside[along[axis]] = ~inside
            column = (-1, *[1] * (2 - axis))
            length = block.shape[lead + axis]
            total: Any = None
            for index, weight in taps:
                values = block.take(np.clip(index - source_box.start[axis], 0, length - 1), lead + axis)
                if weight is not None:
                    values = _weighted(values, weight.reshape(column), dtype, finite=finite)
                total = values if total is None else np.add(total, values, out=total)
            block = total
        block = block.transpose(*range(lead), *(lead + along.index(a) for a in range(3)))
        out = np.ascontiguousarray(block, dtype=dtype)
        for axis, mask in outside.items():
            np.moveaxis(out, lead + axis, 0)[mask] = fill
        return out

    def _gather(
        self, flat: npt.NDArray[Any], source_box: Box, box: Box, fill: float, out: npt.NDArray[Any]
    ) -> None:
        """Every combination of taps, for grids at an angle; `flat` has one row for each leading index."""
        grids = np.ogrid[box.slices]
        inside = np.ones(box.shape, np.bool_)
        taps: list[Taps] = []
        stride = np.cumprod([1, *source_box.shape[:0:-1]])[::-1].tolist()
        for axis in range(3):
            x, y, z = (m * g for m, g in zip(self.matrix[axis].tolist(), grids, strict=True))
            found, within = self._taps(x + y + z + self.offset[axis], self.source[axis])
            inside &= within
            low, length = source_box.start[axis], source_box.shape[axis]
            taps.append([(np.clip(i - low, 0, length - 1) * stride[axis], w) for i, w in found])
        finite = flat.dtype.kind != "f" or bool(np.isfinite(flat).all())
        out[...] = 0
        for (i, u), (j, v), (k, w) in itertools.product(*taps):
            place = i + j + k
            weight: Any = math.prod((g for g in (u, v, w) if g is not None), start=np.ones((), np.float64))
            for row, voxels in zip(out, flat, strict=True):
                row += (
                    voxels[place]
                    if u is v is w is None
                    else _weighted(voxels[place], weight, out.dtype, finite=finite)
                )
        out[:, ~inside] = fill


def _weighted(
    values: npt.NDArray[Any], weight: Floats, dtype: np.dtype[Any], *, finite: bool
) -> npt.NDArray[Any]:
    """`values * weight`, where a weight of zero is zero times NaN or infinity, too."""
    weight = weight.astype(dtype, copy=False)
    out = np.empty(values.shape, dtype) if finite else np.zeros(values.shape, dtype)
    np.multiply(values, weight, out=out, where=True if finite else weight != 0, casting="same_kind")
    return out
