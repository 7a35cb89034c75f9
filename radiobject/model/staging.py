"""Staging: the study as it will be when a `with radi.transaction()` block ends. One commit, or none."""

from __future__ import annotations

from radiobject import measuring
from radiobject.errors import RadiObjectError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.journal import Journal
from radiobject.format.transaction import Transaction
from radiobject.model.study import Study

__all__ = ["StagedStudy"]


class StagedStudy(Study):
    """A study whose changes are put off: each is seen by the next one, and all are committed together."""

    def __init__(self, snapshot: Snapshot, outer: Transaction, journals: list[Journal]) -> None:
        super().__init__(snapshot)
        self._outer, self._journals = outer, journals

    @classmethod
    def begin(cls, study: Study, message: str) -> StagedStudy:
        """The study as it is, ready to be changed."""
        snapshot = study.snapshot
        return cls(snapshot, Transaction(snapshot.storage, snapshot, "transaction", message), [])

    def finish(self, transaction: Transaction, edit: Edit) -> Snapshot:
        """Stage the edit. The inner transaction's journal stays until the whole is committed."""
        self._journals.append(transaction.journal)
        return self._outer.stage(edit)

    def after(self, snapshot: Snapshot) -> StagedStudy:
        """The next step, in the same block."""
        return StagedStudy(snapshot, self._outer, self._journals)

    @property
    def n_staged(self) -> int:
        """How many changes wait."""
        return len(self._outer.staged)

    def commit(self) -> Snapshot:
        """Make all that is staged one version; `ConflictError` when somebody else changed the same."""
        made = self._outer.commit()
        for journal in self._journals:
            try:
                journal.discard()
            except RadiObjectError:
                # the version stands; what is left of a journal is litter, which clean-up takes
                measuring.add("journals_left")
        return made
