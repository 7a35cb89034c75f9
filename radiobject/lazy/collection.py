"""Collection: the volumes of a collection as one lazy DataArray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xarray as xr

from radiobject.errors import AlignmentError, ConfigError
from radiobject.geometry.affine import Affine
from radiobject.geometry.coordinates import AFFINE, DIRECTION, matrix_text
from radiobject.lazy.arrays import ID, SUBJECT
from radiobject.lazy.chunks import Chunks
from radiobject.lazy.columns import chosen_columns, column_coords, refuse_unknown, subject_rows
from radiobject.lazy.geometry import Coords, grid_coords, index_coords
from radiobject.lazy.indexing import Onto
from radiobject.lazy.stack import ENGINE_COLUMNS, Stack
from radiobject.model.collection_view import CollectionView
from radiobject.model.partners import GRID_COLUMNS, corners_apart, place, tolerance
from radiobject.model.resampling import grid_like, refuse_other_unit

__all__ = ["RESERVED", "Grids", "collection_to_xarray", "onto_grid", "place_coords"]

Grids = Literal["error", "index"] | Any
"""What to do where grids differ: raise, count voxels instead of millimetres, or resample all volumes to the
grid of a Volume, or to `(shape, affine)`."""

RESERVED = ("x", "y", "z", "t", "c", AFFINE, DIRECTION)
"""Names of coordinates that no column takes."""


def collection_to_xarray(
    collection: CollectionView,
    grid: Grids = "error",
    chunks: Chunks = None,
    columns: Sequence[str] | None = None,
    **how: Any,
) -> xr.DataArray:
    """See `VolumeCollection.to_xarray`."""
    study, onto = collection._study, onto_grid(grid, **how)
    table, subjects = study.obs(collection.name), study.subjects
    refuse_unknown(columns, table.schema, subjects.schema)
    of_obs = chosen_columns(table.schema, columns)
    of_subjects = [c for c in chosen_columns(subjects.schema, columns) if c not in table.schema.names]
    rows = collection.obs.to_arrow(list(dict.fromkeys([ID, SUBJECT, *of_obs, *ENGINE_COLUMNS])))
    stack = Stack(collection, rows, collection._positions)
    variable = stack.variable(ID, chunks, onto)
    said = rows.select(list(dict.fromkeys([ID, SUBJECT, *of_obs])))
    if of_subjects:
        more = subject_rows(subjects, of_subjects, rows[SUBJECT])
        said = pa.table([*said.columns, *more.columns], names=[*said.schema.names, *more.schema.names])
    coords = place_coords([stack], ID, grid, onto) | column_coords(said, ID, (*RESERVED, collection.name))
    array = xr.DataArray(variable, coords, name=collection.name)
    array.encoding = variable.encoding  # which the constructor leaves behind
    return array


def onto_grid(
    grid: Grids, order: int | None = None, fill: float = 0, *, antialias: bool = False
) -> Onto | None:
    """The grid that volumes are resampled to, None where `grid` names none. Raises `ConfigError`."""
    if not isinstance(grid, str):
        unit = getattr(getattr(grid, "meta", None), "space_unit", None)
        return Onto(grid_like(grid, unit or "mm"), order, fill, antialias, unit)
    if grid not in ("error", "index"):
        raise ConfigError("grid=", expected="'error', 'index', a Volume or (shape, affine)", got=repr(grid))
    if order is not None or fill or antialias:
        raise ConfigError(
            "order=, fill= and antialias=", expected="a grid= to resample to", got=f"grid={grid!r}"
        )
    return None


def place_coords(stacks: Sequence[Stack], dim: str, grid: Grids, onto: Onto | None) -> Coords:
    """Where the voxels lie, for arrays of one row a volume that share x, y, z, and t where they have it.

    Raises `AlignmentError` for grids that differ, unless `grid` says what to do then, and `GeometryError` for
    a grid in another unit of length.
    """
    units = {meta.space_unit for stack in stacks for meta in stack.metas}
    shapes = [stack.shape(onto) for stack in stacks]
    times = [(shape[3], s) for shape, s in zip(shapes, stacks, strict=True) if "t" in s.axes]
    if len(units) > 1 or len({n for n, _ in times}) > 1:
        raise AlignmentError(
            _named(stacks),
            expected="one unit of length and one number of time points",
            got=", ".join([*sorted(units), *(f"{n} time points in {s.name!r}" for n, s in times)]),
        )
    unit = units.pop()
    if onto is not None:
        refuse_other_unit(onto.unit or unit, unit)
    coords = times[0][1].time_coords(onto) if times else {}
    if onto is not None:
        return grid_coords(onto.grid[1], onto.grid[0], unit) | coords
    rows = pa.concat_tables([s.rows.select(["obs_id", *GRID_COLUMNS]) for s in stacks])
    apart = corners_apart(rows)
    affines = _affines(stacks[0].rows)
    if (apart <= tolerance(rows)).all():
        return grid_coords(Affine(affines[0]), shapes[0], unit) | coords
    if grid == "error" or not np.isfinite(apart).all():
        raise _different(stacks, rows, apart)
    for other in stacks[1:]:
        _expect_pairs_on_one_grid(stacks[0], other)
    texts = [matrix_text(affine) for affine in affines]
    return index_coords(shapes[0], (dim,), texts, unit) | coords


def _different(stacks: Sequence[Stack], rows: pa.Table, apart: npt.NDArray[np.float64]) -> AlignmentError:
    off = np.flatnonzero(~(apart <= tolerance(rows)))
    ids = ", ".join(rows["obs_id"].take(pa.array(off[:5])).to_pylist()) + (", ..." if len(off) > 5 else "")
    near = apart[off][np.isfinite(apart[off])]
    how = f"up to {near.max():.3g} mm apart" if near.size else "of another shape"
    return AlignmentError(
        _named(stacks),
        expected=f"one grid, that of {rows['obs_id'][0].as_py()!r}",
        got=f"{len(off)} of {len(apart)} volumes on others ({how}): {ids}",
        hint="Pass grid=volume to resample all to its grid"
        + (', or grid="index" to count voxels.' if len(near) == len(off) else "."),
    )


def _expect_pairs_on_one_grid(one: Stack, other: Stack) -> None:
    """One affine a row serves all arrays of a Dataset."""
    (_, here), (_, there) = place(one.rows), place(other.rows)
    apart = np.abs(there - here).max(axis=(1, 2))
    if (off := np.flatnonzero(~(apart <= tolerance(one.rows)))).size:
        a, b = (stack.rows["obs_id"][int(off[0])].as_py() for stack in (one, other))
        raise AlignmentError(
            f"{a!r} and {b!r}",
            expected="one grid for the volumes of a row",
            got=f"corners {apart[off[0]]:.3g} mm apart",
            hint="Pass grid=volume to resample all to its grid.",
        )


def _affines(rows: pa.Table) -> npt.NDArray[np.float64]:
    return np.array(rows["affine"].to_pylist(), dtype=np.float64).reshape(-1, 4, 4)


def _named(stacks: Sequence[Stack]) -> str:
    return "array of " + " and ".join(repr(stack.name) for stack in stacks)
