"""CollectionWriter: volumes written one by one into a study that is not committed yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from radiobject import measuring
from radiobject.backends import backend_for, get_backend
from radiobject.config import WriteConfig, current
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    DuplicateIdError,
    MetadataError,
    RadiObjectError,
    WriterError,
)
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.exclusive import collection_groups
from radiobject.format.layout import check_collection_name, collection_path, to_python
from radiobject.format.meta import Kind
from radiobject.format.schema import THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction, create_study
from radiobject.location import Location
from radiobject.model.context import context_for
from radiobject.storage import Storage
from radiobject.writing.columns import Columns, column_types
from radiobject.writing.finished import rows_table
from radiobject.writing.loaded import Axis4, Loaded
from radiobject.writing.objects import told_apart
from radiobject.writing.volume import Naming, Target, write_volume

__all__ = ["CollectionWriter", "Run"]


class Run:
    """One write of a new study: its place, the ids in use, and the transaction. Shared by its collections."""

    def __init__(
        self,
        uri: str | os.PathLike[str],
        write: WriteConfig | None,
        backend: str | None,
        storage_options: Mapping[str, Any] | None,
        message: str,
        *,
        single_writer: bool,
        ctx: Any,
    ) -> None:
        self.storage = Storage(Location(uri, storage_options))
        self.backend = backend_for(backend, self.storage.location)
        self.context = context_for(ctx, self.storage.location.uri, [self.backend])
        self._write, self._message, self._single_writer = write, message, single_writer
        self.state = "new"
        self.ids: dict[str, CollectionWriter] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Take the place. `StudyExistsError` when it is taken, `WriterError` the second time."""
        if self.state != "new":
            raise WriterError(f"writer of {self.storage.location.uri}", expected="to be entered once")
        self.arrays = get_backend(self.backend, self.storage.location)
        self.config = self._write or current().write
        create_study(self.storage, single_writer=self._single_writer)
        self._transaction = Transaction(
            self.storage, None, "create", self._message, single_writer=self._single_writer
        )
        # clean-up by somebody else must know that what is written from now on is needed
        self._transaction.journal.begin("create", None)
        self.state = "open"

    def expect_open(self) -> None:
        """Raise `WriterError` unless the writer is inside its `with` block."""
        if self.state != "open":
            raise WriterError(
                f"writer of {self.storage.location.uri}",
                expected="to be used inside its with block",
                got="a writer that was not entered yet" if self.state == "new" else "a closed writer",
            )

    def claim(self, obs_id: str, writer: CollectionWriter) -> None:
        """Reserve an id for a volume; rows stand in the order of the claims."""
        with self._lock:
            holder = self.ids.setdefault(obs_id, writer)
            if holder is not writer or obs_id in writer.claimed:
                raise DuplicateIdError(
                    f"obs_id {obs_id!r} for collection {writer.name!r}",
                    expected="an id that occurs once in the whole study",
                    got=f"one of a volume of {holder.name!r}",
                )
            writer.claimed.add(obs_id)

    def release(self, obs_ids: Iterable[str], writer: CollectionWriter) -> None:
        """Give ids back whose volumes are not to be committed."""
        with self._lock:
            for obs_id in obs_ids:
                del self.ids[obs_id]
                writer.claimed.discard(obs_id)

    def alive(self) -> None:
        """Show clean-up that the writer still writes."""
        with self._lock:
            self._transaction.journal.touch()

    def commit(self, edit: Edit) -> Snapshot:
        """The version that all of it becomes."""
        snapshot = self._transaction.commit(edit)
        self.state = "closed"
        return snapshot

    def give_up(self) -> None:
        """Commit nothing. What was written is litter, which clean-up takes."""
        self.state = "closed"
        try:
            self._transaction.journal.discard()
        except RadiObjectError:
            measuring.add("journals_left")  # the error that ended the writing is the one to be seen


class CollectionWriter:
    """Writes the volumes of one collection; made by `RadiObjectWriter.add_collection`.

    A `with` block is optional. One that an exception leaves takes the collection out again.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        shape: Sequence[int] | None,
        obs_schema: Mapping[str, Any] | None,
        kind: Kind | None,
        axis4: Axis4,
        labels: Mapping[int, str] | None,
    ) -> None:
        from radiobject.ingest.plan import kinds_of

        check_collection_name(name)
        if kind not in ("image", "label", None):
            raise ConfigError("kind=", expected="'image' or 'label'", got=repr(kind))
        self._run, self.name = run, name
        self.kind: Kind = kind or kinds_of({name: ()}, None, None)[0][name]
        self._shape = _checked_shape(shape)
        self._axis4, self._labels = axis4, labels
        self._columns = Columns(f"obs[{name!r}]", column_types(obs_schema, "obs_schema"))
        self._rows: dict[str, dict[str, Any]] = {}
        self._path = collection_path(name)
        self._lock = threading.Lock()
        self._entered = self._closed = False
        self.claimed: set[str] = set()
        self.dropped = False

    @property
    def n_written(self) -> int:
        """How many volumes have been written."""
        return len(self._rows)

    def write_volume(
        self, data: Any, obs_id: str, obs_subject_id: str, affine: Any = None, **attrs: Any
    ) -> None:
        """Write one volume at once; nothing of it stays in memory but its row.

        `data` is an array (x, y, z[, t][, c]) with `affine` (4x4, voxel centres to RAS+ mm; None for voxels
        of 1 mm), or what `from_niftis` takes as a source: a path, `(array, affine)`, a nibabel image, a
        Volume, a DataArray. `attrs` are columns of `obs`; types are settled over all rows. After an error
        nothing of the volume is committed, and the writer goes on. Threads may share a writer.

        Raises `DuplicateIdError`, `MetadataError` for attributes that clash, `AlignmentError` for another
        shape than `shape=`, `WriterError` outside the block, and from the `SourceError` branch.
        """
        from radiobject.ingest.loading import load

        self._expect_open()
        _check_id("obs_id", obs_id)
        _check_id("obs_subject_id", obs_subject_id)
        if isinstance(data, np.ndarray):
            data = (data, affine)
        elif affine is not None:
            raise MetadataError(
                f"affine= of {obs_id!r}", expected="an array as data", got=type(data).__name__,
                hint="Everything else has an affine of its own.",
            )  # fmt: skip
        attrs = {**told_apart(data), **attrs}
        self._columns.check(obs_id, attrs)
        self._run.claim(obs_id, self)
        try:
            loaded = load(
                data, f"{self.name} {obs_id!r}", self.kind, axis4=self._axis4, labels=self._labels,
                orientation=self._run.config.orientation, near=self._run.storage.location,
            )  # fmt: skip
            self._check_shape(loaded, obs_id)
            row = write_volume(loaded, Naming(self.name, obs_subject_id, obs_id), self._target())
            with self._lock:
                self._columns.add(obs_id, attrs)
                self._rows[obs_id] = row
        except BaseException:
            self._run.release([obs_id], self)
            raise
        self._run.alive()

    def write_batch(self, batch: Iterable[tuple[Any, str, str, Mapping[str, Any]]]) -> None:
        """Write volumes given as `(data, obs_id, obs_subject_id, attrs)`; those before an error stay."""
        for entry in batch:
            try:
                data, obs_id, obs_subject_id, attrs = entry
                named = dict(attrs or {})
            except (TypeError, ValueError) as error:
                raise MetadataError(
                    f"write_batch of {self.name!r}",
                    expected="(data, obs_id, obs_subject_id, attrs)",
                    got=f"{type(entry).__name__}: {error}",
                ) from error
            self.write_volume(data, obs_id, obs_subject_id, **named)

    def _target(self) -> Target:
        run = self._run
        return Target(run.storage, run.arrays, {self.name: self._path}, {self.name: self.kind}, run.config)

    def _expect_open(self) -> None:
        self._run.expect_open()
        if self._closed:
            raise WriterError(f"writer of {self.name!r}", expected="an open one", got="a closed writer")

    def _check_shape(self, loaded: Loaded, obs_id: str) -> None:
        found = to_python(loaded.voxels, loaded.meta.dims).shape
        if self._shape is not None and self._shape != (found[:3] if len(self._shape) == 3 else found):
            raise AlignmentError(
                f"volume {obs_id!r} of {self.name!r}", expected=f"shape {self._shape}", got=str(found)
            )

    def begin(self) -> None:
        """Make the collection's folder one that Zarr can walk."""
        collection_groups(self._run.storage, self._path)

    def edit(self) -> tuple[CollectionEdit, list[dict[str, Any]]]:
        """The collection as it is to be committed, and its rows."""
        rows = [self._rows[i] for i, writer in self._run.ids.items() if writer is self]
        table = rows_table(rows)
        attached = self._columns.table(row["obs_id"] for row in rows)
        for name in attached.schema.names:
            at = table.schema.get_field_index(name)
            if at < 0:
                table = table.append_column(attached.schema.field(name), attached[name])
            else:
                table = table.set_column(at, table.schema.field(name), attached[name])
        thumbnails = [{**{n: r[n] for n in ("obs_subject_id", "obs_id")}, "jpeg": r["_jpeg"]} for r in rows]
        added = {"obs": table, "thumbnails": pa.Table.from_pylist(thumbnails, schema=THUMBNAIL_SCHEMA)}
        return CollectionEdit(self.kind, self._run.backend, create=True, added=added), rows

    def __enter__(self) -> Self:
        if self._entered:
            raise WriterError(f"writer of {self.name!r}", expected="to be entered once")
        self._expect_open()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if error is not None and self._run.state == "open":
            self._run.release(list(self.claimed), self)
            self.dropped = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.n_written} {self.kind} volumes written>"


def _check_id(what: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise MetadataError(what, expected="text that is not empty", got=repr(value))


def _checked_shape(shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """The shape that every volume must have: three sizes x, y, z, or those of t and c too."""
    if shape is None:
        return None
    sizes = tuple(shape)
    if len(sizes) not in (3, 4, 5) or any(int(n) != n or n < 1 for n in sizes):
        raise ConfigError("shape=", expected="three to five sizes x, y, z[, t][, c]", got=repr(shape))
    return tuple(int(n) for n in sizes)
