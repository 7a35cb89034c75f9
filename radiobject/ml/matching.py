"""Matching: which volumes are partners in a sample, on which grid, in which type; tables only, no voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from radiobject.errors import AlignmentError, ConfigError, UnknownIdError
from radiobject.format.meta import row_meta
from radiobject.geometry.affine import Affine
from radiobject.geometry.corners import corners, grid_tolerance
from radiobject.geometry.resample import grid_spaced, resampled_dtype
from radiobject.ml.spec import SampleSpec
from radiobject.model.collection_view import CollectionView
from radiobject.model.dtypes import common_dtype
from radiobject.model.partners import PARTNER_COLUMNS, match, sides
from radiobject.model.view import StudyView

__all__ = ["Rows", "Source", "Stream", "collections_of", "differs", "grids", "partners", "streams_of"]

Source = StudyView | CollectionView | Sequence[CollectionView] | Mapping[str, CollectionView]
"""Where samples come from: a study or a view of it, or collections of one study or of several."""

_GEOMETRY = ("obs_id", "dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "affine", "dtype", "_volume")


@dataclass(frozen=True)
class Stream:
    """One collection's part in every sample: which key and which of its channels it fills."""

    key: str
    start: int
    frames: int
    collection: str
    is_mask: bool
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Rows:
    """The volumes of one collection that are in the samples, in their order."""

    ids: list[str]
    subjects: list[str]
    positions: npt.NDArray[np.int64]
    table: pa.Table

    @classmethod
    def of(cls, collection: CollectionView, ids: list[str]) -> Rows:
        table = collection.obs.to_arrow([*_GEOMETRY, "obs_subject_id"])
        place = {obs_id: n for n, obs_id in enumerate(table["obs_id"].to_pylist())}
        picks = np.array([place[i] for i in ids], dtype=np.int64)
        rows = table.take(pa.array(picks))
        return cls(ids, rows["obs_subject_id"].to_pylist(), collection._rows()[picks], rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers; what is missing is 1, as for axes that a volume does not have."""
        return np.array([1 if v is None else v for v in self.table[name].to_pylist()])

    @property
    def nbytes(self) -> int:
        """Size of the voxels, decoded, as they are stored; of each volume once."""
        voxels = np.prod([self.column(f"dim_{a}").astype(np.int64) for a in "xyztc"], axis=0)
        sizes = np.array([np.dtype(name).itemsize for name in self.table["dtype"].to_pylist()])
        once = np.unique(self.positions, return_index=True)[1]
        return int((voxels * sizes)[once].sum())

    @property
    def affines(self) -> npt.NDArray[np.float64]:
        """Voxel centres to RAS+ mm, whatever unit a volume is in."""
        found = np.array(self.table["affine"].to_pylist(), dtype=np.float64).reshape(-1, 4, 4)
        found[:, :3] *= self.sides[:, None, None]
        return found

    @property
    def sides(self) -> npt.NDArray[np.float64]:
        """Millimetres of the unit that each affine is in."""
        return sides(self.table)

    @property
    def shapes(self) -> npt.NDArray[np.int64]:
        return np.stack([self.column(f"dim_{a}").astype(np.int64) for a in "xyz"], axis=1).reshape(-1, 3)


def collections_of(source: Source, spec: SampleSpec) -> dict[str, CollectionView]:
    """The collections that a spec names. Raises `UnknownIdError`, `ConfigError` for no source of samples."""
    wanted = list(dict.fromkeys(name for _, _, name in spec.streams))
    if isinstance(source, StudyView):
        return {name: source.collection(name) for name in wanted}
    if isinstance(source, CollectionView):
        source = [source]
    if isinstance(source, Mapping):
        given = dict(source)
    elif isinstance(source, list | tuple):
        given = {collection.name: collection for collection in source}
        if len(given) != len(source):
            raise ConfigError(
                "the source of samples", expected="collections of different names",
                got=repr([c.name for c in source]), hint="Pass a mapping from names of your own to them.",
            )  # fmt: skip
    else:
        raise ConfigError(
            "the source of samples", expected="a RadiObject, or VolumeCollections", got=type(source).__name__
        )
    if missing := [name for name in wanted if name not in given]:
        raise UnknownIdError(f"collections {missing} of the samples", expected=f"some of {list(given)}")
    return {name: given[name] for name in wanted}


def partners(
    collections: Mapping[str, CollectionView], names: Sequence[str], spec: SampleSpec
) -> dict[str, list[str]]:
    """The obs_ids of each collection, sample by sample."""
    columns = ["obs_subject_id", "obs_id", *PARTNER_COLUMNS, *(spec.on or ())]
    tables = {}
    for name, collection in collections.items():
        obs = collection.obs
        tables[name] = obs.to_arrow(list(dict.fromkeys(c for c in columns if c in obs.columns)))
    first = names[0]
    found = {first: {i: i for i in tables[first]["obs_id"].to_pylist()}}
    for name in names[1:]:
        pairs = match(tables[first], tables[name], (first, name), spec.on, spec.missing)
        found[name] = dict(zip(pairs[first], pairs[name], strict=True))
    kept = [i for i in found[first] if all(i in of for of in found.values())]
    if not kept:
        raise AlignmentError(f"samples of {list(names)}", expected="at least one", got="none")
    return {name: [of[i] for i in kept] for name, of in found.items()}


def grids(spec: SampleSpec, first: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Shape and affine of each sample: the first image's, turned and spaced as the spec says."""
    return _on_grids(first, spec.axcodes, spec.spacing)


def _on_grids(
    rows: Rows, axcodes: str | None, spacing: Sequence[float] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Shapes and affines of volumes, turned to codes and spaced."""
    if axcodes is None and spacing is None:
        return rows.shapes, rows.affines
    known: dict[bytes, tuple[Sequence[int], npt.NDArray[np.float64]]] = {}
    made = []
    for shape, matrix in zip(rows.shapes, rows.affines, strict=True):
        key = shape.tobytes() + matrix.tobytes()
        if key not in known:
            size: Sequence[int] = shape.tolist()
            affine = Affine(matrix)
            if axcodes is not None:
                turn = affine.reorientation(axcodes, size)
                size, affine = [size[axis] for axis in turn.perm], turn.affine
            if spacing is not None:
                size, affine = grid_spaced(affine, size, spacing)
            known[key] = size, affine.matrix
        made.append(known[key])
    return np.array([s for s, _ in made], dtype=np.int64), np.array([a for _, a in made])


def differs(first: Rows, rows: Rows, spec: SampleSpec) -> npt.NDArray[np.bool_]:
    """Which volumes lie on another grid than the sample's first image. `AlignmentError` where none may."""
    if rows is first:
        return np.zeros(len(first.ids), dtype=bool)
    for n in np.flatnonzero(first.sides != rows.sides)[:1].tolist():
        raise AlignmentError(
            f"{first.ids[n]} and {rows.ids[n]}", expected="affines in one unit of length",
            got=f"units of {first.sides[n]:g} and {rows.sides[n]:g} mm",
            hint="Mend the unit in the header of one of them, and ingest it again.",
        )  # fmt: skip
    # volumes stored the other way round are on one grid once both are turned
    ours, theirs = (_on_grids(r, spec.axcodes, None) for r in (first, rows))
    apart = np.abs(corners(*ours) - corners(*theirs)).max(axis=(1, 2), initial=0.0)
    apart[(ours[0] != theirs[0]).any(axis=1)] = np.inf
    away: npt.NDArray[np.bool_] = apart > grid_tolerance(ours[1])
    if away.any() and spec.grid == "error" and spec.spacing is None:
        listed = [f"{first.ids[n]} and {rows.ids[n]}" for n in np.flatnonzero(away)[:5]]
        raise AlignmentError(
            f"{int(away.sum())} of {len(away)} samples: {'; '.join(listed)}",
            expected="partners on one grid: equal shapes, and corners in the same places",
            got=f"up to {apart[away].max():.3g} mm apart" if np.isfinite(apart).all() else "other shapes",
            hint='Pass grid="first" to resample them to the first image, or spacing= for a grid of its own.',
        )
    return away


def streams_of(
    spec: SampleSpec,
    collections: Mapping[str, CollectionView],
    tables: Mapping[str, Rows],
    regrid: npt.NDArray[np.bool_],
) -> tuple[Stream, ...]:
    """What fills each channel. Raises `AlignmentError` for volumes of another number of frames."""
    made: list[Stream] = []
    filled: dict[str, int] = {}
    for number, (key, _, name) in enumerate(spec.streams):
        rows = tables[name]
        frames = rows.column("dim_t").astype(np.int64) * rows.column("dim_c").astype(np.int64)
        if len(set(frames.tolist())) > 1:
            odd = int(np.flatnonzero(frames != frames[0])[0])
            raise AlignmentError(
                f"collection {name!r} as channels of {key!r}",
                expected=f"{frames[0]} frames, as {rows.ids[0]} has",
                got=f"{frames[odd]} in {rows.ids[odd]}",
            )
        start = filled.get(key, 0)
        filled[key] = start + int(frames[0])
        is_mask = key in spec.masks
        dtype = _dtype(rows, is_mask=is_mask)
        if spec.spacing is not None or regrid[:, number].any():
            dtype = resampled_dtype(dtype, 0 if is_mask else 1)
        made.append(Stream(key, start, int(frames[0]), collections[name].name, is_mask, dtype))
    return tuple(made)


def _dtype(rows: Rows, *, is_mask: bool) -> np.dtype[Any]:
    """The type of what reads of all of them return, of masks one that holds every value."""
    kinds = set()
    for stored, text in set(zip(*(rows.table[c].to_pylist() for c in ("dtype", "_volume")), strict=True)):
        meta = row_meta(text)
        scaled = meta.kind == "image" and meta.scaling is not None
        kinds.add(np.dtype(meta.scaling.dtype) if scaled and meta.scaling else np.dtype(stored))
    return common_dtype(kinds, f"masks such as {rows.ids[0]}") if is_mask else np.result_type(*kinds)
