"""Study: one open snapshot, shared by the RadiObject, its collections and their volumes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE, backend_for, get_backend
from radiobject.backends.base import Backend
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    CorruptObjectError,
    MissingObjectError,
    RadiObjectError,
    UnknownIdError,
)
from radiobject.forking import renew_on_fork
from radiobject.format.catalog import Catalog, Snapshot
from radiobject.format.changes import Edit
from radiobject.format.commit import CollectionEntry
from radiobject.format.meta import require_dims, row_meta
from radiobject.format.pin import split_pin
from radiobject.format.tables import Table
from radiobject.format.tags import read_tag, tags
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.model.context import context_for
from radiobject.model.index import Index
from radiobject.model.volume import Volume
from radiobject.storage import Storage, check_key

__all__ = ["ObsRow", "Study", "split_collection"]

_OPENING = ("obs_id", "obs_subject_id", "_path", "_hint", "_volume", "affine")


class Study:
    """A snapshot with its backends. Immutable; pickles as location and version.

    `context` is what a caller gave to read TileDB volumes by. It is this process's: other ones use their own.
    """

    def __init__(self, snapshot: Snapshot, context: Any = None) -> None:
        self.snapshot, self.context = snapshot, context
        self._backends: dict[str, Backend] = {}
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        uri: str,
        version: int | str | None,
        backend: str | None,
        options: dict[str, Any] | None,
        ctx: Any = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> Study:
        """Read one commit. `backend` only says what the caller expects; the commit knows."""
        catalog = Catalog(Storage(Location(uri, options).with_sources(source_root)))
        tagged = None
        if isinstance(version, str):
            version, tagged = read_tag(catalog.storage, version)
        snapshot = catalog.latest() if version is None else catalog.snapshot(version)
        if tagged is not None and snapshot.commit.sha256 != tagged:
            raise CorruptObjectError(
                f"{uri} version {version}",
                expected=f"the tagged commit {tagged[:12]}",
                got=snapshot.commit.sha256[:12],
            )
        found = {entry.backend for entry in snapshot.commit.collections}
        if backend is not None and found - {backend}:
            raise CapabilityError(
                f"{uri}",
                expected=f"collections on {backend!r}",
                got=f"{sorted(found)}",
                hint="Leave backend= out: the study knows its own.",
            )
        return cls(snapshot, context_for(ctx, uri, found))

    @classmethod
    def at(
        cls,
        uri: str | os.PathLike[str],
        version: int | str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> Study:
        """`open` for a URI that may be pinned: `study@7`, `study@7#sha256:ab12...`.

        Raises `ConfigError` for two different versions, `CorruptObjectError` for another commit.
        """
        text, pinned, digest = split_pin(os.fspath(uri))
        if version is not None and pinned is not None and version != pinned:
            raise ConfigError(
                f"{uri}", expected=f"version {pinned}, as the URI says", got=f"version={version}"
            )
        options = dict(storage_options or {})
        study = cls.open(text, pinned if version is None else version, backend, options, ctx, source_root)
        found = study.snapshot.commit.sha256
        if digest is not None and not found.startswith(digest):
            raise CorruptObjectError(f"{uri}", expected=f"commit {digest}", got=found[: len(digest)])
        return study

    def refuse(self, what: str) -> None:
        """Raise when this study takes no change of that kind, such as "tag"; a committed study takes all."""

    def changed(self, operation: str, edit: Edit, message: str = "") -> Study:
        """The study after one more commit."""
        transaction = Transaction(self.snapshot.storage, self.snapshot, operation, message)
        return self.after(self.finish(transaction, edit))

    def finish(self, transaction: Transaction, edit: Edit) -> Snapshot:
        """Commit a transaction that began on this study; inside `radi.transaction()` it is staged instead."""
        return transaction.commit(edit)

    def after(self, snapshot: Snapshot) -> Study:
        """The study at a newer snapshot, for whoever goes on with it."""
        return Study(snapshot, self.context)

    def backend_beside(self, source: str) -> str:
        """The backend of a collection that joins this study from one on `source`: one that it has already.

        Volumes that stay where they lie become such that are stored.
        """
        held = [e.backend for e in self.snapshot.commit.collections if e.backend != IN_PLACE]
        if not held:
            return backend_for(None, self.location, source)
        return source if source in held else held[0]

    @property
    def location(self) -> Location:
        """Where the study stands."""
        return self.snapshot.storage.location

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all collections, in their order."""
        return tuple(entry.name for entry in self.snapshot.commit.collections)

    def versions(self) -> list[dict[str, Any]]:
        """Every version that is kept, oldest first, with the tags that name it."""
        catalog, named = Catalog(self.snapshot.storage), self.tags()
        commits = catalog.versions()
        older = sorted({v for v in named.values() if v < commits[0].version})
        return [
            {"version": c.version, "created": c.created, "operation": c.operation, "message": c.message,
             "partial": c.partial, "sha256": c.sha256,
             "tags": [name for name, version in named.items() if version == c.version]}
            for c in (*map(catalog.commit, older), *commits)
        ]  # fmt: skip

    def tags(self) -> dict[str, int]:
        """Tag to version; none where the store cannot list them, as plain web servers."""
        try:
            return {name: version for name, (version, _) in tags(self.snapshot.storage).items()}
        except CapabilityError:
            return {}

    def entry(self, name: str) -> CollectionEntry:
        """A collection as the commit has it."""
        entry = self.snapshot.commit.collection(name)
        if entry is None:
            raise UnknownIdError(
                f"collection {name!r} of {self.location.uri}", expected=f"one of {list(self.names)}"
            )
        return entry

    @property
    def subjects(self) -> Table:
        """The table obs_meta."""
        return self.snapshot.table("obs_meta")

    def obs(self, name: str) -> Table:
        """The volume table of a collection."""
        return self.snapshot.table("obs", name)

    def index(self, name: str = "") -> Index:
        """All ids of a collection's volumes, or of the subjects when `name` is empty."""
        with self._lock:
            indexes: dict[str, Index] = self.snapshot.indexes
            if name not in indexes:
                table = self.obs(name) if name else self.subjects
                kind = "obs_id" if name else "obs_subject_id"
                indexes[name] = Index(table.ids(), kind, checked=True)
            return indexes[name]

    def positions_of_subjects(self, name: str, subjects: Iterable[str]) -> npt.NDArray[np.int64]:
        """Which volumes of a collection belong to these subjects."""
        column = self.obs(name).column("obs_subject_id")
        wanted = list(subjects)
        if len(wanted) == 1:
            found = pc.equal(column, wanted[0])
        else:
            found = pc.is_in(column, value_set=pa.array(wanted, pa.string()))
        positions: npt.NDArray[np.int64] = pc.indices_nonzero(found).to_numpy().astype(np.int64)
        return positions

    def volume(self, name: str, position: int) -> Volume:
        """Open the volume in row `position` of a collection; costs no request once its rows are in memory."""
        obs_id, subject, path, hint, text, matrix = self.obs(name).record(position, _OPENING)
        handle = self.backend(self.entry(name).backend).open_volume(check_key(path), hint)
        meta = row_meta(text)
        require_dims(meta, handle.spec.dims, f"{obs_id} ({path})")
        return Volume._of(
            handle,
            meta,
            matrix or (),
            obs_id=obs_id,
            obs_subject_id=subject,
            row=ObsRow(self, name, position),
        )

    def backend(self, name: str) -> Backend:
        """The backend of that name at this place; one instance a study."""
        with self._lock:
            if name not in self._backends:
                self._backends[name] = get_backend(name, self.location.with_context(self.context))
            return self._backends[name]

    def __getstate__(self) -> dict[str, Any]:
        return {"snapshot": self.snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["snapshot"])  # type: ignore[misc]


class ObsRow:
    """One row of a collection's volume table; read when asked for."""

    __slots__ = ("_name", "_position", "_study")

    def __init__(self, study: Study, name: str, position: int) -> None:
        self._study, self._name, self._position = study, name, position

    def values(self) -> dict[str, Any]:
        """The visible columns."""
        table = self._study.obs(self._name)
        columns = tuple(c for c in table.schema.names if not c.startswith("_"))
        return dict(zip(columns, table.record(self._position, columns), strict=True))

    def explain(self, error: MissingObjectError) -> RadiObjectError:
        """The error to raise when an object of the volume is gone."""
        return self._study.snapshot.explain(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObsRow, (self._study, self._name, self._position)


def split_collection(uri: str) -> tuple[str, str | None]:
    """`study#T1w` as (study, collection); a pin's hash is none, and a path that exists is no collection.

    >>> split_collection("study@7#T1w")
    ('study@7', 'T1w')
    """
    place, mark, name = uri.rpartition("#")
    if not mark or not place or not name or name.startswith("sha256:") or os.path.exists(uri):
        return uri, None
    return place, name
