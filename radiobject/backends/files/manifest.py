"""Manifest: `volume.json` of a volume that lies in source files: its array, extras, attributes and source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from radiobject.backends.base import Level, check_document
from radiobject.backends.documents import compact, described, levels_of, sealed, unsealed
from radiobject.backends.files.source import Frames, Source, source_from_json
from radiobject.errors import FormatError
from radiobject.storage import check_key
from radiobject.strict import count, listed, mapped, text

__all__ = ["MANIFEST", "Description", "Manifest", "hint_of", "parse_hint"]

MANIFEST = "volume.json"
FORMAT = "files-volume-1"


@dataclass(frozen=True)
class Description:
    """What opening needs. `extras` maps a name to (bytes, crc32c) of the object `extras/<name>`.

    `ranges` names extras that lie in a source file: (number of the member, first byte, bytes).
    `layout_sha256` (hex) covers what a layout said of the volume besides its files; None for nothing.
    """

    levels: tuple[Level, ...]
    extras: Mapping[str, tuple[int, int]]
    source: Source
    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    layout_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "format": FORMAT,
            "levels": described(self.levels),
            "extras": {name: list(said) for name, said in self.extras.items()},
            "ranges": {name: list(said) for name, said in self.ranges.items()},
            "source": self.source.to_json(),
            **({} if self.layout_sha256 is None else {"layout_sha256": self.layout_sha256}),
        }

    @classmethod
    def from_json(cls, body: Any, where: str) -> Description:
        """The inverse. `FormatError` for what is none of ours, or contradicts itself."""
        try:
            if mapped(body)["format"] != FORMAT:
                raise FormatError(where, expected=FORMAT, got=repr(body["format"])[:60])
            found = cls(
                levels_of(listed(body["levels"]), where),
                {_name(n): _numbers(said, 2) for n, said in mapped(body["extras"]).items()},
                source_from_json(body["source"], where),
                {_name(n): _numbers(said, 3) for n, said in mapped(body["ranges"]).items()},
                _sha256(body["layout_sha256"]) if "layout_sha256" in body else None,
            )
            found.check(where)
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise FormatError(where, expected="a volume in files", got=repr(error)[:300]) from error
        return found

    def check(self, where: str) -> None:
        """Refuse (`FormatError`) a description whose parts speak of different volumes."""
        if len(self.levels) != 1:
            raise FormatError(where, expected="one level", got=str(len(self.levels)))
        spec, source = self.levels[0].spec, self.source
        if isinstance(source, Frames):
            said = (source.shape, source.dims, source.dtype)
            if said != (spec.shape, spec.dims, spec.dtype):
                raise FormatError(where, expected=f"frames of {spec.shape} {spec.dtype}", got=str(said)[:200])
        for name, (member, start, length) in self.ranges.items():
            if member >= len(source.members) or start + length > source.members[member].bytes:
                raise FormatError(f"{where}, extra {name!r}", expected="a part of a source file", got="none")


@dataclass(frozen=True)
class Manifest:
    """The document: what opening needs, and the attributes."""

    description: Description
    attrs: Mapping[str, Any]

    def to_bytes(self, where: str) -> bytes:
        """Canonical JSON that ends in its own SHA-256. `FormatError` for attributes that are no JSON."""
        return sealed({**self.description.to_json(), "attrs": dict(self.attrs)}, where)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The inverse. `CorruptObjectError` for changed bytes, `FormatError` for what is none of ours."""
        body = unsealed(data, where)
        description = Description.from_json(body, where)
        try:
            return cls(description, mapped(body["attrs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(where, expected="attributes", got=repr(error)[:300]) from error


def hint_of(description: Description) -> str:
    """What opening needs, as it stands in the row of the volume."""
    return compact(description.to_json(), "hint of a volume in files")


@lru_cache(maxsize=4096)
def parse_hint(hint: str) -> Description:
    """The inverse. `FormatError` for a hint that is none of ours."""
    where = "hint of a volume in files"
    check_document(hint, where)
    try:
        body = json.loads(hint)
    except (ValueError, RecursionError) as error:
        raise FormatError(where, expected="JSON", got=hint[:60]) from error
    return Description.from_json(body, where)


def _name(name: Any) -> str:
    if "/" in check_key(text(name)):
        raise ValueError(f"the name of an extra was expected, not {name!r:.60}")
    return str(name)


def _sha256(said: Any) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text(said)):
        raise ValueError(f"a SHA-256 in hex was expected, not {said!r:.60}")
    return str(said)


def _numbers(said: Any, length: int) -> tuple[Any, ...]:
    if len(listed(said)) != length:
        raise ValueError(f"{length} numbers were expected, not {said!r:.60}")
    return tuple(count(n) for n in said)
