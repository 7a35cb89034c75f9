"""Closed contours as the voxels of one slice: which centres lie inside, by an exact rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["ON_PATH", "canonical", "fill"]

ON_PATH = 0.01
"""How near to a contour, in voxels, a centre is on it. Contours are decimal text, often with two decimals of
a millimetre: one drawn through the centres of voxels would else pass them on either side."""


def fill(polygons: Sequence[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The voxels (y, x) of a slice of `shape` (rows, columns) that closed polygons cover.

    `polygons`: vertices of shape (n, 2) as (x, y) in voxels, the centre of the first voxel at (0, 0); the
    last joins the first. A voxel belongs where its centre lies

    - inside an odd number of them, self-crossings counted (even-odd): an inner contour cuts a hole, one
      inside the hole fills again, in any order ("XOR", DICOM PS3.3 C.8.8.6.3); or
    - on a contour, within `ON_PATH`: "points in space lying along the path defined by the contour are
      considered to be part of the ROI" (there too). Hence the channel of a keyhole does not show, and a
      contour drawn through the centres of a mask's outermost voxels gives that mask back.

    Parts of polygons outside the slice are left out.

    >>> square = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 3.5], [0.5, 3.5]])
    >>> fill([square, square / 2 + 1], (5, 5)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 1, 0, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    rows, columns = shape
    # one more column takes the crossings right of the slice
    crossed = np.zeros((rows, columns + 1), dtype=np.uint8)
    covered = np.zeros((rows, columns), dtype=bool)
    for polygon in polygons:
        stop = np.roll(polygon, -1, axis=0)
        _cross(polygon, stop, crossed)
        steep = np.abs(stop - polygon) @ (-1, 1) > 0
        _touch(polygon[steep], stop[steep], covered)
        _touch(polygon[~steep, ::-1], stop[~steep, ::-1], covered.T)
    covered |= np.bitwise_xor.accumulate(crossed, axis=1)[:, :columns].view(bool)
    return covered


def canonical(polygon: npt.NDArray[np.float64]) -> bytes:
    """Equal for the same closed polygon to `ON_PATH`, wherever it starts and whichever way it goes round.

    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> canonical(square) == canonical(np.roll(square[::-1], 1, axis=0)) != canonical(square + 1)
    True
    """
    steps = np.rint(polygon / ON_PATH).astype(np.int64)
    least = steps[np.lexsort(steps.T)[0]]
    starts = (steps == least).all(axis=1).nonzero()[0]
    ways = [np.roll(steps, -first, axis=0) for first in starts]
    ways += [np.roll(way[::-1], 1, axis=0) for way in ways]
    return min(way.tobytes() for way in ways)


def _cross(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], crossed: npt.NDArray[np.uint8]
) -> None:
    """Toggle, in each row that an edge crosses, the first voxel that is right of the edge or on it.

    An edge covers rows from its lower end on to below its upper end: so each vertex counts for one of its
    two edges, and level edges for none.
    """
    low, high = _upwards(start, stop)
    edge, row = _rows(np.ceil(low[:, 1]), np.ceil(high[:, 1]), len(crossed))
    column = np.clip(np.ceil(_x(low[edge], high[edge], row)), 0, crossed.shape[1] - 1).astype(np.intp)
    np.bitwise_xor.at(crossed, (row, column), 1)


def _touch(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], covered: npt.NDArray[np.bool_]
) -> None:
    """Mark the voxels whose centre is on an edge, for edges that run no more along x than along y."""
    low, high = _upwards(start, stop)
    edge, row = _rows(np.ceil(low[:, 1] - ON_PATH), np.floor(high[:, 1] + ON_PATH) + 1, len(covered))
    a, b = low[edge], high[edge]
    near = np.rint(_x(a, b, row))
    # the distance from the edge itself, not from the line that it lies on
    along, to = b - a, np.column_stack([near, row]) - a
    length = np.maximum((along**2).sum(axis=1), np.finfo(float).tiny)
    part = np.clip((to * along).sum(axis=1) / length, 0, 1)
    away = np.hypot(*(to - part[:, np.newaxis] * along).T)
    on = (away <= ON_PATH) & (near >= 0) & (near < covered.shape[1])
    covered[row[on], near[on].astype(np.intp)] = True


def _upwards(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The ends of edges by y, so that an edge is computed alike in whichever way it is walked."""
    swap = (start[:, 1] > stop[:, 1])[:, np.newaxis]
    return np.where(swap, stop, start), np.where(swap, start, stop)


def _rows(
    first: npt.NDArray[np.float64], past: npt.NDArray[np.float64], rows: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Edge and row of each row from `first` to before `past` of each edge, within a slice of `rows`."""
    start, stop = (np.clip(ends, 0, rows).astype(np.intp) for ends in (first, past))
    many = stop - start
    edge = np.repeat(np.arange(len(many), dtype=np.intp), many)
    return edge, np.arange(len(edge), dtype=np.intp) + np.repeat(start - (np.cumsum(many) - many), many)


def _x(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], row: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Where edges meet rows; of an edge that is a point, the point."""
    rise = high[:, 1] - low[:, 1]
    slope = (high[:, 0] - low[:, 0]) / np.where(rise == 0, 1, rise)
    x: npt.NDArray[np.float64] = low[:, 0] + (row - low[:, 1]) * slope
    return x
