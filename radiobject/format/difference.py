"""Difference: what changed from one version to another, from their commits and tables; no voxel is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.format.catalog import Snapshot
from radiobject.format.commit import CollectionEntry
from radiobject.format.rows import differing
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA, SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table

__all__ = ["Difference", "TableDifference", "difference"]

_SETTABLE = frozenset({"session", "run", "acquisition_time"})
_FIXED = frozenset({*OBS_SCHEMA.names, *DERIVED_SCHEMA.names}) - _SETTABLE
"""Columns that are written with a volume: they differ only where the volume does."""


@dataclass(frozen=True)
class TableDifference:
    """What changed in one table: ids of rows, and columns with their types.

    `replaced` are volumes that were exchanged under their id, `changed` rows that stayed, with the columns in
    which they differ. A column that is added or dropped as a whole changes no row.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    columns_added: Mapping[str, str] = field(default_factory=dict)
    columns_dropped: Mapping[str, str] = field(default_factory=dict)
    columns_retyped: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True)
class Difference:
    """What changed from version `old` to version `new`; false when nothing did.

    `subjects` is that of obs_meta, `collections` those of the volume tables, by the collection's newer name;
    without an entry a collection is as it was.
    """

    uri: str
    old: int
    new: int
    collections_added: tuple[str, ...]
    collections_removed: tuple[str, ...]
    collections_renamed: Mapping[str, str]
    subjects: TableDifference
    collections: Mapping[str, TableDifference]

    def __bool__(self) -> bool:
        names = (self.collections_added, self.collections_removed, self.collections_renamed)
        return any(names) or bool(self.subjects) or bool(self.collections)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each change: `kind` (collection, subject, volume, column), `change` (added, removed,
        renamed, replaced, changed, retyped), `collection` (empty for obs_meta), `name`, `detail`.
        """
        rows: list[tuple[str, str, str, str, str]] = []
        rows += [("collection", "added", n, n, "") for n in self.collections_added]
        rows += [("collection", "removed", n, n, "") for n in self.collections_removed]
        rows += [
            ("collection", "renamed", new, new, f"was {n}") for n, new in self.collections_renamed.items()
        ]
        for kind, name, table in self._tables():
            for change in ("added", "removed", "replaced"):
                rows += [(kind, change, name, i, "") for i in getattr(table, change)]
            rows += [(kind, "changed", name, i, ", ".join(c)) for i, c in table.changed.items()]
            rows += [("column", "added", name, c, t) for c, t in table.columns_added.items()]
            rows += [("column", "dropped", name, c, t) for c, t in table.columns_dropped.items()]
            rows += [
                ("column", "retyped", name, c, f"{a} to {b}") for c, (a, b) in table.columns_retyped.items()
            ]
        return pd.DataFrame(rows, columns=["kind", "change", "collection", "name", "detail"], dtype="str")

    def to_json(self) -> dict[str, Any]:
        """The same as plain lists and mappings, without what is empty."""
        names = {
            "added": list(self.collections_added),
            "removed": list(self.collections_removed),
            "renamed": dict(self.collections_renamed),
        }
        return {
            "uri": self.uri, "old": self.old, "new": self.new,
            "collections": {change: value for change, value in names.items() if value},
            "subjects": _plain(self.subjects),
            "volumes": {name: _plain(table) for name, table in self.collections.items()},
        }  # fmt: skip

    def _tables(self) -> list[tuple[str, str, TableDifference]]:
        return [("subject", "", self.subjects), *(("volume", n, t) for n, t in self.collections.items())]

    def __repr__(self) -> str:
        head = f"<diff of {self.uri}, version {self.old} to {self.new}"
        lines = []
        signs = (("+", self.collections_added), ("-", self.collections_removed),
                 ("", [f"{a} is now {b}" for a, b in self.collections_renamed.items()]))  # fmt: skip
        said = [f"{sign} {_some(names)}".strip() for sign, names in signs if names]
        lines += [f"  collections: {'; '.join(said)}"] if said else []
        for _, name, table in self._tables():
            if table:
                lines.append(
                    f"  {_some([name]) if name else 'subjects'}: {_summary(table, 'volumes' if name else '')}"
                )
                lines += [f"    {line}" for line in _columns(table)]
        return "\n".join([head + (":" if lines else ": nothing changed"), *lines]) + ">"


def difference(old: Snapshot, new: Snapshot) -> Difference:
    """What changed from one version to another of the same study.

    Parts of tables that both versions have are not read; of a table whose other parts differ in their
    columns, the footers of all parts are. Rows are compared one column at a time.
    """
    before = {c.path: c for c in old.commit.collections}
    after = {c.path: c for c in new.commit.collections}
    subjects = _table(old, new, "obs_meta", old.commit.tables, new.commit.tables)
    found: dict[str, TableDifference] = {}
    for path in dict.fromkeys((*after, *before)):
        a, b = before.get(path), after.get(path)
        table = _table(old, new, "obs", a.tables if a else {}, b.tables if b else {})
        name = _name(b or a)
        if table and name in found:
            # one that is gone, of whose name another is now: all that it says is what was removed
            table = replace(found[name], removed=(*found[name].removed, *table.removed))
        if table:
            found[name] = table
    return Difference(
        old.storage.location.uri,
        old.version,
        new.version,
        tuple(c.name for p, c in after.items() if p not in before),
        tuple(c.name for p, c in before.items() if p not in after),
        {before[p].name: c.name for p, c in after.items() if p in before and before[p].name != c.name},
        subjects,
        found,
    )


def _name(entry: CollectionEntry | None) -> str:
    return "" if entry is None else entry.name


def _table(
    old: Snapshot,
    new: Snapshot,
    name: str,
    before: Mapping[str, tuple[Part, ...]],
    after: Mapping[str, tuple[Part, ...]],
) -> TableDifference:
    """What changed in one table."""
    parts = before.get(name, ()), after.get(name, ())
    shared = {p.path for p in parts[0]} & {p.path for p in parts[1]}
    empty = SUBJECT_SCHEMA if name == "obs_meta" else OBS_SCHEMA
    left, right = (
        Table(snapshot.storage, name, [p for p in of if p.path not in shared], empty, snapshot.explain)
        for snapshot, of in zip((old, new), parts, strict=True)
    )
    if not left.parts and not right.parts:
        return TableDifference()
    columns = _columns_of(left), _columns_of(right)
    if shared and columns[0] != columns[1]:
        # whether a column came or went depends on the parts that both have: their footers tell
        columns = tuple(  # type: ignore[assignment]
            _columns_of(Table(s.storage, name, of, empty, s.explain))
            for s, of in zip((old, new), parts, strict=True)
        )
    common = [c for c in columns[0] if c in columns[1]]
    added, removed, replaced, changed = _rows(left, right, common, volumes=name == "obs")
    return TableDifference(
        added,
        removed,
        replaced,
        changed,
        {c: t for c, t in columns[1].items() if c not in columns[0]} if parts[0] else {},
        {c: t for c, t in columns[0].items() if c not in columns[1]} if parts[1] else {},
        {c: (columns[0][c], columns[1][c]) for c in common if columns[0][c] != columns[1][c]},
    )


def _columns_of(table: Table) -> dict[str, str]:
    """Visible columns and their types."""
    return {f.name: str(f.type) for f in table.schema if not f.name.startswith("_")} if table.parts else {}


def _rows(
    left: Table, right: Table, common: Sequence[str], *, volumes: bool
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Ids of rows added, removed, replaced, and changed with their columns."""
    keys = (_column(left, left.key), _column(right, right.key))
    at = pc.index_in(keys[0], value_set=keys[1])
    stays = at.is_valid()
    removed = keys[0].filter(pc.invert(stays)).to_pylist()
    added = keys[1].filter(pc.invert(pc.is_in(keys[1], value_set=keys[0]))).to_pylist()
    ids, mine, theirs = keys[0].filter(stays), pc.indices_nonzero(stays), at.drop_null()

    def unlike(name: str) -> Any:
        return differing(_column(left, name).take(mine), _column(right, name).take(theirs))

    replaced = pa.array(unlike("_path") if volumes else [False] * len(ids), pa.bool_())
    changed: dict[str, list[str]] = {}
    for name in common:
        if name != left.key and not (volumes and name in _FIXED):
            for obs_id in ids.filter(pa.array(unlike(name), pa.bool_())).to_pylist():
                changed.setdefault(obs_id, []).append(name)
    return (
        tuple(added),
        tuple(removed),
        tuple(ids.filter(replaced).to_pylist()),
        {i: tuple(names) for i, names in changed.items()},
    )


def _column(table: Table, name: str) -> pa.Array:
    """A column of a table, null where parts lack it."""
    if name not in table.schema.names:
        return pa.nulls(table.num_rows)
    column = table.read([name])[name].combine_chunks()
    return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)


def _plain(table: TableDifference) -> dict[str, Any]:
    named = {n: getattr(table, n) for n in table.__dataclass_fields__ if getattr(table, n)}
    return {
        n: list(v) if isinstance(v, tuple) else {k: _listed(x) for k, x in v.items()}
        for n, v in named.items()
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _summary(table: TableDifference, what: str) -> str:
    """The rows of one table, as `+2 volumes (a, b), 1 changed in age (c)`."""
    said = []
    for sign, ids in (("+", table.added), ("-", table.removed)):
        said += [f"{sign}{len(ids):,} {what}".strip() + f" ({_some(ids)})"] if ids else []
    said += [f"{len(table.replaced):,} replaced ({_some(table.replaced)})"] if table.replaced else []
    if table.changed:
        columns = dict.fromkeys(c for names in table.changed.values() for c in names)
        said.append(f"{len(table.changed):,} changed in {_some(columns)} ({_some(table.changed)})")
    return ", ".join(said) or "the same rows"


def _columns(table: TableDifference) -> list[str]:
    return [
        *(f"+ column {_some([name])}: {kind}" for name, kind in table.columns_added.items()),
        *(f"- column {_some([name])}: {kind}" for name, kind in table.columns_dropped.items()),
        *(f"  column {_some([name])}: {a} is now {b}" for name, (a, b) in table.columns_retyped.items()),
    ]


def _some(names: Iterable[str], most: int = 4) -> str:
    # an id is other people's text: one that is no single line is shown as Python writes it
    listed = [n if n.isprintable() else repr(n) for n in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")
