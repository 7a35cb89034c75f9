"""Compression: which shuffle suits a volume, found by trying each on a few of its chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc

from radiobject.backends.base import ArraySpec
from radiobject.config import CompressionConfig

__all__ = ["settle_shuffle"]

_SAMPLES = 12
_CLEARLY = 1.05

Shuffle = Literal["shuffle", "bitshuffle", "noshuffle"]
_SHUFFLES: dict[Shuffle, int] = {
    "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE, "noshuffle": Blosc.NOSHUFFLE,
}  # fmt: skip


def settle_shuffle(voxels: npt.NDArray[Any], spec: ArraySpec, codec: CompressionConfig) -> ArraySpec:
    """The spec with the shuffle, if any, that compresses a dozen chunks, spread over the volume, best.

    Only for `shuffle="auto"`. Which wins depends on the voxels, not on the dtype alone: on the noise in the
    low bits, and, for none at all, on whether they are few distinct values, as scaled integers are. Costs
    about a hundredth of writing the volume.
    """
    if codec.shuffle != "auto" or codec.algorithm == "none":
        return spec
    sizes: dict[Shuffle, float] = dict.fromkeys(_SHUFFLES, 0)
    for chunk in _samples(voxels, spec):
        for name, number in _SHUFFLES.items():
            sizes[name] += len(Blosc(codec.algorithm, codec.level, number).encode(chunk))
    sizes["noshuffle"] *= _CLEARLY  # a dozen chunks may err, and this errs the more where it is wrong
    best, _ = min(sizes.items(), key=lambda entry: entry[1])
    return replace(spec, codec=replace(spec.codec, shuffle=best))


def _samples(voxels: npt.NDArray[Any], spec: ArraySpec) -> Iterator[npt.NDArray[Any]]:
    counts = tuple(math.ceil(n / c) for n, c in zip(spec.shape, spec.chunks, strict=True))
    total = math.prod(counts)
    for number in range(min(total, _SAMPLES)):
        index = np.unravel_index((2 * number + 1) * total // (2 * min(total, _SAMPLES)), counts)
        part = tuple(slice(int(i) * c, (int(i) + 1) * c) for i, c in zip(index, spec.chunks, strict=True))
        yield np.ascontiguousarray(voxels[part])
