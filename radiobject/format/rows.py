"""Rows: the parts of a table with rows taken out, exchanged or folded; untouched parts stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.format.commit import Commit
from radiobject.format.schema import SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, unify, write_part
from radiobject.storage import Storage

__all__ = [
    "MAX_PARTS",
    "compacted",
    "differing_rows",
    "select_rows",
    "with_rows",
    "without_columns",
    "without_rows",
]

MAX_PARTS = 32
"""A commit that leaves a table with more parts than this folds them into one."""


def select_rows(rows: pa.Table, ids: Iterable[str], key: str) -> pa.Table:
    """The rows whose key is one of `ids`, in their order."""
    return rows.filter(pc.is_in(rows[key], value_set=pa.array(sorted(set(ids)), pa.string())))


def without_rows(table: Table, ids: Iterable[str], storage: Storage) -> list[Part]:
    """The table's parts without some rows; parts that hold none of them stay as they are."""
    gone = pa.array(sorted(ids), pa.string())
    parts = []
    for part in table.parts:
        if not any(part.min_id <= i.as_py() <= part.max_id for i in gone):
            parts.append(part)
            continue
        rows = table.only(part)
        kept = rows.filter(pc.invert(pc.is_in(rows[table.key], value_set=gone)))
        if kept.num_rows == rows.num_rows:
            parts.append(part)
        elif kept.num_rows:
            parts.append(write_part(storage, table.name, kept))
    return parts


def with_rows(table: Table, rows: pa.Table, ids: set[str], storage: Storage, *, merge: bool) -> list[Part]:
    """The table's parts with some rows exchanged in place; `merge` keeps columns the new rows lack."""
    fresh = {r[table.key]: r for r in select_rows(rows, ids, table.key).to_pylist()}
    parts = []
    for part in table.parts:
        if not any(part.min_id <= i <= part.max_id for i in ids):
            parts.append(part)
            continue
        old = table.only(part)
        schema = unify([old.schema, rows.schema], table.name)
        changed = []
        for row in old.to_pylist():
            new = fresh.get(row[table.key])
            changed.append(row if new is None else {**row, **new} if merge else new)
        parts.append(write_part(storage, table.name, pa.Table.from_pylist(changed, schema=schema)))
    return parts


def without_columns(table: Table, names: Iterable[str], storage: Storage) -> list[Part]:
    """The table's parts without some columns; parts that have none of them stay as they are."""
    gone = set(names)
    parts = []
    for part in table.parts:
        rows = table.only(part)
        kept = [c for c in rows.schema.names if c not in gone]
        parts.append(
            part
            if len(kept) == len(rows.schema.names)
            else write_part(storage, table.name, rows.select(kept))
        )
    return parts


def differing_rows(table: Table, rows: pa.Table, ids: Iterable[str]) -> list[str]:
    """Which of the rows differ from the table's in a column that they bring."""
    columns = [c for c in rows.schema.names if c in table.schema.names]
    new_columns = [c for c in rows.schema.names if c not in table.schema.names]
    held = {r[table.key]: r for r in table.read(columns).to_pylist()}
    mine = {r[table.key]: r for r in rows.to_pylist()}
    return [
        i
        for i in ids
        if any(held[i][c] != mine[i][c] for c in columns) or any(mine[i][c] is not None for c in new_columns)
    ]


def compacted(draft: Commit, storage: Storage, most: int) -> Commit:
    """Every table of more than `most` parts folded into one; the rows and their order stay."""

    def fold(tables: Mapping[str, tuple[Part, ...]], prefix: str) -> dict[str, tuple[Part, ...]]:
        folded = dict(tables)
        for name, parts in tables.items():
            if len(parts) > most:
                table = Table(storage, f"{prefix}{name}", parts, SUBJECT_SCHEMA)
                folded[name] = (write_part(storage, table.name, table.read()),)
        return folded

    entries = tuple(
        dataclasses.replace(c, tables=fold(c.tables, f"{c.path.rsplit('/', 1)[-1]}/"))
        for c in draft.collections
    )
    return dataclasses.replace(draft, tables=fold(draft.tables, ""), collections=entries)
