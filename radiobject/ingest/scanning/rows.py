"""PlanRow: one future volume, as a layout finds it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from radiobject.format.meta import Kind, Label
from radiobject.ingest.sources import Readable
from radiobject.writing.loaded import Axis4

__all__ = ["Found", "PlanRow", "Verdict"]

Verdict = Literal["ingest", "skip", "error"]
"""What becomes of a row; `reason` says why it is skipped or wrong."""


@dataclass
class PlanRow:
    """One future volume.

    `path` is its file, or the folder of a DICOM series. `tags` are what rules match: entities of BIDS,
    attributes of DICOM, parts of a layout. `columns` go to obs. `channel` picks one of a 4D file whose
    fourth axis are channels; without one `axis4` says what that axis is. `attachments` are files to keep
    beside the voxels: name -> path. `item` reads it where a path does not say enough.
    """

    path: str
    collection: str
    obs_subject_id: str
    obs_id: str
    kind: Kind = "image"
    session: str | None = None
    run: int | None = None
    acquisition_time: datetime.datetime | None = None
    channel: int | None = None
    labels: tuple[Label, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict = "ingest"
    reason: str = ""
    item: Readable | None = None
    study_date: str = ""
    """When its DICOM study was, to number sessions by."""

    scanned_session: str | None = None
    """The session that the scan gave it."""

    @property
    def study(self) -> str:
        """UID of its DICOM study, as a study keeps it."""
        return str(self.columns.get("study_uid") or "")

    @property
    def series(self) -> str:
        """UID of its DICOM series, as a study keeps it."""
        return str(self.columns.get("series_uid") or "")

    @property
    def key(self) -> str:
        """Which volume of its DICOM series it is."""
        return str(self.columns.get("series_volume") or "")

    axis4: Axis4 = "auto"


@dataclass
class Found:
    """What a layout found: rows, the table of subjects it has (None: ids alone), and what became no row."""

    layout: str
    rows: list[PlanRow]
    obs_meta: Any = None
    skipped: Mapping[str, int] = field(default_factory=dict)
