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
    """The volume rows with the caller's columns joined by obs_id, or by obs_subject_id.

    Raises `MetadataError` for columns that ingest fills itself, and where both ids are given and contradict
    the images.
    """
    what = f"obs[{collection!r}]"
    frame = _table_of(frame, what)
    names = frame.schema.names if isinstance(frame, pa.Table) else [*frame.columns, frame.index.name]
    key = "obs_id" if "obs_id" in names else "obs_subject_id"
    extra = _to_arrow(frame, what, key)
    own = {"session", "run", "acquisition_time"}
    names = [n for n in extra.schema.names if n not in ("obs_id", "obs_subject_id")]
    if clash := [n for n in names if n in OBS_SCHEMA.names and n not in own]:
        raise MetadataError(
            what,
            expected="column names that ingest does not fill",
            got=str(clash),
            hint="Rename them.",
        )
    where = {value: row for row, value in enumerate(extra[key].to_pylist())}
    found = [where.get(i) for i in rows[key].to_pylist()]
    if key == "obs_id" and "obs_subject_id" in extra.schema.names:
        _check_owners(rows, extra["obs_subject_id"].to_pylist(), found, what)
    picks = pa.array(found, pa.int64())
    for name in names:
        column = extra[name].combine_chunks().take(picks)
        if name in own:
            field = OBS_SCHEMA.field(name)
            given = _cast(column, field, collection)
            # what the file name says stays where the table says nothing
            rows = rows.set_column(
                rows.schema.get_field_index(name), field, pc.coalesce(given, rows[name].combine_chunks())
            )
        else:
            rows = rows.append_column(name, column)
    return rows


def _check_owners(rows: pa.Table, owners: list[Any], found: list[int | None], what: str) -> None:
    for obs_id, subject, row in zip(
        rows["obs_id"].to_pylist(), rows["obs_subject_id"].to_pylist(), found, strict=True
    ):
        if row is not None and owners[row] != subject:
            raise MetadataError(
                f"{what} row {obs_id!r}", expected=f"obs_subject_id {subject!r}", got=repr(owners[row])
            )


def _cast(column: pa.Array, field: pa.Field, collection: str) -> pa.Array:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise MetadataError(
            f"obs[{collection!r}] column {field.name!r}", expected=str(field.type), got=str(column.type)
        ) from error


def _table_of(frame: Any, what: str) -> Any:
    """A DataFrame or an Arrow table, also from a dictionary of columns."""
    if isinstance(frame, Mapping):
        try:
            return pd.DataFrame(frame)
        except ValueError as error:
            raise MetadataError(what, expected="columns of one length", got=str(error)) from error
    if not isinstance(frame, pd.DataFrame | pa.Table):
        raise MetadataError(what, expected="a pandas DataFrame or Arrow table", got=type(frame).__name__)
    return frame


def _to_arrow(frame: Any, what: str, key: str) -> pa.Table:
    frame = _table_of(frame, what)
    if isinstance(frame, pd.DataFrame):
        if key not in frame.columns and frame.index.name == key:
            frame = frame.reset_index()
        if any(not isinstance(c, str) for c in frame.columns):
            raise MetadataError(what, expected="column names as text", got=repr(list(frame.columns))[:80])
        if twice := sorted(frame.columns[frame.columns.duplicated()]):
            raise MetadataError(what, expected="each column once", got=f"{twice} twice")
        table = pa.table({str(c): _column(frame[c], f"{what} column {c!r}") for c in frame.columns})
    else:
        table = frame.replace_schema_metadata(None)
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
