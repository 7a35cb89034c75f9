"""The only file that knows where things stand in a study and in which order axes run on disk."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from radiobject.errors import MetadataError
from radiobject.format.meta import FORMAT
from radiobject.geometry.box import Box

__all__ = [
    "COLLECTIONS",
    "FEATURES",
    "HINT",
    "INDEXES",
    "ROOT",
    "TAGS",
    "TRANSACTIONS",
    "UPSTREAM_GROUP",
    "VERSIONS",
    "box_to_disk",
    "change_key",
    "check_collection_name",
    "collection_path",
    "geometry_shape",
    "group_document",
    "index_key",
    "is_study",
    "made_here",
    "part_key",
    "python_axes",
    "root_document",
    "segment",
    "tag_key",
    "to_disk",
    "to_python",
    "transaction_key",
    "version_key",
    "version_of",
    "volume_path",
]

ROOT = "zarr.json"
HINT = "hint.json"
VERSIONS = "versions"
TRANSACTIONS = "transactions"
TAGS = "tags"
COLLECTIONS = "collections"
INDEXES = "indexes"
_FOLDERS = frozenset({VERSIONS, TRANSACTIONS, TAGS, COLLECTIONS, INDEXES, "tables"})
UPSTREAM_GROUP = "__tiledb_group.tdb"
"""Stands at the root of every TileDB group, so also of a study of the package that came before this one."""

FEATURES: frozenset[str] = frozenset()
"""Required features that this version understands; a commit that names another is refused."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_LONGEST = 120
_PYTHON_AXES = ("x", "y", "z", "t", "c")


def segment(name: str) -> str:
    """One path segment made from an id. Never decoded back: the id itself stands in the table.

    Bytes of the NFC UTF-8 form outside `[A-Za-z0-9._-]`, and a leading dot, become `~XX`; what is then
    longer than 120 characters keeps its first 80 and 16 hex digits of its SHA-256.

    >>> segment("sub 01/ä")
    'sub~2001~2F~C3~A4'
    """
    raw = unicodedata.normalize("NFC", name).encode()
    if not raw:
        raise MetadataError("id", expected="a non-empty string", got=repr(name))
    text = "".join(
        chr(b) if b in _PLAIN and not (i == 0 and b == 0x2E) else f"~{b:02X}" for i, b in enumerate(raw)
    )
    return text if len(text) <= _LONGEST else f"{text[:80]}~~{hashlib.sha256(raw).hexdigest()[:16]}"


def version_key(version: int) -> str:
    """Where commit `version` stands."""
    return f"{VERSIONS}/{version:012d}.json"


def version_of(key: str) -> int | None:
    """The version number of a key below `versions/`, None for anything else that lies there."""
    name = key.rsplit("/", 1)[-1]
    return int(name[:12]) if len(name) == 17 and name.endswith(".json") and name[:12].isdigit() else None


def change_key(txn_id: str) -> str:
    """Where a change list too long for its commit stands."""
    return f"{VERSIONS}/change-{txn_id}.parquet"


def tag_key(name: str) -> str:
    """Where a tag stands."""
    return f"{TAGS}/{segment(name)}.json"


def transaction_key(txn_id: str, name: str) -> str:
    """An object of a running write's journal."""
    return f"{TRANSACTIONS}/{txn_id}/{name}"


def part_key(table: str, unique: str) -> str:
    """One immutable part of a table; `table` is "obs_meta", "ledger" or "<collection segment>/obs"."""
    return f"tables/{table}/{unique}.parquet"


def check_collection_name(name: object) -> None:
    """Raise `MetadataError` for what cannot be a collection's name."""
    if not isinstance(name, str) or not name or name.startswith("_"):
        raise MetadataError("collection", expected="collection names as text, no leading _", got=repr(name))


def collection_path(name: str) -> str:
    """The folder of a collection. It keeps this path when the collection is renamed."""
    return f"{COLLECTIONS}/{segment(name)}"


def volume_path(collection: str, obs_id: str, attempt: str, suffix: str) -> str:
    """The folder of one attempt to write a volume; `collection` is the collection's path."""
    return f"{collection}/{segment(obs_id)}/{attempt}{suffix}"


def index_key(volume: str, unique: str = "") -> str:
    """Where the foreground index of a volume at a path stands, or with `unique` a later one.

    >>> index_key("collections/seg/sub-1_seg/0a1b.ome.zarr")
    'indexes/seg/0a1b.fg'
    """
    _, collection, _, attempt = volume.split("/")
    return f"{INDEXES}/{collection}/{unique or attempt.partition('.')[0]}.fg"


def group_document(attributes: dict[str, Any] | None = None) -> bytes:
    """A Zarr v3 group document."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}).encode()


def root_document(uuid: str, key_id: str | None = None) -> bytes:
    """The study's own `zarr.json`: created if absent, never changed."""
    return group_document(
        {
            "radiobject": {
                "type": "study",
                "format": FORMAT,
                "uuid": uuid,
                "features": sorted(FEATURES),
                "key_id": key_id,
            }
        }
    )


def is_study(document: bytes) -> bool:
    """Whether these are the bytes of a study document, of any format version."""
    try:
        return bool(json.loads(document)["attributes"]["radiobject"]["type"] == "study")
    except (ValueError, KeyError, TypeError):
        return False


def made_here(key: str) -> bool:
    """Whether the format puts objects at such keys: what is below its folders, and torn root documents.

    >>> made_here("tables/obs_meta/a.parquet"), made_here("notes.txt")
    (True, False)
    """
    top, slash, _ = key.partition("/")
    return top in _FOLDERS if slash else top.startswith((f"{ROOT}.", f"{HINT}.")) and top.endswith(".tmp")


def python_axes(dims: Sequence[str]) -> tuple[str, ...]:
    """The axes as a user sees them: x, y, z[, t][, c].

    >>> python_axes(("t", "z", "y", "x"))
    ('x', 'y', 'z', 't')
    """
    return tuple(a for a in _PYTHON_AXES if a in dims)


def to_python(array: npt.NDArray[Any], dims: Sequence[str]) -> npt.NDArray[Any]:
    """A view of an array in disk order with its axes in user order. Copies nothing."""
    return array.transpose([dims.index(a) for a in python_axes(dims)])


def to_disk(array: npt.NDArray[Any], dims: Sequence[str]) -> npt.NDArray[Any]:
    """The inverse of `to_python`."""
    axes = python_axes(dims)
    return array.transpose([axes.index(d) for d in dims])


def box_to_disk(box: Box, dims: Sequence[str]) -> Box:
    """A box in user axis order as the backend wants it."""
    axes = python_axes(dims)
    order = [axes.index(d) for d in dims]
    return Box(tuple(box.start[i] for i in order), tuple(box.stop[i] for i in order))


def geometry_shape(shape: Sequence[int], dims: Sequence[str]) -> tuple[int, int, int]:
    """The spatial shape x, y, z of an array in disk order."""
    sizes = dict(zip(dims, (int(n) for n in shape), strict=True))
    return sizes["x"], sizes["y"], sizes["z"]
