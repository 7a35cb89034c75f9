"""Reading one volume, ours or a foreign OME-Zarr image."""

from __future__ import annotations

import copy
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import MAX_DOCUMENT, ArraySpec, Level
from radiobject.backends.zarr import metadata
from radiobject.backends.zarr.engine import OpenArray, engine_for
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    StorageReadOnlyError,
)
from radiobject.geometry.box import Box
from radiobject.storage import Storage

if TYPE_CHECKING:
    from radiobject.backends.zarr.backend import ZarrBackend

__all__ = ["ZarrHandle", "read_volume"]

_log = logging.getLogger(__name__)


class ZarrHandle:
    """Reads one volume; arrays open at their first read. See `VolumeHandle` for the promises."""

    # No lock: opening makes no request, so two threads that open at once waste some microseconds, while a
    # lock held at the moment of a fork would never be released in the child.
    __slots__ = ("_arrays", "_attrs", "_backend", "_members", "_path", "_pid")

    def __init__(
        self,
        backend: ZarrBackend,
        path: str,
        members: metadata.Members,
        attrs: dict[str, Any] | None = None,
    ) -> None:
        self._backend = backend
        self._path = path
        self._members = members
        self._attrs = attrs
        self._arrays: dict[int, OpenArray] = {}
        self._pid = os.getpid()

    @property
    def levels(self) -> tuple[Level, ...]:
        """Resolutions, finest first."""
        return self._members.levels

    @property
    def spec(self) -> ArraySpec:
        """The array of level 0."""
        return self._members.levels[0].spec

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of the volume's group; one request unless the volume was opened from them."""
        if self._attrs is None:
            self._attrs = _attributes(self._backend, self._path)
        return copy.deepcopy(self._attrs)

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """The voxels of `box` in disk order; see `VolumeHandle.read`."""
        spec = self._level(level).spec
        spec.check(box)
        if 0 in box.shape:
            return np.empty(box.shape, spec.dtype)
        array = self._arrays.get(level) if self._pid == os.getpid() else None
        try:
            block = (array or self._open(level)).read(box)
        except StorageReadOnlyError as error:
            block = self._fall_back(level, error).read(box)
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
            measuring.add("chunks_decoded", chunks := spec.chunks_in(box))
            measuring.add("bytes_decoded", chunks * spec.chunk_bytes)
        return block

    def extra(self, name: str) -> bytes:
        """The bytes stored under that name; MissingObjectError when the volume has none."""
        size = self._members.extras.get(name)
        if size is None:
            raise MissingObjectError(
                f"extra {name!r} of {self._where}",
                expected=f"one of {sorted(self._members.extras)}",
                got="no such",
            )
        if size == 0:
            return b""
        key = f"{self._path}/{name}/c/0"
        stored = self._backend.storage.read(key)
        data = stored[:-4]
        if len(stored) != size + 4 or struct.unpack("<I", stored[-4:])[0] != google_crc32c.value(data):
            raise CorruptObjectError(
                f"{self._where}/{name}/c/0",
                expected=f"{size} bytes and their crc32c",
                got=f"{len(stored)} bytes",
                hint="Restore the object or ingest the volume again.",
            )
        return data

    def native(self) -> Any:
        """Level 0 as a `tensorstore.TensorStore` or `zarr.Array`, whichever this process reads with."""
        array = self._arrays.get(0) if self._pid == os.getpid() else None
        return (array or self._open(0)).native()

    @property
    def uri(self) -> str:
        """URL of the volume's group."""
        return self._where

    @property
    def objects(self) -> Iterator[str]:
        """Paths inside the volume of all that it consists of, one by one: there may be many."""
        return metadata.object_paths(self._members.levels, self._members.extras)

    @property
    def place(self) -> tuple[Storage, str]:
        """The storage that has the volume's objects, and the key of its group there."""
        return self._backend.storage, self._path

    @property
    def _where(self) -> str:
        return f"{self._backend.storage.location.uri}/{self._path}"

    def _level(self, level: int) -> Level:
        levels = self._members.levels
        if not 0 <= level < len(levels):
            raise CapabilityError(
                f"level of {self._where}", expected=f"0 to {len(levels) - 1}", got=str(level)
            )
        return levels[level]

    def _open(self, level: int, choice: Any = None) -> OpenArray:
        if self._pid != os.getpid():
            # opened in the parent: its engine's threads did not come along
            self._arrays, self._pid = {}, os.getpid()
        storage, found = self._backend.storage, self._level(level)
        engine = engine_for(choice or self._backend.engine, storage)
        opened = engine.open_array(
            storage, f"{self._path}/{found.path}", found.spec, self._members.documents[level]
        )
        if not self._arrays:
            measuring.add("volumes_opened")
        self._arrays[level] = opened
        return opened

    def _fall_back(self, level: int, error: StorageReadOnlyError) -> OpenArray:
        """tensorstore finds fewer kinds of credentials than fsspec's drivers, which may still pass."""
        if self._backend.engine != "auto" or self._backend.storage.location.is_local:
            raise error
        _log.warning("%s was refused to tensorstore; reading it by zarr-python", self._where)
        return self._open(level, "zarr-python")

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._backend, self._path, self._members.hint)

    def __repr__(self) -> str:
        return f"ZarrHandle({self._where!r})"


def _reopen(backend: ZarrBackend, path: str, hint: str) -> ZarrHandle:
    return ZarrHandle(backend, path, metadata.parse_hint(hint))


def read_volume(backend: ZarrBackend, path: str) -> ZarrHandle:
    """Open from the volume's own zarr.json, ours or that of a foreign OME-Zarr image."""
    where = f"{backend.storage.location.uri}/{path}"
    document = _group(backend, path)
    attrs = document["attributes"]
    paths = _dataset_paths(attrs, where)
    consolidated = document.get("consolidated_metadata")
    if isinstance(consolidated, dict) and isinstance(consolidated.get("metadata"), dict):
        return ZarrHandle(backend, path, metadata.members_of(consolidated["metadata"], where, paths), attrs)
    if paths is None:
        raise FormatError(where, expected="consolidated metadata or ome.multiscales", got="neither")
    documents = {}
    for name in paths:
        key = f"{path}/{metadata.safe_path(name, where)}/zarr.json"
        documents[name] = metadata.parse(backend.storage.read(key, MAX_DOCUMENT), key)
    return ZarrHandle(backend, path, metadata.members_of(documents, where, paths), attrs)


def _group(backend: ZarrBackend, path: str) -> dict[str, Any]:
    where = f"{backend.storage.location.uri}/{path}/zarr.json"
    document = metadata.parse(backend.storage.read(f"{path}/zarr.json", MAX_DOCUMENT), where)
    if document.get("zarr_format") != 3 or document.get("node_type") != "group":
        raise FormatError(
            where, expected="a group of zarr_format 3", got=f"{document.get('node_type')!r:.50}"
        )
    if not isinstance(document.setdefault("attributes", {}), dict):
        raise FormatError(where, expected="attributes as an object", got=repr(document["attributes"])[:100])
    return document


def _attributes(backend: ZarrBackend, path: str) -> dict[str, Any]:
    attributes: dict[str, Any] = _group(backend, path)["attributes"]
    return attributes


def _dataset_paths(attrs: Mapping[str, Any], where: str) -> list[str] | None:
    """Paths in `ome.multiscales[0].datasets`, None when there is no such list."""
    try:
        datasets = attrs["ome"]["multiscales"][0]["datasets"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(datasets, list) or not 1 <= len(datasets) <= 64:
        raise FormatError(
            f"ome.multiscales of {where}", expected="1 to 64 datasets", got=repr(datasets)[:100]
        )
    try:
        return [metadata.safe_path(dataset["path"], where) for dataset in datasets]
    except (KeyError, TypeError) as error:
        raise FormatError(
            f"ome.multiscales of {where}", expected="datasets with paths", got=repr(error)
        ) from error
