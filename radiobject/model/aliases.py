"""Aliases: text columns that other tools wrote, computed from the typed ones when asked for by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pyarrow as pa

__all__ = ["Aliases"]

_PARTS = {
    "voxel_spacing": (("spacing_x", "spacing_y", "spacing_z"), ()),
    "dimensions": (("dim_x", "dim_y", "dim_z"), ("dim_t", "dim_c")),
}
"""The columns that the text shows, and those that it shows where they have a value."""


class Aliases:
    """The aliases of one table: those whose columns it has, and that are no column of it themselves.

    `voxel_spacing` is the text "(1.0, 1.0, 2.0)", mm along x, y, z; `dimensions` is "(64, 64, 32)", voxels
    along x, y, z[, t][, c]; both as Python writes tuples. `series_type` is the collection's name.
    """

    def __init__(self, columns: Collection[str], collection: str | None) -> None:
        self._collection = collection
        self._needs: dict[str, list[str]] = {}
        if collection is not None:
            for name, (always, sometimes) in _PARTS.items():
                if name not in columns and all(c in columns for c in always):
                    self._needs[name] = [*always, *(c for c in sometimes if c in columns)]
            if "series_type" not in columns:
                self._needs["series_type"] = []

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Names and Arrow types."""
        return dict.fromkeys(self._needs, pa.string())

    def stored(self, names: Iterable[str]) -> list[str]:
        """The columns to read for some columns and aliases, each once."""
        return list(dict.fromkeys(c for name in names for c in self._needs.get(name, [name])))

    def filled(self, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        """The columns and aliases `names` of rows that have what `stored` lists, in this order."""
        for name in names:
            if name in self._needs and name not in rows.schema.names:
                rows = rows.append_column(name, self._text(rows, name))
        return rows.select(list(names))

    def _text(self, rows: pa.Table, name: str) -> pa.Array:
        if not self._needs[name]:
            return pa.array([self._collection] * rows.num_rows, pa.string())
        n_always = len(_PARTS[name][0])
        texts: dict[tuple[Any, ...], str | None] = {}  # thousands of rows share a few grids
        shown = []
        for row in zip(*(rows[c].to_pylist() for c in self._needs[name]), strict=True):
            if row not in texts:
                whole = None not in row[:n_always]
                texts[row] = repr(tuple(v for v in row if v is not None)) if whole else None
            shown.append(texts[row])
        return pa.array(shown, pa.string())
