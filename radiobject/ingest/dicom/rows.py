"""Rows: which subject, session and collection each found volume belongs to, and what it is called."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from radiobject.format.catalog import Snapshot
from radiobject.ingest.held import held_series
from radiobject.ingest.metadata import join_obs, obs_of_rows
from radiobject.ingest.sources import Readable

__all__ = ["Row", "named", "table_of_rows"]

_log = logging.getLogger(__name__)


@dataclass
class Row:
    """One future volume. `columns` go to obs; `study` and `series` are UIDs as the study keeps them."""

    item: Readable
    collection: str
    obs_subject_id: str
    study: str
    study_date: str
    series: str
    part: str
    path: str = ""
    """A file of it."""
    columns: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Attributes as they stand in the file: for the eyes of whoever ingests, never for the study."""
    image: Row | None = None
    """Of labels, the row of the images that they are drawn on."""
    obs_id: str = ""
    session: str | None = None
    run: int | None = None


def named(rows: Sequence[Row], base: Snapshot | None) -> None:
    """Give every row its session, run and obs_id.

    A session is the ordinal of a subject's study by date; a study that came with an earlier ingest keeps
    its number, later ones count on from the highest. A run counts the volumes of a collection within a
    session where there are several; labels have session and run of their images. An obs_id is
    `{subject}_{collection}`, of further volumes with `_acq-1` and so on; a series that the study holds keeps
    the obs_id that it has there.
    """
    held = [] if base is None else held_series(base)
    _number_sessions(rows, held)
    _number_runs(rows, held)
    ids = {
        (h["collection"], h["series_uid"], h["series_part"] or ""): h["obs_id"]
        for h in held
        if h["series_uid"]
    }
    taken = {h["obs_id"] for h in held}
    for row in rows:
        known = ids.get((row.collection, row.series, row.part)) if row.series else None
        name, count = f"{row.obs_subject_id}_{row.collection}", 0
        row.obs_id = known or name
        while known is None and row.obs_id in taken:
            count += 1
            row.obs_id = f"{name}_acq-{count}"
        taken.add(row.obs_id)


def table_of_rows(rows: Sequence[Row], collection: str, obs: Any = None) -> pa.Table:
    """The columns of a collection's rows, by obs_id, with those of the caller's `obs` joined."""
    listed = [
        {
            "obs_subject_id": r.obs_subject_id,
            "obs_id": r.obs_id,
            "session": r.session,
            "run": r.run,
            "series_part": r.part or None,
            **r.columns,
        }
        for r in rows
    ]
    table = obs_of_rows(listed)
    return table if obs is None else join_obs(table, obs, collection)


def _number_sessions(rows: Sequence[Row], held: Sequence[dict[str, Any]]) -> None:
    studies: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.study:
            date = studies[row.obs_subject_id].get(row.study, row.study_date)
            studies[row.obs_subject_id][row.study] = min(date, row.study_date)
    known: dict[tuple[str, str], str] = {}
    highest: Counter[str] = Counter()
    for h in held:
        if h["study_uid"] and h["session"]:
            known[h["obs_subject_id"], h["study_uid"]] = h["session"]
        if h["session"] and h["session"].isdecimal():
            highest[h["obs_subject_id"]] = max(highest[h["obs_subject_id"]], int(h["session"]))
    for subject, dates in studies.items():
        for study in sorted(dates, key=lambda uid, dates=dates: (dates[uid], uid)):  # type: ignore[misc]
            if (subject, study) not in known:
                highest[subject] += 1
                known[subject, study] = str(highest[subject])
    for row in rows:
        row.session = known.get((row.obs_subject_id, row.study))


def _number_runs(rows: Sequence[Row], held: Sequence[dict[str, Any]]) -> None:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        if row.image is None:
            groups[row.collection, row.obs_subject_id, row.session].append(row)
    known: dict[Any, int] = {}
    highest: Counter[Any] = Counter()
    for h in held:
        group = h["collection"], h["obs_subject_id"], h["session"]
        known[(*group, h["series_uid"], h["series_part"] or "")] = h["run"]
        highest[group] = max(highest[group] + (h["run"] is None), h["run"] or 0)
    for group, members in groups.items():
        new = [r for r in members if (*group, r.series, r.part) not in known]
        several = len(new) > 1 or highest[group] > 0
        for row in members:
            if row not in new:
                row.run = known[(*group, row.series, row.part)]
        for number, row in enumerate(new, highest[group] + 1):
            row.run = number if several else None
    for row in rows:
        if row.image is not None:
            row.session, row.run = row.image.session, row.image.run
