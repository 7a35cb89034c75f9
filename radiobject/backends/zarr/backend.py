"""ZarrBackend: volumes as OME-Zarr images below one location."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiobject.backends.base import Capabilities, Level, VolumeHandle, VolumeWriter
from radiobject.backends.zarr.engine import CHOICES, Choice
from radiobject.backends.zarr.metadata import parse_hint
from radiobject.backends.zarr.volume import ZarrHandle, read_volume
from radiobject.backends.zarr.writer import ZarrWriter
from radiobject.errors import ConfigError, FormatError, StudyExistsError
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["ZarrBackend"]


class ZarrBackend:
    """Zarr v3 with sharding, one OME-Zarr image per volume.

    `engine`: "tensorstore" (local disk, S3, HTTP), "zarr-python" (any fsspec URL), or "auto", the former
    where it can express the place and may run in this process, the latter everywhere else.

    >>> ZarrBackend(Location("/data/study")).suffix
    '.ome.zarr'
    """

    name = "zarr"
    suffix = ".ome.zarr"
    capabilities = Capabilities(persistent=True, sharding=True)

    def __init__(self, location: Location, engine: Choice = "auto") -> None:
        if engine not in CHOICES:
            raise ConfigError("engine", expected=f"one of {', '.join(CHOICES)}", got=repr(engine))
        self.location = location
        self.engine: Choice = engine
        self.storage = Storage(location)

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter:
        """A writer of a new volume; StudyExistsError when the path holds one."""
        writer = ZarrWriter(self, path, levels, attrs, extras)
        if self.storage.size(f"{path}/zarr.json") is not None:
            raise StudyExistsError(
                f"{self.location.uri}/{path}",
                expected="a free path",
                got="a volume",
                hint="Paths are used once.",
            )
        return writer

    def open_volume(self, path: str, hint: str | None = None) -> VolumeHandle:
        """A lazy handle; without a hint the volume's zarr.json is read now (MissingObjectError)."""
        if hint is None:
            return read_volume(self, path)
        return ZarrHandle(self, path, parse_hint(hint))

    def delete_volume(self, path: str) -> None:
        """Remove the volume; its zarr.json goes first, so that no half of it can be opened."""
        if not path:
            raise FormatError("path", expected="the path of a volume", got="none")
        self.storage.delete(f"{path}/zarr.json")
        self.storage.delete_tree(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location, self.engine)

    def __repr__(self) -> str:
        return f"ZarrBackend({self.location.uri!r}, engine={self.engine!r})"
