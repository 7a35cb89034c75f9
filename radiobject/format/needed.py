"""Needed: the keys of everything in the store that versions of a study need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radiobject.format.catalog import Snapshot
from radiobject.format.commit import CollectionEntry, Commit
from radiobject.format.layout import COLLECTIONS, HINT, ROOT, version_key
from radiobject.format.objects import object_rows, row_objects
from radiobject.format.schema import OBS_SCHEMA
from radiobject.format.tables import Part, Table

__all__ = ["groups_above", "keys_of", "name_objects", "named_keys", "volume_parts"]


def named_keys(snapshots: Sequence[Snapshot]) -> set[str]:
    """Every key that these versions of a study need: documents, table parts, the objects of their volumes.

    Raises what keeps a table from being read: who removes the others' objects must know all of these.
    """
    named, folders, read = set[str](), set[str](), set[str]()
    for snapshot in snapshots:
        for entry, part in volume_parts([snapshot.commit]):
            if part.path not in read:
                read.add(part.path)
                table = Table(snapshot.storage, f"{entry.name}/obs", [part], OBS_SCHEMA, snapshot.explain)
                name_objects(table, named, folders)
    return keys_of([snapshot.commit for snapshot in snapshots], named, folders)


def volume_parts(chain: Iterable[Commit]) -> Iterable[tuple[CollectionEntry, Part]]:
    """The parts of all volume tables; versions share most of them, so each comes once."""
    entries = (
        (entry, part) for c in chain for entry in c.collections for part in entry.tables.get("obs", ())
    )
    return {part.path: (entry, part) for entry, part in entries}.values()


def name_objects(table: Table, named: set[str], folders: set[str]) -> None:
    """Add the keys of all objects of a table's volumes, and the folders of these."""
    for row in object_rows(table):
        named.update(key for key, _ in row_objects(row))
        folders.add(row["_path"])


def keys_of(chain: Sequence[Commit], named: set[str], folders: set[str]) -> set[str]:
    """The keys of these commits' own objects, with those that their volume tables name."""
    named |= {ROOT, HINT, *(f"{g}/{ROOT}" for g in groups_above(chain, folders))}
    for commit in chain:
        named.add(version_key(commit.version))
        named.update(part.path for part in commit.parts())
        if commit.change_list is not None:
            named.add(commit.change_list["path"])
    return named


def groups_above(commits: Iterable[Commit], folders: Iterable[str]) -> list[str]:
    """Every folder above the volumes in `folders` that must be a Zarr group."""
    above = {c.path for commit in commits for c in commit.collections}
    above |= {folder.rpartition("/")[0] for folder in folders}
    return sorted({COLLECTIONS, *above}) if above else []
