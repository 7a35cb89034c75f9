"""RT structure sets (RTSTRUCT) as label volumes: closed contours, filled on the slices of their images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radiobject.errors import SourceUnsupportedError
from radiobject.format.meta import Label, SourceInfo, VolumeMeta
from radiobject.ingest.dicom.contours import fill
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.labelled import (
    LabelVolume,
    chosen_part,
    damage_named,
    label_dtype,
    label_volume,
    open_object,
)
from radiobject.ingest.dicom.structures import ReferenceGrid, Roi, read_rois

__all__ = ["RTSTRUCT_CLASSES", "ReferenceGrid", "read_rtstruct", "rtstruct_parts"]

RTSTRUCT_CLASSES = {"1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set Storage"}
"""SOP class of the objects that `read_rtstruct` reads."""

_log = logging.getLogger(__name__)


def read_rtstruct(
    path: str | os.PathLike[str], grid: ReferenceGrid, part: str | None = None
) -> list[LabelVolume]:
    """The label volumes of an RTSTRUCT file on the grid of its images.

    One volume where no two regions share a voxel, else one for each region that has closed contours. A
    contour is filled on the slice of the image that it refers to or, where it refers to none of these, on the
    nearest slice; `contours.fill` says which voxels belong. Where contours are drawn more closely than the
    images, those of the plane nearest to a slice are filled, and one that stands there twice counts once.

    Values are ROI numbers where all lie between 1 and 65535, else 1, 2, ... in the order of these numbers;
    names and colours are the regions'. `loaded.extras["rtstruct"]` keeps contours as JSON::

        {"rois": [{"number": 7, "name": "liver", "value": 7, "contours": [
            {"type": "CLOSED_PLANAR", "slice": 12, "points": [[x, y, z], ...]}, ...]}, ...]}

    with points in mm, RAS+; `slice` is null for a contour that is not filled, `value` for a region without
    closed contours. These regions, points and open contours are kept only there, in the first volume; a log
    line counts them.

    `part`, one of `rtstruct_parts`, reads that volume alone.

    Raises `SourceNotFoundError`, `SourceCorruptError`, `SourceUnsupportedError` (another kind of object,
    another frame of reference, no closed contours, contours that lie on no slice within half a slice
    spacing) or `SourceError`; `UnknownIdError` for a `part` that is not there.
    """
    with damage_named(path):
        structures = _structures(path, grid)
        parts = structures.parts()
        wanted = chosen_part(structures.header.name, list(parts), part)
        unfilled = sum(c.slice is None for roi in structures.rois for c in roi.contours)
        if unfilled:
            _log.warning(
                "%s: %d contours are kept, not filled (points, open, repeated, between slices)",
                structures.header.name,
                unfilled,
            )
        first = next(iter(parts))
        return [structures.volume(name, parts[name], leftovers=name == first) for name in wanted]


def rtstruct_parts(path: str | os.PathLike[str], grid: ReferenceGrid) -> tuple[str, ...]:
    """What `read_rtstruct` calls the volumes on this grid: ("",) for a single one. Errors as there."""
    with damage_named(path):
        return tuple(_structures(path, grid).parts())


@dataclass(frozen=True)
class _Structures:
    """An open structure set. `values` is the label value of each region that has closed contours."""

    header: Header
    grid: ReferenceGrid
    rois: list[Roi]
    values: dict[int, int]

    def parts(self) -> dict[str, list[Roi]]:
        """Regions by the name of the volume that they are in."""
        filled = [roi for roi in self.rois if roi.number in self.values]
        if len(filled) == 1 or not self._overlap(filled):
            return {"": filled}
        return {f"roi-{self.values[roi.number]}": [roi] for roi in filled}

    def _overlap(self, rois: Sequence[Roi]) -> bool:
        """Whether two regions share a voxel; slice by slice, those of one region are not filled for it."""
        shapes = [roi.polygons() for roi in rois]
        _, rows_columns = self._plane()
        for number in sorted({n for shape in shapes for n in shape}):
            here = [shape[number] for shape in shapes if number in shape]
            if len(here) == 1:
                continue
            taken = np.zeros(rows_columns, dtype=bool)
            for polygons in here:
                mine = fill(polygons, rows_columns)
                if (mine & taken).any():
                    return True
                taken |= mine
        return False

    def volume(self, part: str, rois: Sequence[Roi], *, leftovers: bool) -> LabelVolume:
        """The volume of these regions; with `leftovers`, the contours of those without volume come along."""
        depth, rows_columns = self._plane()
        values = [self.values[roi.number] for roi in rois]
        voxels = np.zeros((depth, *rows_columns), label_dtype(values))
        for roi, value in zip(rois, values, strict=True):
            for number, polygons in roi.polygons().items():
                voxels[number][fill(polygons, rows_columns)] = value
        kept = [roi for roi in self.rois if roi in rois or (leftovers and roi.number not in self.values)]
        source = SourceInfo("dicom-rtstruct")
        return label_volume(
            self.header.name,
            voxels,
            VolumeMeta(self.grid.affine, ("z", "y", "x"), "label", source=source),
            part=part,
            labels=[Label(value, roi.name, roi.rgba) for roi, value in zip(rois, values, strict=True)],
            header=self.header,
            extras={"rtstruct": self._contours(kept)},
        )

    def _plane(self) -> tuple[int, tuple[int, int]]:
        columns, rows, depth = self.grid.shape
        return depth, (rows, columns)

    def _contours(self, rois: Sequence[Roi]) -> bytes:
        said = [
            {
                "number": roi.number,
                "name": roi.name,
                "value": self.values.get(roi.number),
                "contours": [
                    {"type": c.kind, "slice": c.slice, "points": c.points.tolist()} for c in roi.contours
                ],
            }
            for roi in rois
        ]
        return json.dumps({"rois": said}, separators=(",", ":")).encode()


def _structures(path: str | os.PathLike[str], grid: ReferenceGrid) -> _Structures:
    header = open_object(path, RTSTRUCT_CLASSES, "an RT structure set")
    rois = read_rois(header, grid)
    filled = [roi.number for roi in rois if roi.polygons()]
    if not filled:
        raise SourceUnsupportedError(
            header.name,
            expected="closed contours",
            got=f"{len(rois)} regions without any",
            hint="Points and open contours have no volume.",
        )
    if not all(1 <= number <= 65535 for number in filled):
        return _Structures(header, grid, rois, {number: n for n, number in enumerate(filled, 1)})
    return _Structures(header, grid, rois, {number: number for number in filled})
