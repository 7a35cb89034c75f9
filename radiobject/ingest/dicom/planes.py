"""The planes of a SEG: frames in any order, some of them missing, as slices of one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.labelled import ras_affine

__all__ = ["PlaneGrid", "plane_grid"]

_SAME = 1e-2  # mm: positions closer than this are one plane; decimal strings round at 1e-6 and worse
_UNEVEN = 0.01  # of a slice spacing: how far a plane may lie from where even spacing puts it
_FARTHEST = 1e6  # mm
# Planes between the frames are in no file: two frames far apart declare any number of them.
_MOST_PLANES, _MOST_VOXELS = 2**16, 2**31
_SKEW = 1e-3  # how far direction cosines may be from unit length and a right angle


@dataclass(frozen=True)
class PlaneGrid:
    """`affine` of a volume of `count` planes; `plane` is the z index of each frame."""

    affine: Affine
    count: int
    plane: tuple[int, ...]


def plane_grid(header: Header, frames: Sequence[Header], rows: int, columns: int) -> PlaneGrid:
    """The grid on which all frames lie, from their own positions; `frames` are the per-frame groups.

    Planes between frames (a SEG need not hold empty ones) are counted by Spacing Between Slices where the
    positions agree with it, else by the smallest step between two planes. Geometry of PS3.3 C.7.6.2.1.1.

    Raises `SourceUnsupportedError` for frames that are no slices of one grid (other orientations, tiles,
    uneven spacing), `SourceCorruptError` for missing and impossible values.
    """
    name = header.name
    shared = header.item("SharedFunctionalGroupsSequence")
    looks = [_plane(frame, shared, name) for frame in frames]
    position = np.array([look[0] for look in looks])
    cosines = _one(name, "orientation", [look[1] for look in looks])
    down, across = _one(name, "pixel spacing", [look[2] for look in looks])
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    if (
        abs(np.linalg.norm(row) - 1) > _SKEW
        or abs(np.linalg.norm(column) - 1) > _SKEW
        or abs(row @ column) > _SKEW
    ):
        raise SourceCorruptError(
            f"{name}, ImageOrientationPatient",
            expected="two unit vectors at a right angle",
            got=str(cosines.tolist()),
        )
    if not (down > 0 and across > 0):
        raise SourceCorruptError(f"{name}, PixelSpacing", expected="above zero", got=f"{down}, {across}")
    stated = [float(look[3]) for look in looks if look[3] is not None]
    step, number = _steps(name, position, position @ normal, stated)
    if step is None:
        thick = next((float(look[4]) for look in looks if look[4] is not None), None)
        apart = stated[0] if stated else thick
        if apart is None or not _SAME < apart < _FARTHEST:
            raise SourceUnsupportedError(
                name, expected="Spacing Between Slices or Slice Thickness for its single plane", got="neither"
            )
        step = normal * apart
    count = int(number.max()) + 1
    if count > _MOST_PLANES or count * rows * columns > _MOST_VOXELS:
        raise SourceUnsupportedError(
            name,
            expected=f"at most {_MOST_PLANES} planes and {_MOST_VOXELS} voxels",
            got=f"{count} planes of {rows} x {columns} between the first frame and the last",
        )
    origin = position[int(np.argmin(number))]
    affine = ras_affine(name, origin, row * across, column * down, step)
    return PlaneGrid(affine, count, tuple(int(n) for n in number))


def _plane(
    frame: Header, shared: Header | None, name: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float | None, float | None]:
    """Position, orientation, pixel spacing, stated spacing of slices, thickness of one frame."""

    def group(keyword: str, needed: str) -> Header:
        found = frame.item(keyword) or (shared and shared.item(keyword))
        if not found:
            raise SourceUnsupportedError(
                name, expected=f"{needed} for each frame", got=f"no {keyword}",
                hint="Segmentations of slides and projections are not volumes.",
            )  # fmt: skip
        return found

    measures = group("PixelMeasuresSequence", "the size of its pixels")
    return (
        _needed(group("PlanePositionSequence", "a position"), "ImagePositionPatient", 3),
        _needed(group("PlaneOrientationSequence", "an orientation"), "ImageOrientationPatient", 6),
        _needed(measures, "PixelSpacing", 2),
        measures.number("SpacingBetweenSlices"),
        measures.number("SliceThickness"),
    )


def _needed(item: Header, keyword: str, count: int) -> tuple[float, ...]:
    found = item.numbers(keyword, count)
    if found is None or max(map(abs, found)) > _FARTHEST:
        raise SourceCorruptError(
            f"{item.name}, {keyword}",
            expected=f"{count} numbers up to {_FARTHEST:g}",
            got=str(found or "nothing"),
        )
    return found


def _one(name: str, what: str, given: Sequence[tuple[float, ...]]) -> npt.NDArray[np.float64]:
    """The value that all frames share."""
    values = np.array(given)
    if np.ptp(values, axis=0).max() > 1e-4:
        raise SourceUnsupportedError(
            name, expected=f"one {what} for all frames", got=f"several, such as {given[0]} and others",
            hint="Split the object by orientation.",
        )  # fmt: skip
    return values[0]  # type: ignore[no-any-return]


def _steps(
    name: str, position: npt.NDArray[np.float64], along: npt.NDArray[np.float64], stated: Sequence[float]
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int64]]:
    """The vector from one plane to the next (None for a single plane), and the index of each frame."""
    first, last = int(np.argmin(along)), int(np.argmax(along))
    depth = along - along[first]
    levels = np.unique(depth)
    levels = levels[np.append(True, np.diff(levels) > _SAME)]
    whole = position[last] - position[first]
    if len(levels) == 1:
        if np.ptp(position, axis=0).max() > _SAME:
            raise _scattered(name)
        return None, np.zeros(len(position), dtype=np.int64)
    # frames of a sheared stack (gantry tilt) shift in their plane too, evenly; tiles shift otherwise
    expected = position[first] + whole * (depth / depth[last])[:, np.newaxis]
    smallest = float(np.diff(levels).min())
    if np.abs(position - expected).max() > max(_SAME, _UNEVEN * smallest):
        raise _scattered(name)
    for spacing in [*{s for s in stated if s > _SAME}, smallest]:
        number = np.rint(depth / spacing)
        many = number[last]
        even = many >= 1 and len(np.unique(number)) == len(levels) and many < _MOST_VOXELS
        if even and np.abs(number * (depth[last] / many) - depth).max() <= max(_SAME, _UNEVEN * spacing):
            return whole / many, number.astype(np.int64)
    raise SourceUnsupportedError(
        name,
        expected="planes at whole multiples of one spacing",
        got="planes at "
        + ", ".join(f"{d:g}" for d in levels[:20])
        + " mm"
        + (" ..." if len(levels) > 20 else ""),
    )


def _scattered(name: str) -> SourceUnsupportedError:
    return SourceUnsupportedError(
        name, expected="frames that lie behind each other", got="frames shifted in their own plane"
    )
