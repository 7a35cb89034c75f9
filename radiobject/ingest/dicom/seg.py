"""DICOM Segmentation objects (SEG) as label volumes, on the grid of their own frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.format.meta import Label, SourceInfo, VolumeMeta
from radiobject.ingest.dicom.colours import cielab_rgba
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.labelled import (
    LabelVolume,
    chosen_part,
    damage_named,
    label_dtype,
    label_volume,
    named_text,
    open_object,
)
from radiobject.ingest.dicom.planes import PlaneGrid, plane_grid
from radiobject.ingest.dicom.segframes import Frames

__all__ = ["SEG_CLASSES", "read_seg", "seg_parts"]

SEG_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}
"""SOP classes of the objects that `read_seg` reads."""

_log = logging.getLogger(__name__)
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


def read_seg(path: str | os.PathLike[str], part: str | None = None) -> list[LabelVolume]:
    """The volumes of a SEG file: one where no two segments share a voxel, else one for each segment.

    Voxels (z, y, x) lie where the frames say, never resampled; planes without a frame are background. Values
    are segment numbers, with the segments' names and colours. BINARY and LABELMAP become volumes of kind
    "label"; the missing planes of a LABELMAP hold its Pixel Padding Value where it states one, else 0.
    FRACTIONAL becomes one float32 volume of kind "image" for each segment, from 0 to 1 (stored value over
    Maximum Fractional Value, PS3.3 C.8.20.2.3), and a log line says so.

    `part`, one of `seg_parts`, reads that volume alone.

    Raises `SourceNotFoundError`, `SourceCorruptError`, `SourceUnsupportedError` (another kind of object,
    frames that are no slices of one grid) or `SourceError`; `MissingDependencyError` where no decoder is
    installed for compressed frames; `UnknownIdError` for a `part` that is not there.
    """
    with damage_named(path):
        seg = _open(path)
        parts = seg.parts()
        wanted = chosen_part(seg.header.name, list(parts), part)
        if seg.kind == "FRACTIONAL":
            _log.warning("%s is fractional: %d float32 image(s), no labels", seg.header.name, len(wanted))
        return [seg.volume(name, parts[name]) for name in wanted]


def seg_parts(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """What `read_seg` calls the volumes of this file: ("",) for a single one. Errors as `read_seg`."""
    with damage_named(path):
        return tuple(_open(path).parts())


@dataclass(frozen=True)
class _Seg:
    """An open SEG. `segment` is the segment of each frame, empty for a LABELMAP."""

    header: Header
    kind: str
    frames: Frames
    grid: PlaneGrid
    labels: dict[int, Label]
    segment: tuple[int, ...]

    def parts(self) -> dict[str, list[int]]:
        """Segments by the name of the volume that they are in."""
        together = self.kind == "LABELMAP" or (self.kind == "BINARY" and not self._overlap())
        present = sorted(set(self.segment))
        if together or len(present) == 1:
            return {"": sorted(self.labels) if together else present}
        empty = len(self.labels) - len(present)
        if empty:
            _log.info("%s: %d segments have no frame and make no volume", self.header.name, empty)
        return {f"segment-{n}": [n] for n in present}

    def _overlap(self) -> bool:
        """Whether two segments share a voxel; of each plane the frames are read only where there are two."""
        order = sorted(range(self.frames.count), key=self.grid.plane.__getitem__)
        for _, group in groupby(order, key=self.grid.plane.__getitem__):
            indices = list(group)
            if len(indices) == 1:
                continue
            taken = np.zeros((self.frames.rows, self.frames.columns), dtype=bool)
            for array in self.frames.read(indices):
                mine = array != 0
                if (mine & taken).any():
                    return True
                taken |= mine
        return False

    def volume(self, part: str, segments: Sequence[int]) -> LabelVolume:
        """The volume of these segments, filled frame by frame."""
        name = self.header.name
        wanted = set(segments)
        indices = [i for i in range(self.frames.count) if not self.segment or self.segment[i] in wanted]
        dtype, fill, divisor = label_dtype(segments), 0, 0
        if self.kind == "FRACTIONAL":
            dtype, divisor = np.dtype("f4"), self._most()
        elif self.kind == "LABELMAP":
            dtype, fill = self.frames.dtype, self.header.count("PixelPaddingValue") or 0
        voxels = np.zeros((self.grid.count, self.frames.rows, self.frames.columns), dtype)
        if fill:
            voxels[:] = fill
        for index, array in zip(indices, self.frames.read(indices), strict=True):
            plane = voxels[self.grid.plane[index]]
            if self.kind == "LABELMAP":
                plane[:] = array
            elif divisor:
                np.divide(array, divisor, out=plane, dtype=dtype)
            elif array.max() > 1:
                raise SourceCorruptError(name, expected="0 and 1 in a binary frame", got=str(array.max()))
            else:
                plane[array != 0] = self.segment[index]
        meta = VolumeMeta(
            self.grid.affine, ("z", "y", "x"), "image" if divisor else "label", source=SourceInfo("dicom-seg")
        )
        labels = [self.labels[n] for n in segments]
        return label_volume(name, voxels, meta, part=part, labels=labels, header=self.header)

    def _most(self) -> int:
        most = self.header.count("MaximumFractionalValue")
        if not most:
            raise SourceCorruptError(
                f"{self.header.name}, MaximumFractionalValue", expected="a number above zero", got=str(most)
            )
        return most


def _open(path: str | os.PathLike[str]) -> _Seg:
    header = open_object(path, SEG_CLASSES, "a DICOM segmentation")
    kind = header.text("SegmentationType")
    if kind not in _KINDS:
        raise SourceUnsupportedError(
            f"{header.name}, SegmentationType", expected=" or ".join(_KINDS), got=kind or "nothing"
        )
    frames = Frames.of(header)
    groups = header.items("PerFrameFunctionalGroupsSequence")
    if len(groups) != frames.count:
        raise SourceCorruptError(
            f"{header.name}, PerFrameFunctionalGroupsSequence",
            expected=f"an item for each of {frames.count} frames",
            got=f"{len(groups)}",
        )
    labels = _labels(header)
    segment = () if kind == "LABELMAP" else _segments(header, groups, labels)
    grid = plane_grid(header, groups, frames.rows, frames.columns)
    keys = list(zip(grid.plane, segment, strict=True)) if segment else list(grid.plane)
    if len(set(keys)) != len(keys):
        raise SourceUnsupportedError(
            header.name,
            expected="one frame for each segment and plane",
            got=f"{len(keys) - len(set(keys))} more",
            hint="Segmentations over time are not volumes; store each time point as an object of its own.",
        )
    return _Seg(header, kind, frames, grid, labels, segment)


def _labels(header: Header) -> dict[int, Label]:
    """Names and colours by segment number (PS3.3 C.8.20.4)."""
    labels: dict[int, Label] = {}
    for item in header.items("SegmentSequence"):
        number = item.count("SegmentNumber")
        if number is None or number in labels:
            raise SourceCorruptError(
                f"{header.name}, SegmentNumber",
                expected="a number of its own for each segment",
                got=str(number),
            )
        colour = item.binary("RecommendedDisplayCIELabValue", "US")
        rgba = cielab_rgba(colour) if colour and len(colour) == 3 else None
        labels[number] = Label(number, named_text(header, item, "SegmentLabel") or f"segment {number}", rgba)
    return labels


def _segments(header: Header, groups: Sequence[Header], labels: dict[int, Label]) -> tuple[int, ...]:
    """The segment of each frame, from its own functional group or from the shared one."""
    shared = header.item("SharedFunctionalGroupsSequence")
    found = []
    for group in groups:
        item = group.item("SegmentIdentificationSequence") or (
            shared and shared.item("SegmentIdentificationSequence")
        )
        number = item.count("ReferencedSegmentNumber") if item else None
        if number not in labels or not number:
            raise SourceCorruptError(
                f"{header.name}, ReferencedSegmentNumber",
                expected=f"one of the {len(labels)} segments that the file describes",
                got=str(number),
            )
        found.append(number)
    return tuple(found)
