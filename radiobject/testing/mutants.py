"""Damage that a store can do to an object. Reading what was damaged must never give a wrong voxel."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import google_crc32c

from radiobject.backends.base import ArraySpec

__all__ = ["MUTANTS", "Mutant", "without_inner_chunk"]


@dataclass(frozen=True)
class Mutant:
    """One kind of damage: `damage(bytes, salt)` gives the changed bytes, None for an object that is gone.

    `salt` picks the place where that matters; the same salt gives the same damage.
    """

    name: str
    damage: Callable[[bytes, int], bytes | None]


def _flip(data: bytes, salt: int) -> bytes:
    changed = bytearray(data)
    bit = salt * 7919 % (8 * len(changed)) if changed else 0
    if changed:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


MUTANTS = (
    Mutant("removed", lambda data, salt: None),
    Mutant("emptied", lambda data, salt: b""),
    Mutant("truncated", lambda data, salt: data[: salt * 7919 % max(len(data), 1)]),
    Mutant("without its head", lambda data, salt: data[1 + salt * 7919 % max(len(data), 1) :]),
    Mutant("flipped bit", _flip),
)


def without_inner_chunk(shard: bytes, spec: ArraySpec, number: int) -> bytes:
    """A Zarr shard whose index says that inner chunk `number` (C order) was never written, crc corrected."""
    count = math.prod(s // c for s, c in zip(spec.shards, spec.chunks, strict=True))
    start = len(shard) - 16 * count - 4
    index = bytearray(shard[start:-4])
    index[16 * number : 16 * number + 16] = b"\xff" * 16
    return shard[:start] + bytes(index) + struct.pack("<I", google_crc32c.value(bytes(index)))
