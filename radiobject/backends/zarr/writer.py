"""Writing one volume as an OME-Zarr image."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy.typing as npt

from radiobject.backends.base import Level, StoredObject, StoredVolume
from radiobject.backends.zarr import metadata
from radiobject.backends.zarr.engine import Encoder, engine_for
from radiobject.errors import CapabilityError
from radiobject.geometry.box import Box

if TYPE_CHECKING:
    from radiobject.backends.zarr.backend import ZarrBackend

__all__ = ["ZarrWriter"]


class ZarrWriter:
    """Writes one volume: shards as they come, then the documents, the volume's own last."""

    def __init__(
        self,
        backend: ZarrBackend,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> None:
        self._storage = backend.storage
        self._path = path
        self._levels = tuple(levels)
        self._extras = dict(extras)
        self._where = where = f"{backend.storage.location.uri}/{path}"
        _check_names([level.path for level in self._levels], list(self._extras), where)
        documents = metadata.member_documents(self._levels, {k: len(v) for k, v in self._extras.items()})
        # what we cannot read back is refused before a byte is written
        members = metadata.members_of(documents, where, [level.path for level in self._levels])
        root = metadata.group_document(attrs, documents)
        self._hint = members.hint
        self._documents = {
            f"{member}/zarr.json": metadata.compact(document, where).encode()
            for member, document in documents.items()
        }
        self._root = metadata.compact(root, where).encode()
        metadata.parse(self._root, where)
        engine = engine_for(backend.engine, backend.storage, writing=True)
        self._encoders: list[Encoder] = [
            engine.make_encoder(level.spec, text)
            for level, text in zip(self._levels, members.documents, strict=True)
        ]
        self._missing = [dict.fromkeys(level.spec.shard_boxes()) for level in self._levels]
        self._objects: list[StoredObject] = []
        self._state = "open"

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None:
        """Encode one shard and put its object; the block is not kept."""
        self._expect_open()
        if not 0 <= level < len(self._levels):
            raise CapabilityError(
                f"level of {self._where}", expected=f"0 to {len(self._levels) - 1}", got=str(level)
            )
        found = self._levels[level]
        if box not in self._missing[level]:
            raise CapabilityError(
                f"box of {self._where}/{found.path}",
                expected="one of shard_boxes(), once",
                got=f"{box.start} to {box.stop}",
            )
        if block.shape != box.shape or block.dtype != found.spec.dtype:
            raise CapabilityError(
                f"block of {self._where}/{found.path}",
                expected=f"{found.spec.dtype} {box.shape}",
                got=f"{block.dtype} {block.shape}",
            )
        for key, data in self._encoders[level].encode(box, block):
            self._put(f"{found.path}/{key}", data)
        del self._missing[level][box]

    def finish(self) -> StoredVolume:
        """Write extras and documents; the volume exists when the last of them, its own, is there."""
        self._expect_open()
        for level, missing in zip(self._levels, self._missing, strict=True):
            if missing:
                total = math.prod(
                    -(-n // s) for n, s in zip(level.spec.shape, level.spec.shards, strict=True)
                )
                raise CapabilityError(
                    f"finish of {self._where}/{level.path}",
                    expected=f"all {total} shards",
                    got=f"{total - len(missing)}, the first missing at {next(iter(missing)).start}",
                )
        for name, data in self._extras.items():
            if data:
                self._put(f"{name}/c/0", data + struct.pack("<I", google_crc32c.value(data)))
        for key, document in self._documents.items():
            self._put(key, document)
        self._put("zarr.json", self._root)
        self._state = "finished"
        return StoredVolume(self._hint, tuple(self._objects))

    def abort(self) -> None:
        """Remove what was written; after `finish`, or a second time, there is nothing to do."""
        if self._state == "open":
            self._state = "aborted"
            self._storage.delete_tree(self._path)

    def _put(self, key: str, data: bytes) -> None:
        self._storage.write(f"{self._path}/{key}", data)
        self._objects.append(StoredObject.of(key, data))

    def _expect_open(self) -> None:
        if self._state != "open":
            raise CapabilityError(f"writer of {self._where}", expected="an open writer", got=self._state)


def _check_names(levels: list[str], extras: list[str], where: str) -> None:
    """Every member has a folder of its own, none inside another's."""
    tops = {path.split("/")[0] for path in levels}
    inside = any(a != b and f"{b}/".startswith(f"{a}/") for a in levels for b in levels)
    for name in extras:
        if "/" in name or name in tops or name in ("zarr.json", "c"):
            inside = True
    if inside or len(set(levels)) != len(levels):
        raise CapabilityError(
            where, expected="levels and extras with names of their own", got=f"{levels} and {extras}"
        )
