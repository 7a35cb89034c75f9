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
# A shard whose voxels are fewer bytes is fetched at once, without its index first; others by parallel ranges.
_AT_ONCE = 2**25
_LEAST_RANGE = 2**23
# No object store takes larger objects; offsets beyond it would only wrap around.
_MOST = 2**50
_HINT = "Restore the object or ingest the volume again."


class Found(NamedTuple):
    """The bytes of one object that a read needs: all of it, or its index and single chunks by range."""

    whole: bytes | None
    index_bytes: bytes
    ranges: dict[tuple[int, int], memoryview]


class _Index(NamedTuple):
    raw: bytes
    entries: npt.NDArray[np.uint64]


class Shards:
    """The objects of one array below `folder`.

    `grid`: shape of what one object holds. `chunks`: shape of what is decoded at once.
    `itemsize`: bytes of a voxel.
    `index`: configuration of the sharding codec, None without sharding.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        grid: tuple[int, ...],
        chunks: tuple[int, ...],
        itemsize: int,
        index: dict[str, Any] | None,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._grid = grid
        self._chunks = chunks
        self._per_shard = tuple(s // c for s, c in zip(grid, chunks, strict=True))
        self._decoded_bytes = math.prod(grid) * itemsize
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
        inner = self._inner(shard, box)
        # the decoder asks for the whole object when it needs every chunk of it
        every = all(s.stop - s.start == n for s, n in zip(inner, self._per_shard, strict=True))
        if every and self._decoded_bytes <= _AT_ONCE:
            whole = self._storage.read(path)
            index = self._parsed(path, self._index_in(path, whole), len(whole))
            self._require(path, index.entries.reshape(-1, 2))
            return Found(whole, index.raw, {})
        index = self._index(path)
        entries = index.entries[inner].reshape(-1, 2)
        self._require(path, entries)
        if every:
            return Found(self._read_all(path, index, int(entries.sum(axis=-1).max())), index.raw, {})
        wanted = sorted((int(offset), int(offset) + int(length)) for offset, length in entries)
        return Found(None, index.raw, self._read_ranges(path, wanted))

    def _require(self, path: str, entries: npt.NDArray[np.uint64]) -> None:
        absent = int(np.count_nonzero((entries[:, 0] == _ABSENT) | (entries[:, 1] == 0)))
        if absent:
            raise MissingObjectError(
                self._name(path), expected=f"{len(entries)} chunks", got=f"{absent} without data", hint=_HINT
            )

    def _inner(self, shard: tuple[int, ...], box: Box) -> tuple[slice, ...]:
        """Where in the shard's index the chunks of `box` stand."""
        slices = []
        for s, g, c, a, b in zip(shard, self._grid, self._chunks, box.start, box.stop, strict=True):
            low, high = max(a - s * g, 0), min(b - s * g, g)
            slices.append(slice(low // c, -(-high // c)))
        return tuple(slices)

    def _read_all(self, path: str, index: _Index, end: int) -> bytes:
        """The object's bytes up to `end`, behind which there is at most its index, in parallel ranges."""
        step = max(_LEAST_RANGE, -(-end // self._width()))
        pieces = self._read_together(path, [(at, min(at + step, end)) for at in range(0, end, step)])
        return b"".join(pieces) if self._at_start else b"".join([*pieces, index.raw])

    def _read_together(self, path: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        if self._storage.location.is_local or len(ranges) == 1:
            return [self._storage.read_range(path, a, b) for a, b in ranges]
        with ThreadPoolExecutor(min(len(ranges), self._width())) as pool:
            return list(pool.map(lambda ab: self._storage.read_range(path, ab[0], ab[1]), ranges))

    def _read_ranges(self, path: str, wanted: list[tuple[int, int]]) -> dict[tuple[int, int], memoryview]:
        local = self._storage.location.is_local
        merged: list[list[int]] = []
        for start, stop in wanted:
            if merged and start <= merged[-1][1] + (_GAP_LOCAL if local else _GAP_REMOTE):
                merged[-1][1] = max(merged[-1][1], stop)
            else:
                merged.append([start, stop])
        blocks = self._read_together(path, [(a, b) for a, b in merged])
        ranges = {}
        number = 0
        for start, stop in wanted:
            while start >= merged[number][1]:
                number += 1
            begin = merged[number][0]
            ranges[start, stop] = memoryview(blocks[number])[start - begin : stop - begin]
        return ranges

    @property
    def _at_start(self) -> bool:
        assert self._index_settings is not None
        return self._index_settings.get("index_location") == "start"

    @property
    def _index_bytes(self) -> int:
        assert self._index_settings is not None
        checked = len(self._index_settings["index_codecs"]) == 2
        return math.prod(self._per_shard) * 16 + (4 if checked else 0)

    def _index_in(self, path: str, whole: bytes) -> bytes:
        length = self._index_bytes
        if len(whole) < length:
            raise CorruptObjectError(
                self._name(path),
                expected=f"at least its index of {length} bytes",
                got=f"{len(whole)} bytes",
                hint=_HINT,
            )
        return whole[:length] if self._at_start else whole[-length:]

    def _load_index(self, path: str) -> _Index:
        length = self._index_bytes
        if self._at_start:
            raw = self._storage.read_range(path, 0, length)
        else:
            raw = self._storage.read_tail(path, length)
        return self._parsed(path, raw, None)

    def _parsed(self, path: str, raw: bytes, size: int | None) -> _Index:
        """`size`: the object's bytes where known; else a chunk beyond the end fails when it is read."""
        count = math.prod(self._per_shard)
        table = raw[: count * 16]
        if len(raw) > len(table) and struct.unpack("<I", raw[-4:])[0] != google_crc32c.value(table):
            raise CorruptObjectError(
                f"shard index of {self._name(path)}", expected="its crc32c", got="another", hint=_HINT
            )
        entries = np.frombuffer(table, "<u8").reshape(*self._per_shard, 2)
        present = entries[entries[..., 0] != _ABSENT]
        most = _MOST if size is None else size
        # the first test keeps the sum in the second from wrapping around
        if (present > most).any() or (present.sum(axis=-1) > most).any():
            raise CorruptObjectError(
                f"shard index of {self._name(path)}",
                expected=f"chunks within {most} bytes",
                got="one beyond",
                hint=_HINT,
            )
        return _Index(raw, entries)

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
