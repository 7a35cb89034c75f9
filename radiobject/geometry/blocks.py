"""Blocks: the mean or the most frequent value of each block of voxels, exact at the edges.

Both take an array whose last three axes are space, and how many voxels a block has along these. Axes before
them are carried along. Where a length is no multiple of the block's, the last blocks are smaller: they speak
of the voxels that are there. The result has the type of the source, and a block's value depends on its voxels
alone, whatever array they lie in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["block_means", "block_modes"]

_SLAB = 2**20
"""Voxels looked at in one step: what is computed in between stays small, and in the cache."""

Voxels = npt.NDArray[Any]
Kernel = Callable[[Voxels, Sequence[int]], Voxels]


def block_means(fine: Voxels, block: Sequence[int]) -> Voxels:
    """The mean of each block.

    Integers: the exact mean, half way between two rounded to the even one, also of 64 bits. Floats: summed in
    float64. NaN counts as missing: the mean is that of the others, and NaN where there are none.

    >>> block_means(np.array([[[1, 2, 3, 4, 9]]], "u1"), (1, 1, 2)).tolist()
    [[[2, 4, 9]]]
    """
    return _reduced(fine, block, _mean_of_floats if fine.dtype.kind == "f" else _mean_of_integers)


def block_modes(fine: Voxels, block: Sequence[int]) -> Voxels:
    """The most frequent value of each block of integers; never one that is not in it.

    Among equally frequent ones it is the smallest but zero: zero is background, and thin things would vanish.

    >>> block_modes(np.array([[[0, 7, 5, 7, 3, 0]]], "u1"), (1, 1, 2)).tolist()
    [[[7, 5, 3]]]
    """
    return _reduced(fine, block, _mode)


def _reduced(fine: Voxels, block: Sequence[int], kernel: Kernel) -> Voxels:
    """`kernel` of every part of the array in which all blocks are of one size, some planes at a time."""
    shape = fine.shape[-3:]
    lead = fine.shape[:-3]
    out = np.empty((*lead, *(-(-n // b) for n, b in zip(shape, block, strict=True))), fine.dtype)
    for part in itertools.product(*(_parts(n, b) for n, b in zip(shape, block, strict=True))):
        sizes = [size for _, _, size in part]
        rows = max(_SLAB // math.prod(b - a for a, b, _ in part[1:]) // sizes[0], 1) * sizes[0]
        start, stop, _ = part[0]
        for low in range(start, stop, rows):
            span = [(low, min(low + rows, stop)), *((a, b) for a, b, _ in part[1:])]
            here = tuple(slice(a, b) for a, b in span)
            there = tuple(slice(a // n, -(-b // n)) for (a, b), n in zip(span, block, strict=True))
            for index in np.ndindex(lead):
                out[(*index, *there)] = kernel(fine[(*index, *here)], sizes)
    return out


def _parts(n: int, block: int) -> list[tuple[int, int, int]]:
    """(start, stop, block length) of the whole blocks along an axis, and of the rest."""
    whole = n // block * block
    return [(a, b, size) for a, b, size in ((0, whole, block), (whole, n, n - whole)) if b > a]


def _folded(fine: Voxels, block: Sequence[int], join: Any, **how: Any) -> Voxels:
    """The ufunc `join` over the voxels of each block, in a fixed order: whole planes first, being fastest."""
    for axis, size in enumerate(block):
        if size > 1:
            at: list[Voxels] = [
                fine[(slice(None),) * axis + (slice(first, None, size),)] for first in range(size)
            ]
            fine = join(at[0], at[1], **how)
            for more in at[2:]:
                join(fine, more, out=fine)
    return fine


def _mean_of_integers(fine: Voxels, block: Sequence[int]) -> Voxels:
    count, bits = math.prod(block), 8 * fine.dtype.itemsize
    if count == 1:
        return fine
    # a quotient that float64 rounds would have to lie closer to half an integer than 1 / (2 * count)
    if bits == 64 or count >= 2**19:
        return _mean_of_wide(fine, block, count)
    wide = np.int32 if bits <= 16 and count <= 2**15 else np.int64
    total = _folded(fine, block, np.add, dtype=wide)
    return np.rint(total / count).astype(fine.dtype)


def _mean_of_wide(fine: Voxels, block: Sequence[int], count: int) -> Voxels:
    """In two halves of 32 bits, whose sums fit."""
    fine = fine.astype(np.uint64 if fine.dtype.kind == "u" else np.int64, copy=False)
    dtype = fine.dtype
    high = _folded((fine >> 32).astype(np.int64), block, np.add)
    low = _folded((fine & 0xFFFFFFFF).astype(np.int64), block, np.add)
    above, rest = np.divmod(high, count)
    below, rest = np.divmod((rest << 32) + low, count)
    below += (2 * rest > count) | ((2 * rest == count) & (below & 1 == 1))
    # what wraps around here has the bits of the unsigned sum
    return ((above << 32) + below).view(dtype)


def _mean_of_floats(fine: Voxels, block: Sequence[int]) -> Voxels:
    count = math.prod(block)
    if count == 1:
        return fine
    # a power of two changes no digit and keeps the sum of the largest numbers finite
    shrink = 0.5 ** math.ceil(math.log2(count))
    values = fine * np.float64(shrink)
    missing = np.isnan(values)
    held: Any = count
    if missing.any():
        values[missing] = 0
        held = _folded(~missing, block, np.add, dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):  # infinity less infinity; a block of NaN alone
        means: Voxels = _folded(values, block, np.add) / held / shrink
    return means.astype(fine.dtype)


def _mode(fine: Voxels, block: Sequence[int]) -> Voxels:
    """Most blocks have one value only; the others are sorted, and their longest run is found."""
    low = _folded(fine, block, np.minimum)
    mixed = np.nonzero(low != _folded(fine, block, np.maximum))
    if not mixed[0].size:
        return low
    (z, y, x), (a, b, c) = low.shape, block
    rows = fine.reshape(z, a, y, b, x, c).transpose(0, 2, 4, 1, 3, 5)[mixed].reshape(len(mixed[0]), -1)
    rows.sort(axis=1)
    place = np.arange(rows.shape[1], dtype=np.int32)
    begins = np.zeros(rows.shape, np.int32)
    np.multiply(rows[:, 1:] != rows[:, :-1], place[1:], out=begins[:, 1:])
    length = place - np.maximum.accumulate(begins, axis=1, out=begins)
    # the first longest run is that of the smallest value; half a point less for zero
    best = (2 * length - (rows == 0)).argmax(axis=1)
    low[mixed] = rows[np.arange(len(rows)), best]
    return low
