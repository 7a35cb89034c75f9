"""Finished: rows of volumes that a running write has finished, kept in its journal for a run that resumes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from radiobject.backends.base import StoredObject
from radiobject.errors import IntegrityError
from radiobject.format.journal import Journal
from radiobject.format.objects import row_objects
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA
from radiobject.storage import Storage, check_key

__all__ = ["FinishedRows", "journaled", "rows_table"]

_ROWS = 16
_SECONDS = 5.0

_SCHEMA = pa.schema(
    [
        *OBS_SCHEMA,
        *DERIVED_SCHEMA,
        ("_jpeg", pa.binary()),
        ("_fingerprint", pa.string()),
        ("_updates", pa.string()),
    ]
)
"""`_fingerprint` tells whether the source is still the same, `_updates` is what functions have added."""


class FinishedRows:
    """Writes finished rows to a journal, a few at a time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pending: list[Mapping[str, Any]] = []
        self._flushed = time.monotonic()

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Keep rows; they are written with the next `flush` that finds enough of them."""
        self._pending.extend(rows)

    def flush(self, *, last: bool = False) -> None:
        """Write what waits when it is many or old enough, or `last`; and show that the writer is alive."""
        due = len(self._pending) >= _ROWS or time.monotonic() - self._flushed >= _SECONDS
        if self._pending and (due or last):
            self._journal.record("obs", rows_table(self._pending, _SCHEMA))
            self._pending.clear()
            self._flushed = time.monotonic()
        self._journal.touch()


def rows_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema = OBS_SCHEMA) -> pa.Table:
    """Rows of volumes as a table; keys that the schema lacks are left out."""
    return pa.Table.from_pylist([{n: row.get(n) for n in schema.names} for row in rows], schema=schema)


def journaled(storage: Storage, txn_id: str, wanted: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    """Rows of a journal whose fingerprint is the wanted one of their obs_id, and whose objects are whole.

    After a power cut a file may have its size and not its bytes: sizes alone would not do.
    """
    for table in Journal(storage, txn_id).rows():
        for row in table.to_pylist():
            mark = wanted.get(row["obs_id"])
            if mark is not None and row["_fingerprint"] == mark and _intact(storage, row):
                yield {k: v for k, v in row.items() if k != "_table"}


def _intact(storage: Storage, row: dict[str, Any]) -> bool:
    for key, stored in row_objects(row):
        try:
            data = storage.read(check_key(key))
        except IntegrityError:
            return False
        if not StoredObject(**stored).matches(data):
            return False
    return True
