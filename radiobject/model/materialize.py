"""Materializing: volumes that lie in source files become stored ones, commit by commit, while others work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE, get_backend, storing_backends
from radiobject.backends.files import FilesBackend
from radiobject.config import current
from radiobject.errors import ConfigError, ConflictError, RadiObjectError, UnknownIdError
from radiobject.executor import announce, progress_bar, run
from radiobject.failures import private
from radiobject.format.catalog import Catalog, Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.journal import running
from radiobject.format.rebase import MATERIALIZE
from radiobject.format.schema import LEDGER_SCHEMA, OBS_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.model.execution import Execution
from radiobject.model.storing import TOLD, Job, StoringVolumes, Unread
from radiobject.model.study import Study
from radiobject.workers import refuse_other_processes
from radiobject.writing.finished import FinishedRows, journaled, rows_table
from radiobject.writing.volume import Target

__all__ = ["materialized"]

_VOLUMES, _SECONDS = 64, 30.0
"""A commit whenever so many volumes wait, or have waited so long."""
_SHARE = 10
"""At most one part in so many of the time goes into commits: each writes the rows around its own anew."""
_AHEAD = 16
"""Volumes whose rows are read together."""
_RACES = 100

_CHANGED = pa.schema([OBS_SCHEMA.field(name) for name in ("obs_id", *TOLD)])
_WANTED = ("obs_subject_id", "obs_id", "_path", "_hint", "_volume", "affine")


def materialized(
    study: Study,
    collections: str | Iterable[str] | None,
    *,
    how: Execution,
    resume: bool,
    commit_every: int | None,
    backend: str | None,
    message: str,
) -> Study:
    """The study when the registered volumes of these collections (None: of all) are stored ones.

    See `RadiObject.materialize`.
    """
    if commit_every is not None and commit_every < 1:
        raise ConfigError("commit_every=", expected="at least 1", got=repr(commit_every))
    if backend == IN_PLACE:
        raise ConfigError("backend=", expected="one that stores voxels", got=repr(backend))
    if backend is not None:
        # a name that nobody knows is one with nothing to do, too
        lasts = get_backend(backend, study.location).capabilities.persistent
        if not lasts and study.location.scheme != "memory":
            raise ConfigError(
                "backend=", expected=f"one whose volumes last as {study.location.uri} does",
                got=f"{backend!r}, which this process takes along when it ends",
                hint="Leave it out, or pass 'zarr'.",
            )  # fmt: skip
    names = [collections] if isinstance(collections, str) else collections
    chosen = study.names if names is None else tuple(dict.fromkeys(names))
    if unknown := [name for name in chosen if name not in study.names]:
        raise UnknownIdError(
            f"materialize({unknown[0]!r})", expected=f"collections, some of {list(study.names)}",
            hint="radi.write(uri) copies the study to another place.",
        )  # fmt: skip
    work = _Run(study, chosen, how, commit_every, backend, message)
    if work.todo:
        work.execute(resume=resume)
    return work.study


class _Run:
    """What is to be stored, what is and waits for the next commit, and the study as it is by now."""

    def __init__(
        self, study: Study, names: Sequence[str], how: Execution, commit_every: int | None,
        backend: str | None, message: str,
    ) -> None:  # fmt: skip
        self.study, self.how, self.every, self.message = study, how, commit_every, message
        self.storage, write = study.snapshot.storage, current().write
        self.todo: dict[str, tuple[str, str]] = {}
        """By obs_id: the folder of the collection, and the path of the volume that is to be exchanged."""
        targets: dict[str, Target] = {}
        for name in names:
            entry = study.entry(name)
            if entry.backend != IN_PLACE:
                continue
            rows = study.obs(name).read(["obs_id", "_path"])
            paths = dict(zip(rows["obs_id"].to_pylist(), rows["_path"].to_pylist(), strict=True))
            found = {i: (entry.path, p) for i, p in paths.items() if FilesBackend.holds(p)}
            stored = storing_backends(paths.values())
            if backend is not None and (others := stored - {backend}):
                # of volumes of several backends no collection can ever be one
                raise ConfigError(
                    f"backend={backend!r} for {name!r}", expected="the backend of all its stored volumes",
                    got=f"some on {' and '.join(map(repr, sorted(others)))}",
                    hint="Leave backend= out; radi.write(uri, backend=...) moves a study to another.",
                )  # fmt: skip
            chosen = backend or (stored.pop() if len(stored) == 1 else "") or study.backend_beside(IN_PLACE)
            arrays = get_backend(chosen, study.location)
            refuse_other_processes(study.location, how.executor, persistent=arrays.capabilities.persistent)
            targets[entry.path] = Target(self.storage, arrays, {entry.path: entry.path}, {}, write)
            self.todo |= found
        self.work = StoringVolumes(self.storage, targets, not isinstance(how.executor, str))
        said = [study.snapshot.commit.study, "materialize", backend, repr(write)]
        self.plan = hashlib.sha256(repr(said).encode()).hexdigest()
        self.rows: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.resumed: set[str] = set()
        self.converted = self.failed = self.passed = 0
        self._last, self._cost = time.monotonic(), 0.0

    def execute(self, *, resume: bool) -> None:
        """Store all of them, with a commit now and then."""
        total = len(self.todo)
        self._begin()
        if resume:
            self._take_over()
        with progress_bar("materialize", total, self.how.progress) as tell:
            tell(self._done, total)
            given: dict[int, Job] = {}
            outcomes = run(self.work, self._jobs(given), executor=self.how.executor, workers=self.how.workers)
            try:
                with closing(outcomes):
                    for position, outcome in outcomes:
                        self._take(given.pop(position), outcome)
                        tell(self._done, total)
                        self.finished.flush()
                        if self._due() and self._done < total:
                            self._commit()
                            self._begin()
            finally:
                # also after Ctrl-C: what is finished is there for resume=True
                self.finished.flush(last=True)
                if not self.rows:
                    self._forget()
            self._commit()
            tell(self._done, total)
        counts = {
            "converted": self.converted, "of an earlier run among them": len(self.resumed),
            "changed by others meanwhile": self.passed, "failed": self.failed,
        }  # fmt: skip
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        announce(f"{said}: version {self.study.snapshot.version}", total, self.how.progress)

    @property
    def _done(self) -> int:
        return self.converted + len(self.rows) + self.failed + self.passed

    def _begin(self) -> None:
        self.transaction = Transaction(self.storage, self.study.snapshot, MATERIALIZE, self.message)
        self.transaction.journal.begin(MATERIALIZE, self.plan)
        self.finished = FinishedRows(self.transaction.journal)

    def _forget(self) -> None:
        """Drop the journal, which nobody needs any more: it would make clean-up wait."""
        with suppress(RadiObjectError):
            self.transaction.journal.discard()

    def _take_over(self) -> None:
        """Keep what runs before this one have finished and not committed, where it still applies."""
        wanted: dict[str, str | None] = {obs_id: path for obs_id, (_, path) in self.todo.items()}
        for earlier in running(self.storage):
            if earlier.plan != self.plan or earlier.txn_id == self.transaction.txn_id:
                continue
            for row in journaled(self.storage, earlier.txn_id, wanted):
                if wanted.pop(row["obs_id"], None) is not None:
                    self.rows[row["obs_id"]] = row
                    self.finished.add(row)  # the earlier journal may be cleaned up
        self.resumed = set(self.rows)

    def _jobs(self, given: dict[int, Job]) -> Iterator[Job]:
        """Volumes that are still there to be stored, looked up shortly before their turn."""
        ids, number = [i for i in self.todo if i not in self.rows], 0
        for first in range(0, len(ids), _AHEAD):
            group = ids[first : first + _AHEAD]
            found = {row["obs_id"]: row for row in self._still(group)}
            self.passed += len(group) - len(found)
            for row in found.values():
                job = Job(
                    self.todo[row["obs_id"]][0], row["obs_subject_id"], row["obs_id"], row["_path"],
                    row["_hint"], row["_volume"], tuple(row["affine"]),
                )  # fmt: skip
                given[number] = job
                number += 1
                yield job

    def _still(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """The rows of those volumes that are as they were when this began, in the study as it is by now."""
        folders: dict[str, list[str]] = {}
        for obs_id in ids:
            folders.setdefault(self.todo[obs_id][0], []).append(obs_id)
        found = []
        for folder, wanted in folders.items():
            name = _name_of(self.study.snapshot, folder)
            if name is not None:
                table = self.study.obs(name)
                at = pc.is_in(table.column("obs_id"), value_set=pa.array(wanted, pa.string()))
                found += table.rows(pc.indices_nonzero(at).to_numpy(), _WANTED).to_pylist()
        return [row for row in found if row["_path"] == self.todo[row["obs_id"]][1]]

    def _take(self, job: Job, outcome: dict[str, Any] | Unread | Exception) -> None:
        if isinstance(outcome, Exception):
            raise outcome  # the place failed, or we did: going on would only repeat it
        if isinstance(outcome, dict):
            self.rows[job.obs_id] = outcome
            self.finished.add(outcome)
            return
        error = outcome.error
        if self.how.errors == "raise":
            error.add_note(f"volume {job.obs_id!r}; {self.converted} volumes are converted and committed")
            raise error
        self.failed += 1
        name = _name_of(self.study.snapshot, job.folder)
        self.failures.append(
            {
                "obs_subject_id": job.obs_subject_id,
                "obs_id": job.obs_id,
                "collection": name or job.folder.rpartition("/")[2],
                "outcome": "failed",
                "error": type(error).__name__,
                "message": private(str(error), self.storage.location),
            }
        )

    def _due(self) -> bool:
        if self.every is not None:
            return len(self.rows) >= self.every
        waited = time.monotonic() - self._last
        many = len(self.rows) >= _VOLUMES or (bool(self.rows) and waited >= _SECONDS)
        return many and waited >= _SHARE * self._cost

    def _commit(self) -> None:
        """Make what waits a version. What others have changed meanwhile stays as they made it."""
        begun = time.monotonic()
        for attempt in range(_RACES):
            edit = self._edit()
            if not edit.collections and edit.ledger is None:
                self._forget()
                break
            self.transaction.base = self.study.snapshot
            try:
                self.study = self.study.after(self.transaction.commit(edit, *self._reparented()))
                break
            except ConflictError:
                if attempt == _RACES - 1:
                    raise
                self.study = self.study.after(Catalog(self.storage).latest())
        self.converted += len(self.rows)
        self.rows.clear()
        self.failures.clear()
        self._last = time.monotonic()
        self._cost = self._last - begun

    def _edit(self) -> Edit:
        """What to commit: the rows of those volumes that are still what was stored anew."""
        found: dict[str, list[dict[str, Any]]] = {}
        still = self._still(self.rows)
        for held in still:
            row = {**self.rows[held["obs_id"]], "obs_subject_id": held["obs_subject_id"]}
            found.setdefault(self.todo[held["obs_id"]][0], []).append(row)
        for obs_id in self.rows.keys() - {row["obs_id"] for row in still}:
            del self.rows[obs_id]
            self.resumed.discard(obs_id)
            self.passed += 1
        edit, lines = Edit(), self._new_failures()
        for folder, rows in found.items():
            name = _name_of(self.study.snapshot, folder)
            assert name is not None
            entry = self.study.entry(name)
            pictures = [
                {"obs_subject_id": r["obs_subject_id"], "obs_id": r["obs_id"], "jpeg": r["_jpeg"]}
                for r in rows
            ]
            edit.collections[name] = CollectionEdit(
                kind=entry.kind,
                backend=entry.backend,
                updated=rows_table(rows, _CHANGED),
                replaced={"thumbnails": pa.Table.from_pylist(pictures, schema=THUMBNAIL_SCHEMA)},
            )
            lines += [
                {
                    **{n: row[n] for n in ("obs_subject_id", "obs_id", "source_digest")},
                    "collection": name,
                    "outcome": "resumed" if row["obs_id"] in self.resumed else "ingested",
                    "seconds": row.get("_seconds"),
                }
                for row in rows
            ]
        if lines:
            edit.ledger = pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA)
        return edit

    def _new_failures(self) -> list[dict[str, Any]]:
        """Those that are not the last word of the ledger on their volume: each run would say them again."""
        if not self.failures:
            return []
        names = ("collection", "outcome", "error", "message")
        ledger = self.study.snapshot.table("ledger").read(["obs_id", *names])
        said = {row["obs_id"]: [row[n] for n in names] for row in ledger.to_pylist()}
        return [f for f in self.failures if said.get(f["obs_id"]) != [f[n] for n in names]]

    def _reparented(self) -> Iterator[Edit]:
        """What was made of these volumes names their new places: it was made of the same voxels."""
        moved = {self.todo[obs_id][1]: row["_path"] for obs_id, row in self.rows.items()}
        edit = Edit()
        for entry in self.study.snapshot.commit.collections:
            table = self.study.obs(entry.name)
            if "_parent" not in table.schema.names:
                continue
            rows = table.read(["obs_id", "_parent"])
            rows = rows.filter(pc.is_in(rows["_parent"], value_set=pa.array(list(moved), pa.string())))
            if rows.num_rows:
                parents = pa.array([moved[path] for path in rows["_parent"].to_pylist()], pa.string())
                edit.collections[entry.name] = CollectionEdit(
                    kind=entry.kind, backend=entry.backend, updated=rows.set_column(1, "_parent", parents)
                )
        if edit.collections:
            yield edit


def _name_of(snapshot: Snapshot, folder: str) -> str | None:
    """What the collection of a folder is called; None when it is gone."""
    return next((c.name for c in snapshot.commit.collections if c.path == folder), None)
