"""Remote: what fsspec's drivers say of one object, each in its own words, in one form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from radiobject.failures import code_of

__all__ = ["ObjectInfo", "create_remote", "etag_of", "info_of", "mtime_of", "size_of"]

# a public bucket that may not be listed answers 403 where nothing is
_ABSENT = (403, 404, 410)


@dataclass(frozen=True)
class ObjectInfo:
    """One object: key relative to the storage, size, and modification time by the store's clock (seconds).

    The time is 0 where a store has none, and `etag` None.
    """

    key: str
    bytes: int
    mtime: float
    etag: str | None = None


def create_remote(fs: Any, path: str, data: bytes) -> bool:
    """Create an object; False when there is one."""
    try:
        fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if code_of(error) == "PreconditionFailed":  # which s3fs knows by AWS's details, that others leave out
            return False
        raise
    return True


def info_of(fs: Any, path: str) -> dict[str, Any]:
    """What a driver says of an object; `FileNotFoundError` only where a server says that there is none."""
    if "s3" in fs.protocol:
        # fsspec's own answer to a missing key is to list what might lie below it: a request for nothing
        bucket, key, _ = fs.split_path(path)
        found: dict[str, Any] = fs.call_s3("head_object", Bucket=bucket, Key=key)
        return {**found, "size": found["ContentLength"]}
    try:
        found = fs.info(path)
    except FileNotFoundError as error:
        # fsspec's web driver says "not found" to every failure; only these answers of a server mean it
        cause = error.__cause__
        if path.startswith(("http://", "https://")) and getattr(cause, "status", None) not in _ABSENT:
            raise OSError(f"no answer: {type(cause).__name__}: {cause}") from error
        raise
    return found


def size_of(fs: Any, path: str) -> int:
    """Size of an object in bytes."""
    return int(info_of(fs, path)["size"])


def etag_of(info: dict[str, Any]) -> str | None:
    """What a store says changes whenever an object does."""
    found = info.get("ETag") or info.get("etag")
    return found if isinstance(found, str) else None


def mtime_of(info: dict[str, Any]) -> float:
    """When an object last changed, in seconds since 1970; 0 where a driver does not say."""
    for name in ("LastModified", "last_modified", "created", "mtime", "updated"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    if isinstance(said := info.get("Last-Modified"), str):
        try:
            return parsedate_to_datetime(said).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return 0.0
    return 0.0
