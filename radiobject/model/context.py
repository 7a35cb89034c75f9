"""Context: a caller's `ctx=`, held against the backend of the volumes before anything is opened or written.

Scripts for the TileDB-based package pass one; `radiobject.parallel` has the functions that make them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from radiobject.backends import backend_for
from radiobject.location import Location

__all__ = ["context_for", "context_for_new"]


def context_for(ctx: Any, uri: str, backends: Collection[str]) -> Any:
    """What reads volumes at `uri` on these backends for a caller who gave `ctx`; None for what would anyhow.

    Raises `ConfigError` for what is no `tiledb.Ctx`, and for one that these backends cannot honour.
    """
    if ctx is None:
        return None
    from radiobject.backends.tiledb.callers import given  # loads no engine, but is of no use without one

    return given(ctx, uri, backends)


def context_for_new(
    ctx: Any,
    uri: str | os.PathLike[str],
    backend: str | None,
    storage_options: Mapping[str, Any] | None,
    sources: Iterable[str | None] = (None,),
) -> Any:
    """The same for a study to be written; `sources` are the backends of what is copied to it."""
    if ctx is None:
        return None
    place = Location(uri, storage_options)
    return context_for(ctx, place.uri, {backend_for(backend, place, source) for source in sources})
