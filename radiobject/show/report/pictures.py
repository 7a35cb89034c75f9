"""Pictures: which volumes a page shows, and the thumbnails that ingest made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radiobject.show.cards import thumbnails_of
from radiobject.show.report.curves import spread
from radiobject.show.report.gather import StudyFacts, Volumes

if TYPE_CHECKING:
    from radiobject.model.view import StudyView

__all__ = ["Pictures", "pictures"]


@dataclass(frozen=True)
class Pictures:
    """Rows of a collection that are shown, flagged ones first, and the JPEG of each if it has one."""

    rows: list[int]
    jpegs: list[bytes | None]


def pictures(
    radi: StudyView, facts: StudyFacts, flagged: Mapping[str, set[str]], most: int
) -> dict[str, Pictures]:
    """At most `most` thumbnails, dealt out evenly; what small collections do not need goes to the others."""
    left, found = max(most, 0), {}
    waiting = sorted(facts.collections, key=len)
    for place, volumes in enumerate(waiting):
        rows = _chosen(volumes, flagged[volumes.name], left // (len(waiting) - place))
        left -= len(rows)
        ids = [volumes.obs_ids[row] for row in rows]
        jpegs = thumbnails_of(radi._study, volumes.name, ids) if ids else {}
        found[volumes.name] = Pictures(rows, [jpegs.get(obs_id) for obs_id in ids])
    return found


def _chosen(volumes: Volumes, flagged: set[str], most: int) -> list[int]:
    """Flagged rows, then an even choice of the others in their order."""
    rows = range(len(volumes))
    first = [i for i in rows if volumes.obs_ids[i] in flagged][:most]
    others = [i for i in rows if volumes.obs_ids[i] not in flagged]
    return first + [others[k] for k in spread(len(others), most - len(first)).tolist()]
