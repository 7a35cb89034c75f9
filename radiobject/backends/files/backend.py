"""FilesBackend: volumes that stay in the files in which they were found. It registers and reads, and writes
no voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiobject.backends.base import (
    Backend,
    Capabilities,
    Level,
    StoredObject,
    StoredVolume,
    VolumeHandle,
    VolumeWriter,
)
from radiobject.backends.files.changed import SourceFiles
from radiobject.backends.files.manifest import MANIFEST, Description, Manifest, hint_of, parse_hint
from radiobject.backends.files.source import Source
from radiobject.backends.files.volume import FilesHandle, read_manifest
from radiobject.errors import CapabilityError, FormatError, StudyExistsError
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["FilesBackend"]


class FilesBackend:
    """Volumes registered where they lie. What it keeps of each is a document, and bytes such as a header.

    Source files are named relative to `location.source_root`. A collection may have volumes elsewhere as
    well, such as those that were converted: a path of another suffix is opened by the backend of that name.

    >>> FilesBackend(Location("/data/study")).source_root.uri
    '/data'
    """

    name = "files"
    suffix = ".files"
    capabilities = Capabilities(persistent=True, sharding=False)

    def __init__(self, location: Location) -> None:
        self.location = location
        self.storage = Storage(location)
        self._others: dict[str, Backend] = {}

    @property
    def source_root(self) -> Location:
        """Where paths of source files begin."""
        return self.location.source_root

    def register_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
        source: Source,
        ranges: Mapping[str, tuple[int, int, int]] | None = None,
        layout_sha256: str | None = None,
    ) -> StoredVolume:
        """Make the volume at `path` that lies in `source`: write what is kept beside it, its document last.

        `ranges` names extras that are parts of source files: (number of the member, first byte, bytes);
        `layout_sha256` covers what a layout says of the volume besides its files.

        Raises `StudyExistsError` when the path holds a volume, `FormatError` for a source that is none of
        these levels, and attributes that are no JSON.
        """
        where = f"{self.location.uri}/{path}"
        if self.storage.size(f"{path}/{MANIFEST}") is not None:
            raise StudyExistsError(where, expected="a free path", got="a volume", hint="Paths are used once.")
        objects = {name: StoredObject.of(f"extras/{name}", bytes(data)) for name, data in extras.items()}
        described = {name: (made.bytes, made.crc32c) for name, made in objects.items()}
        description = Description(tuple(levels), described, source, dict(ranges or {}), layout_sha256)
        description.check(where)
        document = Manifest(description, dict(attrs)).to_bytes(f"{where}/{MANIFEST}")
        for name, data in extras.items():
            self.storage.write(f"{path}/extras/{name}", bytes(data))
        self.storage.write(f"{path}/{MANIFEST}", document)
        return StoredVolume(hint_of(description), (*objects.values(), StoredObject.of(MANIFEST, document)))

    @classmethod
    def holds(cls, path: str) -> bool:
        """Whether the volume at that path lies in source files, whatever else its collection has.

        >>> FilesBackend.holds("T1w/a/0f.files"), FilesBackend.holds("T1w/a/0f.ome.zarr")
        (True, False)
        """
        return path.endswith(cls.suffix)

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter:
        """Raises `CapabilityError`: voxels are written on other backends."""
        raise CapabilityError(
            f"{self.location.uri}/{path}",
            expected="a backend that stores voxels",
            got="'files', which reads them where they lie",
            hint='Pass backend="zarr", or register files by copy=False.',
        )

    def open_volume(self, path: str, hint: str | None = None) -> VolumeHandle:
        """A lazy handle; without a hint the volume's document is read now (MissingObjectError)."""
        other = self._other(path)
        if other is not None:
            return other.open_volume(path, hint)
        files = SourceFiles(self.source_root)
        if hint is None:
            manifest = read_manifest(self.storage, path)
            return FilesHandle(self.storage, files, path, manifest.description, manifest)
        return FilesHandle(self.storage, files, path, parse_hint(hint))

    def delete_volume(self, path: str) -> None:
        """Remove what is kept of the volume, its document first. Source files are not touched."""
        if not path:
            raise FormatError("path", expected="the path of a volume", got="none")
        other = self._other(path)
        if other is not None:
            other.delete_volume(path)
            return
        self.storage.delete(f"{path}/{MANIFEST}")
        self.storage.delete_tree(path)

    def _other(self, path: str) -> Backend | None:
        """The backend of a volume that is not registered but stored."""
        from radiobject.backends import backend_of_name, get_backend

        if self.holds(path):
            return None
        name = backend_of_name(path)
        if name is None or name == self.name:
            return None
        if name not in self._others:
            self._others[name] = get_backend(name, self.location)
        return self._others[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location,)

    def __repr__(self) -> str:
        return f"FilesBackend({self.location.uri!r})"
