"""Foreground index: where the values of a label volume lie, in one object beside it, told without its voxels.

The object is an Arrow IPC file, whose columns are used where they were read; section 9 of schemas/README.md
has them. It is read, not mapped into memory: a mapped file that goes away on a network's disk, as clean-up by
another machine makes it, kills the process that looks at it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from radiobject import measuring
from radiobject.errors import CorruptObjectError, FormatError, StaleIndexError
from radiobject.format.layout import INDEXES
from radiobject.format.meta import FORMAT
from radiobject.storage import Storage, check_key

__all__ = ["ForegroundIndex", "fingerprint", "parse_index", "read_index"]

Ints = npt.NDArray[np.int64]

_TYPE = "foreground"
_KEY = b"radiobject"


@dataclass(frozen=True, eq=False)
class ForegroundIndex:
    """The values of a label volume: how often each occurs, in which blocks, and some of its voxels.

    `shape` and `block` are voxels z, y, x: blocks of that size lie side by side, numbered with x fastest, and
    those at the far ends are cut off. `values` (n,) are in ascending order, `counts` (n,) their voxels over
    all frames. For each value, `blocks` has the numbers of the blocks that hold it and how many of its voxels
    each does, and `places` at most a few thousand of its voxels, as flat numbers in an array of `shape`,
    block by block; every voxel of the value is as likely among them as any other.

    `of` is the `fingerprint` of the volume that it was made from.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    of: str
    values: Ints
    counts: Ints
    blocks: tuple[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]], ...]
    places: tuple[npt.NDArray[Any], ...]
    nbytes: int = 0

    def to_bytes(self) -> bytes:
        """The object as it is stored."""
        wide = math.prod(self.shape) > 2**32
        table = pa.table(
            {
                "value": pa.array(self.values, pa.int64()),
                "voxels": pa.array(self.counts, pa.int64()),
                "blocks": _lists([numbers for numbers, _ in self.blocks], np.uint32),
                "block_voxels": _lists([counts for _, counts in self.blocks], np.uint32),
                "places": _lists(self.places, np.uint64 if wide else np.uint32),
            }
        )
        said = {"type": _TYPE, "format": FORMAT, "shape": self.shape, "block": self.block, "of": self.of}
        table = table.replace_schema_metadata({_KEY: json.dumps(said)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    @classmethod
    def from_buffer(cls, data: Any, where: str) -> ForegroundIndex:
        """What `to_bytes` has written. Arrays are views of `data`. `FormatError` for anything else."""
        try:
            table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
            table.validate(full=True)
            said = json.loads(table.schema.metadata[_KEY])
            if said["type"] != _TYPE or str(said["format"]).split(".")[0] != FORMAT.split(".")[0]:
                raise ValueError(f"{said['type']} of format {said['format']}")
            found = cls(
                _three(said["shape"]),
                _three(said["block"]),
                str(said["of"]),
                _numbers(table["value"], pa.int64()),
                _numbers(table["voxels"], pa.int64()),
                tuple(
                    zip(
                        _arrays(table["blocks"], pa.uint32()),
                        _arrays(table["block_voxels"], pa.uint32()),
                        strict=True,
                    )
                ),
                _arrays(table["places"], pa.uint32(), pa.uint64()),
                len(data),
            )
            found._check()
        except (pa.ArrowException, OSError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise FormatError(where, expected="a foreground index", got=repr(error)[:200]) from error
        return found

    def _check(self) -> None:
        """Raise `ValueError` for numbers that no volume of this shape can have."""
        voxels = math.prod(self.shape)
        grid = math.prod(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))
        if (self.values[1:] <= self.values[:-1]).any() or (self.counts < 1).any():
            raise ValueError("values that are not in order, or have no voxels")
        for (numbers, counts), places, total in zip(self.blocks, self.places, self.counts, strict=True):
            if not len(places) or int(places.max()) >= voxels:
                raise ValueError("places outside the volume")
            if len(numbers) != len(counts) or not len(numbers) or int(numbers.max()) >= grid:
                raise ValueError("blocks outside the volume")
            if int(counts.sum(dtype=np.uint64)) != total:
                raise ValueError("blocks that do not hold as many voxels as there are")


def fingerprint(volume: str, objects: Iterable[Mapping[str, Any]]) -> str:
    """A digest (64 hex digits) of a volume as its row tells it: its path, and its objects with checksums.

    The same voxels at another place, on another backend, or otherwise compressed, have another one.
    """
    stored = sorted((o["path"], o["bytes"], o["crc32c"], (o.get("digest") or b"").hex()) for o in objects)
    return hashlib.sha256(json.dumps([volume, stored]).encode()).hexdigest()


def read_index(
    storage: Storage, stated: Mapping[str, Any], volume: str, objects: Iterable[Mapping[str, Any]]
) -> ForegroundIndex:
    """The index that a row names (`stated`), for its volume at a path, of these objects.

    Raises `MissingObjectError`, `CorruptObjectError` for other bytes than were committed, and
    `StaleIndexError` for one that was made from other voxels.
    """
    key = check_key(stated["path"])
    where = f"{storage.location.uri}/{key}"
    if not key.startswith(f"{INDEXES}/"):
        raise FormatError(where, expected=f"an index below {INDEXES}/", got="another object of the study")
    data = storage.read(key)
    if len(data) != stated["bytes"] or google_crc32c.value(data) != stated["crc32c"]:
        raise CorruptObjectError(
            where, expected="the bytes that were committed", got=f"{len(data)} others",
            hint="Build it again: radi.index_foreground(rebuild=True).",
        )  # fmt: skip
    found = parse_index(data, where, volume, objects)
    measuring.add("indexes_opened")
    return found


def parse_index(
    data: bytes, where: str, volume: str, objects: Iterable[Mapping[str, Any]]
) -> ForegroundIndex:
    """The index that these bytes are, for a volume at a path, of these objects.

    `FormatError` for other bytes, `StaleIndexError` for an index that was made from other voxels.
    """
    found = ForegroundIndex.from_buffer(data, where)
    if found.of != (now := fingerprint(volume, objects)):
        raise StaleIndexError(
            where, expected=f"an index of this volume ({now[:12]})",
            got=f"one of other voxels ({found.of[:12]})",
            hint="Build it again: radi.index_foreground(rebuild=True).",
        )  # fmt: skip
    return found


def _lists(arrays: Iterable[npt.NDArray[Any]], dtype: Any) -> pa.Array:
    several = [np.asarray(a, dtype=dtype) for a in arrays]
    offsets = np.cumsum([0, *(len(a) for a in several)])
    joined = np.concatenate(several) if several else np.empty(0, dtype)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(joined))


def _arrays(column: pa.ChunkedArray, *kinds: pa.DataType) -> tuple[npt.NDArray[Any], ...]:
    """A column of lists as arrays, without a copy."""
    if not pa.types.is_list(column.type) or column.type.value_type not in kinds:
        raise ValueError(f"a column of {column.type}")
    if column.null_count or column.num_chunks > 1:
        raise ValueError(f"a column of {column.type}")
    lists = column.combine_chunks() if column.num_chunks == 0 else column.chunk(0)
    offsets, items = lists.offsets.to_numpy(), lists.values
    if items.null_count:
        raise ValueError("nulls in a list")
    flat = items.to_numpy()
    return tuple(flat[a:b] for a, b in pairwise(offsets))


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> npt.NDArray[Any]:
    if column.type != kind or column.null_count:
        raise ValueError(f"a column of {column.type}")
    found: npt.NDArray[Any] = column.to_numpy()
    return found


def _three(sizes: Any) -> tuple[int, int, int]:
    z, y, x = sizes
    if not all(isinstance(n, int) and 0 < n < 2**31 for n in (z, y, x)):
        raise ValueError(f"sizes {sizes}")
    return z, y, x
