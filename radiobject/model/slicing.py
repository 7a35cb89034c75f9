"""Slicing: the part of a stored array that a lazily sliced or reoriented volume shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from radiobject.errors import IndexingError, SelectionError
from radiobject.geometry.affine import Affine, Reorientation
from radiobject.geometry.box import Box

__all__ = ["Region"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Region:
    """One range for each stored axis (x, y, z[, t][, c]); axes in `dropped` were taken by an int.

    `order` has the stored axis that each of the three shown ones is.

    >>> Region.whole((10, 20, 30)).sliced((slice(2, 8, 3),), "a").shape
    (2, 20, 30)
    """

    ranges: tuple[range, ...]
    dropped: frozenset[int] = frozenset()
    order: tuple[int, int, int] = (0, 1, 2)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """All voxels of an array."""
        return cls(tuple(range(n) for n in shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis that is left, in the order shown."""
        return tuple(len(self.ranges[axis]) for axis in self._shown)

    @property
    def _shown(self) -> tuple[int, ...]:
        """The stored axes that are left, in the order shown."""
        return (*self.order, *(a for a in range(3, len(self.ranges)) if a not in self.dropped))

    def is_all_of(self, shape: Sequence[int]) -> bool:
        """Whether every voxel of an array is in it, in whatever order."""
        return tuple(map(len, self.ranges)) == tuple(shape)

    def kept(self, of_axes: Sequence[T]) -> tuple[T, ...]:
        """Those of one value an axis whose axis is left."""
        return tuple(v for axis, v in enumerate(of_axes) if axis not in self.dropped)

    def sliced(self, key: Any, what: str) -> Region:
        """The part of this region that `key` picks; `what` names the volume in errors.

        x, y and z take slices; t and c take ints too, and are then dropped.
        """
        ranges, dropped = list(self.ranges), set(self.dropped)
        visible = self._shown
        for axis, item in zip(visible, _expanded(key, len(visible), what), strict=True):
            if isinstance(item, slice):
                ranges[axis] = _narrowed(ranges[axis], item, visible.index(axis), what)
            elif axis >= 3 and isinstance(item, SupportsIndex) and not isinstance(item, bool | np.ndarray):
                try:
                    index = ranges[axis][item]
                except IndexError:
                    raise IndexingError(
                        f"slicer of {what} along axis {visible.index(axis)}",
                        expected=f"{-len(ranges[axis])} to {len(ranges[axis]) - 1}",
                        got=repr(item),
                    ) from None
                ranges[axis] = range(index, index + 1)
                dropped.add(axis)
            else:
                raise SelectionError(
                    f"slicer of {what} along axis {visible.index(axis)}",
                    expected="a slice (x, y and z stay axes)",
                    got=repr(item),
                    hint="Use vol[...] or vol.plane(...) for an array.",
                )
        return Region(tuple(ranges), frozenset(dropped), self.order)

    def reoriented(self, turn: Reorientation) -> Region:
        """The same voxels with their axes permuted and flipped."""
        ranges = list(self.ranges)
        x, y, z = (self.order[axis] for axis in turn.perm)
        for axis, flip in zip((x, y, z), turn.flips, strict=True):
            if flip:
                ranges[axis] = ranges[axis][::-1]
        return Region(tuple(ranges), self.dropped, (x, y, z))

    def to_stored(self, box: Box) -> tuple[Box, tuple[slice | int, ...]]:
        """A box in this region as a box in the stored array, and the index that the block read then needs.

        `shown` brings what is then left into the order shown.
        """
        start, stop, steps = [], [], list[slice | int]()
        visible = dict(zip(self._shown, zip(box.start, box.stop, strict=True), strict=True))
        for axis, whole in enumerate(self.ranges):
            if axis in self.dropped:
                start.append(whole[0])
                stop.append(whole[0] + 1)
                steps.append(0)
                continue
            a, b = visible[axis]
            part = whole[a:b]
            low, high = (min(part[0], part[-1]), max(part[0], part[-1]) + 1) if part else (0, 0)
            start.append(low)
            stop.append(high)
            steps.append(slice(None, None, whole.step))
        return Box(tuple(start), tuple(stop)), tuple(steps)

    def shown(self, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array in stored order, without the dropped axes, in the order shown."""
        if self.order == (0, 1, 2):
            return found
        return found.transpose(*self.order, *range(3, found.ndim))

    def affine(self, stored: Affine) -> Affine:
        """The affine of this region, given that of the stored array."""
        spatial = self.ranges[:3]
        cropped = stored.crop([r.start for r in spatial], [r.step for r in spatial])
        return cropped if self.order == (0, 1, 2) else Affine(cropped.matrix[:, [*self.order, 3]])


def _expanded(key: Any, ndim: int, what: str) -> tuple[Any, ...]:
    """One item for each axis."""
    keys = key if isinstance(key, tuple) else (key,)
    # by identity: an array in the key answers == with an array
    at = [place for place, item in enumerate(keys) if item is Ellipsis]
    if len(keys) - len(at) > ndim or len(at) > 1:
        raise IndexingError(
            f"slicer of {what}", expected=f"at most {ndim} axes and one Ellipsis", got=f"{len(keys)} items"
        )
    fill = (slice(None),) * (ndim - len(keys) + len(at))
    return keys[: at[0]] + fill + keys[at[0] + 1 :] if at else keys + fill


def _narrowed(axis_range: range, item: slice, axis: int, what: str) -> range:
    try:
        found = axis_range[item]
    except (TypeError, ValueError) as error:
        raise SelectionError(
            f"slicer of {what} along axis {axis}",
            expected="integers and a step other than zero",
            got=repr(item),
        ) from error
    if not found:
        raise IndexingError(
            f"slicer of {what} along axis {axis}", expected="at least one voxel", got=repr(item)
        )
    return found
