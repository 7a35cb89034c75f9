"""Frames: the tables that callers hand in, as Arrow tables with a checked key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import DuplicateIdError, MetadataError

__all__ = ["table_of", "to_arrow"]


def table_of(frame: Any, what: str) -> Any:
    """A DataFrame or an Arrow table, also from a dictionary of columns."""
    if isinstance(frame, Mapping):
        try:
            return pd.DataFrame(frame)
        except ValueError as error:
            raise MetadataError(what, expected="columns of one length", got=str(error)) from error
    if not isinstance(frame, pd.DataFrame | pa.Table):
        raise MetadataError(what, expected="a pandas DataFrame or Arrow table", got=type(frame).__name__)
    return frame


def to_arrow(frame: Any, what: str, key: str) -> pa.Table:
    """A DataFrame, Arrow table or mapping of columns as Arrow, the key first; pandas types are kept.

    Raises `MetadataError` for a missing key, a mixed or a hidden column, `DuplicateIdError` for a key listed
    twice. `what` names the table in them.
    """
    frame = table_of(frame, what)
    if isinstance(frame, pd.DataFrame):
        if key not in frame.columns and frame.index.name == key:
            frame = frame.reset_index()
        if any(not isinstance(c, str) for c in frame.columns):
            raise MetadataError(what, expected="column names as text", got=repr(list(frame.columns))[:80])
        _refuse_twice(frame.columns, what)
        table = pa.table({str(c): _column(frame[c], f"{what} column {c!r}") for c in frame.columns})
    else:
        _refuse_twice(frame.column_names, what)
        table = frame.replace_schema_metadata(None)
    if key not in table.schema.names:
        raise MetadataError(what, expected=f"a column {key!r}", got=str(table.schema.names))
    if hidden := [n for n in table.schema.names if n.startswith("_") or n == "obs_ids"]:
        raise MetadataError(what, expected="columns without a leading _, and no obs_ids", got=str(hidden))
    return _checked_key(table, what, key)


def _refuse_twice(names: Iterable[str], what: str) -> None:
    if twice := sorted(name for name, n in Counter(names).items() if n > 1):
        raise MetadataError(what, expected="each column once", got=f"{twice} twice")


def _column(series: Any, what: str) -> pa.Array:
    try:
        array = pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MetadataError(
            what, expected="values of one type", got=str(error).splitlines()[0], hint="Cast the column."
        ) from error
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if pa.types.is_dictionary(array.type):
        # pandas takes the narrowest codes; later rows may bring more categories than those can count
        array = array.cast(pa.dictionary(pa.int32(), array.type.value_type, array.type.ordered))
    return array


def _checked_key(table: pa.Table, what: str, key: str) -> pa.Table:
    column = table[key]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise MetadataError(
            f"{what} column {key!r}",
            expected="text",
            got=str(column.type),
            hint="Use .astype(str): 7 and '07' would not be the same subject.",
        )
    if column.null_count or pc.any(pc.equal(column, "")).as_py():
        raise MetadataError(f"{what} column {key!r}", expected="an id in every row", got="empty ones")
    counts = pc.value_counts(column).to_pylist()
    if twice := [c["values"] for c in counts if c["counts"] > 1]:
        raise DuplicateIdError(
            f"{what}: {key} {twice[:5]}", expected="one row each", got=f"{len(twice)} repeated"
        )
    rest = [n for n in table.schema.names if n != key]
    field = pa.field(key, pa.string(), nullable=False)
    return pa.table(
        [column.cast(pa.string()), *(table[n] for n in rest)],
        schema=pa.schema([field, *(table.schema.field(n) for n in rest)]),
    )
