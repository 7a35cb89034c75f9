"""Rows: the parts of a table with rows or columns added, taken out or exchanged; untouched parts stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import RadiObjectError
from radiobject.format.commit import Commit
from radiobject.format.schema import SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, unify, write_part
from radiobject.storage import Storage

__all__ = [
    "MAX_PARTS",
    "NewColumn",
    "check_join",
    "column_as",
    "compacted",
    "differing",
    "differing_rows",
    "select_rows",
    "with_column",
    "with_rows",
    "without_columns",
    "without_rows",
]

MAX_PARTS = 32
"""A commit that leaves a table with more parts than this folds the last ones."""


def check_join(table: Table, rows: pa.Table, where: str, wrong: type[RadiObjectError]) -> None:
    """Raise `wrong` unless rows and table can share one type a column that loses no value of either."""
    joined = unify([table.schema, rows.schema], where, wrong)
    for side, read in ((table.schema, table.read), (rows.schema, rows.select)):
        for name in side.names:
            field = joined.field(name)
            if side.field(name).type == field.type:
                continue
            try:
                read([name])[name].cast(field.type)
            except pa.ArrowException as error:
                raise wrong(
                    f"{where} column {name!r}",
                    expected=f"values that {field.type} holds, as {side.field(name).type} joins it",
                    got=str(error).splitlines()[0],
                    hint="Cast the new column to the stored type, or give it another name.",
                ) from error


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
    fresh = select_rows(rows, ids, table.key)
    wanted = fresh[table.key].combine_chunks()
    parts = []
    for part in table.parts:
        if not any(part.min_id <= i <= part.max_id for i in ids):
            parts.append(part)
            continue
        old = table.only(part)
        found = pc.index_in(old[table.key].combine_chunks(), value_set=wanted)
        if found.null_count == len(found):
            parts.append(part)
            continue
        schema = unify([old.schema, fresh.schema], table.name)
        parts.append(write_part(storage, table.name, _exchanged(old, fresh, found, schema, merge=merge)))
    return parts


def _exchanged(
    old: pa.Table, fresh: pa.Table, found: pa.Array, schema: pa.Schema, *, merge: bool
) -> pa.Table:
    """`old` with row i exchanged for row `found[i]` of `fresh`, where that is not null."""
    picks = pc.coalesce(pc.add(found, old.num_rows), pa.array(np.arange(old.num_rows, dtype=np.int32)))
    columns = []
    for field in schema:
        kept = column_as(old, field)
        if field.name in fresh.schema.names or not merge:
            # codes of one category differ between the two: concatenation gives them one list of categories
            both = [kept.combine_chunks(), column_as(fresh, field).combine_chunks()]
            kept = pa.concat_arrays(both).take(picks)
        columns.append(kept)
    return pa.table(columns, schema=schema)


def column_as(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column in the type of `field`, null where the rows do not have it."""
    if field.name not in rows.schema.names:
        return pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
    return rows[field.name].cast(field.type)


@dataclass(frozen=True)
class NewColumn:
    """A column to add. `fill`, one value or null that also has the type, is what all rows get but those of
    `values`, a table of the key and the column.
    """

    name: str
    fill: pa.Array
    values: pa.Table | None = None


def with_column(table: Table, column: NewColumn, storage: Storage) -> list[Part]:
    """The table's parts with one more column in each; an empty table gets a part without rows to hold it."""
    if not table.parts:
        none = table.schema.empty_table().append_column(column.name, column.fill[:0])
        return [write_part(storage, table.name, none)]
    parts = []
    for part in table.parts:
        rows = table.only(part)
        values = column.fill.take(pa.array(np.zeros(rows.num_rows, dtype=np.int32)))
        if column.values is not None:
            given = column.values[column.name].combine_chunks()
            found = pc.index_in(
                rows[table.key].combine_chunks(), value_set=column.values[table.key].combine_chunks()
            )
            # the fill stands behind the values, so that a row without one picks it
            picks = pc.coalesce(found, pa.scalar(len(given), pa.int32()))
            values = pa.concat_arrays([given, column.fill]).take(picks)
        parts.append(write_part(storage, table.name, rows.append_column(column.name, values)))
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
    wanted = list(ids)
    columns = [c for c in rows.schema.names if c != table.key]
    stored = [c for c in columns if c in table.schema.names]
    keys = pa.array(wanted, pa.string())
    at = pc.index_in(keys, value_set=table.column(table.key).combine_chunks())
    held = table.rows(at.to_numpy(), [table.key, *stored])
    mine = rows.take(pc.index_in(keys, value_set=rows[table.key].combine_chunks()))
    found = np.zeros(len(wanted), dtype=bool)
    for name in columns:
        other = held[name].combine_chunks() if name in stored else pa.nulls(len(wanted))
        found |= differing(other, mine[name].combine_chunks())
    return [wanted[i] for i in np.flatnonzero(found)]


def differing(left: pa.Array, right: pa.Array) -> npt.NDArray[np.bool_]:
    """Where two columns have different values, whatever their types. Null equals null, and NaN equals NaN."""
    one, two = (a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in (left, right))
    try:
        same = pc.fill_null(pc.equal(one, two), fill_value=False)
    except pa.ArrowException:
        # lists, and types that Arrow does not compare or not without loss: Python compares them one by one
        pairs = zip(one.to_pylist(), two.to_pylist(), strict=True)
        return np.array([a != b for a, b in pairs], dtype=bool)
    same = pc.or_(same, pc.and_(one.is_null(), two.is_null()))
    if pa.types.is_floating(one.type) and pa.types.is_floating(two.type):
        same = pc.or_(same, pc.and_(*(pc.fill_null(pc.is_nan(a), fill_value=False) for a in (one, two))))
    found: npt.NDArray[np.bool_] = pc.invert(same).to_numpy(zero_copy_only=False)
    return found


def compacted(draft: Commit, storage: Storage, most: int) -> Commit:
    """Tables of more than `most` parts with the last ones folded into one; the rows and their order stay.

    An append to a large table does not write it anew: the fold begins behind a part that has more rows than
    all of it. `most=1` folds every part.
    """

    def fold(tables: Mapping[str, tuple[Part, ...]], prefix: str) -> dict[str, tuple[Part, ...]]:
        folded = dict(tables)
        for name, parts in tables.items():
            if len(parts) > most:
                kept = _kept_parts(parts, most // 2)
                table = Table(storage, f"{prefix}{name}", parts[kept:], SUBJECT_SCHEMA)
                folded[name] = (*parts[:kept], write_part(storage, table.name, table.read()))
        return folded

    entries = tuple(
        dataclasses.replace(c, tables=fold(c.tables, f"{c.path.rsplit('/', 1)[-1]}/"))
        for c in draft.collections
    )
    return dataclasses.replace(draft, tables=fold(draft.tables, ""), collections=entries)


def _kept_parts(parts: Sequence[Part], fewer: int) -> int:
    """How many of the first parts, fewer than `fewer`, stand in front of a tail shorter than its last one."""
    rows = [part.rows for part in parts]
    longer = [n for n in range(1, min(fewer, len(parts))) if rows[n - 1] > sum(rows[n:])]
    return longer[-1] if longer else 0
