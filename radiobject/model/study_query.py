"""StudyQuery: selections over subjects and functions over several collections, run in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import pandas as pd
import pyarrow.compute as pc

from radiobject.config import WriteConfig
from radiobject.errors import UnknownIdError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.transaction import Transaction, create_study
from radiobject.location import Location
from radiobject.model.context import context_for_new
from radiobject.model.copying import Chosen, copied_collections, merged_subjects
from radiobject.model.deriving import Place, derive
from radiobject.model.execution import Execution, Failure, How
from radiobject.model.pieces import Format
from radiobject.model.query import LazyQuery, VolumeBatch, batches_of
from radiobject.model.study import Study
from radiobject.model.view import StudyView
from radiobject.model.volume import Volume
from radiobject.storage import Storage

__all__ = ["QueryCount", "StudyQuery"]


class QueryCount(NamedTuple):
    """How much a query over a study selects."""

    n_subjects: int
    n_volumes: int


class StudyQuery:
    """What is to be done with a study, in the order it was said. Immutable; made by `radi.lazy()`.

    Selections are those of the study's views. `map` gives every collection, or the named ones, a function;
    nothing runs before `iter_volumes`, `iter_batches` or `write`.
    """

    def __init__(self, view: StudyView, queries: Mapping[str, tuple[Step, ...]] | None = None) -> None:
        self._view, self._queries = view, dict(queries or {})
        self.failures: list[Failure] = []
        """What went wrong in the last run with `errors="collect"`."""

    def _on(self, view: StudyView) -> StudyQuery:
        return StudyQuery(view, self._queries)

    def filter(self, expression: str | pc.Expression) -> StudyQuery:
        """Keep the subjects whose row of obs_meta fits."""
        return self._on(self._view.filter(expression))

    def filter_subjects(self, subjects: Sequence[str]) -> StudyQuery:
        """Keep these subjects; one that is not there is no error."""
        wanted = {subjects} if isinstance(subjects, str) else set(subjects)
        return self._on(self._view.loc[[s for s in self._view.obs_subject_ids if s in wanted]])

    def filter_collection(self, name: str, expression: str | pc.Expression) -> StudyQuery:
        """Keep the volumes of one collection that fit; subjects and other collections stay."""
        return self._with([name], lambda query: query.filter(expression))

    def select_collections(self, names: Sequence[str]) -> StudyQuery:
        """Keep only these collections."""
        return self._on(self._view.select_collections(names))

    def iloc(self, key: Any) -> StudyQuery:
        """Keep subjects by position."""
        return self._on(self._view.iloc[key])

    def loc(self, key: Any) -> StudyQuery:
        """Keep subjects by id."""
        return self._on(self._view.loc[key])

    def head(self, n: int = 5) -> StudyQuery:
        """Keep the first `n` subjects."""
        return self._on(self._view.head(n))

    def tail(self, n: int = 5) -> StudyQuery:
        """Keep the last `n` subjects."""
        return self._on(self._view.tail(n))

    def sample(self, n: int, seed: int | None = None) -> StudyQuery:
        """Keep `n` subjects at random; the same ones for the same seed."""
        return self._on(self._view.sample(n, seed))

    def map(
        self,
        fn: Callable[..., Any],
        collections: str | Sequence[str] | None = None,
        *,
        format: Format = "numpy",
    ) -> StudyQuery:
        """Call `fn(volume, obs_row)` for each volume of these collections (all of them unless named)."""
        names = [collections] if isinstance(collections, str) else collections
        chosen = self._view.collection_names if names is None else names
        return self._with(chosen, lambda query: query.map(fn, format=format))

    def _with(self, names: Sequence[str], step: Step) -> StudyQuery:
        queries = dict(self._queries)
        for name in names:
            queries[name] = (*queries.get(name, ()), step)
            self._view.collection(name)  # an unknown name shows now
        made = StudyQuery(self._view, queries)
        for name in names:
            made.collection(name)  # so does a mistake in an expression
        return made

    def collection(self, name: str) -> LazyQuery:
        """The query over one collection."""
        query = self._view.collection(name).lazy()
        for step in self._queries.get(name, ()):
            query = step(query)
        return query

    def count(self) -> QueryCount:
        """Subjects, and volumes over all collections. Reads no voxel, unless a filter follows a function."""
        volumes = sum(self.collection(name).count() for name in self._view.collection_names)
        return QueryCount(len(self._view), volumes)

    def to_obs_meta(self) -> pd.DataFrame:
        """The rows of the selected subjects."""
        return self._view.obs_meta.read()

    def iter_volumes(self, collection: str | None = None, **how: Unpack[How]) -> Iterator[Volume]:
        """The volumes one by one: of one collection, or collection by collection."""
        names = self._view.collection_names if collection is None else (collection,)
        self.failures = []
        return self._volumes(names, how)

    def _volumes(self, names: Sequence[str], how: How) -> Iterator[Volume]:
        for name in names:
            query = self.collection(name)
            yield from query.iter_volumes(**how)
            self.failures += query.failures

    def iter_batches(
        self, n: int, collection: str | None = None, **how: Unpack[How]
    ) -> Iterator[VolumeBatch]:
        """`n` volumes at a time (the last time fewer)."""
        return batches_of(self.iter_volumes(collection, **how), n)

    def write(
        self,
        uri: str | os.PathLike[str],
        *,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        resume: bool = False,
        message: str = "",
        ctx: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """Write subjects and volumes to a new study, in one commit, and open it.

        Collections without a function are copied byte for byte; see `LazyQuery.write` for the others, and for
        `ctx`.
        """
        storage, execution = Storage(Location(uri, storage_options)), Execution(**how)
        self.failures = []
        queries = {name: self.collection(name) for name in self._view.collection_names}
        if not queries:
            raise UnknownIdError("write of a query", expected="at least one collection", got="none")
        sources = [query.collection.backend for query in queries.values()]
        context = context_for_new(ctx, uri, backend, storage_options, sources)
        create_study(storage)
        outer = Transaction(storage, None, "map", message)
        outer.journal.begin("map", None)
        study, subjects = self._view._study, self._view.obs_subject_ids
        journals = [outer.journal]
        outer.stage(Edit(subjects=merged_subjects([(study, subjects)])))

        def finish(inner: Transaction, edit: Edit) -> Snapshot:
            journals.append(inner.journal)
            return outer.stage(edit)

        queries = {name: query for name, query in queries.items() if len(query.collection)}
        copied = [Chosen(n, study, n, q.collection._rows()) for n, q in queries.items() if not q.computes]
        # all at once: what was derived of others is to find them there
        copies = copied_collections(
            copied, storage, backend=backend, executor=execution.executor, workers=execution.workers,
            progress=execution.progress,
        )  # fmt: skip
        for name, query in queries.items():
            if query.computes:
                place = Place(storage, backend=backend, finish=finish)
                derive(
                    query._origin(strict=resume), name, place, write=write, resume=resume, how=execution,
                    failures=self.failures,
                )  # fmt: skip
            else:
                outer.stage(Edit(collections={name: copies[name]}))
        snapshot = outer.commit()
        for journal in journals:
            journal.discard()
        return self._view._of(Study(snapshot, context))

    materialize = write

    def __repr__(self) -> str:
        steps = [repr(self.collection(name)) for name in self._view.collection_names]
        return "\n  ".join([f"<StudyQuery on {len(self._view)} subjects>", *steps])


Step = Callable[[LazyQuery], LazyQuery]
