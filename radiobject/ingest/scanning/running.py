"""Running: a plan becomes a study, or joins one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from radiobject.errors import IngestError, MetadataError, SourceUnsupportedError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.schema import LEDGER_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.ingest import ingest
from radiobject.ingest.held import held_series, refuse_names_in_place, refuse_other_key, sessions_hold
from radiobject.ingest.metadata import obs_of_rows, subject_frame
from radiobject.ingest.outcome import ingest_error, noting
from radiobject.ingest.scanning.plan import Plan
from radiobject.ingest.scanning.rows import PlanRow
from radiobject.ingest.scanning.rules import REASONS
from radiobject.ingest.scanning.sources import item_of
from radiobject.ingest.sessions import Held, number_sessions, settle_ids
from radiobject.ingest.unreadable import Unreadable

__all__ = ["ingest_plan"]


def ingest_plan(
    uri: str,
    plan: Plan,
    obs_meta: Any = None,
    *,
    base: Snapshot | None = None,
    retry_failed: bool = False,
    message: str = "",
    finish: Callable[[Transaction, Edit], Snapshot] = Transaction.commit,
    **options: Any,
) -> Snapshot:
    """Ingest the rows of a plan; see `RadiObject.from_plan`.

    Rows with the verdict "error" fail, as sources do that cannot be read. `retry_failed` takes only what the
    ledger of `base` has as failed and the study does not hold.
    """
    rows = [row for row in plan.rows() if row.verdict != "skip"]
    lost = [row for row in rows if row.verdict == "error" and not row.obs_subject_id]
    if lost and options.get("errors", "raise") == "raise":
        raise _unreadable(uri, lost)
    rows = [row for row in rows if row.obs_subject_id]
    pseudonyms = any(row.columns.get("deid_key_id") for row in rows)
    refuse_names_in_place(deidentify=pseudonyms, copy=options.get("copy", True))
    held = [] if base is None or not any(row.series for row in rows) else held_series(base)
    if base is not None:
        _settle(rows, held, uri)
    if retry_failed:
        wanted = _failed(base)
        rows = [row for row in rows if row.obs_id in wanted]
    if not rows:
        raise MetadataError("plan", expected="at least one row to ingest", got=repr(plan))
    images: dict[str, list[Any]] = {}
    obs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        subject, obs_id = row.obs_subject_id, row.obs_id
        item = item_of(row) if row.verdict == "ingest" else _refused(row)
        images.setdefault(row.collection, []).append((item, subject, obs_id))
        own = {"session": row.session, "run": row.run, "acquisition_time": row.acquisition_time}
        ids = {"obs_subject_id": subject, "obs_id": obs_id}
        obs.setdefault(row.collection, []).append({**ids, **own, **row.columns})

    return ingest(
        uri, images, _subjects(plan, rows, obs_meta, base),
        obs={name: obs_of_rows(listed) for name, listed in obs.items()}, base=base, labels=_labels(rows),
        message=message or f"{plan.layout} folder", **options,
        finish=noting(finish, _noted(plan, len(lost)), sessions_hold(rows, held)),
    )  # fmt: skip


def _settle(rows: Sequence[PlanRow], held: Held, uri: str) -> None:
    """Number sessions and ids of DICOM on from those that the study has; what was edited stays.

    Raises `MetadataError` for pseudonyms of another key.
    """
    of_dicom = [row for row in rows if row.series]
    for key_id in {row.columns.get("deid_key_id") for row in of_dicom if row.study}:
        refuse_other_key(key_id, held, uri)
    edited = {id(row): row.session for row in of_dicom if row.session != row.scanned_session}
    number_sessions(of_dicom, held)
    for row in of_dicom:
        row.session = edited.get(id(row), row.session)
    settle_ids(of_dicom, held)


def _refused(row: PlanRow) -> Any:
    if row.item is not None:
        return row.item
    beside = tuple(row.attachments.values())
    return Unreadable(row.path, SourceUnsupportedError(row.path, got=row.reason), others=beside)


def _labels(rows: Sequence[PlanRow]) -> list[str]:
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds.setdefault(row.collection, set()).add(row.kind)
    if mixed := [name for name, found in kinds.items() if len(found) > 1]:
        raise MetadataError(
            f"plan, collection {mixed[0]!r}", expected="rows of one kind", got="images and label maps",
            hint="Send them to two collections, by rules= or in plan.table.",
        )  # fmt: skip
    return [name for name, found in kinds.items() if found == {"label"}]


def _subjects(plan: Plan, rows: Sequence[PlanRow], given: Any, base: Snapshot | None) -> Any:
    """The caller's table; else the layout's, with a row for every subject that has images."""
    if given is not None:
        return given
    used = list(dict.fromkeys(row.obs_subject_id for row in rows))
    held = set() if base is None else set(base.table("obs_meta").ids())
    new = [subject for subject in used if subject not in held]
    own = subject_frame(plan.obs_meta)
    if own is None:
        return {"obs_subject_id": new} if new or base is None else None
    where = {subject: n for n, subject in enumerate(own["obs_subject_id"].to_pylist())}
    # subjects without images stay in a new study: they are part of the cohort
    wanted = new if base is not None else [*where, *(s for s in new if s not in where)]
    if not wanted:
        return None
    taken = own.take(pa.array([where.get(s) for s in wanted], pa.int64()))
    at = taken.schema.get_field_index("obs_subject_id")
    return taken.set_column(at, taken.schema.field(at), pa.array(wanted, taken.schema.field(at).type))


def _failed(base: Snapshot | None) -> set[str]:
    if base is None:
        raise MetadataError("retry_failed=", expected="a study that has a ledger", got="a new one")
    failed = {
        r["obs_id"]
        for r in base.table("ledger").read(["obs_id", "outcome"]).to_pylist()
        if r["outcome"] == "failed"
    }
    held = {obs_id for entry in base.commit.collections for obs_id in base.table("obs", entry.name).ids()}
    return failed - held


def _noted(plan: Plan, lost: int) -> pa.Table:
    """What did not become a row or was skipped, counted. Only words of this package: paths and reasons of
    errors may name people."""
    counts = Counter(plan.skipped)
    for row in plan.rows():
        if row.verdict == "skip":
            counts[row.reason if row.reason in REASONS else "taken out of the plan"] += 1
    empty = {"obs_subject_id": "", "obs_id": "", "collection": ""}
    lines = [
        {**empty, "outcome": "noted", "error": "SkippedFiles", "message": f"{count} of the files: {reason}"}
        for reason, count in counts.items()
    ]
    if lost:
        text = f"{lost} files cannot be read"
        lines.append({**empty, "outcome": "failed", "error": "SourceCorruptError", "message": text})
    return pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA)


def _unreadable(uri: str, lost: Sequence[PlanRow]) -> IngestError:
    report = [
        {
            "source": r.path,
            "obs_subject_id": "",
            "obs_id": "",
            "collection": "",
            "error": "SourceError",
            "message": r.reason,
        }
        for r in lost
    ]
    return ingest_error(
        f"{uri}: {len(report)} files cannot be read, nothing was committed",
        report,
        hint='Fetch them again, set their verdict to "skip", or pass errors="collect".',
    )
