"""Writers: a collection or a whole study, written volume by volume and committed as one version."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from radiobject.config import WriteConfig
from radiobject.errors import DuplicateIdError, MetadataError, WriterError
from radiobject.format.changes import Edit
from radiobject.format.meta import Kind
from radiobject.format.schema import LEDGER_SCHEMA, SUBJECT_SCHEMA
from radiobject.format.tables import unify
from radiobject.model.collection import VolumeCollection
from radiobject.model.collection_writer import CollectionWriter, Run
from radiobject.model.radi_object import RadiObject
from radiobject.model.study import Study
from radiobject.model.volume import Volume
from radiobject.writing.columns import column_types
from radiobject.writing.frames import to_arrow
from radiobject.writing.loaded import Axis4

__all__ = ["RadiObjectWriter", "VolumeCollectionWriter", "write_volumes"]


class VolumeCollectionWriter(CollectionWriter):
    """Writes a new study of one collection, volume by volume; the end of the `with` block commits it.

    Each volume is on disk when `write_volume` returns, so that memory holds one at a time. All of them become
    visible together, in one commit; when an exception leaves the block, nothing does. The subjects are those
    of the volumes. `collection` is the result.

    `shape` is what every volume must have (x, y, z, or all axes). `obs_schema` (`{column: dtype}`) settles
    types of attributes beforehand; those of others follow from their values. `kind` is "image" or "label",
    `labels` names a label map's values, `axis4` says what a fourth axis is, `ctx` is that of `RadiObject` for
    the result.

    Raises `StudyExistsError` for a taken `uri`; `WriterError` outside the block, and at its end when no
    volume was written.

    >>> import numpy as np, tempfile
    >>> with VolumeCollectionWriter(f"{tempfile.mkdtemp()}/study", name="T1w") as writer:
    ...     for n in range(3):
    ...         writer.write_volume(np.full((4, 4, 4), n, "i2"), f"sub-{n}_T1w", f"sub-{n}", score=n / 2)
    >>> writer.collection.obs.read(["obs_id", "score"])["score"].tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
        name: str | None = None,
        *,
        kind: Kind | None = "image",
        axis4: Axis4 = "auto",
        labels: Mapping[int, str] | None = None,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
        message: str = "",
        ctx: Any = None,
    ) -> None:
        run = Run(uri, write, backend, storage_options, message, single_writer=single_writer, ctx=ctx)
        super().__init__(run, name or "volume", shape, obs_schema, kind, axis4, labels)
        self._collection: VolumeCollection | None = None

    @property
    def collection(self) -> VolumeCollection:
        """What was written; `WriterError` before the block has ended well."""
        if self._collection is None:
            raise WriterError(f"collection {self.name!r}", expected="a committed one", got="none yet")
        return self._collection

    def __enter__(self) -> Self:
        self._run.begin()
        self.begin()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is not None:
            self._run.give_up()
            return
        try:
            if not self.n_written:
                raise WriterError(f"collection {self.name!r}", expected="at least one volume", got="none")
            self._collection = VolumeCollection._of(_committed(self._run, [self], None), self.name)
        except BaseException:
            self._run.give_up()
            raise


class RadiObjectWriter:
    """Writes a new study, several collections and the subject table, and commits it once, at `finalize`.

    `write_obs_meta` may come before or after the volumes, and more than once. Without it every subject that
    has volumes gets a row; with it, a subject that has volumes and no row is an error. The end of the `with`
    block finalizes; when an exception leaves it, nothing is committed. `obs_meta_schema` (`{column: dtype}`)
    settles types of obs_meta's columns; `ctx` is that of `RadiObject` for the result.

    >>> import numpy as np, pandas as pd, tempfile
    >>> with RadiObjectWriter(f"{tempfile.mkdtemp()}/study") as writer:
    ...     writer.write_obs_meta(pd.DataFrame({"obs_subject_id": ["sub-1"], "age": [61]}))
    ...     for name in ("T1w", "seg"):
    ...         writer.add_collection(name).write_volume(np.ones((4, 4, 4), "u1"), f"sub-1_{name}", "sub-1")
    >>> writer.finalize().seg.kind
    'label'
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        obs_meta_schema: Mapping[str, Any] | None = None,
        *,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
        message: str = "",
        ctx: Any = None,
    ) -> None:
        self._run = Run(uri, write, backend, storage_options, message, single_writer=single_writer, ctx=ctx)
        types = column_types(obs_meta_schema, "obs_meta_schema")
        self._types = {n: t for n, t in types.items() if n != "obs_subject_id"}
        self._tables: list[pa.Table] = []
        self._writers: list[CollectionWriter] = []
        self._lock = threading.Lock()
        self._study: Study | None = None

    @property
    def collection_names(self) -> tuple[str, ...]:
        """Names of the collections so far, in the order in which they were added."""
        return tuple(writer.name for writer in self._writers if not writer.dropped)

    def write_obs_meta(self, frame: Any) -> None:
        """Take rows of the subject table: a DataFrame or Arrow table with `obs_subject_id`.

        Raises `MetadataError` for a column that does not fit, `DuplicateIdError` for a subject listed twice.
        """
        self._run.expect_open()
        table = to_arrow(frame, "obs_meta", "obs_subject_id")
        for name, kind in self._types.items():
            at = table.schema.get_field_index(name)
            if at < 0:
                table = table.append_column(name, pa.nulls(table.num_rows, kind))
            else:
                table = table.set_column(at, name, _cast(table[name], kind, f"obs_meta column {name!r}"))
        with self._lock:
            self._tables = [_joined([*self._tables, table])]

    def add_collection(
        self,
        name: str,
        shape: Sequence[int] | None = None,
        obs_schema: Mapping[str, Any] | None = None,
        kind: Kind | None = None,
        *,
        axis4: Axis4 = "auto",
        labels: Mapping[int, str] | None = None,
    ) -> CollectionWriter:
        """A writer of one more collection, to be used with or without a `with` block of its own.

        An obs_id may occur once in the study. `kind=None` means labels where the name says so, as in
        `from_niftis`; `shape`, `obs_schema`, `axis4` and `labels` are those of `VolumeCollectionWriter`. A
        collection without volumes is committed empty. `DuplicateIdError` for a name that is taken.
        """
        self._run.expect_open()
        writer = CollectionWriter(self._run, name, shape, obs_schema, kind, axis4, labels)
        with self._lock:
            if name in self.collection_names:
                raise DuplicateIdError(
                    f"collection {name!r}", expected="a new name", got="one that was added"
                )
            self._writers.append(writer)
        writer.begin()
        return writer

    def finalize(self) -> RadiObject:
        """Commit all of it, once, and open it; called again it gives the same study.

        After a `MetadataError` nothing was committed: write the rows that lack, and finalize again.
        """
        if self._study is None:
            self._run.expect_open()
            writers = [w for w in self._writers if not w.dropped]
            if not writers and not self._tables:
                raise WriterError(
                    f"writer of {self._run.storage.location.uri}",
                    expected="a collection or a subject",
                    got="nothing",
                )
            self._study = _committed(self._run, writers, self._tables[0] if self._tables else None)
        return RadiObject._of(self._study)

    def __enter__(self) -> Self:
        self._run.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._run.give_up()
            return
        try:
            self.finalize()
        except BaseException:
            self._run.give_up()
            raise

    def __repr__(self) -> str:
        return f"<RadiObjectWriter {self._run.storage.location.uri}: {', '.join(self.collection_names)}>"


def write_volumes(
    uri: str | os.PathLike[str],
    volumes: Iterable[Volume | tuple[str, Volume]],
    obs: Any = None,
    *,
    name: str | None,
    kind: Kind | None,
    **options: Any,
) -> VolumeCollection:
    """Volumes that are at hand as a study of one collection; see `VolumeCollection.from_volumes`."""
    name = name or "volume"
    table = pa.table({"obs_id": pa.array([], pa.string())}) if obs is None else to_arrow(obs, "obs", "obs_id")
    rows = {row.pop("obs_id"): row for row in table.to_pylist()}
    schema = {f.name: f.type for f in table.schema if f.name not in ("obs_id", "obs_subject_id")}
    # one at a time: what comes from a query is made when it is asked for, and need not fit into memory
    coming = _named(volumes, name)
    first = next(coming, None)
    settled = kind or ("image" if first is None else first[1].meta.kind)
    with VolumeCollectionWriter(uri, obs_schema=schema, name=name, kind=settled, **options) as writer:
        for obs_id, vol in itertools.chain([] if first is None else [first], coming):
            attrs = rows.pop(obs_id, {})
            subject = attrs.pop("obs_subject_id", None) or vol.obs_subject_id or obs_id
            writer.write_volume(vol, obs_id, subject, **attrs)
        if rows:
            raise MetadataError("obs", expected="rows for the volumes only", got=f"{sorted(rows)[:5]}")
    return writer.collection


def _named(volumes: Iterable[Volume | tuple[str, Volume]], name: str) -> Iterator[tuple[str, Volume]]:
    for number, entry in enumerate(volumes):
        obs_id, vol = entry if isinstance(entry, tuple) and len(entry) == 2 else ("", entry)
        if not isinstance(vol, Volume) or not isinstance(obs_id, str):
            raise MetadataError(
                f"volumes[{number}]", expected="(obs_id as text, Volume), or a Volume", got=repr(entry)[:80]
            )
        yield obs_id or vol.obs_id or f"{name}-{number}", vol


def _committed(run: Run, writers: Sequence[CollectionWriter], subjects: pa.Table | None) -> Study:
    """The study as the one version that the writers' volumes become."""
    edit, ledger = Edit(), []
    for writer in writers:
        edit.collections[writer.name], rows = writer.edit()
        ledger += [
            {**{n: row[n] for n in ("obs_subject_id", "obs_id", "source_digest")},
             "collection": writer.name, "outcome": "ingested"}
            for row in rows
        ]  # fmt: skip
    edit.ledger = pa.Table.from_pylist(ledger, schema=LEDGER_SCHEMA)
    used = list(dict.fromkeys(line["obs_subject_id"] for line in ledger))
    if subjects is None:
        subjects = pa.table({"obs_subject_id": used}, schema=SUBJECT_SCHEMA)
    known = set(subjects["obs_subject_id"].to_pylist())
    if missing := [s for s in used if s not in known]:
        raise MetadataError(
            f"obs_meta: subjects {missing[:5]}",
            expected="a row for every subject that has volumes",
            got=f"{len(missing)} without one",
            hint="Write their rows with write_obs_meta; nothing was committed.",
        )
    edit.subjects = subjects
    return Study(run.commit(edit), run.context)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Several tables of subjects as one; `MetadataError` for types that clash."""
    ids = Counter(i for table in tables for i in table["obs_subject_id"].to_pylist())
    if twice := sorted(i for i, n in ids.items() if n > 1):
        raise DuplicateIdError(f"obs_meta: subjects {twice[:5]}", expected="one row each", got="several")
    schema = unify([table.schema for table in tables], "obs_meta")
    return pa.concat_tables(
        pa.table(
            [
                t[f.name].cast(f.type) if f.name in t.schema.names else pa.nulls(t.num_rows, f.type)
                for f in schema
            ],
            schema=schema,
        )
        for t in tables
    )


def _cast(column: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise MetadataError(what, expected=str(kind), got=f"{column.type}: {error}") from error
