"""Sessions: numbers for the studies of a subject, and for the series of a session, that stay as they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Held", "Series", "number_runs", "number_sessions", "settle_ids"]

Held = Sequence[Mapping[str, Any]]
"""Rows of `held_series`."""


class Series(Protocol):
    """A future volume of a series. `study` and `series` are UIDs as the study keeps them, "" for none; `key`
    tells volumes of a series apart. `session`, `run` and `obs_id` are filled in."""

    collection: str
    obs_subject_id: str
    obs_id: str
    session: str | None
    run: int | None

    @property
    def study(self) -> str: ...
    @property
    def study_date(self) -> str: ...
    @property
    def series(self) -> str: ...
    @property
    def key(self) -> str: ...


def number_sessions(rows: Sequence[Series], held: Held) -> None:
    """The ordinal of a subject's study by date; a study that is held keeps its number, others count on."""
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


def number_runs(rows: Sequence[Series], held: Held) -> None:
    """Which volume of its collection and session each is, where there are several; held ones keep theirs."""
    groups: dict[Any, list[Series]] = defaultdict(list)
    for row in rows:
        groups[row.collection, row.obs_subject_id, row.session].append(row)
    known: dict[Any, int | None] = {}
    highest: Counter[Any] = Counter()
    for h in held:
        group = h["collection"], h["obs_subject_id"], h["session"]
        known[(*group, h["series_uid"], h["series_volume"])] = h["run"]
        highest[group] = max(highest[group] + (h["run"] is None), h["run"] or 0)
    for group, members in groups.items():
        new = [r for r in members if (*group, r.series, r.key) not in known]
        several = len(new) > 1 or highest[group] > 0
        fresh = {id(row) for row in new}
        for row in members:
            if id(row) not in fresh:
                row.run = known[(*group, row.series, row.key)]
        for number, row in enumerate(new, highest[group] + 1):
            row.run = number if several else None


def settle_ids(rows: Sequence[Series], held: Held) -> None:
    """`{subject}_{collection}`, of further volumes with `_acq-1` and so on; a volume of a series that the
    study holds of this subject keeps its obs_id."""
    ids = {
        (h["collection"], h["obs_subject_id"], h["series_uid"], h["series_volume"]): h["obs_id"]
        for h in held
        if h["series_uid"]
    }
    taken = {h["obs_id"] for h in held}
    for row in rows:
        known = ids.get((row.collection, row.obs_subject_id, row.series, row.key)) if row.series else None
        name, count = f"{row.obs_subject_id}_{row.collection}", 0
        row.obs_id = known or name
        while known is None and row.obs_id in taken:
            count += 1
            row.obs_id = f"{name}_acq-{count}"
        taken.add(row.obs_id)
