"""Objects: what callers hand over in memory (arrays, Volumes, nibabel images, DataArrays) as `Loaded`."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from radiobject.errors import SourceUnsupportedError
from radiobject.format.meta import VolumeMeta
from radiobject.writing.loaded import Axis4, Loaded, from_array, from_voxels

__all__ = ["VolumeLike", "from_object", "is_array_pair", "is_image", "is_nifti_name", "is_object"]

_UNITS = {"sec": ("s", 1.0), "msec": ("ms", 1e-3), "usec": ("us", 1e-6)}
_AXES = {"time": "t", "channel": "c"}
"""Names of dimensions that mean one of ours."""

_KEPT = ("nifti",)
"""Bytes beside the voxels that still hold for a volume written anew: its header, not where the file ended."""


@runtime_checkable
class VolumeLike(Protocol):
    """A `Volume`, as far as writing it again is concerned."""

    @property
    def meta(self) -> VolumeMeta: ...

    @property
    def obs_subject_id(self) -> str: ...

    def to_numpy(self, *, raw: bool = False) -> npt.NDArray[Any]: ...

    def extra(self, name: str) -> bytes | None: ...


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

    A Volume keeps stored values, scaling and header. A DataArray has dims x, y, z[, t][, c] (`time` and
    `channel` serve too) in any order, and its 4x4 affine as `attrs["affine"]`, or evenly spaced coordinates
    in mm, RAS+.

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
    extras = {n: data for n in _KEPT if n in meta.source.extras and (data := volume.extra(n)) is not None}
    # its own orientation and region are what is written now: bytes of the first source are not
    source = replace(meta.source, exact=False, extras=tuple(extras))
    return from_voxels(volume.to_numpy(raw=True), replace(meta, source=source), name, extras)


def _from_image(image: Any, name: str, axis4: Axis4) -> Loaded:
    array = np.asanyarray(image.dataobj)
    step = unit = None
    if array.ndim == 4 and hasattr(image.header, "get_xyzt_units"):
        word = image.header.get_xyzt_units()[1]
        zoom = float(image.header.get_zooms()[3])
        if word in _UNITS or zoom not in (0.0, 1.0):
            unit, factor = _UNITS.get(word, (None, 1.0))
            step = zoom * factor or None
    return from_array(array, image.affine, name, axis4, step, unit)


def _is_dataarray(value: Any) -> bool:
    # by its shape and not by its class: xarray is not imported for a caller who never uses it
    return all(hasattr(value, n) for n in ("dims", "coords", "attrs", "to_numpy", "transpose"))


def _from_dataarray(item: Any, name: str) -> Loaded:
    dims = {_AXES.get(str(d), str(d)): d for d in item.dims}
    wanted = [a for a in "xyztc" if a in dims]
    if wanted[:3] != ["x", "y", "z"] or len(wanted) != len(item.dims):
        raise SourceUnsupportedError(
            name, expected="a DataArray with dims x, y, z[, t][, c]", got=str(tuple(item.dims))
        )
    affine = item.attrs.get("affine")
    if affine is None:
        affine = _affine_of(item.coords, [dims[a] for a in "xyz"], name)
    array = item.transpose(*[dims[a] for a in wanted]).to_numpy()
    made = from_array(array, affine, name, "time" if "t" in wanted else "channel")
    step = _step(item.coords, dims["t"], name) if "t" in dims and dims["t"] in item.coords else None
    return replace(made, meta=replace(made.meta, time_step=step, time_unit=None if step is None else "s"))


def _affine_of(coords: Mapping[Hashable, Any], axes: Sequence[Any], name: str) -> npt.NDArray[np.float64]:
    if any(axis not in coords for axis in axes):
        raise SourceUnsupportedError(
            name,
            expected='attrs["affine"], or coordinates along x, y and z in mm',
            got=f"coordinates {[str(c) for c in coords]}",
            hint="Pass (array, affine) instead, or set da.attrs['affine'].",
        )
    affine = np.eye(4)
    for number, axis in enumerate(axes):
        affine[number, number] = _step(coords, axis, name) or 1.0
        affine[number, 3] = float(np.asarray(coords[axis]).ravel()[0])
    return affine


def _step(coords: Mapping[Hashable, Any], axis: Any, name: str) -> float | None:
    """The distance between neighbours along an axis; None for a single one."""
    values = np.asarray(coords[axis], dtype=np.float64)
    if values.size < 2:
        return None
    steps = np.diff(values)
    if not np.allclose(steps, steps[0], rtol=1e-3) or steps[0] == 0:
        raise SourceUnsupportedError(
            name, expected=f"even steps along {axis!r}", got=f"{steps.min():g} to {steps.max():g}"
        )
    return float((values[-1] - values[0]) / (values.size - 1))
