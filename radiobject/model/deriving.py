"""Deriving: the volumes that a query makes, written as a collection with their provenance, in one commit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from radiobject.backends import backend_for, get_backend
from radiobject.config import WriteConfig, current
from radiobject.errors import AlignmentError, DuplicateIdError, MetadataError, SelectionError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.commit import CollectionEntry
from radiobject.format.exclusive import collection_groups
from radiobject.format.journal import matching, running
from radiobject.format.layout import collection_path
from radiobject.format.rows import select_rows
from radiobject.format.schema import DERIVED_SCHEMA, LEDGER_SCHEMA, OBS_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction, create_study
from radiobject.model.copying import merged_subjects, new_subjects
from radiobject.model.execution import Execution, Failure, results_of
from radiobject.model.made_rows import MadeRows, encoded
from radiobject.model.naming import derived_id, names_labels
from radiobject.model.pieces import Piece
from radiobject.model.stages import Stage, Work
from radiobject.model.study import Study
from radiobject.storage import Storage
from radiobject.workers import refuse_other_processes
from radiobject.writing.columns import OWN_COLUMNS, plain_value
from radiobject.writing.finished import FinishedRows, journaled, rows_table
from radiobject.writing.volume import Naming, Target, write_volume

__all__ = ["Origin", "Place", "derive"]

Kind = Literal["image", "label"]


@dataclass(frozen=True)
class Origin:
    """What a collection is made from: volumes of another one, and what is done with each.

    `pieces` gives the volumes in these rows of the collection; `identity` tells functions apart.
    """

    study: Study
    collection: str
    positions: npt.NDArray[np.int64]
    pieces: Callable[[Sequence[int]], Iterator[Piece]]
    stages: tuple[Stage, ...]
    identity: str

    def column(self, name: str) -> list[Any]:
        """A column of the volume table, for these volumes."""
        values: list[Any] = self.study.obs(self.collection).rows(self.positions, [name])[name].to_pylist()
        return values


@dataclass(frozen=True)
class Place:
    """Where the collection goes: a new study (`study` None), or one that exists; and who commits it."""

    storage: Storage
    study: Study | None = None
    backend: str | None = None
    finish: Callable[[Transaction, Edit], Snapshot] = Transaction.commit

    @property
    def base(self) -> Snapshot | None:
        """What the collection is added to."""
        return None if self.study is None else self.study.snapshot


@dataclass(frozen=True)
class _Deposit:
    """The end of a volume's way: its own place, and its row. Runs in the workers."""

    target: Target
    collection: str
    names: Mapping[str, str]
    provenance: Mapping[str, Any]
    syncs: bool

    def __call__(self, piece: Piece) -> dict[str, Any]:
        kind = self.target.kinds[self.collection]
        name = Naming(self.collection, piece.source.obs_subject_id, self.names[piece.obs_id])
        updates = {
            n: plain_value(v, f"what functions add for {piece.obs_id!r}, column {n!r}")
            for n, v in piece.updates.items()
        }
        row = write_volume(piece.load(kind), name, self.target)
        if self.syncs:
            self.target.storage.make_durable()  # this machine's cache is not the coordinator's
        return {
            **row,
            **self.provenance,
            "parent_obs_id": piece.obs_id,
            "_parent": piece.path,
            "_fingerprint": piece.path,
            "_updates": encoded(updates),
        }


@dataclass(frozen=True)
class _Order:
    """What is to be made, settled before a volume is read."""

    name: str
    kind: Kind
    backend: str
    path: str
    write: WriteConfig
    names: Mapping[str, str]
    held: Mapping[str, _Held]
    new: bool
    sources: Mapping[str, tuple[int, str]]
    plan: str

    @classmethod
    def settled(
        cls, origin: Origin, name: str, place: Place, kind: Kind | None, write: WriteConfig | None
    ) -> _Order:
        """New ids, kind and backend. Raises for a name or an id that is taken, and for another kind."""
        base, source = place.base, origin.study.entry(origin.collection)
        entry = None if base is None else base.commit.collection(name)
        apart = base is None or base.commit.study != origin.study.snapshot.commit.study
        if entry is not None and not apart and entry.path == source.path:
            raise SelectionError(f"collection {name!r}", expected="another one as its source", got="itself")
        held = _held(base, name)
        kind = kind or _kind_of(name, source if entry is None else entry)
        if entry is not None and entry.kind != kind:
            raise AlignmentError(f"collection {name!r}", expected=f"kind {entry.kind}", got=kind)
        chosen = place.backend if entry is None else entry.backend
        if chosen is None and place.study is not None:
            chosen = place.study.backend_beside(source.backend)
        backend = backend_for(chosen, place.storage.location, source.backend)
        parents = origin.column("obs_id")
        names = {p: p if apart else derived_id(p, origin.collection, name) for p in parents}
        names |= {p: held[p].obs_id for p in parents if p in held}  # also after a collection was renamed
        _refuse_taken(base, name, [names[p] for p in parents if p not in held])
        places = zip(map(int, origin.positions), origin.column("_path"), strict=True)
        config = write or current().write
        return cls(
            name=name,
            kind=kind,
            backend=backend,
            path=collection_path(name) if entry is None else entry.path,
            write=config,
            names=names,
            held=held,
            new=entry is None,
            sources=dict(zip(parents, places, strict=True)),
            plan=_plan(origin, name, kind, backend, config),
        )

    def todo(self, identity: str) -> list[int]:
        """Positions of the parents that this function has not been called for."""
        made = {p: (h.path, h.function) for p, h in self.held.items()}
        return [at for p, (at, path) in self.sources.items() if made.get(p) != (path, identity)]


def derive(
    origin: Origin,
    name: str,
    place: Place,
    *,
    kind: Kind | None = None,
    write: WriteConfig | None = None,
    resume: bool = False,
    message: str = "",
    how: Execution,
    failures: list[Failure],
) -> Snapshot | None:
    """Write the volumes of `origin` as the collection `name`; None when all of them are there already.

    A derived collection of an existing study is gone on with: volumes whose parent and function are the
    same stay, even if rows have changed since; others are made anew, new ones are added. Rows keep what the
    parent's said, then say what functions have added; `parent_obs_id`, `parent_version` and
    `parent_function` say where they come from.

    Raises what functions raise (`TransformError`), `DuplicateIdError` for a name or an id that is taken.
    """
    storage, base = place.storage, place.base
    order = _Order.settled(origin, name, place, kind, write)
    todo = order.todo(origin.identity)
    if not todo and base is not None:
        return None
    nothing = SelectionError(f"write of {origin.collection!r}", expected="at least one volume", got="none")
    if not todo:
        raise nothing
    lasts = get_backend(order.backend, storage.location).capabilities.persistent
    refuse_other_processes(storage.location, how.executor, persistent=lasts)
    if base is None:
        create_study(storage)
    transaction = Transaction(storage, base, "map" if base is None else "derive", message)
    held = None if order.new or base is None else base.table("obs", name).schema
    made, finished = MadeRows(_carried(origin), held), FinishedRows(transaction.journal)
    if resume:
        _take_over(storage, order, made, finished)
        done = {order.sources[row["parent_obs_id"]][0] for row in made.rows.values()}
        todo = [at for at in todo if at not in done]
    transaction.journal.begin(transaction.operation, order.plan)
    collection_groups(storage, order.path)
    _run(origin, todo, order, storage, how, made, finished, failures)
    if base is None and not made.rows:
        transaction.journal.discard()
        raise failures[0].error if failures else nothing
    if not made.rows and not failures:
        transaction.journal.discard()
        return None  # what was new, the filters did not keep
    edit = _edit(origin, order, base, made, _people(origin, place.study, made))
    edit.ledger = _ledger(failures, name, origin)
    return place.finish(transaction, edit)


def _run(
    origin: Origin, todo: Sequence[int], order: _Order, storage: Storage, how: Execution,
    made: MadeRows, finished: FinishedRows, failures: list[Failure],
) -> None:  # fmt: skip
    """Make the volumes, and keep their rows as they come: in memory, and in the journal."""
    backend = get_backend(order.backend, storage.location)
    target = Target(storage, backend, {order.name: order.path}, {order.name: order.kind}, order.write)
    provenance = {"parent_version": origin.study.snapshot.version, "parent_function": origin.identity}
    elsewhere = not isinstance(how.executor, str)
    deposit = _Deposit(target, order.name, order.names, provenance, syncs=elsewhere)
    outcomes = results_of(
        origin.study, origin.pieces(todo), len(todo), Work(origin.stages, deposit), how, failures,
        title=order.name, ordered=False,
    )  # fmt: skip
    try:
        for ids, rows in outcomes:
            for row in rows:
                try:
                    made.take(row)
                except MetadataError as error:
                    if how.errors == "raise":
                        raise
                    failures.append(Failure(ids, error))
                else:
                    finished.add(row)
            finished.flush()
    finally:
        # also after Ctrl-C: what is finished is there for resume=True
        finished.flush(last=True)


def _take_over(storage: Storage, order: _Order, made: MadeRows, finished: FinishedRows) -> None:
    """Keep what an interrupted run of the same order has finished, from parents that are still the same."""
    earlier = matching(running(storage), order.plan)
    if earlier is None:
        return
    wanted: dict[str, str | None] = {order.names[p]: path for p, (_, path) in order.sources.items()}
    for row in journaled(storage, earlier.txn_id, wanted):
        made.take(row)
        finished.add(row)  # the earlier journal may be cleaned up


@dataclass(frozen=True)
class _Held:
    """A volume that the collection has: its id, and from which path of its parent and by what it was made."""

    obs_id: str
    path: str
    function: str


def _held(base: Snapshot | None, name: str) -> dict[str, _Held]:
    """Volumes that the collection has, by their parents' obs_ids."""
    if base is None or base.commit.collection(name) is None:
        return {}
    table = base.table("obs", name)
    if missing := [c for c in DERIVED_SCHEMA.names if c not in table.schema.names]:
        raise DuplicateIdError(
            f"collection {name!r}", expected="a free name, or a collection that a query made",
            got=f"one without {missing}", hint="Choose another name, or delete it first.",
        )  # fmt: skip
    rows = table.read(["obs_id", *DERIVED_SCHEMA.names]).to_pylist()
    return {
        r["parent_obs_id"]: _Held(r["obs_id"], r["_parent"], r["parent_function"])
        for r in rows if r["parent_obs_id"] is not None
    }  # fmt: skip


def _kind_of(name: str, entry: CollectionEntry) -> Kind:
    """What ingest would take a collection of that name for, and else the kind of what it is made from."""
    return "label" if entry.kind == "label" or names_labels(name) else "image"


def _refuse_taken(base: Snapshot | None, name: str, new: Sequence[str]) -> None:
    twice = [i for i, n in Counter(new).items() if n > 1]
    taken = (
        {e.name: set(new) & set(base.table("obs", e.name).ids()) for e in base.commit.collections}
        if base
        else {}
    )
    for owner, ids in {"this query": set(twice), **taken}.items():
        if ids:
            raise DuplicateIdError(
                f"obs_id {sorted(ids)[:5]} for collection {name!r}",
                expected="ids that no other volume has",
                got=f"ids of {owner!r}",
                hint="Choose another name for the collection.",
            )


def _plan(origin: Origin, name: str, kind: str, backend: str, config: WriteConfig) -> str:
    """Which run would write the same: for resume, beside each volume's parent."""
    study = origin.study.snapshot.commit.study
    parts = [study, origin.collection, name, kind, backend, origin.identity, repr(config)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _carried(origin: Origin) -> pa.Table:
    """What callers have said of the parents: visible columns that the engine does not fill, by obs_id."""
    table = origin.study.obs(origin.collection)
    engine = {*OBS_SCHEMA.names, *DERIVED_SCHEMA.names}
    names = [c for c in table.schema.names if not c.startswith("_") and c not in engine - OWN_COLUMNS]
    return table.rows(origin.positions, ["obs_id", *names])


def _edit(
    origin: Origin, order: _Order, base: Snapshot | None, made: MadeRows, people: pa.Table | None
) -> Edit:
    held = {h.obs_id for h in order.held.values()}
    ids = [new for new in order.names.values() if new in made.rows]
    rows = [made.rows[i] for i in ids]
    schema = pa.schema([*OBS_SCHEMA, *DERIVED_SCHEMA])
    table = made.with_columns(rows_table(rows, schema), ids)
    thumbnails = [{**{n: r[n] for n in ("obs_subject_id", "obs_id")}, "jpeg": r["_jpeg"]} for r in rows]
    tables = {"obs": table, "thumbnails": pa.Table.from_pylist(thumbnails, schema=THUMBNAIL_SCHEMA)}
    new, old = [i for i in ids if i not in held], [i for i in ids if i in held]
    same = base is not None and base.commit.study == origin.study.snapshot.commit.study
    return Edit(
        subjects=people,
        reads=frozenset(r["parent_obs_id"] for r in rows) if same else frozenset(),
        collections={
            order.name: CollectionEdit(
                kind=order.kind,
                backend=order.backend,
                create=True,
                joins=not order.new,
                added={n: select_rows(t, new, "obs_id") for n, t in tables.items()},
                replaced={n: select_rows(t, old, "obs_id") for n, t in tables.items()} if old else {},
            )
        },
    )


def _people(origin: Origin, study: Study | None, made: MadeRows) -> pa.Table | None:
    """Rows of the subjects that the study does not know."""
    subjects = list(dict.fromkeys(row["obs_subject_id"] for row in made.rows.values()))
    if study is None:
        return merged_subjects([(origin.study, subjects)])
    return new_subjects(study, origin.study, subjects)


def _ledger(failures: Sequence[Failure], name: str, origin: Origin) -> pa.Table:
    subjects = dict(zip(origin.column("obs_id"), origin.column("obs_subject_id"), strict=True))
    lines = [
        {"obs_subject_id": subjects[i], "obs_id": i, "collection": name, "outcome": "failed",
         "error": type(f.error).__name__, "message": str(f)}
        for f in failures for i in f.obs_ids
    ]  # fmt: skip
    return pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA)
