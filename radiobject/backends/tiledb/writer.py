"""TileDBWriter: encodes a volume's blocks as fragments, and sends their files one by one."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from radiobject.backends.base import Level, StoredObject, StoredVolume
from radiobject.backends.tiledb.arrays import LocalArray
from radiobject.backends.tiledb.failures import mapped_writing
from radiobject.backends.tiledb.manifest import MANIFEST, Manifest, hint_of, parse_hint
from radiobject.errors import CapabilityError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = ["TileDBWriter"]


class TileDBWriter:
    """Writes one volume: fragments as they come, then schemas, extras and the manifest, last.

    libtiledb writes into a temporary folder, which holds one encoded shard at a time.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> None:
        self._storage, self._path = storage, path
        self._where = f"{storage.location.uri}/{path}"
        self._levels = tuple(levels)
        self._extras = {name: bytes(data) for name, data in extras.items()}
        self._attrs = copy.deepcopy(dict(attrs))
        _check_names([level.path for level in self._levels], self._where)
        # what we cannot read back is refused before a byte is written
        self._manifest({}).to_bytes(self._where)
        self._hint = hint_of(self._levels, self._manifest({}).extras)
        parse_hint(self._hint)
        self._missing = [
            {box: number for number, box in enumerate(level.spec.shard_boxes(), start=1)}
            for level in self._levels
        ]
        self._totals = [len(missing) for missing in self._missing]
        self._objects: dict[str, StoredObject] = {}
        self._folder: str | None = None
        self._arrays: list[LocalArray] = []
        self._state = "open"

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None:
        """Encode one shard as a fragment and send it; the block is not kept."""
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
        with mapped_writing(f"{self._where}/{found.path}"):
            self._make_arrays()
            self._send(f"{found.path}/", self._arrays[level].encode(box, block, self._missing[level][box]))
        del self._missing[level][box]

    def finish(self) -> StoredVolume:
        """Send the rest; the volume exists when the last object, its manifest, is there."""
        self._expect_open()
        for level, missing, total in zip(self._levels, self._missing, self._totals, strict=True):
            if missing:
                raise CapabilityError(
                    f"finish of {self._where}/{level.path}",
                    expected=f"all {total} shards",
                    got=f"{total - len(missing)}, the first missing at {next(iter(missing)).start}",
                )
        for level, array in zip(self._levels, self._arrays, strict=True):
            with mapped_writing(f"{self._where}/{level.path}"):
                self._send(f"{level.path}/", array.rest())
        self._send("extras/", self._extras.items())
        manifest = self._manifest({n: (o.bytes, o.crc32c) for n, o in self._objects.items()})
        manifest.check(self._where)
        self._send("", [(MANIFEST, manifest.to_bytes(self._where))])
        self._close("finished")
        return StoredVolume(self._hint, tuple(self._objects.values()))

    def abort(self) -> None:
        """Remove what was written; after `finish`, or a second time, there is nothing to do."""
        if self._state == "open":
            self._close("aborted")
            self._storage.delete_tree(self._path)

    def _manifest(self, files: Mapping[str, tuple[int, int]]) -> Manifest:
        sizes = {name: len(data) for name, data in self._extras.items()}
        return Manifest(self._levels, sizes, self._attrs, files)

    def _make_arrays(self) -> None:
        """The temporary folder, with an empty array for each level."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="radiobject-tiledb-")
            self._removal = weakref.finalize(self, _remove, self._folder, os.getpid())
        if not self._arrays:
            self._arrays = [
                LocalArray(os.path.join(self._folder, level.path), level.spec, self._attrs)
                for level in self._levels
            ]

    def _send(self, base: str, files: Iterable[tuple[str, bytes]]) -> None:
        for name, data in files:
            self._storage.write(f"{self._path}/{base}{name}", data)
            stored = StoredObject.of(base + name, data)
            self._objects[stored.path] = stored

    def _close(self, state: str) -> None:
        self._state = state
        if self._folder is not None:
            self._removal()

    def _expect_open(self) -> None:
        if self._state != "open":
            raise CapabilityError(f"writer of {self._where}", expected="an open writer", got=self._state)


def _remove(folder: str, pid: int) -> None:
    # a forked child that ends while its parent writes must leave the parent's folder alone
    if pid == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def _check_names(paths: Sequence[str], where: str) -> None:
    """Every level has a folder of its own, none inside another's or the extras'."""
    taken = [*paths, "extras"]
    inside = any(a != b and f"{b}/".startswith(f"{a}/") for a in taken for b in taken)
    if inside or len(set(taken)) != len(taken):
        raise CapabilityError(where, expected="levels with folders of their own", got=str(list(paths)))
