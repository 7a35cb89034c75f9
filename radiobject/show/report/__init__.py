"""Report: one self-contained HTML page about a study, from its commit and tables alone; no voxel is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from radiobject.executor import Progress
from radiobject.location import Location
from radiobject.show.document import framed
from radiobject.show.report.findings import KINDS, Finding
from radiobject.show.report.gather import StudyFacts, gather
from radiobject.show.report.geometry import geometry_findings
from radiobject.show.report.intensities import intensity_findings
from radiobject.show.report.labels import Presence, label_findings, presence
from radiobject.show.report.pictures import Pictures, pictures
from radiobject.show.report.relations import relation_findings
from radiobject.storage import Storage

if TYPE_CHECKING:
    from radiobject.model.view import StudyView

__all__ = ["THUMBNAILS", "Finding", "Report", "finding_row", "make_report"]

THUMBNAILS = 400
"""Most pictures on a page: at 5 to 12 kB each a few megabytes."""


@dataclass(frozen=True)
class Report:
    """What a study's tables tell about it: facts, findings, and a page that shows them.

    A notebook shows the page. `findings` has a row for each thing that is wrong ("problem") or unlike the
    rest of its collection ("odd").
    """

    facts: StudyFacts
    found: tuple[Finding, ...]
    labels: dict[str, Presence]
    pictures: dict[str, Pictures]

    @property
    def findings(self) -> pd.DataFrame:
        """Columns severity, kind, collection, obs_subject_id, obs_id, message, volumes; problems come first.

        Ids are empty where a whole collection or subject is meant; `volumes` is how many it is about.
        """
        return pd.DataFrame(
            [finding_row(f) for f in self.found],
            columns=["severity", "kind", "collection", "obs_subject_id", "obs_id", "message", "volumes"],
        )

    @cached_property
    def html(self) -> str:
        """The page. It loads nothing, runs no script but its own, and works from a file."""
        from radiobject.show.report.page import page

        return page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a path or URL; readers of an older one see that, or this one whole.

        Raises `StorageError`.
        """
        folder, _, name = Location(path).uri.rpartition("/")
        Storage(Location(folder or "/")).replace(name, self.html.encode())

    def _repr_html_(self) -> str:
        return framed(self.html, f"report of {self.facts.name}", 800)

    def __repr__(self) -> str:
        return f"<Report of {self.facts.name}: {self.facts.n_volumes} volumes, {self.verdict}>"

    @property
    def verdict(self) -> str:
        """How many findings there are, such as "1 problem, 3 odd"."""
        problems, odd = self.count("problem"), self.count("odd")
        return f"{problems:,} problem{'' if problems == 1 else 's'}, {odd:,} odd"

    def count(self, severity: str) -> int:
        """How many findings are of that severity: "problem" or "odd"."""
        return sum(f.severity == severity for f in self.found)


def make_report(
    radi: StudyView,
    *,
    obs_meta: bool = True,
    thumbnails: int = THUMBNAILS,
    progress: bool | Progress | None = None,
) -> Report:
    """Look at a study or a view; `StudyView.report` has the contract."""
    facts = gather(radi, obs_meta=obs_meta, progress=progress)
    held = {c.name: presence(c.intensities) for c in facts.collections if c.kind == "label"}
    found = relation_findings(facts)
    for volumes in facts.collections:
        found += geometry_findings(volumes)
        found += intensity_findings(volumes)
        if volumes.kind == "label":
            found += label_findings(volumes, held[volumes.name])
    order = {name: place for place, name in enumerate(KINDS)}
    found.sort(key=lambda f: (f.severity != "problem", order[f.kind]))  # stable: rows stay in order
    flagged = {c.name: {f.obs_id for f in found if f.collection == c.name} for c in facts.collections}
    return Report(facts, tuple(found), held, pictures(radi, facts, flagged, thumbnails))


def finding_row(finding: Finding) -> dict[str, Any]:
    """A finding as a row of a table, or of JSON."""
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "collection": finding.collection,
        "obs_subject_id": finding.obs_subject_id,
        "obs_id": finding.obs_id,
        "message": finding.message,
        "volumes": finding.volumes,
    }
