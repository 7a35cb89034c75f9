"""Objects: what callers hand over in memory (arrays, Volumes, nibabel images, DataArrays) as `Loaded`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from radiobject.errors import GeometryError, SourceUnsupportedError
from radiobject.format.meta import VolumeMeta, row_text
from radiobject.geometry.coordinates import AFFINE, DIRECTION, INDEX_UNIT, affine_from
from radiobject.writing.integers import as_floats
from radiobject.writing.loaded import Axis4, Loaded, from_array, from_voxels

__all__ = [
    "VolumeLike",
    "from_object",
    "is_array_pair",
    "is_image",
    "is_nifti_name",
    "is_object",
    "is_volume",
    "told_apart",
]

_UNITS = {"sec": ("s", 1.0), "msec": ("ms", 1e-3), "usec": ("us", 1e-6)}
_SPACE = {"meter": "m", "mm": "mm", "micron": "um"}
_MILLIMETERS = {"mm": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0}
_AXES = {"time": "t", "channel": "c"}
"""Names of dimensions that mean one of ours."""

_KEPT = ("nifti",)
"""Bytes beside the voxels that still hold for a volume that was changed: the header, not what lay around."""


@runtime_checkable
class VolumeLike(Protocol):
    """A `Volume`, as far as writing it again is concerned."""

    @property
    def meta(self) -> VolumeMeta: ...

    @property
    def obs_subject_id(self) -> str: ...

    @property
    def metadata(self) -> dict[str, Any]: ...

    def to_numpy(self, *, raw: bool = False) -> npt.NDArray[Any]: ...

    def extra(self, name: str) -> bytes | None: ...


def is_volume(value: Any) -> TypeGuard[VolumeLike]:
    """Whether it is a `Volume`."""
    return isinstance(value, VolumeLike)


def told_apart(value: Any) -> dict[str, Any]:
    """session, run and acquisition_time of a volume of a study: what its partners are found by."""
    row = value.metadata if is_volume(value) else {}
    return {name: row[name] for name in ("session", "run", "acquisition_time") if row.get(name) is not None}


def is_object(value: Any) -> bool:
    """Whether `from_object` takes it."""
    return isinstance(value, VolumeLike) or is_image(value) or is_array_pair(value) or _is_dataarray(value)


def is_image(value: Any) -> bool:
    """Whether it is an image of nibabel's kind."""
    return hasattr(value, "dataobj") and hasattr(value, "affine")


def is_array_pair(value: Any) -> TypeGuard[tuple[npt.NDArray[Any], Any]]:
    """Whether it is `(array, affine)`."""
    return (
        isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray)
        and not isinstance(value[1], str)
    )  # fmt: skip


def is_nifti_name(name: str | os.PathLike[str]) -> bool:
    """Whether a path or URL ends as NIfTI files do (.nii, .hdr, .img, with or without .gz)."""
    return re.search(r"\.(nii|hdr|img)(\.gz)?$", os.fspath(name), re.IGNORECASE) is not None


def from_object(item: Any, name: str, axis4: Axis4 = "auto") -> Loaded:
    """A Volume, `(array, affine)`, an image of nibabel's kind or an xarray DataArray.

    A Volume keeps stored values, scaling, header, kind, label names and time step; one that shows all of a
    NIfTI source also goes back to it byte for byte. A DataArray has dims x, y, z[, t][, c] (`time` and
    `channel` serve too) in any order, and its 4x4 affine as `attrs["affine"]`, or the coordinates that
    `Volume.to_xarray` makes, or others, evenly spaced, RAS+, in mm or what their `attrs["units"]` says; those
    of time are in seconds, or times.

    Raises from the `SourceError` branch only.
    """
    if isinstance(item, VolumeLike):
        return _from_volume(item, name)
    if is_array_pair(item):
        return from_array(item[0], item[1], name, axis4)
    if is_image(item):
        return _from_image(item, name, axis4)
    if _is_dataarray(item):
        return _from_dataarray(item, name)
    raise SourceUnsupportedError(
        name,
        expected="a Volume, (array, affine), a nibabel image or a DataArray",
        got=type(item).__name__,
        hint="An array needs its 4x4 affine beside it (None for voxels of 1 mm).",
    )


def _from_volume(volume: VolumeLike, name: str) -> Loaded:
    meta = volume.meta
    # a part, a turn or another grid of a source keeps its header; only the whole keeps what lay around it
    names = meta.source.extras if meta.source.exact else [n for n in meta.source.extras if n in _KEPT]
    extras = {n: data for n in names if (data := volume.extra(n)) is not None}
    meta = replace(meta, source=replace(meta.source, extras=tuple(extras)))
    voxels, meta = as_floats(volume.to_numpy(raw=True), meta)
    loaded = from_voxels(voxels, meta, name, extras)
    digest = hashlib.sha256(f"{loaded.digest}{row_text(meta)}".encode())
    for data in extras.values():
        digest.update(data)
    return replace(loaded, digest=digest.hexdigest())


def _from_image(image: Any, name: str, axis4: Axis4) -> Loaded:
    array = np.asanyarray(image.dataobj)
    step = unit = None
    # only NIfTI says units; MGH and others are in mm
    space, word = image.header.get_xyzt_units() if hasattr(image.header, "get_xyzt_units") else ("mm", None)
    if array.ndim == 4 and word is not None:
        zoom = float(image.header.get_zooms()[3])
        if word in _UNITS or zoom not in (0.0, 1.0):
            unit, factor = _UNITS.get(word, (None, 1.0))
            step = zoom * factor or None
    loaded = from_array(array, image.affine, name, axis4, step, unit)
    return replace(loaded, meta=replace(loaded.meta, space_unit=_SPACE.get(space, "mm")))


def _is_dataarray(value: Any) -> bool:
    # by its shape and not by its class: xarray is not imported for a caller who never uses it
    return all(hasattr(value, n) for n in ("dims", "coords", "attrs", "to_numpy", "transpose"))


def _from_dataarray(item: Any, name: str) -> Loaded:
    dims = {_AXES.get(str(d), str(d)): d for d in item.dims}
    wanted = [a for a in "xyztc" if a in dims]
    if wanted[:3] != ["x", "y", "z"] or len(wanted) != len(item.dims):
        raise SourceUnsupportedError(
            name,
            expected="a DataArray with dims x, y, z[, t][, c]",
            got=str(tuple(item.dims)),
            hint="Rename or drop the others.",
        )
    affine = item.attrs.get("affine")
    if affine is None:
        affine = _affine_of(item.coords, [dims[a] for a in "xyz"], name)
    array = item.transpose(*[dims[a] for a in wanted]).to_numpy()
    timed = "t" in dims and dims["t"] in item.coords
    step = _steps(item.coords, dims["t"], name, _SECONDS)[1] if timed else None
    unit = None if step is None else "s"
    return from_array(array, affine, name, "time" if "t" in wanted else "channel", step, unit)


def _affine_of(coords: Mapping[Hashable, Any], axes: Sequence[Any], name: str) -> npt.NDArray[np.float64]:
    if _text(coords, AFFINE) is not None or _text(coords, DIRECTION) is not None:
        return _affine_of_grid(coords, axes, name)
    if missing := [str(axis) for axis in axes if axis not in coords]:
        raise SourceUnsupportedError(
            name,
            expected='attrs["affine"], or coordinates along x, y and z in mm',
            got=f"no coordinates along {', '.join(missing)}",
            hint="Pass (array, affine) instead, or set da.attrs['affine'].",
        )
    affine = np.eye(4)
    for number, axis in enumerate(axes):
        first, step = _steps(coords, axis, name, _MILLIMETERS)
        affine[number, number], affine[number, 3] = step or 1.0, first
    return affine


def _text(coords: Mapping[Hashable, Any], name: str) -> str | None:
    """A coordinate of text without axes, else None: others call the directions of gradients so, say."""
    value = coords[name].item() if name in coords and not coords[name].dims else None
    return value if isinstance(value, str) else None


def _affine_of_grid(
    coords: Mapping[Hashable, Any], axes: Sequence[Any], name: str
) -> npt.NDArray[np.float64]:
    """The affine of what `to_xarray` made, however it was sliced since; oblique grids have it, too."""
    lines = {str(axis): coords[axis].to_numpy() for axis in axes if axis in coords}
    units = {axis: coords[axis].attrs.get("units", INDEX_UNIT) for axis in lines}
    stored, direction = _text(coords, AFFINE), _text(coords, DIRECTION)
    unit = (coords[AFFINE] if AFFINE in coords else coords[axes[0]]).attrs.get("units", "mm")
    try:
        affine = affine_from(lines, units, stored, direction, name).matrix.copy()
        affine[:3] *= _MILLIMETERS[unit]
    except GeometryError as error:
        raise SourceUnsupportedError(name, got=str(error)) from error
    except KeyError as error:
        raise SourceUnsupportedError(
            name, expected=f"units one of {', '.join(_MILLIMETERS)}", got=repr(unit)
        ) from error
    return affine


def _steps(
    coords: Mapping[Hashable, Any], axis: Any, name: str, units: Mapping[str, float]
) -> tuple[float, float | None]:
    """The first coordinate of an axis and the distance between neighbours, None for a single one."""
    values, unit = np.asarray(coords[axis]), coords[axis].attrs.get("units")
    what = f"{name}, coordinates of {axis!r}"
    if values.dtype.kind in "mM" and units is _SECONDS:
        values, unit = (values - values[0]) / np.timedelta64(1, "s"), None
    known = values.dtype.kind in "iuf" and (unit is None or unit in units)
    if not known or not np.isfinite(values).all():
        raise SourceUnsupportedError(
            what,
            expected=f"finite numbers, units one of {', '.join(units)}",
            got=f"{values.dtype}, units {unit!r}",
        )
    values = values.astype(np.float64) * units.get(unit, 1.0)
    if values.size < 2:
        return float(values[0]), None
    steps = np.diff(values)
    even = np.allclose(steps, steps[0], rtol=1e-3, atol=0)
    if not even or steps[0] == 0 or (steps[0] < 0 and units is _SECONDS):
        raise SourceUnsupportedError(
            what,
            expected="even steps" if units is _MILLIMETERS else "even steps forward",
            got=f"{steps.min():g} to {steps.max():g}",
            hint="Resample it to an even grid first.",
        )
    return float(values[0]), float((values[-1] - values[0]) / (values.size - 1))
