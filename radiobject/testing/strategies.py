"""Hypothesis strategies for arrays, boxes and voxels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from radiobject.backends.base import DTYPES, ArraySpec, plan_array
from radiobject.config import CompressionConfig, TileConfig
from radiobject.geometry.box import Box

__all__ = ["array_specs", "boxes", "voxels"]

_DIMS = (("z", "y", "x"), ("t", "z", "y", "x"), ("c", "z", "y", "x"), ("t", "c", "z", "y", "x"))


@st.composite
def array_specs(draw: st.DrawFn, max_side: int = 40) -> ArraySpec:
    """Small arrays of every dtype, rank and codec, in one shard or several."""
    dims = draw(st.sampled_from(_DIMS))
    shape = [draw(st.integers(1, 3 if d in "tc" else max_side)) for d in dims]
    chunk = draw(st.sampled_from((None, 4, 7, 16)))
    chunks = None if chunk is None else (chunk, chunk, chunk)
    shards = None if chunk is None or draw(st.booleans()) else (2 * chunk, chunk, 3 * chunk)
    codec = CompressionConfig.preset(draw(st.sampled_from(("fast", "archive", "none"))))
    # a whole number of shards of a few voxels would only slow the search down
    if shards is not None and math.prod(shape) / math.prod(shards) > 200:
        shards = None
    tile = TileConfig(chunks=chunks, shards=shards)
    return plan_array(shape, draw(st.sampled_from(DTYPES)), dims, tile, codec)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Boxes inside an array of that shape, empty ones included."""
    ends = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def voxels(spec: ArraySpec, seed: int = 0) -> npt.NDArray[Any]:
    """Voxels of the spec's shape: every bit pattern of an integer type, plain numbers of a float type."""
    rng = np.random.default_rng(seed)
    if spec.dtype.kind == "f":
        return rng.normal(scale=1000, size=spec.shape).astype(spec.dtype)
    limits = np.iinfo(spec.dtype)
    return rng.integers(limits.min, limits.max, spec.shape, spec.dtype, endpoint=True)
