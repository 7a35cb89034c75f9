"""Table changes: what a caller wants done to the rows and columns of obs or obs_meta, checked against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject.errors import MetadataError, UnknownColumnError, UnknownIdError
from radiobject.format.rows import NewColumn, differing_rows, select_rows
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA
from radiobject.format.tables import Table
from radiobject.model.aliases import Aliases
from radiobject.writing.columns import OWN_COLUMNS, column_types
from radiobject.writing.fitting import categories_of, fitted
from radiobject.writing.frames import to_arrow

__all__ = ["Changing", "TableChange", "dropped_column", "new_column", "updated_rows"]

_KEYS = ("obs_subject_id", "obs_id")
_ENGINE = {*OBS_SCHEMA.names, *DERIVED_SCHEMA.names} - {*_KEYS, *OWN_COLUMNS}
_TAKEN = {*_ENGINE, *Aliases(OBS_SCHEMA.names, "").types}
_SEQUENCES = (
    list, tuple, np.ndarray, pd.Index, pd.api.extensions.ExtensionArray, pa.Array, pa.ChunkedArray
)  # fmt: skip


@dataclass(frozen=True)
class TableChange:
    """What to do to one table: rows to set or add by key, columns to add, columns to drop."""

    updated: pa.Table | None = None
    added_columns: tuple[NewColumn, ...] = ()
    dropped_columns: frozenset[str] = frozenset()


Changing = Callable[[str, Callable[[Table], TableChange | None], str], Table]
"""Takes an operation's name, what is to be changed given the table as it stands (None for nothing), and a
message; commits that, and gives the table as it is afterwards.
"""


def updated_rows(table: Table, frame: Any, what: str) -> TableChange | None:
    """Set the rows of `frame` by key; those of unknown subjects are new rows. None when nothing differs.

    Only rows that differ are taken, so that another writer's change of the others stays. See
    `Dataframe.update` for the errors.
    """
    rows = to_arrow(frame, what, table.key)
    known = set(table.ids())
    ids = rows[table.key].to_pylist()
    if table.key == "obs_id":
        if missing := [i for i in ids if i not in known]:
            raise UnknownIdError(
                f"{what}: obs_id {missing[:5]}",
                expected="volumes of the collection",
                got=f"{len(missing)} unknown",
                hint="update() makes no volumes; append(...) does.",
            )
        rows = _without_subjects(table, rows, what)
    rows = _in_stored_types(table, rows, what)
    differing = set(differing_rows(table, rows, [i for i in ids if i in known]))
    chosen = [i for i in ids if i not in known or i in differing]
    return TableChange(updated=select_rows(rows, chosen, table.key)) if chosen else None


def _without_subjects(table: Table, rows: pa.Table, what: str) -> pa.Table:
    """The rows without obs_subject_id, which must say what the table says."""
    if "obs_subject_id" not in rows.schema.names:
        return rows
    text = rows.set_column(
        rows.schema.get_field_index("obs_subject_id"),
        "obs_subject_id",
        fitted(rows["obs_subject_id"], pa.string(), f"{what} column 'obs_subject_id'"),
    )
    if wrong := differing_rows(table, text.select(["obs_id", "obs_subject_id"]), rows["obs_id"].to_pylist()):
        raise MetadataError(
            f"{what} rows {wrong[:5]}",
            expected="the obs_subject_id that the study holds",
            got="another",
            hint="A volume keeps its subject; leave the column out.",
        )
    return rows.drop_columns(["obs_subject_id"])


def _in_stored_types(table: Table, rows: pa.Table, what: str) -> pa.Table:
    names = [n for n in rows.schema.names if n != table.key]
    if table.key == "obs_id" and (engine := [n for n in names if n in _ENGINE]):
        raise MetadataError(
            what,
            expected="columns that the engine does not fill itself",
            got=str(engine),
            hint="Leave them out: they say what is stored.",
        )
    if unknown := [n for n in names if n not in table.schema.names]:
        raise MetadataError(
            what,
            expected=f"columns that it has: {[n for n in table.schema.names if not n.startswith('_')]}",
            got=str(unknown),
            hint="Make a new one with add_column(name, ...).",
        )
    for name in names:
        kind = table.schema.field(name).type
        categories = categories_of(table.read([name])[name])
        values = fitted(rows[name], kind, f"{what} column {name!r}", categories)
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows


def new_column(table: Table, name: str, dtype: Any, fill: Any, values: Any, what: str) -> TableChange:
    """A column for all rows. See `Dataframe.add_column` for the arguments and errors."""
    _check_new_name(table, name, what)
    ids, column = (table.ids(), None) if values is None else _given(table, values, f"{what} column {name!r}")
    given = None if column is None else _keyed(table, name, ids, column, what)
    filler = pa.nulls(1)
    if fill is not None:
        filler = _keyed(table, name, ["-"], [fill], what)[name].combine_chunks()
    kind, categories = _settled(name, dtype, given, filler, what)
    filler = fitted(filler, kind, f"{what} column {name!r}", categories)
    if given is not None:
        fitting = fitted(given[name], kind, f"{what} column {name!r}", categories)
        given = given.set_column(given.schema.get_field_index(name), name, fitting)
    return TableChange(added_columns=(NewColumn(name, filler, given),))


def _check_new_name(table: Table, name: Any, what: str) -> None:
    if not isinstance(name, str) or not name or name.startswith("_") or name == "obs_ids":
        raise MetadataError(
            what, expected="a column name as text, no leading _, and not obs_ids", got=repr(name)
        )
    if name in table.schema.names:
        raise MetadataError(
            f"{what} column {name!r}",
            expected="a new name",
            got=f"one that exists, of type {table.schema.field(name).type}",
            hint="Set its values with update(...).",
        )
    if name in _KEYS or (table.key == "obs_id" and name in _TAKEN):
        raise MetadataError(
            f"{what} column {name!r}", expected="a name that the engine does not use", got="one that it uses"
        )


def _given(table: Table, values: Any, what: str) -> tuple[list[Any], Any]:
    """The ids of the rows that `values` names, or all in their order, and one value for each."""
    if isinstance(values, Mapping | pd.Series):
        ids = list(values.keys())
        if wrong := [i for i in ids if not isinstance(i, str)]:
            raise MetadataError(
                what,
                expected=f"values by {table.key}",
                got=f"values by {wrong[0]!r}",
                hint="For values in the order of the rows pass a list or an array.",
            )
        if unknown := sorted(set(ids) - set(table.ids())):
            raise UnknownIdError(
                f"{what}: {table.key} {unknown[:5]}",
                expected="ids of its rows",
                got=f"{len(unknown)} unknown",
            )
        return ids, values.array if isinstance(values, pd.Series) else list(values.values())
    if not isinstance(values, _SEQUENCES):
        raise MetadataError(
            what,
            expected=f"values by {table.key}, or a sequence of one value a row",
            got=type(values).__name__,
            hint="fill= gives every row the same value.",
        )
    if len(values) != table.num_rows:
        raise MetadataError(what, expected=f"{table.num_rows} values, one a row", got=str(len(values)))
    return table.ids(), values


def _keyed(table: Table, name: str, ids: list[str], column: Any, what: str) -> pa.Table:
    """Ids and values as a table of two columns; Python's own values keep their kind, also beside None."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return to_arrow(pa.table({table.key: pa.array(ids, pa.string()), name: column}), what, table.key)
    if isinstance(column, list | tuple):
        column = pd.Series(list(column), dtype=object)
    return to_arrow({table.key: pd.array(ids, dtype="string"), name: column}, what, table.key)


def _settled(
    name: str, dtype: Any, given: pa.Table | None, filler: pa.Array, what: str
) -> tuple[pa.DataType, pa.Array | None]:
    """The column's type, and its categories where they are given."""
    if dtype is not None:
        kind = _type(name, dtype, what)
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories is not None:
            return kind, pa.array(dtype.categories, kind.value_type, from_pandas=True)
        return kind, None
    for column in (None if given is None else given[name], pa.chunked_array([filler])):
        if column is not None and not pa.types.is_null(column.type):
            return column.type, categories_of(column)
    raise MetadataError(
        f"{what} column {name!r}",
        expected="a dtype, or values or a fill that tell it",
        got="none",
        hint='Pass dtype=, such as "str" or "Int64".',
    )


def _type(name: str, dtype: Any, what: str) -> pa.DataType:
    try:
        kind = column_types({name: dtype}, what)[name]
    except MetadataError as error:
        # "date32", "timestamp[ms]": names that only Arrow knows
        try:
            kind = pa.type_for_alias(dtype)
        except (TypeError, ValueError):
            raise error from None
    if isinstance(kind, pa.BaseExtensionType):
        raise MetadataError(f"{what} column {name!r}", expected="a type that Parquet keeps", got=str(kind))
    return kind


def dropped_column(table: Table, name: str, what: str) -> TableChange:
    """One column less. See `Dataframe.drop_column` for the errors."""
    if not isinstance(name, str) or name.startswith("_") or name not in table.schema.names:
        raise UnknownColumnError(
            f"{what} column {name!r}",
            expected=f"one of {[n for n in table.schema.names if not n.startswith('_')]}",
        )
    if name == table.key or (table.key == "obs_id" and name in {*_KEYS, *_ENGINE, *OWN_COLUMNS}):
        raise MetadataError(
            f"{what} column {name!r}",
            expected="a column of your own",
            got="one that the model needs",
            hint="Its values can be set to null with update(...)." if name in OWN_COLUMNS else None,
        )
    return TableChange(dropped_columns=frozenset({name}))
