"""Manifest: `volume.json` of a TileDB volume: arrays, extras, attributes, every file with its checksum."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from radiobject.backends.base import DTYPES, ArraySpec, Level, check_document
from radiobject.config import CompressionConfig
from radiobject.errors import ConfigError, CorruptObjectError, FormatError

__all__ = ["MANIFEST", "Manifest", "fragment_name", "hint_of", "parse_hint"]

MANIFEST = "volume.json"
FORMAT = "tiledb-volume-1"

_MAX_LEVELS = 64
_COMMIT = re.compile(r"__commits/__\d+_\d+_[0-9a-f]{32}_(\d+)\.wrt$")


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
        data = f'{text[:-1]},"self_sha256":"{digest}"}}'.encode()
        check_document(data, where)
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The inverse. `CorruptObjectError` for changed bytes, `FormatError` for what is none of ours."""
        check_document(data, where)
        head, mark, tail = data.rpartition(b',"self_sha256":"')
        digest = hashlib.sha256(head + b"}").hexdigest()
        if not mark or tail != f'{digest}"}}'.encode():
            raise CorruptObjectError(where, expected="the bytes that were committed", got="others")
        try:
            body = json.loads(head + b"}")
            levels, extras = _checked(body, where)
            files = {str(k): (int(size), int(crc)) for k, (size, crc) in body["files"].items()}
            attrs = dict(body["attrs"])
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(where, expected="the manifest of a volume", got=repr(error)) from error
        found = cls(levels, extras, attrs, files)
        found.check(where)
        return found

    def check(self, where: str) -> None:
        """Refuse (`FormatError`) a manifest that does not name every file of every array and extra."""
        wanted = {f"extras/{name}" for name in self.extras}
        for level in self.levels:
            wanted |= self._files_of(level, where)
        if missing := sorted(wanted - self.files.keys()):
            raise FormatError(where, expected="every file of every array", got=f"none named {missing[0]!r}")
        for name, size in self.extras.items():
            if self.files[f"extras/{name}"][0] != size:
                raise FormatError(f"extra {name!r} of {where}", expected=f"{size} bytes", got="another size")

    def _files_of(self, level: Level, where: str) -> set[str]:
        """A schema, and one fragment a shard, named by the number of the shard."""
        base = f"{level.path}/"
        commits = {name for name in self.files if name.startswith(f"{base}__commits/")}
        schemas = {name for name in self.files if name.startswith(f"{base}__schema/")}
        versions = {found[1] for name in commits if (found := _COMMIT.search(name))}
        if len(schemas) != 1 or len(versions) != 1:
            raise FormatError(
                f"{where}, level {level.path}",
                expected="one schema, and fragments of one version of TileDB's format",
                got=f"{len(schemas)} and {sorted(versions)}",
            )
        (version,) = versions
        # counted, not listed: a shape made up by somebody may have more shards than fit into memory
        count = math.prod(-(-n // s) for n, s in zip(level.spec.shape, level.spec.shards, strict=True))
        fragments = [fragment_name(n, int(version)) for n in range(1, min(count, len(commits)) + 1)]
        wanted = {f"{base}__commits/{name}.wrt" for name in fragments}
        if count != len(commits) or commits != wanted:
            raise FormatError(
                f"{where}, level {level.path}",
                expected=f"fragments 1 to {count}",
                got=f"{len(commits)} commits, {len(commits & wanted)} of them of these",
            )
        parts = ("a0.tdb", "__fragment_metadata.tdb")
        return wanted | {f"{base}__fragments/{name}/{part}" for name in fragments for part in parts}


def fragment_name(number: int, version: int) -> str:
    """Name of the fragment of a shard, counted from 1, in a version of TileDB's format.

    >>> fragment_name(3, 22)
    '__3_3_00000000000000000000000000000003_22'
    """
    return f"__{number}_{number}_{number:032x}_{version}"


def hint_of(levels: Sequence[Level], extras: Mapping[str, int]) -> str:
    """What opening needs, equal for volumes that are alike."""
    return json.dumps(_arrays(levels, extras), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def parse_hint(hint: str) -> tuple[tuple[Level, ...], Mapping[str, int]]:
    """Levels and sizes of extras. `FormatError` for a hint that is none of ours."""
    try:
        body = json.loads(hint)
    except (ValueError, RecursionError) as error:
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
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, ConfigError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(where, expected="levels and extras of a volume", got=repr(error)) from error
    return levels, extras


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
