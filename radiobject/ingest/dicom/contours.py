"""Closed contours as the voxels of one slice: which centres lie inside, by an exact rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["SNAP", "canonical", "fill"]

SNAP = 4
"""Decimals of a voxel to which vertices are rounded. Decimal strings, and the way from mm to voxels, leave
errors far below; without it a vertex drawn on a voxel's centre would fall to either side of it."""

_ON = 10.0**-SNAP


def fill(polygons: Sequence[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The voxels (y, x) of a slice of `shape` (rows, columns) that closed polygons cover.

    `polygons`: vertices of shape (n, 2) as (x, y) in voxels, the centre of the first voxel at (0, 0); the
    last joins the first. A voxel belongs where its centre lies

    - inside an odd number of them, self-crossings counted (even-odd): an inner contour cuts a hole, one
      inside the hole fills again, in any order ("XOR", DICOM PS3.3 C.8.8.6.3); or
    - on a contour, within 1e-4 of a voxel: "points in space lying along the path defined by the contour are
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
        start = np.round(polygon, SNAP)
        stop = np.roll(start, -1, axis=0)
        _cross(start, stop, crossed)
        _touch(start, stop, covered)
    covered |= np.bitwise_xor.accumulate(crossed, axis=1)[:, :columns].view(bool)
    return covered


def canonical(polygon: npt.NDArray[np.float64]) -> bytes:
    """Equal for the same closed polygon, whichever vertex it starts at and whichever way it goes round.

    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> canonical(square) == canonical(np.roll(square[::-1], 1, axis=0)) != canonical(square + 1)
    True
    """
    snapped = np.round(polygon, SNAP) + 0.0
    first = np.lexsort(snapped.T)[0]
    ahead = np.roll(snapped, -first, axis=0)
    back = np.roll(ahead[::-1], 1, axis=0)
    return min(ahead.tobytes(), back.tobytes())


def _cross(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], crossed: npt.NDArray[np.uint8]
) -> None:
    """Toggle, in each row that an edge crosses, the first voxel that is right of the edge or on it."""
    edge, row, x = _rows(start, stop, len(crossed), closed=False)
    if len(edge):
        column = np.clip(np.ceil(x), 0, crossed.shape[1] - 1).astype(np.intp)
        np.bitwise_xor.at(crossed, (row, column), 1)


def _touch(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], covered: npt.NDArray[np.bool_]
) -> None:
    """Mark the voxels whose centre lies on an edge: of level edges a run, of others at most one a row."""
    rows, columns = covered.shape
    level = start[:, 1] == stop[:, 1]
    ends = np.sort(np.stack([start[level, 0], stop[level, 0]]), axis=0)
    for y, low, high in zip(start[level, 1], *ends, strict=True):
        if y == np.rint(y) and 0 <= y < rows:
            covered[int(y), max(int(np.ceil(low)), 0) : max(int(np.floor(high)) + 1, 0)] = True
    edge, row, x = _rows(start, stop, rows, closed=True)
    near = np.rint(x)
    along = stop[edge] - start[edge]
    # from the distance within the row to the distance from the edge
    away = np.abs(x - near) * np.abs(along[:, 1]) / np.hypot(along[:, 0], along[:, 1])
    on = (away <= _ON) & (near >= 0) & (near < columns)
    covered[row[on], near[on].astype(np.intp)] = True


def _rows(
    start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], rows: int, *, closed: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Edge, row and x of each place where an edge that is not level meets a row of voxel centres.

    An edge covers rows from its lower end on and, unless `closed`, to below its upper end: so each vertex
    counts for one of its two edges. It is computed from its lower end, so that two polygons that share it
    round alike.
    """
    swap = start[:, 1] > stop[:, 1]
    low = np.where(swap[:, np.newaxis], stop, start)
    high = np.where(swap[:, np.newaxis], start, stop)
    first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(np.intp)
    past = np.floor(high[:, 1]) + 1 if closed else np.ceil(high[:, 1])
    many = np.maximum(np.clip(past, 0, rows).astype(np.intp) - first, 0)
    many[low[:, 1] == high[:, 1]] = 0
    edge = np.repeat(np.arange(len(start), dtype=np.intp), many)
    row = np.arange(len(edge), dtype=np.intp) - np.repeat(np.cumsum(many) - many, many) + first[edge]
    a, b = low[edge], high[edge]
    x = a[:, 0] + (row - a[:, 1]) * ((b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
    return edge, row, x
