"""Pyramids: which axes each coarser level halves, and where its voxels lie in the world.

Voxels of a level are `factors` times as wide along x, y, z as those of level 0; factors are powers of two.
Voxel i stands for the block `factors * i` to `factors * (i + 1) - 1` of level 0 and lies in its middle, at
`factors * i + (factors - 1) / 2`. Where a length is no multiple of its factor, the last block is cut off at
the edge of the volume, but its voxel keeps the place of a whole one: levels are regular grids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from radiobject.errors import FormatError
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box

__all__ = [
    "Factors",
    "coarse_affine",
    "coarse_range",
    "coarse_shape",
    "factors_of",
    "fine_box",
    "level_factors",
    "sampling_factors",
]

Factors = tuple[int, int, int]
"""How many times wider a level's voxels are than those of level 0, along x, y, z."""

_EVEN = math.sqrt(2)
"""Spacings up to this ratio are alike: halving the finer of two that lie further apart brings them closer."""

_NOISE = 1e-6
"""Of a voxel: what is left of whole numbers after arithmetic with spacings."""


def level_factors(shape: Sequence[int], spacing: Sequence[float]) -> Iterator[Factors]:
    """Factors of level 1, 2, ... of a grid (x, y, z), down to a level of one voxel.

    A level halves the axes of the one before whose spacing is less than sqrt(2) times the finest, so that the
    voxels of a stack of thick slices become cubes before they grow. Axes of one voxel are left alone.

    >>> list(level_factors((512, 512, 60), (0.5, 0.5, 5.0)))[:4]
    [(2, 2, 1), (4, 4, 1), (8, 8, 1), (16, 16, 2)]
    """
    factors = [1, 1, 1]
    while True:
        long = [a for a in range(3) if shape[a] > factors[a]]
        if not long:
            return
        now = {a: spacing[a] * factors[a] for a in long}
        for axis, width in now.items():
            if width < _EVEN * min(now.values()):
                factors[axis] *= 2
        x, y, z = factors
        yield x, y, z


def sampling_factors(shape: Sequence[int], spacing: Sequence[float], steps: Sequence[float]) -> Factors:
    """Blocks to average before samples are taken `steps` voxels apart along x, y, z; none is wider than that.

    The coarsest level (`level_factors`) that will do. Where an axis would still lose more than it does when
    levels and samples are cubes, each axis has the largest power of two by itself.

    >>> sampling_factors((512, 512, 60), (0.5, 0.5, 5.0), (6.0, 6.0, 0.6))
    (4, 4, 1)
    >>> sampling_factors((512, 512, 512), (1.0, 1.0, 1.0), (4.0, 4.0, 1.0))
    (4, 4, 1)
    """
    best = [1, 1, 1]
    for factors in level_factors(shape, spacing):
        if any(f > max(step * (1 + _NOISE), 1) for f, step in zip(factors, steps, strict=True)):
            break
        best = list(factors)
    if any(f < n and step > 2 * _EVEN * f for f, n, step in zip(best, shape, steps, strict=True)):
        best = [1, 1, 1]
        for axis, (n, step) in enumerate(zip(shape, steps, strict=True)):
            while best[axis] < n and 2 * best[axis] <= step * (1 + _NOISE):
                best[axis] *= 2
    x, y, z = best
    return x, y, z


def coarse_shape(shape: Sequence[int], factors: Sequence[int]) -> tuple[int, ...]:
    """Blocks along each axis, the ones cut off at the edge included."""
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def factors_of(shape: Sequence[int], coarse: Sequence[int], what: str) -> Factors:
    """The factors of a level by its shape: the smallest powers of two that give it. `what` stands in errors.

    >>> factors_of((512, 512, 61), (128, 128, 31), "level")
    (4, 4, 2)
    """
    x, y, z = (_factor(n, m, what) for n, m in zip(shape, coarse, strict=True))
    return x, y, z


def _factor(n: int, m: int, what: str) -> int:
    factor = 1
    while -(-n // factor) > max(m, 1):
        factor *= 2
    if -(-n // factor) != m:
        raise FormatError(what, expected=f"{n} voxels halved some times along an axis", got=str(m))
    return factor


def coarse_affine(affine: Affine, factors: Sequence[float], offset: Sequence[float] | None = None) -> Affine:
    """The affine of a level. Its voxel 0 lies at `offset` in voxels of level 0, by default mid-block.

    >>> coarse_affine(Affine.from_spacing((1, 1, 3)), (2, 2, 1)).translation
    (0.5, 0.5, 0.0)
    """
    shift = [(f - 1) / 2 for f in factors] if offset is None else offset
    matrix = affine.matrix.copy()
    for axis in range(3):
        matrix[:3, 3] += affine.matrix[:3, axis] * shift[axis]
        matrix[:3, axis] *= factors[axis]
    return Affine(matrix + 0.0)  # -0.0 becomes 0.0


def coarse_range(fine: range, factor: float, offset: float, n: int) -> range:
    """The voxels along an axis of a level (`n` voxels long) that touch those of a range of level 0.

    It runs in the same direction, with a step of one.

    >>> coarse_range(range(9, 2, -1), 2, 0.5, 10)
    range(4, 0, -1)
    """
    low, high = min(fine[0], fine[-1]) - 0.5, max(fine[0], fine[-1]) + 0.5
    first = math.floor((low - offset) / factor + 0.5 + _NOISE)
    last = math.ceil((high - offset) / factor + 0.5 - _NOISE) - 1
    first, last = min(max(first, 0), n - 1), min(max(last, 0), n - 1)
    return range(first, last + 1) if fine.step > 0 else range(last, first - 1, -1)


def fine_box(box: Box, factors: Sequence[int], shape: Sequence[int]) -> Box:
    """The voxels of level 0 that a box of a level stands for; all in one order of axes."""
    start = tuple(a * f for a, f in zip(box.start, factors, strict=True))
    return Box(start, tuple(min(b * f, n) for b, f, n in zip(box.stop, factors, shape, strict=True)))
