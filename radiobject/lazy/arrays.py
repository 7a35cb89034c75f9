"""Arrays: one volume as a lazy DataArray or dask array, and a DataArray as a volume again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from radiobject.backends.base import DISK_AXES
from radiobject.errors import FormatError, SelectionError
from radiobject.format.meta import Kind, Label, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.lazy.chunks import Chunks, borders_of, chunked
from radiobject.lazy.geometry import affine_of, grid_coords, text, time_coords, time_step_of, unit_of
from radiobject.lazy.indexing import VolumeArray, lazily
from radiobject.model.held import HeldHandle
from radiobject.model.volume import Volume
from radiobject.writing.loaded import from_voxels, with_scaled_dtype

__all__ = ["ID", "SUBJECT", "array_attrs", "labels_of", "volume_of", "volume_to_dask", "volume_to_xarray"]

ID, SUBJECT = "obs_id", "obs_subject_id"


def volume_to_xarray(volume: Volume, chunks: Chunks = None) -> xr.DataArray:
    """See `Volume.to_xarray`."""
    meta = volume.meta
    variable = xr.Variable(volume.axes, lazily(VolumeArray(volume)), array_attrs(meta.kind, meta.labels))
    coords = grid_coords(meta.affine, volume.shape, meta.space_unit)
    if "t" in volume.axes:
        coords |= time_coords(volume.shape[3], meta.time_step)
    coords |= {n: text(v) for n, v in ((ID, volume.obs_id), (SUBJECT, volume.obs_subject_id)) if v}
    # one that stands in memory must not travel with every task
    stored = hasattr(volume._handle, "uri")
    return xr.DataArray(
        chunked(variable, chunks, borders_of(volume), inline=stored), coords, name=volume.obs_id or "volume"
    )


def volume_to_dask(volume: Volume, chunks: Chunks = None) -> Any:
    """See `Volume.to_dask`."""
    return volume_to_xarray(volume, {} if chunks is None else chunks).data


def volume_of(array: xr.DataArray) -> Volume:
    """See `RadiAccessor.to_volume`."""
    what = f"DataArray {array.name!r}"
    if others := [str(d) for d in array.dims if d not in DISK_AXES]:
        raise SelectionError(
            f"volume of {what}",
            expected="axes x, y, z[, t][, c]",
            got=f"{', '.join(others)} too",
            hint=f"Take one volume, da.isel({others[0]}=0).",
        )
    affine = affine_of(array)
    taken = [axis for axis in "xyz" if axis not in array.dims]  # by an int: one voxel thick
    array = array.expand_dims(taken) if taken else array
    axes = [axis for axis in "xyztc" if axis in array.dims]
    step = time_step_of(array) if "t" in axes else None
    kind: Kind = "label" if array.attrs.get("kind") == "label" else "image"
    meta = VolumeMeta(
        Affine(affine),
        tuple(d for d in DISK_AXES if d in axes),
        kind=kind,
        space_unit=unit_of(array),
        time_unit=None if step is None else "s",
        time_step=step,
        labels=labels_of(array.attrs, what) if kind == "label" else (),
    )
    loaded = from_voxels(array.transpose(*axes).to_numpy(), meta, what)
    obs_id, subject = (str(array.coords[n].item()) if n in array.coords else "" for n in (ID, SUBJECT))
    return Volume._of(HeldHandle.of(loaded), with_scaled_dtype(loaded), obs_id=obs_id, obs_subject_id=subject)


def array_attrs(kind: str, labels: Sequence[Label]) -> dict[str, Any]:
    """kind, and the labels as JSON: attributes that every file format of xarray's takes."""
    if not labels:
        return {"kind": kind}
    listed = [[label.value, label.name, label.rgba] for label in labels]
    return {"kind": kind, "labels": json.dumps(listed, ensure_ascii=False)}


def labels_of(attrs: Mapping[Any, Any], what: str) -> tuple[Label, ...]:
    """The inverse of `array_attrs`. Raises `FormatError`."""
    try:
        listed = json.loads(attrs.get("labels", "[]"))
        return tuple(
            Label(int(value), str(name), None if rgba is None else tuple(map(int, rgba)))  # type: ignore[arg-type]
            for value, name, rgba in listed
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(
            f"attribute 'labels' of {what}", expected="[[value, name, rgba], ...] as JSON", got=repr(error)
        ) from error
