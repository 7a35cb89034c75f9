"""Holders: what all versions that can still be read, and journals, know of some subjects."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import IntegrityError, SnapshotExpiredError
from radiobject.format.catalog import Catalog
from radiobject.format.change_list import read_change
from radiobject.format.commit import Commit
from radiobject.format.journal import Journal
from radiobject.format.layout import TRANSACTIONS
from radiobject.format.schema import SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table
from radiobject.format.traces import Traces
from radiobject.storage import Storage

__all__ = ["Holders", "find_holders"]

_SUBJECT = "obs_subject_id"
_TABLES = ("obs_meta", "obs", "ledger")
_THREADS = 16


@dataclass
class Holders:
    """What was found: `subjects` that have a row, and `ids` of all that were asked for and of their volumes.

    `kept` are ids of everybody else; `volumes` leads from paths to backends; `readable` are the versions
    whose commit can be read; `mentioned`: changes or paths name the subjects, where no row may any more.
    """

    ids: set[str]
    subjects: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    volumes: dict[str, str] = field(default_factory=dict)
    readable: list[int] = field(default_factory=list)
    mentioned: bool = False

    @property
    def found(self) -> bool:
        """Whether anything is left of them."""
        return bool(self.subjects) or self.mentioned

    def add(self, rows: pa.Table, wanted: frozenset[str], backend: str | None = None) -> None:
        """Take up rows of a table that has subjects, volumes, or both."""
        if _SUBJECT not in rows.schema.names:
            return
        theirs = pc.is_in(rows[_SUBJECT], value_set=pa.array(sorted(wanted), pa.string()))
        mine, others = rows.filter(theirs), rows.filter(pc.invert(theirs))
        self.subjects.update(mine[_SUBJECT].to_pylist())
        self.kept.update(others[_SUBJECT].to_pylist())
        if "obs_id" in rows.schema.names:
            self.ids.update(mine["obs_id"].to_pylist())
            self.kept.update(others["obs_id"].to_pylist())
        if backend is not None and "_path" in rows.schema.names:
            self.volumes.update((path, backend) for path in mine["_path"].to_pylist())


def find_holders(storage: Storage, newest: int, wanted: frozenset[str]) -> Holders:
    """Look through the commits 1 to `newest`, their tables, and the journals. What is gone is passed over."""
    found = Holders(set(wanted))
    commits = _commits(storage, newest)
    found.readable = [c.version for c in commits]
    parts: dict[str, tuple[str, Part, str | None]] = {}
    for commit in commits:
        for tables, backend in ((commit.tables, None), *((c.tables, c.backend) for c in commit.collections)):
            for name in _TABLES:
                parts.update((part.path, (name, part, backend)) for part in tables.get(name, ()))
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows, backend in pool.map(lambda part: _rows(storage, *part), parts.values()):
            found.add(rows, wanted, backend)
        mentions = pool.map(lambda commit: _changed(storage, commit), commits)
        found.mentioned = any(not subjects.isdisjoint(wanted) for subjects in mentions)
    listed = storage.list("")
    for journal in {i.key.split("/")[1] for i in listed if i.key.startswith(f"{TRANSACTIONS}/")}:
        for rows in Journal(storage, journal).rows():
            found.add(rows, wanted)
    found.ids -= {""}
    found.kept -= {""}
    traces = Traces(found.ids, found.kept)
    found.mentioned |= any(traces.in_key(info.key) for info in listed)
    return found


def _commits(storage: Storage, newest: int) -> Sequence[Commit]:
    def read(number: int) -> Commit | None:
        try:
            return Catalog(storage).commit(number)
        except (SnapshotExpiredError, IntegrityError):
            return None  # a tombstone, or lost: there is nothing left to learn from it

    with ThreadPoolExecutor(_THREADS) as pool:
        return [c for c in pool.map(read, range(1, newest + 1)) if c is not None]


def _rows(storage: Storage, name: str, part: Part, backend: str | None) -> tuple[pa.Table, str | None]:
    table = Table(storage, name, [part], SUBJECT_SCHEMA)
    try:
        have = [c for c in (_SUBJECT, "obs_id", "_path") if c in table.schema.names]
        return table.read(have), backend
    except IntegrityError:
        return SUBJECT_SCHEMA.empty_table(), backend  # of a version whose objects are removed


def _changed(storage: Storage, commit: Commit) -> frozenset[str]:
    try:
        return read_change(storage, commit).subjects
    except IntegrityError:
        return frozenset()
