"""Parallel: contexts for threads and processes, under the names of the TileDB-based package.

Handles need none: threads share them, and other processes read with a context of their own.
"""

from __future__ import annotations

from typing import Any

from radiobject.backends.tiledb.callers import checked, ctx_of, get_tiledb_ctx, new_ctx
from radiobject.config import current
from radiobject.moved import refuse_moved

__all__ = ["create_worker_ctx", "ctx_for_process", "ctx_for_threads"]


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.parallel", name)
    raise AttributeError(f"module 'radiobject.parallel' has no attribute {name!r}")


def ctx_for_threads(ctx: Any = None) -> Any:
    """The `tiledb.Ctx` that all threads may use: `ctx`, or without one that of `radiobject.get_tiledb_ctx`.

    Raises `ConfigError` for what is no context.
    """
    return get_tiledb_ctx() if ctx is None else checked(ctx, "ctx")


def ctx_for_process(base_ctx: Any = None) -> Any:
    """A new `tiledb.Ctx`, with the settings of `base_ctx`, or without one those of `radiobject.configure`.

    `base_ctx` may be one that a forked child has from its parent, which is of no other use to it. Raises as
    `ctx_for_threads` and `radiobject.get_tiledb_ctx`.

    >>> ctx_for_process() is ctx_for_process()
    False
    """
    return ctx_of(current()) if base_ctx is None else new_ctx(base_ctx)


create_worker_ctx = ctx_for_process
