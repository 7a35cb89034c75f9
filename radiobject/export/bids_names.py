"""Places of volumes in a BIDS data set: folder and name of each file, from ids and columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiobject.format.acquisition import ENTITIES

__all__ = ["Place", "places"]

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
    def entities(self) -> frozenset[str]:
        """What the stem says, by its short names."""
        return frozenset(part.partition("-")[0] for part in self.stem.split("_")[:-1])

    @property
    def folder(self) -> str:
        """Folder below the data set."""
        return "/".join([self.subject, *([f"ses-{self.session}"] if self.session else []), self.datatype])

    def without(self, entities: frozenset[str]) -> str:
        """The stem without its suffix and these entities."""
        parts = self.stem.split("_")[:-1]
        return "_".join(part for part in parts if part.partition("-")[0] not in entities)

    @staticmethod
    def label_of(subject: str) -> str:
        """A subject's id as BIDS may have it: `sub-` and letters and digits.

        >>> Place.label_of("sub-01"), Place.label_of("case_7")
        ('sub-01', 'sub-case7')
        """
        return f"sub-{_label(subject.removeprefix('sub-'))}"


def places(rows: Sequence[Mapping[str, Any]]) -> list[Place]:
    """A place for each row of obs, no two alike; rows have `_collection` and `_kind` besides."""
    subjects: dict[str, str] = {}
    for row in rows:
        subject = row["obs_subject_id"]
        if subject not in subjects:
            subjects[subject] = _free(Place.label_of(subject), set(subjects.values()))
    first = [_place(row, subjects[row["obs_subject_id"]]) for row in rows]
    taken = {(place.pipeline, place.stem) for place in first if place.stem == place.row["obs_id"]}
    found = []
    for place in first:
        number, suffix = 1, place.stem.rpartition("_")[2]
        while place.stem != place.row["obs_id"] and (place.pipeline, place.stem) in taken:
            # what no column tells apart is a repetition
            number += 1
            repeated = {**place.row, "run": number}
            place = replace(place, stem=_stem(repeated, place.subject, place.session, suffix))
        taken.add((place.pipeline, place.stem))
        found.append(place)
    return found


def _place(row: Mapping[str, Any], subject: str) -> Place:
    session = _label(row.get("session") or "")
    datatype = row.get("datatype") if re.fullmatch("[a-z]+", row.get("datatype") or "") else None
    labels = row["_kind"] == "label" and datatype is None
    pipeline = re.sub(r"[^A-Za-z0-9_.+-]", "", row.get("pipeline") or "").strip(".")
    named = None if labels else _STEM.fullmatch(row["obs_id"])
    if named is not None and named["subject"] == subject and _agrees(row, row["obs_id"]):
        stem, suffix = row["obs_id"], named["suffix"]
    else:
        suffix = "dseg" if labels else _label(row["_collection"]) or "image"
        stem = _stem(row, subject, session, suffix)
    pipeline = pipeline or (_SEGMENTATIONS if labels else "")
    return Place(row, subject, session, pipeline, datatype or _DATATYPES.get(suffix, "anat"), stem)


def _agrees(row: Mapping[str, Any], stem: str) -> bool:
    """Whether a name says the session and the run that the columns say."""
    said = dict(part.split("-", 1) for part in stem.split("_")[:-1])
    run, number = row.get("run"), said.get("run", "")
    same_run = run is None or (number.isdecimal() and int(number) == run)
    return same_run and said.get("ses") == row.get("session")


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


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while (name if number == 1 else f"{name}x{number}") in taken:
        number += 1
    return name if number == 1 else f"{name}x{number}"
