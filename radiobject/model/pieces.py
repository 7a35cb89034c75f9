"""Pieces: volumes with their rows on the way through a caller's functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from radiobject.backends.base import DTYPES, plan_array
from radiobject.errors import (
    AxisAmbiguousError,
    GeometryError,
    MissingObjectError,
    RadiObjectError,
    TransformError,
)
from radiobject.format.layout import python_axes, to_disk
from radiobject.format.meta import SourceInfo, VolumeMeta
from radiobject.format.schema import OBS_SCHEMA
from radiobject.geometry.affine import Affine
from radiobject.model.held import HeldHandle
from radiobject.model.study import Study
from radiobject.model.volume import Volume
from radiobject.writing.loaded import Loaded, from_voxels
from radiobject.writing.objects import from_object, is_image

__all__ = ["FORMATS", "Format", "KnownRow", "Piece", "pieces_of"]

Format = Literal["numpy", "volume", "nibabel"]
FORMATS = ("numpy", "volume", "nibabel")

_OF_VOXELS = frozenset(n for n in OBS_SCHEMA.names if n.startswith("intensity_")) | {
    "n_nonfinite",
    "nonzero_box",
    "source_digest",
}
"""Columns that say something about the stored voxels, and nothing about those that a function made."""

_BLOCK = 64
"""Rows that are read from the tables at a time."""


@dataclass(frozen=True)
class KnownRow:
    """A row of obs that travels with its volume, also to another process."""

    row: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """The visible columns."""
        return dict(self.row)

    def explain(self, error: MissingObjectError) -> RadiObjectError:
        """Whether the version expired is found out where the study is at hand."""
        return error


@dataclass
class Piece:
    """One volume on its way: what it is now (a Volume, an array, or what a function made), and its rows.

    `source` is the stored volume; `meta` describes an array, None for what is no volume any more.
    """

    source: Volume
    value: Any
    meta: VolumeMeta | None
    obs: dict[str, Any]
    subject: dict[str, Any]
    path: str = ""
    updates: dict[str, Any] = field(default_factory=dict)

    @property
    def obs_id(self) -> str:
        """Id of the stored volume."""
        return self.source.obs_id

    def row(self) -> dict[str, Any]:
        """The obs row joined with the subject's (obs wins), with what functions have added."""
        return {**self.subject, **self.own_row()}

    def own_row(self) -> dict[str, Any]:
        """The obs row of what the volume is now: a new one has another grid, and no statistics yet."""
        if self.value is self.source or self.meta is None:
            return {**self.obs, **self.updates}
        meta, sizes = self.meta, dict(zip(python_axes(self.meta.dims), self.value.shape, strict=True))
        grid = {f"dim_{a}": sizes.get(a) for a in "xyztc"}
        grid |= {f"spacing_{a}": step for a, step in zip("xyz", meta.affine.spacing, strict=True)}
        grid |= {
            "time_step": meta.time_step,
            "dtype": str(self.value.dtype),
            "axcodes": "".join(meta.affine.axcodes),
            "affine": meta.affine.matrix.ravel().tolist(),
        }
        kept = {n: v for n, v in self.obs.items() if n not in _OF_VOXELS}
        return {**kept, **{n: v for n, v in grid.items() if n in self.obs}, **self.updates}

    def unshared(self) -> Piece:
        """The same piece, with an array that nobody else sees."""
        if isinstance(self.value, np.ndarray):
            return replace(self, value=np.array(self.value))
        return replace(self)

    def series(self) -> pd.Series[Any]:
        """The joined row as functions see it, `affine` as 4x4 float64."""
        row = self.row()
        affine = self.source.affine if self.meta is None else self.meta.affine.matrix.copy()
        return pd.Series({**row, "affine": affine}, name=self.obs_id, dtype=object)

    def given(self, form: Format) -> Any:
        """The value as a function wants it; what is no volume goes on as it is."""
        if isinstance(self.value, Volume):
            volume = self.value
            return (
                volume if form == "volume" else volume.to_numpy() if form == "numpy" else volume.to_nibabel()
            )
        if self.meta is None or form == "numpy":
            return self.value
        volume = self.as_volume()
        return volume if form == "volume" else volume.to_nibabel()

    def take(self, result: Any, what: str) -> None:
        """What a function returned: a value, or (value, {column: value}).

        Raises `TransformError` for nothing and for masked voxels, `GeometryError` for another shape without
        an affine.
        """
        updates: dict[str, Any] = {}
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
            result, updates = result[0], dict(result[1])
        if result is None:
            raise TransformError(
                f"{what} for {self.obs_id!r}", expected="the volume back, or (volume, {column: value})",
                got="None", hint="Is a return missing?",
            )  # fmt: skip
        if np.ma.is_masked(result):
            raise TransformError(
                f"{what} for {self.obs_id!r}", expected="a value for every voxel", got="a masked array",
                hint="Return array.filled(value).",
            )  # fmt: skip
        affine = updates.pop("affine", None)
        if affine is not None and not isinstance(result, np.ndarray):
            raise GeometryError(
                f"{what} for {self.obs_id!r}",
                expected="an affine beside an array only",
                got=f"one beside a {type(result).__name__}, which has its own",
            )
        if isinstance(result, Volume):
            self.value, self.meta = result, result.meta
        elif is_image(result):
            loaded = from_object(result, self.obs_id, _axis4(self.meta))
            self.value, self.meta = _user_order(loaded), self._described(loaded.meta)
        elif isinstance(result, np.ndarray) and result.ndim >= 3 and self.meta is not None:
            self.value, self.meta = result, self._of_array(result, affine, what)
        else:
            self.value, self.meta = result, None
        self.updates = {**self.updates, **updates}

    def _described(self, meta: VolumeMeta) -> VolumeMeta:
        """An image's own geometry, and what this volume is a kind of."""
        before = self.meta or self.source.meta
        return replace(meta, kind=before.kind, labels=before.labels, space_unit=before.space_unit)

    def _of_array(self, array: npt.NDArray[Any], affine: Any, what: str) -> VolumeMeta:
        before = self.meta
        assert before is not None
        dims = _dims_of(array.ndim, before.dims, f"{what} for {self.obs_id!r}")
        shape = self._spatial_shape()
        if affine is None and array.shape[:3] != shape:
            raise GeometryError(
                f"{what} for {self.obs_id!r}",
                expected=f"shape {shape} of x, y, z, or a new affine",
                got=f"shape {array.shape[:3]}",
                hint='Return (array, {"affine": new_affine}), or take Volumes: map(fn, format="volume").',
            )
        kept = dims == before.dims and self.source.extra("nifti") is not None
        return replace(
            before,
            affine=before.affine if affine is None else Affine(np.asarray(affine, dtype=np.float64)),
            dims=dims,
            scaling=None,
            window=None,
            time_step=before.time_step if "t" in dims else None,
            source=replace(before.source, exact=False, extras=("nifti",)) if kept else SourceInfo(),
        )

    def _spatial_shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape[:3])

    def as_volume(self) -> Volume:
        """The value as a Volume, in memory unless it is one already. `TransformError` for what is none."""
        if isinstance(self.value, Volume):
            volume = self.value
        elif self.meta is None:
            raise self._no_volume()
        else:
            array, meta = _storable(self.value), self.meta
            if array.dtype.kind not in "iu":
                meta = replace(meta, kind="image", labels=())
            voxels = to_disk(array, meta.dims)
            extras = {n: self.source.extra(n) or b"" for n in meta.source.extras}
            handle = HeldHandle(voxels, extras, plan_array(voxels.shape, voxels.dtype, meta.dims))
            volume = Volume._of(handle, meta)
        row = KnownRow(self.own_row())
        return volume._renamed(self.obs_id, self.source.obs_subject_id, row)

    def load(self, kind: Literal["image", "label"]) -> Loaded:
        """The value in memory as it is to be written. Raises `TransformError` for what is no volume."""
        if isinstance(self.value, Volume):
            loaded = from_object(self.value, self.obs_id)
            meta = loaded.meta
            if meta.kind == kind:
                return loaded
            # labels are never scaled: what another kind is to hold are the values that reads return
            meta = replace(meta, kind=kind, labels=(), scaling=None, source=SourceInfo())
            return from_voxels(self.value.to_numpy(), meta, self.obs_id)
        if self.meta is None:
            raise self._no_volume()
        meta = replace(self.meta, kind=kind, labels=self.meta.labels if kind == "label" else ())
        extras = {n: self.source.extra(n) or b"" for n in meta.source.extras}
        return from_voxels(np.asarray(self.value), meta, self.obs_id, extras)

    def _no_volume(self) -> TransformError:
        return TransformError(
            f"the result for {self.obs_id!r}",
            expected="a volume (an array of 3 to 5 axes, a Volume or a nibabel image)",
            got=f"{type(self.value).__name__}",
            hint="Values go beside the volume: return volume, {column: value}.",
        )

    @property
    def _held(self) -> npt.NDArray[Any] | None:
        """The voxels that it has in memory."""
        if isinstance(self.value, Volume):
            handle = self.value._handle
            return handle.voxels if isinstance(handle, HeldHandle) else None
        return self.value if isinstance(self.value, np.ndarray) and self.value.dtype != object else None

    @property
    def nbytes(self) -> int:
        """Bytes of voxels that it has in memory."""
        return 0 if self._held is None else self._held.nbytes

    def mapped(self, path: str) -> Piece:
        """The same piece, its voxels in a file at `path` that is mapped into memory."""
        held = self._held
        if held is None:
            return self
        np.save(path, held)
        # copy-on-write: who changes the array in place changes their own pages
        there = np.load(path, mmap_mode="c")
        if isinstance(self.value, Volume) and isinstance(self.value._handle, HeldHandle):
            handle = replace(self.value._handle, voxels=there)
            return replace(self, value=self.value._derived(handle=handle, region=self.value._region))
        return replace(self, value=there)


def _axis4(meta: VolumeMeta | None) -> Literal["auto", "time", "channel"]:
    if meta is None or not {"t", "c"} & set(meta.dims):
        return "auto"
    return "time" if "t" in meta.dims else "channel"


def _user_order(loaded: Loaded) -> npt.NDArray[Any]:
    dims = loaded.meta.dims
    return loaded.voxels.transpose([dims.index(a) for a in python_axes(dims)])


def _dims_of(ndim: int, before: tuple[str, ...], what: str) -> tuple[str, ...]:
    if ndim == len(before):
        return before
    if ndim == 3:
        return ("z", "y", "x")
    raise AxisAmbiguousError(
        what,
        expected=f"{len(before)} axes, as it was given, or 3",
        got=f"{ndim}",
        hint='Say what the new axis is: return Volume.from_numpy(array, affine, axis4="channel").',
    )


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Booleans and half floats as the formats have them."""
    if array.dtype == bool:
        return array.astype("u1")
    if array.dtype == np.float16:
        return array.astype("f4")
    if array.dtype.newbyteorder("=").str[1:] not in DTYPES:
        raise TransformError("a result", expected=f"one of {', '.join(DTYPES)}", got=str(array.dtype))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def pieces_of(study: Study, name: str, positions: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[Piece]:
    """The volumes in these rows of a collection, each with its rows; tables are read a block at a time."""
    obs, subjects, people = study.obs(name), study.subjects, study.index()
    visible = [c for c in obs.schema.names if not c.startswith("_")]
    told = [c for c in subjects.schema.names if not c.startswith("_")]
    for begin in range(0, len(positions), _BLOCK):
        block = positions[begin : begin + _BLOCK]
        rows = obs.rows(block, [*visible, "_path"]).to_pylist()
        of = [people.get_index(r["obs_subject_id"]) for r in rows]
        persons = subjects.rows(of, told).to_pylist()
        for position, row, person in zip(block, rows, persons, strict=True):
            path = row.pop("_path")
            volume = study.volume(name, int(position))
            volume = volume._renamed(volume.obs_id, volume.obs_subject_id, KnownRow(row))
            yield Piece(volume, volume, volume.meta, row, person, path)
