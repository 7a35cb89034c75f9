"""Context: the `tiledb.Ctx` objects of this process, given up when worn, and those of its callers."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radiobject import measuring
from radiobject.config import ReadConfig, current
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.forking import on_fork
from radiobject.location import Location

__all__ = [
    "Context",
    "Origin",
    "array_uri",
    "context_for",
    "engine",
    "handed",
    "made",
    "of_caller",
    "origin_of",
    "settings_of",
    "shared",
]

LIFE = 1000
"""Queries that a context serves: libtiledb keeps some 13 kB of each in it for good (TileDB-Py issue 2194)."""


@dataclass(frozen=True)
class Origin:
    """Where a `tiledb.Ctx` comes from: the process, and the settings where they are this package's own."""

    pid: int
    settings: Mapping[str, str] | None


_Key = tuple[tuple[str, str], ...]
_lock = threading.Lock()
_contexts: dict[_Key, Context] = {}
_handed: dict[_Key, Any] = {}
_origins: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()
"""Every `tiledb.Ctx` that was made here or came from a caller."""
_alive: weakref.WeakValueDictionary[int, Context] = weakref.WeakValueDictionary()
_opened: weakref.WeakSet[Any] = weakref.WeakSet()
_probed = False
_adding = threading.RLock()
_counted: dict[str, int] | None = None
"""What contexts had read that are gone; None until somebody measures."""


class Context:
    """A `tiledb.Ctx` with the number of queries that it has served. Shared by all threads.

    One of a caller's serves for as long as there are handles that it was given to.
    """

    def __init__(self, ctx: Any, *, given: bool = False) -> None:
        self.ctx, self.given, self.pid = ctx, given, os.getpid()
        self._queries = 0
        # what a caller's has read before is not ours
        self._before = {} if _counted is None else self._read()
        _alive[id(self)] = self

    @property
    def worn(self) -> bool:
        """Whether its arrays should be opened again, in another one."""
        return self._queries >= LIFE and not self.given

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
        return {name: n - self._before.get(name, 0) for name, n in self._read().items()}

    def _read(self) -> dict[str, int]:
        said = self.ctx.get_stats(print_out=False)  # of one that has read nothing: nothing, and no JSON
        counters = json.loads(said).get("counters", {}) if said else {}
        return {
            "requests": int(counters.get("Context.VFS.read_ops_num", 0)),
            "bytes_read": int(counters.get("Context.VFS.read_byte_num", 0)),
        }

    def __del__(self) -> None:
        if _counted is not None and self.pid == os.getpid() and not sys.is_finalizing():
            _add(_counted, self.totals())


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


def made(settings: Mapping[str, str]) -> Any:
    """A new `tiledb.Ctx` with settings of ours."""
    ctx = engine().Ctx(dict(settings))
    _origins[ctx] = Origin(os.getpid(), dict(settings))
    return ctx


def handed(settings: Mapping[str, str]) -> Any:
    """The `tiledb.Ctx` with these settings that every caller in this process is given."""
    key = _key(settings)
    with _lock:
        if key not in _handed:
            _handed[key] = made(settings)
        return _handed[key]


def origin_of(ctx: Any) -> Origin:
    """Where a `tiledb.Ctx` comes from; one that is seen for the first time, from a caller in this process."""
    return _origins.setdefault(ctx, Origin(os.getpid(), None))


def of_caller(ctx: Any) -> Context:
    """The context of a caller's `tiledb.Ctx`, one for all handles that it is given to."""
    _count_when_measured()
    with _lock:
        for reference in _alive.valuerefs():
            found = reference()
            if found is not None and found.given and found.ctx is ctx:
                return found
        return Context(ctx, given=True)


def shared(location: Location) -> Context:
    """The context of this process for a place: a caller's, else one with the limits of `ReadConfig`."""
    _count_when_measured()
    given = _given_to(location)
    if given is not None:
        return given
    settings = settings_of(current().read)
    if location.is_local:
        # meant for object stores: reads what lies between tiles up to 20 MB apart
        settings |= {"vfs.min_batch_size": "0", "vfs.min_batch_gap": str(2**16)}
    settings |= location.tiledb_config() or {}
    key = _key(settings)
    with _lock:
        found = _contexts.get(key)
        if found is None or found.worn:
            found = _contexts[key] = Context(made(settings))
        return found


def _given_to(location: Location) -> Context | None:
    """What a caller gave to read a place by, in the process that it was given in: others cannot use it."""
    given: Context | None = location.context
    return given if given is not None and given.pid == os.getpid() else None


def _key(settings: Mapping[str, str]) -> _Key:
    return tuple(sorted(settings.items()))


def context_for(location: Location) -> Any:
    """The `tiledb.Ctx` to use now for a place; ask again rather than keep it."""
    context = shared(location)
    context.count()
    return context.ctx


def settings_of(read: ReadConfig) -> dict[str, str]:
    """TileDB's settings for these of ours, wherever it reads."""
    settings = {
        "sm.mem.total_budget": str(read.memory_budget_mb * 2**20),
        # else it gives the allocator's memory back to the system after every query: reads take twice as long
        "sm.mem.malloc_trim": "false",
    }
    if read.concurrency is not None:
        settings["sm.compute_concurrency_level"] = str(read.concurrency)
        settings["sm.io_concurrency_level"] = str(read.concurrency)
    return settings


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
    if location.tiledb_config() is None and _given_to(location) is None:
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
    # does without `_lock`: whoever opens a measure() block holds the one of `measuring`
    global _counted
    if _counted is None:
        engine().stats_enable()
        _counted = {"requests": 0, "bytes_read": 0}
    found = [context for reference in _alive.valuerefs() if (context := reference()) is not None]
    totals = dict(_counted)
    for context in found:
        if context.pid == os.getpid():
            _add(totals, context.totals())
    return totals


def _add(totals: dict[str, int], more: Mapping[str, int]) -> None:
    with _adding:  # entered again where the collector ends a context meanwhile
        for name, n in more.items():
            totals[name] += n


@on_fork
def _leave_behind() -> None:
    """In a forked child: its parent's contexts and arrays stay as they are, and are never destroyed.

    Their threads did not come along. Destroying one waits for them for ever, or crashes.
    """
    global _lock, _adding
    _lock, _adding = threading.Lock(), threading.RLock()
    held = [*_origins.keys(), *_opened]
    if not held:
        return
    for thing in held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _contexts.clear()
    _handed.clear()
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
