"""TileDBHandle: reads one volume, whose files are held against its manifest before libtiledb sees them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import MAX_DOCUMENT, ArraySpec, Level
from radiobject.backends.tiledb.context import Context, array_uri, shared
from radiobject.backends.tiledb.failures import mapped
from radiobject.backends.tiledb.manifest import MANIFEST, Manifest, hint_of, parse_hint
from radiobject.errors import CapabilityError, CorruptObjectError, MissingObjectError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = ["TileDBHandle", "read_manifest"]

_RESTORE = "Restore the files from a copy, or ingest the volume again."


def read_manifest(storage: Storage, path: str) -> Manifest:
    """The manifest of the volume at a path."""
    key = f"{path}/{MANIFEST}"
    return Manifest.from_bytes(storage.read(key, MAX_DOCUMENT), f"{storage.location.uri}/{key}")


@dataclass(frozen=True)
class _Opened:
    """An array open for reading, as this process opened it."""

    array: Any
    uri: str
    context: Context
    pid: int


class TileDBHandle:
    """Reads one volume; arrays open, and their files are checked, at the first read.

    TileDB allows concurrent queries of one open array, so threads share it without a lock.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        levels: tuple[Level, ...],
        extras: Mapping[str, int],
        manifest: Manifest | None = None,
    ) -> None:
        self._storage, self._path = storage, path
        self._levels, self._extras, self._manifest = levels, extras, manifest
        self._open: dict[int, _Opened] = {}

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
    def uri(self) -> str:
        """Place of the volume."""
        return f"{self._storage.location.uri}/{self._path}"

    @property
    def objects(self) -> Iterator[str]:
        """Paths inside the volume of all that it consists of."""
        return chain([MANIFEST], self._known().files)

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """The voxels of `box` in disk order; see `VolumeHandle.read`."""
        spec = self._level(level).spec
        spec.check(box)
        if 0 in box.shape:
            return np.empty(box.shape, spec.dtype)
        opened = self._opened(level)
        opened.context.count()
        with mapped(self._where(level), opened.uri, local=self._storage.location.is_local):
            found = opened.array[box.slices]
        block: npt.NDArray[Any] = np.require(found, spec.dtype, ["C", "W", "O", "A"])
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
            measuring.add("chunks_decoded", chunks := spec.chunks_in(box))
            measuring.add("bytes_decoded", chunks * spec.chunk_bytes)
        return block

    def extra(self, name: str) -> bytes:
        """The bytes stored under that name; MissingObjectError when the volume has none."""
        if name not in self._extras:
            raise MissingObjectError(
                f"extra {name!r} of {self.uri}", expected=f"one of {sorted(self._extras)}", got="no such"
            )
        return self._checked_read(f"extras/{name}")

    def native(self) -> Any:
        """Level 0 as a `tiledb.DenseArray`, open for reading."""
        return self._opened(0).array

    def _where(self, level: int) -> str:
        return f"{self.uri}/{self._levels[level].path}"

    def _known(self) -> Manifest:
        if self._manifest is None:
            manifest = read_manifest(self._storage, self._path)
            if manifest.levels != self._levels or dict(manifest.extras) != dict(self._extras):
                raise CorruptObjectError(
                    self.uri, expected="the arrays that its row names", got="a manifest that names others"
                )
            self._manifest = manifest
        return self._manifest

    def _level(self, level: int) -> Level:
        if not 0 <= level < len(self._levels):
            raise CapabilityError(
                f"level of {self.uri}", expected=f"0 to {len(self._levels) - 1}", got=str(level)
            )
        return self._levels[level]

    def _opened(self, level: int) -> _Opened:
        found = self._open.get(level)
        if found is not None and found.pid == os.getpid() and not found.context.worn and found.array.isopen:
            return found  # a caller of `native` may have closed it
        path, location = self._level(level).path, self._storage.location
        uri = array_uri(location, f"{self._path}/{path}")
        self._check_files(path)
        context = shared(location)
        with mapped(self._where(level), uri, local=location.is_local):
            # what has a later timestamp is none of the fragments that were just checked
            array = context.open(uri, "r", len(self._levels[level].spec.shard_boxes()))
            self._check_array(array, level)
        if found is None:
            measuring.add("volumes_opened", 0 if self._open else 1)
        self._open[level] = _Opened(array, uri, context, os.getpid())
        return self._open[level]

    def _check_array(self, array: Any, level: int) -> None:
        """Beyond its domain TileDB reads less than was asked for, and types are cast without a word."""
        spec = self._levels[level].spec
        if (array.shape, array.attr(0).dtype) != (spec.shape, spec.dtype):
            raise CorruptObjectError(
                self._where(level),
                expected=f"an array of shape {spec.shape} and type {spec.dtype}, as the manifest says",
                got=f"one of {array.shape} and {array.attr(0).dtype}",
                hint=_RESTORE,
            )

    def _check_files(self, path: str) -> None:
        """TileDB reads what it finds: a missing fragment is fill values to it, another's fragment is voxels.

        So every file must be there with its size, those that no checksum of TileDB's covers with their
        CRC-32C (tiles have a SHA-256 each), and no other that it would read.
        """
        files, base = self._known().files, f"{path}/"
        found = {
            info.key.removeprefix(f"{self._path}/"): info.bytes
            for info in self._storage.list(f"{self._path}/{path}")
        }
        ours = {name: size for name, (size, _) in files.items() if name.startswith(base)}
        for name, size in ours.items():
            if found.get(name) != size:
                missing = name not in found
                raise (MissingObjectError if missing else CorruptObjectError)(
                    f"{self.uri}/{name}",
                    expected=f"{size} bytes",
                    got="nothing there" if missing else f"{found[name]} bytes",
                    hint=_RESTORE,
                )
        foreign = sorted(n for n in found.keys() - ours.keys() if _is_read(n.removeprefix(base)))
        if foreign:
            raise CorruptObjectError(
                f"{self.uri}/{foreign[0]}",
                expected="no file that the volume was not written with",
                got=f"{len(foreign)} of them",
                hint="Another TileDB writer changed, consolidated or vacuumed the array. " + _RESTORE,
            )
        self._check_each(name for name in ours if not name.endswith("/a0.tdb"))

    def _check_each(self, names: Iterable[str]) -> None:
        if self._storage.location.is_local:
            for name in names:
                self._checked_read(name)
            return
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(self._checked_read, names):
                pass

    def _checked_read(self, name: str) -> bytes:
        size, crc = self._known().files[name]
        data = self._storage.read(f"{self._path}/{name}") if size else b""
        if len(data) != size or google_crc32c.value(data) != crc:
            raise CorruptObjectError(
                f"{self.uri}/{name}",
                expected=f"{size} bytes and their crc32c",
                got=f"{len(data)} bytes",
                hint=_RESTORE,
            )
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._storage, self._path, hint_of(self._levels, self._extras))

    def __repr__(self) -> str:
        return f"TileDBHandle({self.uri!r})"


def _reopen(storage: Storage, path: str, hint: str) -> TileDBHandle:
    return TileDBHandle(storage, path, *parse_hint(hint))


def _is_read(name: str) -> bool:
    """Whether libtiledb takes notice of a file of an array.

    Names without "__" mean nothing to it; fragments count by their commits; array metadata holds no voxels.
    """
    top, _, rest = name.partition("/")
    if top in ("__fragments", "__meta"):
        return False
    return top.startswith("__") and not (top == "__commits" and rest.startswith("."))
