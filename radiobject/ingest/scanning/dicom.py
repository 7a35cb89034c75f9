"""DICOM folders as rows of a plan: series that make volumes, and those that do not, with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from radiobject.executor import Progress
from radiobject.ingest.deidentify import Deidentifier, find_key
from radiobject.ingest.dicom.entries import entries_of
from radiobject.ingest.dicom.finding import find
from radiobject.ingest.dicom.items import Labels
from radiobject.ingest.dicom.rows import Row, named
from radiobject.ingest.dicom.series import Irregular
from radiobject.ingest.scanning.rows import Found, PlanRow
from radiobject.ingest.unreadable import Unreadable

__all__ = ["scan_dicom_folder"]


def scan_dicom_folder(
    root: str,
    *,
    deidentify: bool = True,
    deid_key: str | bytes | os.PathLike[str] | None = None,
    deid_map: Any = None,
    keep_phi: str | Iterable[str] = (),
    irregular: Irregular = "error",
    progress: bool | Progress | None = None,
) -> Found:
    """Rows of the series below a folder. Options are those of `RadiObject.from_dicoms`.

    Tags are attributes as the files have them, descriptions among them: a plan is for your eyes, and its
    tags do not come into a study.
    """
    deid = Deidentifier(find_key(deid_key), keep_phi=keep_phi, deid_map=deid_map) if deidentify else None
    keep = () if deid is not None else keep_phi
    found = find(entries_of(root, None), deid, irregular=irregular, keep_phi=keep, progress=progress)
    named(found.rows, [])
    rows = [_row(row) for row in found.rows]
    rows += [
        PlanRow(path, "OT", "", "", verdict="error", reason=str(error), item=Unreadable(path, error))
        for path, error in found.damaged.items()
    ]
    return Found("dicom", rows, skipped=dict(found.skipped))


def _row(row: Row) -> PlanRow:
    item = row.item
    bad = isinstance(item, Unreadable)
    columns = {**row.columns, **({"series_part": row.part} if row.part else {})}
    then = columns.pop("acquisition_time", None)
    return PlanRow(
        path=row.path,
        collection=row.collection,
        obs_subject_id=row.obs_subject_id,
        obs_id="",
        kind="label" if isinstance(item, Labels) else "image",
        session=row.session,
        run=row.run,
        acquisition_time=then,
        tags={**row.tags, **({"part": row.part} if row.part else {})},
        columns=columns,
        verdict="error" if bad else "ingest",
        reason=str(item.error) if isinstance(item, Unreadable) else "",
        item=item,
        study_date=row.study_date,
        scanned_session=row.session,
    )
