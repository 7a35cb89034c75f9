"""Ingest: sources -> plan -> volumes written -> one commit. This file is the only orchestration."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from radiobject.backends import get_backend
from radiobject.config import WriteConfig, current
from radiobject.errors import (
    ConfigError,
    IngestError,
    IntegrityError,
    MetadataError,
    RadiObjectError,
    StorageError,
)
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.exclusive import collection_groups
from radiobject.format.journal import matching, running
from radiobject.format.layout import collection_path
from radiobject.format.rows import select_rows
from radiobject.format.schema import LEDGER_SCHEMA, OBS_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction, create_study
from radiobject.ingest.deidentify import blank_nifti
from radiobject.ingest.loading import is_labels, load
from radiobject.ingest.metadata import as_replacements, join_obs, subject_frame
from radiobject.ingest.pairs import NiftiSource, discover_nifti_pairs
from radiobject.ingest.plan import (
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
from radiobject.ingest.resume import fingerprint, finished_rows
from radiobject.ingest.sources import Readable, Source, resolve
from radiobject.location import Location
from radiobject.moved import refuse_moved
from radiobject.storage import Storage
from radiobject.workers import refuse_other_processes
from radiobject.writing.finished import FinishedRows, rows_table
from radiobject.writing.loaded import Axis4, Reorient, oriented
from radiobject.writing.volume import Target, write_volume

__all__ = ["NiftiSource", "discover_nifti_pairs", "ingest"]


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.ingest", name)
    raise AttributeError(f"module 'radiobject.ingest' has no attribute {name!r}")


@dataclass
class _Outcome:
    """What the workers have brought home so far."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    resumed: set[str] = field(default_factory=set)
    unchanged: set[str] = field(default_factory=set)


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
    message: str = "",
    backend: str | None = None,
    storage_options: dict[str, Any] | None = None,
    single_writer: bool = False,
    finish: Callable[[Transaction, Edit], Snapshot] = Transaction.commit,
) -> Snapshot:
    """Write every source as a volume and commit them together; see `RadiObject.from_niftis`.

    With `base` the volumes join that version of an existing study. `finish` commits, or puts off committing.
    Returns the new snapshot.
    """
    if errors not in ("raise", "collect"):
        raise MetadataError("errors=", expected="'raise' or 'collect'", got=repr(errors))
    if axis4 not in ("auto", "time", "channel"):
        raise ConfigError("axis4=", expected="'auto', 'time' or 'channel'", got=repr(axis4))
    if workers is not None and workers < 1:
        raise ConfigError("workers=", expected="at least 1", got=repr(workers))
    location = Location(uri, storage_options)
    storage = Storage(location)
    given = subject_frame(obs_meta)
    known = [] if given is None else given["obs_subject_id"].to_pylist()
    known += [] if base is None else base.table("obs_meta").ids()
    sources = resolve(images, known, location)
    held = held_volumes(base, sources)
    sources = settle_conflicts(sources, held, on_conflict)
    if validate_alignment:
        check_alignment(sources)
    subjects = subject_rows(given, sources, base)
    kinds, label_names = kinds_of(images, labels, base, sources, lambda item: is_labels(item, location))
    _check_obs(obs or {}, sources, images, first=base is None)
    name = backend_name(backend, location, base)
    settings = Settings(
        kinds, label_names, axis4, oriented(write or current().write, reorient), name, deidentify
    )
    arrays = get_backend(name, location)
    refuse_other_processes(location, executor, persistent=arrays.capabilities.persistent)
    if base is None:
        create_study(storage, single_writer=single_writer)
    target = Target(storage, arrays, {c: _path_of(base, c) for c in images}, kinds, settings.write)
    transaction = Transaction(
        storage, base, "create" if base is None else "append", message, single_writer=single_writer
    )
    plan = plan_hash(sources, settings)
    outcome, finished = _Outcome(), FinishedRows(transaction.journal)
    if resume:
        earlier = matching(running(storage), plan)
        if earlier is not None:
            earlier_rows = finished_rows(storage, earlier.txn_id, sources)
            outcome.rows.update(earlier_rows)
            outcome.resumed.update(earlier_rows)
            # this transaction's journal must hold them too: the earlier one may be cleaned up
            finished.add(*earlier_rows.values())
    transaction.journal.begin(transaction.operation, plan)
    for path in target.paths.values():
        collection_groups(storage, path)

    def work(source: Source) -> dict[str, Any]:
        begun, mark = time.monotonic(), fingerprint(source)
        loaded = load(
            source.item, source.name, kinds[source.collection], axis4=axis4,
            labels=label_names.get(source.collection), orientation=target.write.orientation, near=location,
        )  # fmt: skip
        loaded = blank_nifti(loaded) if deidentify else loaded
        if on_conflict == "update" and held.get(source.obs_id, ("", ""))[1] == loaded.digest:
            return {"_unchanged": True}
        row = write_volume(loaded, source, target)
        return {**row, "_fingerprint": mark, "_seconds": time.monotonic() - begun}

    todo = [s for s in sources if s.obs_id not in outcome.rows]
    try:
        with progress_bar("ingest", len(sources), progress) as tell:
            tell(len(outcome.rows), len(sources))
            for position, result in run(work, todo, executor=executor, workers=workers):
                _take(outcome, finished, todo[position], result)
                tell(len(outcome.rows) + len(outcome.failures) + len(outcome.unchanged), len(sources))
                finished.flush()
    finally:
        # also after Ctrl-C or a lost connection: what is finished is there for resume=True
        finished.flush(last=True)
    if outcome.failures and (errors == "raise" or not outcome.rows):
        _refuse(uri, outcome, len(sources))
    if base is not None and not outcome.rows and not outcome.failures and subjects is None:
        transaction.journal.discard()
        return base  # every source was there already: no new version says so
    return finish(transaction, _edit(sources, outcome, target, subjects, obs or {}, name, held, base))


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


def _path_of(base: Snapshot | None, collection: str) -> str:
    """Where a collection's volumes go; one that was renamed keeps its first folder."""
    entry = None if base is None else base.commit.collection(collection)
    return collection_path(collection) if entry is None else entry.path


def _take(
    outcome: _Outcome, finished: FinishedRows, source: Source, result: dict[str, Any] | Exception
) -> None:
    if isinstance(result, dict) and result.get("_unchanged"):
        outcome.unchanged.add(source.obs_id)
        return
    if isinstance(result, dict):
        outcome.rows[source.obs_id] = result
        finished.add(result)
        return
    if isinstance(result, StorageError | IntegrityError) or not isinstance(result, RadiObjectError):
        raise result  # the place failed, or we did: going on would only repeat it
    outcome.failures.append(
        {
            "source": source.name,
            "obs_subject_id": source.obs_subject_id,
            "obs_id": source.obs_id,
            "collection": source.collection,
            "error": type(result).__name__,
            "message": str(result),
        }
    )


def _refuse(uri: str, outcome: _Outcome, total: int) -> None:
    report = sorted(outcome.failures, key=lambda f: f["source"])
    lines = "\n".join(f"  {f['error']}: {f['message']}" for f in report[:10])
    more = f"\n  ... and {len(report) - 10} more in .report" if len(report) > 10 else ""
    raise IngestError(
        f"{uri}: {len(report)} of {total} sources failed, nothing was committed\n{lines}{more}\n",
        report,
        hint='Mend or drop these and run again with resume=True, or pass errors="collect".',
    )


def _edit(
    sources: Sequence[Source],
    outcome: _Outcome,
    target: Target,
    subjects: pa.Table | None,
    obs: Mapping[str, Any],
    backend: str,
    held: Mapping[str, tuple[str, str]],
    base: Snapshot | None,
) -> Edit:
    """What to commit: rows in the order of the plan, whatever order the workers finished in."""
    edit = Edit(subjects=subjects, ledger=_ledger(sources, outcome))
    for collection in target.paths:
        rows = [
            outcome.rows[s.obs_id] for s in sources if s.collection == collection and s.obs_id in outcome.rows
        ]
        table = rows_table(rows)
        if collection in obs:
            table = join_obs(table, obs[collection], collection)
        thumbnails = [{**{n: r[n] for n in ("obs_subject_id", "obs_id")}, "jpeg": r["_jpeg"]} for r in rows]
        tables = {"obs": table, "thumbnails": pa.Table.from_pylist(thumbnails, schema=THUMBNAIL_SCHEMA)}
        old = [i for i in table["obs_id"].to_pylist() if i in held]
        replaced = {name: select_rows(t, old, "obs_id") for name, t in tables.items()} if old else {}
        if base is not None and old:
            replaced["obs"] = as_replacements(replaced["obs"], base.table("obs", collection))
        new = [i for i in table["obs_id"].to_pylist() if i not in held]
        edit.collections[collection] = CollectionEdit(
            kind=target.kinds[collection],
            backend=backend,
            create=True,
            added={name: select_rows(t, new, "obs_id") for name, t in tables.items()},
            replaced=replaced,
            keeps_columns=True,
        )
    return edit


def _ledger(sources: Sequence[Source], outcome: _Outcome) -> pa.Table:
    failed = {f["obs_id"]: f for f in outcome.failures}
    lines = []
    for s in sources:
        row, failure = outcome.rows.get(s.obs_id), failed.get(s.obs_id)
        if row is None and failure is None:
            continue
        lines.append(
            {
                "obs_subject_id": s.obs_subject_id,
                "obs_id": s.obs_id,
                "collection": s.collection,
                "outcome": "failed"
                if row is None
                else "resumed"
                if s.obs_id in outcome.resumed
                else "ingested",
                "source_digest": row and row["source_digest"],
                "error": failure and failure["error"],
                "message": failure and _private(failure["message"], s),
                "seconds": row and row.get("_seconds"),
            }
        )
    return pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA)


def _private(message: str, source: Source) -> str:
    # folders carry names of people and machines; the file's own name is enough to find it
    if isinstance(source.item, Readable):
        return source.item.private(message)
    folder = os.path.dirname(source.name)
    return message.replace(folder + os.sep, "") if folder else message
