"""Geometry: where the voxels of a DataArray lie, said by its coordinates and read back from them.

`x`, `y`, `z` are millimetres along the unit vectors in the coordinate `direction`; the coordinate `affine` is
that of the stored grid (`radiobject.geometry.coordinates`). Without `direction`, `x`, `y`, `z` are voxel
indices of that grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine
from radiobject.geometry.coordinates import AFFINE, DIRECTION, INDEX_UNIT, GridAxes, affine_from, matrix_text

__all__ = ["affine_of", "grid_coords", "index_coords", "text", "time_coords", "time_step_of", "unit_of"]

Coords = dict[str, xr.Variable]

_TOWARDS = "RAS"

_SAME = 1e-9
"""Relative to the stored time step: a step nearer than this to a multiple of it is that multiple."""


def grid_coords(affine: Affine, shape: Sequence[int], unit: str = "mm") -> Coords:
    """Coordinates of the voxels of a grid in the unit of its affine; `shape` is x, y, z."""
    axes = GridAxes.of(affine)
    coords = {
        name: xr.Variable(
            (name,),
            axes.line(number, shape[number]),
            {"units": unit, "long_name": f"{name} axis, towards {_TOWARDS[affine.world_axes[number]]}"},
        )
        for number, name in enumerate("xyz")
    }
    said = {"long_name": "columns: the unit vectors along x, y, z in the world, RAS+"}
    coords[DIRECTION] = text(matrix_text(axes.direction), said)
    return coords | _stored_affine((), matrix_text(affine.matrix), unit)


def index_coords(shape: Sequence[int], dims: tuple[str, ...], affines: Any, unit: str = "mm") -> Coords:
    """Voxel indices of grids that differ, and the affine of each as text along `dims`."""
    coords = {
        name: xr.Variable((name,), np.arange(n), {"units": INDEX_UNIT, "long_name": f"voxel along {name}"})
        for name, n in zip("xyz", shape, strict=False)
    }
    return coords | _stored_affine(dims, affines, unit)


def _stored_affine(dims: tuple[str, ...], texts: Any, unit: str) -> Coords:
    said = {"units": unit, "long_name": "voxel index (x, y, z, 1) of the stored grid to the world, RAS+"}
    return {AFFINE: xr.Variable(dims, np.array(texts, dtype=object), said)}


def text(value: str, attrs: Mapping[Any, Any] | None = None) -> xr.Variable:
    """Text as a coordinate without axes: an object, because Zarr has no settled type for text else."""
    return xr.Variable((), np.array(value, dtype=object), attrs)


def time_coords(n: int, step: float | None) -> Coords:
    """Seconds along t; none where the time step is unknown."""
    if step is None:
        return {}
    return {"t": xr.Variable(("t",), np.arange(n) * step, {"units": "s", "time_step": step})}


def time_step_of(array: xr.DataArray) -> float | None:
    """Seconds between time points; of a single one that of the stored volume, None where nothing tells."""
    line = array.coords.get("t")
    if line is None or line.attrs.get("units") != "s":
        return None
    kept, times = line.attrs.get("time_step"), np.atleast_1d(line.to_numpy())
    if times.size == 1:
        return None if kept is None else float(kept)
    steps = np.abs(np.diff(times))
    if not np.allclose(steps, steps[0]) or steps[0] == 0:
        return None
    if kept is not None:
        whole = round(float(steps[0]) / float(kept))
        if abs(float(steps[0]) / float(kept) - whole) < _SAME * max(whole, 1):
            return whole * float(kept)
    return float(steps.mean())


def unit_of(array: xr.DataArray) -> str:
    """The unit of the world: mm, unless the array says otherwise."""
    for name in (AFFINE, "x"):
        unit = array.coords[name].attrs.get("units", INDEX_UNIT) if name in array.coords else INDEX_UNIT
        if unit != INDEX_UNIT:
            return str(unit)
    return "mm"


def affine_of(array: xr.DataArray) -> npt.NDArray[np.float64]:
    """The affine (4, 4) of an array, or (n, 4, 4) of n volumes on grids of their own.

    Raises `GeometryError`.
    """
    what = f"DataArray {array.name!r}"
    coords = {axis: array.coords[axis] for axis in "xyz" if axis in array.coords}
    lines = {axis: coord.to_numpy() for axis, coord in coords.items()}
    units = {axis: coord.attrs.get("units", INDEX_UNIT) for axis, coord in coords.items()}
    texts = [array.coords.get(name) for name in (AFFINE, DIRECTION)]
    dims = dict.fromkeys(d for coord in texts if coord is not None for d in coord.dims)
    if len(dims) > 1:
        raise GeometryError(f"affine of {what}", expected="one axis of volumes", got=f"{list(dims)}")
    n = array.sizes[next(iter(dims))] if dims else 1
    each = [[None] * n if c is None else np.broadcast_to(c.to_numpy(), n).tolist() for c in texts]
    pairs = list(zip(*each, strict=True))
    # volumes mostly share a grid
    known = {(a, d): affine_from(lines, units, a, d, what).matrix for a, d in dict.fromkeys(pairs)}
    found = np.array([known[pair] for pair in pairs]).reshape(n, 4, 4)
    return found if dims else found[0]
