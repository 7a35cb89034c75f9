"""Stack: volumes of a collection as one array, and what they must have in common for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xarray as xr

from radiobject.backends.base import ArraySpec, plan_array
from radiobject.errors import AlignmentError, SelectionError
from radiobject.format.layout import python_axes
from radiobject.format.meta import VolumeMeta, row_meta
from radiobject.geometry.resample import resampled_dtype
from radiobject.lazy.arrays import array_attrs
from radiobject.lazy.chunks import Chunks, chunked, preferred, stacked_borders
from radiobject.lazy.geometry import Coords, time_coords
from radiobject.lazy.indexing import Onto, StackArray, lazily
from radiobject.model.collection_view import CollectionView
from radiobject.model.dtypes import common_dtype
from radiobject.model.resampling import settled_order
from radiobject.storage import check_key

__all__ = ["ENGINE_COLUMNS", "Stack"]

ENGINE_COLUMNS = ("obs_id", "dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "dtype", "affine", "_path", "_hint",
                  "_volume")  # fmt: skip
"""Columns of the volume table that tell what volumes have in common, without opening one."""

_INLINE = 1024
"""Up to so many row numbers go along with every task; of more, dask keeps one copy for all tasks."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Volumes of a collection, in the order of `rows`, which has `ENGINE_COLUMNS`.

    `positions` are their places in the volume table, None for all of it in order.
    """

    collection: CollectionView
    rows: pa.Table
    positions: npt.NDArray[np.int64] | None

    def __post_init__(self) -> None:
        if not self.rows.num_rows:
            raise SelectionError(f"array of {self.name!r}", expected="at least one volume", got="none")

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.collection.name

    @cached_property
    def metas(self) -> list[VolumeMeta]:
        """What the volumes say of themselves, without repetition and affine."""
        return [row_meta(text) for text in dict.fromkeys(self.rows["_volume"].to_pylist())]

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """x, y, z[, t][, c]. Raises `AlignmentError` where volumes have different ones."""
        found = Counter(python_axes(meta.dims) for meta in self.metas)
        if len(found) > 1:
            raise AlignmentError(
                f"array of {self.name!r}",
                expected="the same axes in all volumes",
                got=" and ".join("".join(axes) for axes in found),
                hint="Select those of one kind first, such as filter('dim_t is None').",
            )
        return next(iter(found))

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The lengths along the axes, of each volume."""
        return list(zip(*(self.rows[f"dim_{axis}"].to_pylist() for axis in self.axes), strict=True))

    def shape(self, onto: Onto | None = None) -> tuple[int, ...]:
        """The lengths that all volumes have; along x, y, z those of `onto`.

        Raises `AlignmentError` where they differ.
        """
        fixed = 0 if onto is None else 3
        found = Counter(shape[fixed:] for shape in self.shapes)
        if len(found) > 1:
            listed = [f"{'x'.join(map(str, shape))} ({n})" for shape, n in found.most_common(5)]
            raise AlignmentError(
                f"array of {self.name!r}",
                expected=f"one shape along {', '.join(self.axes[fixed:])}",
                got=f"{len(found)}: {', '.join(listed)}{', ...' if len(found) > 5 else ''}",
                hint="Pass grid=volume to resample all to one grid, or select volumes of one shape."
                if onto is None
                else "Select volumes of one length.",
            )
        return (*(() if onto is None else onto.grid[0]), *next(iter(found)))

    def dtype(self, order: int | None) -> np.dtype[Any]:
        """The type that holds what reads of all volumes return. `AlignmentError` where none does exactly."""
        stored = self.rows["dtype"].to_pylist()
        pairs = set(zip(self.rows["_volume"].to_pylist(), stored, strict=True))
        kinds = {_read_dtype(row_meta(text), dtype) for text, dtype in pairs}
        if order is not None:
            kinds = {resampled_dtype(kind, order) for kind in kinds}
        return common_dtype(kinds, f"array of {self.name!r}")

    def variable(self, dim: str, chunks: Chunks, onto: Onto | None) -> xr.Variable:
        """The array: `dim` in front, the volumes' axes behind. No volume is opened."""
        order = None if onto is None else settled_order(onto.order, self.collection.kind, self.name)
        dtype, shape, n = self.dtype(order), self.shape(onto), self.rows.num_rows
        rows = self.positions
        array = StackArray(self.collection._study, self.name, rows, (n, *shape), dtype, onto)
        labels = {meta.labels for meta in self.metas}
        attrs = array_attrs(self.collection.kind, labels.pop() if len(labels) == 1 else ())
        borders = stacked_borders(self._spec() if onto is None else self._planned(shape, dtype), dim, n)
        variable = xr.Variable((dim, *self.axes), lazily(array), attrs)
        made = chunked(variable, chunks, borders, inline=rows is None or n <= _INLINE)
        made.encoding = {"preferred_chunks": preferred(borders)}
        return made

    def time_coords(self, onto: Onto | None = None) -> Coords:
        """Seconds along t, where there is one and all volumes have the same steps."""
        steps = {meta.time_step for meta in self.metas}
        if "t" not in self.axes or len(steps) > 1:
            return {}
        return time_coords(self.shape(onto)[3], steps.pop())

    def _spec(self) -> ArraySpec:
        """How the first volume is stored; the others are cut likewise, even if some are stored otherwise."""
        path, hint = (self.rows[name][0].as_py() for name in ("_path", "_hint"))
        backend = self.collection._study.backend(self.collection.backend)
        return backend.open_volume(check_key(path), hint).spec

    def _planned(self, shape: Sequence[int], dtype: np.dtype[Any]) -> ArraySpec:
        """How voxels that are computed would be stored."""
        sizes, dims = dict(zip(self.axes, shape, strict=True)), self.metas[0].dims
        return plan_array([sizes[d] for d in dims], dtype, dims)


def _read_dtype(meta: VolumeMeta, stored: str) -> np.dtype[Any]:
    scaling = None if meta.kind == "label" else meta.scaling
    return np.dtype(stored if scaling is None else scaling.dtype)
