"""Context: one `tiledb.Ctx` a process and setting, made when first needed; TileDB's errors as ours."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from radiobject.config import current
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    CorruptObjectError,
    MissingDependencyError,
    MissingObjectError,
    RadiObjectError,
    StorageError,
    StorageReadOnlyError,
)
from radiobject.forking import on_fork
from radiobject.location import Location

__all__ = ["array_uri", "context_for", "engine", "mapped"]

_lock = threading.Lock()
_contexts: dict[tuple[Any, ...], Any] = {}
import weakref
_opened=weakref.WeakSet()


@on_fork
def _forget() -> None:
    # a context's threads do not come along into a forked child, which would wait for them for ever
    global _lock
    _lock = threading.Lock()
    import ctypes
    for c in list(_contexts.values()): ctypes.pythonapi.Py_IncRef(ctypes.py_object(c))
    for c in list(_opened): ctypes.pythonapi.Py_IncRef(ctypes.py_object(c))
    _contexts.clear()
    _opened.clear()


def engine() -> Any:
    """The module `tiledb`. Raises `MissingDependencyError` without it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its compiled parts warn while they are loaded
            import tiledb
    except ImportError as error:
        raise MissingDependencyError(
            f"the backend 'tiledb' needs the package tiledb: {error}",
            hint='pip install "radiobject-zarr[tiledb]"',
        ) from error
    return tiledb


def context_for(location: Location) -> Any:
    """The context of this process for a place, with the thread and memory limits of `ReadConfig`."""
    read = current().read
    settings = {
        "sm.mem.total_budget": str(read.memory_budget_mb * 2**20),
        **location.tiledb_config(),
    }
    if read.concurrency is not None:
        settings["sm.compute_concurrency_level"] = str(read.concurrency)
        settings["sm.io_concurrency_level"] = str(read.concurrency)
    key = tuple(sorted(settings.items()))
    tiledb = engine()
    with _lock:
        if key not in _contexts:
            with warnings.catch_warnings():
                # it warns in every forked child; ours has a context of its own
                warnings.filterwarnings("ignore", message="TileDB is a multithreading library")
                _contexts[key] = tiledb.Ctx(settings)
        return _contexts[key]


def array_uri(location: Location, path: str) -> str:
    """An array as TileDB addresses it. `CapabilityError` for a place that it cannot read."""
    if location.is_local:
        return os.path.join(location.path, path)
    if location.scheme == "s3":
        return f"{location.uri}/{path}"
    raise CapabilityError(
        f"TileDB on {location.uri}",
        expected="a local disk or S3",
        got=location.scheme,
        hint='Use backend="zarr" there, or copy the study to a local disk.',
    )


@contextmanager
def mapped(where: str, *, local: bool) -> Iterator[None]:
    """TileDB's errors as ours, with their place."""
    tiledb = engine()
    try:
        yield
    except RadiObjectError:
        raise
    except tiledb.TileDBError as error:
        raise _ours(str(error), where, local) from error
    except (ValueError, OverflowError, IndexError) as error:
        raise CorruptObjectError(where, expected="a readable array", got=repr(error)) from error


def _ours(text: str, where: str, local: bool) -> RadiObjectError:
    if "budget" in text:
        return ConfigError(
            where, expected="a read within the memory budget", got=text,
            hint="Raise ReadConfig(memory_budget_mb=), or read a smaller box.",
        )  # fmt: skip
    if "does not exist" in text or "No such file" in text or "NoSuchKey" in text:
        return MissingObjectError(where, expected="an array", got=text)
    if "AccessDenied" in text or "Access Denied" in text or "403" in text:
        return StorageReadOnlyError(where, got=text, hint="Check the credentials.")
    if local or "hecksum" in text or "filter" in text.lower():
        return CorruptObjectError(where, expected="the bytes that were committed", got=text)
    return StorageError(where, got=text)
