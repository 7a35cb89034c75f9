"""Loading: one source of any kind as voxels in disk order with everything that must be kept beside them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import DTYPES
from radiobject.config import OrientationConfig
from radiobject.errors import AxisAmbiguousError, GeometryError, SourceUnsupportedError
from radiobject.format.layout import to_disk, to_python
from radiobject.format.meta import Kind, Label, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.ingest.axes import Axis4
from radiobject.ingest.nifti import read_nifti
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["Loaded", "load"]

_UNITS = {"sec": ("s", 1.0), "msec": ("ms", 1e-3), "usec": ("us", 1e-6)}


@dataclass(frozen=True)
class Loaded:
    """A source in memory: voxels in disk order (stored values), meta, bytes kept beside, content digest."""

    voxels: npt.NDArray[Any]
    meta: VolumeMeta
    extras: dict[str, bytes]
    digest: str


def load(
    item: Any,
    name: str,
    kind: Kind,
    *,
    axis4: Axis4 = "auto",
    labels: Mapping[int, str] | None = None,
    orientation: OrientationConfig | None = None,
    near: Location | None = None,
) -> Loaded:
    """Read a path, a URL, a nibabel image or `(array, affine)`.

    An image that nibabel has open on an unchanged file is read from that file, so that its stored integers
    and header survive. Raises from the `SourceError` branch only.
    """
    path = _path_of(item)
    if path is not None:
        loaded = _from_file(path, kind, axis4, near)
    elif isinstance(item, tuple):
        loaded = _from_array(item[0], item[1], name, axis4)
    else:
        loaded = _from_image(item, name, axis4)
    meta = replace(loaded.meta, kind=kind)
    if kind == "label":
        if loaded.voxels.dtype.kind not in "iu":
            raise SourceUnsupportedError(
                name,
                expected="integers for a label map",
                got=str(loaded.voxels.dtype),
                hint="Cast the labels to integers, or take this collection out of labels=.",
            )
        if labels:
            meta = replace(meta, labels=tuple(Label(v, t) for v, t in sorted(labels.items())))
    loaded = replace(loaded, meta=meta)
    if orientation is not None and orientation.reorient_on_load:
        loaded = _reoriented(loaded, orientation)
    return loaded


def _path_of(item: Any) -> str | None:
    if isinstance(item, str | os.PathLike):
        return os.fspath(item)
    proxy = getattr(item, "dataobj", None)
    name = getattr(getattr(item, "file_map", {}).get("image"), "filename", None)
    # nibabel marks what still lies in the file; an array in memory may have been changed
    if (
        name
        and getattr(proxy, "is_proxy", False)
        and re.search(r"\.(nii|img|hdr)(\.gz)?$", str(name), re.IGNORECASE)
        and _is_as_in_file(item)
    ):
        return str(name)
    return None


def _is_as_in_file(image: Any) -> bool:
    """Whether neither the affine nor the header of an open image was changed since it was loaded."""
    try:
        fresh = type(image).from_file_map(image.file_map)
    except Exception:
        # a file that is gone or damaged by now: reading it as a file says so by name
        return True
    return bool(np.array_equal(fresh.affine, image.affine) and fresh.header == image.header)


def _from_file(path: str, kind: Kind, axis4: Axis4, near: Location | None) -> Loaded:
    reader = None
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]+://", path) and not path.startswith("file://"):

        def reader(url: str) -> bytes:
            folder, _, key = url.rpartition("/")
            return Storage(near.beside(folder) if near else Location(folder)).read(key)

    image = read_nifti(path.removeprefix("file://"), axis4=axis4, reader=reader)
    extras = {"nifti": image.header, "nifti_lead": image.lead, "nifti_tail": image.tail}
    extras = {name: data for name, data in extras.items() if data}
    meta = image.meta(kind)
    meta = replace(meta, source=replace(meta.source, extras=tuple(extras)))
    return Loaded(image.voxels, meta, extras, image.digest)


def _from_array(
    array: npt.NDArray[Any], affine: Any, name: str, axis4: Axis4, time_step: float | None = None,
    time_unit: str | None = None,
) -> Loaded:  # fmt: skip
    dims = _array_dims(array.ndim, axis4, name, timed=time_step is not None or time_unit is not None)
    if array.dtype == bool:
        array = array.astype("u1")
    elif array.dtype == np.float16:
        array = array.astype("f4")
    if array.dtype.newbyteorder("=").str[1:] not in DTYPES or array.dtype.kind not in "iuf":
        raise SourceUnsupportedError(name, expected=f"one of {', '.join(DTYPES)}", got=str(array.dtype))
    if 0 in array.shape:
        raise SourceUnsupportedError(
            name, expected="at least one voxel along each axis", got=str(array.shape)
        )
    try:
        world = Affine(np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64))
    except GeometryError as error:
        raise SourceUnsupportedError(name, got=str(error), hint="Give the affine as a 4x4 matrix.") from error
    voxels = np.ascontiguousarray(to_disk(array, dims)).astype(array.dtype.newbyteorder("="), copy=False)
    digest = hashlib.sha256(f"{voxels.dtype.str}{voxels.shape}{world.matrix.tolist()}".encode())
    digest.update(voxels.data if voxels.flags.c_contiguous else voxels.tobytes())
    meta = VolumeMeta(world, dims, time_step=time_step, time_unit=time_unit)
    return Loaded(voxels, meta, {}, digest.hexdigest())


def _array_dims(ndim: int, axis4: Axis4, name: str, *, timed: bool) -> tuple[str, ...]:
    if ndim == 3:
        return ("z", "y", "x")
    if ndim == 4:
        axis = "time" if axis4 == "auto" and timed else axis4
        if axis == "auto":
            raise AxisAmbiguousError(
                name,
                expected="to be told what the fourth axis is",
                got="axis4='auto'",
                hint="Pass axis4='time' or axis4='channel'.",
            )
        return ("t" if axis == "time" else "c", "z", "y", "x")
    if ndim == 5:
        return ("t", "c", "z", "y", "x")
    raise SourceUnsupportedError(
        name, expected="an array of 3 to 5 axes (x, y, z[, t][, c])", got=f"{ndim} axes"
    )


def _from_image(image: Any, name: str, axis4: Axis4) -> Loaded:
    array = np.asanyarray(image.dataobj)
    step = unit = None
    if array.ndim == 4 and hasattr(image.header, "get_xyzt_units"):
        word = image.header.get_xyzt_units()[1]
        zoom = float(image.header.get_zooms()[3])
        if word in _UNITS or zoom not in (0.0, 1.0):
            unit, factor = _UNITS.get(word, (None, 1.0))
            step = zoom * factor or None
    return _from_array(array, image.affine, name, axis4, step, unit)


def _reoriented(loaded: Loaded, orientation: OrientationConfig) -> Loaded:
    """Voxels flipped and permuted, never resampled, to the target; the affine follows exactly."""
    meta = loaded.meta
    view = to_python(loaded.voxels, meta.dims)
    turn = meta.affine.reorientation(orientation.canonical_target, view.shape[:3])
    if turn.perm == (0, 1, 2) and not any(turn.flips):
        return loaded
    voxels = np.ascontiguousarray(to_disk(turn.apply(view), meta.dims))
    meta = replace(
        meta,
        affine=turn.affine,
        original_affine=meta.affine if orientation.store_original_affine else None,
        source=replace(meta.source, exact=False),
    )
    return replace(loaded, voxels=voxels, meta=meta)
