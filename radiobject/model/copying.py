"""Copying: volumes and rows of one or several studies, whole or narrowed, as a study of their own."""

from __future__ import annotations

import functools
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE, backend_for, backend_of_volume, get_backend
from radiobject.backends.base import Backend
from radiobject.config import current
from radiobject.errors import ConfigError, DuplicateIdError, MetadataError, RadiObjectError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.exclusive import collection_groups
from radiobject.format.layout import collection_path, index_key, volume_path
from radiobject.format.rows import column_as, select_rows
from radiobject.format.schema import LEDGER_SCHEMA, OBJECT, OBJECTS, SUBJECT_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.tables import unify
from radiobject.format.transaction import Transaction, create_study
from radiobject.location import Location
from radiobject.model.study import Study
from radiobject.model.volume_copy import copy_volume
from radiobject.storage import Storage
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

    def obs_ids(self) -> list[str]:
        """Ids of the volumes, as their source has them."""
        table = self.study.obs(self.collection)
        found: list[str] = table.rows(self.rows(), ["obs_id"])["obs_id"].to_pylist()
        return found


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
    checksum; between backends the stored values are, with header, attributes and every column. Without
    `ledger` the lines come along that speak of these volumes and subjects.

    Raises `StudyExistsError` for a taken URI, `DuplicateIdError` for an id of two volumes, `MetadataError`
    when studies tell different things about a subject, `CorruptObjectError` for a source that fails its
    checksum.
    """
    location = Location(uri, storage_options).with_sources(_sources_of(chosen))
    storage = Storage(location)
    people = subjects if isinstance(subjects, pa.Table) else merged_subjects(subjects)
    # what cannot be is refused before anything is made
    _targets(chosen, location, backend, executor)
    _refuse_twice(chosen)
    if ledger is None:
        ledger = ledger_lines(chosen, people["obs_subject_id"].to_pylist())
    create_study(storage)
    transaction = Transaction(storage, None, "copy", message)
    transaction.journal.begin("copy", None)
    try:
        edits = copied_collections(
            chosen, storage, backend=backend, executor=executor, workers=workers, progress=progress
        )
    except Exception:
        with suppress(RadiObjectError):  # it would only make clean-up wait
            transaction.journal.discard()
        raise
    return transaction.commit(Edit(subjects=people, collections=edits, ledger=ledger))


def copied_collections(
    chosen: Sequence[Chosen],
    storage: Storage,
    *,
    backend: str | None = None,
    home: str | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> dict[str, CollectionEdit]:
    """Copy volumes to a study, and say what a commit must add for them; on failure they are removed again.

    `home` is the id of the study where they go, if it has one: its own volumes keep their parents there.
    """
    targets = _targets(chosen, storage.location, backend, executor)
    moved: list[tuple[pa.Table, pa.Table]] = []
    places: dict[str, str] = {}
    begun: list[tuple[Backend, str]] = []
    total, done = sum(len(c.rows()) for c in chosen), 0
    try:
        with progress_bar("copy", total, progress) as tell:
            for part, target in zip(chosen, targets, strict=True):
                path = collection_path(part.name)
                collection_groups(storage, path)
                table = part.study.obs(part.collection)
                rows = table.rows(part.rows().tolist(), table.schema.names)
                copied: list[dict[str, Any]] = [{} for _ in range(rows.num_rows)]
                copy = functools.partial(
                    copy_volume, part.study, part.collection, storage, target, current().write
                )
                jobs = _jobs(part, rows, target, path, begun)
                with closing(run(copy, jobs, executor=executor, workers=workers)) as results:
                    for position, result in results:
                        if isinstance(result, Exception):
                            raise result
                        copied[position] = result
                        done += 1
                        tell(done, total)
                places |= zip(rows["_path"].to_pylist(), (c["_path"] for c in copied), strict=True)
                moved.append((_moved(rows, copied), _pictures(rows, copied)))
    except Exception:
        _remove(storage, begun)
        raise
    edits = {}
    for part, target, (rows, pictures) in zip(chosen, targets, moved, strict=True):
        added = {"obs": _reparented(part, rows, places, home), **_beside(part, rows["obs_id"], pictures)}
        edits[part.name] = CollectionEdit(
            kind=part.study.entry(part.collection).kind,
            backend=target.name,
            create=True,
            added={n: _renamed(t, part.ids) for n, t in added.items()},
        )
    return edits


def _jobs(
    part: Chosen, rows: pa.Table, target: Backend, path: str, begun: list[tuple[Backend, str]]
) -> Iterator[dict[str, Any]]:
    """What a worker must know of each volume, with its new place, which is noted in `begun`."""
    wanted = (
        "obs_subject_id", "obs_id", "_path", "_hint", "_volume", "_objects", "_foreground", "affine",
    )  # fmt: skip
    for job in rows.select([c for c in wanted if c in rows.schema.names]).to_pylist():
        obs_id = part.ids.get(job["obs_id"], job["obs_id"])
        suffix = target.suffix
        if target.name == IN_PLACE:
            # of such a collection, what is stored already stays on its backend
            suffix = get_backend(backend_of_volume(IN_PLACE, job["_path"]), part.study.location).suffix
        new = volume_path(path, obs_id, secrets.token_hex(8), suffix)
        begun.append((target, new))
        yield {**job, "new": new, "new_id": obs_id}


def _remove(storage: Storage, volumes: Sequence[tuple[Backend, str]]) -> None:
    """Delete volumes of a copy that failed; what stays is litter, and must not hide why it failed."""

    def delete(volume: tuple[Backend, str]) -> None:
        with suppress(RadiObjectError):
            volume[0].delete_volume(volume[1])
            storage.delete(index_key(volume[1]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(delete, volumes))


def _targets(
    chosen: Sequence[Chosen], location: Location, backend: str | None, executor: Executor
) -> list[Backend]:
    """Where the volumes of each collection go. `ConfigError` for an executor that cannot see them."""
    if backend is not None:
        get_backend(backend, location)  # a name that nobody knows is one without collections too
    found = []
    for part in chosen:
        source = part.study.backend(part.study.entry(part.collection).backend)
        stays = source.name == IN_PLACE and backend in (None, IN_PLACE)
        name = IN_PLACE if stays else backend_for(backend, location, source.name)
        if name == IN_PLACE:
            _require_in_place(part, source, location)
        target = get_backend(name, location)
        for place, end in ((part.study.location, source), (location, target)):
            refuse_other_processes(place, executor, persistent=end.capabilities.persistent)
        found.append(target)
    return found


def _require_in_place(part: Chosen, source: Backend, location: Location) -> None:
    """Refuse (`ConfigError`) to leave volumes where they lie when the copy would look for them elsewhere."""
    if source.name != IN_PLACE:
        raise ConfigError(
            f"backend={IN_PLACE!r} for {part.name!r}", expected="volumes that were registered by copy=False",
            got=f"volumes that are stored on {source.name!r}",
        )  # fmt: skip
    theirs, ours = part.study.location.source_root.uri, location.source_root.uri
    if theirs != ours:
        raise ConfigError(
            f"collection {part.name!r}, which stays where it lies", expected=f"sources below {ours}",
            got=f"sources below {theirs}", hint='Pass backend="zarr" to store its voxels in the copy.',
        )  # fmt: skip


def _sources_of(chosen: Sequence[Chosen]) -> Location | None:
    """Where a copy finds what stays where it lies: where the first study does."""
    places = [p.study.location for p in chosen if p.study.entry(p.collection).backend == IN_PLACE]
    return places[0].source_root if places else None


def _refuse_twice(chosen: Sequence[Chosen]) -> None:
    """Raise for an id that two volumes would have, before the first is copied."""
    ids = {part.name: [part.ids.get(i, i) for i in part.obs_ids()] for part in chosen}
    twice = {i for i, n in Counter(i for found in ids.values() for i in found).items() if n > 1}
    if twice:
        raise DuplicateIdError(
            f"obs_id {sorted(twice)[:5]}",
            expected="ids that one volume has",
            got=f"{len(twice)} in several of {[name for name, found in ids.items() if twice & set(found)]}",
        )


def _moved(rows: pa.Table, copied: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows with what is said of the copies; of one that was read in files that is more than its place."""
    for name in dict.fromkeys(name for c in copied for name in c if name != "_jpeg"):
        at = rows.schema.get_field_index(name)
        if at < 0:
            continue  # of volumes from before there were foreground indexes
        kind = {"_objects": OBJECTS, "_foreground": OBJECT}.get(name, rows.schema.field(name).type)
        held = rows[name].to_pylist() if any(name not in c for c in copied) else []
        values = [c[name] if name in c else held[n] for n, c in enumerate(copied)]
        rows = rows.set_column(at, rows.schema.field(name).with_type(kind), pa.array(values, kind))
    return rows


def _pictures(rows: pa.Table, copied: Sequence[dict[str, Any]]) -> pa.Table:
    """Thumbnails of those copies whose voxels nobody had read before."""
    ids = rows.select(["obs_subject_id", "obs_id"]).to_pylist()
    found = [{**i, "jpeg": c["_jpeg"]} for i, c in zip(ids, copied, strict=True) if c.get("_jpeg")]
    return pa.Table.from_pylist(found, schema=THUMBNAIL_SCHEMA)


def _reparented(part: Chosen, rows: pa.Table, places: Mapping[str, str], home: str | None) -> pa.Table:
    """Rows of a derived collection that name their parents' new places; none for a parent left behind.

    A parent in a third study stays named: a query of that study still finds what was made of it.
    """
    at, commit = rows.schema.get_field_index("_parent"), part.study.snapshot.commit
    if at < 0 or commit.study == home:
        return rows
    left = {
        path
        for entry in commit.collections
        for path in part.study.snapshot.table("obs", entry.name).read(["_path"])["_path"].to_pylist()
    }
    parents = [places.get(p, None if p in left else p) for p in rows["_parent"].to_pylist()]
    return rows.set_column(at, rows.schema.field(at), pa.array(parents, pa.string()))


def _renamed(rows: pa.Table, ids: Mapping[str, str]) -> pa.Table:
    if not ids:
        return rows
    at = rows.schema.get_field_index("obs_id")
    new = pa.array([ids.get(i, i) for i in rows["obs_id"].to_pylist()], pa.string())
    return rows.set_column(at, rows.schema.field(at), new)


def _beside(part: Chosen, obs_ids: pa.ChunkedArray, pictures: pa.Table) -> dict[str, pa.Table]:
    """Rows of the tables beside the volume table, with these thumbnails."""
    entry = part.study.entry(part.collection)
    found = {}
    for name in entry.tables:
        if name != "obs":
            table = part.study.snapshot.table(name, part.collection).read()
            found[name] = table.filter(pc.is_in(table["obs_id"], value_set=obs_ids.combine_chunks()))
    if pictures.num_rows:
        held = found.get("thumbnails", pictures.slice(0, 0))
        others = pc.invert(pc.is_in(held["obs_id"], value_set=pictures["obs_id"].combine_chunks()))
        found["thumbnails"] = pa.concat_tables([held.filter(others), pictures])
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


def ledger_lines(chosen: Sequence[Chosen], subjects: Sequence[str]) -> pa.Table:
    """What became of the sources of these volumes, and of those that failed for these subjects.

    Lines of a collection have its new name, those of renamed volumes their new ids.
    """
    known = pa.array([*subjects, ""], pa.string())  # no subject is known of some that failed
    found = [pa.Table.from_pylist([], schema=LEDGER_SCHEMA)]
    for part in chosen:
        lines = part.study.snapshot.table("ledger").read()
        ids, held = (
            pa.array(i, pa.string()) for i in (part.obs_ids(), part.study.obs(part.collection).ids())
        )
        of_it, mine = pc.equal(lines["collection"], part.collection), pc.is_in(lines["obs_id"], value_set=ids)
        others = pc.and_not(pc.is_in(lines["obs_id"], value_set=held), mine)
        beside = pc.and_(of_it, pc.is_in(lines["obs_subject_id"], value_set=known))
        at = lines.schema.get_field_index("collection")
        names = pc.if_else(of_it, part.name, lines["collection"])
        lines = lines.set_column(at, lines.schema.field(at), names)
        found.append(_renamed(lines.filter(pc.or_(mine, pc.and_not(beside, others))), part.ids))
    return pa.concat_tables(found)


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
