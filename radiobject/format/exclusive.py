"""Exclusive: creating an object so that exactly one of two writers wins, and finding out who it was."""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Callable

from radiobject.errors import (
    ConcurrencyError,
    MissingObjectError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from radiobject.format.layout import COLLECTIONS, ROOT, group_document
from radiobject.storage import Storage

__all__ = ["collection_groups", "ensure_group", "publish", "require_exclusive"]

_TRIES = 8
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_probed: set[str] = set()


def require_exclusive(storage: Storage, *, single_writer: bool = False) -> None:
    """Refuse a place where two writers could both win, before anything is written there.

    The allow-list of `Storage` knows which stores can create exclusively; an object store is also asked
    once a process, because some servers accept the condition and ignore it. `single_writer=True` takes the
    caller's word for it, with a warning where the store itself cannot help.
    """
    place = storage.location
    if single_writer:
        if not storage.creates_exclusively:
            warnings.warn(
                f"{place.uri}: this store cannot tell two writers apart; "
                "a second writer at the same time would lose changes",
                stacklevel=4,
            )
        return
    if not storage.creates_exclusively:
        raise ConcurrencyError(
            place.uri,
            expected="a store with exclusive creation",
            got=place.scheme,
            hint="Pass single_writer=True if you are sure to be the only writer.",
        )
    if place.is_local or place.scheme == "memory" or place.uri in _probed:
        return
    key = f"transactions/probe-{secrets.token_hex(8)}"
    storage.create(key, b"first")
    try:
        try:
            refused = not storage.create(key, b"second")
        except StorageError as error:
            # some clients report the refusal itself as a failure; any other failure proves nothing
            if "precondition" not in str(error).lower():
                raise
            refused = True
        honoured = refused and storage.read(key) == b"first"
    finally:
        storage.delete(key)
    if not honoured:
        raise ConcurrencyError(
            place.uri,
            expected="a server that honours If-None-Match",
            got="one that overwrote an existing object",
            hint="Use another server; two writers here would destroy each other's versions.",
        )
    _probed.add(place.uri)


def publish(
    storage: Storage, key: str, data: bytes, mine: Callable[[bytes], bool], *, single_writer: bool = False
) -> bool:
    """Create an object if absent; True when what stands there then is ours, False when it is another's.

    Nothing but plain success is believed: after "taken", a timeout, a 5xx or a reset, the object is read
    back, and `mine` tells from its bytes. Absent means that it was not written, and the same bytes are sent
    again. Raises `StorageError` when the outcome cannot be found out.
    """
    if single_writer or not storage.creates_exclusively:
        if storage.size(key) is not None:
            return False
        # nobody else writes, but others read, and the power may fail: a name without its bytes would hide
        # every version before it
        storage.replace(key, data, whole=True)
        storage.make_durable()
        return True
    failure: StorageError | None = None
    known = False
    for attempt in range(_TRIES):
        if failure is not None:
            time.sleep(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE))
        try:
            if storage.create(key, data):
                return True
        except StorageError as error:
            failure = error
        try:
            ours = mine(storage.read(key))
        except MissingObjectError:
            if isinstance(failure, StorageReadOnlyError | StorageFullError):
                raise failure from None  # refused for a reason that will not pass
            known = True
            continue
        except StorageError as error:
            failure, known = error, False
            continue
        if ours:
            # creation may have failed after the name was given but before the folder was on disk
            storage.make_durable()
        return ours
    if known and failure is not None:
        raise failure  # it is certain that nothing was written
    raise StorageError(
        f"{storage.location.uri}/{key}",
        expected="an answer whether it was created",
        got=f"{_TRIES} failures, the last: {failure}",
        hint="The outcome is unknown: open the study and look at versions() before you try again.",
    ) from failure


def ensure_group(storage: Storage, folder: str) -> None:
    """Make a folder a Zarr group, unless it is one: what a version names is never written again."""
    key = f"{folder}/{ROOT}"
    if not storage.size(key):  # none, or empty as a power cut left it before any version named it
        storage.replace(key, group_document())


def collection_groups(storage: Storage, path: str) -> None:
    """Make a collection's folder, and the folder of all collections, Zarr groups that can be walked."""
    for folder in (COLLECTIONS, path):
        ensure_group(storage, folder)
