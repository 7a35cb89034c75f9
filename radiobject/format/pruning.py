"""Filters against a table: the columns that they need, the row groups that statistics exclude, the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from radiobject.errors import ExpressionError

__all__ = ["Pruner", "columns_of", "rows_where"]

_ROW = "_radiobject_row"

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def columns_of(filter: pc.Expression, schema: pa.Schema, where: str) -> list[str]:
    """Names of the columns that a pyarrow expression refers to, in the schema's order.

    Raises `ExpressionError` when it names others, is no condition, or compares what does not compare.
    """
    if "FieldPath(" in _QUOTED.sub("", str(filter)):
        raise ExpressionError(where, expected="columns by name", got=str(filter))
    if error := _refusal(filter, schema):
        raise ExpressionError(
            where, expected="a condition on its columns", got=str(error).splitlines()[0]
        ) from error
    needed: list[str] = []
    waiting = [list(schema.names)]
    while waiting:  # an expression does not tell its columns: leave some out, by halves, and see if it minds
        names = waiting.pop()
        left_out = set(names)
        rest = pa.schema([f for f in schema if f.name not in left_out])
        if names and _refusal(filter, rest):
            if len(names) == 1:
                needed += names
            else:
                waiting += [names[: len(names) // 2], names[len(names) // 2 :]]
    return sorted(needed, key=schema.names.index)


def rows_where(rows: pa.Table, filter: pc.Expression, where: str) -> npt.NDArray[np.int64]:
    """Positions of the rows where `filter` is true; null is not. Raises `ExpressionError` on overflow."""
    try:
        numbered = rows.append_column(_ROW, pa.array(np.arange(rows.num_rows)))
        kept = numbered.filter(filter)[_ROW]
    except pa.ArrowException as error:
        raise _uncomputable(where, error) from error
    positions: npt.NDArray[np.int64] = kept.to_numpy().astype(np.int64)
    return positions


_MAGIC = b"PAR1"  # with it in front, a footer is a Parquet file without pages


class Pruner:
    """What the statistics in one Parquet footer say about filters. Costs no read beyond the footer.

    `footer` is as it stands at the end of the file. Writing anew what was read of it (`write_metadata_file`)
    kills the process when a statistic is damaged.
    """

    def __init__(self, file: pq.ParquetFile, footer: bytes) -> None:
        self._schema: pa.Schema = file.schema_arrow
        self._fragment = ds.ParquetFileFormat().make_fragment(pa.py_buffer(_MAGIC + footer))

    def groups(self, filter: pc.Expression, columns: Sequence[pa.Field], where: str) -> list[int]:
        """Row groups that may hold rows which `filter` keeps; `columns` are those that it names."""
        if not all(self._can_exclude(field) for field in columns):
            return list(range(self._fragment.metadata.num_row_groups))
        try:
            kept = self._fragment.subset(filter=filter, schema=self._schema)
        except pa.ArrowException as error:
            raise _uncomputable(where, error) from error
        return [group.id for group in kept.row_groups]

    def _can_exclude(self, field: pa.Field) -> bool:
        # Statistics ignore NaN, for which `not (x < 1)` is true: no group may be left out by a float's. A
        # column that this part lacks, or has in another type, is not what the expression was made for.
        kind = field.type
        text = (pa.types.is_string, pa.types.is_large_string)  # the second is what pandas' text becomes
        sound = (pa.types.is_integer, pa.types.is_boolean, *text, pa.types.is_temporal)
        same = field.name in self._schema.names and self._schema.field(field.name).type == kind
        return same and any(test(kind) for test in sound)


def _refusal(filter: pc.Expression, schema: pa.Schema) -> pa.ArrowException | None:
    try:
        schema.empty_table().filter(filter)
    except pa.ArrowException as error:
        return error
    return None


def _uncomputable(where: str, error: pa.ArrowException) -> ExpressionError:
    return ExpressionError(where, expected="what can be computed", got=str(error).splitlines()[0])
