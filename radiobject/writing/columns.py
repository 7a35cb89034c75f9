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
from radiobject.format.schema import OBS_SCHEMA

__all__ = ["OWN_COLUMNS", "Columns", "plain_value"]

OWN_COLUMNS = frozenset({"session", "run", "acquisition_time"})
"""Columns of the model that a caller fills; all others of the volume table are the engine's."""

_KINDS = (bool, int, float, str, bytes, datetime.datetime, datetime.date, datetime.timedelta)


class Columns:
    """Rows of named values, one a volume; a column's type is settled over all rows, what is missing is null.

    Integers and floats together are floats; a column of nothing but nulls is left out. Mixing other kinds is
    an error at the row that does it, not after a night's run.

    >>> gathered = Columns("obs")
    >>> gathered.add("a", {"volume_ml": 1})
    >>> gathered.add("b", {"volume_ml": 0.5, "note": "small"})
    >>> gathered.table(["a", "b", "c"]).to_pydict()
    {'volume_ml': [1.0, 0.5, None], 'note': [None, 'small', None]}
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rows: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, tuple[type, str]] = {}

    def add(self, obs_id: str, values: Mapping[str, Any]) -> None:
        """Take the values of a volume. `MetadataError` for a name or a value that cannot be a column's."""
        row = {}
        for name, value in values.items():
            _check_name(name, f"{self._what} of {obs_id!r}")
            row[name] = plain_value(value, f"{self._what} of {obs_id!r}, column {name!r}")
        settled = {n: self._settle(n, v, obs_id) for n, v in row.items() if v is not None}
        self._kinds.update(settled)
        self._rows[obs_id] = row

    def _settle(self, name: str, value: Any, obs_id: str) -> tuple[type, str]:
        kind = next(k for k in (*_KINDS, list) if isinstance(value, k))
        held, first = self._kinds.get(name, (kind, obs_id))
        if held is kind or {held, kind} == {int, float}:
            return (float if {held, kind} == {int, float} else kind), first
        raise MetadataError(
            f"{self._what} column {name!r}",
            expected=f"{held.__name__}, as volume {first!r} has",
            got=f"{kind.__name__} for {obs_id!r}: {value!r:.40}",
            hint="Give every volume a value of one type, or None.",
        )

    @property
    def names(self) -> list[str]:
        """Columns in order of first appearance, without those that are null everywhere."""
        seen = dict.fromkeys(n for row in self._rows.values() for n in row)
        return [n for n in seen if n in self._kinds]

    def table(self, obs_ids: Iterable[str]) -> pa.Table:
        """The columns for these volumes, in this order."""
        ids = list(obs_ids)
        columns = {}
        for name in self.names:
            values = [self._rows.get(i, {}).get(name) for i in ids]
            try:
                if name in OWN_COLUMNS:
                    columns[name] = pa.array(values, OBS_SCHEMA.field(name).type)
                elif self._kinds[name][0] is float:
                    columns[name] = pa.array([None if v is None else float(v) for v in values], pa.float64())
                else:
                    columns[name] = pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise MetadataError(
                    f"{self._what} column {name!r}", expected="values of one type", got=str(error)
                ) from error
        return pa.table(columns) if columns else pa.table({"obs_id": ids}).select([])


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name or name.startswith("_"):
        raise MetadataError(what, expected="column names as text, no leading _", got=repr(name))
    if name in OBS_SCHEMA.names and name not in OWN_COLUMNS:
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
        value = np.asarray(value)
        value = value.item() if value.ndim == 0 else value.tolist()
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, decimal.Decimal):
        return float(value)
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
