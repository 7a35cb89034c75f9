"""Resume: which volumes an interrupted run has finished, checked byte by byte before they are used again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from radiobject.ingest.files import pair_names
from radiobject.ingest.sources import Readable, Source, file_states
from radiobject.storage import Storage
from radiobject.writing.finished import journaled
from radiobject.writing.objects import is_volume

__all__ = ["fingerprint", "finished_rows"]


def fingerprint(source: Source) -> str | None:
    """Tells whether a local file, either file of a pair, or an array to import changed between two runs.

    None where that cannot be told cheaply. Take it before the file is read: one that changes meanwhile must
    look changed to the next run.
    """
    if isinstance(source.item, Readable):
        return source.item.fingerprint
    if not isinstance(source.item, str):
        # volumes that are read from elsewhere only when they are written know how to tell
        return getattr(source.item, "fingerprint", None) if is_volume(source.item) else None
    both = pair_names(source.item)
    names = [source.item] if both is None else [n for half in both for n in half if os.path.exists(n)]
    return file_states(names) if names else None


def finished_rows(storage: Storage, txn_id: str, sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """Rows of journaled volumes, by obs_id: source unchanged, and every object there bit for bit."""
    wanted = {s.obs_id: fingerprint(s) for s in sources}
    return {row["obs_id"]: row for row in journaled(storage, txn_id, wanted)}
