"""Copying: volumes and rows of one or several studies, whole or narrowed, as a study of their own."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import backend_for, get_backend
from radiobject.backends.base import Backend
from radiobject.errors import CorruptObjectError, MetadataError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.exclusive import collection_groups, ensure_group
from radiobject.format.layout import collection_path, volume_path
from radiobject.format.meta import row_meta
from radiobject.format.rows import column_as, select_rows
from radiobject.format.schema import OBJECTS, SUBJECT_SCHEMA
from radiobject.format.tables import unify
from radiobject.format.transaction import Transaction, create_study
from radiobject.location import Location
from radiobject.model.study import Study
from radiobject.storage import Storage, check_key
from radiobject.workers import refuse_other_processes
from radiobject.writing.frames import to_arrow

__all__ = [
    "Chosen",
    "copied_collections",
    "copy_study",
    "ledger_lines",
    "merged_subjects",
    "subject_rows",
]


@dataclass(frozen=True)
class Chosen:
    """Some volumes of a collection (`positions`, None for all), the name it is to have, and new obs_ids."""

    name: str
    study: Study
    collection: str
    positions: npt.NDArray[np.int64] | None = None
    ids: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> npt.NDArray[np.int64]:
        """Positions of the volumes in the collection's table."""
        if self.positions is not None:
            return self.positions
        return np.arange(self.study.entry(self.collection).n_volumes, dtype=np.int64)


def copy_study(
    uri: str,
    chosen: Sequence[Chosen],
    subjects: Sequence[tuple[Study, Sequence[str]]] | pa.Table,
    *,
    ledger: pa.Table | None = None,
    backend: str | None = None,
    storage_options: dict[str, Any] | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
    progress: bool | Progress | None = None,
    message: str = "",
) -> Snapshot:
    """Write a new study with these volumes, their rows, thumbnails and subjects, in one commit.

    Between places of one backend the stored objects are copied byte for byte, each checked against its
    checksum; between backends the stored values are, with header, attributes and every column.

    Raises `StudyExistsError` for a taken URI, `MetadataError` when studies tell different things about a
    subject, `CorruptObjectError` for a source that fails its checksum.
    """
    location = Location(uri, storage_options)
    storage = Storage(location)
    people = subjects if isinstance(subjects, pa.Table) else merged_subjects(subjects)
    for part in chosen:  # what no backend can do is refused before anything is made
        get_backend(backend_for(backend, location, part.study.entry(part.collection).backend), location)
    create_study(storage)
    transaction = Transaction(storage, None, "copy", message)
    transaction.journal.begin("copy", None)
    edits = copied_collections(
        chosen, storage, backend=backend, executor=executor, workers=workers, progress=progress
    )
    return transaction.commit(Edit(subjects=people, collections=edits, ledger=ledger))


def copied_collections(
    chosen: Sequence[Chosen],
    storage: Storage,
    *,
    backend: str | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> dict[str, CollectionEdit]:
    """Copy volumes to a study, and say what a commit must add for them."""
    for place in (storage.location, *(c.study.location for c in chosen)):
        refuse_other_processes(place, executor)
    edits = {}
    total, done = sum(len(c.rows()) for c in chosen), 0
    with progress_bar("copy", total, progress) as tell:
        for part in chosen:
            entry = part.study.entry(part.collection)
            location = storage.location
            target = get_backend(backend_for(backend, location, entry.backend), location)
            path = collection_path(part.name)
            collection_groups(storage, path)
            table = part.study.obs(part.collection)
            rows = table.rows(part.rows().tolist(), table.schema.names)
            jobs = rows.select(["obs_id", "_path", "_hint", "_volume", "_objects"]).to_pylist()
            copied: list[dict[str, Any]] = [{} for _ in jobs]
            copy = functools.partial(_copy_volume, part, storage, target, path)
            for position, result in run(copy, jobs, executor=executor, workers=workers):
                if isinstance(result, Exception):
                    raise result
                copied[position] = result
                done += 1
                tell(done, total)
            added = {"obs": _moved(rows, copied), **_beside(part, rows["obs_id"])}
            edits[part.name] = CollectionEdit(
                kind=entry.kind,
                backend=target.name,
                create=True,
                added={n: _renamed(t, part.ids) for n, t in added.items()},
            )
    return edits


def _copy_volume(
    part: Chosen, storage: Storage, target: Backend, path: str, job: dict[str, Any]
) -> dict[str, Any]:
    """One volume at its new place: what its row has to say about that."""
    new = volume_path(path, part.ids.get(job["obs_id"], job["obs_id"]), secrets.token_hex(8), target.suffix)
    ensure_group(storage, new.rpartition("/")[0])
    source = part.study.entry(part.collection).backend
    if source == target.name and job["_objects"]:
        origin = part.study.snapshot.storage
        for stored in job["_objects"]:
            key = check_key(f"{job['_path']}/{stored['path']}")
            data = origin.read(key)
            if len(data) != stored["bytes"] or google_crc32c.value(data) != stored["crc32c"]:
                raise CorruptObjectError(
                    f"{origin.location.uri}/{key}",
                    expected="the bytes that were committed",
                    got="others",
                    hint="Nothing was copied; validate the source.",
                )
            storage.write(f"{new}/{stored['path']}", data)
        return {"_path": new, "_hint": job["_hint"], "_objects": job["_objects"]}
    handle = part.study.backend(source).open_volume(check_key(job["_path"]), job["_hint"])
    extras = {name: handle.extra(name) for name in row_meta(job["_volume"]).source.extras}
    writer = target.create_volume(new, handle.levels, handle.attrs, extras)
    try:
        for number, level in enumerate(handle.levels):
            for box in level.spec.shard_boxes():
                writer.write(number, box, handle.read(box, number))
        stored_volume = writer.finish()
    except BaseException:
        writer.abort()
        raise
    objects = [asdict(o) for o in stored_volume.objects]
    return {"_path": new, "_hint": stored_volume.hint, "_objects": objects}


def _moved(rows: pa.Table, copied: Sequence[dict[str, Any]]) -> pa.Table:
    for name, kind in (("_path", pa.string()), ("_hint", pa.string()), ("_objects", OBJECTS)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(name), pa.array([c[name] for c in copied], kind))
    return rows


def _renamed(rows: pa.Table, ids: Mapping[str, str]) -> pa.Table:
    if not ids:
        return rows
    at = rows.schema.get_field_index("obs_id")
    new = pa.array([ids.get(i, i) for i in rows["obs_id"].to_pylist()], pa.string())
    return rows.set_column(at, rows.schema.field(at), new)


def _beside(part: Chosen, obs_ids: pa.ChunkedArray) -> dict[str, pa.Table]:
    """Rows of the tables beside the volume table."""
    entry = part.study.entry(part.collection)
    found = {}
    for name in entry.tables:
        if name != "obs":
            table = part.study.snapshot.table(name, part.collection).read()
            found[name] = table.filter(pc.is_in(table["obs_id"], value_set=obs_ids.combine_chunks()))
    return found


def subject_rows(groups: Sequence[tuple[Study, Sequence[str]]], obs_meta: Any) -> pa.Table:
    """The rows of `obs_meta`, which needs one for every subject; without it those of the studies, merged."""
    if obs_meta is None:
        return merged_subjects(groups)
    table = to_arrow(obs_meta, "obs_meta", "obs_subject_id")
    have = set(table["obs_subject_id"].to_pylist())
    if missing := [s for s in dict.fromkeys(s for _, ids in groups for s in ids) if s not in have]:
        raise MetadataError(
            f"obs_meta: subjects {missing[:5]}",
            expected="a row for every subject that has volumes",
            got=f"{len(missing)} without one",
        )
    return table


def ledger_lines(study: Study, obs_ids: Sequence[str] | None) -> pa.Table:
    """What became of the sources of these volumes; None: of every source that the study was ever offered."""
    lines = study.snapshot.table("ledger").read()
    if obs_ids is None:
        return lines
    return lines.filter(pc.is_in(lines["obs_id"], value_set=pa.array(list(obs_ids), pa.string())))


def merged_subjects(groups: Sequence[tuple[Study, Sequence[str]]]) -> pa.Table:
    """One row a subject, in the types and with the categories that the studies have; they must agree."""
    tables = [select_rows(study.subjects.read(), ids, "obs_subject_id") for study, ids in groups]
    schema = unify([SUBJECT_SCHEMA, *(t.schema for t in tables)], "obs_meta")
    places: dict[str, list[int]] = {}
    keys = (key for table in tables for key in table["obs_subject_id"].to_pylist())
    for place, subject in enumerate(keys):
        places.setdefault(subject, []).append(place)
    several = {subject: found for subject, found in places.items() if len(found) > 1}
    columns = []
    for column in schema:
        # one after the other: categories keep their order, those of a later study come after
        chunks = [column_as(table, column).combine_chunks() for table in tables]
        values = pa.concat_arrays(chunks) if chunks else pa.nulls(0, column.type)
        picks = {subject: found[0] for subject, found in places.items()}
        for subject, found in several.items():
            picks[subject] = _agreed(values, found, subject, column.name)
        columns.append(values.take(pa.array(picks.values(), pa.int64())))
    return pa.table(columns, schema=schema)


def _agreed(values: pa.Array, places: Sequence[int], subject: str, column: str) -> int:
    """Where to take what several rows say of a subject: the first that says something."""
    said = [place for place in places if values[place].is_valid]
    for place in said[1:]:
        one, other = values[said[0]].as_py(), values[place].as_py()
        if one != other and (one == one or other == other):  # NaN does not equal itself
            raise MetadataError(
                f"subject {subject!r} column {column!r}",
                expected=repr(one),
                got=repr(other),
                hint="The studies disagree; update one of them first.",
            )
    return said[0] if said else places[0]


def new_subjects(study: Study, source: Study, ids: Sequence[str]) -> pa.Table | None:
    """Rows of those subjects of `source` that `study` does not know; None when it knows all.

    Raises `MetadataError` when the two say different things of a subject that both know.
    """
    known = set(study.subjects.ids())
    both, new = [i for i in ids if i in known], [i for i in ids if i not in known]
    if study.snapshot.commit.study != source.snapshot.commit.study:
        merged_subjects([(study, both), (source, both)])
    return merged_subjects([(source, new)]) if new else None
