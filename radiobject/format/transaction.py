"""Transaction: journal, parts, verification, durability, one commit, rebase. The only road to a version."""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from radiobject import measuring
from radiobject.errors import (
    ConflictError,
    CorruptObjectError,
    MissingObjectError,
    RadiObjectError,
    SnapshotExpiredError,
    StorageError,
    StudyExistsError,
)
from radiobject.format.catalog import Catalog, Snapshot
from radiobject.format.change_list import read_change, write_change
from radiobject.format.changes import Edit
from radiobject.format.commit import Change, Commit
from radiobject.format.exclusive import publish, require_exclusive
from radiobject.format.journal import Journal
from radiobject.format.layout import ROOT, is_study, root_document, version_key
from radiobject.format.objects import table_objects
from radiobject.format.rebase import check_conflict
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["MAX_IDS_IN_COMMIT", "Transaction", "create_study"]

MAX_IDS_IN_COMMIT = 10_000
_MAX_TEXT = 2**20
"""Characters of all these ids together."""

_RACES = 100
_LEVELS_ABOVE = 4
"""How many folders above a new study are asked for one of another study, where each costs a request."""


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
                hint="Open it with RadiObject(uri) and append (in a shell: radiobject ingest URI FOLDER), or "
                "choose another URI.",
            )
        return
    if not storage.is_empty():
        raise StudyExistsError(
            storage.location.uri,
            expected="a free or empty place",
            got="files that are no radiobject study",
            hint="Choose another URI.",
        )
    _refuse_inside(storage.location)
    document = root_document(str(uuid.uuid4()))
    if not publish(storage, ROOT, document, lambda held: held == document, single_writer=single_writer):
        catalog.root()  # another creator was faster: its document serves, if it is one


def _refuse_inside(location: Location) -> None:
    """Raise for a place inside a study: that one's clean-up owns all that lies below its folders."""
    for folder in location.parents(_LEVELS_ABOVE):
        above = Storage(folder)
        try:
            found = above.size(ROOT) is not None and is_study(above.read(ROOT))
        except StorageError:
            continue  # rights may begin at the study's own folder
        if found:
            raise StudyExistsError(
                location.uri,
                expected="a place outside of other studies",
                got=f"one inside the study {folder.uri}",
                hint="Choose a URI beside that study.",
            )


def _committed(storage: Storage) -> list[str]:
    return [info.key for info in storage.list("versions") if info.key.endswith(".json")]


@dataclass(frozen=True)
class _Step:
    """One edit of a transaction: what it was applied to, what came of it, and what that changed."""

    edit: Edit
    before: Snapshot
    after: Snapshot
    effect: Change


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
        self.staged: list[_Step] = []

    def stage(self, edit: Edit) -> Snapshot:
        """Make an edit part of the next version, and show what that would be; nobody else sees it yet.

        The snapshot has the number of the version to come; only `commit` makes it one.
        """
        self.staged.append(self._step(edit, self.base, self.staged, ()))
        return self.staged[-1].after

    def commit(self, *more: Edit) -> Snapshot:
        """Make what was staged and `more`, in this order, the next version.

        Rebases on newer versions that do not conflict; else `ConflictError`.
        """
        edits = (*(step.edit for step in self.staged), *more)
        catalog = Catalog(self.storage)
        base = self.base
        passed: list[Commit] = []
        for _ in range(_RACES):
            # what was staged is what was seen, and is made anew only for another base
            steps = [] if passed else list(self.staged)
            for edit in edits[len(steps) :]:
                steps.append(self._step(edit, base, steps, passed))
            draft = steps[-1].after.commit if steps else self._draft(base)
            if not passed:
                self._verify(edits, self._staged_parts())
            draft = self._with_change(draft, reduce(Change.then, (s.effect for s in steps), Change()))
            draft = dataclasses.replace(draft, created=_now(), message=self.message)
            self.storage.make_durable()
            data, sha256 = draft.to_bytes()
            if self._publish(draft.version, data):
                commit = dataclasses.replace(draft, sha256=sha256)
                catalog.write_hint(commit)
                self._forget()
                return catalog.adopt(commit)
            head = catalog.latest()
            if base is None:
                raise ConflictError(
                    f"{self.storage.location.uri}: another writer created this study first",
                    hint="Open it and append to it.",
                )
            newer = self._newer(catalog, draft.version, head.commit)
            theirs = [(c, read_change(self.storage, c)) for c in newer]
            for step in steps:
                check_conflict(
                    step.effect,
                    step.edit,
                    step.before.commit,
                    base.commit,
                    theirs,
                    self.storage.location.uri,
                )
            base = head
            passed += newer
        raise ConflictError(
            f"{self.storage.location.uri}: {_RACES} other commits came first",
            hint="Let fewer writers commit at once, or commit larger batches.",
        )

    def _newer(self, catalog: Catalog, first: int, head: Commit) -> list[Commit]:
        """The commits from number `first` to `head`, which came before ours."""
        found = []
        # from the newest down: behind a purge there are tombstones only
        for number in range(head.version, first - 1, -1):
            commit = head if number == head.version else catalog.commit(number)
            if commit.severs:
                raise ConflictError(
                    f"{self.storage.location.uri}: version {number} ({commit.operation}, {commit.created})"
                    " came first; it erased the versions before it, and what running writes had written",
                    hint="Open the study again and repeat the change.",
                )
            found.append(commit)
        return found[::-1]

    def _step(
        self, edit: Edit, base: Snapshot | None, steps: Sequence[_Step], passed: Sequence[Commit]
    ) -> _Step:
        """Apply an edit on top of others; `passed` are the commits that came in between."""
        before = steps[-1].after if steps else base or _nothing(Catalog(self.storage))
        draft = before.commit if steps else self._draft(base)
        try:
            draft, effect = edit.apply(before, draft, self.storage, rebased=bool(passed))
        except ConflictError as error:
            last = passed[-1]
            raise ConflictError(
                f"{str(error).rstrip('.')}. Version {last.version} ({last.operation}) came first",
                hint="Open the study again, look at that version, and repeat what still applies.",
            ) from error
        return _Step(edit, before, Snapshot(self.storage, draft), effect)

    def _publish(self, number: int, data: bytes) -> bool:
        where = f"{self.storage.location.uri}/{version_key(number)}"

        def mine(held: bytes) -> bool:
            try:
                return Commit.from_bytes(held, where).txn_id == self.txn_id
            except SnapshotExpiredError:
                return False  # a tombstone: whoever had this number, it is taken for good

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
            "created": _now(),
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
        told = change.to_json()
        if (
            len(change) <= MAX_IDS_IN_COMMIT
            and sum(len(i) for ids in told.values() for i in ids) <= _MAX_TEXT
        ):
            return dataclasses.replace(draft, change=change)
        return dataclasses.replace(draft, change_list=write_change(self.storage, self.txn_id, change))

    def _staged_parts(self) -> list[tuple[str, int]]:
        """Table parts that were written when edits were staged, perhaps days ago."""
        if not self.staged:
            return []
        held = set() if self.base is None else {part.path for part in self.base.commit.parts()}
        return [(p.path, p.bytes) for p in self.staged[-1].after.commit.parts() if p.path not in held]

    def _verify(self, edits: Sequence[Edit], parts: Sequence[tuple[str, int]]) -> None:
        """Every object that the new rows name must stand at its place with its size, and so must `parts`."""
        rows = (
            table
            for edit in edits
            for change in edit.collections.values()
            for table in (change.added.get("obs"), change.replaced.get("obs"), change.updated)
            if table is not None
        )
        wanted = list(parts)
        wanted += [(key, int(o["bytes"])) for table in rows for key, o in table_objects(table)]
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _nothing(catalog: Catalog) -> Snapshot:
    """What the first commit is applied to."""
    empty = Commit(0, None, None, "", "", "", "", "", "", Change(), None, {}, ())
    return Snapshot(catalog.storage, empty)


def _writer() -> str:
    try:
        return f"radiobject-zarr {version('radiobject-zarr')}"
    except PackageNotFoundError:
        return "radiobject-zarr"
