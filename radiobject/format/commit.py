"""Commit: one immutable version of a study, as bytes and as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from radiobject.backends.base import check_document
from radiobject.errors import CapabilityError, CorruptObjectError, FormatError, SnapshotExpiredError
from radiobject.format.layout import COLLECTIONS, FEATURES, VERSIONS
from radiobject.format.meta import FORMAT
from radiobject.format.tables import MOST_ROWS, Part
from radiobject.strict import count, key, listed, mapped, text

__all__ = [
    "MOST_BYTES",
    "PURGE",
    "Change",
    "CollectionEntry",
    "Commit",
    "canonical",
    "sealed",
    "tombstone",
    "unsealed",
]

PURGE = "purge"
"""The operation of a commit that erased subjects from all versions."""

MOST_BYTES = 2**23
"""Of a sealed document. A commit has some 300 bytes for each part of a table."""

_MOST_NESTED = 10**5
_TAIL = b',"self_sha256":"'


@dataclass(frozen=True)
class CollectionEntry:
    """A collection in one version. `shape` is the spatial shape (x, y, z) when all volumes have it."""

    name: str
    kind: str
    path: str
    backend: str
    shape: tuple[int, int, int] | None
    tables: Mapping[str, tuple[Part, ...]]

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return sum(part.rows for part in self.tables.get("obs", ()))

    def to_json(self) -> dict[str, Any]:
        """The collection as a commit states it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "path": self.path,
            "backend": self.backend,
            "shape": None if self.shape is None else list(self.shape),
            "tables": {name: [p.to_json() for p in parts] for name, parts in self.tables.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CollectionEntry:
        """Read back `to_json`. `KeyError`, `TypeError` or `ValueError` for what no writer writes."""
        data = mapped(data)
        shape = data["shape"]
        if shape is not None:
            x, y, z = (count(n, 1) for n in listed(shape))
            shape = x, y, z
        if (kind := text(data["kind"])) not in ("image", "label"):
            raise ValueError(f"kind {kind!r}")
        if not (name := text(data["name"])) or name.startswith("_"):
            raise ValueError(f"a collection named {name!r:.60}")
        return cls(name, kind, key(data["path"], COLLECTIONS), text(data["backend"]), shape, _tables(data))


@dataclass(frozen=True)
class Change:
    """What a commit did, in ids: enough to tell whether two writers touched the same thing."""

    subjects_added: frozenset[str] = frozenset()
    subjects_updated: frozenset[str] = frozenset()
    subjects_removed: frozenset[str] = frozenset()
    volumes_added: frozenset[str] = frozenset()
    volumes_replaced: frozenset[str] = frozenset()
    volumes_removed: frozenset[str] = frozenset()
    collections_added: frozenset[str] = frozenset()
    collections_removed: frozenset[str] = frozenset()

    @property
    def volumes(self) -> frozenset[str]:
        """Every volume touched."""
        return self.volumes_added | self.volumes_replaced | self.volumes_removed

    @property
    def subjects(self) -> frozenset[str]:
        """Every subject whose row was touched."""
        return self.subjects_added | self.subjects_updated | self.subjects_removed

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in self.__dataclass_fields__)

    def then(self, later: Change) -> Change:
        """What both did together, one after the other: what came and went again is not in it."""
        subjects = _together(
            (self.subjects_added, self.subjects_updated, self.subjects_removed),
            (later.subjects_added, later.subjects_updated, later.subjects_removed),
        )
        volumes = _together(
            (self.volumes_added, self.volumes_replaced, self.volumes_removed),
            (later.volumes_added, later.volumes_replaced, later.volumes_removed),
        )
        # a collection that went and came again is another one, and others must be told
        fleeting = later.collections_removed & (self.collections_added - self.collections_removed)
        added = (self.collections_added - later.collections_removed) | later.collections_added
        removed = self.collections_removed | (later.collections_removed - fleeting)
        return Change(*subjects, *volumes, added, removed)

    def to_json(self) -> dict[str, Any]:
        """Sorted lists, empty ones left out."""
        return {name: sorted(ids) for name in self.__dataclass_fields__ if (ids := getattr(self, name))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """Read back `to_json`. `TypeError` or `ValueError` for what no writer writes."""
        data = mapped(data)
        return cls(**{n: frozenset(map(text, listed(data.get(n, [])))) for n in cls.__dataclass_fields__})


def _tables(data: Mapping[str, Any]) -> dict[str, tuple[Part, ...]]:
    tables = {name: tuple(map(Part.from_json, listed(of))) for name, of in mapped(data["tables"]).items()}
    if long := _too_long(tables):
        raise ValueError(f"a table {long[0]!r:.60} of more than {MOST_ROWS} rows")
    return tables


def _too_long(tables: Mapping[str, tuple[Part, ...]]) -> tuple[str, int] | None:
    """Name and rows of a table that has more of them than a reader takes."""
    rows = {name: sum(part.rows for part in parts) for name, parts in tables.items()}
    return next(((name, n) for name, n in rows.items() if n > MOST_ROWS), None)


_Ids = tuple[frozenset[str], frozenset[str], frozenset[str]]


def _together(first: _Ids, later: _Ids) -> _Ids:
    """(added, changed, removed) of two changes as those of one."""
    added = (first[0] - later[2]) | (later[0] - first[2])
    removed = (first[2] - later[0]) | (later[2] - first[0])
    changed = first[1] | later[1] | (first[2] & later[0])
    return added, changed - added - removed, removed


@dataclass(frozen=True)
class Commit:
    """One version. `change` is None when its list stands in the Parquet file `change_list` names."""

    version: int
    parent: int | None
    parent_sha256: str | None
    study: str
    txn_id: str
    operation: str
    message: str
    created: str
    writer: str
    change: Change | None
    change_list: Mapping[str, Any] | None
    tables: Mapping[str, tuple[Part, ...]]
    collections: tuple[CollectionEntry, ...]
    partial: bool = False
    oldest: int = 1
    features: tuple[str, ...] = ()
    sha256: str = field(default="", compare=False)

    def to_bytes(self) -> tuple[bytes, str]:
        """The canonical bytes, ending in their own hash, and that hash.

        `CapabilityError` for what no reader would take: too long, or a table of too many rows.
        """
        for tables in (self.tables, *(c.tables for c in self.collections)):
            if long := _too_long(tables):
                raise CapabilityError(
                    f"table {long[0]!r}", expected=f"at most {MOST_ROWS} rows", got=str(long[1]),
                    hint="Keep several studies.",
                )  # fmt: skip
        return sealed(
            {
                "type": "commit",
                "format": FORMAT,
                "version": self.version,
                "parent": self.parent,
                "parent_sha256": self.parent_sha256,
                "study": self.study,
                "txn_id": self.txn_id,
                "operation": self.operation,
                "message": self.message,
                "created": self.created,
                "writer": self.writer,
                "partial": self.partial,
                "oldest": self.oldest,
                "features": list(self.features),
                "change": None if self.change is None else self.change.to_json(),
                "change_list": self.change_list,
                "tables": {name: [p.to_json() for p in parts] for name, parts in self.tables.items()},
                "collections": [c.to_json() for c in self.collections],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Commit:
        """Parse and check: its own hash, the format version, the features it requires.

        `SnapshotExpiredError` for the tombstone that a purge has put in a commit's place.
        """
        raw, digest = unsealed(data, where)
        try:
            raw = mapped(raw)
            if raw["type"] == "tombstone":
                raise SnapshotExpiredError(
                    where,
                    expected="a version that is kept",
                    got=f"the tombstone of version {raw['version']}, which a purge has erased",
                    hint="Open the newest version; see versions().",
                )
            if raw["type"] != "commit" or str(raw["format"]).split(".")[0] != FORMAT.split(".")[0]:
                raise FormatError(
                    where,
                    expected=f"a commit of format {FORMAT}",
                    got=f"{raw['type']} of {raw['format']}",
                    hint="Update radiobject-zarr to read it.",
                )
            if unknown := set(map(text, listed(raw["features"]))) - FEATURES:
                raise FormatError(
                    where,
                    expected="features known here",
                    got=", ".join(sorted(unknown)),
                    hint="Update radiobject-zarr to read it.",
                )
            parent, parent_sha256, beside = raw["parent"], raw["parent_sha256"], raw["change_list"]
            found = cls(
                version=count(raw["version"], 1),
                parent=None if parent is None else count(parent, 1),
                parent_sha256=None if parent_sha256 is None else text(parent_sha256),
                study=text(raw["study"]),
                txn_id=text(raw["txn_id"]),
                operation=text(raw["operation"]),
                message=text(raw["message"]),
                created=text(raw["created"]),
                writer=text(raw["writer"]),
                change=None if raw["change"] is None else Change.from_json(raw["change"]),
                change_list=None if beside is None else _change_list(beside),
                tables=_tables(raw),
                collections=tuple(CollectionEntry.from_json(c) for c in listed(raw["collections"])),
                partial=bool(raw["partial"]),
                oldest=count(raw["oldest"], 1),
                features=tuple(raw["features"]),
                sha256=digest,
            )
            found._check()
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                where, expected="a commit (schemas/commit.schema.json)", got=repr(error)[:300]
            ) from error
        return found

    def _check(self) -> None:
        """`ValueError` for what cannot be, whatever the single values are."""
        if (self.parent or 0) != self.version - 1:
            raise ValueError(f"parent {self.parent} of version {self.version}")
        if self.oldest > self.version:
            raise ValueError(f"oldest {self.oldest} above version {self.version}")
        if self.change is None and self.change_list is None:
            raise ValueError("neither a change nor a list of it")
        for of in ([c.name for c in self.collections], [c.path for c in self.collections]):
            if len(set(of)) != len(of):
                raise ValueError("two collections of one name or path")

    @property
    def severs(self) -> bool:
        """Whether no writer may put a change made from an earlier version on this one: it erased subjects.

        Such a commit is the oldest that is kept when it is made; clean-up always keeps one before its own.
        """
        return self.parent is not None and self.oldest == self.version

    def collection(self, name: str) -> CollectionEntry | None:
        """The collection of that name, None when there is none."""
        return next((c for c in self.collections if c.name == name), None)

    def parts(self) -> Iterator[Part]:
        """The parts of all tables."""
        for tables in (self.tables, *(c.tables for c in self.collections)):
            for parts in tables.values():
                yield from parts

    def with_collection(self, entry: CollectionEntry) -> Commit:
        """A copy in which `entry` takes the place of the collection of its path, or comes last."""
        if any(c.path == entry.path for c in self.collections):
            entries = tuple(entry if c.path == entry.path else c for c in self.collections)
        else:
            entries = (*self.collections, entry)
        return replace(self, collections=entries)


def _change_list(data: Any) -> Mapping[str, Any]:
    data = mapped(data)
    return {
        **data,
        "path": key(data["path"], VERSIONS),
        "bytes": count(data["bytes"]),
        "sha256": text(data["sha256"]),
    }


def tombstone(study: str, version: int, erased: Commit | None, *, message: str = "") -> bytes:
    """What takes the place of a commit that a purge erased, and keeps its number taken.

    `erased` is None for one that could not be read. Of what it said, only what names nobody is kept.
    """
    said = (None, None) if erased is None else (erased.operation, erased.created)
    body, _ = sealed(
        {"type": "tombstone", "format": FORMAT, "version": version, "study": study, "operation": said[0],
         "created": said[1], "message": message}
    )  # fmt: skip
    return body


def sealed(value: Mapping[str, Any]) -> tuple[bytes, str]:
    """Canonical JSON that ends in `self_sha256`, the SHA-256 of the same JSON without it; and that hash."""
    body = canonical(value)
    if len(body) + len(_TAIL) + 66 > MOST_BYTES:
        raise CapabilityError(
            f"a {value.get('type', 'document')} of {len(body)} bytes", expected=f"at most {MOST_BYTES}",
            got="more, which no reader would take", hint="Keep fewer collections in one study.",
        )  # fmt: skip
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + _TAIL + digest.encode() + b'"}', digest


def unsealed(data: bytes, where: str) -> tuple[Any, str]:
    """The inverse of `sealed`; `CorruptObjectError` when as little as one bit changed."""
    check_document(data, where, MOST_BYTES, _MOST_NESTED)
    cut = len(data) - 66 - len(_TAIL)
    body = data[:cut] + b"}"
    digest = hashlib.sha256(body).hexdigest()
    if cut < 1 or data[cut:] != _TAIL + digest.encode() + b'"}':
        raise CorruptObjectError(
            where,
            expected="JSON that ends in the SHA-256 of its own bytes",
            got="changed or cut bytes",
            hint="Restore the file, or open an earlier version.",
        )
    try:
        value = json.loads(body)
        # one reading only: no key twice, no NaN, no text that cannot be written
        if canonical(value) != body:
            raise ValueError("JSON in another form")
    except (ValueError, RecursionError) as error:
        raise FormatError(where, expected="canonical JSON", got=str(error)[:300]) from error
    return value, digest


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
