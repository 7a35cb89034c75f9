"""Doors: how what is in hand leaves for other libraries and files; each method is a front for a later room."""

from __future__ import annotations

import os
from typing import Any

from radiobject.format.layout import to_disk
from radiobject.model.voxels import Voxels
from radiobject.moved import known_as

__all__ = ["VolumeDoors"]


class VolumeDoors(Voxels):
    """A Volume as another library's object, or as a file."""

    __slots__ = ()

    def to_sitk(self) -> Any:
        """A `SimpleITK.Image` of the values that reads return; its world is LPS+ where ours is RAS+.

        Raises `MissingDependencyError` without SimpleITK.
        """
        from radiobject.export.sitk import to_sitk_image

        return to_sitk_image(self.meta, self.to_numpy())

    def to_nibabel(self) -> Any:
        """A `nibabel.Nifti1Image` (or Nifti2) with the values that reads return, affine and codes."""
        from radiobject.export.nifti import to_nibabel_image

        return to_nibabel_image(self.meta, self.to_numpy(), self.extra("nifti"))

    @known_as(file_path="path")
    def to_nifti(self, path: str | os.PathLike[str], compression: bool | None = None) -> None:
        """Write .nii, .nii.gz or a .hdr/.img pair, as the path says; `compression=True` adds a missing .gz.

        What came from NIfTI unchanged goes back byte for byte: stored integers, slope, both transforms and
        their codes, every header field and extension.
        """
        from radiobject.export.nifti import nifti_bytes, write_nifti

        if compression and not os.fspath(path).endswith(".gz"):
            path = f"{os.fspath(path)}.gz"
        meta = self.meta
        stored = to_disk(self.to_numpy(raw=True), meta.dims)
        beside = {name: self.extra(f"nifti_{name}") or b"" for name in ("lead", "tail")}
        write_nifti(path, nifti_bytes(meta, stored, self.extra("nifti"), **beside))
