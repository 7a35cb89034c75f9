"""Places of volumes in a BIDS data set: folder and name of each file, from ids and columns."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiobject.format.acquisition import ENTITIES

__all__ = ["Place", "places", "subject_labels", "with_neighbours"]

_STEM = re.compile(r"(?P<subject>sub-[A-Za-z0-9+]+)(_[A-Za-z0-9]+-[^_/\\]+)*_(?P<suffix>[A-Za-z0-9]+)")
_SEGMENTATIONS = "segmentations"
_PLAIN_LABELS = frozenset({"seg", "segs", "segmentation", "label", "labels", "mask", "dseg"})
_FIELDMAPS = (
    "phasediff", "phase1", "phase2", "magnitude", "magnitude1", "magnitude2", "fieldmap", "epi",
)  # fmt: skip
_DATATYPES = {
    **dict.fromkeys(("bold", "cbv", "sbref"), "func"),
    **dict.fromkeys(_FIELDMAPS, "fmap"),
    **dict.fromkeys(("asl", "m0scan"), "perf"),
    "dwi": "dwi",
    "pet": "pet",
}
"""Folder of a suffix where no column says it; all others are anatomy."""


@dataclass(frozen=True)
class Place:
    """Where a volume goes. `subject` is `sub-<label>`, `session` a label or empty, `row` its row of obs."""

    row: Mapping[str, Any]
    subject: str
    session: str
    pipeline: str
    datatype: str
    stem: str

    @property
    def entities(self) -> dict[str, str]:
        """What the stem says, by its short names."""
        return dict(part.split("-", 1) for part in self.stem.split("_")[:-1])

    @property
    def suffix(self) -> str:
        """The end of the stem."""
        return self.stem.rpartition("_")[2]

    @property
    def folder(self) -> str:
        """Folder below the data set."""
        return "/".join([self.subject, *([f"ses-{self.session}"] if self.session else []), self.datatype])

    def without(self, entities: frozenset[str]) -> str:
        """The stem without its suffix and these entities."""
        parts = self.stem.split("_")[:-1]
        return "_".join(part for part in parts if part.partition("-")[0] not in entities)


def subject_labels(ids: Iterable[str]) -> dict[str, str]:
    """Each subject's id as BIDS may have it, `sub-` and letters and digits, no two alike.

    Labels that differ in case alone count as alike, as they are one folder on many disks. An id that is a
    label keeps it; of the others the first does.

    >>> subject_labels(["case_7", "sub-01", "case7"])
    {'sub-01': 'sub-01', 'case7': 'sub-case7', 'case_7': 'sub-case7x2'}
    """
    return {subject: f"sub-{label}" for subject, label in _settled(ids, "sub-").items()}


def places(rows: Sequence[Mapping[str, Any]], subjects: Mapping[str, str] | None = None) -> list[Place]:
    """A place for each row of obs, no two alike; rows have `_collection` and `_kind` besides.

    `subjects` are the labels of subjects where there are more than these rows have.
    """
    labels = subjects or subject_labels(row["obs_subject_id"] for row in rows)
    visits: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.get("session"):
            visits[row["obs_subject_id"]].append(row["session"])
    sessions = {subject: _settled(of, "") for subject, of in visits.items()}
    first = []
    for row in rows:
        subject = row["obs_subject_id"]
        session = sessions[subject][row["session"]] if row.get("session") else ""
        first.append(_place(row, labels[subject], session))
    taken = {(place.pipeline, place.stem) for place in first if place.stem == place.row["obs_id"]}
    found = []
    for place in first:
        number = 1
        while place.stem != place.row["obs_id"] and (place.pipeline, place.stem) in taken:
            # what no column tells apart is a repetition
            number += 1
            repeated = {**place.row, "run": number}
            place = replace(place, stem=_stem(repeated, place.subject, place.session, place.suffix))
        taken.add((place.pipeline, place.stem))
        found.append(place)
    return found


def with_neighbours(placed: Iterable[Place]) -> set[tuple[str, str]]:
    """Pipeline and stem of each place beside which another is whose sidecars would fit it too."""
    groups: dict[tuple[str, str, str], list[tuple[str, set[tuple[str, str]]]]] = defaultdict(list)
    for place in placed:
        said = place.stem, set(place.entities.items())
        groups[place.pipeline, place.folder, place.suffix].append(said)
    return {
        (pipeline, stem)
        for (pipeline, _, _), of in groups.items()
        for stem, said in of
        if any(other < said for _, other in of)
    }


def _place(row: Mapping[str, Any], subject: str, session: str) -> Place:
    datatype = row.get("datatype") if re.fullmatch("[a-z]+", row.get("datatype") or "") else None
    labels = row["_kind"] == "label" and datatype is None
    pipeline = re.sub(r"[^A-Za-z0-9_.+-]", "", row.get("pipeline") or "").strip(".")
    named = None if labels else _STEM.fullmatch(row["obs_id"])
    if named is not None and named["subject"] == subject and _agrees(row, session, row["obs_id"]):
        stem, suffix = row["obs_id"], named["suffix"]
    else:
        suffix = "dseg" if labels else _label(row["_collection"]) or "image"
        stem = _stem(row, subject, session, suffix)
    pipeline = pipeline or (_SEGMENTATIONS if labels else "")
    return Place(row, subject, session, pipeline, datatype or _DATATYPES.get(suffix, "anat"), stem)


def _agrees(row: Mapping[str, Any], session: str, stem: str) -> bool:
    """Whether a name says this session, and the run that the column says."""
    said = dict(part.split("-", 1) for part in stem.split("_")[:-1])
    run, number = row.get("run"), said.get("run", "")
    same_run = run is None or (number.isdecimal() and int(number) == run)
    return same_run and said.get("ses", "") == session


def _stem(row: Mapping[str, Any], subject: str, session: str, suffix: str) -> str:
    parts = [subject, *([f"ses-{session}"] if session else [])]
    collection = row["_collection"]
    own = {"desc": collection} if suffix == "dseg" and collection.lower() not in _PLAIN_LABELS else {}
    for entity in ENTITIES:
        value = own.get(entity) if row.get(entity) is None else row[entity]
        if value is not None and (label := _label(str(value))):
            parts.append(f"{entity}-{label}")
    return "_".join([*parts, suffix])


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+]", "", text)


def _settled(ids: Iterable[str], prefix: str) -> dict[str, str]:
    """A label for each id, never empty, no two alike when case is left out."""

    def changed(name: str) -> int:
        label = _label(name.removeprefix(prefix))
        kept = (f"{prefix}{label}", label) if label else ()
        return kept.index(name) if name in kept else 2

    labels: dict[str, str] = {}
    taken = set[str]()
    for name in sorted(dict.fromkeys(ids), key=changed):
        label = first = _label(name.removeprefix(prefix)) or "unnamed"
        number = 1
        while label.casefold() in taken:
            number += 1
            label = f"{first}x{number}"
        taken.add(label.casefold())
        labels[name] = label
    return labels
