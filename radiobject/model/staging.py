"""Staging: the study as it will be when a `with radi.transaction()` block ends. One commit, or none."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from radiobject import measuring
from radiobject.errors import RadiObjectError, TransactionError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.journal import Journal
from radiobject.format.transaction import Transaction
from radiobject.model.study import Study

__all__ = ["StagedStudy"]

BEAT_SECONDS = 60.0
"""How often an open block looks whether its journals need a new sign of life."""

_AT_ONCE = frozenset({"cleanup", "materialize", "pin", "purge", "restore", "tag", "transaction", "validate"})
"""What has an effect, or a meaning, for committed versions only."""


class _Block:
    """What all steps of one block share: the transaction, journals, and whether it goes on."""

    def __init__(self, outer: Transaction) -> None:
        self.outer = outer
        self.messages: list[str] = []
        self.open = True
        self._journals: list[Journal] = []
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None

    def live(self) -> None:
        """Say that this transaction runs, and go on saying so: blocks may stay open for days.

        Clean-up spares what was written after the journal of a live transaction began, so the first sign
        comes before the first table part.
        """
        if self._heart is None:
            self.outer.journal.begin("transaction", None)
            self._heart = threading.Thread(target=self._beat, name="radiobject-transaction", daemon=True)
            self._heart.start()

    def keep(self, journal: Journal) -> None:
        """Keep the journal of a change that wrote volumes, until the whole is committed."""
        self._journals.append(journal)

    def end(self, *, committed: bool) -> None:
        """Take no more changes. Volumes of a block that failed stay resumable, as after any failure."""
        self.open = False
        self._ended.set()
        if self._heart is None:
            return
        self._heart.join()
        for journal in (self.outer.journal, *(self._journals if committed else ())):
            try:
                journal.discard()
            except RadiObjectError:
                # the version stands or does not; what is left of a journal is litter, which clean-up takes
                measuring.add("journals_left")

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            for journal in (self.outer.journal, *self._journals):
                try:
                    journal.touch()
                except RadiObjectError:
                    # the next beat tries again; a journal counts as live for two days
                    measuring.add("beats_missed")


class StagedStudy(Study):
    """A study whose changes are put off: each is seen by the next one, and all are committed together."""

    def __init__(self, snapshot: Snapshot, block: _Block, context: Any) -> None:
        super().__init__(snapshot, context)
        self._block = block

    @classmethod
    def begin(cls, study: Study, message: str) -> StagedStudy:
        """The study as it is, ready to be changed."""
        snapshot = study.snapshot
        block = _Block(Transaction(snapshot.storage, snapshot, "transaction", message))
        return cls(snapshot, block, study.context)

    def refuse(self, what: str) -> None:
        """Raise `TransactionError` after the end of the block, and for what cannot be staged."""
        if not self._block.open:
            raise TransactionError(
                f"{what}() on the study of a transaction() block",
                expected="a block that is open",
                got="one that has ended",
                hint="Go on with the RadiObject on which transaction() was called.",
            )
        if what in _AT_ONCE:
            raise TransactionError(
                f"{what}() inside a transaction() block",
                expected="a change that can wait for the end of the block",
                got=what,
                hint=f"Call {what}() before or after the block.",
            )

    def changed(self, operation: str, edit: Edit, message: str = "") -> StagedStudy:
        """The study after one more change, which waits."""
        return self.after(self._stage(operation, edit, message))

    def finish(self, transaction: Transaction, edit: Edit) -> Snapshot:
        """Stage the edit of a transaction that wrote volumes; its journal stays until all is committed."""
        made = self._stage(transaction.operation, edit, transaction.message)
        self._block.keep(transaction.journal)
        return made

    def after(self, snapshot: Snapshot) -> StagedStudy:
        """The next step, in the same block."""
        return StagedStudy(snapshot, self._block, self.context)

    def commit(self) -> Snapshot | None:
        """Make all that is staged one version, and end the block; None when nothing is staged.

        Raises `ConflictError` when another writer has changed the same meanwhile.
        """
        outer, made = self._block.outer, None
        try:
            if outer.staged:
                outer.message = outer.message or "; ".join(self._block.messages)
                made = outer.commit()
        finally:
            self._block.end(committed=made is not None)
        return made

    def abandon(self) -> None:
        """End the block without a version."""
        self._block.end(committed=False)

    def _stage(self, operation: str, edit: Edit, message: str) -> Snapshot:
        self.refuse(operation)
        self._block.live()
        made = self._block.outer.stage(edit)
        if message:
            self._block.messages.append(message)
        return made

    def __getstate__(self) -> NoReturn:
        raise TransactionError(
            "pickling the study of a transaction() block",
            expected="a study that another process can open",
            got="changes that are not committed",
            hint="End the block first, and open the study again.",
        )
