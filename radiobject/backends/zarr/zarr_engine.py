"""Reading and encoding arrays by zarr-python, with the bytes found and checked before it sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from radiobject.backends.base import ArraySpec
from radiobject.backends.zarr.shards import Found, Shards
from radiobject.errors import CapabilityError, CorruptObjectError, FormatError, RadiObjectError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = ["make_encoder", "open_array"]

Fetch = Callable[[str, int | None, int | None], "bytes | memoryview | bytearray"]


class _ReadStore(Store):
    """A read-only zarr store on one function: (key, start, stop) -> bytes, which raises rather than miss.

    `start` None: the whole object. Negative `start`: so many bytes from the end.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, fetch: Fetch, *, blocking: bool) -> None:
        super().__init__(read_only=True)
        self._fetch = fetch
        self._blocking = blocking

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        start: int | None
        stop: int | None
        match byte_range:
            case None:
                start, stop = None, None
            case RangeByteRequest():
                start, stop = byte_range.start, byte_range.end
            case SuffixByteRequest():
                start, stop = -byte_range.suffix, None
            case _:
                raise CapabilityError(f"{key}", expected="a range or a suffix", got=repr(byte_range))
        if self._blocking:
            data = await asyncio.to_thread(self._fetch, key, start, stop)
        else:
            data = self._fetch(key, start, stop)
        return (prototype or default_buffer_prototype()).buffer.from_array_like(np.frombuffer(data, "u1"))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ReadStore) and self._fetch == other._fetch

    __hash__ = None  # type: ignore[assignment]

    async def exists(self, key: str) -> bool:
        raise _refused(key)

    async def set(self, key: str, value: Buffer) -> None:
        raise _refused(key)

    async def delete(self, key: str) -> None:
        raise _refused(key)

    def list(self) -> AsyncIterator[str]:
        raise _refused("")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise _refused(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise _refused(prefix)


def _refused(key: str) -> CapabilityError:
    return CapabilityError(f"object {key!r} of a volume", expected="a read", got="another call")


class _OpenArray:
    """Each read finds its bytes, then lets zarr-python decode them from memory."""

    def __init__(self, storage: Storage, folder: str, spec: ArraySpec, document: str) -> None:
        self._where = f"{storage.location.uri}/{folder}"
        self._document = json.loads(document)
        self._dtype = spec.dtype
        first = self._document["codecs"][0]
        sharding = first.get("configuration") if isinstance(first, dict) else None
        index = sharding if isinstance(first, dict) and first.get("name") == "sharding_indexed" else None
        self._shards = Shards(storage, folder, spec.shards, spec.chunks, spec.dtype.itemsize, index)
        self._array(_no_bytes, blocking=False)

    def _array(self, fetch: Fetch, *, blocking: bool) -> zarr.Array[Any]:
        try:
            store = StorePath(_ReadStore(fetch, blocking=blocking), "")
            return zarr.Array.from_dict(store, {"attributes": {}, **self._document})
        except Exception as error:
            raise FormatError(
                f"metadata of {self._where}", expected="what zarr-python takes", got=str(error)[:500]
            ) from error

    def read(self, box: Box) -> npt.NDArray[Any]:
        found = self._shards.fetch(box)

        def fetch(key: str, start: int | None, stop: int | None) -> bytes | memoryview | bytearray:
            return _served(found[key], start, stop)

        try:
            block = self._array(fetch, blocking=False)[box.slices]
        except RadiObjectError:
            raise
        except Exception as error:
            raise CorruptObjectError(
                self._where,
                expected="the bytes that were written",
                got=f"{type(error).__name__}: {error}"[:1000],
                hint="Restore the object or ingest the volume again.",
            ) from error
        # zarr-python promises neither memory order nor a writable array; what it has right is not copied
        return np.require(block, self._dtype, ["C", "W"])

    def native(self) -> zarr.Array[Any]:
        return self._array(self._shards.fetch_range, blocking=True)


class _Encoder:
    def __init__(self, spec: ArraySpec, document: str) -> None:
        self._objects: dict[str, Buffer] = {}
        store = StorePath(MemoryStore(self._objects), "")
        array = zarr.Array.from_dict(store, {"attributes": {}, **json.loads(document)})
        self._array = array.with_config({"write_empty_chunks": True})

    def encode(self, box: Box, block: npt.NDArray[Any]) -> Iterator[tuple[str, bytes]]:
        self._array[box.slices] = block
        for key in list(self._objects):
            yield key, self._objects.pop(key).to_bytes()


def open_array(storage: Storage, folder: str, spec: ArraySpec, document: str) -> _OpenArray:
    """The array whose zarr.json is known: no request is made before the first read."""
    return _OpenArray(storage, folder, spec, document)


def make_encoder(spec: ArraySpec, document: str) -> _Encoder:
    """An encoder of shards of the array that the document describes."""
    return _Encoder(spec, document)


def _served(found: Found, start: int | None, stop: int | None) -> bytes | memoryview | bytearray:
    if start is not None and start < 0:
        return found.index_bytes
    if found.whole is not None:
        return memoryview(found.whole)[start:stop]
    if start == 0 and stop == len(found.index_bytes) and (0, stop) not in found.ranges:
        return found.index_bytes
    assert start is not None
    assert stop is not None
    exact = found.ranges.get((start, stop))
    return _joined(found, start, stop) if exact is None else exact


def _joined(found: Found, start: int, stop: int) -> bytearray:
    """Several chunks and the bytes between them, which nobody decodes: zarr-python 3.4 asks for such."""
    inside = {(a, b): data for (a, b), data in found.ranges.items() if start <= a and b <= stop}
    if not inside or min(a for a, _ in inside) != start or max(b for _, b in inside) != stop:
        raise CapabilityError("a read", expected="whole chunks of its box", got=f"bytes {start} to {stop}")
    joined = bytearray(stop - start)
    for (a, b), data in inside.items():
        joined[a - start : b - start] = data
    return joined


def _no_bytes(key: str, start: int | None, stop: int | None) -> bytes:
    raise _refused(key)
