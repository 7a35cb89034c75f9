"""Findings: what is wrong or unlike the rest, and why; a line for each volume, subject or collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from radiobject.show.report.robust import share

__all__ = ["KINDS", "Finding", "Kind", "told"]

Severity = Literal["problem", "odd"]


@dataclass(frozen=True)
class Kind:
    """A sort of finding: its heading, whether it is wrong or only unlike the rest, and the rule, in words.

    When more than `alone` of a collection's volumes have it (and more than two), they are told in one line:
    what most volumes are is how the collection is, and a second group holds no outliers.
    """

    title: str
    severity: Severity
    rule: str
    alone: float


_WRONG, _GROUP = 0.5, 0.1

KINDS: dict[str, Kind] = {
    "affine": Kind("No usable affine", "problem", "The affine is missing or has no inverse.", 1.0),
    "constant": Kind("Constant image", "problem", "All voxels have one value.", _WRONG),
    "nonfinite": Kind("Voxels that are no numbers", "problem", "Some voxels are NaN or infinite.", _WRONG),
    "negative_label": Kind("Negative labels", "problem", "A label volume holds values below zero.", _WRONG),
    "shear": Kind(
        "Axes not at right angles",
        "problem",
        "Two array axes depart from a right angle by more than 0.1 degrees. Many tools ignore that.",
        _WRONG,
    ),
    "grid": Kind(
        "Label not on its image's grid",
        "problem",
        "Shapes differ, or a corner lies more than 0.001 mm, or a hundredth of a voxel where that is less, "
        "from its partner's. Compared with every image collection on whose grids most volumes of the label "
        "collection lie.",
        _WRONG,
    ),
    "duplicate": Kind(
        "Same content under two ids",
        "problem",
        "Two volumes were made from the same bytes. Constant and empty ones do not count.",
        1.0,
    ),
    "failed": Kind(
        "Sources that failed", "problem", "Their last line in the ledger says failed; no volume is here.", 1.0
    ),
    "no_volumes": Kind("Subjects without volumes", "problem", "In no collection is a volume.", 1.0),
    "missing": Kind("Missing in a collection", "odd", "Told when at least 4 of 5 have what these lack.", 1.0),
    "partner": Kind(
        "Label or image without its partner",
        "odd",
        "Of the same subject, session and run, where at least 4 of 5 have one.",
        1.0,
    ),
    "empty_label": Kind("Empty label", "odd", "No voxel is labelled.", _WRONG),
    "unnamed_label": Kind(
        "Labels without a name",
        "odd",
        "The collection names its labels, and this value is not among them.",
        _WRONG,
    ),
    "absent_label": Kind("Label is absent", "odd", "At least 4 of 5 volumes have it.", _GROUP),
    "label_size": Kind(
        "Unusual size of a label", "odd", "Its millilitres are far from the others', on a log scale.", _GROUP
    ),
    "shape": Kind(
        "Unusual shape", "odd", "Not the usual shape, or far from the others along an axis.", _GROUP
    ),
    "axes": Kind("Unusual axes", "odd", "Other time points or channels than usual.", _GROUP),
    "spacing": Kind(
        "Unusual spacing", "odd", "Off the usual spacing by more than 1 %, or far from the others.", _GROUP
    ),
    "unit": Kind("Unusual unit of length", "odd", "Not the unit of the others.", _GROUP),
    "field_of_view": Kind(
        "Unusual field of view",
        "odd",
        "Its extent in mm is far from the others'. Told where shape and spacing are not odd by themselves.",
        _GROUP,
    ),
    "position": Kind(
        "Unusual position", "odd", "The centre of the field of view lies far from the others'.", _GROUP
    ),
    "axcodes": Kind("Unusual axis order", "odd", "Not the usual axis codes.", _GROUP),
    "obliquity": Kind(
        "Unusual tilt", "odd", "Oblique by more than 1 degree where others are straight, or far more.", _GROUP
    ),
    "dtype": Kind("Unusual dtype", "odd", "Not the usual element type.", _GROUP),
    "intensity": Kind(
        "Unusual intensities",
        "odd",
        "Mean, median, 1st or 99th percentile, or the range between the 0.5th and the 99.5th, is far from "
        "the others'. Less than a quarter of the usual range is never far.",
        _GROUP,
    ),
    "clipped": Kind(
        "Clipped intensities",
        "odd",
        "At least 1 in 200 voxels has the highest value of all, or 1 in 10 the lowest where few usually do, "
        "and far fewer have the values beside it.",
        _WRONG,
    ),
    "border": Kind(
        "Content reaches the border",
        "odd",
        "Voxels other than 0 touch a face that hardly any other volume's touch: cut off?",
        _GROUP,
    ),
    "tiny": Kind(
        "Little content", "odd", "The box of voxels other than 0 is far smaller than usual.", _GROUP
    ),
}
"""By name, in the order in which they are told."""


@dataclass(frozen=True)
class Finding:
    """One finding. `obs_id` is empty where a subject is meant, `obs_subject_id` too where a collection is.

    `volumes` is the number of volumes (or subjects, or sources) that it is about.
    """

    kind: str
    collection: str
    obs_subject_id: str
    obs_id: str
    message: str
    volumes: int = 1

    @property
    def severity(self) -> Severity:
        """ "problem": wrong wherever it occurs. "odd": unlike the rest; look at it."""
        return KINDS[self.kind].severity


def told(
    kind: str,
    collection: str,
    obs_ids: Sequence[str],
    subjects: Sequence[str],
    messages: Mapping[int, str],
) -> list[Finding]:
    """A finding for each row of `messages`, or one for all where they are too many to be outliers."""
    rows, n = sorted(messages), len(obs_ids)
    if len(rows) <= max(2, KINDS[kind].alone * n):
        return [Finding(kind, collection, subjects[i], obs_ids[i], messages[i]) for i in rows]
    few = ", ".join(obs_ids[i] for i in rows[:3])
    return [
        Finding(
            kind,
            collection,
            "",
            "",
            f"{share(len(rows), n)} volumes: {few}, ...; the first: {messages[rows[0]]}",
            len(rows),
        )
    ]
