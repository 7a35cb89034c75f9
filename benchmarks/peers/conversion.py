"""ngff-zarr: NIfTI to an OME-Zarr 0.5 image of one level; a converter, so it is not asked for boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ngff_zarr
import nibabel

from .serve import Alone, Read

__all__ = ["NgffZarr"]


class NgffZarr(Alone):
    """Its own chunks and compressor, version 0.5."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def store(self, files: dict[str, str]) -> None:
        for name, path in files.items():
            image = ngff_zarr.nibabel_image_to_ngff_image(nibabel.load(path))
            levels: Any = ngff_zarr.to_multiscales(image, scale_factors=[], cache=False)
            ngff_zarr.to_ngff_zarr(str(self._place / f"{name}.ome.zarr"), levels, version="0.5")

    def open(self, name: str) -> Read:
        raise NotImplementedError("ngff-zarr converts")

    def kept(self) -> list[str]:
        return [str(self._place)]
