"""Volumes as dense TileDB arrays. `tiledb` itself is imported when a volume is first read or written."""

from __future__ import annotations

from radiobject.backends.tiledb.backend import TileDBBackend

__all__ = ["TileDBBackend"]
