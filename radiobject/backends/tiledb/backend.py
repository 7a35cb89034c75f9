"""TileDBBackend: each volume a folder of dense arrays, and a manifest, written last, that makes it one."""

from __future__ import annotations

import copy
import math
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import (
    ArraySpec,
    Capabilities,
    Level,
    StoredObject,
    StoredVolume,
    VolumeHandle,
    VolumeWriter,
)
from radiobject.backends.tiledb.arrays import commits_of, create_array, finished_files, write_block
from radiobject.backends.tiledb.context import array_uri, context_for, engine, mapped
from radiobject.backends.tiledb.manifest import Manifest, hint_of, parse_hint
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    StudyExistsError,
)
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["TileDBBackend"]

_MANIFEST = "volume.json"


class TileDBBackend:
    """Dense arrays (t, c,) z, y, x with one attribute: each shard a fragment, each tile with its SHA-256.

    Local disks and S3 are read by libtiledb; arrays are made in a temporary folder and go out as bytes, so
    that writing, like every other backend's, passes through `Storage`.

    >>> TileDBBackend(Location("/data/study")).suffix
    '.tdb'
    """

    name = "tiledb"
    suffix = ".tdb"
    capabilities = Capabilities(persistent=True, sharding=False)

    def __init__(self, location: Location) -> None:
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
        array_uri(self.location, path)  # what TileDB could not read again is not written
        writer = _Writer(self, path, levels, attrs, extras)
        if self.storage.size(f"{path}/{_MANIFEST}") is not None:
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
            manifest = read_manifest(self, path)
            return TileDBHandle(self, path, manifest.levels, manifest.extras, manifest)
        return TileDBHandle(self, path, *parse_hint(hint))

    def delete_volume(self, path: str) -> None:
        """Remove the volume; its manifest goes first, so that no half of it can be opened."""
        if not path:
            raise FormatError("path", expected="the path of a volume", got="none")
        self.storage.delete(f"{path}/{_MANIFEST}")
        self.storage.delete_tree(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location,)

    def __repr__(self) -> str:
        return f"TileDBBackend({self.location.uri!r})"


def read_manifest(backend: TileDBBackend, path: str) -> Manifest:
    """The manifest of the volume at a path."""
    key = f"{path}/{_MANIFEST}"
    return Manifest.from_bytes(backend.storage.read(key), f"{backend.location.uri}/{key}")


class TileDBHandle:
    """Reads one volume; arrays open, and their files are checked, at the first read."""

    def __init__(
        self,
        backend: TileDBBackend,
        path: str,
        levels: tuple[Level, ...],
        extras: Mapping[str, int],
        manifest: Manifest | None = None,
    ) -> None:
        self._backend, self._path = backend, path
        self._levels, self._extras, self._manifest = levels, extras, manifest
        self._arrays: dict[int, Any] = {}
        self._pid = os.getpid()

    @property
    def levels(self) -> tuple[Level, ...]:
        """Resolutions, finest first."""
        return self._levels

    @property
    def spec(self) -> ArraySpec:
        """The array of level 0."""
        return self._levels[0].spec

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes handed to `create_volume`."""
        return copy.deepcopy(dict(self._known().attrs))

    @property
    def _where(self) -> str:
        return f"{self._backend.location.uri}/{self._path}"

    def _known(self) -> Manifest:
        if self._manifest is None:
            manifest = read_manifest(self._backend, self._path)
            if manifest.levels != self._levels or dict(manifest.extras) != dict(self._extras):
                raise CorruptObjectError(
                    self._where, expected="the arrays that its row names", got="a manifest that names others"
                )
            self._manifest = manifest
        return self._manifest

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """The voxels of `box` in disk order; see `VolumeHandle.read`."""
        spec = self._level(level).spec
        spec.check(box)
        if 0 in box.shape:
            return np.empty(box.shape, spec.dtype)
        array = self._opened(level)
        with mapped(f"{self._where}/{self._levels[level].path}", local=self._backend.location.is_local):
            block: npt.NDArray[Any] = np.require(array[box.slices], requirements=["C", "W", "O", "A"])
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
            measuring.add("chunks_decoded", spec.chunks_in(box))
        return block

    def extra(self, name: str) -> bytes:
        """The bytes stored under that name; MissingObjectError when the volume has none."""
        if name not in self._extras:
            raise MissingObjectError(
                f"extra {name!r} of {self._where}", expected=f"one of {sorted(self._extras)}", got="no such"
            )
        return _checked_read(self._backend.storage, self._path, f"extras/{name}", self._known())

    def native(self) -> Any:
        """Level 0 as a `tiledb.DenseArray`, open for reading."""
        return self._opened(0)

    def _level(self, level: int) -> Level:
        if not 0 <= level < len(self._levels):
            raise CapabilityError(
                f"level of {self._where}", expected=f"0 to {len(self._levels) - 1}", got=str(level)
            )
        return self._levels[level]

    def _opened(self, level: int) -> Any:
        if self._pid != os.getpid():
            # opened in the parent, whose threads did not come along
            self._arrays, self._pid = {}, os.getpid()
        array = self._arrays.get(level)
        if array is None:
            found, location = self._level(level), self._backend.location
            self._check_files(found)
            uri = array_uri(location, f"{self._path}/{found.path}")
            with mapped(f"{self._where}/{found.path}", local=location.is_local):
                array = engine().open(uri, "r", ctx=context_for(location))
            from radiobject.backends.tiledb import context
            context._opened.add(array)
            if not self._arrays:
                measuring.add("volumes_opened")
            self._arrays[level] = array
        return array

    def _check_files(self, level: Level) -> None:
        """TileDB reads what it finds: a missing fragment is fill values to it, another's fragment is voxels.

        Hence the list of commits must be the one that was written, every file must have its size, and those
        that no checksum of TileDB covers their CRC-32C.
        """
        storage, known, base = self._backend.storage, self._known(), f"{level.path}/"
        found = {
            info.key.removeprefix(f"{self._path}/") for info in storage.list(f"{self._path}/{base}__commits")
        }
        wanted = commits_of(level)
        if found != wanted:
            raise (MissingObjectError if wanted - found else CorruptObjectError)(
                f"{self._where}/{level.path}",
                expected=f"the commits {sorted(wanted)}",
                got=f"{sorted(found)}",
                hint="Restore the files from a copy, or ingest the volume again.",
            )
        for name, (size, _) in known.files.items():
            if not name.startswith(base):
                continue
            if name.endswith("/a0.tdb"):
                held = storage.size(f"{self._path}/{name}")
                if held != size:
                    raise (MissingObjectError if held is None else CorruptObjectError)(
                        f"{self._where}/{name}", expected=f"{size} bytes", got=str(held or "nothing")
                    )
            else:
                _checked_read(storage, self._path, name, known)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._backend, self._path, hint_of(self._levels, self._extras))

    def __repr__(self) -> str:
        return f"TileDBHandle({self._where!r})"


def _reopen(backend: TileDBBackend, path: str, hint: str) -> TileDBHandle:
    return TileDBHandle(backend, path, *parse_hint(hint))


def _checked_read(storage: Storage, path: str, name: str, known: Manifest) -> bytes:
    size, crc = known.files[name]
    data = storage.read(f"{path}/{name}") if size else b""
    if len(data) != size or google_crc32c.value(data) != crc:
        raise CorruptObjectError(
            f"{storage.location.uri}/{path}/{name}",
            expected=f"{size} bytes and their crc32c",
            got=f"{len(data)} bytes",
            hint="Restore the object or ingest the volume again.",
        )
    return data


class _Writer:
    """Makes the arrays in a temporary folder; `finish` sends their files, and the manifest last."""

    def __init__(
        self,
        backend: TileDBBackend,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> None:
        self._backend, self._path = backend, path
        self._where = f"{backend.location.uri}/{path}"
        self._levels = tuple(levels)
        self._extras = {name: bytes(data) for name, data in extras.items()}
        self._sizes = {name: len(data) for name, data in self._extras.items()}
        self._attrs = copy.deepcopy(dict(attrs))
        # what we cannot read back is refused before a byte is written
        Manifest(self._levels, self._sizes, self._attrs, {}).to_bytes(self._where)
        parse_hint(hint_of(self._levels, self._sizes))
        self._missing = [dict.fromkeys(level.spec.shard_boxes()) for level in self._levels]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._state = "open"
        self._lock = threading.Lock()

    def _local(self, level: int) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="radiobject-tiledb-")
            for found in self._levels:
                create_array(os.path.join(self._folder.name, found.path), found.spec, self._attrs)
        return os.path.join(self._folder.name, self._levels[level].path)

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None:
        """Encode one shard as a fragment; the block is not kept."""
        self._expect_open()
        if not 0 <= level < len(self._levels):
            raise CapabilityError(
                f"level of {self._where}", expected=f"0 to {len(self._levels) - 1}", got=str(level)
            )
        spec = self._levels[level].spec
        if box not in self._missing[level]:
            raise CapabilityError(
                f"box of {self._where}",
                expected="one of shard_boxes(), once",
                got=f"{box.start} to {box.stop}",
            )
        if block.shape != box.shape or block.dtype != spec.dtype:
            raise CapabilityError(
                f"block of {self._where}",
                expected=f"{spec.dtype} {box.shape}",
                got=f"{block.dtype} {block.shape}",
            )
        number = spec.shard_boxes().index(box) + 1
        with mapped(self._where, local=True):
            write_block(self._local(level), box, block, number)
        del self._missing[level][box]

    def finish(self) -> StoredVolume:
        """Send the files; the volume exists when the last of them, its manifest, is there."""
        self._expect_open()
        for level, missing in zip(self._levels, self._missing, strict=True):
            if missing:
                total = math.prod(
                    -(-n // s) for n, s in zip(level.spec.shape, level.spec.shards, strict=True)
                )
                raise CapabilityError(
                    f"finish of {self._where}/{level.path}",
                    expected=f"all {total} shards",
                    got=f"{total - len(missing)}",
                )
        objects: list[StoredObject] = []
        for number, level in enumerate(self._levels):
            for name, data in finished_files(self._local(number)):
                objects.append(self._put(f"{level.path}/{name}", data))
        for name, data in self._extras.items():
            objects.append(self._put(f"extras/{name}", data))
        files = {o.path: (o.bytes, o.crc32c) for o in objects}
        manifest = Manifest(self._levels, self._sizes, self._attrs, files)
        objects.append(self._put(_MANIFEST, manifest.to_bytes(self._where)))
        self._close("finished")
        return StoredVolume(hint_of(self._levels, self._sizes), tuple(objects))

    def abort(self) -> None:
        """Remove what was written; after `finish`, or a second time, there is nothing to do."""
        if self._state == "open":
            self._close("aborted")
            self._backend.storage.delete_tree(self._path)

    def _close(self, state: str) -> None:
        self._state = state
        if self._folder is not None:
            self._folder.cleanup()

    def _put(self, name: str, data: bytes) -> StoredObject:
        self._backend.storage.write(f"{self._path}/{name}", data)
        return StoredObject(name, len(data), google_crc32c.value(data))

    def _expect_open(self) -> None:
        if self._state != "open":
            raise CapabilityError(f"writer of {self._where}", expected="an open writer", got=self._state)
