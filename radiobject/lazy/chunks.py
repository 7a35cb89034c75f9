"""Chunks: how an array of stored voxels is cut for dask, along the borders of what is stored."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, repeat
from typing import Any, Literal

import numpy as np
import xarray as xr

from radiobject.backends.base import ArraySpec
from radiobject.errors import ConfigError, MissingDependencyError
from radiobject.model.volume import Volume

__all__ = ["Borders", "Chunks", "borders_of", "chunked", "preferred", "stacked_borders"]

Chunks = Literal["volume", "chunk"] | Mapping[str, Any] | None
"""None: no dask. "volume": a task a volume. "chunk": a task a stored chunk. A mapping: sizes along some axes,
and a stored shard along the others."""

Sizes = tuple[int, ...]
Borders = dict[str, tuple[Sizes, Sizes]]
"""For each axis the lengths of the stored chunks along it, and of the stored shards."""


def borders_of(volume: Volume) -> Borders:
    """Those of a volume, a sliced or a reoriented one too."""
    spec, region = volume._handle.spec, volume._region
    stored = dict(zip(spec.dims, zip(spec.chunks, spec.shards, strict=True), strict=True))
    if region is None:
        return {a: _both(range(n), *stored[a]) for a, n in zip(volume.axes, volume.shape, strict=True)}
    shown = [*region.order, *(a for a in range(3, len(region.ranges)) if a not in region.dropped)]
    names = [a for a in "xyztc" if a in stored]
    return {
        axis: _both(region.ranges[number], *stored[names[number]])
        for axis, number in zip(volume.axes, shown, strict=True)
    }


def stacked_borders(spec: ArraySpec, dim: str, n: int) -> Borders:
    """Those of `n` volumes on one grid, stored like the one of `spec`, behind each other along `dim`."""
    sizes = dict(zip(spec.dims, zip(spec.shape, spec.chunks, spec.shards, strict=True), strict=True))
    each = {a: _both(range(sizes[a][0]), *sizes[a][1:]) for a in "xyztc" if a in sizes}
    return {dim: ((1,) * n, (1,) * n), **each}


def preferred(borders: Borders) -> dict[str, int]:
    """The shards as xarray asks an engine for them: what `chunks={}` of `xr.open_dataset` means."""
    return {axis: shards[0] for axis, (_, shards) in borders.items()}


def chunked(variable: xr.Variable, chunks: Chunks, borders: Borders, *, inline: bool) -> xr.Variable:
    """The variable as `chunks` says; `inline` puts the array into every task, for one that is small.

    Raises `ConfigError` for other words, axes that are not there and sizes that do not fit,
    `MissingDependencyError` without dask. Warns of sizes that split a stored chunk, which is then decoded
    once for each of its parts.
    """
    if chunks is None:
        return variable
    try:
        import dask.array  # noqa: F401 - xarray would say that no chunk manager is there
    except ImportError as error:
        raise MissingDependencyError(
            f"chunks={chunks!r} needs dask: {error}", hint='pip install "radiobject-zarr[xarray]"'
        ) from error
    sizes = _sizes(chunks, borders, variable.sizes)
    made: xr.Variable = variable.chunk(sizes, inline_array=inline)
    return made


def _sizes(chunks: Chunks, borders: Borders, lengths: Mapping[Any, int]) -> dict[str, Sizes]:
    if chunks == "chunk":
        return {axis: inner for axis, (inner, _) in borders.items()}
    if chunks == "volume":
        # the rows of a collection are volumes
        return {a: inner if a not in "xyztc" else (lengths[a],) for a, (inner, _) in borders.items()}
    if not isinstance(chunks, Mapping):
        raise ConfigError(
            "chunks=", expected="None, 'volume', 'chunk' or sizes by axis such as {}", got=repr(chunks)
        )
    if unknown := [axis for axis in chunks if axis not in borders]:
        raise ConfigError("chunks=", expected=f"some of the axes {list(borders)}", got=str(unknown))
    sizes = {}
    for axis, (inner, shards) in borders.items():
        sizes[axis] = _given(axis, chunks[axis], lengths[axis]) if axis in chunks else shards
        if split := sorted(set(accumulate(sizes[axis])) - set(accumulate(inner))):
            warnings.warn(
                f"chunks= splits stored chunks along {axis!r}, the first at {split[0]}: each is then decoded "
                f"once for every part. Stored are chunks of {inner[0]}.",
                UserWarning,
                stacklevel=_depth(),
            )
    return sizes


def _depth() -> int:
    """How many calls lie between a warning here and the line that is to be warned of, outside the package."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("radiobject."):
        frame, depth = frame.f_back, depth + 1
    return depth


def _given(axis: str, wanted: Any, n: int) -> Sizes:
    """A size, or one size after another, of which -1 or None is all that is there."""
    if wanted is None or (isinstance(wanted, int) and wanted == -1):
        return (n,)
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool) and wanted > 0:
        size = min(int(wanted), n)
        return tuple(chain(repeat(size, n // size), [n % size] if n % size else []))
    if isinstance(wanted, Sequence) and not isinstance(wanted, str) and sum(wanted) == n and min(wanted) > 0:
        return tuple(int(size) for size in wanted)
    raise ConfigError(
        f"chunks= along {axis!r}",
        expected=f"a size above zero, -1, or sizes that add up to {n}",
        got=repr(wanted),
    )


def _both(shown: range, chunk: int, shard: int) -> tuple[Sizes, Sizes]:
    return _runs(shown, chunk), _runs(shown, shard)


def _runs(shown: range, size: int) -> Sizes:
    """How many shown voxels lie in each stored piece of that size, one after another."""
    pieces = np.asarray(shown) // size
    begins = np.flatnonzero(np.diff(pieces, prepend=pieces[0] - 1))
    return tuple(np.diff(begins, append=len(pieces)).tolist())
