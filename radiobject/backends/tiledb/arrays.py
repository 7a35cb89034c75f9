"""Arrays: a dense TileDB array of an ArraySpec, made in a local folder and sent from there as bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec
from radiobject.backends.tiledb.context import context_for, engine, shared
from radiobject.backends.tiledb.manifest import fragment_name
from radiobject.config import CompressionConfig
from radiobject.geometry.box import Box
from radiobject.location import Location

__all__ = ["LocalArray", "compressor_of", "filters"]

_FRAGMENT = re.compile(r"^(__fragments|__commits)/__(\d+)_\d+_[0-9a-f]{32}_(\d+)(.*)$", re.DOTALL)
_OF_FRAGMENTS = ("__fragments", "__commits")
_HERE = Location(os.sep)


class LocalArray:
    """An array in a folder of its own. Blocks become fragments, whose files are handed out and removed."""

    def __init__(self, folder: str, spec: ArraySpec, attrs: Mapping[str, Any]) -> None:
        self._folder = folder
        tiledb, ctx = engine(), context_for(_HERE)
        dims = [
            tiledb.Dim(name=name, domain=(0, n - 1), tile=chunk, dtype=np.uint32, ctx=ctx)
            for name, n, chunk in zip(spec.dims, spec.shape, spec.chunks, strict=True)
        ]
        chain = tiledb.FilterList(
            # without a checksum most flipped bits are voxels: none of the codecs has one
            [*filters(spec.codec, ctx), tiledb.ChecksumSHA256Filter(ctx=ctx)],
            ctx=ctx,
        )
        schema = tiledb.ArraySchema(
            domain=tiledb.Domain(*dims, ctx=ctx),
            attrs=[tiledb.Attr(name="", dtype=spec.dtype, filters=chain, ctx=ctx)],
            sparse=False,
            cell_order="row-major",
            tile_order="row-major",
            ctx=ctx,
        )
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        tiledb.Array.create(folder, schema, ctx=ctx)
        with shared(_HERE).open(folder, "w", 1) as array:
            for key, value in attrs.items():
                array.meta[key] = json.dumps(value)

    def encode(self, box: Box, block: npt.NDArray[Any], number: int) -> Iterator[tuple[str, bytes]]:
        """The files of a box as a fragment: names and bytes, commit last. The number is its timestamp too."""
        for kind in _OF_FRAGMENTS:  # of a block before this one
            shutil.rmtree(os.path.join(self._folder, kind))
            os.mkdir(os.path.join(self._folder, kind))
        with shared(_HERE).open(self._folder, "w", number) as array:
            array[box.slices] = np.ascontiguousarray(block)
        yield from self._files(*_OF_FRAGMENTS)

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """The files beside fragments; the schema, without which it is no array, comes last."""
        yield from self._files("__meta", "__schema")

    def _files(self, *kinds: str) -> Iterator[tuple[str, bytes]]:
        for kind in kinds:
            for folder, _, files in os.walk(os.path.join(self._folder, kind), onerror=_raise):
                for file in sorted(files):
                    path = os.path.join(folder, file)
                    with open(path, "rb") as opened:
                        data = opened.read()
                    yield _stored_name(os.path.relpath(path, self._folder).replace(os.sep, "/")), data


def filters(codec: CompressionConfig, ctx: Any) -> list[Any]:
    """TileDB's filters for a codec: a shuffle, then a compressor, as far as there are any.

    TileDB has only the fast variant of LZ4, which has no levels: "lz4hc" and its level change nothing but the
    size. "auto" shuffles bytes.
    """
    tiledb = engine()
    chain = []
    if codec.algorithm != "none" and codec.shuffle in ("shuffle", "auto"):
        chain.append(tiledb.ByteShuffleFilter(ctx=ctx))
    elif codec.algorithm != "none" and codec.shuffle == "bitshuffle":
        chain.append(tiledb.BitShuffleFilter(ctx=ctx))
    last = compressor_of(codec, ctx)
    return chain if last is None else [*chain, last]


def compressor_of(codec: CompressionConfig, ctx: Any = None) -> Any:
    """TileDB's filter for the algorithm of a codec; None when it has none."""
    if codec.algorithm == "none":
        return None
    kind = engine().ZstdFilter if codec.algorithm == "zstd" else engine().LZ4Filter
    return kind(level=codec.level, ctx=context_for(_HERE) if ctx is None else ctx)


def _raise(error: OSError) -> NoReturn:
    # a folder that was purged is not one without files
    raise error


def _stored_name(name: str) -> str:
    # a random name could not be known to a reader who has only the shape
    found = _FRAGMENT.match(name)
    if found is None:
        return name
    return f"{found[1]}/{fragment_name(int(found[2]), int(found[3]))}{found[4]}"
