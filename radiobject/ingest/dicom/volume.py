"""DicomVolume: images that make one volume, to be decoded when it is written."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.format.layout import to_python
from radiobject.format.meta import Scaling, SourceInfo, VolumeMeta
from radiobject.ingest.dicom.frames import Member
from radiobject.ingest.dicom.pixels import dtype_of, read_frames
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.sources import Readable, file_states
from radiobject.ingest.unreadable import without_paths
from radiobject.writing.loaded import Loaded, from_voxels

__all__ = ["EXTRA", "DicomVolume"]

EXTRA = "dicom"
"""The name of the bytes beside the voxels that hold what a regular grid with one scaling does not say."""


@dataclass(frozen=True)
class DicomVolume(Readable):
    """One volume of a series; `window` is the display range of its first image, in scaled units."""

    arranged: Arranged
    window: tuple[float, float] | None = None

    @property
    def paths(self) -> list[str]:
        """Its files."""
        return list(dict.fromkeys(m.instance.path for row in self.arranged.members for m in row))

    @property
    def name(self) -> str:
        """What errors call it."""
        first, part = self.arranged.first.instance, self.arranged.part
        number = "" if first.series_number is None else f" {first.series_number}"
        return f"series{number}{', ' + part if part else ''} in {os.path.dirname(first.path)}"

    @property
    def shape(self) -> tuple[int, ...]:
        """(t,) z, y, x."""
        times, first = self.arranged.members, self.arranged.first
        pixels = first.instance.pixels
        side = int(np.ceil(np.sqrt(pixels.tiles))) if pixels.tiles else 1
        lead = (len(times),) if len(times) > 1 else ()
        return (*lead, len(times[0]), pixels.rows // side, pixels.columns // side)

    @property
    def identity(self) -> str:
        """Its series, and which volume of it."""
        return f"{self.arranged.first.instance.series_uid}/{self.arranged.key}"

    @property
    def spacing(self) -> tuple[str, ...]:
        """Along x, y, z in mm, as it is shown."""
        return tuple(f"{s:.4g}" for s in self.arranged.stack.affine.spacing)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return dtype_of(self._pixels)

    @property
    def fingerprint(self) -> str | None:
        """Tells whether a file changed between two runs."""
        return file_states(self.paths)

    def private(self, text: str) -> str:
        """An error's text without paths."""
        return without_paths(text, self.paths)

    @property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and intercept that all images have; None when they differ."""
        both = {(m.frame.slope, m.frame.inter) for row in self.arranged.members for m in row}
        return next(iter(both)) if len(both) == 1 else None

    @property
    def b_values(self) -> list[float] | None:
        """b-value of each time in s/mm2, None where none is said."""
        values = [row[0].frame.b_value for row in self.arranged.members]
        return None if all(v is None for v in values) else [0.0 if v is None else v for v in values]

    def load(self) -> Loaded:
        """Decode it. Integers stay as they are stored where one slope and intercept hold for all images;
        else values are scaled image by image, and become float32.

        Raises from the `SourceError` branch, and `MissingDependencyError` where a decoder is missing.
        """
        scaling = self.scaling
        kind = np.dtype(np.float32) if scaling is None else dtype_of(self._pixels)
        stored = np.empty((len(self.arranged.members), *self.shape[-3:]), kind)
        places: dict[str, list[tuple[int, int, Member]]] = defaultdict(list)
        for t, z, member in self._placed():
            places[member.instance.path].append((t, z, member))
        for path, members in places.items():
            self._read(path, members, stored)
        dims = ("t", "z", "y", "x") if len(stored) > 1 else ("z", "y", "x")
        extras = self._extras()
        meta = VolumeMeta(
            affine=self.arranged.stack.affine,
            dims=dims,
            scaling=None if scaling in (None, (1.0, 0.0)) else Scaling(*scaling),
            time_unit="s" if self.arranged.time_step else None,
            time_step=self.arranged.time_step,
            window=self.window,
            source=SourceInfo("dicom", file_axes=("x", "y", "z", "t")[: len(dims)], extras=tuple(extras)),
        )
        return from_voxels(to_python(stored.reshape(self.shape), dims), meta, self.name, extras)

    @property
    def _pixels(self) -> Any:
        return self.arranged.first.instance.pixels

    def _placed(self) -> list[tuple[int, int, Member]]:
        return [(t, z, m) for t, row in enumerate(self.arranged.members) for z, m in enumerate(row)]

    def _read(self, path: str, members: list[tuple[int, int, Member]], into: npt.NDArray[Any]) -> None:
        """The images of one file, scaled where they have scalings of their own."""
        pixels = members[0][2].instance.pixels
        if self.scaling is not None:
            read_frames(path, pixels, {m.frame.number: into[t, z] for t, z, m in members})
            return
        frames = {m.frame.number: np.empty(into.shape[-2:], dtype_of(pixels)) for _, _, m in members}
        read_frames(path, pixels, frames)
        for t, z, member in members:
            # in double precision, so that only the result is rounded
            into[t, z] = frames[member.frame.number] * np.float64(member.frame.slope) + member.frame.inter

    def _extras(self) -> dict[str, bytes]:
        """What affine and scaling do not say: slices that are not evenly spaced, scalings that differ."""
        said: dict[str, Any] = {}
        if not self.arranged.stack.regular:
            said["slice_distances"] = list(self.arranged.stack.distances)
        if self.scaling is None:
            said["slope"] = [[m.frame.slope for m in row] for row in self.arranged.members]
            said["inter"] = [[m.frame.inter for m in row] for row in self.arranged.members]
        gradients = [row[0].frame.gradient for row in self.arranged.members]
        if any(g is not None for g in gradients):
            said["b_values"] = self.b_values
            said["b_directions_ras"] = [None if g is None else [-g[0], -g[1], g[2]] for g in gradients]
        return {EXTRA: json.dumps(said).encode()} if said else {}
