"""Claims: what a commit says of its tables and their rows say of volumes, held against tables and volumes.

Bytes that are as committed do not tell that what names them is right: a row may name another volume's, leave
some of them out, or place its voxels elsewhere in the world. Reading goes by the rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from radiobject.backends.base import Backend, VolumeHandle
from radiobject.backends.files.volume import FilesHandle
from radiobject.errors import RadiObjectError
from radiobject.format.catalog import Snapshot
from radiobject.format.commit import CollectionEntry
from radiobject.format.layout import segment
from radiobject.format.meta import VolumeMeta, row_meta
from radiobject.format.objects import row_objects
from radiobject.format.tables import Table
from radiobject.geometry.affine import Affine
from radiobject.storage import check_key

__all__ = ["false_of_commit", "false_of_rows"]

_COLUMNS = (
    "obs_id", "_path", "_hint", "_volume", "_objects", "_foreground", "affine", "axcodes", "dtype",
    "dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "spacing_x", "spacing_y", "spacing_z", "time_step",
)  # fmt: skip


def false_of_commit(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Part or collection, and what is wrong, for each of which the commit says what its table does not.

    By the bounds of their ids changes and purges know which parts they may pass over. Tables that cannot be
    read are passed over here.
    """
    named = [(name, "") for name in snapshot.commit.tables]
    named += [(name, entry.name) for entry in snapshot.commit.collections for name in entry.tables]
    for name, collection in named:
        table = snapshot.table(name, collection)
        for part in table.parts:
            with suppress(RadiObjectError):
                ids = Table(table.storage, table.name, [part], table.schema).ids()
                if None in ids:
                    yield part.path, f"a row has no {table.key}"
                    continue
                found = min(ids, default=""), max(ids, default="")
                if found != (part.min_id, part.max_id):
                    yield part.path, f"its commit says ids {part.min_id!r} to {part.max_id!r}, not {found}"
    for entry in snapshot.commit.collections:
        with suppress(RadiObjectError):
            rows = snapshot.table("obs", entry.name).read(["dim_x", "dim_y", "dim_z"]).to_pylist()
            shapes = {tuple(row.values()) for row in rows}
            if entry.shape is not None and shapes - {entry.shape}:
                yield entry.name, f"its commit says that all volumes are {entry.shape}, rows say {shapes}"


def false_of_rows(
    snapshot: Snapshot, entry: CollectionEntry, backend: Backend, told: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """obs_id and what is wrong, for each row of a collection that says what its volume does not.

    Rows whose objects are in `told` are left out: what is wrong with their bytes was said before. One or two
    requests a volume; no voxel is read.
    """
    table = snapshot.table("obs", entry.name)
    rows = table.read([c for c in _COLUMNS if c in table.schema.names]).to_pylist()
    often = Counter(row["_path"] for row in rows)

    def wrong(row: dict[str, Any]) -> str | None:
        if row["_path"] in told or any(key in told for key, _ in row_objects(row)):
            return None
        if often[row["_path"]] > 1:
            return f"its volume {row['_path']} is also that of another row"
        if row["_path"].split("/")[-2:-1] != [segment(row["obs_id"])]:
            return f"its volume {row['_path']} was written under another obs_id"
        try:
            return _wrong(row, backend, entry.kind)
        except RadiObjectError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        for row, said in zip(rows, pool.map(wrong, rows), strict=True):
            if said:
                yield row["obs_id"], said


def _wrong(row: Mapping[str, Any], backend: Backend, kind: str) -> str | None:
    told, held = (backend.open_volume(check_key(row["_path"]), hint) for hint in (row["_hint"], None))
    if told.levels != held.levels:
        return "its row's _hint says other arrays than the volume"
    if isinstance(told, FilesHandle):
        told.check_source()
    if unnamed := _unnamed(row, held):
        return f"its row has no checksum of {unnamed}, of which the volume consists"
    sizes = dict(zip(held.spec.dims, held.spec.shape, strict=True))
    shape = tuple(sizes.get(axis) for axis in "xyztc")
    stated = tuple(row.get(f"dim_{axis}") for axis in "xyztc")
    if (stated, row.get("dtype")) != (shape, str(held.spec.dtype)):
        return f"its row says {stated} of {row.get('dtype')}, the volume {shape} of {held.spec.dtype}"
    meta = VolumeMeta.from_json(held.attrs.get("radiobject", {}), row["_path"])
    said = replace(row_meta(row["_volume"]), affine=_affine(row["affine"]))
    if other := [f.name for f in fields(meta) if getattr(said, f.name) != getattr(meta, f.name)]:
        return _differing(other[0], getattr(said, other[0]), getattr(meta, other[0]))
    if meta.kind != kind:
        return f"it is of kind {meta.kind!r}, its collection of kind {kind!r}"
    return _wrong_columns(row, meta)


def _unnamed(row: Mapping[str, Any], held: VolumeHandle) -> str | None:
    """An object of the volume that its row does not name: nothing would notice that it changed."""
    # no promise of the seam: a backend of others may not tell its objects
    named = {stored["path"] for stored in row["_objects"]}
    return next((path for path in getattr(held, "objects", ()) if path not in named), None)


def _wrong_columns(row: Mapping[str, Any], meta: VolumeMeta) -> str | None:
    """Columns that filters go by, and that follow from what the volume says."""
    known = {"axcodes": "".join(meta.affine.axcodes), "time_step": meta.time_step}
    known |= {f"spacing_{axis}": n for axis, n in zip("xyz", meta.affine.spacing, strict=True)}
    for name, value in known.items():
        if name in row and not _alike(row[name], value):
            return _differing(name, row[name], value)
    return None


def _differing(name: str, said: object, held: object) -> str:
    return f"its row says {name} {said!r:.200}, the volume {held!r:.200}"


def _affine(numbers: Sequence[float] | None) -> Affine:
    found = numbers or ()
    return Affine([found[i : i + 4] for i in (0, 4, 8, 12)])  # type: ignore[arg-type]


def _alike(said: object, held: object) -> bool:
    # square roots may differ in the last digit from one machine to the next
    both = isinstance(said, float) and isinstance(held, float)
    return math.isclose(said, held, rel_tol=1e-12) if both else said == held  # type: ignore[arg-type]
