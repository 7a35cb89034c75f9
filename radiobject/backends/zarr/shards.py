"""Which bytes of which objects a box needs, and a proof that they are there.

zarr-python 3.1 reads a missing object, an empty one and a chunk without an index entry as zeros. This room
finds the bytes first, so that whatever the decoder is handed is complete or an error.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject.config import current
from radiobject.errors import CorruptObjectError, MissingObjectError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = ["Shards"]

_ABSENT = 2**64 - 1
# A request costs more than reading this many bytes too many; tensorstore coalesces by the same thought.
_GAP_LOCAL = 4096
_GAP_REMOTE = 2**16
_HINT = "Restore the object or ingest the volume again."


class Found(NamedTuple):
    """The bytes of one object that a read needs: all of it, or its index and single chunks by range."""

    whole: bytes | None
    index_bytes: bytes
    ranges: dict[tuple[int, int], memoryview]


class _Index(NamedTuple):
    size: int
    raw: bytes
    entries: npt.NDArray[np.uint64]


class Shards:
    """The objects of one array below `folder`.

    `grid`: shape of what one object holds. `chunks`: shape of what is decoded at once.
    `index`: configuration of the sharding codec, None without sharding.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        grid: tuple[int, ...],
        chunks: tuple[int, ...],
        index: dict[str, Any] | None,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._grid = grid
        self._chunks = chunks
        self._per_shard = tuple(s // c for s, c in zip(grid, chunks, strict=True))
        self._index_settings = index
        self._index = lru_cache(maxsize=64)(self._load_index)

    def fetch(self, box: Box) -> dict[str, Found]:
        """Everything that decoding `box` needs, by object key relative to the array's folder."""
        parts = list(self._touched(box))
        if len(parts) == 1 or self._storage.location.is_local:
            return {key: self._fetch_one(key, shard, box) for key, shard in parts}
        with ThreadPoolExecutor(min(len(parts), self._width())) as pool:
            found = pool.map(lambda part: self._fetch_one(part[0], part[1], box), parts)
            return {key: one for (key, _), one in zip(parts, found, strict=True)}

    def fetch_range(self, key: str, start: int | None, stop: int | None) -> bytes:
        """One object or a range of it, for the engine's own array; negative `start` counts from the end."""
        path = f"{self._folder}/{key}"
        if start is None:
            return self._storage.read(path)
        if start < 0:
            size = self._size(path)
            start, stop = size + start, size
            if start < 0:
                raise CorruptObjectError(
                    self._name(path), expected="room for a shard index", got=f"{size} bytes"
                )
        assert stop is not None
        return self._storage.read_range(path, start, stop)

    def _touched(self, box: Box) -> Iterator[tuple[str, tuple[int, ...]]]:
        spans = [range(a // g, -(-b // g)) for a, b, g in zip(box.start, box.stop, self._grid, strict=True)]
        for shard in itertools.product(*spans):
            yield "c/" + "/".join(map(str, shard)), shard

    def _fetch_one(self, key: str, shard: tuple[int, ...], box: Box) -> Found:
        path = f"{self._folder}/{key}"
        if self._index_settings is None:
            return Found(self._storage.read(path), b"", {})
        index = self._index(path)
        entries = index.entries[self._inner(shard, box)].reshape(-1, 2)
        if (entries[:, 0] == _ABSENT).any() or (entries[:, 1] == 0).any():
            absent = int(np.count_nonzero((entries[:, 0] == _ABSENT) | (entries[:, 1] == 0)))
            raise MissingObjectError(
                self._name(path), expected=f"{len(entries)} chunks", got=f"{absent} without data", hint=_HINT
            )
        if len(entries) == math.prod(self._per_shard):
            # the decoder asks for the whole object when it needs every chunk of it
            return Found(self._storage.read_range(path, 0, index.size), index.raw, {})
        wanted = sorted((int(offset), int(offset) + int(length)) for offset, length in entries)
        return Found(None, index.raw, self._read_ranges(path, wanted))

    def _inner(self, shard: tuple[int, ...], box: Box) -> tuple[slice, ...]:
        """Where in the shard's index the chunks of `box` stand."""
        slices = []
        for s, g, c, a, b in zip(shard, self._grid, self._chunks, box.start, box.stop, strict=True):
            low, high = max(a - s * g, 0), min(b - s * g, g)
            slices.append(slice(low // c, -(-high // c)))
        return tuple(slices)

    def _read_ranges(self, path: str, wanted: list[tuple[int, int]]) -> dict[tuple[int, int], memoryview]:
        local = self._storage.location.is_local
        merged: list[list[int]] = []
        for start, stop in wanted:
            if merged and start <= merged[-1][1] + (_GAP_LOCAL if local else _GAP_REMOTE):
                merged[-1][1] = max(merged[-1][1], stop)
            else:
                merged.append([start, stop])
        if local or len(merged) == 1:
            blocks = [self._storage.read_range(path, a, b) for a, b in merged]
        else:
            with ThreadPoolExecutor(min(len(merged), self._width())) as pool:
                blocks = list(pool.map(lambda ab: self._storage.read_range(path, ab[0], ab[1]), merged))
        ranges = {}
        number = 0
        for start, stop in wanted:
            while start >= merged[number][1]:
                number += 1
            begin = merged[number][0]
            ranges[start, stop] = memoryview(blocks[number])[start - begin : stop - begin]
        return ranges

    def _load_index(self, path: str) -> _Index:
        settings = self._index_settings
        assert settings is not None
        checked = len(settings["index_codecs"]) == 2
        count = math.prod(self._per_shard)
        length = count * 16 + (4 if checked else 0)
        size = self._size(path)
        if size < length:
            raise CorruptObjectError(
                self._name(path),
                expected=f"at least its index of {length} bytes",
                got=f"{size} bytes",
                hint=_HINT,
            )
        start = 0 if settings.get("index_location") == "start" else size - length
        raw = self._storage.read_range(path, start, start + length)
        table = raw[: count * 16]
        if checked and struct.unpack("<I", raw[-4:])[0] != google_crc32c.value(table):
            raise CorruptObjectError(
                f"shard index of {self._name(path)}", expected="its crc32c", got="another", hint=_HINT
            )
        entries = np.frombuffer(table, "<u8").reshape(*self._per_shard, 2)
        present = entries[entries[..., 0] != _ABSENT]
        # the first test keeps the sum in the second from wrapping around
        if (present > size).any() or (present.sum(axis=-1) > size).any():
            raise CorruptObjectError(
                f"shard index of {self._name(path)}",
                expected=f"chunks within {size} bytes",
                got="one beyond",
                hint=_HINT,
            )
        return _Index(size, raw, entries)

    def _size(self, path: str) -> int:
        size = self._storage.size(path)
        if size is None:
            raise MissingObjectError(self._name(path), expected="an object", got="nothing there", hint=_HINT)
        return size

    def _name(self, path: str) -> str:
        return f"{self._storage.location.uri}/{path}"

    @staticmethod
    def _width() -> int:
        return current().read.concurrency or 16
