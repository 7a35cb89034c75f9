"""Journal: what a running write has finished, so that a second run can go on from there."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject.errors import FormatError, MissingObjectError
from radiobject.format.layout import TRANSACTIONS, transaction_key
from radiobject.format.part_file import parquet_of
from radiobject.format.schema import OBS_SCHEMA, check_columns, check_values
from radiobject.storage import ObjectInfo, Storage
from radiobject.strict import text

__all__ = ["LIVE_SECONDS", "TOUCH_SECONDS", "Journal", "Running", "matching", "running"]

LIVE_SECONDS = 48 * 3600
TOUCH_SECONDS = 600
_BEGIN = "begin.json"
_MOST_BEGIN = 2**16
"""Bytes of it: an operation and two hashes."""


class Journal:
    """Rows of one transaction, in numbered segments. Readers of the study never look here."""

    def __init__(self, storage: Storage, txn_id: str) -> None:
        self.storage, self.txn_id = storage, txn_id
        self._segments = 0
        self._touched = time.monotonic()

    def begin(self, operation: str, plan: str | None) -> None:
        """Say that this transaction runs; `plan` is the hash that a resuming run will look for."""
        body = json.dumps({"operation": operation, "plan": plan, "txn_id": self.txn_id})
        self.storage.write(transaction_key(self.txn_id, _BEGIN), body.encode())

    def record(self, table: str, rows: pa.Table) -> None:
        """Keep finished rows of a table."""
        self._segments += 1
        sink = io.BytesIO()
        tagged = rows.append_column("_table", pa.array([table] * rows.num_rows, pa.string()))
        pq.write_table(tagged, sink, compression="zstd", write_page_checksum=True)
        key = transaction_key(self.txn_id, f"{self._segments:06d}.parquet")
        self.storage.write(key, sink.getvalue())
        self._touched = time.monotonic()

    def touch(self) -> None:
        """Renew the sign of life when the last one is ten minutes old."""
        if time.monotonic() - self._touched >= TOUCH_SECONDS:
            self.storage.write(transaction_key(self.txn_id, "alive"), b"")
            self._touched = time.monotonic()

    def rows(self) -> list[pa.Table]:
        """Every segment that was written whole; a torn last one is as if it had not been written.

        Raises `FormatError` for what a journal does not hold: clean-up must know what running writes need.
        """
        found = []
        for info in self.storage.list(f"{TRANSACTIONS}/{self.txn_id}"):
            if not info.key.endswith(".parquet") or info.key.count("/") != 2:
                continue  # what lies deeper is none of ours
            try:
                data = self.storage.read(info.key)
            except MissingObjectError:
                continue  # the write has ended meanwhile
            try:
                rows = parquet_of(data).read(use_threads=False)
            except (pa.ArrowException, OSError):
                # the rows of a torn segment are simply done again: their volumes have other paths
                continue
            _check_rows(rows, f"{self.storage.location.uri}/{info.key}")
            found.append(rows)
        return found

    def discard(self) -> None:
        """Remove the journal of a transaction that is committed or given up."""
        self.storage.delete_tree(f"{TRANSACTIONS}/{self.txn_id}")


@dataclass(frozen=True)
class Running:
    """A transaction that has a journal: its plan, and when its oldest and newest objects were written."""

    txn_id: str
    plan: str | None
    begun: float
    newest: float


def running(storage: Storage, committed: Iterable[str] = ()) -> list[Running]:
    """Transactions with a journal and no commit, newest first."""
    done = set(committed)
    groups: dict[str, list[ObjectInfo]] = {}
    for info in storage.list(TRANSACTIONS):
        if info.key.count("/") == 2:  # what lies beside the journals are probes
            groups.setdefault(info.key.split("/")[1], []).append(info)
    found = [
        Running(txn_id, _plan(storage, txn_id), min(i.mtime for i in infos), max(i.mtime for i in infos))
        for txn_id, infos in groups.items()
        if txn_id not in done
    ]
    return sorted(found, key=lambda r: r.newest, reverse=True)


def _check_rows(rows: pa.Table, where: str) -> None:
    """Refuse (`FormatError`) rows that name no volume, or have a column of volumes in another type."""
    wanted = pa.schema([f for f in OBS_SCHEMA if f.name == "_path" or f.name in rows.schema.names])
    check_columns(rows.schema, wanted, where)
    try:
        check_values(rows, wanted)
    except pa.ArrowException as error:
        raise FormatError(where, expected="rows of volumes", got=str(error)[:300]) from error


def _plan(storage: Storage, txn_id: str) -> str | None:
    key = transaction_key(txn_id, _BEGIN)
    try:
        begun = storage.read(key, _MOST_BEGIN)
    except MissingObjectError:
        return None
    try:
        plan = json.loads(begun)["plan"]
        return None if plan is None else text(plan)
    except ValueError:
        return None  # torn by a crash: nobody can resume it, clean-up will take it
    except (KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"{storage.location.uri}/{key}", expected="a journal", got=repr(error)) from error


def matching(candidates: Sequence[Running], plan: str) -> Running | None:
    """The newest transaction that runs the same plan."""
    return next((r for r in candidates if r.plan == plan), None)
