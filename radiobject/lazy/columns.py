"""Columns: table columns as coordinates, in types that xarray computes with and writes to files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from radiobject.errors import SelectionError, UnknownIdError
from radiobject.format.tables import Table

__all__ = ["chosen_columns", "column_coords", "fits", "refuse_unknown", "subject_rows"]

_EXACT = 2**53
"""Integers beyond it are not all float64 numbers."""


def fits(kind: pa.DataType) -> bool:
    """Whether a column of that type becomes a coordinate: one plain value a row."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (
        pa.types.is_nested(value)
        or pa.types.is_binary(value)
        or pa.types.is_large_binary(value)
        or pa.types.is_fixed_size_binary(value)
        or pa.types.is_time(value)
        or pa.types.is_null(value)
    )


def chosen_columns(schema: pa.Schema, wanted: Sequence[str] | None) -> list[str]:
    """The columns of a table that become coordinates: those wanted, or every visible one that can be.

    Raises `SelectionError` for one that is wanted and cannot be.
    """
    names = [f.name for f in schema if not f.name.startswith("_") and fits(f.type)]
    if wanted is None:
        return names
    for field in schema:
        if field.name in wanted and field.name not in names:
            raise SelectionError(
                f"column {field.name!r} as a coordinate",
                expected="one plain value a row",
                got=str(field.type),
            )
    return [name for name in names if name in wanted]


def refuse_unknown(wanted: Sequence[str] | None, *schemas: pa.Schema) -> None:
    """Raise `UnknownIdError` for columns that none of the tables has."""
    known = list(dict.fromkeys(n for schema in schemas for n in schema.names if not n.startswith("_")))
    if unknown := [name for name in wanted or () if name not in known]:
        raise UnknownIdError(f"columns {unknown}", expected=f"some of {known}")


def subject_rows(subjects: Table, columns: list[str], ids: pa.ChunkedArray) -> pa.Table:
    """The columns of the subject table, one row for each of `ids`; one read of the table."""
    rows = subjects.read(list(dict.fromkeys([subjects.key, *columns])))
    at = pc.index_in(ids.combine_chunks(), value_set=rows[subjects.key].combine_chunks())
    return rows.select(columns).take(at)


def column_coords(rows: pa.Table, dim: str, taken: Iterable[str]) -> dict[str, xr.Variable]:
    """A coordinate along `dim` for each column that has any value; `taken` names get `obs_` in front.

    Text and categories become objects, integers and booleans with gaps float64, decimals float64, times and
    days datetime64 (UTC). What is missing is NaN or NaT.
    """
    coords: dict[str, xr.Variable] = {}
    used = {*taken, *rows.schema.names}
    for name in rows.schema.names:
        column = rows[name]
        if column.null_count == len(column):
            continue
        label = name
        while label in taken or (label != name and label in used):
            label = f"obs_{label}"
        coords[label] = xr.Variable((dim,), _values(column))
    return coords


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s"))
    elif pa.types.is_decimal(kind) or (pa.types.is_boolean(kind) and column.null_count):
        column = column.cast(pa.float64())
    elif (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or (pa.types.is_integer(kind) and column.null_count and _large(column))
    ):
        return np.array(column.to_pylist(), dtype=object)
    found: npt.NDArray[np.generic] = column.to_numpy()  # of times with a zone, UTC
    return found


def _large(column: pa.ChunkedArray) -> bool:
    bounds = pc.min_max(column).as_py()
    return bool(max(abs(bounds["min"]), abs(bounds["max"])) > _EXACT)
