"""Documents: what backends without a format of their own write of a volume as JSON, sealed by its SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from radiobject.backends.base import DTYPES, ArraySpec, Level, check_document
from radiobject.config import CompressionConfig
from radiobject.errors import ConfigError, CorruptObjectError, FormatError

__all__ = ["compact", "described", "levels_of", "sealed", "unsealed"]

_MAX_LEVELS = 64


def sealed(body: Mapping[str, Any], where: str) -> bytes:
    """Canonical JSON that ends in its own SHA-256. `FormatError` for values that are no JSON.

    >>> unsealed(sealed({"n": 1}, "volume.json"), "volume.json")
    {'n': 1}
    """
    text = compact(body, where)
    digest = hashlib.sha256(text.encode()).hexdigest()
    data = f'{text[:-1]},"self_sha256":"{digest}"}}'.encode()
    check_document(data, where)
    return data


def unsealed(data: bytes, where: str) -> Any:
    """The inverse. `CorruptObjectError` for changed bytes, `FormatError` for what is too long."""
    check_document(data, where)
    head, mark, tail = data.rpartition(b',"self_sha256":"')
    digest = hashlib.sha256(head + b"}").hexdigest()
    if not mark or tail != f'{digest}"}}'.encode():
        raise CorruptObjectError(where, expected="the bytes that were committed", got="others")
    try:
        return json.loads(head + b"}")
    except (ValueError, RecursionError) as error:
        raise FormatError(where, expected="JSON", got=repr(error)[:300]) from error


def compact(body: Mapping[str, Any], where: str) -> str:
    """JSON with sorted keys and without spaces. `FormatError` for values that are no JSON."""
    try:
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FormatError(where, expected="plain JSON values", got=str(error)) from error


def described(levels: Sequence[Level]) -> list[dict[str, Any]]:
    """The arrays of a volume, for `levels_of`."""
    return [
        {
            "path": level.path,
            "shape": level.spec.shape,
            "dtype": level.spec.dtype.newbyteorder("=").str[1:],
            "dims": level.spec.dims,
            "chunks": level.spec.chunks,
            "shards": level.spec.shards,
            "codec": [level.spec.codec.algorithm, level.spec.codec.level, level.spec.codec.shuffle],
        }
        for level in levels
    ]


def levels_of(found: Any, where: str) -> tuple[Level, ...]:
    """The inverse of `described`. `FormatError` for anything else."""
    try:
        if not 1 <= len(found) <= _MAX_LEVELS:
            raise FormatError(where, expected=f"1 to {_MAX_LEVELS} levels", got=str(len(found)))
        return tuple(Level(_safe(d["path"], where), _spec(d, where)) for d in found)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, ConfigError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(where, expected="levels of a volume", got=repr(error)) from error


def _spec(described: Mapping[str, Any], where: str) -> ArraySpec:
    if described["dtype"] not in DTYPES:
        raise FormatError(where, expected=f"one of {', '.join(DTYPES)}", got=repr(described["dtype"]))
    shape, chunks, shards = (tuple(int(n) for n in described[k]) for k in ("shape", "chunks", "shards"))
    if min(*shape, *chunks, *shards) < 1:
        raise FormatError(where, expected="sizes above zero", got=f"{shape}, {chunks}, {shards}"[:200])
    algorithm, level, shuffle = described["codec"]
    codec = CompressionConfig(algorithm, level, shuffle)
    return ArraySpec(shape, np.dtype(described["dtype"]), tuple(described["dims"]), chunks, shards, codec)


def _safe(path: Any, where: str) -> str:
    parts = str(path).split("/")
    if any(p in ("", ".", "..") or not p.replace("_", "").replace("-", "").isalnum() for p in parts):
        raise FormatError(where, expected="plain names of levels", got=repr(path))
    return str(path)
