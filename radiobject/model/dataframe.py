"""Dataframe: obs and obs_meta as a user sees them. Columns are read when asked for, and only those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import SelectionError, UnknownIdError
from radiobject.format.tables import Table
from radiobject.model.expression import compile_expression

__all__ = ["Dataframe", "found_rows", "to_pandas", "visible_types"]


def _text(*values: pa.Array) -> pa.Array:
    rows = zip(*(v.to_pylist() for v in values), strict=True)
    return pa.array([f"({', '.join(str(x) for x in row if x is not None)})" for row in rows], pa.string())


_ALIASES: dict[str, tuple[str, ...]] = {
    "voxel_spacing": ("spacing_x", "spacing_y", "spacing_z"),
    "dimensions": ("dim_x", "dim_y", "dim_z", "dim_t"),
}
"""Text columns that other tools wrote; computed from the typed ones when asked for by name."""


class Dataframe:
    """A table of a study, or of a view of it. Reads go to Parquet column by column.

    `columns` leaves out what the engine keeps for itself (names that begin with `_`); the aliases
    `voxel_spacing` and `dimensions` can be read by name.
    """

    def __init__(self, table: Table, positions: npt.NDArray[np.int64] | None = None) -> None:
        self._table, self._positions = table, positions

    @property
    def columns(self) -> list[str]:
        """Names of the visible columns, in stored order."""
        return [n for n in self._table.schema.names if not n.startswith("_")]

    @property
    def dtypes(self) -> dict[str, str]:
        """Arrow type of each visible column."""
        return {n: str(self._table.schema.field(n).type) for n in self.columns}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and visible columns."""
        return len(self), len(self.columns)

    def to_arrow(
        self, columns: Sequence[str] | None = None, filter: str | pc.Expression | None = None
    ) -> pa.Table:
        """The rows as an Arrow table. `filter` is text such as "age > 40", or a pyarrow expression.

        Raises `UnknownIdError` for a column that is not there, `ExpressionError` for a filter that is wrong.
        """
        names = self.columns if columns is None else list(columns)
        available = set(self._table.schema.names)
        if unknown := [n for n in names if n not in available and n not in _ALIASES]:
            raise UnknownIdError(f"columns {unknown}", expected=f"some of {self.columns}")
        stored = [n for n in names if n in available]
        stored += [c for n in names if n not in available for c in _ALIASES[n] if c not in stored]
        positions = self._positions
        if filter is not None:
            found = found_rows(self._table, filter)
            positions = found if positions is None else positions[np.isin(positions, found)]
        rows = self._table.read(stored) if positions is None else self._table.rows(positions, stored)
        for name in names:
            if name not in available:
                rows = rows.append_column(name, _text(*(rows[c].combine_chunks() for c in _ALIASES[name])))
        return rows.select(names)

    def read(
        self, columns: Sequence[str] | None = None, filter: str | pc.Expression | None = None
    ) -> pd.DataFrame:
        """The rows as a pandas DataFrame; nullable, boolean, categorical and time columns keep their kind.

        `filter` and errors are those of `to_arrow`.
        """
        return to_pandas(self.to_arrow(columns, filter))

    def files(self) -> list[str]:
        """URLs of the Parquet parts, for pandas, DuckDB or Polars. A folder listing is not the table."""
        base = self._table.storage.location.uri
        return [f"{base}/{part.path}" for part in self._table.parts]

    def __len__(self) -> int:
        return self._table.num_rows if self._positions is None else len(self._positions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, column: str) -> Any:
        return self.read([column])[column]

    def __repr__(self) -> str:
        return repr(self.read([c for c in self.columns if c != "intensity_histogram"]))

    def _repr_html_(self) -> str:
        frame = self.read([c for c in self.columns if c != "intensity_histogram"])
        return str(frame.to_html(max_rows=20))


def visible_types(table: Table) -> dict[str, pa.DataType]:
    """Arrow types of the columns that are not the engine's own."""
    return {f.name: f.type for f in table.schema if not f.name.startswith("_")}


def found_rows(table: Table, filter: str | pc.Expression) -> npt.NDArray[np.int64]:
    """Positions of the rows that fit a filter expression, as text or pyarrow's, in order."""
    if isinstance(filter, str):
        filter = compile_expression(filter, visible_types(table), table=table.name.rsplit("/", 1)[-1])
    elif not isinstance(filter, pc.Expression):
        raise SelectionError("filter", expected="text or a pyarrow expression", got=type(filter).__name__)
    return table.find(filter)


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Arrow to pandas without loss: ints and booleans with nulls become nullable types, not floats."""
    frame = {}
    for name in rows.schema.names:
        column = rows[name]
        if column.null_count and (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
            bits = "boolean" if pa.types.is_boolean(column.type) else str(column.type).replace("int", "Int")
            frame[name] = column.to_pandas(
                types_mapper=lambda _, b=bits: pd.api.types.pandas_dtype(b.replace("u", "U"))
            )
        else:
            frame[name] = column.to_pandas()
    return pd.DataFrame(frame)
