"""Adding: a collection of another study, a view, or what a query makes, as a collection of this one."""

from __future__ import annotations

from typing import Literal

from radiobject.config import WriteConfig
from radiobject.errors import DuplicateIdError, SelectionError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.transaction import Transaction
from radiobject.model.collection_view import CollectionView
from radiobject.model.copying import Chosen, copied_collections, merged_subjects
from radiobject.model.deriving import Place, derive
from radiobject.model.eager import EagerQuery
from radiobject.model.execution import Execution
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
    base = study.snapshot
    if isinstance(source, LazyQuery | EagerQuery) and (isinstance(source, EagerQuery) or source.computes):
        place = Place(base.storage, base, finish=study.finish)
        return derive(
            source._origin(), name, place, kind=kind, write=write, resume=resume, message=message, how=how,
            failures=source.failures,
        )  # fmt: skip
    collection = source.collection if isinstance(source, LazyQuery) else source
    if not isinstance(collection, CollectionView):
        raise SelectionError(
            f"add_collection({name!r})",
            expected="a VolumeCollection, its URI, or a query",
            got=type(collection).__name__,
        )
    return _copied(study, name, collection, message, how)


def _copied(study: Study, name: str, collection: CollectionView, message: str, how: Execution) -> Snapshot:
    base, origin = study.snapshot, collection._study
    if name in study.names:
        raise DuplicateIdError(
            f"collection {name!r} of {study.location.uri}", expected="a free name", got="one that is taken"
        )
    ids = {}
    if base.commit.study == origin.snapshot.commit.study:
        # an id belongs to one volume of a study, so that copies of its own volumes need others
        ids = {i: derived_id(i, collection.name, name) for i in collection.obs_ids}
    taken = {i for c in study.names for i in study.obs(c).ids()}
    if clash := sorted(taken & {ids.get(i, i) for i in collection.obs_ids}):
        raise DuplicateIdError(
            f"obs_id {clash[:5]} for collection {name!r}",
            expected="ids that the study does not hold",
            got=f"{len(clash)} that it holds",
        )
    transaction = Transaction(base.storage, base, "add collection", message)
    transaction.journal.begin(transaction.operation, None)
    known = set(study.subjects.ids())
    new = [s for s in collection.subjects if s not in known]
    chosen = Chosen(name, origin, collection.name, collection._rows(), ids)
    edits = copied_collections(
        [chosen], base.storage, executor=how.executor, workers=how.workers, progress=how.progress
    )
    subjects = merged_subjects([(origin, new)]) if new else None
    return study.finish(transaction, Edit(subjects=subjects, collections=edits))
