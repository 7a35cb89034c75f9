"""Groups: sources that one worker process is given at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from radiobject.ingest.sources import Readable, Source

__all__ = ["MOST_BYTES", "MOST_VOLUMES", "grouped"]

MOST_VOLUMES = 32
"""A group of small files: what a cluster's scheduler has to do for a task is little beside it."""

MOST_BYTES = 256 * 2**20
"""Files in a group: what is done again when a worker is lost."""

_TURNS = 4
"""Groups for each worker at least, so that all have work until the end."""


def grouped(sources: Sequence[Source], width: int) -> list[list[Source]]:
    """Sources in their order, at most `MOST_VOLUMES` and about `MOST_BYTES` a group.

    An object in memory, which travels to its worker, is a group of its own.
    """
    most = max(1, min(MOST_VOLUMES, len(sources) // (width * _TURNS)))
    groups: list[list[Source]] = []
    room = 0
    for source in sources:
        size = _bytes(source)
        if not groups or len(groups[-1]) >= most or size > room:
            groups.append([])
            room = MOST_BYTES
        groups[-1].append(source)
        room -= size
    return groups


def _bytes(source: Source) -> int:
    """Size of a source's file; what cannot be known cheaply counts as one of many in a full group."""
    if isinstance(source.item, str):
        try:
            return os.path.getsize(source.item)
        except OSError:
            return MOST_BYTES // MOST_VOLUMES
    return MOST_BYTES // MOST_VOLUMES if isinstance(source.item, Readable) else MOST_BYTES
