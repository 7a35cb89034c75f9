"""Items: label objects, and what cannot be read, as sources that an ingest takes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace

from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.labelled import on_grid
from radiobject.ingest.dicom.rtstruct import ReferenceGrid, read_rtstruct
from radiobject.ingest.dicom.seg import read_seg
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.sources import Readable, file_states
from radiobject.ingest.unreadable import without_paths
from radiobject.writing.loaded import Loaded

__all__ = ["Labels", "reference_grid"]


@dataclass(frozen=True)
class Labels(Readable):
    """One volume of a SEG or RTSTRUCT file. `grid` is that of its images: an RTSTRUCT is drawn on it, a SEG
    is filled up to it where both have their voxels in the same places. Names of labels that match `hidden`
    name somebody, and are left out."""

    path: str
    part: str
    grid: ReferenceGrid | None
    contours: bool
    """Whether it is an RTSTRUCT."""

    hidden: re.Pattern[str] | None = None

    drawn = True

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.path}{', ' + self.part if self.part else ''}"

    @property
    def fingerprint(self) -> str | None:
        """Tells whether the file, or the grid of its images, changed between two runs."""
        files = file_states([self.path])
        if files is None or self.grid is None:
            return files
        grid = f"{files}{self.grid.affine.matrix.tolist()}{self.grid.shape}{sorted(self.grid.slices.items())}"
        return hashlib.sha256(grid.encode()).hexdigest()

    def private(self, text: str) -> str:
        """An error's text without paths and names."""
        text = without_paths(text, [self.path])
        return text if self.hidden is None else self.hidden.sub("(left out)", text)

    def load(self) -> Loaded:
        """Read it; errors are those of `read_seg` and `read_rtstruct`."""
        if self.contours:
            assert self.grid is not None
            (found,) = read_rtstruct(self.path, self.grid, self.part)
            return self._unnamed(found.loaded)
        (found,) = read_seg(self.path, self.part)
        whole = None if self.grid is None else on_grid(found, self.grid.affine, self.grid.shape)
        return self._unnamed((whole or found).loaded)

    def _unnamed(self, loaded: Loaded) -> Loaded:
        """The same, with "region 3" for a label 3 whose name holds a person's name, id or date."""
        if self.hidden is None:
            return loaded
        labels = tuple(
            replace(label, name=f"region {label.value}") if self.hidden.search(label.name) else label
            for label in loaded.meta.labels
        )
        extras = dict(loaded.extras)
        if "rtstruct" in extras:
            said = json.loads(extras["rtstruct"])
            for roi in said["rois"]:
                if self.hidden.search(roi["name"]):
                    roi["name"] = f"region {roi['number']}"
            extras["rtstruct"] = json.dumps(said).encode()
        return replace(loaded, meta=replace(loaded.meta, labels=labels), extras=extras)


def reference_grid(arranged: Arranged) -> ReferenceGrid:
    """The grid of a volume, and which slice each of its images is."""
    first = arranged.members[0]
    pixels = first[0].instance.pixels
    single = all(m.instance.pixels.frames == 1 and not m.instance.pixels.tiles for m in first)
    return ReferenceGrid(
        affine=Affine(arranged.stack.affine.matrix),
        shape=(pixels.columns, pixels.rows, len(first)),
        slices={m.instance.sop_uid: z for row in arranged.members for z, m in enumerate(row)}
        if single
        else {},
        frame_of_reference_uid=first[0].instance.frame_of_reference_uid or None,
    )
