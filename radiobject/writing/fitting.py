"""Fitting: a column that a caller hands in, in the type that a table has for it, without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import MetadataError
from radiobject.format.rows import differing

__all__ = ["categories_of", "fitted"]


def fitted(
    column: pa.Array | pa.ChunkedArray, kind: pa.DataType, what: str, categories: pa.Array | None = None
) -> pa.Array:
    """The column as `kind`, every value the same as before. `what` names it in errors.

    Numbers become other numbers, text text or a category, times times of another unit or zone; what would be
    rounded, cut, or read as another kind of thing is `MetadataError`. `categories` are those that a
    categorical column has: new ones come after them, but not into an ordered column.

    >>> fitted(pa.array([1.0, None]), pa.int32(), "age").to_pylist()
    [1, None]
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_dictionary(kind):
        return _coded(fitted(array, kind.value_type, what), kind, what, categories)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_null(kind) or array.type == kind:
        return array
    if not _one_sort(array.type, kind):
        raise _misfit(what, kind, array, None)
    try:
        cast = array.cast(kind)
    except pa.ArrowException as error:
        raise _misfit(what, kind, array, _first_lost(array, kind)) from error
    if (lost := _lost(array, cast)) is not None:
        raise _misfit(what, kind, array, lost)
    return cast


def categories_of(column: pa.ChunkedArray) -> pa.Array | None:
    """The categories of a stored column in their order; None for a column that has none."""
    if not pa.types.is_dictionary(column.type):
        return None
    chunks = column.unify_dictionaries().chunks
    return chunks[0].dictionary if chunks else pa.array([], column.type.value_type)


def _coded(values: pa.Array, kind: pa.DataType, what: str, categories: pa.Array | None) -> pa.Array:
    known = pa.array([], kind.value_type) if categories is None else categories
    new = [v for v in pc.unique(values.drop_null()).to_pylist() if v not in set(known.to_pylist())]
    if new and kind.ordered and categories is not None:
        raise MetadataError(
            what,
            expected=f"categories of the ordered column ({', '.join(map(repr, known.to_pylist()))})",
            got=", ".join(map(repr, new[:5])),
            hint="Where a new one stands in their order is not known.",
        )
    everything = pa.concat_arrays([known.cast(kind.value_type), pa.array(new, kind.value_type)])
    codes = pc.index_in(values, value_set=everything).cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, everything, ordered=kind.ordered)


def _sort(kind: pa.DataType) -> str:
    """What a type holds: values of one sort may be cast to each other."""
    types = pa.types
    sorts = {
        "truth": types.is_boolean,
        "number": lambda t: types.is_integer(t) or types.is_floating(t) or types.is_decimal(t),
        "text": lambda t: types.is_string(t) or types.is_large_string(t) or types.is_string_view(t),
        "bytes": lambda t: types.is_binary(t) or types.is_large_binary(t) or types.is_fixed_size_binary(t),
        # a time without a zone is no moment: which one it means is not ours to guess
        "moment": lambda t: types.is_timestamp(t) and t.tz is not None,
        "date": lambda t: types.is_timestamp(t) or types.is_date(t),
        "clock": types.is_time,
        "span": types.is_duration,
    }
    for name, test in sorts.items():
        if test(kind):
            return name
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"list of {_sort(kind.value_type)}"
    return str(kind)


def _one_sort(one: pa.DataType, two: pa.DataType) -> bool:
    empty_lists = _sort(one) == "list of null" and _sort(two).startswith("list of ")
    return empty_lists or _sort(one) == _sort(two)


def _lost(before: pa.Array, after: pa.Array) -> Any:
    """The first value that a cast changed, None when it changed none."""
    if _same_values(before.type, after.type):
        return None
    try:
        back = after.cast(before.type)
    except pa.ArrowException:
        back = after
    changed = np.flatnonzero(differing(before, back))
    return before[int(changed[0])].as_py() if len(changed) else None


def _same_values(one: pa.DataType, two: pa.DataType) -> bool:
    """Whether two types hold the same values and differ in how they lie in memory only."""
    if _sort(one) in ("text", "bytes", "moment", "clock", "span"):
        return True  # a cast that lost anything of these would have failed
    nested = hasattr(one, "value_type") and hasattr(two, "value_type")
    return nested and (one.value_type == two.value_type or _same_values(one.value_type, two.value_type))


def _first_lost(array: pa.Array, kind: pa.DataType) -> Any:
    """The first value that cannot be cast, for the message."""
    for value in array:
        try:
            value.cast(kind)
        except pa.ArrowException:
            return value.as_py()
    return None


def _misfit(what: str, kind: pa.DataType, array: pa.Array, value: Any) -> MetadataError:
    example = value if value is not None else next((v.as_py() for v in array if v.is_valid), None)
    return MetadataError(
        what,
        expected=f"values of type {kind}, as the column has",
        got=f"{array.type}, such as {example!r:.60}",
        hint="Cast them first, or put them into a column of their own with add_column(...).",
    )
