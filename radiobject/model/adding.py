"""Adding: a collection of another study, a view, or what a query makes, as a collection of this one."""

from __future__ import annotations

from typing import Literal

from radiobject.backends import IN_PLACE
from radiobject.config import WriteConfig
from radiobject.errors import ConfigError, DuplicateIdError, SelectionError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.layout import check_collection_name
from radiobject.format.transaction import Transaction
from radiobject.model.collection_view import CollectionView
from radiobject.model.copying import Chosen, copied_collections, ledger_lines, new_subjects
from radiobject.model.deriving import Place, derive
from radiobject.model.eager import EagerQuery
from radiobject.model.execution import Execution, Failure
from radiobject.model.naming import derived_id
from radiobject.model.query import LazyQuery
from radiobject.model.study import Study

__all__ = ["Addable", "added"]

Addable = CollectionView | LazyQuery | EagerQuery


def added(
    study: Study,
    name: str,
    source: Addable,
    *,
    kind: Literal["image", "label"] | None,
    write: WriteConfig | None,
    resume: bool,
    message: str,
    how: Execution,
) -> Snapshot | None:
    """The study's next version with the collection `name`; None when nothing is new. See `RadiObject`."""
    check_collection_name(name)
    base = study.snapshot
    collection = source.collection if isinstance(source, LazyQuery | EagerQuery) else source
    if not isinstance(collection, CollectionView):
        raise SelectionError(
            f"add_collection({name!r})",
            expected="a VolumeCollection, its URI, or a query",
            got=type(collection).__name__,
        )
    _refuse_stale(study, collection)
    query = LazyQuery(collection) if isinstance(source, CollectionView) else source
    if isinstance(query, EagerQuery) or query.computes or kind is not None or write is not None:
        place = Place(base.storage, study, finish=study.finish)
        failures: list[Failure] = []
        try:
            return derive(
                query._origin(), name, place, kind=kind, write=write, resume=resume, message=message,
                how=how, failures=failures,
            )  # fmt: skip
        finally:
            query.failures = [*(query.failures if isinstance(query, EagerQuery) else ()), *failures]
    return _copied(study, name, collection, message, how)


def _copied(study: Study, name: str, collection: CollectionView, message: str, how: Execution) -> Snapshot:
    base, origin = study.snapshot, collection._study
    own = base.commit.study == origin.snapshot.commit.study
    if name in study.names:
        raise DuplicateIdError(
            f"collection {name!r} of {study.location.uri}", expected="a free name", got="one that is taken"
        )
    ids = {}
    if own:
        # an id belongs to one volume of a study, so that copies of its own volumes need others
        ids = {i: derived_id(i, collection.name, name) for i in collection.obs_ids}
    taken = {i for c in study.names for i in study.obs(c).ids()}
    if clash := sorted(taken & {ids.get(i, i) for i in collection.obs_ids}):
        raise DuplicateIdError(
            f"obs_id {clash[:5]} for collection {name!r}",
            expected="ids that the study does not hold",
            got=f"{len(clash)} that it holds",
        )
    subjects = new_subjects(study, origin, collection.subjects.to_list())
    transaction = Transaction(base.storage, base, "add collection", message)
    transaction.journal.begin(transaction.operation, None)
    chosen = Chosen(name, origin, collection.name, collection._rows(), ids)
    edits = copied_collections(
        [chosen], base.storage, backend=_backend(study, origin, collection), home=base.commit.study,
        executor=how.executor, workers=how.workers, progress=how.progress,
    )  # fmt: skip
    edits[name].joins = False
    # of a copy within the study, sources that failed have their lines already
    ledger = ledger_lines([chosen], [] if own else collection.subjects.to_list())
    edit = Edit(subjects=subjects, collections=edits, reads=frozenset(ids), ledger=ledger)
    return study.finish(transaction, edit)


def _backend(study: Study, origin: Study, collection: CollectionView) -> str:
    """Where copies go; volumes that stay where they lie do so where both studies look at the same place."""
    if collection.backend == IN_PLACE and _same_sources(study, origin):
        return IN_PLACE
    return study.backend_beside(collection.backend)


def _same_sources(study: Study, origin: Study) -> bool:
    try:
        return study.location.source_root.uri == origin.location.source_root.uri
    except ConfigError:
        return False  # one of them has no folder around it


def _refuse_stale(study: Study, collection: CollectionView) -> None:
    """A query or view of an older version would bring back what was deleted, and not see what is new."""
    origin = collection._study
    if origin.snapshot.commit.study != study.snapshot.commit.study:
        return
    held = study.snapshot.commit
    mine = origin.entry(collection.name)
    theirs = next((c for c in held.collections if c.path == mine.path), None)
    same = theirs is not None and theirs.tables.get("obs") == mine.tables.get("obs")
    if not same or held.tables.get("obs_meta") != origin.snapshot.commit.tables.get("obs_meta"):
        raise SelectionError(
            f"add_collection from {collection.name!r}",
            expected=f"a collection or query of version {study.snapshot.version}, which this study shows",
            got=f"one of version {origin.snapshot.version}",
            hint="Take it from this handle again: radi.add_collection(name, radi.T1w.lazy()...).",
        )
