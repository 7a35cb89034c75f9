"""Series: which images of which files make one volume, and in which order."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from radiobject.errors import SourceError, SourceUnsupportedError
from radiobject.ingest.dicom.frames import Frame, Instance, Member
from radiobject.ingest.dicom.geometry import Stack, along_normal, is_even_stack, lattice, slots
from radiobject.ingest.dicom.times import in_time, time_step

__all__ = ["Arranged", "Irregular", "Refused", "arranged"]

_log = logging.getLogger(__name__)

Irregular = Literal["error", "keep"]
"""What to do with slices that are missing or unevenly spaced."""


@dataclass(frozen=True)
class Arranged:
    """The images of one volume: `members[t][z]`, and their geometry.

    `part` tells volumes of a series apart for people, "" when there is one; `key` does for good: it follows
    from the images alone, whatever else the series has.
    """

    members: tuple[tuple[Member, ...], ...]
    stack: Stack
    part: str
    time_step: float | None
    key: str = ""

    @property
    def first(self) -> Member:
        """The image that stands for all."""
        return self.members[0][0]


@dataclass(frozen=True)
class Refused:
    """Images that make no volume, and why."""

    instance: Instance
    error: SourceError
    part: str = ""
    key: str = ""
    others: tuple[str, ...] = ()
    """Further files that the error names."""


def arranged(instances: Iterable[Instance], irregular: Irregular = "error") -> list[Arranged | Refused]:
    """The volumes of files, in the order of their series numbers; what makes none with its error.

    Images are of one volume when series, SOP class, orientation, grid and spacing are the same. Where several
    lie at one position, they are told apart by kind of image, echo, inversion time, flip angle or kernel,
    which make volumes of their own, and then by time.
    """
    series: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for instance in _once(instances):
        for frame in instance.frames:
            series[_home(instance)].append(Member(instance, frame))
    found: list[Arranged | Refused] = []
    for members in sorted(series.values(), key=_series_order):
        try:
            of_series = [
                one for study in _by_uid(members, "StudyInstanceUID") for one in _volumes(study, irregular)
            ]
        except SourceError as error:
            of_series = [Refused(members[0].instance, error)]
        found += _distinct(of_series)
    return found


def _volumes(members: list[Member], irregular: Irregular) -> list[Arranged | Refused]:
    grids = [grid for same in _by_grid(members) for grid in _by_uid(same, "FrameOfReferenceUID")]
    found = []
    for grid in grids:
        labels = () if len(grids) == 1 else (_plane(grid[0].frame),)
        found += [_volume(group, "-".join(parts), irregular) for group, parts in _by_kind(grid, labels)]
    return found


def _home(instance: Instance) -> tuple[str, str]:
    """Its series: without a UID of it, what lies in one folder belongs together.

    With the patient, because some anonymisers give series of many one UID.
    """
    return instance.patient_id, instance.series_uid or os.path.dirname(instance.path)


def _series_order(members: Sequence[Member]) -> tuple[str, float]:
    """By study and number; what has none stays in the order of its files."""
    first = members[0].instance
    return first.study_date, math.inf if first.series_number is None else first.series_number


_UIDS: dict[str, Callable[[Instance], str]] = {
    "StudyInstanceUID": lambda i: i.study_uid,
    "FrameOfReferenceUID": lambda i: i.frame_of_reference_uid,
}


def _by_uid(members: list[Member], keyword: str) -> list[list[Member]]:
    """Members of one series split by a UID that a series has only one of; an empty one is any other's.

    Raises `SourceUnsupportedError` where the pieces would be one even stack: something gave each file a UID
    of its own, and to split by it would tear the volume apart.
    """
    groups: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        groups[_UIDS[keyword](member.instance)].append(member)
    if "" in groups and len(groups) == 2:
        return [members]
    if len(groups) == 1:
        return [members]
    for grid in _by_grid(members):
        several = len({_UIDS[keyword](m.instance) for m in grid}) > 1
        if several and is_even_stack([m.frame for m in grid]):
            raise SourceUnsupportedError(
                _name(grid[0].instance, "", len(grid)),
                expected=f"one {keyword} in the slices of a stack",
                got=f"{len(groups)}, in slices that follow each other",
                hint="Whatever made the files gave each its own; repair the element, then try again.",
            )
    return list(groups.values())


def _once(instances: Iterable[Instance]) -> list[Instance]:
    """Each image once: a copy of a file in another folder adds nothing."""
    seen: dict[Any, str] = {}
    found, copies = [], []
    for instance in instances:
        # some anonymisers give many images one SOPInstanceUID: what lies elsewhere is no copy
        places = tuple((f.position, f.moment) for f in instance.frames)
        key = _home(instance), instance.study_uid, instance.sop_uid, places
        if instance.sop_uid and key in seen:
            copies.append((instance.path, seen[key]))
            continue
        seen[key] = instance.path
        found.append(instance)
    if copies:
        text = "%d files are copies of others by SOPInstanceUID and position, and left out, such as %s of %s"
        _log.warning(text, len(copies), *copies[0])
    return found


def _by_grid(members: Sequence[Member]) -> list[list[Member]]:
    """Members of one orientation, size, spacing and class each."""
    groups: list[tuple[Any, Frame, list[Member]]] = []
    for member in members:
        pixels, frame = member.instance.pixels, member.frame
        of = member.instance
        key = pixels.rows, pixels.columns, pixels.tiles, of.sop_class
        for known, first, group in reversed(groups):
            if known == key and _same_plane(frame, first):
                group.append(member)
                break
        else:
            groups.append((key, frame, [member]))
    return [group for _, _, group in groups]


def _same_plane(one: Frame, other: Frame) -> bool:
    """Whether orientation and spacing are the same but for rounding."""
    return (one.orientation == other.orientation and one.spacing == other.spacing) or (
        max(abs(a - b) for a, b in zip(one.orientation, other.orientation, strict=True)) <= 1e-3
        and all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(one.spacing, other.spacing, strict=True))
    )


def _plane(frame: Frame) -> str:
    """The plane that an image is closest to."""
    normal = np.abs(np.cross(frame.orientation[:3], frame.orientation[3:]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def _rounded(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


_KINDS: tuple[tuple[str, Callable[[Frame], str]], ...] = (
    ("", lambda f: "_".join(f.image_type)),
    ("", lambda f: "isotropic" if f.isotropic else ""),
    ("echo", lambda f: _rounded(f.echo_time)),
    ("inversion", lambda f: _rounded(f.inversion_time)),
    ("flip", lambda f: _rounded(f.flip_angle)),
    ("kernel-", lambda f: f.kernel),
)
"""What makes two images at one position images of two volumes."""


def _by_kind(members: list[Member], labels: tuple[str, ...]) -> list[tuple[list[Member], tuple[str, ...]]]:
    """Members split where images at one position differ in kind; with a label for each split."""
    slot = slots(along_normal([m.frame for m in members]))
    for number, (name, kind) in enumerate(_KINDS):
        at: dict[int, set[str]] = defaultdict(set)
        parts: dict[str, list[Member]] = defaultdict(list)
        for member, place in zip(members, slot.tolist(), strict=True):
            value = kind(member.frame)
            at[place].add(value)
            parts[value].append(member)
        if any(len(values) > 1 for values in at.values()):
            words = _short(list(parts)) if number == 0 else {v: f"{name}{v}" for v in parts}
            return [
                found for value, part in parts.items()
                for found in _by_kind(part, (*labels, words[value]) if words[value] else labels)
            ]  # fmt: skip
    return [(members, labels)]


def _short(types: Sequence[str]) -> dict[str, str]:
    """Image types without the words that all of them have."""
    words = {t: t.split("_") for t in types}
    common = set.intersection(*(set(w) for w in words.values()))
    return {
        t: "".join(w for w in dict.fromkeys(words[t]) if w not in common).lower() or "plain" for t in types
    }


def _volume(members: list[Member], part: str, irregular: Irregular) -> Arranged | Refused:
    name, key = _name(members[0].instance, part, len(members)), _key(members)
    try:
        _check_alike(members, name)
        times = in_time(members, name)
        stack = lattice([m.frame for m in times[0]], name, keep_irregular=irregular == "keep")
        return Arranged(times, stack, part, time_step(times), key)
    except SourceError as error:
        return Refused(members[0].instance, error, part, key)


def _name(first: Instance, part: str, count: int) -> str:
    number = "" if first.series_number is None else f" {first.series_number}"
    what = f", {part}" if part else ""
    return f"series{number}{what} ({count} images, such as {first.path})"


def _check_alike(members: Sequence[Member], name: str) -> None:
    """Raise `SourceUnsupportedError` where images of a volume are stored as different types."""
    stored = {(m.instance.pixels.bits_allocated, m.instance.pixels.signed, m.instance.pixels.floating)
              for m in members}  # fmt: skip
    if len(stored) > 1:
        words = sorted(
            f"{bits} bits {'float' if floating else 'signed' if signed else 'unsigned'}"
            for bits, signed, floating in stored
        )
        raise SourceUnsupportedError(name, expected="one type of pixels", got=" and ".join(words))


def _key(members: Sequence[Member]) -> str:
    """8 hexadecimal digits of what the images are: plane, grid and kind; only what all have in common."""
    said = [_plane(members[0].frame), members[0].instance.pixels.rows, members[0].instance.pixels.columns]
    for _, kind in _KINDS:
        values = {kind(m.frame) for m in members}
        said.append(values.pop() if len(values) == 1 else "*")
    return hashlib.sha256(repr(said).encode()).hexdigest()[:8]


def _distinct(found: list[Arranged | Refused]) -> list[Arranged | Refused]:
    """The volumes of one series, with parts and keys that differ."""
    parts, keys = Counter[str](), Counter[str]()
    made: list[Arranged | Refused] = []
    for one in found:
        parts[one.part] += 1
        keys[one.key] += 1
        part = one.part if parts[one.part] == 1 else f"{one.part}{parts[one.part]}"
        key = one.key if keys[one.key] == 1 else f"{one.key}-{keys[one.key]}"
        made.append(replace(one, part=part, key=key))
    return made
