"""This package: a study on Zarr, with each preset, and on TileDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radiobject import RadiObject, ReadConfig, WriteConfig, configure
from radiobject.format import catalog

from .serve import Box, Read

__all__ = ["Archive", "TileDb", "Zarr"]


class Zarr:
    """`Volume[...]` of a study on Zarr, preset "fast"; the cache of decoded chunks is off."""

    backend = "zarr"
    preset = "fast"

    def __init__(self, place: Path) -> None:
        self._place = place / "study"
        self._radi: RadiObject | None = None

    def store(self, files: dict[str, str]) -> None:
        images = {"image": [(path, name) for name, path in files.items()]}
        write = WriteConfig.preset(self.preset)
        RadiObject.from_niftis(self._place, images, backend=self.backend, write=write, progress=False)

    def open(self, name: str) -> Read:
        catalog._snapshots.clear()  # else a second opening would ask for nothing
        return self._reader(RadiObject(self._place), name)

    def among(self, name: str) -> Read:
        if self._radi is None:
            self._radi = RadiObject(self._place)
        return self._reader(self._radi, name)

    def _reader(self, radi: RadiObject, name: str) -> Read:
        volume = radi.image.loc[f"{name}_image"]

        def read(box: Box) -> Any:
            (x0, x1), (y0, y1), (z0, z1) = box
            return volume[x0:x1, y0:y1, z0:z1]

        with configure(read=ReadConfig(cache_bytes=0)):
            read(((0, 1),) * 3)  # the array keeps the configuration that it was opened with
        return read

    def kept(self) -> list[str]:
        return [str(self._place / "collections")]


class TileDb(Zarr):
    """The same study on TileDB."""

    backend = "tiledb"


class Archive(Zarr):
    """The same study with the preset "archive"."""

    preset = "archive"
