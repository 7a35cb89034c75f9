"""Edit: what a writer wants to change, applied to a base version and, after a lost race, to a newer one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

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
from radiobject.format.layout import collection_path
from radiobject.format.restore import restored
from radiobject.format.rows import (
    MAX_PARTS,
    compacted,
    differing_rows,
    select_rows,
    with_rows,
    without_columns,
    without_rows,
)
from radiobject.format.schema import KEYS, OBS_SCHEMA, SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, unify, write_part
from radiobject.storage import Storage

__all__ = ["CollectionEdit", "Edit"]


@dataclass
class CollectionEdit:
    """The changes to one collection.

    `added` and `replaced` map a table's name to its new rows; `updated` has obs_id and the columns of the
    volume table to set; the volumes of `removed` leave every table.
    """

    kind: str = "image"
    backend: str = "zarr"
    create: bool = False
    added: dict[str, pa.Table] = field(default_factory=dict)
    replaced: dict[str, pa.Table] = field(default_factory=dict)
    updated: pa.Table | None = None
    dropped_columns: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass
class Edit:
    """One logical change of a study. Applying it twice, to two bases, gives the same change to both."""

    collections: dict[str, CollectionEdit] = field(default_factory=dict)
    removed_collections: frozenset[str] = frozenset()
    renamed_collections: dict[str, str] = field(default_factory=dict)
    subjects: pa.Table | None = None
    removed_subjects: frozenset[str] = frozenset()
    oldest: int | None = None
    update_subjects: bool = False
    dropped_columns: frozenset[str] = frozenset()
    restore: Commit | None = None
    ledger: pa.Table | None = None
    compact: bool = False
    _parts: dict[tuple[str, int], Part] = field(default_factory=dict, repr=False)

    def apply(
        self, base: Snapshot, draft: Commit, storage: Storage, *, rebased: bool
    ) -> tuple[Commit, Change]:
        """The commit that this edit makes of `draft`, a copy of `base`'s commit, and what it changed.

        Writes the table parts it needs; parts that only add rows are written once and used again after a
        rebase. What is wrong with the edit itself is an error of its kind; what is wrong only because
        somebody else was faster (`rebased`) is `ConflictError`.
        """
        wrong: type[RadiObjectError] | None = ConflictError if rebased else None
        if self.restore is not None:
            return restored(base, draft, Snapshot(storage, self.restore))
        draft, subjects_added, subjects_updated, subjects_removed = self._apply_subjects(
            base, draft, storage, wrong
        )
        known: set[str] | None = None
        if any("obs" in e.added for e in self.collections.values()):
            known = {i for c in base.commit.collections for i in base.table("obs", c.name).ids()}
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
                path = _free_path(draft, name)
                entry = CollectionEntry(name, edit.kind, path, edit.backend, None, {})
                created.add(name)
            elif (entry.kind, entry.backend) != (edit.kind, edit.backend):
                raise (wrong or AlignmentError)(
                    f"collection {name!r}",
                    expected=f"{entry.kind} on {entry.backend}",
                    got=f"{edit.kind} on {edit.backend}",
                )
            if "obs" in edit.added:
                fresh = edit.added["obs"]["obs_id"].to_pylist()
                _refuse_duplicates(fresh, (known or set()) - removed | added, name, wrong)
                added |= set(fresh)
            if "obs" in edit.replaced:
                replaced |= set(edit.replaced["obs"]["obs_id"].to_pylist())
            if edit.updated is not None:
                replaced |= set(edit.updated["obs_id"].to_pylist())
            if edit.dropped_columns:
                replaced |= set(base.table("obs", name).ids())
            removed |= edit.removed
            draft = draft.with_collection(self._apply_collection(base, entry, edit, storage, wrong))
        for old, new in self.renamed_collections.items():
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
        draft = compacted(draft, storage, 1 if self.compact else MAX_PARTS)
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
        parts = list(draft.tables.get("obs_meta", ()))
        known = set(table.ids()) if self.subjects is not None or self.removed_subjects else set()
        added: list[str] = []
        updated: list[str] = []
        if missing := self.removed_subjects - known:
            raise (wrong or UnknownIdError)(
                f"subjects {sorted(missing)[:5]}", expected="subjects of the study"
            )
        if self.removed_subjects:
            parts = without_rows(table, self.removed_subjects, storage)
        if self.subjects is not None:
            unify(
                [SUBJECT_SCHEMA, *([table.schema] if table.parts else []), self.subjects.schema],
                "obs_meta",
                wrong or MetadataError,
            )
            ids = self.subjects["obs_subject_id"].to_pylist()
            twice = [i for i in ids if i in known]
            added = [i for i in ids if i not in known]
            if twice:
                changed = differing_rows(table, self.subjects, twice)
                if changed and not self.update_subjects:
                    raise (wrong or MetadataError)(
                        f"obs_meta rows {changed[:5]}",
                        expected="the values that the study holds",
                        got="other values",
                        hint="Change them with obs_meta.update(...).",
                    )
                if changed:
                    parts = with_rows(table, self.subjects, set(changed), storage, merge=True)
                    updated = changed
            if added:
                parts.append(
                    self._add(storage, "obs_meta", select_rows(self.subjects, added, "obs_subject_id"))
                )
        if self.dropped_columns:
            parts = without_columns(
                Table(storage, "obs_meta", parts, SUBJECT_SCHEMA), self.dropped_columns, storage
            )
            updated = sorted(known | set(table.ids()))
        tables = (
            {**draft.tables, "obs_meta": tuple(parts)}
            if parts or "obs_meta" in draft.tables
            else draft.tables
        )
        return dataclasses.replace(draft, tables=tables), added, updated, sorted(self.removed_subjects)

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
            if existed and (edit.removed or name in edit.replaced):
                table = base.table(name, entry.name)
                gone = edit.removed
                if name == "obs" and (missing := (gone | _keys(edit.replaced.get(name))) - set(table.ids())):
                    raise (wrong or UnknownIdError)(
                        f"volumes {sorted(missing)[:5]}", expected=f"volumes of {entry.name!r}"
                    )
                if gone:
                    parts = without_rows(table, gone, storage)
                if name in edit.replaced:
                    rows = edit.replaced[name]
                    interim = Table(storage, f"{label}/{name}", parts, table.schema)
                    parts = with_rows(interim, rows, _keys(rows), storage, merge=False)
            if name == "obs" and edit.updated is not None:
                interim = Table(storage, f"{label}/obs", parts, OBS_SCHEMA)
                ids = _known_rows(interim, edit.updated, entry.name, wrong)
                parts = with_rows(interim, edit.updated, ids, storage, merge=True)
            if name == "obs" and edit.dropped_columns:
                interim = Table(storage, f"{label}/obs", parts, OBS_SCHEMA)
                parts = without_columns(interim, edit.dropped_columns, storage)
            if name in edit.added and edit.added[name].num_rows:
                rows = edit.added[name]
                if existed and tables.get(name):
                    unify(
                        [base.table(name, entry.name).schema, rows.schema],
                        f"{entry.name} {name}",
                        wrong or MetadataError,
                    )
                parts.append(self._add(storage, f"{label}/{name}", rows))
            if parts or name == "obs":
                tables[name] = tuple(parts)
            else:
                tables.pop(name, None)
        shape = _uniform(entry, edit, Table(storage, f"{label}/obs", tables["obs"], OBS_SCHEMA))
        return dataclasses.replace(entry, tables=tables, shape=shape)

    def _add(self, storage: Storage, table: str, rows: pa.Table) -> Part:
        key = (table, hash(tuple(rows[KEYS[table.rsplit("/", 1)[-1]]].to_pylist())))
        if key not in self._parts:
            self._parts[key] = write_part(storage, table, rows)
        return self._parts[key]


def _known_rows(
    table: Table, rows: pa.Table, collection: str, wrong: type[RadiObjectError] | None
) -> set[str]:
    ids = _keys(rows)
    if missing := sorted(ids - set(table.ids())):
        raise (wrong or UnknownIdError)(f"volumes {missing[:5]}", expected=f"volumes of {collection!r}")
    unify([table.schema, rows.schema], f"{collection} obs", wrong or MetadataError)
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
            rows = base.table("obs", entry.name).read(["obs_subject_id", "obs_id"]).to_pylist()
            left = [r["obs_id"] for r in rows if r["obs_subject_id"] in edit.removed_subjects]
            if left := [i for i in left if i not in removed]:
                raise (wrong or MetadataError)(
                    f"subjects {sorted(edit.removed_subjects)[:5]}",
                    expected="no volumes of theirs to be left",
                    got=f"{left[:5]} in {entry.name!r}",
                )


def _subjects(rows: pa.Table) -> list[str]:
    ids: list[str] = rows["obs_subject_id"].to_pylist()
    return ids


def _keys(rows: pa.Table | None) -> set[str]:
    return set() if rows is None else set(rows["obs_id"].to_pylist())


def _refuse_duplicates(
    fresh: list[str], known: set[str], collection: str, wrong: type[RadiObjectError] | None
) -> None:
    seen: set[str] = set()
    twice = sorted({i for i in fresh if i in known or i in seen or seen.add(i)})  # type: ignore[func-returns-value]
    if twice:
        raise (wrong or DuplicateIdError)(
            f"obs_id {twice[:5]} for collection {collection!r}",
            expected="ids that occur once in the whole study",
            got=f"{len(twice)} that are taken",
        )


def _free_path(draft: Commit, name: str) -> str:
    path, number = collection_path(name), 1
    while any(c.path == path for c in draft.collections):
        number += 1
        path = f"{collection_path(name)}~~{number}"
    return path


def _uniform(entry: CollectionEntry, edit: CollectionEdit, obs: Table) -> tuple[int, int, int] | None:
    if edit.removed or edit.replaced:
        shapes = _shapes(obs.read(["dim_x", "dim_y", "dim_z"]))
    else:
        shapes = {entry.shape} if entry.n_volumes else set()
        shapes |= _shapes(edit.added["obs"]) if "obs" in edit.added else set()
    return next(iter(shapes)) if len(shapes) == 1 else None


def _shapes(rows: pa.Table) -> set[tuple[int, int, int] | None]:
    return {
        (int(x), int(y), int(z))
        for x, y, z in zip(*(rows[c].to_pylist() for c in ("dim_x", "dim_y", "dim_z")), strict=True)
    }
