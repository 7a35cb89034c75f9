"""Geometry: frames in their places, as one affine, or why they make no regular volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radiobject.errors import SourceUnsupportedError
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.frames import Frame

__all__ = ["Stack", "along_normal", "is_even_stack", "lattice", "slots"]

Array = npt.NDArray[np.float64]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME = 0.01
"""Positions closer than this part of the usual step are one."""

_UNEVEN = 0.01
"""By how much of the usual step a slice may lie beside its even place (3.799 beside 3.8 mm)."""

_ROUNDED = 0.055
"""By how many mm a slice may lie beside its even place: some scanners write one decimal."""

_OFF_LINE = 0.1
"""By how many mm a slice may lie beside the line through the first and the last."""


@dataclass(frozen=True)
class Stack:
    """The affine of a stack, the distance of its slices' corners along the normal (mm), and what is unusual.

    `tilt` is the angle in degrees between the step and the normal, 0 where the drift over the whole stack is
    less than a voxel: positions are rounded, and short stacks would all seem tilted.
    """

    affine: Affine
    distances: tuple[float, ...]
    tilt: float
    regular: bool


def along_normal(frames: Sequence[Frame]) -> Array:
    """Distance of each frame's corner along the normal of the first, mm (PS3.3 C.7.6.2.1.1)."""
    row, column = frames[0].orientation[:3], frames[0].orientation[3:]
    distances: Array = np.array([f.position for f in frames]) @ np.cross(row, column)
    return distances


def slots(distances: Array) -> npt.NDArray[np.intp]:
    """Which slice each frame belongs to, from 0 in the direction of the normal; equal places share a slot."""
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order])
    # what is rounded away lies far below any real step
    real = steps[steps > 1e-3]
    tolerance = max(_SAME * float(np.median(real)), 1e-3) if real.size else 1e-3
    found = np.empty(len(distances), dtype=np.intp)
    found[order] = np.concatenate([[0], np.cumsum(steps > tolerance)])
    return found


def lattice(frames: Sequence[Frame], name: str, *, keep_irregular: bool = False) -> Stack:
    """The affine of one frame for each slice, in their order; voxels (column, row, slice) to RAS+ mm.

    The columns of the affine are the row direction times the distance of columns, the column direction times
    the distance of rows, and (last position - first) / (n - 1), which keeps the shear of a tilted gantry
    (PS3.3 C.7.6.2.1.1, with x and y turned from LPS to RAS). Slice thickness, SpacingBetweenSlices,
    SliceLocation and GantryDetectorTilt are often wrong: only a single slice takes its step from its
    thickness.

    Raises `SourceUnsupportedError` for slices that are missing or unevenly spaced, unless `keep_irregular`.
    """
    first = frames[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    places = np.array([f.position for f in frames])
    distances = (places - places[0]) @ normal
    if len(frames) == 1:
        thickness = first.thickness if first.thickness and 1e-6 <= first.thickness <= 1e6 else 1.0
        step = normal * thickness
    else:
        step = (places[-1] - places[0]) / (len(frames) - 1)
    trouble = _uneven(distances) or _beside(places, step)
    if trouble and not keep_irregular:
        raise SourceUnsupportedError(
            name,
            expected="slices at even distances on a line",
            got=trouble,
            hint='Fetch what is missing, or pass irregular="keep" to store the slices as they are.',
        )
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * first.spacing[1], column * first.spacing[0]
    matrix[:3, 2], matrix[:3, 3] = step, places[0]
    drift = step - normal * (step @ normal)
    over_all = float(np.linalg.norm(drift)) * (len(frames) - 1)
    tilted = over_all > min(first.spacing)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(drift), step @ normal))) if tilted else 0.0
    return Stack(Affine(_LPS @ matrix), tuple(distances.tolist()), tilt, not trouble)


def is_even_stack(frames: Sequence[Frame]) -> bool:
    """Whether frames, in any order, are slices at even distances on a line, one at each place."""
    distances = along_normal(frames)
    slot = slots(distances)
    if len(set(slot.tolist())) < len(frames):
        return False
    order = np.argsort(distances)
    places = np.array([frames[n].position for n in order])
    step = (places[-1] - places[0]) / max(len(frames) - 1, 1)
    return not _uneven(distances[order]) and not _beside(places, step)


def _uneven(distances: Array) -> str:
    """What is wrong with the distances, "" for nothing."""
    steps = np.diff(distances)
    if steps.size < 2:
        return ""
    usual = float(np.sort(steps)[(steps.size - 1) // 2])
    tolerance = max(_UNEVEN * usual, min(_ROUNDED, usual / 10))
    # beside the line that fits best: the ends are rounded like all others
    numbers = np.arange(len(distances))
    off = np.abs(distances - np.polyval(np.polyfit(numbers, distances, 1), numbers))
    if off.max() <= tolerance:
        return ""
    odd = np.abs(steps - usual) > tolerance
    places = list(zip(np.flatnonzero(odd).tolist(), steps[odd].tolist(), strict=True))
    if not places:
        return f"slices that drift {off.max():.3g} mm from even distances, step by step"
    at = ", ".join(f"{s:.4g} mm after slice {n} (at {distances[n]:.4g} mm)" for n, s in places[:5])
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    multiples = steps / steps.min()
    if np.all(
        np.abs(multiples - multiples.round()) <= tolerance / steps.min() * np.maximum(multiples.round(), 1)
    ):
        missing = int(multiples.round().sum()) - len(steps)
        return f"{missing} missing of {missing + len(distances)}: usual step {usual:.4g} mm, but {at}{more}"
    return f"uneven steps: usually {usual:.4g} mm, but {at}{more}"


def _beside(places: Array, step: Array) -> str:
    """Whether slices lie beside the line through the first and the last."""
    away = places - (places[0] + np.outer(np.arange(len(places)), step))
    # unevenness along the line is for the steps to tell
    length = float(np.linalg.norm(step))
    off = np.linalg.norm(away - np.outer(away @ step, step) / length**2, axis=1)
    worst = int(off.argmax())
    if off[worst] <= max(_OFF_LINE, _UNEVEN * length):
        return ""
    return f"slice {worst} {off[worst]:.3g} mm beside the line through the others"
