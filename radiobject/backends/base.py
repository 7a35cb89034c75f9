"""The seam: what a backend promises, and the plan of chunks and shards that all backends share.

A backend stores volumes as arrays. It sees typed boxes, JSON attributes and bytes; it knows nothing of
subjects, tables, commits, anatomy or file formats. `radiobject.testing.BackendTests` checks the promises.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject.config import DEFAULT_CHUNK, MAX_SHARD_BYTES, CompressionConfig, SliceOrientation, TileConfig
from radiobject.errors import ConfigError, FormatError, IndexingError
from radiobject.geometry.box import Box

__all__ = [
    "DISK_AXES",
    "DTYPES",
    "MAX_DOCUMENT",
    "ArraySpec",
    "Backend",
    "Capabilities",
    "Level",
    "StoredObject",
    "StoredVolume",
    "VolumeHandle",
    "VolumeWriter",
    "check_document",
    "plan_array",
]

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
"""Stored element types, little-endian on disk."""

Bytes = bytes
"""The type, where a field has its name."""

MAX_DOCUMENT = 16 * 2**20
"""Bytes of a JSON document of a volume."""

_MAX_NESTED = 500_000
"""Lists and objects in one, which take a hundred bytes each in memory and three in the document."""

DISK_AXES = ("t", "c", "z", "y", "x")
"""Order of axes on disk; a volume has a subset that ends in z, y, x."""


@dataclass(frozen=True)
class ArraySpec:
    """One array as it stands on disk: C order, axes a subset of (t, c, z, y, x) that ends in z, y, x.

    `chunks` is the unit of decoding, `shards` (a multiple of it) the unit of storage and of writing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dims: tuple[str, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    codec: CompressionConfig = field(default_factory=CompressionConfig)

    def __post_init__(self) -> None:
        dtype = np.dtype(self.dtype).newbyteorder("=")
        object.__setattr__(self, "dtype", dtype)
        if dtype.str[1:] not in DTYPES:
            raise FormatError("dtype", expected=f"one of {', '.join(DTYPES)}", got=str(dtype))
        if tuple(d for d in DISK_AXES if d in self.dims) != self.dims or self.dims[-3:] != ("z", "y", "x"):
            raise FormatError(
                "axes", expected="a subset of t, c, z, y, x ending in z, y, x", got=str(self.dims)
            )
        if not len(self.shape) == len(self.dims) == len(self.chunks) == len(self.shards):
            raise FormatError("shape, axes, chunks and shards", expected="equal lengths", got=repr(self))
        if any(n < 1 for n in (*self.shape, *self.chunks)) or any(
            s % c for s, c in zip(self.shards, self.chunks, strict=True)
        ):
            raise FormatError("chunks", expected="positive, and shards a multiple of chunks", got=repr(self))

    @property
    def box(self) -> Box:
        """The whole array."""
        return Box((0,) * len(self.shape), self.shape)

    @property
    def nbytes(self) -> int:
        """Uncompressed size."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Uncompressed size of a chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def shard_boxes(self) -> list[Box]:
        """Every shard as a box clipped to the array, in C order. A writer is handed exactly these."""
        counts = [math.ceil(n / s) for n, s in zip(self.shape, self.shards, strict=True)]
        boxes = []
        for index in np.ndindex(*counts):
            start = tuple(i * s for i, s in zip(index, self.shards, strict=True))
            stop = tuple(min(a + s, n) for a, s, n in zip(start, self.shards, self.shape, strict=True))
            boxes.append(Box(start, stop))
        return boxes

    def check(self, box: Box) -> None:
        """Refuse a box of another rank or beyond the array; on the hot path of every read."""
        if len(box.start) == len(box.stop) == len(self.shape):
            for a, b, n in zip(box.start, box.stop, self.shape, strict=True):
                if not 0 <= a <= b <= n:
                    break
            else:
                return
        raise IndexingError("box", expected=f"inside shape {self.shape}", got=f"{box.start} to {box.stop}")

    def chunks_in(self, box: Box) -> int:
        """How many inner chunks a read of `box` has to decode."""
        return math.prod(
            -(-b // c) - a // c for a, b, c in zip(box.start, box.stop, self.chunks, strict=True)
        )


@dataclass(frozen=True)
class Level:
    """One resolution of a volume: its path inside the volume ("0", "pyramid/1") and its array."""

    path: str
    spec: ArraySpec


@dataclass(frozen=True)
class StoredObject:
    """One object on disk: path relative to the volume, size in bytes, checksums of its bytes.

    `crc32c` alone does not tell objects apart that end in their own CRC-32C, as inner chunks and indexes of
    Zarr shards do: all such of one size have the same one. `digest` does: the first 16 bytes of the SHA-256.
    """

    path: str
    bytes: int
    crc32c: int
    digest: Bytes | None = None

    @classmethod
    def of(cls, path: str, data: Bytes) -> StoredObject:
        """The object of these bytes.

        >>> StoredObject.of("0/c/0", b"voxels").matches(b"others")
        False
        """
        return cls(path, len(data), google_crc32c.value(data), hashlib.sha256(data).digest()[:16])

    def matches(self, data: Bytes) -> bool:
        """Whether these are its bytes; by the size and the CRC-32C alone where it has no digest."""
        if len(data) != self.bytes or google_crc32c.value(data) != self.crc32c:
            return False
        return self.digest is None or hashlib.sha256(data).digest()[:16] == self.digest


@dataclass(frozen=True)
class StoredVolume:
    """What a finished write returns: `hint` lets `open_volume` answer without a request."""

    hint: str
    objects: tuple[StoredObject, ...]


@dataclass(frozen=True)
class Capabilities:
    """What a backend says of itself; the conformance suite asks accordingly.

    `persistent`: volumes outlive the process and can be opened from another one.
    `sharding`: inner chunks are decoded one by one inside a shard.
    """

    persistent: bool
    sharding: bool


class VolumeWriter(Protocol):
    """Writes one volume, once. Not thread-safe; one writer per volume.

    - `write` takes boxes from `spec.shard_boxes()`, each exactly once, in any order, and an array of the
      box's shape and the spec's dtype.
    - Nothing is openable before `finish`, which writes the metadata that makes the volume a volume, last.
    - `abort` leaves nothing openable and may leave litter; it never raises because of what was not written.
    """

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None: ...

    def finish(self) -> StoredVolume: ...

    def abort(self) -> None: ...


@runtime_checkable
class VolumeHandle(Protocol):
    """A lazy reader of one volume.

    - Making one costs no request when it was given a hint; the first read opens.
    - `read` returns an owned, writable, C-contiguous array of native byte order, in disk axis order.
    - A missing or changed byte is `IntegrityError`, never a voxel.
    - Safe to share between threads; pickles without secrets; reopens in another process.
    - It may have `uri`, the place of the volume: what `Volume.uri` answers, None without it.
    - It may have `objects`, the paths inside the volume of all that it consists of: without it nobody notices
      that a row leaves one out.
    """

    @property
    def levels(self) -> tuple[Level, ...]: ...

    @property
    def spec(self) -> ArraySpec: ...

    @property
    def attrs(self) -> dict[str, Any]: ...

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]: ...

    def extra(self, name: str) -> bytes: ...

    def native(self) -> Any: ...


class Backend(Protocol):
    """Stores volumes under one `Location`. `path` is relative to it, with forward slashes.

    - `attrs` and `extras` (named byte strings) are kept with the volume and given back unchanged.
    - `create_volume` refuses a path that is taken; `open_volume` of nothing is `MissingObjectError`.
    - A path is used once, even after `delete_volume`: readers may keep what they read of a volume.
    - A volume is its objects: copied one by one to another path or place, they are the same volume, and its
      hint opens it there.
    - `delete_volume` removes every object of the volume and is silent when there is none.
    """

    name: str
    suffix: str
    capabilities: Capabilities

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter: ...

    def open_volume(self, path: str, hint: str | None = None) -> VolumeHandle: ...

    def delete_volume(self, path: str) -> None: ...


def check_document(
    text: bytes | str, where: str, most: int = MAX_DOCUMENT, nested: int = _MAX_NESTED
) -> None:
    """Refuse (`FormatError`) JSON of more than `most` bytes or `nested` lists and objects, unparsed.

    The defaults are those of documents of volumes.
    """
    if len(text) > most:
        raise FormatError(where, expected=f"a document of at most {most} bytes", got=f"{len(text)} bytes")
    found = (
        text.count("{") + text.count("[") if isinstance(text, str) else text.count(b"{") + text.count(b"[")
    )
    if found > nested:
        raise FormatError(where, expected=f"at most {nested} lists and objects", got=str(found))


def plan_array(
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    dims: Sequence[str],
    tile: TileConfig | None = None,
    codec: CompressionConfig | None = None,
) -> ArraySpec:
    """Choose inner chunks and shards for an array in disk order.

    The default, 32-cubes in one shard, serves planes and cubes alike (docs/benchmarks.md). A shard holds at
    most 512 MiB of voxels; larger arrays are split along t, then c, then z.

    >>> plan_array((155, 240, 240), "i2", ("z", "y", "x")).shards
    (160, 256, 256)
    """
    tile = tile or TileConfig()
    dims = tuple(dims)
    sizes = dict(zip(dims, (int(n) for n in shape), strict=True))
    dtype = np.dtype(dtype)
    want = _chunk_of(tile, sizes)
    chunks = {d: min(want[d], n) for d, n in sizes.items()}
    shards = {d: math.ceil(n / chunks[d]) * chunks[d] for d, n in sizes.items()}
    if tile.shards is not None:
        for d, n in zip(("x", "y", "z"), tile.shards, strict=True):
            if n % want[d]:
                raise ConfigError(
                    f"TileConfig(shards=) along {d}",
                    expected=f"a multiple of the chunk, {want[d]}",
                    got=str(n),
                )
            shards[d] = min(shards[d], math.ceil(n / chunks[d]) * chunks[d])
    for d in dims:
        rest = math.prod(n for k, n in shards.items() if k != d) * dtype.itemsize
        if shards[d] * rest <= MAX_SHARD_BYTES:
            break
        shards[d] = max(MAX_SHARD_BYTES // rest // chunks[d], 1) * chunks[d]
    return ArraySpec(
        tuple(sizes.values()),
        dtype,
        dims,
        tuple(chunks[d] for d in dims),
        tuple(shards[d] for d in dims),
        _settled(codec or CompressionConfig(), dtype),
    )


def _settled(codec: CompressionConfig, dtype: np.dtype[Any]) -> CompressionConfig:
    """A codec without "auto", for a caller who has no voxels to try: bytes up to 16 bits, bits beyond."""
    if codec.shuffle != "auto":
        return codec
    return replace(codec, shuffle="shuffle" if dtype.itemsize <= 2 else "bitshuffle")


def _chunk_of(tile: TileConfig, sizes: Mapping[str, int]) -> dict[str, int]:
    if tile.orientation is SliceOrientation.ISOTROPIC:
        spatial = dict.fromkeys("xyz", DEFAULT_CHUNK)
    else:
        thin = {"axial": "z", "sagittal": "x", "coronal": "y"}[tile.orientation.value]
        spatial = {d: 1 if d == thin else sizes[d] for d in "xyz"}
    given = zip("xyz", tile.chunks or (), strict=False)
    return {"t": tile.chunk_t, "c": 1, **spatial, **{d: n for d, n in given if n is not None}}
