"""Volumes as .npy files: a backend in one module, made of what any other distribution may use.

<path>/levels/<level>/<n>.npy    shard n, counted as `ArraySpec.shard_boxes()` does; not compressed
<path>/extras/<name>             bytes kept beside the voxels
<path>/manifest.json             levels, attributes, size and CRC-32C of every file; written last
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject import CompressionConfig, errors
from radiobject.backends.base import ArraySpec, Capabilities, Level, StoredObject, StoredVolume
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.storage import Storage, check_key

__all__ = ["NpyBackend"]

MANIFEST = "manifest.json"


class NpyBackend:
    name = "npy"
    suffix = ".npyvol"
    capabilities = Capabilities(persistent=True, sharding=False)

    def __init__(self, location: Location) -> None:
        self.location, self.storage = location, Storage(location)

    def create_volume(
        self, path: str, levels: Sequence[Level], attrs: Mapping[str, Any], extras: Mapping[str, bytes]
    ) -> NpyWriter:
        writer = NpyWriter(self.storage, path, levels, attrs, extras)
        if self.storage.size(f"{path}/{MANIFEST}") is not None:
            where = f"{self.location.uri}/{path}"
            raise errors.StudyExistsError(where, expected="a free path", got="a volume")
        return writer

    def open_volume(self, path: str, hint: str | None = None) -> NpyHandle:
        if hint is not None:
            return NpyHandle(self.storage, path, hint)
        manifest = read_manifest(self.storage, path)
        return NpyHandle(self.storage, path, manifest["levels"], manifest)

    def delete_volume(self, path: str) -> None:
        check_key(path)  # without a path it would be everything that stands here
        self.storage.delete(f"{path}/{MANIFEST}")  # first, so that no half of it can be opened
        self.storage.delete_tree(path)


class NpyWriter:
    def __init__(self, storage: Storage, path: str, levels: Sequence[Level], attrs: Any, extras: Any) -> None:
        self._storage, self._path, self._where = storage, path, f"{storage.location.uri}/{path}"
        self._levels, self._extras = tuple(levels), dict(extras)
        self._manifest: dict[str, Any] = {"levels": to_hint(levels), "attrs": copy.deepcopy(dict(attrs))}
        sealed(self._manifest, self._where)  # attributes that are no JSON are refused before a byte is sent
        self._missing = [{box: n for n, box in enumerate(level.spec.shard_boxes())} for level in levels]
        self._objects: list[StoredObject] = []
        self._open = True

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None:
        known = self._open and 0 <= level < len(self._levels)
        if not known or box not in self._missing[level]:
            wanted = "an open writer, and one of shard_boxes() of a level, once"
            raise errors.CapabilityError(self._where, expected=wanted, got=f"level {level}, {box}")
        path, dtype = self._levels[level].path, self._levels[level].spec.dtype
        if (block.shape, block.dtype) != (box.shape, dtype):
            wanted, got = f"{dtype} {box.shape}", f"{block.dtype} {block.shape}"
            raise errors.CapabilityError(self._where, expected=wanted, got=got)
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(block, dtype.newbyteorder("<")), allow_pickle=False)
        self._send(f"levels/{path}/{self._missing[level][box]}.npy", file.getvalue())
        del self._missing[level][box]

    def finish(self) -> StoredVolume:
        if not self._open or any(self._missing):
            wanted, got = "an open writer, and all shards", f"{sum(map(len, self._missing))} missing"
            raise errors.CapabilityError(f"finish of {self._where}", expected=wanted, got=got)
        for name, data in self._extras.items():
            self._send(f"extras/{name}", data)
        self._manifest["files"] = {o.path: [o.bytes, o.crc32c] for o in self._objects}
        self._send(MANIFEST, sealed(self._manifest, self._where))
        self._open = False
        return StoredVolume(self._manifest["levels"], tuple(self._objects))

    def abort(self) -> None:
        if self._open:
            self._open = False
            self._storage.delete_tree(self._path)

    def _send(self, name: str, data: bytes) -> None:
        self._storage.write(f"{self._path}/{name}", data)
        self._objects.append(StoredObject.of(name, data))


class NpyHandle:
    def __init__(self, storage: Storage, path: str, hint: str, manifest: Any = None) -> None:
        self._storage, self._path, self.uri = storage, path, f"{storage.location.uri}/{path}"
        self._hint, self._manifest = hint, manifest
        self.levels = from_hint(hint, self.uri)
        self.spec = self.levels[0].spec

    @property
    def attrs(self) -> dict[str, Any]:
        return copy.deepcopy(self._known("attrs"))

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        if not 0 <= level < len(self.levels):
            wanted = f"0 to {len(self.levels) - 1}"
            raise errors.CapabilityError(f"level of {self.uri}", expected=wanted, got=str(level))
        path, spec = self.levels[level].path, self.levels[level].spec
        spec.check(box)
        block = np.empty(box.shape, spec.dtype)
        for number, shard in enumerate(spec.shard_boxes()):
            part = box.intersect(shard)
            if part.size:
                voxels = self._shard(f"levels/{path}/{number}.npy", shard.shape, spec.dtype)
                here, there = ([-n for n in corner] for corner in (box.start, shard.start))
                block[part.shift(here).slices] = voxels[part.shift(there).slices]
        return block

    def extra(self, name: str) -> bytes:
        if f"extras/{name}" not in self._known("files"):
            raise errors.MissingObjectError(f"extra {name!r} of {self.uri}", got="no such")
        return self._checked(f"extras/{name}")

    def native(self) -> npt.NDArray[Any]:
        return self.read(self.spec.box)

    def _shard(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        where, file = f"{self.uri}/{name}", io.BytesIO(self._checked(name))
        try:
            voxels = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise errors.CorruptObjectError(where, expected="an array", got=str(error)) from error
        if (voxels.shape, voxels.dtype) != (shape, dtype.newbyteorder("<")):
            raise errors.CorruptObjectError(where, expected=f"{dtype} {shape}", got="another array")
        return voxels

    def _checked(self, name: str) -> bytes:
        data = self._storage.read(f"{self._path}/{name}")
        if [len(data), google_crc32c.value(data)] != self._known("files").get(name):
            where = f"{self.uri}/{name}"
            raise errors.CorruptObjectError(where, expected="the bytes written", got="others")
        return data

    def _known(self, key: str) -> Any:
        if self._manifest is None:  # two threads may both read it, to the same end
            manifest = read_manifest(self._storage, self._path)
            if manifest["levels"] != self._hint:
                raise errors.CorruptObjectError(self.uri, expected="the levels of its hint", got="others")
            self._manifest = manifest
        return self._manifest[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._storage, self._path, self._hint)


def sealed(manifest: Mapping[str, Any], where: str) -> bytes:
    try:
        text = json.dumps(manifest, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise errors.FormatError(where, expected="attributes as plain JSON", got=str(error)) from error
    return text[:-1] + b', "crc32c": %d}' % google_crc32c.value(text)


def read_manifest(storage: Storage, path: str) -> dict[str, Any]:
    where = f"{storage.location.uri}/{path}/{MANIFEST}"
    head, _, tail = storage.read(f"{path}/{MANIFEST}").rpartition(b', "crc32c": ')
    if tail != b"%d}" % google_crc32c.value(head + b"}"):
        raise errors.CorruptObjectError(where, expected="the bytes written", got="others")
    try:
        body = json.loads(head + b"}")
        return {"levels": str(body["levels"]), "attrs": dict(body["attrs"]), "files": dict(body["files"])}
    except (KeyError, TypeError, ValueError) as error:
        raise errors.FormatError(where, expected="a manifest", got=repr(error)) from error


def to_hint(levels: Sequence[Level]) -> str:
    return json.dumps([{"path": a.path, **asdict(a.spec), "dtype": a.spec.dtype.str[1:]} for a in levels])


def from_hint(hint: str, where: str) -> tuple[Level, ...]:
    try:
        levels = []
        for said in json.loads(hint):
            shape, chunks, shards = (tuple(map(int, said[key])) for key in ("shape", "chunks", "shards"))
            codec, dtype = CompressionConfig(**said["codec"]), np.dtype(said["dtype"])
            spec = ArraySpec(shape, dtype, tuple(said["dims"]), chunks, shards, codec)
            levels.append(Level(check_key(said["path"]), spec))
    except (KeyError, TypeError, ValueError) as error:
        raise errors.FormatError(f"hint of {where}", expected="levels", got=repr(error)) from error
    if not levels:
        raise errors.FormatError(f"hint of {where}", expected="levels", got="none")
    return tuple(levels)
