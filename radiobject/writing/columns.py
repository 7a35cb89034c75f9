"""Columns: values that functions and writers attach to volumes, gathered into typed columns."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject.errors import MetadataError
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA

__all__ = ["OWN_COLUMNS", "Columns", "column_types", "plain_value"]

OWN_COLUMNS = frozenset({"session", "run", "acquisition_time"})
"""Columns of the model that a caller fills; all others of the volume table are the engine's."""

_KINDS = (bool, int, float, str, bytes, datetime.datetime, datetime.date, datetime.timedelta)
_EXACT = 2**53
_TYPES: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.datetime: pa.timestamp("us"),
    datetime.date: pa.date32(),
    datetime.timedelta: pa.duration("us"),
}


class Columns:
    """Rows of named values, one a volume; a column's type is settled over all rows, what is missing is null.

    Integers and floats together are floats; a column of nothing but nulls is left out. Mixing other kinds is
    an error at the row that does it, not after a night's run. `types` settles columns beforehand; those are
    there even when no volume has a value. Times are kept to the microsecond.

    >>> gathered = Columns("obs")
    >>> gathered.add("a", {"volume_ml": 1})
    >>> gathered.add("b", {"volume_ml": 0.5, "note": "small"})
    >>> gathered.table(["a", "b", "c"]).to_pydict()
    {'volume_ml': [1.0, 0.5, None], 'note': [None, 'small', None]}
    """

    def __init__(self, what: str, types: Mapping[str, pa.DataType] | None = None) -> None:
        self._what = what
        for name in types or {}:
            _check_name(name, what)
        self._fixed = {**(types or {}), **{n: OBS_SCHEMA.field(n).type for n in OWN_COLUMNS}}
        self._promised = tuple(types or ())
        self._rows: dict[str, dict[str, Any]] = {}
        # name -> type so far, and the volume whose value settled it
        self._found: dict[str, tuple[pa.DataType, str]] = {}

    def check(self, obs_id: str, values: Mapping[str, Any]) -> None:
        """Raise what `add` would, and keep nothing: for a look before the voxels are written."""
        self._settled(obs_id, self._plain(obs_id, values))

    def add(self, obs_id: str, values: Mapping[str, Any]) -> None:
        """Take the values of a volume. `MetadataError` for a name or a value that cannot be a column's."""
        row = self._plain(obs_id, values)
        self._found.update(self._settled(obs_id, row))
        self._rows[obs_id] = row

    def _plain(self, obs_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {}
        for name, value in values.items():
            _check_name(name, f"{self._what} of {obs_id!r}")
            row[name] = plain_value(value, f"{self._what} of {obs_id!r}, column {name!r}")
        return row

    def _settled(self, obs_id: str, row: Mapping[str, Any]) -> dict[str, tuple[pa.DataType, str]]:
        return {n: self._settle(n, v, obs_id) for n, v in row.items() if v is not None}

    def _settle(self, name: str, value: Any, obs_id: str) -> tuple[pa.DataType, str]:
        """The column's type once it holds this value, and who first had a value of that kind."""
        what = f"{self._what} of {obs_id!r}, column {name!r}"
        kind = _type_of(value, what)
        if name in self._fixed:
            wanted = self._fixed[name]
            if not _fits(kind, wanted, value):
                raise MetadataError(what, expected=str(wanted), got=f"{kind}: {value!r:.40}")
            _type_of(value, what, wanted)
            return wanted, obs_id
        held, first = self._found.get(name, (kind, obs_id))
        joined = _joined(held, kind)
        if joined is None:
            raise MetadataError(
                f"{self._what} column {name!r}",
                expected=f"{held}, as volume {first!r} has",
                got=f"{kind} for {obs_id!r}: {value!r:.40}",
                hint="Give every volume a value of one type, or None.",
            )
        if joined != kind:
            _type_of(value, what, joined)
        if joined != held:
            for other, row in self._rows.items():
                if row.get(name) is not None:
                    _type_of(row[name], f"{self._what} of {other!r}, column {name!r}", joined)
        return joined, first

    @property
    def names(self) -> list[str]:
        """The promised columns, then, as they first appeared, those that are not null everywhere."""
        seen = dict.fromkeys(n for row in self._rows.values() for n in row)
        return [*self._promised, *(n for n in seen if n in self._found and n not in self._promised)]

    def table(self, obs_ids: Iterable[str]) -> pa.Table:
        """The columns for these volumes, in this order."""
        ids = list(obs_ids)
        columns = {}
        for name in self.names:
            values = [self._rows.get(i, {}).get(name) for i in ids]
            kind = self._fixed.get(name) or self._found[name][0]
            columns[name] = pa.array(values, kind)
        return pa.table(columns) if columns else pa.table({"obs_id": ids}).select([])


def column_types(schema: Mapping[str, Any] | None, what: str) -> dict[str, pa.DataType]:
    """`{column: dtype}` as Arrow types; a dtype is Arrow's, NumPy's, pandas', or a Python type.

    >>> column_types({"age": "int16", "site": str, "dx": "category"}, "obs_schema")["site"]
    DataType(string)
    """
    if schema is not None and not isinstance(schema, Mapping):
        raise MetadataError(what, expected="{column: dtype}", got=repr(schema)[:80])
    return {name: _column_type(dtype, f"{what} column {name!r}") for name, dtype in (schema or {}).items()}


def _column_type(dtype: Any, what: str) -> pa.DataType:
    if isinstance(dtype, pa.DataType):
        return dtype
    if isinstance(dtype, type) and dtype in _TYPES:
        return _TYPES[dtype]
    try:
        found = pa.Array.from_pandas(pd.Series([], dtype=dtype)).type
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise MetadataError(what, expected="a dtype", got=repr(dtype)) from error
    if pa.types.is_null(found) or pa.types.is_large_string(found):  # NumPy's "U16" and objects; pandas' text
        return pa.string()
    if pa.types.is_dictionary(found):
        text = pa.types.is_null(found.value_type)
        return pa.dictionary(pa.int32(), pa.string() if text else found.value_type, found.ordered)
    return pa.float32() if pa.types.is_float16(found) else found


def _type_of(value: Any, what: str, kind: pa.DataType | None = None) -> pa.DataType:
    """The Arrow type of a plain value, or `kind` when it can be that. `MetadataError` otherwise."""
    try:
        return pa.array([value], kind).type
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise MetadataError(
            what,
            expected="what a column can hold" if kind is None else str(kind),
            got=f"{value!r:.40} ({str(error)[:120]})",
        ) from error


def _joined(held: pa.DataType, new: pa.DataType) -> pa.DataType | None:
    """The type that holds both without loss, None when there is none."""
    if held == new or pa.types.is_null(new):
        return held
    if pa.types.is_null(held):
        return new
    if {held, new} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(held) and pa.types.is_list(new):
        inner = _joined(held.value_type, new.value_type)
        return None if inner is None else pa.list_(inner)
    zones = [t.tz for t in (held, new) if pa.types.is_timestamp(t)]
    # moments are moments in any zone; a time without a zone is none
    return pa.timestamp("us", "UTC") if len(zones) == 2 and all(zones) else None


def _fits(kind: pa.DataType, wanted: pa.DataType, value: Any) -> bool:
    """Whether a value of that type is of the wanted kind; its range is looked at elsewhere.

    Arrow itself would cut 1.5 to 1 and forget a time zone.
    """
    if pa.types.is_dictionary(wanted):
        return _fits(kind, wanted.value_type, value)
    if pa.types.is_list(kind) and (pa.types.is_list(wanted) or pa.types.is_fixed_size_list(wanted)):
        return pa.types.is_null(kind.value_type) or _fits(kind.value_type, wanted.value_type, None)
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(wanted):
        return (kind.tz is None) == (wanted.tz is None)
    if pa.types.is_integer(wanted):
        whole = isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT
        return whole or bool(pa.types.is_integer(kind))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if pa.types.is_large_string(wanted):
        return bool(pa.types.is_string(kind))
    return bool(kind.id == wanted.id)


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name or name.startswith("_"):
        raise MetadataError(what, expected="column names as text, no leading _", got=repr(name))
    if name in {*OBS_SCHEMA.names, *DERIVED_SCHEMA.names} - OWN_COLUMNS:
        raise MetadataError(
            f"{what}, column {name!r}",
            expected="a name that the engine does not fill itself",
            got="one that it fills",
            hint="Choose another name.",
        )


def plain_value(value: Any, what: str) -> Any:
    """A value as Python has it: NumPy and pandas scalars unwrapped, NaN and NA as None, arrays as lists.

    Raises `MetadataError` for what no column can hold.
    """
    if isinstance(value, np.ndarray) or (hasattr(value, "tolist") and not isinstance(value, np.generic)):
        array = np.asarray(value)
        # times go one by one below: as a whole they would become bare numbers
        value = array[()] if array.ndim == 0 else list(array) if array.dtype.kind in "mM" else array.tolist()
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, tuple | list):
        return [plain_value(v, what) for v in value]
    if isinstance(value, _KINDS):
        return value
    raise MetadataError(
        what,
        expected="a number, text, a time or a list of them",
        got=type(value).__name__,
        hint="Keep objects out of the table; store what can be queried.",
    )
