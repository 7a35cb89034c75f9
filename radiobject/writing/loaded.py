"""Loaded: one volume in memory as it is to be written; made here from arrays, by ingest from files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import DTYPES
from radiobject.config import OrientationConfig, WriteConfig
from radiobject.errors import AxisAmbiguousError, SourceUnsupportedError
from radiobject.format.layout import to_disk, to_python
from radiobject.format.meta import VolumeMeta, scaled_dtype
from radiobject.geometry.affine import Affine

__all__ = [
    "Axis4",
    "Loaded",
    "Reorient",
    "array_dims",
    "from_array",
    "from_voxels",
    "oriented",
    "refuse_float_labels",
    "reoriented",
    "with_scaled_dtype",
]

Axis4 = Literal["auto", "time", "channel"]
"""What a fourth axis is; "auto" believes what the source says, and refuses when it says nothing."""

Reorient = bool | str | Sequence[str] | None
"""Whether voxels are flipped and permuted on the way in: None as configured, True to the configured target,
axis codes such as "LPS" to those."""


@dataclass(frozen=True)
class Loaded:
    """A volume in memory: voxels in disk order (stored values), meta, bytes kept beside, content digest.

    `settled` says that the type of scaled reads is, and is not to be asked of the voxels. `former_digest` is
    what studies written before layouts had a digest of their own may have in its place.
    """

    voxels: npt.NDArray[Any]
    meta: VolumeMeta
    extras: dict[str, bytes]
    digest: str
    settled: bool = False
    former_digest: str | None = None

    def is_of(self, digest: str | None) -> bool:
        """Whether a volume with that `source_digest` holds the same."""
        return digest is not None and digest in (self.digest, self.former_digest)


def from_array(
    array: npt.NDArray[Any], affine: Any, name: str, axis4: Axis4 = "auto",
    time_step: float | None = None, time_unit: str | None = None,
) -> Loaded:  # fmt: skip
    """An array (x, y, z[, t][, c]) and its 4x4 affine (None for voxels of 1 mm); bool and float16 widen.

    Raises from the `SourceError` branch only.
    """
    dims = array_dims(array.ndim, axis4, name, timed=time_step is not None or time_unit is not None)
    try:
        world = Affine(np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64))
    except (TypeError, ValueError) as error:  # GeometryError is one, and so is what NumPy says of text
        raise SourceUnsupportedError(name, got=str(error), hint="Give the affine as a 4x4 matrix.") from error
    return from_voxels(array, VolumeMeta(world, dims, time_step=time_step, time_unit=time_unit), name)


def from_voxels(
    array: npt.NDArray[Any], meta: VolumeMeta, name: str, extras: dict[str, bytes] | None = None
) -> Loaded:
    """An array in user order (x, y, z[, t][, c]) and what is to be said of it."""
    if np.ma.is_masked(array):
        raise SourceUnsupportedError(
            name, expected="a value for every voxel", got="a masked array", hint="Use array.filled(value)."
        )
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
    refuse_float_labels(meta, array.dtype, name)
    voxels = np.ascontiguousarray(to_disk(array, meta.dims)).astype(array.dtype.newbyteorder("="), copy=False)
    said = f"{voxels.dtype.str}{voxels.shape}{meta.affine.matrix.tolist()}"
    if len(meta.dims) > 3:  # the same numbers may be time points or channels
        said += f"{meta.dims}{meta.time_step}"
    digest = hashlib.sha256(said.encode())
    digest.update(voxels.data if voxels.flags.c_contiguous else voxels.tobytes())
    return Loaded(voxels, meta, extras or {}, digest.hexdigest())


def array_dims(ndim: int, axis4: Axis4, name: str, *, timed: bool) -> tuple[str, ...]:
    """Disk axes of an array of that many axes. `AxisAmbiguousError` when nobody says what the fourth is."""
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


def refuse_float_labels(meta: VolumeMeta, dtype: np.dtype[Any], name: str) -> None:
    """Raise `SourceUnsupportedError` for a label map that is not of integers."""
    if meta.kind == "label" and dtype.kind not in "iu":
        raise SourceUnsupportedError(
            name,
            expected="integers for a label map",
            got=str(dtype),
            hint='Cast the labels to integers, or write the collection as kind "image".',
        )


def oriented(write: WriteConfig, reorient: Reorient) -> WriteConfig:
    """The settings with the caller's word on reorientation: False, True (to their target) or axis codes.

    Raises `GeometryError` for codes that name no orientation.
    """
    if reorient is None:
        return write
    now = write.orientation
    if isinstance(reorient, bool):
        now = replace(now, reorient_on_load=reorient)
    else:
        Affine(np.eye(4)).reorientation(reorient, (1, 1, 1))
        now = replace(now, reorient_on_load=True, canonical_target="".join(reorient))
    return replace(write, orientation=now)


def reoriented(loaded: Loaded, orientation: OrientationConfig) -> Loaded:
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


def with_scaled_dtype(loaded: Loaded) -> VolumeMeta:
    """The meta of a volume with the type that scaled reads return settled from its voxels."""
    meta = loaded.meta
    if meta.scaling is None or meta.scaling.is_cast or loaded.settled:
        return meta
    low, high = loaded.voxels.min(), loaded.voxels.max()
    wide = scaled_dtype(loaded.voxels.dtype, meta.scaling.slope, meta.scaling.inter, low, high)
    return replace(meta, scaling=replace(meta.scaling, dtype=wide))
