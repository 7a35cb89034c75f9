"""Objects: everything in the store that rows of a volume table need, by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from radiobject.errors import FormatError
from radiobject.format.tables import Table

__all__ = ["object_rows", "row_objects", "table_objects"]

_COLUMNS = ("_path", "_objects", "_foreground")

Stated = tuple[str, dict[str, Any]]
"""An object's key, and its size and checksums."""


def row_objects(row: Mapping[str, Any]) -> Iterator[Stated]:
    """The objects of a volume: those in its folder, and its foreground index."""
    for stored in row.get("_objects") or ():
        yield f"{row['_path']}/{_checked(stored)['path']}", stored
    index = row.get("_foreground")
    if index is not None:
        yield _checked(index)["path"], index


def _checked(stored: Any) -> dict[str, Any]:
    """What a row says of an object, whole: `FormatError` for one without a path, size or checksum."""
    if stored is None or any(stored.get(key) is None for key in ("path", "bytes", "crc32c")):
        raise FormatError(
            "an object that a row names", expected="path, bytes and crc32c", got=repr(stored)[:100]
        )
    checked: dict[str, Any] = stored
    return checked


def object_rows(table: Table, *more: str) -> list[dict[str, Any]]:
    """The rows of a volume table with the columns that `row_objects` wants, and `more`.

    Tables from before there were foreground indexes have no column for them: they need none.
    """
    have = table.schema.names
    rows: list[dict[str, Any]] = table.read([c for c in (*more, *_COLUMNS) if c in have]).to_pylist()
    return rows


def table_objects(rows: pa.Table) -> Iterator[Stated]:
    """The objects that new or changed rows name."""
    have = [c for c in _COLUMNS if c in rows.schema.names]
    for row in rows.select(have).to_pylist():
        yield from row_objects(row)
