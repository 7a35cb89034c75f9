"""Coordinates: a grid as one number per voxel along each array axis, and its affine back from what is left.

An affine with columns m_x, m_y, m_z and translation b is split into unit vectors and coordinates:

    m_a = step_a * d_a              |d_a| = 1, and d_a points to the right, the front or the head
    origin = inverse([d_x d_y d_z]) @ b
    coordinate_a(i) = origin_a + step_a * i
    world = d_x * x + d_y * y + d_z * z

The last line holds for every affine, an oblique or a sheared one too. Along the world's own axes coordinates
are the world's millimetres, whichever way the voxels are stored. Slices, strides and flips of an array do to
its coordinates what they do to its voxels: those that are left tell the affine of what is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine

__all__ = [
    "AFFINE",
    "DIRECTION",
    "INDEX_UNIT",
    "GridAxes",
    "affine_at",
    "affine_from",
    "matrix_of",
    "matrix_text",
]

AFFINE = "affine"
"""Name of the coordinate that holds the affine of the stored grid, as `matrix_text`."""

DIRECTION = "direction"
"""Name of the one that holds the direction cosines, 3x3. Without it coordinates are voxel indices."""

INDEX_UNIT = "1"
"""The unit of coordinates that are voxel indices."""

_NOISE = 1e-6
"""In voxels: a coordinate nearer than this to one of the stored grid is that one."""

_UNEVEN = 1e-3
"""How far one step along an axis may differ from the mean step, relative to it."""

_CUT = 0.2887
_DIGITS = 8
"""Decimals of a step that coordinates are rounded to."""

_COMBINED = "Arrays of two grids lose it when they are combined: assign that of the one which is right."

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GridAxes:
    """The axes of a grid: `direction` (3, 3) has unit vectors as columns; a step against its own is negative.

    >>> axes = GridAxes.of(Affine(np.array([[-2.0, 0, 0, 90], [0, 0, 3, -60], [0, 2, 0, -70], [0, 0, 0, 1]])))
    >>> axes.step.tolist(), axes.origin.tolist()
    ([-2.0, 2.0, 3.0], [90.0, -70.0, -60.0])
    >>> axes.line(0, 3).tolist()
    [90.0, 88.0, 86.0]
    """

    direction: Floats
    step: Floats
    first: Floats
    phase: Floats
    digits: tuple[int, ...]

    @classmethod
    def of(cls, affine: Affine) -> GridAxes:
        """The axes of a grid given by its affine.

        A part of a grid and the grid turned round have the coordinates of the whole to the last bit, because
        libraries join arrays by equal coordinates: each is a whole number of steps (`first` for voxel 0) plus
        a `phase`, rounded to `digits` decimals (1e-8 of a step), so that it is one number for all.
        """
        step = np.array([n * sign for n, sign in zip(affine.spacing, affine.signs, strict=True)])
        direction = np.asarray(affine.matrix[:3, :3] / step, np.float64) + 0.0  # makes -0.0 plain
        origin = np.linalg.solve(direction, affine.matrix[:3, 3])
        size = np.abs(step)
        # cut where no grid is likely to lie: many begin at a whole step or at half of one
        first = np.floor(origin / size + _CUT)
        rest = origin - first * size
        digits = tuple(_DIGITS - math.floor(math.log10(s)) for s in size)
        phase = np.array([round(float(r), d) for r, d in zip(rest, digits, strict=True)])
        return cls(direction, step, first, phase, digits)

    @property
    def origin(self) -> Floats:
        """The coordinates of voxel 0."""
        return np.array([self.line(axis, 1)[0] for axis in range(3)])

    def line(self, axis: int, n: int) -> Floats:
        """The coordinates of `n` voxels along an array axis, in the unit of the affine."""
        size, sign = abs(self.step[axis]), np.sign(self.step[axis])
        exact = size * (self.first[axis] + sign * np.arange(n)) + self.phase[axis] + 0.0
        return np.array([round(float(v), self.digits[axis]) for v in exact])


def affine_at(
    lines: Mapping[str, npt.ArrayLike], stored: Affine | None, direction: Floats | None, what: str
) -> Affine:
    """The affine of an array by the coordinates along its axes x, y and z (an array, or one number, each).

    `stored` is the grid that the coordinates were made for, `direction` its unit vectors; without `direction`
    coordinates are voxel indices of `stored`. Where they are those of that grid's own voxels, the result is
    `stored.crop(start, step)` exactly. Others (means of voxels, points between them) serve as well, if they
    are even. An axis of one voxel keeps the step of `stored`: nothing else tells how thick the voxel is.

    Raises `GeometryError` for uneven or missing coordinates, and one voxel along an axis without `stored`.
    `what` names the array.

    >>> grid = Affine.from_spacing((1, 1, 2.5), origin=(-90, -126, -72))
    >>> x, y, z = (GridAxes.of(grid).line(axis, 9) for axis in range(3))
    >>> part = affine_at({"x": x[1:], "y": y[::2], "z": z[4]}, grid, np.eye(3), "a part")
    >>> part.spacing, part.translation
    ((1.0, 2.0, 2.5), (-89.0, -126.0, -62.0))
    """
    if stored is None and direction is None:
        raise GeometryError(
            f"affine of {what}",
            expected=f"a coordinate {AFFINE!r} or {DIRECTION!r}",
            got="neither",
            hint=_COMBINED,
        )
    if missing := [axis for axis in "xyz" if axis not in lines]:
        raise GeometryError(f"affine of {what}", expected="coordinates x, y and z", got=f"none of {missing}")
    placed = [_line(lines[axis], f"coordinate {axis!r} of {what}") for axis in "xyz"]
    if stored is None:
        assert direction is not None
        if alone := [axis for axis, line in zip("xyz", placed, strict=True) if line.size == 1]:
            raise GeometryError(
                f"affine of {what}",
                expected=f"two voxels along {', '.join(alone)}, or the coordinate {AFFINE!r}",
                got="one voxel, whose thickness nothing tells",
            )
        grid = np.eye(4)
        grid[:3, :3] = direction
    else:
        grid = stored.matrix
        if direction is not None:
            axes = GridAxes.of(stored)
            placed = [(p - o) / s for p, o, s in zip(placed, axes.origin, axes.step, strict=True)]
    first = np.array([line[0] for line in placed])
    step = np.array(
        [_step(line, f"coordinate {a!r} of {what}") for a, line in zip("xyz", placed, strict=True)]
    )
    if stored is not None and (on := _on_voxels(placed, first, step)):
        return stored.crop(*on)
    matrix = grid.copy()
    matrix[:3, :3] *= step
    matrix[:3, 3] += grid[:3, :3] @ first
    return Affine(matrix)


def affine_from(
    lines: Mapping[str, npt.ArrayLike], units: Mapping[str, Any], stored: Any, direction: Any, what: str
) -> Affine:
    """`affine_at` of coordinates in `units`, with `stored` and `direction` as `matrix_text`, or None."""
    grid = None if stored is None else Affine(matrix_of(stored, 4, f"{AFFINE!r} of {what}"))
    vectors = None if direction is None else matrix_of(direction, 3, f"{DIRECTION!r} of {what}")
    if vectors is None and (lengths := [axis for axis, unit in units.items() if unit != INDEX_UNIT]):
        # whose unit vectors are gone: they are no voxel indices
        raise GeometryError(
            f"affine of {what}",
            expected=f"the coordinate {DIRECTION!r}, because {lengths[0]!r} is in {units[lengths[0]]}",
            got="none",
            hint=_COMBINED,
        )
    return affine_at(lines, grid, vectors, what)


def _line(values: npt.ArrayLike, what: str) -> Floats:
    line = np.asarray(values)
    if line.dtype.kind not in "iuf" or line.ndim > 1 or not line.size or not np.isfinite(line).all():
        raise GeometryError(
            what, expected="finite numbers along one axis", got=f"{line.dtype} of shape {line.shape}"
        )
    return np.atleast_1d(line).astype(np.float64)


def _step(line: Floats, what: str) -> float:
    if line.size == 1:
        return 1.0
    steps = np.diff(line)
    mean = float((line[-1] - line[0]) / (line.size - 1))
    if mean == 0 or (np.abs(steps - mean) > _UNEVEN * abs(mean)).any():
        raise GeometryError(
            what,
            expected="even steps",
            got=f"steps of {steps.min():.6g} to {steps.max():.6g}",
            hint="An array of scattered planes has no affine.",
        )
    return mean


def _on_voxels(placed: list[Floats], first: Floats, step: Floats) -> tuple[list[int], list[int]] | None:
    """Start and step in whole voxels, where every coordinate is that of a voxel."""
    starts, steps = np.rint(first), np.rint(step)
    for line, start, by in zip(placed, starts, steps, strict=True):
        if np.abs(line - (start + by * np.arange(line.size))).max() > _NOISE:
            return None
    return [int(v) for v in starts], [int(v) for v in steps]


def matrix_text(matrix: npt.ArrayLike) -> str:
    """A matrix as JSON text, from which every bit comes back.

    As text, because a value is what survives: arrays that are combined keep a coordinate whose values agree
    and lose one whose values do not, while of attributes those of the first array win.
    """
    return json.dumps(np.asarray(matrix, dtype=np.float64).tolist())


def matrix_of(text: Any, size: int, what: str) -> Floats:
    """The matrix (size, size) of `matrix_text`. Raises `GeometryError`."""
    try:
        matrix = np.array(json.loads(str(text)), dtype=np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        raise GeometryError(what, expected=f"a {size}x{size} matrix as JSON", got=repr(text)[:100]) from error
    if matrix.shape != (size, size) or not np.isfinite(matrix).all():
        raise GeometryError(what, expected=f"{size}x{size} finite numbers", got=repr(text)[:100])
    return matrix
