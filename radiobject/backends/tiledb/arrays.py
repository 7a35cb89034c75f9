"""Arrays: a dense TileDB array of an ArraySpec, its fragments under names that follow from their number."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level
from radiobject.backends.tiledb.context import context_for, engine
from radiobject.geometry.box import Box
from radiobject.location import Location

__all__ = ["commits_of", "create_array", "finished_files", "write_block"]

WRITE_VERSION = 22
"""Version of TileDB's storage format that its writers use; part of a fragment's name."""

_FRAGMENT = re.compile(r"^(__fragments|__commits)/__(\d+)_\d+_[0-9a-f]{32}_(\d+)(.*)$", re.DOTALL)
_HERE = Location(os.sep)


def create_array(path: str, spec: ArraySpec, attrs: Mapping[str, Any]) -> None:
    """An empty array in a local folder. Its metadata has the attributes, for who opens it without us."""
    tiledb, ctx = engine(), context_for(_HERE)
    dims = [
        tiledb.Dim(name=name, domain=(0, n - 1), tile=chunk, dtype=np.uint32, ctx=ctx)
        for name, n, chunk in zip(spec.dims, spec.shape, spec.chunks, strict=True)
    ]
    attribute = tiledb.Attr(name="", dtype=spec.dtype, filters=_filters(spec), ctx=ctx)
    schema = tiledb.ArraySchema(
        domain=tiledb.Domain(*dims, ctx=ctx), attrs=[attribute], sparse=False, ctx=ctx,
        cell_order="row-major", tile_order="row-major",
    )  # fmt: skip
    os.makedirs(os.path.dirname(path), exist_ok=True)
    tiledb.Array.create(path, schema, ctx=ctx)
    with tiledb.open(path, "w", ctx=ctx, timestamp=1) as array:
        for key, value in attrs.items():
            array.meta[key] = json.dumps(value)


def _filters(spec: ArraySpec) -> Any:
    tiledb, ctx, codec = engine(), context_for(_HERE), spec.codec
    chain = []
    if codec.shuffle == "shuffle":
        chain.append(tiledb.ByteShuffleFilter(ctx=ctx))
    elif codec.shuffle == "bitshuffle":
        chain.append(tiledb.BitShuffleFilter(ctx=ctx))
    if codec.algorithm == "zstd":
        chain.append(tiledb.ZstdFilter(level=codec.level, ctx=ctx))
    elif codec.algorithm in ("lz4", "lz4hc"):
        # TileDB has the fast variant only: the same bytes are read back, they take more room
        chain.append(tiledb.LZ4Filter(level=codec.level, ctx=ctx))
    # without it most flipped bits are voxels (none of the codecs checks)
    chain.append(tiledb.ChecksumSHA256Filter(ctx=ctx))
    return tiledb.FilterList(chain, ctx=ctx)


def write_block(path: str, box: Box, block: npt.NDArray[Any], number: int) -> None:
    """Write a box as the fragment with that number (its timestamp)."""
    tiledb = engine()
    with tiledb.open(path, "w", ctx=context_for(_HERE), timestamp=number) as array:
        array[box.slices] = np.ascontiguousarray(block)


def finished_files(path: str) -> Iterator[tuple[str, bytes]]:
    """Files of an array as they are to be stored: name and bytes; commits come last."""
    names = sorted(
        os.path.relpath(os.path.join(folder, file), path).replace(os.sep, "/")
        for folder, _, files in os.walk(path)
        for file in files
    )
    for name in sorted(names, key=lambda n: n.startswith("__commits/")):
        with open(os.path.join(path, *name.split("/")), "rb") as file:
            yield _stored_name(name), file.read()


def _stored_name(name: str) -> str:
    # a random name could not be known to a reader who has only the shape
    found = _FRAGMENT.match(name)
    if found is None:
        return name
    number = int(found[2])
    return f"{found[1]}/{_fragment(number, int(found[3]))}{found[4]}"


def _fragment(number: int, version: int = WRITE_VERSION) -> str:
    return f"__{number}_{number}_{number:032x}_{version}"


def commits_of(level: Level) -> set[str]:
    """Names of the commit files that a whole array has, one a shard."""
    count = len(level.spec.shard_boxes())
    return {f"{level.path}/__commits/{_fragment(n)}.wrt" for n in range(1, count + 1)}
