"""Metadata: the tables a caller hands in (obs_meta, obs) as checked Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import MetadataError
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA
from radiobject.format.tables import Table
from radiobject.writing.frames import table_of, to_arrow

__all__ = ["as_replacements", "join_obs", "obs_of_rows", "refuse_subjects_without_row", "subject_frame"]


_OWN = ("obs_subject_id", "obs_id", "session", "run", "acquisition_time")


def subject_frame(frame: Any) -> pa.Table | None:
    """`obs_meta` as Arrow, one row a subject; None for None.

    Raises `MetadataError` for a missing or mixed column, `DuplicateIdError` for a subject listed twice.
    """
    return None if frame is None else to_arrow(frame, "obs_meta", "obs_subject_id")


def obs_of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A collection's volumes as a table: ids, session, run and acquisition_time in the types of obs, and what
    else the rows have; columns that are empty in all of them are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, Any] = {}
    for name in (*_OWN, *(n for n in names if n not in _OWN)):
        values = [row.get(name) for row in rows]
        if name in _OWN:
            columns[name] = pa.array(values, OBS_SCHEMA.field(name).type)
        elif any(value is not None for value in values):
            columns[name] = values
    return pa.table(columns)


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
    frame = table_of(frame, what)
    names = frame.schema.names if isinstance(frame, pa.Table) else [*frame.columns, frame.index.name]
    key = "obs_id" if "obs_id" in names else "obs_subject_id"
    extra = to_arrow(frame, what, key)
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


def as_replacements(rows: pa.Table, held: Table) -> pa.Table:
    """Rows that are to stand in place of those that `held` has of the same volumes.

    Session, run and time stay where the new source says nothing. What held rows say of a function that made
    them is no longer true. Columns that the new rows lack are left to whoever exchanges them.
    """
    own = [n for n in ("session", "run", "acquisition_time") if n in held.schema.names]
    before = held.read(["obs_id", *own])
    at = pc.index_in(rows["obs_id"].combine_chunks(), value_set=before["obs_id"].combine_chunks())
    for name in own:
        field = rows.schema.field(name)
        kept = pc.coalesce(rows[name].combine_chunks(), before[name].combine_chunks().take(at))
        rows = rows.set_column(rows.schema.get_field_index(name), field, kept)
    for field in DERIVED_SCHEMA:
        if field.name in held.schema.names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
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
