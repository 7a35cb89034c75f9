"""Where the values of a label volume lie, found in one pass while its voxels are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import StoredObject
from radiobject.format.foreground import ForegroundIndex, fingerprint
from radiobject.storage import Storage

__all__ = ["PLACES", "index_voxels", "put_index", "write_index"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

_PER_VALUE = 10_000
"""Voxels kept of a value, as nnU-Net does."""

PLACES = 800_000
"""Bytes of places in an index."""

_ENTRIES = 120_000
"""Bytes of blocks in it: with the places it stays below 1 MB whatever the volume."""

_VALUES = 4096
"""A volume with more different values is no map of classes: none is made of it."""

_GOLDEN = (5**0.5 - 1) / 2


def index_voxels(
    voxels: Array, block: Sequence[int], of: str = "", places: int = PLACES, *, most: int = _VALUES
) -> ForegroundIndex | None:
    """The index of integers in disk order (..., z, y, x), by blocks of `block` voxels z, y, x.

    All frames count together. `places` is how many bytes of places there may be. None for a volume with more
    than `most` different values.
    """
    frames = voxels.reshape(-1, *voxels.shape[-3:])
    z, y, x = (int(n) for n in frames.shape[1:])
    shape, edges = (z, y, x), (int(block[0]), int(block[1]), int(block[2]))
    if frames.dtype == np.uint64 and frames.max() > np.iinfo(np.int64).max:
        return None
    entries: list[tuple[Ints, Ints]] = []
    for part, _ in _blocks(frames, edges):
        entries.append(_counted(part))
        if len(entries[-1][0]) > most:
            return None
    number = np.repeat(np.arange(len(entries)), [len(values) for values, _ in entries])
    value, count = (np.concatenate(columns) for columns in zip(*entries, strict=True))
    values, which = np.unique(value, return_inverse=True)
    if len(values) > most:
        return None
    counts = np.bincount(which, weights=count).astype(np.int64)
    small = np.dtype(np.uint32 if z * y * x <= 2**32 else np.uint64)
    kept = min(_PER_VALUE, max(places // (small.itemsize * len(values)), 1))
    order = np.lexsort((number, which))
    number, which, count = number[order], which[order], count[order]
    rows, picked = _chosen(count, counts, kept)
    flat, owner = _places(frames, edges, number[rows], which[rows], picked, values)
    cells, held = edges, (which, number, count)
    while len(held[0]) * 8 > _ENTRIES and any(n > b for n, b in zip(shape, cells, strict=True)):
        wider = (cells[0] * 2, cells[1] * 2, cells[2] * 2)
        held, cells = _merged(held, shape, cells, wider), wider
    flat = flat[np.lexsort((flat, _block_of(flat, shape, cells), owner))].astype(small)
    ends = np.searchsorted(held[0], np.arange(len(values) + 1)).tolist()
    stops = np.cumsum([0, *np.minimum(counts, kept)]).tolist()
    return ForegroundIndex(
        shape,
        cells,
        of,
        values.astype(np.int64),
        counts,
        tuple((held[1][a:b].astype(np.uint32), held[2][a:b].astype(np.uint32)) for a, b in pairwise(ends)),
        tuple(flat[a:b] for a, b in pairwise(stops)),
    )


def write_index(
    voxels: Array,
    block: Sequence[int],
    volume: str,
    objects: Sequence[Mapping[str, Any]],
    key: str,
    storage: Storage,
) -> dict[str, Any] | None:
    """Write the index of the volume at a path, and return its row's `_foreground`; None without one.

    The object at `key` is no part of the study before a commit names it.
    """
    made = index_voxels(voxels, block, fingerprint(volume, objects))
    return None if made is None else put_index(made, key, storage)


def put_index(index: ForegroundIndex, key: str, storage: Storage) -> dict[str, Any]:
    """Write an index at a key, and return its row's `_foreground`."""
    data = index.to_bytes()
    storage.write(key, data)
    return asdict(StoredObject.of(key, data))


def _blocks(frames: Array, edges: tuple[int, int, int]) -> Iterator[tuple[Array, tuple[int, int, int]]]:
    """Each block of all frames, and where it begins; x fastest."""
    z, y, x = frames.shape[1:]
    for a in range(0, z, edges[0]):
        for b in range(0, y, edges[1]):
            for c in range(0, x, edges[2]):
                yield frames[:, a : a + edges[0], b : b + edges[1], c : c + edges[2]], (a, b, c)


def _counted(part: Array) -> tuple[Ints, Ints]:
    """The values in a block, and how often each occurs; most blocks have one."""
    low, high = int(part.min()), int(part.max())
    if low == high:
        return np.array([low]), np.array([part.size])
    if high - low < 2**16:
        counts = np.bincount(part.ravel().astype(np.int64) - low)
        values = np.flatnonzero(counts)
        return values + low, counts[values]
    values, counts = np.unique(part, return_counts=True)
    return values.astype(np.int64), counts


def _chosen(count: Ints, counts: Ints, kept: int) -> tuple[Ints, Ints]:
    """Which voxels are kept: the row of each (of a value in a block, by both), and its rank in that row."""
    ranks, before = [], 0
    for total in counts.tolist():
        ranks.append(_spread(total, min(total, kept)) + before)
        before += total
    ranked, ends = np.concatenate(ranks), np.cumsum(count)
    rows = np.searchsorted(ends, ranked, side="right")
    return rows, ranked - (ends - count)[rows]


def _spread(total: int, kept: int) -> Ints:
    """`kept` of `total` numbers, ascending.

    One of each of `kept` equal parts, shifted within its part by the golden ratio: none twice, none more
    likely, and no stride in step with the rows of a block.
    """
    if total < 2 * kept:
        # neighbours may meet where parts are shorter than 1.62: those that are left out lie further apart
        mask = np.ones(total, dtype=bool)
        if kept < total:
            mask[_spread(total, total - kept)] = False
        return np.flatnonzero(mask)
    steps = np.arange(kept)
    return ((steps + (steps * _GOLDEN) % 1) * (total / kept)).astype(np.int64)


def _places(
    frames: Array, edges: tuple[int, int, int], number: Ints, which: Ints, picked: Ints, values: Array
) -> tuple[Ints, Ints]:
    """The chosen voxels as flat numbers within a frame, and which value each has; block by block."""
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(int(number.max()) + 2)).tolist()
    places, owners = [], []
    for (part, begin), (first, last) in zip(_blocks(frames, edges), pairwise(ends), strict=False):
        if first == last:
            continue
        mine, flat = order[first:last], part.ravel()
        at = picked[mine]
        if not (flat == flat[0]).all():
            # equal values stand together in such an order, in the order of their places
            sorted_at = np.argsort(flat, kind="stable")
            # in their own type: NumPy would compare uint64 with int64 as floats
            wanted = values[which[mine]].astype(flat.dtype)
            at = sorted_at[np.searchsorted(flat[sorted_at], wanted) + at]
        _, z, y, x = np.unravel_index(at, part.shape)
        whole = (z + begin[0], y + begin[1], x + begin[2])
        places.append(np.ravel_multi_index(whole, frames.shape[1:]))
        owners.append(which[mine])
    return np.concatenate(places), np.concatenate(owners)


def _merged(
    held: tuple[Ints, Ints, Ints],
    shape: tuple[int, int, int],
    cells: tuple[int, int, int],
    wider: tuple[int, int, int],
) -> tuple[Ints, Ints, Ints]:
    """The same counts by blocks twice as wide."""
    which, number, count = held
    z, y, x = np.unravel_index(number, _grid(shape, cells))
    coarse = np.ravel_multi_index((z // 2, y // 2, x // 2), _grid(shape, wider))
    both = np.stack([which, coarse])
    pairs, back = np.unique(both, axis=1, return_inverse=True)
    sums = np.bincount(back.reshape(-1), weights=count).astype(np.int64)
    return pairs[0], pairs[1], sums


def _block_of(places: Ints, shape: tuple[int, int, int], cells: tuple[int, int, int]) -> Ints:
    z, y, x = np.unravel_index(places, shape)
    number: Ints = np.ravel_multi_index((z // cells[0], y // cells[1], x // cells[2]), _grid(shape, cells))
    return number


def _grid(shape: Sequence[int], cells: Sequence[int]) -> tuple[int, int, int]:
    """Blocks along z, y, x."""
    z, y, x = (-(-n // b) for n, b in zip(shape, cells, strict=True))
    return z, y, x
