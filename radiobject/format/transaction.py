"""Transaction: journal, parts, verification, durability, one commit, rebase. The only road to a version."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import secrets
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject import measuring
from radiobject.errors import (
    ConflictError,
    CorruptObjectError,
    MissingObjectError,
    RadiObjectError,
    StudyExistsError,
)
from radiobject.format.catalog import Catalog, Snapshot, read_change
from radiobject.format.changes import Edit
from radiobject.format.commit import Change, Commit
from radiobject.format.exclusive import publish, require_exclusive
from radiobject.format.journal import Journal
from radiobject.format.layout import ROOT, change_key, root_document, version_key
from radiobject.format.rebase import check_conflict
from radiobject.storage import Storage

__all__ = ["MAX_IDS_IN_COMMIT", "Transaction", "create_study"]

MAX_IDS_IN_COMMIT = 10_000
_RACES = 100


def create_study(storage: Storage, *, single_writer: bool = False) -> None:
    """Write the study document if absent. `StudyExistsError` when a version is already committed here."""
    require_exclusive(storage, single_writer=single_writer)
    catalog = Catalog(storage)
    if catalog.root() is not None:
        if _committed(storage):
            raise StudyExistsError(
                storage.location.uri,
                expected="a free place",
                got="a study",
                hint="Open it with RadiObject(uri) and append, or choose another URI.",
            )
        return
    if not storage.is_empty():
        raise StudyExistsError(
            storage.location.uri,
            expected="a free or empty place",
            got="files that are no radiobject study",
            hint="Choose another URI.",
        )
    document = root_document(str(uuid.uuid4()))
    if not publish(storage, ROOT, document, lambda held: held == document, single_writer=single_writer):
        catalog.root()  # another creator was faster: its document serves, if it is one


def _committed(storage: Storage) -> list[str]:
    return [info.key for info in storage.list("versions") if info.key.endswith(".json")]


class Transaction:
    """One change of a study, from the first volume written to the version that holds it.

    `base` is None for a study without versions. Workers write volumes; only the coordinator, through this
    class, writes tables and commits. A crash at any point leaves litter, never a half-visible version.
    """

    def __init__(
        self,
        storage: Storage,
        base: Snapshot | None,
        operation: str,
        message: str = "",
        *,
        single_writer: bool = False,
        partial: bool = False,
    ) -> None:
        require_exclusive(storage, single_writer=single_writer)
        self.single_writer = single_writer
        self.storage, self.base = storage, base
        self.operation, self.message, self.partial = operation, message, partial
        self.txn_id = secrets.token_hex(16)
        self.journal = Journal(storage, self.txn_id)
        self.staged: list[Edit] = []
        self._interim: Snapshot | None = None

    def stage(self, edit: Edit) -> Snapshot:
        """Make an edit part of the next version, and show what that would be; nobody else sees it yet.

        The snapshot has the number of the version to come; only `commit` makes it one.
        """
        catalog = Catalog(self.storage)
        step = self._interim or self.base or _nothing(catalog)
        draft = self._draft(self.base) if self._interim is None else self._interim.commit
        draft, _ = edit.apply(step, draft, self.storage, rebased=False)
        self.staged.append(edit)
        self._interim = Snapshot(self.storage, draft)
        return self._interim

    def commit(self, *more: Edit) -> Snapshot:
        """Make what was staged and `more`, in this order, the next version.

        Rebases on newer versions that do not conflict; else `ConflictError`.
        """
        edits = (*self.staged, *more)
        catalog = Catalog(self.storage)
        base = self.base
        first = base
        for _ in range(_RACES):
            rebased = base is not first
            draft, change = self._draft(base), Change()
            step = base or _nothing(catalog)
            for edit in edits:
                draft, effect = edit.apply(step, draft, self.storage, rebased=rebased)
                # the next edit sees what this one made, though nobody else does yet
                step, change = Snapshot(self.storage, draft), change | effect
            if not rebased:
                self._verify(edits)
            draft = self._with_change(draft, change)
            self.storage.make_durable()
            data, sha256 = draft.to_bytes()
            if self._publish(draft.version, data):
                commit = dataclasses.replace(draft, sha256=sha256)
                catalog.write_hint(commit)
                self._forget()
                return catalog.adopt(commit)
            head = catalog.latest()
            if first is None:
                raise ConflictError(
                    f"{self.storage.location.uri}: another writer created this study first",
                    hint="Open it and append to it.",
                )
            newer = [catalog.commit(n) for n in range(draft.version, head.version + 1)]
            theirs = [(c, read_change(self.storage, c)) for c in newer]
            for edit in edits:
                check_conflict(
                    change, edit, base.commit if base else draft, theirs, self.storage.location.uri
                )
            base = head
        raise ConflictError(
            f"{self.storage.location.uri}: {_RACES} other commits came first",
            hint="Let fewer writers commit at once, or commit larger batches.",
        )

    def _publish(self, number: int, data: bytes) -> bool:
        where = f"{self.storage.location.uri}/{version_key(number)}"

        def mine(held: bytes) -> bool:
            return Commit.from_bytes(held, where).txn_id == self.txn_id

        return publish(self.storage, version_key(number), data, mine, single_writer=self.single_writer)

    def _forget(self) -> None:
        """Drop the journal of a committed transaction; best effort, as clean-up takes what stays."""
        try:
            self.journal.discard()
        except RadiObjectError:
            measuring.add("journals_left")

    def _draft(self, base: Snapshot | None) -> Commit:
        """The next version before the edit: the base's tables and collections, our own signature."""
        common: dict[str, Any] = {
            "txn_id": self.txn_id,
            "operation": self.operation,
            "message": self.message,
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "writer": _writer(),
            "partial": self.partial,
            "change": None,
            "change_list": None,
            "sha256": "",
        }
        if base is not None:
            old = base.commit
            return dataclasses.replace(
                old, version=old.version + 1, parent=old.version, parent_sha256=old.sha256, **common
            )
        root = Catalog(self.storage).root()
        if root is None:
            raise MissingObjectError(
                f"{self.storage.location.uri}/{ROOT}", expected="the study document", got="nothing"
            )
        return Commit(
            version=1,
            parent=None,
            parent_sha256=None,
            study=str(root["uuid"]),
            tables={},
            collections=(),
            **common,
        )

    def _with_change(self, draft: Commit, change: Change) -> Commit:
        if len(change) <= MAX_IDS_IN_COMMIT:
            return dataclasses.replace(draft, change=change)
        pairs = [(what, i) for what, ids in change.to_json().items() for i in ids]
        sink = io.BytesIO()
        pq.write_table(
            pa.table({"change": [w for w, _ in pairs], "id": [i for _, i in pairs]}),
            sink,
            compression="zstd",
            write_page_checksum=True,
        )
        key = change_key(self.txn_id)
        data = sink.getvalue()
        self.storage.write(key, data)
        stated = {"path": key, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return dataclasses.replace(draft, change_list=stated)

    def _verify(self, edits: Sequence[Edit]) -> None:
        """Every object that the new rows name must stand at its place with its size."""
        wanted = [
            (f"{path}/{o['path']}", int(o["bytes"]))
            for edit in edits
            for collection in edit.collections.values()
            for tables in (collection.added, collection.replaced)
            if "obs" in tables
            for path, objects in zip(
                tables["obs"]["_path"].to_pylist(), tables["obs"]["_objects"].to_pylist(), strict=True
            )
            for o in objects
        ]
        if not wanted:
            return
        with ThreadPoolExecutor(16) as pool:
            sizes = list(pool.map(lambda entry: self.storage.size(entry[0]), wanted))
        for (key, expected), size in zip(wanted, sizes, strict=True):
            where = f"{self.storage.location.uri}/{key}"
            if size is None:
                raise MissingObjectError(where, expected=f"an object of {expected} bytes", got="nothing")
            if size != expected:
                raise CorruptObjectError(where, expected=f"{expected} bytes", got=f"{size}")


def _nothing(catalog: Catalog) -> Snapshot:
    """What the first commit is applied to."""
    empty = Commit(0, None, None, "", "", "", "", "", "", Change(), None, {}, ())
    return Snapshot(catalog.storage, empty)


def _writer() -> str:
    try:
        return f"radiobject-zarr {version('radiobject-zarr')}"
    except PackageNotFoundError:
        return "radiobject-zarr"
