"""Streaming: the writers under the names that version 0.1.1 of the TileDB-based package has for them."""

from __future__ import annotations

from radiobject.writers import RadiObjectWriter
from radiobject.writers import VolumeCollectionWriter as StreamingWriter

__all__ = ["RadiObjectWriter", "StreamingWriter"]
