"""Indexing: what xarray and dask index, and the reads of volumes that this becomes."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from radiobject import measuring
from radiobject.executor import run
from radiobject.geometry.resample import Grid
from radiobject.model.study import Study
from radiobject.model.volume import Volume

__all__ = ["Onto", "PermutedArray", "StackArray", "VolumeArray", "lazily"]

_KEPT_VOLUMES = 64
"""Volumes of a collection that stay open: a task a chunk must not open its volume once a chunk."""

Key = tuple[Any, ...]
"""For each axis an int, a slice whose step is positive, or a 1-D array of ints."""


@dataclass(frozen=True)
class Onto:
    """The grid that volumes are resampled to, and how; see `Volume.resample`.

    `unit` is that of the grid's affine, None where nobody says: that of the volumes.
    """

    grid: Grid
    order: int | None
    fill: float
    antialias: bool
    unit: str | None = None


def lazily(array: BackendArray) -> Any:
    """The array as data of an `xarray.Variable`: indexing is noted, reading waits, writing copies."""
    waiting: Any = indexing.LazilyIndexedArray(array)
    return indexing.CopyOnWriteArray(waiting)


class VolumeArray(BackendArray):
    """One volume, axes x, y, z[, t][, c]. Pickles as its place and what is shown of it."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.shape, self.dtype = volume, volume.shape, volume.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, functools.partial(_read, self.volume)
        )
        return found

    def __repr__(self) -> str:
        return f"VolumeArray({self.volume!r})"


class StackArray(BackendArray):
    """Volumes of a collection, axes row, x, y, z[, t][, c]; each is opened when its voxels are first read.

    `rows` has their positions in the volume table, None for all of it; `onto` is what each is resampled to,
    None for no resampling. Pickles as the study's place, its version, `rows` and `onto`.
    """

    def __init__(
        self,
        study: Study,
        name: str,
        rows: npt.NDArray[np.int64] | None,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        onto: Onto | None = None,
    ) -> None:
        self.study, self.name, self.rows, self.onto = study, name, rows, onto
        self.shape, self.dtype = shape, dtype
        # not a method: the array would hold the cache, and the cache the array
        self._open = functools.lru_cache(_KEPT_VOLUMES)(functools.partial(_opened, study, name, onto))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._stacked
        )
        return found

    def _stacked(self, key: Key) -> npt.NDArray[Any]:
        chosen, rest = key[0], key[1:]
        if isinstance(chosen, int | np.integer):
            return self._one(int(chosen), rest)
        rows = np.arange(self.shape[0])[chosen].tolist()
        if len(rows) == 1:
            return self._one(rows[0], rest)[np.newaxis]
        shape = _shape_of(rest, self.shape[1:])
        # in the order that voxels have on disk, so that each volume is copied as it comes
        stack = np.empty((len(rows), *shape[::-1]), self.dtype)
        stack = stack.transpose(0, *range(len(shape), 0, -1))

        def fill(place: int) -> None:
            stack[place] = self._one(rows[place], rest)

        with closing(run(fill, range(len(rows)))) as tasks:
            for _, error in tasks:
                if isinstance(error, Exception):
                    raise error
        return stack

    def _one(self, row: int, key: Key) -> npt.NDArray[Any]:
        position = row if self.rows is None else int(self.rows[row])
        return _read(self._open(position), key).astype(self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return StackArray, (self.study, self.name, self.rows, self.shape, self.dtype, self.onto)

    def __repr__(self) -> str:
        return f"StackArray({self.study.location.uri!r}, {self.name!r}, {self.shape}, {self.dtype})"


class PermutedArray(BackendArray):
    """A variable with its axes in another order.

    xarray's own lazy transpose picks by index arrays, which takes several times as long as the read itself.
    """

    def __init__(self, variable: xr.Variable, dims: tuple[Hashable, ...]) -> None:
        self.variable, self.dims = variable, dims
        self.shape = tuple(variable.sizes[d] for d in dims)
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._permuted
        )
        return found

    def _permuted(self, key: Key) -> npt.NDArray[Any]:
        part = self.variable.isel(dict(zip(self.dims, key, strict=True)))
        left = [d for d in self.dims if d in part.dims]
        # read before it is turned: a NumPy array turns for nothing
        found: npt.NDArray[Any] = part.to_numpy().transpose([part.dims.index(d) for d in left])
        return found

    def __repr__(self) -> str:
        return f"PermutedArray({self.dims}, {self.variable!r})"


def _opened(study: Study, name: str, onto: Onto | None, position: int) -> Volume:
    volume = study.volume(name, position)
    if onto is None:
        return volume
    return volume.resample(like=onto.grid, order=onto.order, fill=onto.fill, antialias=onto.antialias)


def _read(volume: Volume, key: Key) -> npt.NDArray[Any]:
    """One read of the smallest box that holds what is asked for."""
    measuring.add("lazy_reads")
    box, picks, axis = list[Any](), dict[int, npt.NDArray[np.intp]](), 0
    for item in key:
        if isinstance(item, np.ndarray):
            low, high = (int(item.min()), int(item.max()) + 1) if item.size else (0, 0)
            if not np.array_equal(item, np.arange(low, high)):
                picks[axis] = item - low
            item = slice(low, high)
        elif not isinstance(item, slice):
            box.append(int(item))
            continue
        box.append(item)
        axis += 1
    found = np.asarray(volume[tuple(box)])
    for axis, pick in picks.items():
        found = found.take(pick, axis)
    return found


def _shape_of(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a key picks."""
    lengths = []
    for item, n in zip(key, shape, strict=True):
        if isinstance(item, slice):
            lengths.append(len(range(*item.indices(n))))
        elif isinstance(item, np.ndarray):
            lengths.append(item.size)
    return tuple(lengths)
