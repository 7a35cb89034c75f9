"""Half-open boxes, and the road from any NumPy-style index to one.

Backends read clean boxes only. `normalise` splits what a user typed into such a box, the smallest that holds
the selected voxels, and a remainder that NumPy applies to the block read.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import IndexingError, SelectionError

__all__ = ["Box", "normalise"]

_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Box:
    """A unit-step half-open region: `start[i] <= index < stop[i]` along each axis.

    >>> Box((0, 4), (10, 8)).intersect(Box.whole((5, 6)))
    Box(start=(0, 4), stop=(5, 6))
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box of an entire array."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of elements along each axis."""
        return tuple([b - a for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The same region as slices."""
        return tuple([slice(a, b) for a, b in zip(self.start, self.stop, strict=True)])

    def intersect(self, other: Box) -> Box:
        """The region that both share; along an axis where they do not meet, start equals stop."""
        start = tuple([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stops = zip(start, self.stop, other.stop, strict=True)
        return Box(start, tuple([max(low, min(a, b)) for low, a, b in stops]))

    def shift(self, offset: Sequence[int]) -> Box:
        """The region moved by `offset` elements along each axis."""
        return Box(
            tuple([a + d for a, d in zip(self.start, offset, strict=True)]),
            tuple([b + d for b, d in zip(self.stop, offset, strict=True)]),
        )

    def contains(self, other: Box) -> bool:
        """Whether the bounds of `other`, an empty one too, lie within those of this box."""
        mine = zip(self.start, self.stop, other.start, other.stop, strict=True)
        return all(a <= c and d <= b for a, b, c, d in mine)


def normalise(key: Any, shape: tuple[int, ...]) -> tuple[Box, Any]:
    """Split an index into a clean box and a remainder.

    `np.asarray(a)[key]` equals `a[box.slices]` when the remainder is None, else `a[box.slices][remainder]`.
    Takes integers, slices of any step, Ellipsis, None, integer arrays and boolean masks, mixed as in NumPy.
    `IndexingError`: an integer outside the array, or too many indices. `SelectionError`: floats, text,
    single booleans, masks of another length, index arrays that do not broadcast.

    >>> normalise((slice(2, 5), -1), (10, 20))
    (Box(start=(2, 19), stop=(5, 20)), (slice(None, None, None), 0))
    >>> normalise(([7, 3], slice(None, None, -3)), (10, 20))
    (Box(start=(3, 1), stop=(8, 20)), (array([4, 0]), slice(None, None, -3)))
    """
    if type(key) is not tuple:
        key = (key,)
    ndim = len(shape)
    if len(key) > ndim:
        return _general(key, shape)
    # Nearly every read comes through here, so: no calls but slice.indices, and rest only when it is needed.
    start = []
    stop = []
    drops = False
    for item, n in zip(key, shape, strict=False):
        kind = type(item)
        if kind is slice:
            step = item.step
            if step is not None and step != 1:
                return _general(key, shape)
            try:
                low, high, _ = item.indices(n)
            except TypeError:
                return _general(key, shape)
            start.append(low)
            stop.append(high if high > low else low)
        elif kind is int:
            low = item + n if item < 0 else item
            if not 0 <= low < n:
                raise _outside(item, len(start), shape)
            drops = True
            start.append(low)
            stop.append(low + 1)
        else:
            return _general(key, shape)
    given = len(key)
    if given < ndim:
        start += [0] * (ndim - given)
        stop += shape[given:]
    rest = tuple([0 if type(item) is int else _ALL for item in key]) if drops else None
    return Box(tuple(start), tuple(stop)), rest


def _general(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Box, Any]:
    """Any index. The remainder keeps the form of `key`, item by item, so that NumPy's rules on where the axes
    of an index array go, and on what is a view, hold by construction."""
    items = [_classify(item) for item in key]
    used = sum(_width(item) for item in items)
    if used > len(shape):
        raise IndexingError(
            "index", expected=f"at most {len(shape)} axes for an array of shape {shape}", got=str(used)
        )
    ellipses = sum(item is Ellipsis for item in items)
    if ellipses > 1:
        raise IndexingError("index", expected="at most one Ellipsis", got=str(ellipses))
    start: list[int] = []
    stop: list[int] = []
    rest: list[Any] = []
    broadcast: list[tuple[int, ...]] = []
    for item in items:
        axis = len(start)
        if item is None:
            rest.append(None)
        elif item is Ellipsis:
            covered = len(shape) - used
            start += [0] * covered
            stop += shape[axis : axis + covered]
            rest.append(Ellipsis)
        elif isinstance(item, slice):
            low, high, left = _from_slice(item, axis, shape)
            start.append(low)
            stop.append(high)
            rest.append(left)
        elif isinstance(item, int):
            low = item + shape[axis] if item < 0 else item
            if not 0 <= low < shape[axis]:
                raise _outside(item, axis, shape)
            start.append(low)
            stop.append(low + 1)
            rest.append(0)
        elif item.dtype.kind == "b":
            lows, highs = _mask_bounds(item, axis, shape)
            start += lows
            stop += highs
            rest.append(item[Box(tuple(lows), tuple(highs)).slices])
            broadcast.append((int(np.count_nonzero(item)),))
        else:
            low, high, index = _from_integers(item, axis, shape)
            start.append(low)
            stop.append(high)
            rest.append(index)
            broadcast.append(item.shape)
    start += [0] * (len(shape) - len(start))
    stop += shape[len(stop) :]
    if len(broadcast) > 1:
        try:
            np.broadcast_shapes(*broadcast)
        except ValueError as error:
            raise SelectionError(
                "index arrays", expected="shapes that broadcast together", got=", ".join(map(str, broadcast))
            ) from error
    plain = all(item is Ellipsis or (isinstance(item, slice) and item == _ALL) for item in rest)
    return Box(tuple(start), tuple(stop)), None if plain else tuple(rest)


def _classify(item: Any) -> Any:
    """One index item as None, Ellipsis, a slice, an int, or an array of integers or booleans."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        raise SelectionError("index", expected="an integer, a slice or an array", got=repr(item))
    try:
        return operator.index(item)
    except TypeError:
        pass  # not an integer: an array, or nothing that can index
    try:
        array = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise SelectionError("index", expected="integers or booleans", got=repr(item)) from error
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.intp)  # NumPy reads an empty list as no integers
    if array.dtype.kind not in "iub" or array.ndim == 0:
        raise SelectionError(
            "index",
            expected="integers, slices, Ellipsis, None, integer arrays or boolean masks",
            got=repr(item) if array.ndim == 0 else f"an array of {array.dtype}",
        )
    return array


def _width(item: Any) -> int:
    """How many axes of the array an item takes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _from_slice(item: slice, axis: int, shape: tuple[int, ...]) -> tuple[int, int, slice]:
    try:
        chosen = range(*item.indices(shape[axis]))
    except (TypeError, ValueError) as error:  # bounds that are no integers; a step of zero
        raise SelectionError(
            f"slice on axis {axis}", expected="integers and a step other than zero", got=str(item)
        ) from error
    if not chosen:
        at = min(max(chosen.start, 0), shape[axis])
        return at, at, _ALL
    low, high = sorted((chosen[0], chosen[-1]))
    if len(chosen) == 1 or chosen.step == 1:
        return low, high + 1, _ALL
    return low, high + 1, slice(None, None, chosen.step)


def _from_integers(
    item: npt.NDArray[Any], axis: int, shape: tuple[int, ...]
) -> tuple[int, int, npt.NDArray[np.intp]]:
    if item.size == 0:
        return 0, 0, item.astype(np.intp)
    n = shape[axis]
    # Compared before the cast: a large uint64 would wrap round to a negative index.
    least, most = int(item.min()), int(item.max())
    if least < -n or most >= n:
        raise _outside(most if most >= n else least, axis, shape)
    index = item.astype(np.intp)
    if least < 0:
        index[index < 0] += n
    low, high = int(index.min()), int(index.max())
    index -= low
    return low, high + 1, index


def _mask_bounds(
    mask: npt.NDArray[np.bool_], axis: int, shape: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    wanted = shape[axis : axis + mask.ndim]
    if mask.shape != wanted:
        raise SelectionError(
            f"mask on axis {axis}" if mask.ndim == 1 else f"mask on axes {axis} to {axis + mask.ndim - 1}",
            expected=f"shape {wanted}",
            got=str(mask.shape),
        )
    lows = []
    highs = []
    for own in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != own)))
        lows.append(int(hits[0]) if hits.size else 0)
        highs.append(int(hits[-1]) + 1 if hits.size else 0)
    return lows, highs


def _outside(index: int, axis: int, shape: tuple[int, ...]) -> IndexingError:
    n = shape[axis]
    bounds = f"{-n} to {n - 1}" if n else "none, the axis is empty"
    return IndexingError(f"index on axis {axis} of shape {shape}", expected=bounds, got=str(index))
