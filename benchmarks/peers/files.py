"""NIfTI files where they lie, read by nibabel: compressed, compressed with an index, and uncompressed."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np

from .serve import Alone, Read, slices

__all__ = ["Compressed", "Indexed", "Plain"]


class Compressed(Alone):
    """nibabel on the .nii.gz: it inflates from the start of the file to the last voxel that is asked for."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files: dict[str, str] = {}

    def store(self, files: dict[str, str]) -> None:
        self._files = files

    def open(self, name: str) -> Read:
        voxels = nibabel.load(self._files[name]).dataobj
        return lambda box: np.asarray(voxels[slices(box)])

    def kept(self) -> list[str]:
        return list(self._files.values())


class Indexed(Compressed):
    """The same with indexed_gzip: once the file has been read to its end, reads begin at the nearest mark."""

    def open(self, name: str) -> Read:
        import indexed_gzip  # noqa: F401 - nibabel uses it when it is there; this says so when it is not

        voxels = nibabel.load(self._files[name], keep_file_open=True).dataobj
        return lambda box: np.asarray(voxels[slices(box)])


class Plain(Alone):
    """nibabel on the .nii, mapped into memory."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def store(self, files: dict[str, str]) -> None:
        for name, path in files.items():
            with gzip.open(path) as source, self._file(name).open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)

    def open(self, name: str) -> Read:
        voxels = nibabel.load(self._file(name)).dataobj
        return lambda box: np.array(voxels[slices(box)])

    def kept(self) -> list[str]:
        return [str(self._place)]

    def _file(self, name: str) -> Path:
        return self._place / f"{name}.nii"
