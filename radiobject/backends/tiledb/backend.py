"""TileDBBackend: each volume a folder of dense arrays, and a manifest, written last, that makes it one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiobject.backends.base import Capabilities, Level, VolumeHandle, VolumeWriter
from radiobject.backends.tiledb.context import array_uri
from radiobject.backends.tiledb.manifest import MANIFEST, parse_hint
from radiobject.backends.tiledb.volume import TileDBHandle, read_manifest
from radiobject.backends.tiledb.writer import TileDBWriter
from radiobject.errors import FormatError, StudyExistsError
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["TileDBBackend"]


class TileDBBackend:
    """Dense arrays (t, c,) z, y, x with one attribute: each shard a fragment, each tile with its SHA-256.

    Local disks and S3 are read by libtiledb, other places are `CapabilityError`. Arrays are made in a
    temporary folder and go out as bytes, so that writing, like every other backend's, passes through
    `Storage`.

    >>> TileDBBackend(Location("/data/study")).suffix
    '.tdb'
    """

    name = "tiledb"
    suffix = ".tdb"
    capabilities = Capabilities(persistent=True, sharding=False)

    def __init__(self, location: Location) -> None:
        array_uri(location, "")  # a place that TileDB cannot read is refused before anything is written there
        self.location = location
        self.storage = Storage(location)

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter:
        """A writer of a new volume; StudyExistsError when the path holds one."""
        writer = TileDBWriter(self.storage, path, levels, attrs, extras)
        if self.storage.size(f"{path}/{MANIFEST}") is not None:
            raise StudyExistsError(
                f"{self.location.uri}/{path}",
                expected="a free path",
                got="a volume",
                hint="Paths are used once.",
            )
        return writer

    def open_volume(self, path: str, hint: str | None = None) -> VolumeHandle:
        """A lazy handle; without a hint the manifest is read now (MissingObjectError)."""
        if hint is None:
            manifest = read_manifest(self.storage, path)
            return TileDBHandle(self.storage, path, manifest.levels, manifest.extras, manifest)
        return TileDBHandle(self.storage, path, *parse_hint(hint))

    def delete_volume(self, path: str) -> None:
        """Remove the volume; its manifest goes first, so that no half of it can be opened."""
        if not path:
            raise FormatError("path", expected="the path of a volume", got="none")
        self.storage.delete(f"{path}/{MANIFEST}")
        self.storage.delete_tree(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location,)

    def __repr__(self) -> str:
        return f"TileDBBackend({self.location.uri!r})"
