"""Metadata: the tables a caller hands in (obs_meta, obs) as checked Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import DuplicateIdError, MetadataError
from radiobject.format.schema import OBS_SCHEMA

__all__ = ["join_obs", "refuse_subjects_without_row", "subject_frame"]


def subject_frame(frame: Any) -> pa.Table | None:
    """`obs_meta` as Arrow, one row a subject; None for None.

    Raises `MetadataError` for a missing or mixed column, `DuplicateIdError` for a subject listed twice.
    """
    return None if frame is None else _to_arrow(frame, "obs_meta", "obs_subject_id")


def refuse_subjects_without_row(used: Iterable[str], rows: Iterable[str]) -> None:
    """Raise `MetadataError` when a subject that has images has no row."""
    have = set(rows)
    if missing := [s for s in dict.fromkeys(used) if s not in have]:
        raise MetadataError(
            f"obs_meta: subjects {missing[:5]}",
            expected="a row for every subject that has images",
            got=f"{len(missing)} without one",
            hint="Add the rows to obs_meta=, or drop these sources.",
        )


def join_obs(rows: pa.Table, frame: Any, collection: str) -> pa.Table:
    """The volume rows with the caller's columns joined by obs_id, or by obs_subject_id."""
    key = "obs_id" if "obs_id" in _columns(frame) else "obs_subject_id"
    extra = _to_arrow(frame, f"obs[{collection!r}]", key)
    own = {"session", "run", "acquisition_time"}
    names = [n for n in extra.schema.names if n not in ("obs_id", "obs_subject_id")]
    if clash := [n for n in names if n in OBS_SCHEMA.names and n not in own]:
        raise MetadataError(
            f"obs[{collection!r}]",
            expected="column names that ingest does not fill",
            got=str(clash),
            hint="Rename them.",
        )
    where = {value: row for row, value in enumerate(extra[key].to_pylist())}
    picks = pa.array([where.get(i) for i in rows[key].to_pylist()], pa.int64())
    for name in names:
        column = extra[name].combine_chunks().take(picks)
        if name in own:
            field = OBS_SCHEMA.field(name)
            rows = rows.set_column(rows.schema.get_field_index(name), field, _cast(column, field, collection))
        else:
            rows = rows.append_column(name, column)
    return rows


def _cast(column: pa.Array, field: pa.Field, collection: str) -> pa.Array:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise MetadataError(
            f"obs[{collection!r}] column {field.name!r}", expected=str(field.type), got=str(column.type)
        ) from error


def _columns(frame: Any) -> Iterable[str]:
    return frame.schema.names if isinstance(frame, pa.Table) else [*frame.columns, frame.index.name]


def _to_arrow(frame: Any, what: str, key: str) -> pa.Table:
    if isinstance(frame, Mapping):
        frame = pd.DataFrame(frame)
    if isinstance(frame, pd.DataFrame):
        if key not in frame.columns and frame.index.name == key:
            frame = frame.reset_index()
        if any(not isinstance(c, str) for c in frame.columns):
            raise MetadataError(what, expected="column names as text", got=repr(list(frame.columns))[:80])
        table = pa.table({str(c): _column(frame[c], f"{what} column {c!r}") for c in frame.columns})
    elif isinstance(frame, pa.Table):
        table = frame.replace_schema_metadata(None)
    else:
        raise MetadataError(what, expected="a pandas DataFrame or Arrow table", got=type(frame).__name__)
    if key not in table.schema.names:
        raise MetadataError(what, expected=f"a column {key!r}", got=str(table.schema.names))
    if hidden := [n for n in table.schema.names if n.startswith("_") or n == "obs_ids"]:
        raise MetadataError(what, expected="columns without a leading _, and no obs_ids", got=str(hidden))
    return _checked_key(table, what, key)


def _column(series: Any, what: str) -> pa.Array:
    try:
        array = pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MetadataError(
            what, expected="values of one type", got=str(error).splitlines()[0], hint="Cast the column."
        ) from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


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
