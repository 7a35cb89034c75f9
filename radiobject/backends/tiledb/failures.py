"""Failures: libtiledb's errors as ours, told apart by their words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from radiobject.backends.tiledb.context import engine
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    CorruptObjectError,
    MissingObjectError,
    RadiObjectError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)

__all__ = ["mapped", "mapped_writing"]

_BUDGET = re.compile(r"memory budget|exceeds the budget", re.IGNORECASE)
_NEWER = re.compile(r"newer than (the )?(library|supported|current)")
_GONE = re.compile(r"does not exist|No such file|NoSuchKey|NoSuchBucket|Response Code: 404")
_REFUSED = re.compile(
    r"Permission denied|Access ?Denied|Response Code: 403|InvalidAccessKeyId|SignatureDoesNotMatch"
)
_FULL = re.compile(r"No space left|Disk quota exceeded")
_SYSTEM = re.compile(r"Too many open files|Input/output error|File too large|Read-only file system")
_REMOTE = re.compile(r"\bS3\b|\bAWS\b|\bcurl|HTTP")


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
