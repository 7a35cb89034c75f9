"""Outcome: what became of every source of a run, until it is committed; lines of the ledger."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from radiobject.errors import IngestError, IntegrityError, RadiObjectError, StorageError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.schema import LEDGER_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.ingest.sources import Readable, Source

__all__ = ["Outcome", "ingest_error", "noting"]

_log = logging.getLogger(__name__)

_TOLD = 10
"""Failures that stand in the text of an error; all of them are in its report."""


class Outcome:
    """What the workers have brought home: `rows` and `failures` that wait for the next commit, and counts."""

    def __init__(self, uri: str, total: int) -> None:
        self._uri, self._total = uri, total
        self.rows: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.committed = 0
        self._resumed: set[str] = set()
        self._unchanged = self._uncompared = 0
        self._failed = 0

    @property
    def done(self) -> int:
        """Sources that need no more work, committed or not."""
        return self.committed + len(self.rows) + self._failed + self._unchanged

    def resume(self, rows: dict[str, dict[str, Any]]) -> None:
        """Take over what an interrupted run has finished."""
        self.rows.update(rows)
        self._resumed.update(rows)

    def take(self, source: Source, result: dict[str, Any] | Exception) -> bool:
        """Note one result; whether it is a new row. Raises what is not the source's own failure."""
        if isinstance(result, dict):
            if result.get("_unchanged"):
                self._unchanged += 1
                self._uncompared += bool(result.get("_uncompared"))
                return False
            self.rows[source.obs_id] = result
            return True
        if isinstance(result, StorageError | IntegrityError) or not isinstance(result, RadiObjectError):
            raise result  # the place failed, or we did: going on would only repeat it
        self._failed += 1
        self.failures.append(
            {
                "source": source.name,
                "obs_subject_id": source.obs_subject_id,
                "obs_id": source.obs_id,
                "collection": source.collection,
                "error": type(result).__name__,
                "message": str(result),
            }
        )
        return False

    def refuse(self) -> None:
        """Raise `IngestError` for what failed since the last commit."""
        report = sorted(self.failures, key=lambda f: f["source"])
        kept = (
            f"{self.committed} volumes were committed before" if self.committed else "nothing was committed"
        )
        raise ingest_error(
            f"{self._uri}: {len(report)} of {self._total} sources failed, {kept}",
            report,
            hint='Mend or drop these and run again with resume=True, or pass errors="collect".',
        )

    def ledger(self, sources: Sequence[Source]) -> pa.Table:
        """A line for each row and failure that waits, in the order of the plan."""
        failed = {f["obs_id"]: f for f in self.failures}
        lines = []
        for s in sources:
            row, failure = self.rows.get(s.obs_id), failed.get(s.obs_id)
            if row is None and failure is None:
                continue
            written = "resumed" if s.obs_id in self._resumed else "ingested"
            lines.append(
                {
                    "obs_subject_id": s.obs_subject_id,
                    "obs_id": s.obs_id,
                    "collection": s.collection,
                    "outcome": "failed" if row is None else written,
                    "source_digest": row and row["source_digest"],
                    "error": failure and failure["error"],
                    "message": failure and _private(failure["message"], s),
                    "seconds": row and row.get("_seconds"),
                }
            )
        return pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA)

    def forget(self) -> None:
        """What waited is committed now."""
        self.committed += len(self.rows)
        self.rows.clear()
        self.failures.clear()

    def say(self, held: int, version: int) -> str:
        """One line on the run as a whole; `held` are sources that were skipped because the study has them."""
        counts = {
            "written": self.committed - len(self._resumed),
            "resumed": len(self._resumed),
            "unchanged": self._unchanged - self._uncompared,
            "left as they are, with no digest to compare": self._uncompared,
            "skipped": held,
            "failed": self._failed,
        }
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing to do"
        new = self.committed or self._failed
        line = f"{said}: version {version}" if new else f"{said}; no new version, {version} stays"
        _log.info("%s: %s", self._uri, line)
        return line


def ingest_error(what: str, report: list[dict[str, Any]], *, hint: str) -> IngestError:
    """The error of a run that failed: what happened, and below it the first ten lines of its report."""
    lines = [f"  {line['error']}: {line['message']}" for line in report[:_TOLD]]
    if len(report) > _TOLD:
        lines.append(f"  ... and {len(report) - _TOLD} more in .report")
    return IngestError("\n".join([what, *lines, ""]), report, hint=hint)


def noting(
    finish: Callable[[Transaction, Edit], Snapshot],
    lines: pa.Table,
    confirm: Callable[[Snapshot], None] | None = None,
) -> Callable[[Transaction, Edit], Snapshot]:
    """`finish` with further lines of the ledger in the first commit of an ingest, and `confirm` in each."""
    waiting = [lines]

    def finish_with(transaction: Transaction, edit: Edit) -> Snapshot:
        edit.confirm = confirm
        if waiting:
            more = waiting.pop()
            edit.ledger = more if edit.ledger is None else pa.concat_tables([edit.ledger, more])
        return finish(transaction, edit)

    return finish_with


def _private(message: str, source: Source) -> str:
    # folders carry names of people and machines; the file's own name is enough to find it
    if isinstance(source.item, Readable):
        return source.item.private(message)
    folder = os.path.dirname(source.name)
    return message.replace(folder + os.sep, "") if folder else message
