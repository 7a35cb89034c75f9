"""DICOM: folders of files -> headers -> volumes and labels -> the rows of an ingest.

What pydicom parses is read from raw elements (`headers`), one frame at a time (`single`, `enhanced`,
`mosaic`), sorted into volumes (`series`, `geometry`) and decoded only when a volume is written (`volume`,
`pixels`). SEG and RTSTRUCT become label volumes. `docs/dicom-cases.md` shows what becomes of real series.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from radiobject.errors import ConfigError, IngestError, SourceNotFoundError
from radiobject.executor import Executor, Progress
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.schema import LEDGER_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.ingest import ingest
from radiobject.ingest.deidentify import Deidentifier, find_key
from radiobject.ingest.dicom.entries import entries_of
from radiobject.ingest.dicom.finding import Findings, find
from radiobject.ingest.dicom.rows import Row, named, table_of_rows
from radiobject.ingest.dicom.series import Irregular
from radiobject.ingest.held import held_series, refuse_names_in_place, refuse_other_key, sessions_hold
from radiobject.ingest.outcome import ingest_error, noting

__all__ = ["ingest_dicoms"]

_log = logging.getLogger(__name__)


def ingest_dicoms(
    uri: str,
    images: Any,
    obs_meta: Any = None,
    *,
    obs: Mapping[str, Any] | None = None,
    base: Snapshot | None = None,
    labels: Any = None,
    others: Mapping[str, Any] | None = None,
    deidentify: bool = True,
    deid_key: str | bytes | os.PathLike[str] | None = None,
    deid_map: Any = None,
    keep_phi: str | Iterable[str] = (),
    irregular: Irregular = "error",
    deidentify_others: bool = False,
    copy: bool = True,
    errors: Literal["raise", "collect"] = "raise",
    executor: Executor = "threads",
    workers: int | None = None,
    progress: bool | Progress | None = None,
    finish: Callable[[Transaction, Edit], Snapshot] = Transaction.commit,
    **options: Any,
) -> Snapshot:
    """Write every volume that the folders hold and commit them together; see `RadiObject.from_dicoms`.

    `others` are collections of NIfTI that join them; `deidentify_others` blanks their headers. With
    copy=False images stay in their files; SEG and RTSTRUCT, which become voxels on the grid of their images,
    are written.
    """
    refuse_names_in_place(deidentify=deidentify, copy=copy)
    if irregular not in ("error", "keep"):
        raise ConfigError("irregular=", expected="'error' or 'keep'", got=repr(irregular))
    deid = _deidentifier(deidentify, deid_key, deid_map, keep_phi)
    held = [] if base is None else held_series(base)
    refuse_other_key(None if deid is None else deid.key.id, held, uri)
    entries = entries_of(images, labels)
    # headers are read in Python: threads would only take turns
    reading = "serial" if executor == "threads" else executor
    keep = keep_phi if deid is None else ()
    found = find(
        entries, deid, irregular=irregular, keep_phi=keep, executor=reading, workers=workers,
        progress=progress,
    )  # fmt: skip
    _tell(found)
    if found.damaged and errors == "raise":
        raise _damage(uri, found)
    if not found.rows:
        places = ", ".join(dict.fromkeys(e.place for e in entries))
        raise SourceNotFoundError(places, expected="images that make a volume", got=found.told() or "none")
    named(found.rows, held)
    chosen, kinds = _by_collection(found.rows, images, labels)

    if base is not None and obs_meta is None:
        known = set(base.table("obs_meta").ids())
        new = list(dict.fromkeys(r.obs_subject_id for r in found.rows if r.obs_subject_id not in known))
        obs_meta = {"obs_subject_id": new} if new else None
    tables = {name: table_of_rows(rows, name, (obs or {}).get(name)) for name, rows in chosen.items()}
    sources = {name: [(r.item, r.obs_subject_id, r.obs_id) for r in rows] for name, rows in chosen.items()}
    return ingest(
        uri, {**sources, **(others or {})}, obs_meta, obs={**(obs or {}), **tables}, base=base, labels=kinds,
        deidentify=deidentify_others, copy=copy, errors=errors, executor=executor, workers=workers,
        progress=progress, finish=noting(finish, _ledger(found), sessions_hold(found.rows, held)), **options,
    )  # fmt: skip


def _deidentifier(deidentify: bool, key: Any, crosswalk: Any, keep_phi: Any) -> Deidentifier | None:
    if deidentify:
        return Deidentifier(find_key(key), keep_phi=keep_phi, deid_map=crosswalk)
    if key is not None or crosswalk is not None:
        raise ConfigError("deidentify=False", expected="neither deid_key= nor deid_map=", got="one of them")
    return None


def _tell(found: Findings) -> None:
    if text := found.told():
        _log.warning("%s", text)
    for warning, count in found.warned.items():
        _log.warning("%d volumes: %s", count, warning)
    for path, error in found.damaged.items():
        _log.info("%s is left out: %s", path, error)
    if found.damaged:
        first = next(iter(found.damaged.values()))
        _log.warning("%d files cannot be read, such as %s", len(found.damaged), first)


def _damage(uri: str, found: Findings) -> IngestError:
    """A file that cannot be read may be a slice of any volume: none of them can be trusted to be whole."""
    empty = {"obs_subject_id": "", "obs_id": "", "collection": ""}
    report = [
        {"source": path, **empty, "error": type(error).__name__, "message": str(error)}
        for path, error in sorted(found.damaged.items())
    ]
    return ingest_error(
        f"{uri}: {len(report)} files cannot be read, nothing was committed",
        report,
        hint='Fetch them again or take them away, or pass errors="collect" to ingest the rest.',
    )


def _by_collection(rows: Sequence[Row], images: Any, labels: Any) -> tuple[dict[str, list[Row]], Any]:
    """Rows by collection, those of `images` first and in its order; and `labels` for the ingest."""
    order = list(images) if isinstance(images, Mapping) else []
    chosen: dict[str, list[Row]] = {name: [] for name in order}
    for row in rows:
        chosen.setdefault(row.collection, []).append(row)
    chosen = {name: of for name, of in chosen.items() if of}
    if isinstance(images, Mapping) or labels is not None:
        return chosen, labels
    return chosen, [name for name in chosen if name in ("SEG", "RTSTRUCT")]


def _ledger(found: Findings) -> pa.Table:
    """Lines for what became no volume. Paths may name people: only counts are kept."""
    skipped = found.skipped.items()
    lines = [("noted", "SkippedFiles", f"{count} of the files: {reason}") for reason, count in skipped]
    if found.damaged:
        lines.append(("failed", "SourceCorruptError", f"{len(found.damaged)} files cannot be read"))
    empty = {"obs_subject_id": "", "obs_id": "", "collection": ""}
    return pa.Table.from_pylist(
        [{**empty, "outcome": o, "error": e, "message": m} for o, e, m in lines], schema=LEDGER_SCHEMA
    )
