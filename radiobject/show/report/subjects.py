"""Subjects: what each column of `obs_meta` holds, without the values that could say who somebody is."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["CATEGORIES", "Column", "summaries"]

CATEGORIES = 12
"""Most values that are told one by one, and only where they occur twice on average."""


@dataclass(frozen=True)
class Column:
    """One column: its type ("text" or Arrow's name), values missing, and what the others are."""

    name: str
    type: str
    missing: int
    content: str


def summaries(table: pa.Table) -> list[Column]:
    """One line a column of `obs_meta`.

    Of numbers the range and the median, to three digits: a record number does not show. Of dates the years.
    Of few values that repeat each one with its count; of all others how many different ones there are.

    >>> table = pa.table({"age": [61, 47, 70, 55], "dx": ["AD", "AD", "CN", "CN"], "name": list("abcd")})
    >>> [column.content for column in summaries(table)]
    ['47 to 70, median 58', 'AD 2, CN 2', '4 different']
    """
    return [_summary(table.schema.field(i), table.column(i)) for i in range(table.num_columns)]


def _summary(field: pa.Field, column: pa.ChunkedArray) -> Column:
    kind, values = field.type, column.drop_null()
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = values.cast(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return Column(
        field.name,
        "text" if text else str(kind),
        column.null_count,
        _content(kind, values) if len(values) else "none",
    )


def _content(kind: pa.DataType, values: pa.ChunkedArray) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.cast(pa.float64())
        ends = pc.min_max(numbers)
        middle = pc.approximate_median(numbers).as_py()
        return f"{_number(ends['min'])} to {_number(ends['max'])}, median {middle:.3g}"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        ends = pc.min_max(pc.year(values))
        return f"years {ends['min']} to {ends['max']}"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)):
        return "values"
    counts = sorted(((c["counts"], c["values"]) for c in pc.value_counts(values).to_pylist()), key=_by_count)
    if len(counts) > CATEGORIES or len(counts) * 2 > len(values):
        return f"{len(counts):,} different"
    return ", ".join(f"{value} {count:,}" for count, value in counts)


def _number(value: pa.Scalar) -> str:
    return f"{value.as_py():.3g}"


def _by_count(counted: tuple[int, object]) -> tuple[int, str]:
    return -counted[0], str(counted[1])
