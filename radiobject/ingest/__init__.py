"""Ingest: sources -> plan -> volumes written -> one commit. This file is the only orchestration."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa

from radiobject.backends import IN_PLACE, backend_of_name, get_backend, storing_backends
from radiobject.backends.files import FilesBackend
from radiobject.config import WriteConfig, current
from radiobject.errors import ConfigError, MetadataError
from radiobject.executor import Executor, Progress, announce, progress_bar, run_groups
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.exclusive import collection_groups
from radiobject.format.journal import matching, running
from radiobject.format.layout import collection_path
from radiobject.format.rows import select_rows
from radiobject.format.schema import OBS_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction, create_study
from radiobject.ingest.deidentify import blank_nifti
from radiobject.ingest.groups import grouped
from radiobject.ingest.loading import is_labels, load
from radiobject.ingest.metadata import as_replacements, join_obs, subject_frame
from radiobject.ingest.outcome import Outcome
from radiobject.ingest.pairs import NiftiSource, discover_nifti_pairs
from radiobject.ingest.plan import (
    NOT_HELD,
    Held,
    OnConflict,
    Settings,
    backend_name,
    check_alignment,
    held_volumes,
    kinds_of,
    plan_hash,
    settle_conflicts,
    subject_rows,
)
from radiobject.ingest.registering import in_place
from radiobject.ingest.resume import fingerprint, finished_rows
from radiobject.ingest.source_root import SourceRoot, require_below, require_same
from radiobject.ingest.sources import Readable, Source, resolve
from radiobject.location import Location
from radiobject.moved import refuse_moved
from radiobject.storage import Storage
from radiobject.workers import refuse_other_processes, width_of
from radiobject.writing.finished import FinishedRows, rows_table
from radiobject.writing.loaded import Axis4, Loaded, Reorient, oriented
from radiobject.writing.volume import Target, register_volume, write_volume

__all__ = ["NiftiSource", "discover_nifti_pairs", "ingest"]


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.ingest", name)
    raise AttributeError(f"module 'radiobject.ingest' has no attribute {name!r}")


def ingest(
    uri: str,
    images: Mapping[str, Any],
    obs_meta: Any = None,
    *,
    obs: Mapping[str, Any] | None = None,
    base: Snapshot | None = None,
    on_conflict: OnConflict = "error",
    validate_alignment: bool = False,
    labels: Any = None,
    axis4: Axis4 = "auto",
    reorient: Reorient = None,
    deidentify: bool = False,
    write: WriteConfig | None = None,
    errors: Literal["raise", "collect"] = "raise",
    resume: bool = False,
    progress: bool | Progress | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
    commit_every: int | None = None,
    message: str = "",
    backend: str | None = None,
    storage_options: dict[str, Any] | None = None,
    single_writer: bool = False,
    copy: bool = True,
    source_root: str | os.PathLike[str] | None = None,
    finish: Callable[[Transaction, Edit], Snapshot] = Transaction.commit,
) -> Snapshot:
    """Write every source as a volume and commit them together; see `RadiObject.from_niftis`.

    With `base` the volumes join that version of an existing study. `commit_every` makes a version whenever so
    many volumes are finished; the same sources with on_conflict="skip" and resume=True go on from there.
    With copy=False volumes are registered where they lie, below `source_root`; no voxel is read.
    `finish` commits, or puts off committing. Returns the newest snapshot: `base` where nothing was to do.
    """
    if errors not in ("raise", "collect"):
        raise MetadataError("errors=", expected="'raise' or 'collect'", got=repr(errors))
    if axis4 not in ("auto", "time", "channel"):
        raise ConfigError("axis4=", expected="'auto', 'time' or 'channel'", got=repr(axis4))
    if workers is not None and workers < 1:
        raise ConfigError("workers=", expected="at least 1", got=repr(workers))
    if commit_every is not None and commit_every < 1:
        raise ConfigError("commit_every=", expected="at least 1", got=repr(commit_every))
    location = Location(uri, storage_options).with_sources(_root_of(source_root, base))
    storage = Storage(location)
    given = subject_frame(obs_meta)
    known = [] if given is None else given["obs_subject_id"].to_pylist()
    known += [] if base is None else base.table("obs_meta").ids()
    sources = resolve(images, known, location)
    held = held_volumes(base, sources)
    planned, sources = sources, settle_conflicts(sources, held, on_conflict)
    if validate_alignment:
        check_alignment(sources)
    subjects = subject_rows(given, sources, base)
    kinds, label_names = kinds_of(images, labels, base, sources, lambda item: is_labels(item, location))
    _check_obs(obs or {}, sources, images, first=base is None)
    name = backend_name(backend, location, base, copy=copy, deidentify=deidentify)
    if backend is None and copy and base is not None:
        name = _stored_beside(base, images, name)
    settings = Settings(
        kinds, label_names, axis4, oriented(write or current().write, reorient), name, deidentify,
        None if copy else location.source_root.uri,
    )  # fmt: skip
    root = None if copy else SourceRoot(location.source_root)
    if root is not None:
        require_below(root, sources)
        if base is not None and sources:
            # settle_conflicts has left of the held ones those that update and replace look at
            require_same(root.location, base, {s.obs_id for s in sources})
    arrays = get_backend(name, location)
    refuse_other_processes(location, executor, persistent=arrays.capabilities.persistent)
    if base is None:
        create_study(storage, single_writer=single_writer)
    target = Target(storage, arrays, {c: _path_of(base, c) for c in images}, kinds, settings.write)
    # what is drawn from contours, say, lies in no file as it is
    stores = arrays if copy else get_backend(backend_name(None, location, base), location)
    stored = replace(target, backend=stores)
    # of all sources: those that a version of this run holds already do not make it another plan
    plan, outcome = plan_hash(planned, settings), Outcome(uri, len(planned))

    def begin(base: Snapshot | None) -> tuple[Transaction, FinishedRows]:
        operation = "create" if base is None else "append"
        transaction = Transaction(storage, base, operation, message, single_writer=single_writer)
        return transaction, FinishedRows(transaction.journal)

    transaction, finished = begin(base)
    if resume:
        earlier = matching(running(storage), plan)
        if earlier is not None:
            earlier_rows = finished_rows(storage, earlier.txn_id, sources)
            outcome.resume(earlier_rows)
            # this transaction's journal must hold them too: the earlier one may be cleaned up
            finished.add(*earlier_rows.values())
    transaction.journal.begin(transaction.operation, plan)
    for path in target.paths.values():
        collection_groups(storage, path)

    def read(source: Source) -> Loaded:
        return load(
            source.item, source.name, kinds[source.collection], axis4=axis4,
            labels=label_names.get(source.collection), orientation=target.write.orientation, near=location,
        )  # fmt: skip

    def work(item: tuple[Source, Held]) -> dict[str, Any]:
        source, known = item
        begun, mark = time.monotonic(), fingerprint(source)
        if root is not None and not (isinstance(source.item, Readable) and source.item.drawn):
            if known.is_stored and (not known.digest or read(source).is_of(known.digest)):
                # what has no digest cannot be compared; its voxels and what they told are not given up
                return {"_unchanged": True, "_uncompared": not known.digest}
            found = in_place(
                source.item, source.name, kinds[source.collection], root, axis4=axis4,
                labels=label_names.get(source.collection), orientation=target.write.orientation,
            )  # fmt: skip
            if known.registers(found):
                return {"_unchanged": True}
            row = register_volume(found, source, target)
            return {**row, "_fingerprint": mark, "_seconds": time.monotonic() - begun}
        loaded = read(source)
        loaded = blank_nifti(loaded) if deidentify else loaded
        if loaded.is_of(known.digest):
            return {"_unchanged": True}
        row = write_volume(loaded, source, stored)
        return {**row, "_fingerprint": mark, "_seconds": time.monotonic() - begun}

    todo = [s for s in sources if s.obs_id not in outcome.rows]
    groups = [
        # what to compare with goes with its source: a worker needs to know no others
        [(s, held.get(s.obs_id, NOT_HELD) if on_conflict == "update" else NOT_HELD) for s in group]
        for group in grouped(todo, width_of(executor, workers))
    ]
    try:
        with progress_bar("ingest", len(sources), progress) as tell:
            tell(outcome.done, len(sources))
            for position, result in run_groups(work, groups, executor=executor, workers=workers):
                if outcome.take(todo[position], result):
                    finished.add(outcome.rows[todo[position].obs_id])
                tell(outcome.done, len(sources))
                finished.flush()
                if commit_every and len(outcome.rows) >= commit_every and outcome.done < len(sources):
                    if outcome.failures and errors == "raise":
                        outcome.refuse()
                    edit = _edit(sources, outcome, target, subjects, obs or {}, name, held, base)
                    base, subjects = finish(transaction, edit), None
                    outcome.forget()
                    transaction, finished = begin(base)
                    transaction.journal.begin(transaction.operation, plan)
    finally:
        # also after Ctrl-C or a lost connection: what is finished is there for resume=True
        finished.flush(last=True)
    if outcome.failures and (errors == "raise" or not (outcome.rows or outcome.committed)):
        outcome.refuse()
    if base is not None and not outcome.rows and not outcome.failures and subjects is None:
        transaction.journal.discard()  # every source was there already
    else:
        base = finish(transaction, _edit(sources, outcome, target, subjects, obs or {}, name, held, base))
        outcome.forget()
    announce(outcome.say(len(planned) - len(sources), base.version), len(planned), progress)
    return base


def _check_obs(
    obs: Mapping[str, Any], sources: Sequence[Source], images: Mapping[str, Any], *, first: bool
) -> None:
    """Join what the caller wants beside the volumes once before hours of work, to see that it fits."""
    if unknown := [c for c in obs if c not in images]:
        raise MetadataError("obs=", expected=f"some of {list(images)}", got=str(unknown))
    for collection, frame in obs.items():
        rows = [
            {"obs_subject_id": s.obs_subject_id, "obs_id": s.obs_id}
            for s in sources
            if s.collection == collection
        ]
        joined = join_obs(rows_table(rows), frame, collection)
        new = [c for c in joined.schema.names if c not in OBS_SCHEMA.names]
        if first and rows and new and all(joined[c].null_count == joined.num_rows for c in new):
            raise MetadataError(
                f"obs[{collection!r}]",
                expected=f"rows for its volumes, such as {rows[0]['obs_id']!r}",
                got="none that matches",
            )


def _root_of(source_root: str | os.PathLike[str] | None, base: Snapshot | None) -> Any:
    """The root of source files: the caller's, else the one that the study was opened with."""
    if base is None:
        return source_root
    place = base.storage.location
    if source_root is None:
        return place.sources
    given = place.with_sources(source_root).source_root.uri
    registered = any(
        # an entry speaks of its collection, rows of each volume
        FilesBackend.holds(path)
        for entry in base.commit.collections
        if entry.backend == IN_PLACE and given != place.source_root.uri
        for path in base.table("obs", entry.name).column("_path").to_pylist()
    )
    if registered:
        raise ConfigError(
            "source_root=", expected=f"{place.source_root.uri}, which the study was opened with",
            got=given, hint="Open the study with the source_root= that all of its files are below.",
        )  # fmt: skip
    return source_root


def _stored_beside(base: Snapshot, collections: Iterable[str], usual: str) -> str:
    """The backend for these collections: the usual one, or that of what some of them have stored already.

    The entry of one that has registered volumes too does not say it, and volumes of two backends would never
    make a collection of one. `ConfigError` where the collections need several.
    """
    needed = {}
    for name in collections:
        entry = base.commit.collection(name)
        if entry is None or entry.backend != IN_PLACE:
            needed[name] = {usual if entry is None else entry.backend}
        elif stored := storing_backends(base.table("obs", name).column("_path").to_pylist()):
            needed[name] = stored
    found = set().union(*needed.values()) or {usual}
    if len(found) > 1:
        listed = ", ".join(f"{name!r} on {' and '.join(sorted(of))}" for name, of in needed.items())
        raise ConfigError(
            "backend= of an append", expected="collections whose volumes are on one backend", got=listed,
            hint="Append to those of each backend by a call of its own.",
        )  # fmt: skip
    return str(found.pop())


def _path_of(base: Snapshot | None, collection: str) -> str:
    """Where a collection's volumes go; one that was renamed keeps its first folder."""
    entry = None if base is None else base.commit.collection(collection)
    return collection_path(collection) if entry is None else entry.path


def _backend_of(rows: Sequence[Mapping[str, Any]], chosen: str) -> str:
    """What a collection is on: IN_PLACE while one of its volumes is, else where all of them are stored."""
    names = {backend_of_name(row["_path"]) for row in rows} if chosen == IN_PLACE else set()
    return names.pop() or chosen if len(names) == 1 else chosen


def _edit(
    sources: Sequence[Source],
    outcome: Outcome,
    target: Target,
    subjects: pa.Table | None,
    obs: Mapping[str, Any],
    backend: str,
    held: Mapping[str, Held],
    base: Snapshot | None,
) -> Edit:
    """What to commit: rows in the order of the plan, whatever order the workers finished in."""
    edit = Edit(subjects=subjects, ledger=outcome.ledger(sources))
    for collection in target.paths:
        rows = [
            outcome.rows[s.obs_id] for s in sources if s.collection == collection and s.obs_id in outcome.rows
        ]
        table = rows_table(rows)
        if collection in obs:
            table = join_obs(table, obs[collection], collection)
        thumbnails = [{**{n: r[n] for n in ("obs_subject_id", "obs_id")}, "jpeg": r["_jpeg"]} for r in rows]
        thumbnails = [t for t in thumbnails if t["jpeg"] is not None]  # of voxels that nobody has read
        tables = {"obs": table, "thumbnails": pa.Table.from_pylist(thumbnails, schema=THUMBNAIL_SCHEMA)}
        if not thumbnails:
            del tables["thumbnails"]
        old = [i for i in table["obs_id"].to_pylist() if i in held]
        replaced = {name: select_rows(t, old, "obs_id") for name, t in tables.items()} if old else {}
        if base is not None and old:
            replaced["obs"] = as_replacements(replaced["obs"], base.table("obs", collection))
        new = [i for i in table["obs_id"].to_pylist() if i not in held]
        edit.collections[collection] = CollectionEdit(
            kind=target.kinds[collection],
            backend=_backend_of(rows, backend),
            create=True,
            added={name: select_rows(t, new, "obs_id") for name, t in tables.items()},
            replaced=replaced,
            keeps_columns=True,
        )
    return edit
