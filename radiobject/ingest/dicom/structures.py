"""The regions of an RT structure set: their contours, each on the slice that it was drawn on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.contours import canonical
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.labelled import frame_of_reference, named_text

__all__ = ["Contour", "ReferenceGrid", "Roi", "read_rois"]

Rgba = tuple[int, int, int, int]

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_HALF = 0.5 + 1e-3  # of a slice spacing: how far from its slice a contour may lie
_FLAT = 0.1  # of a slice spacing: how far apart along the slice axis points of one contour may lie
_FARTHEST = 1e6  # mm


@dataclass(frozen=True)
class ReferenceGrid:
    """The images that contours are drawn on: `affine` (RAS+, mm) and `shape` (x, y, z) of their volume.

    `slices` is the z index of each image by its SOP Instance UID; leave out images of several frames.
    `frame_of_reference_uid` is held against that of the contours where both are known.
    """

    affine: Affine
    shape: tuple[int, int, int]
    slices: Mapping[str, int] = field(default_factory=dict)
    frame_of_reference_uid: str | None = None


@dataclass(frozen=True)
class Contour:
    """One contour: `points` (n, 3) in mm, RAS+, and in `voxels` (x, y, z) of the grid.

    `slice` is the z index that it is filled on, None where it is not: a point, an open contour, or a closed
    one that another stands for.
    """

    kind: str
    points: npt.NDArray[np.float64]
    voxels: npt.NDArray[np.float64]
    slice: int | None

    @property
    def depth(self) -> float:
        """Where its plane lies, in slices."""
        return float(self.voxels[:, 2].mean())


@dataclass(frozen=True)
class Roi:
    """A region of interest, its contours in the order of the file."""

    number: int
    name: str
    rgba: Rgba | None
    contours: tuple[Contour, ...]

    def polygons(self) -> dict[int, list[npt.NDArray[np.float64]]]:
        """Vertices (x, y) of what is filled, by slice; empty for a region without closed contours."""
        found: dict[int, list[npt.NDArray[np.float64]]] = defaultdict(list)
        for contour in self.contours:
            if contour.slice is not None:
                found[contour.slice].append(contour.voxels[:, :2])
        return found


def read_rois(header: Header, grid: ReferenceGrid) -> list[Roi]:
    """The regions by their numbers, closed contours with the slice that they are filled on.

    That is the slice of the first image that the contour refers to and the grid has, else the nearest one.
    Of several planes of a region that fall to one slice, the nearest is filled; contours that repeat another
    are not.

    Raises `SourceCorruptError` for missing and impossible elements, `SourceUnsupportedError` for another
    frame of reference and for closed contours that lie in no slice of the grid; both name the regions.
    """
    rois = {roi.number: roi for roi in _named(header, grid)}
    inverse = grid.affine.inverse()
    lost: dict[str, int] = defaultdict(int)
    for item in header.items("ROIContourSequence"):
        number = _whole(item, "ReferencedROINumber")
        if number not in rois:
            raise SourceCorruptError(
                f"{header.name}, ReferencedROINumber", expected="a region of this file", got=str(number)
            )
        roi, found = rois[number], []
        for element in item.items("ContourSequence"):
            contour = _contour(element, roi, inverse)
            if contour.kind in _CLOSED:
                at = _slice(contour, element, grid)
                lost[f"{roi.name!r}"] += at is None
                contour = replace(contour, slice=at)
            found.append(contour)
        rois[number] = replace(roi, rgba=_colour(item) or roi.rgba, contours=(*roi.contours, *found))
    lost = {name: count for name, count in lost.items() if count}
    if lost:
        raise SourceUnsupportedError(
            header.name,
            expected="closed contours in the slices of the images, within half a slice spacing",
            got="others in " + ", ".join(f"{name} ({count})" for name, count in [*lost.items()][:10]),
            hint="Read it with the series that it was drawn on, all of its slices.",
        )
    return [replace(rois[n], contours=_distinct(rois[n].contours)) for n in sorted(rois)]


def _named(header: Header, grid: ReferenceGrid) -> list[Roi]:
    """The regions without their contours (PS3.3 C.8.8.5)."""
    rois: dict[int, Roi] = {}
    for item in header.items("StructureSetROISequence"):
        number, name = _whole(item, "ROINumber"), named_text(header, item, "ROIName")
        if number in rois:
            raise SourceCorruptError(
                f"{header.name}, ROINumber",
                expected="a number of its own for each region",
                got=f"{number} twice",
            )
        space = item.text("ReferencedFrameOfReferenceUID") or frame_of_reference(header)
        if space and grid.frame_of_reference_uid and space != grid.frame_of_reference_uid:
            raise SourceUnsupportedError(
                f"{header.name}, region {name!r}",
                expected="the frame of reference of the images",
                got="another",
                hint="Read it with the series that it was drawn on.",
            )
        rois[number] = Roi(number, name or f"region {number}", None, ())
    return list(rois.values())


def _contour(item: Header, roi: Roi, inverse: Affine) -> Contour:
    where = f"{item.name}, ContourData of region {roi.name!r}"
    data = item.numbers("ContourData") or ()
    if not data or len(data) % 3:
        raise SourceCorruptError(where, expected="x, y, z for each point", got=f"{len(data)} numbers")
    stated = item.number("NumberOfContourPoints")
    if stated is not None and stated * 3 != len(data):
        raise SourceCorruptError(
            where, expected=f"{stated:g} points, as it says itself", got=f"{len(data) // 3}",
            hint="Programs that write explicit VR cut contours at 65534 bytes; export it as implicit VR.",
        )  # fmt: skip
    points = np.array(data).reshape(-1, 3) * (-1.0, -1.0, 1.0) + 0.0  # LPS to RAS
    if np.abs(points).max() > _FARTHEST:
        raise SourceCorruptError(
            where, expected=f"points within {_FARTHEST:g} mm", got=f"{np.abs(points).max():g}"
        )
    return Contour(item.text("ContourGeometricType"), points, inverse.apply(points), None)


def _slice(contour: Contour, item: Header, grid: ReferenceGrid) -> int | None:
    """The slice that a closed contour is drawn on, None where it lies in none."""
    named = (grid.slices.get(i.text("ReferencedSOPInstanceUID")) for i in item.items("ContourImageSequence"))
    at = next((n for n in named if n is not None), None)
    if at is None:
        at = round(contour.depth)
    if np.ptp(contour.voxels[:, 2]) > _FLAT or abs(contour.depth - at) > _HALF:
        return None
    return at if 0 <= at < grid.shape[2] else None


def _distinct(contours: tuple[Contour, ...]) -> tuple[Contour, ...]:
    """The contours, those not to be filled without a slice: farther planes of a slice, and repetitions.

    By the XOR of contours a repetition would erase what it repeats, and a plane close by nearly so.
    """
    nearest: dict[int, float] = {}
    for contour in contours:
        if contour.slice is not None:
            # rounded, so that of two planes as far apart from the slice always the lower is taken
            here, best = round(contour.depth - contour.slice, 4), nearest.get(contour.slice)
            if best is None or (abs(here), here) < (abs(best), best):
                nearest[contour.slice] = here
    seen: set[tuple[int, bytes]] = set()
    kept = []
    for contour in contours:
        if contour.slice is not None:
            key = contour.slice, canonical(contour.voxels[:, :2])
            if key in seen or abs(contour.depth - contour.slice - nearest[contour.slice]) > _FLAT / 2:
                contour = replace(contour, slice=None)
            else:
                seen.add(key)
        kept.append(contour)
    return tuple(kept)


def _whole(item: Header, keyword: str) -> int:
    found = item.numbers(keyword, 1)
    if found is None or not found[0].is_integer():
        raise SourceCorruptError(
            f"{item.name}, {keyword}", expected="a whole number", got=str(found or "nothing")
        )
    return int(found[0])


def _colour(item: Header) -> Rgba | None:
    """ROI Display Color; None where it is none. A colour is no reason to refuse contours."""
    words = item.words("ROIDisplayColor")
    if len(words) != 3 or not all(
        w.isascii() and w.isdigit() and len(w) <= 3 and int(w) <= 255 for w in words
    ):
        return None
    red, green, blue = map(int, words)
    return red, green, blue, 255
