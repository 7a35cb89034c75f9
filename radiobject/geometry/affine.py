"""The affine of a volume: voxel indices (x, y, z) at voxel centres to world millimetres, RAS+."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import GeometryError

__all__ = ["Affine", "Reorientation"]

_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
_AXIS_OF = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}

# The volume spanned by the three unit columns: below this the voxels are flat and world points have no index.
_FLAT = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Affine:
    """A 4x4 float64 matrix from voxel index (x, y, z, 1) to world (right, anterior, superior, 1) in mm.

    Immutable and hashable; equal when every entry is equal. A matrix that is not 4x4, not finite, whose last
    row is not 0, 0, 0, 1 or whose columns do not span space raises `GeometryError`.

    >>> affine = Affine.from_spacing((1, 1, 2.5), origin=(-90, -126, -72))
    >>> affine.axcodes, affine.spacing
    (('R', 'A', 'S'), (1.0, 1.0, 2.5))
    >>> affine.crop((10, 0, 4)).translation
    (-80.0, -126.0, -62.0)
    """

    matrix: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        try:
            matrix = np.array(self.matrix, dtype=np.float64, order="C")
        except (TypeError, ValueError) as error:
            raise GeometryError("affine", expected="4x4 numbers", got=repr(self.matrix)) from error
        if matrix.shape != (4, 4):
            raise GeometryError("affine", expected="shape (4, 4)", got=str(matrix.shape))
        rows = matrix.tolist()
        if not np.isfinite(matrix).all():
            raise GeometryError("affine", expected="finite numbers", got=str(rows))
        if rows[3] != [0.0, 0.0, 0.0, 1.0]:
            raise GeometryError("last row of the affine", expected="[0, 0, 0, 1]", got=str(rows[3]))
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        x, y, z = self.spacing
        if not all(0 < n < math.inf for n in (x, y, z)):
            raise GeometryError("affine", expected="a spacing above zero on each axis", got=str(rows))
        # Division by the lengths first, so that small voxels are not mistaken for flat ones.
        (a, b, c), (d, e, f), (g, h, i) = [(p / x, q / y, r / z) for p, q, r, _ in rows[:3]]
        if abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) < _FLAT:
            raise GeometryError("affine", expected="three independent axes", got=str(rows))

    @classmethod
    def from_spacing(cls, spacing: Sequence[float], origin: Sequence[float] = (0.0, 0.0, 0.0)) -> Affine:
        """Axes along R, A, S; `spacing` (3, above zero) and `origin` (3, centre of voxel 0, 0, 0) in mm."""
        if len(spacing) != 3 or len(origin) != 3 or not all(s > 0 for s in spacing):
            raise GeometryError(
                "spacing and origin",
                expected="three numbers each, the first above zero",
                got=f"{spacing}, {origin}",
            )
        matrix = np.diag([*spacing, 1.0])
        matrix[:3, 3] = origin
        return cls(matrix)

    @classmethod
    def identity(cls) -> Affine:
        """Voxels of 1 mm along R, A, S, the first one at the origin."""
        return cls(np.eye(4))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Affine):
            return NotImplemented
        return self is other or bool((self.matrix == other.matrix).all())

    def __hash__(self) -> int:
        # Of the numbers, not of the bytes: 0.0 and -0.0 are equal and must hash alike.
        return hash(tuple(self.matrix.ravel().tolist()))

    def __repr__(self) -> str:
        return f"Affine({self.matrix.tolist()})"

    def __reduce__(self) -> tuple[Any, ...]:
        # An array forgets in a pickle that it is read-only; the constructor says it again.
        return Affine, (np.array(self.matrix),)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along each array axis, mm."""
        (a, b, c), (d, e, f), (g, h, i) = self.matrix[:3, :3].tolist()
        return math.hypot(a, d, g), math.hypot(b, e, h), math.hypot(c, f, i)

    @property
    def translation(self) -> tuple[float, float, float]:
        """World position of the centre of voxel (0, 0, 0), mm."""
        x, y, z = self.matrix[:3, 3].tolist()
        return x, y, z

    @cached_property
    def _unit(self) -> npt.NDArray[np.float64]:
        unit: npt.NDArray[np.float64] = self.matrix[:3, :3] / self.spacing
        return unit

    @cached_property
    def _nearest(self) -> tuple[tuple[int, int], ...]:
        """(world axis, sign) for each array axis, as nibabel's io_orientation finds them.

        The array axis that lies closest to a world axis takes it first, then the others from what is left.
        Exact ties (a turn of 45 degrees) are settled by the direction alone, never by the order of the array
        axes, so that an affine reoriented to some codes has these codes.
        """
        rotation = self._unit
        if np.count_nonzero(rotation) > 3:
            left, _, right = np.linalg.svd(rotation)
            rotation = (left @ right).round(9)
        columns = rotation.T.tolist()

        def strength(axis: int) -> tuple[float, list[float]]:
            column = columns[axis]
            lead = 1 if next(v for v in column if v) > 0 else -1
            return max(map(abs, column)), [lead * v for v in column]

        found = [(0, 1)] * 3
        free = [0, 1, 2]
        for axis in sorted(range(3), key=strength, reverse=True):
            world = max(free, key=lambda w, column=columns[axis]: abs(column[w]))  # type: ignore[misc]
            free.remove(world)
            found[axis] = (world, 1 if columns[axis][world] >= 0 else -1)
        return tuple(found)

    @property
    def world_axes(self) -> tuple[int, int, int]:
        """For each array axis the world axis (0 = R/L, 1 = A/P, 2 = S/I) that it runs along."""
        (x, _), (y, _), (z, _) = self._nearest
        return x, y, z

    @property
    def signs(self) -> tuple[int, int, int]:
        """For each array axis +1 when it runs to R, A or S, -1 when it runs to L, P or I."""
        (_, x), (_, y), (_, z) = self._nearest
        return x, y, z

    @cached_property
    def axcodes(self) -> tuple[str, str, str]:
        """The direction in which each array axis grows, as nibabel's `aff2axcodes`."""
        x, y, z = (_CODES[world][sign > 0] for world, sign in self._nearest)
        return x, y, z

    @cached_property
    def obliquity(self) -> float:
        """Largest angle in degrees between an array axis and the world axis it runs along."""
        angles = []
        for axis, (world, sign) in enumerate(self._nearest):
            column = self._unit[:, axis].tolist()
            along = sign * column.pop(world)
            # atan2, because acos cannot tell angles below 1e-6 degrees from zero
            angles.append(math.degrees(math.atan2(math.hypot(*column), along)))
        return max(angles)

    @cached_property
    def shear(self) -> float:
        """Largest departure of two array axes from a right angle, in degrees."""
        gram = self._unit.T @ self._unit
        return max(math.degrees(math.asin(min(1.0, abs(float(gram[p]))))) for p in ((0, 1), (0, 2), (1, 2)))

    def crop(self, start: Sequence[int], step: Sequence[int] = (1, 1, 1)) -> Affine:
        """The affine of `array[start::step]` (three axes x, y, z; `start` not negative, steps not zero)."""
        if len(start) != 3 or len(step) != 3 or 0 in step:
            raise GeometryError(
                "crop", expected="three starts, three steps other than zero", got=f"{start}, {step}"
            )
        matrix = self.matrix.copy()
        for axis in range(3):
            matrix[:3, 3] += self.matrix[:3, axis] * start[axis]
            matrix[:3, axis] *= step[axis]
        # A flip turns 0.0 into -0.0; adding zero turns it back.
        return Affine(matrix + 0.0)

    def apply(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World mm of voxel indices, both of shape (..., 3), x, y, z last.

        >>> Affine.from_spacing((1, 1, 2), origin=(0, 0, 10)).apply((3, 4, 5)).tolist()
        [3.0, 4.0, 20.0]
        """
        array = np.asarray(points, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != 3:
            raise GeometryError("points", expected="shape (..., 3)", got=str(array.shape))
        world: npt.NDArray[np.float64] = array @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return world

    def scaled(self, factor: float) -> Affine:
        """The affine whose world is in another unit of length, of which `factor` are one of this one's.

        >>> Affine.from_spacing((50, 50, 80)).scaled(1e-3).spacing  # of micrometres, in millimetres
        (0.05, 0.05, 0.08)
        """
        return Affine(np.diag([factor, factor, factor, 1.0]) @ self.matrix)

    def inverse(self) -> Affine:
        """World mm to voxel index: `affine.inverse().apply(world)` may fall between voxels."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.linalg.inv(self.matrix[:3, :3])
        matrix[:3, 3] = -matrix[:3, :3] @ self.matrix[:3, 3]
        return Affine(matrix)

    def compose(self, other: Affine) -> Affine:
        """First `other`, then this one; `self @ other`."""
        return Affine(self.matrix @ other.matrix)

    __matmul__ = compose

    def almost_equal(self, other: Affine, atol: float = 1e-3) -> bool:
        """Whether no entry differs by more than `atol` mm."""
        return bool((np.abs(self.matrix - other.matrix) <= atol).all())

    def reorientation(self, target: str | Sequence[str], shape: Sequence[int]) -> Reorientation:
        """The flips and the permutation that bring an array of `shape` (x, y, z first) to the codes `target`.

        Voxels keep their world positions. `target` names each world axis once ("RAS", "LPS", "PIR" ...);
        anything else raises `GeometryError`.

        >>> turn = Affine(np.diag([-2.0, 2.0, 3.0, 1.0])).reorientation("SRA", (10, 20, 30))
        >>> turn.perm, turn.flips, turn.affine.axcodes
        ((2, 0, 1), (False, True, False), ('S', 'R', 'A'))
        >>> turn.affine.apply((0, 9, 0)).tolist()
        [0.0, 0.0, 0.0]
        """
        wanted = [_AXIS_OF.get(code) for code in target]
        goal = [w for w in wanted if w is not None]
        if len(wanted) != 3 or sorted(axis for axis, _ in goal) != [0, 1, 2]:
            raise GeometryError(
                "axis codes", expected="one each of R/L, A/P, S/I, such as 'RAS'", got=repr(target)
            )
        if len(shape) < 3:
            raise GeometryError("reorientation", expected="three axes or more", got=str(tuple(shape)))
        source = self.world_axes
        px, py, pz = perm = tuple(source.index(axis) for axis, _ in goal)
        fx, fy, fz = (sign != self.signs[a] for a, (_, sign) in zip(perm, goal, strict=True))
        flipped = {a for a, flip in zip(perm, (fx, fy, fz), strict=True) if flip}
        turned = self.crop(
            [shape[a] - 1 if a in flipped else 0 for a in range(3)],
            [-1 if a in flipped else 1 for a in range(3)],
        )
        affine = Affine(turned.matrix[:, [px, py, pz, 3]])
        return Reorientation((px, py, pz), (fx, fy, fz), affine)


@dataclass(frozen=True)
class Reorientation:
    """For each target axis the source axis (`perm`) and whether it is flipped; `affine` is the result's."""

    perm: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    affine: Affine

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of `array`, whose first three axes are x, y, z; further axes stay where they are."""
        if array.ndim < 3:
            raise GeometryError("reorientation", expected="three axes or more", got=str(array.shape))
        turned = array.transpose(*self.perm, *range(3, array.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
