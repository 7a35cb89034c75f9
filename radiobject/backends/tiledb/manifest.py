"""Manifest: `volume.json` of a TileDB volume: arrays, extras, attributes, every file with its checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from radiobject.backends.base import DTYPES, ArraySpec, Level
from radiobject.config import CompressionConfig
from radiobject.errors import ConfigError, CorruptObjectError, FormatError

__all__ = ["Manifest", "hint_of", "parse_hint"]

FORMAT = "tiledb-volume-1"

_MAX_LEVELS = 64


@dataclass(frozen=True)
class Manifest:
    """What a volume consists of. `files` maps a path inside the volume to (bytes, crc32c)."""

    levels: tuple[Level, ...]
    extras: Mapping[str, int]
    attrs: Mapping[str, Any]
    files: Mapping[str, tuple[int, int]]

    def to_bytes(self, where: str) -> bytes:
        """Canonical JSON that ends in its own SHA-256. `FormatError` for attributes that are no JSON."""
        body = {**_arrays(self.levels, self.extras), "attrs": self.attrs, "files": self.files}
        try:
            text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise FormatError(where, expected="plain JSON values", got=str(error)) from error
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f'{text[:-1]},"self_sha256":"{digest}"}}'.encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The inverse. `CorruptObjectError` for changed bytes, `FormatError` for what is none of ours."""
        head, mark, tail = data.rpartition(b',"self_sha256":"')
        digest = hashlib.sha256(head + b"}").hexdigest()
        if not mark or tail != f'{digest}"}}'.encode():
            raise CorruptObjectError(where, expected="the bytes that were committed", got="others")
        body = json.loads(head + b"}")
        levels, extras = _checked(body, where)
        files = {str(k): (int(v[0]), int(v[1])) for k, v in body["files"].items()}
        return cls(levels, extras, body["attrs"], files)


def hint_of(levels: Sequence[Level], extras: Mapping[str, int]) -> str:
    """What opening needs, equal for volumes that are alike."""
    return json.dumps(_arrays(levels, extras), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def parse_hint(hint: str) -> tuple[tuple[Level, ...], Mapping[str, int]]:
    """Levels and sizes of extras. `FormatError` for a hint that is none of ours."""
    try:
        body = json.loads(hint)
    except ValueError as error:
        raise FormatError("hint of a TileDB volume", expected="JSON", got=hint[:60]) from error
    return _checked(body, "hint of a TileDB volume")


def _arrays(levels: Sequence[Level], extras: Mapping[str, int]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "levels": [
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
        ],
        "extras": dict(extras),
    }


def _checked(body: Any, where: str) -> tuple[tuple[Level, ...], Mapping[str, int]]:
    try:
        if body["format"] != FORMAT:
            raise FormatError(where, expected=FORMAT, got=repr(body["format"]))
        described = body["levels"]
        if not 1 <= len(described) <= _MAX_LEVELS:
            raise FormatError(where, expected=f"1 to {_MAX_LEVELS} levels", got=str(len(described)))
        levels = tuple(Level(_safe(d["path"], where), _spec(d, where)) for d in described)
        extras = {str(k): int(v) for k, v in body["extras"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(where, expected="levels and extras of a volume", got=repr(error)) from error
    return levels, extras


def _spec(described: Mapping[str, Any], where: str) -> ArraySpec:
    if described["dtype"] not in DTYPES:
        raise FormatError(where, expected=f"one of {', '.join(DTYPES)}", got=repr(described["dtype"]))
    shape, chunks, shards = (tuple(int(n) for n in described[k]) for k in ("shape", "chunks", "shards"))
    algorithm, level, shuffle = described["codec"]
    codec = CompressionConfig(algorithm, level, shuffle)
    return ArraySpec(shape, np.dtype(described["dtype"]), tuple(described["dims"]), chunks, shards, codec)


def _safe(path: Any, where: str) -> str:
    parts = str(path).split("/")
    if any(p in ("", ".", "..") or not p.replace("_", "").replace("-", "").isalnum() for p in parts):
        raise FormatError(where, expected="plain names of levels", got=repr(path))
    return str(path)
