"""Manifest: `volume.json` of a TileDB volume: arrays, extras, attributes, every file with its checksum."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from radiobject.backends.base import Level
from radiobject.backends.documents import compact, described, levels_of, sealed, unsealed
from radiobject.errors import ConfigError, FormatError

__all__ = ["MANIFEST", "Manifest", "fragment_name", "hint_of", "parse_hint"]

MANIFEST = "volume.json"
FORMAT = "tiledb-volume-1"

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
        return sealed(body, where)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The inverse. `CorruptObjectError` for changed bytes, `FormatError` for what is none of ours."""
        body = unsealed(data, where)
        try:
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
    return compact(_arrays(levels, extras), "hint of a TileDB volume")


@lru_cache(maxsize=4096)
def parse_hint(hint: str) -> tuple[tuple[Level, ...], Mapping[str, int]]:
    """Levels and sizes of extras. `FormatError` for a hint that is none of ours."""
    try:
        body = json.loads(hint)
    except (ValueError, RecursionError) as error:
        raise FormatError("hint of a TileDB volume", expected="JSON", got=hint[:60]) from error
    return _checked(body, "hint of a TileDB volume")


def _arrays(levels: Sequence[Level], extras: Mapping[str, int]) -> dict[str, Any]:
    return {"format": FORMAT, "levels": described(levels), "extras": dict(extras)}


def _checked(body: Any, where: str) -> tuple[tuple[Level, ...], Mapping[str, int]]:
    try:
        if body["format"] != FORMAT:
            raise FormatError(where, expected=FORMAT, got=repr(body["format"]))
        levels = levels_of(body["levels"], where)
        extras = {str(k): int(v) for k, v in body["extras"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, ConfigError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(where, expected="levels and extras of a volume", got=repr(error)) from error
    return levels, extras
