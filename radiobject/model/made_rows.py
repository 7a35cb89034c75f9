"""MadeRows: the rows of volumes that functions have made: what the parents' rows said, and what was added."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from radiobject.errors import MetadataError
from radiobject.writing.columns import Columns

__all__ = ["MadeRows", "encoded"]


class MadeRows:
    """Rows by the new obs_id, and the columns that functions have added.

    `carried` has, by the parents' obs_id, the columns that go over to the new volumes.
    """

    def __init__(self, carried: pa.Table) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._carried = carried
        self._added = Columns("what functions add")

    def take(self, row: dict[str, Any]) -> None:
        """Keep a row. `MetadataError` when what it adds is no column, or not the parent's column's type."""
        updates = json.loads(row["_updates"], object_hook=_decoded)
        for name, value in updates.items():
            if name in self._carried.schema.names and value is not None:
                _check_type(self._carried.schema.field(name), value, row["parent_obs_id"])
        self._added.add(row["obs_id"], updates)
        self.rows[row["obs_id"]] = row

    def with_columns(self, table: pa.Table, ids: Sequence[str]) -> pa.Table:
        """The rows with what the parents' said, and over it what functions have added."""
        where = {obs_id: at for at, obs_id in enumerate(self._carried["obs_id"].to_pylist())}
        carried = self._carried.take(
            pa.array([where[self.rows[i]["parent_obs_id"]] for i in ids], pa.int64())
        )
        added = self._added.table(ids)
        for name in dict.fromkeys([*carried.schema.names[1:], *added.schema.names]):
            if name not in carried.schema.names:
                column = added[name].combine_chunks()
            elif name not in added.schema.names:
                column = carried[name].combine_chunks()
            else:
                column = _over(carried[name].combine_chunks(), added[name].combine_chunks())
            at = table.schema.get_field_index(name)
            if at < 0:
                table = table.append_column(name, column)
            else:
                stored = table.schema.field(name)
                table = table.set_column(at, stored, column.cast(stored.type))
        return table


def _over(below: pa.Array, above: pa.Array) -> pa.Array:
    values = [b if a is None else a for a, b in zip(above.to_pylist(), below.to_pylist(), strict=True)]
    wide = pa.types.is_integer(below.type) and pa.types.is_floating(above.type)
    return pa.array(values, above.type if wide else below.type)


def _check_type(stored: pa.Field, value: Any, parent: str) -> None:
    try:
        pa.array([value], stored.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        if pa.types.is_integer(stored.type) and isinstance(value, float):
            return
        raise MetadataError(
            f"what functions add for {parent!r}, column {stored.name!r}",
            expected=f"{stored.type}, as the source collection has",
            got=repr(value)[:60],
            hint="Choose another name, or give every volume a value of that type.",
        ) from error


def encoded(updates: Mapping[str, Any]) -> str:
    """Plain values as JSON text, for the journal; times and bytes are marked."""
    return json.dumps(updates, default=_encoded)


def _encoded(value: Any) -> dict[str, Any]:
    if isinstance(value, datetime.datetime | datetime.date):
        return {f"${type(value).__name__}": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"$timedelta": value / datetime.timedelta(microseconds=1)}
    return {"$bytes": base64.b64encode(value).decode()}


def _decoded(found: dict[str, Any]) -> Any:
    for kind, make in _DECODERS.items():
        if set(found) == {kind}:
            return make(found[kind])
    return found


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": datetime.datetime.fromisoformat,
    "$Timestamp": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$timedelta": lambda us: datetime.timedelta(microseconds=us),
    "$bytes": base64.b64decode,
}
