"""FilesHandle: reads one volume where it lies, in files that its study does not own."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import MAX_DOCUMENT, ArraySpec, Level
from radiobject.backends.files.changed import SourceFiles
from radiobject.backends.files.decoded import kept
from radiobject.backends.files.manifest import MANIFEST, Description, Manifest, hint_of, parse_hint
from radiobject.backends.files.reading import Decoded, decode, read_frames
from radiobject.backends.files.source import Member, Source, Whole
from radiobject.errors import CapabilityError, CorruptObjectError, MissingObjectError, SourceChangedError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = ["FilesHandle", "read_manifest"]


def read_manifest(storage: Storage, path: str) -> Manifest:
    """The manifest of the volume at a path."""
    key = f"{path}/{MANIFEST}"
    return Manifest.from_bytes(storage.read(key, MAX_DOCUMENT), f"{storage.location.uri}/{key}")


class FilesHandle:
    """Reads one volume; its files are held against what was registered when they are read.

    Voxels that lie bare are read in part. Others are decoded at the first read, and kept in the memory of
    this process (`radiobject.backends.files.decoded`).
    """

    def __init__(
        self,
        storage: Storage,
        files: SourceFiles,
        path: str,
        description: Description,
        manifest: Manifest | None = None,
    ) -> None:
        self._storage, self._files, self._path = storage, files, path
        self._said, self._manifest = description, manifest
        self._opened = False

    @property
    def levels(self) -> tuple[Level, ...]:
        """One resolution: that of the files."""
        return self._said.levels

    @property
    def spec(self) -> ArraySpec:
        """The array; its chunks are those that it would be stored with."""
        return self._said.levels[0].spec

    @property
    def source(self) -> Source:
        """Which files the voxels lie in."""
        return self._said.source

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes that the volume was registered with."""
        return copy.deepcopy(dict(self._known().attrs))

    @property
    def uri(self) -> str:
        """Place of the volume in its study; its voxels lie elsewhere."""
        return f"{self._storage.location.uri}/{self._path}"

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """The voxels of `box` in disk order; see `VolumeHandle.read`."""
        if level != 0:
            raise CapabilityError(f"level of {self.uri}", expected="0 to 0", got=str(level))
        spec, source = self.spec, self._said.source
        spec.check(box)
        if 0 in box.shape:
            return np.empty(box.shape, spec.dtype)
        if isinstance(source, Whole):
            block = self._decoded(source).voxels[box.slices].copy(order="C")
        elif box == spec.box:
            with self._files.unchanged(source.members, fresh=False):
                block = read_frames(self._files, source, box)
        else:
            block = read_frames(self._files, source, box)
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
            measuring.add("volumes_opened", 0 if self._opened else 1)
        self._opened = True
        return block

    def extra(self, name: str) -> bytes:
        """The bytes beside the voxels under that name; MissingObjectError when the volume has none."""
        if name in self._said.ranges:
            member, start, length = self._said.ranges[name]
            return self._files.read_range(self._said.source.members[member], start, start + length)
        if name in self._said.extras:
            return self._object(name)
        if isinstance(self._said.source, Whole):
            found = self._decoded(self._said.source).extras
            if name in found:
                return found[name]
        known = sorted({*self._said.extras, *self._said.ranges})
        raise MissingObjectError(f"extra {name!r} of {self.uri}", expected=f"one of {known}", got="no such")

    def native(self) -> npt.NDArray[Any]:
        """All voxels as a read-only array in disk order.

        They are read and checked now, as by `read`: a map of a file that is cut short ends the process.
        """
        source = self._said.source
        if isinstance(source, Whole):
            return self._decoded(source).voxels
        found = self.read(self.spec.box)
        found.flags.writeable = False
        return found

    def check_source(self) -> None:
        """Hold every source file against what was registered, and the row's hint against the volume.

        Reads heads of files, no voxels. Raises from the `IntegrityError` branch, or `FormatError`.
        """
        self._known()
        self._files.require(self._said.source.members, fresh=True)

    def fetch(self, extras: Iterable[str], *, hashed: bool = False) -> Decoded:
        """All voxels and those extras, read anew and kept nowhere: for whoever stores them elsewhere.

        `hashed` asks for the digest of voxels that lie bare, too; their files are then read once, as a whole.
        A store is asked for its files before and afterwards, whatever it has answered lately.
        """
        with self._files.unchanged(self._said.source.members):
            return self._fetched(extras, hashed)

    def _fetched(self, extras: Iterable[str], hashed: bool) -> Decoded:
        source, digest, beside = self._said.source, None, Decoded(np.empty(0), {})
        if isinstance(source, Whole):
            beside = self._fitting(decode(self._files, source, self.uri))
            voxels, digest = beside.voxels, beside.digest
        elif hashed:
            first, *header = (self._files.read(member) for member in source.members)
            content = hashlib.sha256(self.extra("nifti") if header and "nifti" in self._said.extras else b"")
            content.update(first)
            voxels, digest = read_frames(_Held(first), source, self.spec.box), content.hexdigest()
        else:
            voxels = read_frames(self._files, source, self.spec.box)
        found = {name: beside.extras[name] if name in beside.extras else self.extra(name) for name in extras}
        return Decoded(voxels, found, digest)

    def _object(self, name: str) -> bytes:
        size, crc = self._said.extras[name]
        key = f"{self._path}/extras/{name}"
        data = self._storage.read(key, size) if size else b""
        if len(data) != size or google_crc32c.value(data) != crc:
            raise CorruptObjectError(
                f"{self.uri}/extras/{name}",
                expected=f"{size} bytes and their crc32c",
                got=f"{len(data)} bytes",
                hint="Restore the object or register the volume again.",
            )
        return data

    def _decoded(self, source: Whole) -> Decoded:
        return self._fitting(kept.get(self._files, source, self.uri))

    def _fitting(self, found: Decoded) -> Decoded:
        spec, source = self.spec, self._said.source
        if (found.voxels.shape, found.voxels.dtype) != (spec.shape, spec.dtype):
            raise SourceChangedError(
                f"{self._files.root.uri}/{source.members[0].path}",
                expected=f"{spec.dtype} voxels of shape {spec.shape}, as its header said",
                got=f"{found.voxels.dtype} {found.voxels.shape}",
            )
        return found

    def _known(self) -> Manifest:
        if self._manifest is None:
            manifest = read_manifest(self._storage, self._path)
            if manifest.description != self._said:
                raise CorruptObjectError(
                    self.uri, expected="the files that its row names", got="a manifest that names others"
                )
            self._manifest = manifest
        return self._manifest

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._storage, self._files, self._path, hint_of(self._said))

    def __repr__(self) -> str:
        return f"FilesHandle({self.uri!r})"


class _Held(SourceFiles):
    """The first file of a volume, which was read as a whole and is the registered one."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    @property
    def is_local(self) -> bool:
        return False

    def require(self, members: Sequence[Member], *, fresh: bool = False) -> None:
        pass

    def read_range(self, member: Member, start: int, stop: int) -> Any:
        return self._data[start:stop]


def _reopen(storage: Storage, files: SourceFiles, path: str, hint: str) -> FilesHandle:
    return FilesHandle(storage, files, path, parse_hint(hint))
