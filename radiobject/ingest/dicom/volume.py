"""DicomVolume: images that make one volume, to be decoded when it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from radiobject.format.layout import to_python
from radiobject.format.meta import Scaling, SourceInfo, VolumeMeta
from radiobject.ingest.dicom.in_place import in_place
from radiobject.ingest.dicom.pixels import dtype_of
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.dicom.stacking import common_scaling, shape_of, stacked
from radiobject.ingest.sources import Readable, file_states
from radiobject.ingest.unreadable import without_paths
from radiobject.writing.in_place import InPlace
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
        return shape_of(self.arranged.members)

    @property
    def dims(self) -> tuple[str, ...]:
        """Their names."""
        return ("t", "z", "y", "x")[-len(self.shape) :]

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
        return dtype_of(self.arranged.first.instance.pixels)

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
        return common_scaling(self.arranged.members)

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
        stored = stacked(self.arranged.members, scaled=self.scaling is None)
        meta, extras = self.described()
        return from_voxels(to_python(stored, self.dims), meta, self.name, extras)

    def in_place(self, relative: Callable[[str], str]) -> InPlace:
        """As it lies in its files, of which no pixel is read."""
        meta, extras = self.described()
        return in_place(self.arranged.members, meta, extras, self.name, relative)

    def described(self) -> tuple[VolumeMeta, dict[str, bytes]]:
        """What is said of it, and the bytes beside its voxels: all from headers."""
        extras, scaling, step = self._extras(), self.scaling, self.arranged.time_step
        axes = ("x", "y", "z", "t")[: len(self.dims)]
        meta = VolumeMeta(
            affine=self.arranged.stack.affine,
            dims=self.dims,
            scaling=None if scaling in (None, (1.0, 0.0)) else Scaling(*scaling),
            time_unit="s" if step else None,
            time_step=step,
            window=self.window,
            source=SourceInfo("dicom", file_axes=axes, extras=tuple(extras)),
        )
        return meta, extras

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
