"""Context: the `tiledb.Ctx` objects of this process, given up when worn; libtiledb's errors as ours."""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from radiobject import measuring
from radiobject.config import ReadConfig, current
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    CorruptObjectError,
    MissingDependencyError,
    MissingObjectError,
    RadiObjectError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from radiobject.forking import on_fork
from radiobject.location import Location

__all__ = [
    "Context",
    "adopt",
    "array_uri",
    "context_for",
    "engine",
    "mapped",
    "mapped_writing",
    "settings_of",
    "shared",
]

LIFE = 1000
"""Queries that a context serves: libtiledb keeps some 13 kB of each in it for good (TileDB-Py issue 2194)."""

_BUDGET = re.compile(r"memory budget|exceeds the budget", re.IGNORECASE)
_NEWER = re.compile(r"newer than (the )?(library|supported|current)")
_GONE = re.compile(r"does not exist|No such file|NoSuchKey|NoSuchBucket|Response Code: 404")
_REFUSED = re.compile(
    r"Permission denied|Access ?Denied|Response Code: 403|InvalidAccessKeyId|SignatureDoesNotMatch"
)
_FULL = re.compile(r"No space left|Disk quota exceeded")
_SYSTEM = re.compile(r"Too many open files|Input/output error|File too large|Read-only file system")
_REMOTE = re.compile(r"\bS3\b|\bAWS\b|\bcurl|HTTP")

_lock = threading.Lock()
_contexts: dict[tuple[tuple[str, str], ...], Context] = {}
_adopted: dict[str, Context] = {}
_opened: weakref.WeakSet[Any] = weakref.WeakSet()
_probed = False
_counted: dict[str, int] | None = None
"""What worn contexts had read; None until somebody measures."""


class Context:
    """A `tiledb.Ctx` with the number of queries that it has served. Shared by all threads."""

    def __init__(self, ctx: Any, *, adopted: bool = False) -> None:
        self.ctx = ctx
        self._adopted = adopted
        self._queries = 0

    @property
    def worn(self) -> bool:
        """Whether its arrays should be opened again, in another one."""
        return self._queries >= LIFE and not self._adopted

    def open(self, uri: str, mode: str, timestamp: int) -> Any:
        """An array; a forked child leaves it alone for ever."""
        self._queries += 1
        array = engine().open(uri, mode, ctx=self.ctx, timestamp=timestamp)
        _opened.add(array)
        return array

    def count(self) -> None:
        """Note a query."""
        self._queries += 1

    def totals(self) -> dict[str, int]:
        """What it has read so far, when TileDB counts."""
        counters = self.ctx.get_stats(print_out=False, json=True).get("counters", {})
        return {
            "requests": int(counters.get("Context.VFS.read_ops_num", 0)),
            "bytes_read": int(counters.get("Context.VFS.read_byte_num", 0)),
        }


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


def shared(location: Location) -> Context:
    """The context of this process for a place: one it was given, else one with the limits of `ReadConfig`."""
    if location.uri in _adopted:
        return _adopted[location.uri]
    _count_when_measured()
    key = tuple(sorted(settings_of(current().read, location).items()))
    with _lock:
        found = _contexts.get(key)
        if found is None or found.worn:
            if found is not None and _counted is not None:
                _add(_counted, found.totals())
            found = _contexts[key] = Context(engine().Ctx(dict(key)))
        return found


def context_for(location: Location) -> Any:
    """The `tiledb.Ctx` to use now for a place; ask again rather than keep it."""
    context = shared(location)
    context.count()
    return context.ctx


def adopt(ctx: Any, location: Location) -> None:
    """Read the volumes below a place by a context of the caller's, in this process and from now on."""
    if not isinstance(ctx, engine().Ctx):
        raise ConfigError("ctx", expected="a tiledb.Ctx", got=type(ctx).__name__)
    _adopted[location.uri] = Context(ctx, adopted=True)


def settings_of(read: ReadConfig, location: Location) -> dict[str, str]:
    """TileDB's settings for a place, and for these of ours."""
    settings = {
        "sm.mem.total_budget": str(read.memory_budget_mb * 2**20),
        # else it gives the allocator's memory back to the system after every query: reads take twice as long
        "sm.mem.malloc_trim": "false",
    }
    if read.concurrency is not None:
        settings["sm.compute_concurrency_level"] = str(read.concurrency)
        settings["sm.io_concurrency_level"] = str(read.concurrency)
    if location.is_local:
        # meant for object stores: reads what lies between tiles up to 20 MB apart
        settings |= {"vfs.min_batch_size": "0", "vfs.min_batch_gap": str(2**16)}
    return settings | (location.tiledb_config() or {})


def array_uri(location: Location, path: str) -> str:
    """An array as TileDB addresses it. `CapabilityError` for a place that it cannot read."""
    if location.is_local:
        return os.path.join(location.path, path)
    if location.scheme != "s3":
        raise CapabilityError(
            f"TileDB on {location.uri}",
            expected="a local disk or S3",
            got=location.scheme,
            hint='Use backend="zarr" there, or copy the study to a local disk.',
        )
    if location.tiledb_config() is None:
        raise CapabilityError(
            f"TileDB on {location.uri}",
            expected="storage options that TileDB has too: anon, region, endpoint_url, key, secret, token",
            got=str(sorted(location.options)),
            hint="Credentials are also found in the environment: AWS_PROFILE, AWS_ACCESS_KEY_ID, ...",
        )
    return f"{location.uri}/{path}"


def _count_when_measured() -> None:
    """Let `measure()` see what libtiledb reads."""
    global _probed
    if not _probed:
        _probed = True
        measuring.register_probe(_totals)
        if measuring.active():
            _totals()


def _totals() -> dict[str, int]:
    # takes no lock of ours: whoever opens a measure() block holds that of `measuring`
    global _counted
    if _counted is None:
        engine().stats_enable()
        _counted = {"requests": 0, "bytes_read": 0}
    totals = dict(_counted)
    for context in (*_contexts.values(), *_adopted.values()):
        _add(totals, context.totals())
    return totals


def _add(totals: dict[str, int], more: Mapping[str, int]) -> None:
    for name, n in more.items():
        totals[name] += n


@on_fork
def _leave_behind() -> None:
    """In a forked child: its parent's contexts and arrays stay as they are, and are never destroyed.

    Their threads did not come along. Destroying one waits for them for ever, or crashes.
    """
    global _lock
    _lock = threading.Lock()
    held = [*(c.ctx for c in (*_contexts.values(), *_adopted.values())), *_opened]
    if not held:
        return
    for thing in held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _contexts.clear()
    _adopted.clear()
    _opened.clear()
    _exit_without_destructors()


def _exit_without_destructors() -> None:
    """Let exit() end the process before the destructors of libtiledb, of which one waits for a lost thread.

    Children of `multiprocessing` leave that way anyhow. Only glibc can be told so.
    """
    libc = ctypes.CDLL(None)
    on_exit = getattr(libc, "on_exit", None)
    if on_exit is not None:
        atexit.register(libc.fflush, None)
        on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


@contextmanager
def mapped(where: str, uri: str | None = None, *, local: bool) -> Iterator[None]:
    """Errors while something (the array at `uri`) is read. What is no failure of the store is damage."""
    tiledb = engine()
    try:
        yield
    except tiledb.TileDBError as error:
        # a path may hold any of the words that are looked for
        said = str(error).replace(uri, "...") if uri else str(error)
        raise _of_reading(said, where, local=local) from error
    except (ValueError, OverflowError, IndexError) as error:
        raise CorruptObjectError(where, expected="a readable array", got=repr(error)) from error


@contextmanager
def mapped_writing(where: str) -> Iterator[None]:
    """Errors while an array is made in a temporary folder."""
    tiledb = engine()
    try:
        yield
    except RadiObjectError:
        raise
    except (tiledb.TileDBError, OSError) as error:
        kind = StorageFullError if _FULL.search(str(error)) else StorageError
        hint = "Arrays are made in a temporary folder first; TMPDIR names another place."
        raise kind(where, got=str(error), hint=hint) from error


def _of_reading(said: str, where: str, *, local: bool) -> RadiObjectError:
    if _BUDGET.search(said):
        return ConfigError(
            where,
            expected="a memory budget that holds at least one chunk",
            got=said,
            hint="Raise ReadConfig(memory_budget_mb=...).",
        )
    if _NEWER.search(said):
        return CapabilityError(
            where, expected="a tiledb as new as the volume", got=said, hint="pip install -U tiledb"
        )
    if _REFUSED.search(said):
        return StorageReadOnlyError(where, got=said, hint="Check the rights and credentials of this place.")
    if _GONE.search(said):
        return MissingObjectError(where, expected="an array", got=said)
    if _SYSTEM.search(said) or (not local and _REMOTE.search(said)):
        return StorageError(where, got=said)
    return CorruptObjectError(
        where,
        expected="the bytes that were committed",
        got=said,
        hint="Restore the files from a copy, or ingest the volume again.",
    )
