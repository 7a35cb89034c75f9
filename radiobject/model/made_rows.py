"""MadeRows: the rows of volumes that functions have made: what the parents' rows said, and what was added."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import MetadataError
from radiobject.writing.columns import Columns
from radiobject.writing.fitting import categories_of, fitted

__all__ = ["MadeRows", "encoded"]


class MadeRows:
    """Rows by the new obs_id, and the columns that functions have added.

    `carried` has, by the parents' obs_id, the columns that go over to the new volumes; `held` is the schema
    of the table that they join.
    """

    def __init__(self, carried: pa.Table, held: pa.Schema | None = None) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._carried = carried
        self._types = {f.name: f for schema in (held or (), carried.schema) for f in schema}
        self._said: dict[str, set[str]] = {}
        self._added = Columns("what functions add")

    def take(self, row: dict[str, Any]) -> None:
        """Keep a row. `MetadataError` when what it adds is no column, or not the parent's column's type."""
        updates = json.loads(row["_updates"], object_hook=_decoded)
        for name, value in updates.items():
            if name in self._types and value is not None:
                _check_type(self._types[name], value, row["parent_obs_id"])
        self._added.add(row["obs_id"], updates)
        for name in updates:
            self._said.setdefault(name, set()).add(row["obs_id"])
        self.rows[row["obs_id"]] = row

    def with_columns(self, table: pa.Table, ids: Sequence[str]) -> pa.Table:
        """The rows with what the parents' said, and over it what functions have added."""
        where = {obs_id: at for at, obs_id in enumerate(self._carried["obs_id"].to_pylist())}
        carried = self._carried.take(
            pa.array([where[self.rows[i]["parent_obs_id"]] for i in ids], pa.int64())
        )
        added = self._added.table(ids)
        for name in dict.fromkeys([*carried.schema.names[1:], *self._said]):
            said = np.array([i in self._said.get(name, ()) for i in ids])
            column = _joined(name, carried, added, said)
            if column is None:
                continue
            at = table.schema.get_field_index(name)
            if at < 0:
                table = table.append_column(name, column)
            else:
                stored = table.schema.field(name)
                table = table.set_column(at, stored, column.cast(stored.type))
        return table


def _joined(name: str, carried: pa.Table, added: pa.Table, said: npt.NDArray[np.bool_]) -> pa.Array | None:
    """A column: what functions have said, null included, and the parent's value where they said nothing."""
    above = added[name] if name in added.schema.names else None
    if name not in carried.schema.names:
        return None if above is None else above.combine_chunks()
    below = carried[name].combine_chunks()
    if not said.any():
        return below
    wide = above is not None and pa.types.is_integer(below.type) and pa.types.is_floating(above.type)
    kind = above.type if wide and above is not None else below.type
    new = (
        pa.nulls(len(below), kind)
        if above is None
        else fitted(above, kind, name, categories_of(carried[name]))
    )
    old = below if kind == below.type else below.cast(kind)
    if pa.types.is_dictionary(kind):
        # one list of categories for both
        both = pa.chunked_array([old, new]).unify_dictionaries()
        old, new = both.chunk(0), both.chunk(1)
        codes = pc.if_else(pa.array(said), new.indices, old.indices)
        return pa.DictionaryArray.from_arrays(codes, old.dictionary, ordered=kind.ordered)
    return pc.if_else(pa.array(said), new, old)


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
