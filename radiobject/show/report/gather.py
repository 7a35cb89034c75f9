"""Gather: what a study's commit and tables say, as plain values. Each table is read once, and no voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import GeometryError
from radiobject.executor import Progress, progress_bar
from radiobject.format.catalog import Catalog
from radiobject.format.commit import Commit
from radiobject.format.meta import MM, Label, VolumeMeta, row_meta
from radiobject.geometry.affine import Affine
from radiobject.geometry.corners import corners, grid_tolerance
from radiobject.model.partners import PARTNER_COLUMNS
from radiobject.writing.statistics import HISTOGRAM_BINS

if TYPE_CHECKING:
    from radiobject.model.view import StudyView

__all__ = ["STATISTICS", "Geometry", "Intensities", "StudyFacts", "Volumes", "gather"]

STATISTICS = ("min", "max", "mean", "std", "p0_5", "p1", "p50", "p99", "p99_5")
"""Columns `intensity_...` of the volume table."""

_COLUMNS = (
    "obs_subject_id", "obs_id", *PARTNER_COLUMNS, "dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "dtype",
    "affine", "source_digest", *(f"intensity_{name}" for name in STATISTICS), "intensity_histogram",
    "n_nonfinite", "nonzero_box", "_volume", "_objects",
)  # fmt: skip

_VERSIONS = 10
_LONG = 20_000
"""Volumes from which on reading takes long enough for a bar."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Geometry:
    """Where the n volumes of a collection lie. Rows of an affine that is none are NaN, and in `unusable`.

    `shape` (n, 3) and `affine` (n, 4, 4) have the order of the array axes x, y, z; `more` is the number of
    time points and of channels, None without such an axis. `world_axes` and `signs` (n, 3) are those of
    `Affine`; `spacing` (n, 3), `obliquity` and `shear` (n,) too, in mm and degrees.
    """

    shape: Counts
    more: list[tuple[int | None, int | None]]
    affine: Floats
    spacing: Floats
    world_axes: Counts
    signs: Counts
    axcodes: list[str]
    obliquity: Floats
    shear: Floats
    units: list[str]
    unusable: dict[int, str]

    def along_world(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values (n, 3) by array axis as values by world axis: R/L, A/P, S/I."""
        turned = np.empty_like(values)
        np.put_along_axis(turned, self.world_axes, values, axis=1)
        return turned

    @cached_property
    def corners(self) -> Floats:
        """World places (n, 8, 3) in mm of the centres of the corner voxels."""
        return corners(self.shape, self.affine, self._sides)

    @cached_property
    def tolerance(self) -> Floats:
        """How far from them the corners of a volume on one grid may lie, (n,) in mm."""
        return grid_tolerance(self.affine, self._sides)

    @property
    def _sides(self) -> list[float]:
        return [MM.get(unit, 1.0) for unit in self.units]


@dataclass(frozen=True)
class Intensities:
    """What ingest computed of the n volumes' voxels, in the units that reads return; NaN where unknown.

    `statistics` has the names of `STATISTICS`. `histogram` (n, 256) counts equal bins from min to max.
    `n_nonfinite` (n,) counts voxels; `box` (n, 6) is x0, y0, z0, x1, y1, z1 around those other than 0.
    """

    statistics: dict[str, Floats]
    histogram: Counts
    n_nonfinite: Counts
    box: Floats

    @property
    def unread(self) -> npt.NDArray[np.bool_]:
        """(n,): volumes whose voxels nobody has read, because they were registered where they lie."""
        counted: npt.NDArray[np.bool_] = self.histogram.sum(axis=1) + self.n_nonfinite == 0
        return counted


@dataclass(frozen=True)
class Volumes:
    """A collection, column by column. `metas[which[i]]` is the VolumeMeta of row i, without its affine.

    `partners` are the columns that `model.partners.match` compares. Bytes are sums over all volumes.
    """

    name: str
    kind: str
    backend: str
    obs_ids: list[str]
    subjects: list[str]
    dtype: list[str]
    digest: list[str | None]
    metas: list[VolumeMeta]
    which: Counts
    partners: pa.Table
    geometry: Geometry
    intensities: Intensities
    stored_bytes: int
    voxel_bytes: int

    @property
    def labels(self) -> dict[int, Label]:
        """The labels that any volume names, by value."""
        return {label.value: label for meta in self.metas for label in meta.labels}

    def __len__(self) -> int:
        return len(self.obs_ids)


@dataclass(frozen=True)
class StudyFacts:
    """A study or a view of it: its commit, the newest ten commits up to it, its tables.

    `name` is the last part of the study's place, without the folders that lead to it. `obs_meta` is None
    where it was not to be read.
    """

    name: str
    is_view: bool
    commit: Commit
    recent: list[Commit]
    subjects: list[str]
    obs_meta: pa.Table | None
    ledger: pa.Table
    collections: list[Volumes] = field(default_factory=list)

    @property
    def n_volumes(self) -> int:
        """Number of volumes in all collections."""
        return sum(len(c) for c in self.collections)


def gather(radi: StudyView, *, obs_meta: bool = True, progress: bool | Progress | None = None) -> StudyFacts:
    """Read the tables of a study or a view; of `obs_meta` only the ids, where it is not wanted."""
    snapshot = radi._study.snapshot
    people = radi.obs_meta.to_arrow(None if obs_meta else ["obs_subject_id"])
    facts = StudyFacts(
        name=radi._study.location.uri.rstrip("/").rsplit("/", 1)[-1],
        is_view=radi.is_view,
        commit=snapshot.commit,
        recent=_recent(Catalog(snapshot.storage), snapshot.commit),
        subjects=people["obs_subject_id"].to_pylist(),
        obs_meta=people if obs_meta else None,
        ledger=_ledger(radi, people["obs_subject_id"]),
    )
    names = radi.collection_names
    is_long = sum(len(radi.collection(name)) for name in names) >= _LONG
    with progress_bar("report", len(names), progress if progress is not None or is_long else False) as tell:
        for done, name in enumerate(names, start=1):
            facts.collections.append(_volumes(radi, name))
            tell(done, len(names))
    return facts


def _ledger(radi: StudyView, subjects: pa.ChunkedArray) -> pa.Table:
    """Of a view the lines about its subjects and collections; what names neither is about the whole."""
    lines = radi.ledger.to_arrow()
    if not radi.is_view:
        return lines
    names = pa.array(["", *radi.collection_names])
    people = pa.chunked_array([*subjects.chunks, pa.array([""])])
    kept = pc.and_(
        pc.is_in(lines["collection"], value_set=names), pc.is_in(lines["obs_subject_id"], value_set=people)
    )
    return lines.filter(kept)


def _recent(catalog: Catalog, newest: Commit) -> list[Commit]:
    """This version and those before it that are kept, newest first."""
    oldest = max(newest.oldest, newest.version - _VERSIONS + 1, 1)
    return [newest, *(catalog.commit(n) for n in range(newest.version - 1, oldest - 1, -1))]


def _volumes(radi: StudyView, name: str) -> Volumes:
    collection = radi.collection(name)
    rows = collection.obs.to_arrow(list(_COLUMNS))
    texts = rows["_volume"].combine_chunks().dictionary_encode()
    metas = [row_meta(text) for text in texts.dictionary.to_pylist()]
    which = texts.indices.to_numpy().astype(np.int64)
    geometry = _geometry(rows, [metas[i].space_unit for i in which.tolist()])
    dtype = rows["dtype"].to_pylist()
    voxels = geometry.shape.prod(axis=1) * np.array(
        [math.prod(n for n in more if n is not None) for more in geometry.more], dtype=np.int64
    )
    sizes = np.array([np.dtype(d).itemsize for d in dtype], dtype=np.int64)
    objects = pc.struct_field(pc.list_flatten(rows["_objects"]), "bytes")
    return Volumes(
        name=name,
        kind=collection.kind,
        backend=collection.backend,
        obs_ids=rows["obs_id"].to_pylist(),
        subjects=rows["obs_subject_id"].to_pylist(),
        dtype=dtype,
        digest=rows["source_digest"].to_pylist(),
        metas=metas,
        which=which,
        partners=rows.select(["obs_subject_id", "obs_id", *PARTNER_COLUMNS]),
        geometry=geometry,
        intensities=_intensities(rows),
        stored_bytes=pc.sum(objects).as_py() or 0,
        voxel_bytes=int(voxels @ sizes),
    )


def _geometry(rows: pa.Table, units: list[str]) -> Geometry:
    n = rows.num_rows
    matrix = _matrix(rows["affine"], 16, np.float64).copy()
    spacing, axes = np.full((n, 3), np.nan), np.tile(np.arange(3), (n, 1))
    signs, codes = np.ones((n, 3), np.int64), [""] * n
    angles = np.full((2, n), np.nan)
    unusable: dict[int, str] = {}
    known: dict[bytes, Affine | GeometryError] = {}  # thousands of rows may share one affine
    for i, flat in enumerate(matrix):
        key = flat.tobytes()
        if key not in known:
            try:
                known[key] = Affine(flat.reshape(4, 4))
            except GeometryError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, GeometryError):
            unusable[i] = str(found).splitlines()[0]
            matrix[i] = np.nan
            continue
        spacing[i], axes[i], signs[i] = found.spacing, found.world_axes, found.signs
        codes[i] = "".join(found.axcodes)
        angles[:, i] = found.obliquity, found.shear
    scale = np.array([MM.get(unit, 1.0) for unit in units]).reshape(-1, 1)
    return Geometry(
        shape=np.stack([_numbers(rows[f"dim_{a}"], 0).astype(np.int64) for a in "xyz"], axis=1),
        more=list(zip(rows["dim_t"].to_pylist(), rows["dim_c"].to_pylist(), strict=True)),
        affine=matrix.reshape(n, 4, 4),
        spacing=spacing * scale,
        world_axes=axes,
        signs=signs,
        axcodes=codes,
        obliquity=angles[0],
        shear=angles[1],
        units=units,
        unusable=unusable,
    )


def _intensities(rows: pa.Table) -> Intensities:
    return Intensities(
        statistics={name: _numbers(rows[f"intensity_{name}"], math.nan) for name in STATISTICS},
        histogram=_matrix(rows["intensity_histogram"], HISTOGRAM_BINS, np.int64, missing=0),
        n_nonfinite=_numbers(rows["n_nonfinite"], 0).astype(np.int64),
        box=_matrix(rows["nonzero_box"], 6, np.float64),
    )


def _numbers(column: pa.ChunkedArray, missing: float) -> Floats:
    values: Floats = pc.fill_null(column.cast(pa.float64()), missing).to_numpy()
    return values


def _matrix(
    column: pa.ChunkedArray, width: int, dtype: type[Any], missing: float = math.nan
) -> npt.NDArray[Any]:
    """A column of lists as an array (n, width); lists of another length are missing."""
    fits = pc.fill_null(pc.equal(pc.list_value_length(column), width), fill_value=False)
    whole = pc.all(fits, min_count=0).as_py()
    values = pc.list_flatten(column if whole else column.filter(fits))
    flat: npt.NDArray[Any] = values.to_numpy().reshape(-1, width)
    if whole and flat.dtype == dtype:
        return flat  # of 100,000 histograms a copy would be 200 MB
    found = np.full((len(column), width), missing, dtype=dtype)
    found[fits.to_numpy()] = flat
    return found
