"""Sources: what an ingest reads for a row of a plan."""

from __future__ import annotations

import os
from typing import Any

from radiobject.ingest.scanning.files import FileSource
from radiobject.ingest.scanning.rows import PlanRow

__all__ = ["item_of", "source_bytes"]


def item_of(row: PlanRow) -> Any:
    """The row's own item; else its file, plainly where nothing is to be said besides."""
    if row.item is not None:
        return row.item
    if row.channel is None and row.axis4 == "auto" and not row.labels and not row.attachments:
        return row.path
    return FileSource(row.path, row.channel, row.labels, tuple(sorted(row.attachments.items())), row.axis4)


def source_bytes(row: PlanRow) -> int:
    """Bytes of the row's files; 0 for what cannot be asked."""
    paths = getattr(row.item, "paths", None) or [row.path]
    try:
        return sum(os.stat(path).st_size for path in paths)
    except OSError:
        return 0
