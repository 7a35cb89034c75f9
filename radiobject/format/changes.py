"""Edit: what a writer wants to change, applied to a base version and, after a lost race, to a newer one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from radiobject.backends import joined_backend
from radiobject.errors import (
    AlignmentError,
    ConflictError,
    DuplicateIdError,
    MetadataError,
    RadiObjectError,
    UnknownIdError,
)
from radiobject.format.catalog import Snapshot
from radiobject.format.commit import Change, CollectionEntry, Commit
from radiobject.format.erasure import Erasure
from radiobject.format.exclusive import collection_groups
from radiobject.format.layout import check_collection_name, collection_path
from radiobject.format.restore import restored
from radiobject.format.rows import (
    MAX_PARTS,
    NewColumn,
    check_join,
    compacted,
    differing_rows,
    select_rows,
    with_column,
    with_rows,
    without_columns,
    without_rows,
)
from radiobject.format.schema import KEYS, OBS_SCHEMA, SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, write_part
from radiobject.format.volume_ids import (
    backend_left,
    free_path,
    ids_of,
    refuse_duplicates,
    taken,
    uniform_shape,
)
from radiobject.storage import Storage

__all__ = ["CollectionEdit", "Edit"]

_ALL_PARTS = 8000
"""Parts of all tables of a commit; each takes some hundred bytes of the eight million that it may have."""


@dataclass
class CollectionEdit:
    """The changes to one collection.

    `added` and `replaced` map a table's name to its new rows; `updated` has obs_id and the columns of the
    volume table to set, and `added_columns` and `dropped_columns` are columns of that table; the volumes of
    `removed` leave every table.
    """

    kind: str = "image"
    backend: str = "zarr"
    create: bool = False
    added: dict[str, pa.Table] = field(default_factory=dict)
    replaced: dict[str, pa.Table] = field(default_factory=dict)
    updated: pa.Table | None = None
    added_columns: tuple[NewColumn, ...] = ()
    dropped_columns: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    keeps_columns: bool = False
    joins: bool = True


@dataclass
class Edit:
    """One logical change of a study. Applying it twice, to two bases, gives the same change to both.

    Rows of `subjects` that the study holds must be equal, or are changed in the columns that they bring when
    `update_subjects`; `added_columns` and `dropped_columns` are columns of obs_meta. `reads` are volumes that
    new ones were made from: whoever takes or exchanges them meanwhile is in conflict with it. `confirm` is
    asked again on every newer base, and raises `ConflictError` where what was settled before does not hold.
    """

    collections: dict[str, CollectionEdit] = field(default_factory=dict)
    removed_collections: frozenset[str] = frozenset()
    renamed_collections: dict[str, str] = field(default_factory=dict)
    subjects: pa.Table | None = None
    removed_subjects: frozenset[str] = frozenset()
    oldest: int | None = None
    update_subjects: bool = False
    added_columns: tuple[NewColumn, ...] = ()
    dropped_columns: frozenset[str] = frozenset()
    restore: Commit | None = None
    erase: Erasure | None = None
    ledger: pa.Table | None = None
    compact: bool = False
    reads: frozenset[str] = frozenset()
    confirm: Callable[[Snapshot], None] | None = None
    _parts: dict[tuple[str, int], Part] = field(default_factory=dict, repr=False)
    _new_subjects: frozenset[str] = field(default=frozenset(), repr=False)
    _old_subjects: frozenset[str] = field(default=frozenset(), repr=False)

    def apply(
        self, base: Snapshot, draft: Commit, storage: Storage, *, rebased: bool
    ) -> tuple[Commit, Change]:
        """The commit that this edit makes of `draft`, a copy of `base`'s commit, and what it changed.

        Writes the table parts it needs; parts that only add rows are written once and used again after a
        rebase. What is wrong with the edit itself is an error of its kind; what is wrong only because
        somebody else was faster (`rebased`) is `ConflictError`.
        """
        wrong: type[RadiObjectError] | None = ConflictError if rebased else None
        if rebased and self.confirm is not None:
            self.confirm(base)
        if self.restore is not None:
            return restored(base, draft, Snapshot(storage, self.restore))
        if self.erase is not None:
            return self.erase.apply(base, draft, storage)
        draft, subjects_added, subjects_updated, subjects_removed = self._apply_subjects(
            base, draft, storage, wrong
        )
        known = taken(base, [i for e in self.collections.values() for i in ids_of(e.added.get("obs"))])
        added: set[str] = set()
        replaced: set[str] = set()
        removed: set[str] = set()
        created: set[str] = set()
        for name in sorted(self.removed_collections):
            entry = draft.collection(name)
            if entry is None:
                raise (wrong or UnknownIdError)(f"collection {name!r}", expected="a collection to remove")
            removed |= set(base.table("obs", name).ids())
            draft = dataclasses.replace(
                draft, collections=tuple(c for c in draft.collections if c is not entry)
            )
        for name, edit in self.collections.items():
            entry = draft.collection(name)
            if entry is None:
                if not edit.create:
                    raise (wrong or UnknownIdError)(
                        f"collection {name!r}", expected=f"one of {[c.name for c in draft.collections]}"
                    )
                check_collection_name(name)
                path = free_path(draft, name)
                if path != collection_path(name):
                    collection_groups(storage, path)  # who wrote the volumes could not know this name
                entry = CollectionEntry(name, edit.kind, path, edit.backend, None, {})
                created.add(name)
            elif not edit.joins:
                raise (wrong or DuplicateIdError)(
                    f"collection {name!r}", expected="a free name", got="a collection of that name"
                )
            elif entry.kind != edit.kind or (joined := joined_backend(entry.backend, edit.backend)) is None:
                raise (wrong or AlignmentError)(
                    f"collection {name!r}",
                    expected=f"{entry.kind} on {entry.backend}",
                    got=f"{edit.kind} on {edit.backend}",
                )
            else:
                entry = dataclasses.replace(entry, backend=joined)
            if "obs" in edit.added:
                fresh = edit.added["obs"]["obs_id"].to_pylist()
                refuse_duplicates(fresh, known - removed | added, name, wrong)
                added |= set(fresh)
            if "obs" in edit.replaced:
                replaced |= set(edit.replaced["obs"]["obs_id"].to_pylist())
            if edit.updated is not None:
                replaced |= set(edit.updated["obs_id"].to_pylist())
            if edit.added_columns or edit.dropped_columns:
                replaced |= set(base.table("obs", name).ids())
            removed |= edit.removed
            draft = draft.with_collection(self._apply_collection(base, entry, edit, storage, wrong))
        for old, new in self.renamed_collections.items():
            check_collection_name(new)
            entry = draft.collection(old)
            if entry is None or draft.collection(new) is not None:
                raise (wrong or UnknownIdError)(
                    f"rename {old!r} to {new!r}",
                    expected="a collection to rename and a free name",
                    got=str([c.name for c in draft.collections]),
                )
            renamed = dataclasses.replace(entry, name=new)
            draft = dataclasses.replace(
                draft, collections=tuple(renamed if c is entry else c for c in draft.collections)
            )
            created.add(new)
        if self.ledger is not None and self.ledger.num_rows:
            parts = (*draft.tables.get("ledger", ()), self._add(storage, "ledger", self.ledger))
            draft = dataclasses.replace(draft, tables={**draft.tables, "ledger": parts})
        _check_subjects(base, self, subjects_added, removed, wrong)
        if self.oldest is not None:
            draft = dataclasses.replace(draft, oldest=max(self.oldest, draft.oldest))
        draft = compacted(draft, storage, 1 if self.compact else _most_parts(draft))
        change = Change(
            subjects_added=frozenset(subjects_added),
            subjects_updated=frozenset(subjects_updated),
            subjects_removed=frozenset(subjects_removed),
            volumes_added=frozenset(added),
            volumes_replaced=frozenset(replaced),
            volumes_removed=frozenset(removed),
            collections_added=frozenset(created),
            collections_removed=self.removed_collections | frozenset(self.renamed_collections),
        )
        return draft, change

    def _apply_subjects(
        self, base: Snapshot, draft: Commit, storage: Storage, wrong: type[RadiObjectError] | None
    ) -> tuple[Commit, list[str], list[str], list[str]]:
        table = base.table("obs_meta")
        known = set(table.ids()) if self.subjects is not None or self.removed_subjects else set()
        added: list[str] = []
        updated: list[str] = []
        if missing := self.removed_subjects - known:
            raise (wrong or UnknownIdError)(
                f"subjects {sorted(missing)[:5]}", expected="subjects of the study"
            )
        if self.removed_subjects:
            parts = without_rows(table, self.removed_subjects, storage)
            table = Table(storage, "obs_meta", parts, SUBJECT_SCHEMA)
        if self.subjects is not None:
            check_join(table, self.subjects, "obs_meta", wrong or MetadataError)
            known = set(table.ids())
            ids = self.subjects["obs_subject_id"].to_pylist()
            added = [i for i in ids if i not in known]
            updated = differing_rows(table, self.subjects, [i for i in ids if i in known])
            self._check_updated(updated, wrong)
            parts = list(table.parts)
            if updated:
                parts = with_rows(table, self.subjects, set(updated), storage, merge=True)
            if added:
                rows = select_rows(self.subjects, added, "obs_subject_id")
                parts.append(self._add(storage, "obs_meta", rows))
            if wrong is None:
                self._new_subjects = frozenset(added)
                self._old_subjects = frozenset(ids) - self._new_subjects
            elif gone := sorted(self._old_subjects & set(added)):
                raise wrong(f"subjects {gone[:5]}", expected="subjects of the study", got="removed meanwhile")
            table = Table(storage, "obs_meta", parts, SUBJECT_SCHEMA)
        if self.added_columns or self.dropped_columns:
            updated = table.ids()
            table = _with_columns(table, self, SUBJECT_SCHEMA, wrong)
        tables = draft.tables
        if table.parts or "obs_meta" in tables:
            tables = {**tables, "obs_meta": table.parts}
        return dataclasses.replace(draft, tables=tables), added, updated, sorted(self.removed_subjects)

    def _check_updated(self, updated: list[str], wrong: type[RadiObjectError] | None) -> None:
        if updated and not self.update_subjects:
            raise (wrong or MetadataError)(
                f"obs_meta rows {updated[:5]}",
                expected="the values that the study holds",
                got="other values",
                hint="Change them with obs_meta.update(...).",
            )
        # what was a new row where this edit was made is somebody else's now: not ours to overwrite
        if theirs := [i for i in updated if i in self._new_subjects]:
            raise (wrong or MetadataError)(
                f"obs_meta rows {theirs[:5]}",
                expected="rows that nobody else has added",
                got="rows with other values",
            )

    def _apply_collection(
        self,
        base: Snapshot,
        entry: CollectionEntry,
        edit: CollectionEdit,
        storage: Storage,
        wrong: type[RadiObjectError] | None,
    ) -> CollectionEntry:
        tables = dict(entry.tables)
        existed = base.commit.collection(entry.name) is not None
        label = entry.path.rsplit("/", 1)[-1]
        for name in sorted({"obs", *tables, *edit.added, *edit.replaced}):
            parts = list(tables.get(name, ()))
            if existed and (edit.removed or edit.replaced):
                table = base.table(name, entry.name)
                gone = edit.removed
                if name != "obs":
                    # a volume that comes without a picture must not keep that of the one it replaces
                    gone = gone | ids_of(edit.replaced.get("obs")) - ids_of(edit.replaced.get(name))
                if name == "obs" and (missing := (gone | ids_of(edit.replaced.get(name))) - set(table.ids())):
                    raise (wrong or UnknownIdError)(
                        f"volumes {sorted(missing)[:5]}", expected=f"volumes of {entry.name!r}"
                    )
                if gone:
                    parts = without_rows(table, gone, storage)
                if name in edit.replaced:
                    rows = edit.replaced[name]
                    interim = Table(storage, f"{label}/{name}", parts, table.schema)
                    parts = with_rows(interim, rows, ids_of(rows), storage, merge=edit.keeps_columns)
                    if name != "obs" and (new := ids_of(rows) - set(interim.ids())):
                        parts.append(self._add(storage, f"{label}/{name}", select_rows(rows, new, "obs_id")))
            if name == "obs" and edit.updated is not None:
                interim = Table(storage, f"{label}/obs", parts, OBS_SCHEMA)
                ids = _known_rows(interim, edit.updated, entry.name, wrong)
                parts = with_rows(interim, edit.updated, ids, storage, merge=True)
            if name == "obs" and (edit.added_columns or edit.dropped_columns):
                interim = Table(storage, f"{label}/obs", parts, OBS_SCHEMA)
                parts = list(_with_columns(interim, edit, OBS_SCHEMA, wrong).parts)
            if name in edit.added and edit.added[name].num_rows:
                rows = edit.added[name]
                if existed and tables.get(name):
                    held = base.table(name, entry.name)
                    check_join(held, rows, f"{entry.name} {name}", wrong or MetadataError)
                parts.append(self._add(storage, f"{label}/{name}", rows))
            if parts or name == "obs":
                tables[name] = tuple(parts)
            else:
                tables.pop(name, None)
        whole = Table(storage, f"{label}/obs", tables["obs"], OBS_SCHEMA)
        moved = edit.updated is not None and "_path" in edit.updated.schema.names
        if edit.removed or "obs" in edit.replaced or moved or _joined(base, entry):
            entry = dataclasses.replace(entry, backend=backend_left(entry, whole))
        other = whole if edit.removed or edit.replaced else None
        shape = uniform_shape(entry, edit.added.get("obs"), other)
        return dataclasses.replace(entry, tables=tables, shape=shape)

    def _add(self, storage: Storage, table: str, rows: pa.Table) -> Part:
        key = (table, hash(tuple(rows[KEYS[table.rsplit("/", 1)[-1]]].to_pylist())))
        if key not in self._parts:
            self._parts[key] = write_part(storage, table, rows)
        return self._parts[key]


def _joined(base: Snapshot, entry: CollectionEntry) -> bool:
    """Whether it stood on another backend, or on one that no volume is on any more."""
    held = base.commit.collection(entry.name)
    return held is not None and (held.backend != entry.backend or not held.n_volumes)


def _most_parts(draft: Commit) -> int:
    """Parts that a table may have: fewer among hundreds of collections, as one commit names them all."""
    tables = len(draft.tables) + sum(len(entry.tables) for entry in draft.collections)
    return max(1, min(MAX_PARTS, _ALL_PARTS // max(tables, 1)))


def _with_columns(
    table: Table, edit: Edit | CollectionEdit, empty: pa.Schema, wrong: type[RadiObjectError] | None
) -> Table:
    """The table with the edit's new columns and without those that it drops."""
    for column in edit.added_columns:
        if column.name in table.schema.names:
            raise (wrong or MetadataError)(
                f"column {column.name!r} of {table.name}",
                expected="a new name",
                got=f"one that exists, of type {table.schema.field(column.name).type}",
            )
        table = Table(table.storage, table.name, with_column(table, column, table.storage), empty)
    if edit.dropped_columns:
        parts = without_columns(table, edit.dropped_columns, table.storage)
        table = Table(table.storage, table.name, parts, empty)
    return table


def _known_rows(
    table: Table, rows: pa.Table, collection: str, wrong: type[RadiObjectError] | None
) -> set[str]:
    ids = ids_of(rows)
    if missing := sorted(ids - set(table.ids())):
        raise (wrong or UnknownIdError)(f"volumes {missing[:5]}", expected=f"volumes of {collection!r}")
    check_join(table, rows, f"{collection} obs", wrong or MetadataError)
    return ids


def _check_subjects(
    base: Snapshot, edit: Edit, added: Iterable[str], removed: set[str], wrong: type[RadiObjectError] | None
) -> None:
    """Every volume must belong to a subject: the new ones, and those whose subject is being removed."""
    needed = {s for e in edit.collections.values() if "obs" in e.added for s in _subjects(e.added["obs"])}
    if needed:
        held = (set(base.table("obs_meta").ids()) - edit.removed_subjects) | set(added)
        if missing := sorted(needed - held):
            raise (wrong or MetadataError)(
                f"subjects {missing[:5]}",
                expected="a row in obs_meta for every subject that has volumes",
                got=f"{len(missing)} without one",
            )
    if edit.removed_subjects:
        for entry in base.commit.collections:
            rows = base.table("obs", entry.name).read(["obs_subject_id", "obs_id"])
            theirs = select_rows(rows, edit.removed_subjects, "obs_subject_id")["obs_id"].to_pylist()
            if left := [i for i in theirs if i not in removed]:
                raise (wrong or MetadataError)(
                    f"subjects {sorted(edit.removed_subjects)[:5]}",
                    expected="no volumes of theirs to be left",
                    got=f"{left[:5]} in {entry.name!r}",
                )


def _subjects(rows: pa.Table) -> list[str]:
    ids: list[str] = rows["obs_subject_id"].to_pylist()
    return ids
