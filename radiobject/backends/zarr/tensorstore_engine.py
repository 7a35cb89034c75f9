"""Reading and encoding arrays by tensorstore."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from radiobject import measuring
from radiobject.backends.base import ArraySpec
from radiobject.backends.zarr import engine
from radiobject.config import current
from radiobject.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    RadiObjectError,
    StorageError,
    StorageReadOnlyError,
)
from radiobject.failures import hint_for
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["make_encoder", "open_array"]

# Each of its threads waits for one request at a time, and there are four: the ranges of one 64-cube would go
# in two rounds. Read when tensorstore first uses the network; whoever has set it is not overruled.
os.environ.setdefault("TENSORSTORE_HTTP_THREADS", "32")

# What a server sent along: S3's answers to wrong credentials have the access key in them.
_SENT = re.compile(r" \[(?:http_response_body|x-amzn-requestid|x-amz-[a-z0-9-]+)='(?:[^'\\]|\\.)*'\]")
_NO_PROVIDER = re.compile("Failed to (create|get) credentials")
_CODE = re.compile(r"^([A-Z_]+): ")
_CORRUPT = ("DATA_LOSS", "OUT_OF_RANGE", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
_REQUESTS = re.compile(r"/tensorstore/kvstore/[^/]+/(batch_read|bytes_read)$")


_SPARE = 2**24  # for the index of a shard, and what lies between chunks

# From here on malloc takes pages anew from the kernel for each block, and NumPy asks for huge ones where
# tensorstore does not: a whole volume of 157 MB costs a quarter less of the processor. Below it is all one.
_LARGE = 2**25


class _OpenArray:
    __slots__ = ("_checked", "_context", "_folder", "_spec", "_storage", "_store")

    def __init__(self, store: Any, context: Any, storage: Storage, folder: str, spec: ArraySpec) -> None:
        self._store, self._context = store, context
        self._storage, self._folder, self._spec = storage, folder, spec
        self._checked: set[tuple[int, ...]] = set()

    @property
    def _where(self) -> str:
        return f"{self._storage.location.uri}/{self._folder}"

    def read(self, box: Box) -> npt.NDArray[Any]:
        if self._storage.location.is_local:
            self._check_files(box)
        try:
            stored = self._store[box.slices]
            if math.prod(box.shape) * self._spec.dtype.itemsize < _LARGE:
                block: npt.NDArray[Any] = stored.read().result()
            else:
                block = np.empty(box.shape, self._spec.dtype)
                ts.array(block, context=self._context).write(stored).result()
        except Exception as error:
            raise _mapped(error, self._where) from error
        return block

    def _check_files(self, box: Box) -> None:
        """tensorstore waits for ever at a pipe, and follows a link to wherever it leads."""
        spans = zip(box.start, box.stop, self._spec.shards, strict=True)
        for shard in itertools.product(*(range(a // n, -(-b // n)) for a, b, n in spans)):
            if shard not in self._checked:
                key = f"{self._folder}/c/{'/'.join(map(str, shard))}"
                # a sparse file of a terabyte takes no place, and tensorstore ends the process over it
                decoded = math.prod(self._spec.shards) * self._spec.dtype.itemsize
                _require_inside(self._storage.location, key, 4 * decoded + _SPARE)
                self._checked.add(shard)

    def native(self) -> Any:
        return self._store


@lru_cache(maxsize=2**16)
def _require_inside(location: Location, key: str, at_most: int) -> None:
    """Once for each object in a process: it costs half as much as a small read, and objects never change."""
    Storage(location).require_inside(key, at_most)


class _Encoder:
    """Shards are encoded into a memory store of this encoder alone, then taken out of it."""

    def __init__(self, spec: ArraySpec, document: str) -> None:
        engine.note_tensorstore_use()
        self._context = ts.Context({})
        try:
            self._store = ts.open(
                {
                    "driver": "zarr3",
                    "kvstore": {"driver": "memory"},
                    "metadata": json.loads(document),
                    "store_data_equal_to_fill_value": True,
                },
                open=True,
                assume_metadata=True,
                context=self._context,
            ).result()
            self._objects = ts.KvStore.open({"driver": "memory"}, context=self._context).result()
        except Exception as error:
            raise _mapped(error, "the encoder") from error

    def encode(self, box: Box, block: npt.NDArray[Any]) -> Iterator[tuple[str, bytes]]:
        try:
            # the block outlives the write, because the write is awaited: no second copy of the shard
            self._store[box.slices].write(block, can_reference_source_data_indefinitely=True).result()
            keys = self._objects.list().result()
        except Exception as error:
            raise _mapped(error, "the encoder") from error
        for key in keys:
            data: bytes = self._objects[key]
            del self._objects[key]
            yield key.decode(), data


def open_array(storage: Storage, folder: str, spec: ArraySpec, document: str) -> _OpenArray:
    """The array whose zarr.json is known: no request is made before the first read."""
    where = f"{storage.location.uri}/{folder}"
    try:
        read = current().read
        context = _context(
            read.concurrency, read.cache_bytes, storage.location.max_requests, storage.location.retries
        )
        opened = ts.open(
            _spec(document),
            kvstore=ts.KvStore.Spec(storage.location.kvstore(folder)),
            context=context,
            open=True,
            assume_metadata=True,
        ).result()
    except Exception as error:
        mapped = _mapped(error, where)
        if isinstance(mapped, CorruptObjectError):
            # nothing was read yet: it is the metadata that the engine does not take
            raise FormatError(f"metadata of {where}", got=str(error)[:500]) from error
        raise mapped from error
    return _OpenArray(opened, context, storage, folder, spec)


def make_encoder(spec: ArraySpec, document: str) -> _Encoder:
    """An encoder of shards of the array that the document describes."""
    return _Encoder(spec, document)


@lru_cache(maxsize=1024)
def _spec(document: str) -> Any:
    """Volumes of one kind share the document: parsing it once halves the time to open one."""
    return ts.Spec(
        {
            "driver": "zarr3",
            "metadata": json.loads(document),
            # volumes are immutable: what was read once stays true
            "recheck_cached_data": False,
            "recheck_cached_metadata": False,
            "fill_missing_data_reads": False,
        }
    )


@lru_cache(maxsize=16)
def _context(
    concurrency: int | None, cache_bytes: int, requests: int | None = None, retries: int | None = None
) -> Any:
    """One context per process and setting, so that all handles share one cache of shard indexes.

    `requests` bounds what is asked of S3 at a time, `retries` how often; the cache is that of handles without
    such bounds.
    """
    engine.note_tensorstore_use()
    settings: dict[str, Any] = {}
    if requests is not None:
        settings["s3_request_concurrency"] = {"limit": requests}
    if retries is not None:
        settings["s3_request_retries"] = {"max_retries": retries}
    if settings:
        return ts.Context(settings, parent=_context(concurrency, cache_bytes))
    settings["cache_pool"] = {"total_bytes_limit": cache_bytes}
    if concurrency is not None:
        for resource in ("data_copy_concurrency", "file_io_concurrency"):
            settings[resource] = {"limit": concurrency}
    return ts.Context(settings)


def _mapped(error: Exception, where: str) -> RadiObjectError:
    """Our error for one of tensorstore's, which say their kind only in the first word of the message."""
    text = _SENT.sub("", str(error))
    match = _CODE.match(text)
    code = match.group(1) if match else ""
    hint = "Restore the object or ingest the volume again."
    if code == "NOT_FOUND":
        return MissingObjectError(where, expected="every object that was written", got=text[:1000], hint=hint)
    if code in _CORRUPT:
        return CorruptObjectError(where, expected="the bytes that were written", got=text[:1000], hint=hint)
    if code == "PERMISSION_DENIED" or _NO_PROVIDER.search(text):
        what_to_do = hint_for(text) or "Check the rights of this place."
        return StorageReadOnlyError(where, got=text[:1000], hint=what_to_do)
    return StorageError(where, got=text[:1000] or type(error).__name__, hint=hint_for(text))


def _totals() -> dict[str, int]:
    if engine.forked_after_use():
        # the parent's totals; nothing of tensorstore runs in this process
        return {}
    totals = {"requests": 0, "bytes_read": 0}
    for metric in ts.experimental_collect_matching_metrics("/tensorstore/kvstore/"):
        match = _REQUESTS.match(metric["name"])
        if match:
            name = "bytes_read" if match.group(1) == "bytes_read" else "requests"
            totals[name] += sum(int(entry.get("value", 0)) for entry in metric["values"])
    return totals


measuring.register_probe(_totals)
