"""Items: label objects, and what cannot be read, as sources that an ingest takes."""

from __future__ import annotations

from dataclasses import dataclass

from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.labelled import LabelVolume, on_grid
from radiobject.ingest.dicom.rtstruct import ReferenceGrid, read_rtstruct
from radiobject.ingest.dicom.seg import read_seg
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.dicom.volume import fingerprint_of
from radiobject.ingest.sources import Readable
from radiobject.ingest.unreadable import without_paths
from radiobject.writing.loaded import Loaded

__all__ = ["Labels", "reference_grid"]


@dataclass(frozen=True)
class Labels(Readable):
    """One volume of a SEG or RTSTRUCT file. `grid` is that of its images: an RTSTRUCT is drawn on it, a SEG
    is filled up to it where both have their voxels in the same places."""

    path: str
    part: str
    grid: ReferenceGrid | None
    drawn: bool
    """Whether it is an RTSTRUCT."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.path}{', ' + self.part if self.part else ''}"

    @property
    def fingerprint(self) -> str | None:
        """Tells whether the file changed between two runs."""
        return fingerprint_of([self.path])

    def private(self, text: str) -> str:
        """An error's text without paths."""
        return without_paths(text, [self.path])

    def load(self) -> Loaded:
        """Read it; errors are those of `read_seg` and `read_rtstruct`."""
        found: LabelVolume | None
        if self.drawn:
            assert self.grid is not None
            (found,) = read_rtstruct(self.path, self.grid, self.part)
            return found.loaded
        (found,) = read_seg(self.path, self.part)
        whole = None if self.grid is None else on_grid(found, self.grid.affine, self.grid.shape)
        return (whole or found).loaded


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
