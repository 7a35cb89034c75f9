"""Series: which images of which files make one volume, and in which order."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from radiobject.errors import SourceError, SourceUnsupportedError
from radiobject.ingest.dicom.frames import Frame, Instance, Moment
from radiobject.ingest.dicom.geometry import Stack, along_normal, lattice, slots

__all__ = ["Arranged", "Irregular", "Member", "Refused", "arranged"]

_log = logging.getLogger(__name__)

Irregular = Literal["error", "keep"]
"""What to do with slices that are missing or unevenly spaced."""


class Member(NamedTuple):
    """One image and the file that it lies in."""

    instance: Instance
    frame: Frame


@dataclass(frozen=True)
class Arranged:
    """The images of one volume: `members[t][z]`, and their geometry. `part` tells volumes of a series apart
    ("" when there is one)."""

    members: tuple[tuple[Member, ...], ...]
    stack: Stack
    part: str
    time_step: float | None

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


def arranged(instances: Iterable[Instance], irregular: Irregular = "error") -> list[Arranged | Refused]:
    """The volumes of files, in the order of their series numbers; what makes none with its error.

    Images are of one volume when series, SOP class, orientation, grid and spacing are the same. Where several
    lie at one position, they are told apart by kind of image, echo, inversion time or flip angle, which make
    volumes of their own, and then by time.
    """
    series: dict[tuple[str, str, str], list[Member]] = defaultdict(list)
    for instance in _once(instances):
        for frame in instance.frames:
            series[_home(instance)].append(Member(instance, frame))
    found: list[Arranged | Refused] = []
    for members in sorted(series.values(), key=_series_order):
        grids = _by_grid(members)
        planes = [_plane(grid[0].frame) for grid in grids]
        for grid, plane in zip(grids, planes, strict=True):
            of_grid = () if len(grids) == 1 else (plane,)
            found += [
                _volume(group, "-".join(labels), irregular) for group, labels in _by_kind(grid, of_grid)
            ]
    return _distinct(found)


def _home(instance: Instance) -> tuple[str, str, str]:
    """Its series: without a UID of it, what lies in one folder belongs together.

    With patient and study, because some anonymisers give all series one UID.
    """
    series = instance.series_uid or os.path.dirname(instance.path)
    return instance.patient_id, instance.study_uid, series


def _series_order(members: Sequence[Member]) -> tuple[str, float]:
    """By study and number; what has none stays in the order of its files."""
    first = members[0].instance
    return first.study_date, math.inf if first.series_number is None else first.series_number


def _once(instances: Iterable[Instance]) -> list[Instance]:
    """Each image once: a copy of a file in another folder adds nothing."""
    seen: dict[Any, str] = {}
    found, copies = [], []
    for instance in instances:
        # some anonymisers give many images one SOPInstanceUID: what lies elsewhere is no copy
        places = tuple((f.position, f.moment) for f in instance.frames)
        key = _home(instance), instance.sop_uid, places
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
        key = pixels.rows, pixels.columns, pixels.tiles, of.sop_class, of.frame_of_reference_uid
        for known, first, group in reversed(groups):
            if known == key and _same_plane(frame, first):
                group.append(member)
                break
        else:
            groups.append((key, frame, [member]))
    return [group for _, _, group in groups]


def _same_plane(one: Frame, other: Frame) -> bool:
    """Whether orientation and spacing are the same but for rounding."""
    turned = max(abs(a - b) for a, b in zip(one.orientation, other.orientation, strict=True))
    return turned <= 1e-3 and np.allclose(one.spacing, other.spacing, rtol=1e-3, atol=0)


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
    name = _name(members[0].instance, part, len(members))
    try:
        _check_alike(members, name)
        times = _in_time(members, name)
        stack = lattice([m.frame for m in times[0]], name, keep_irregular=irregular == "keep")
        return Arranged(times, stack, part, _time_step(times))
    except SourceError as error:
        return Refused(members[0].instance, error, part)


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


_MOMENTS: tuple[tuple[str, Callable[[Moment], Any]], ...] = (
    ("TemporalPositionIdentifier", lambda m: m.temporal_position),
    ("DimensionIndexValues", lambda m: m.dimensions),
    ("TriggerTime", lambda m: m.trigger_time),
    ("AcquisitionNumber", lambda m: m.acquisition_number),
    ("AcquisitionTime", lambda m: m.acquired),
    ("InstanceNumber", lambda m: m.instance_number),
)
"""What orders images at one position, the surest first."""

_OF_ONE_SLICE = ("TemporalPositionIdentifier", "DimensionIndexValues", "TriggerTime")
"""What says that images of a single slice are a time series, and not the same slice again."""


def _in_time(members: Sequence[Member], name: str) -> tuple[tuple[Member, ...], ...]:
    """`[t][z]`: the slices of each time, along the normal."""
    distances = along_normal([m.frame for m in members])
    slot = slots(distances)
    at: list[list[Member]] = [[] for _ in range(int(slot.max()) + 1)]
    for member, place in zip(members, slot.tolist(), strict=True):
        at[place].append(member)
    counts = [len(there) for there in at]
    if max(counts) == 1:
        return (tuple(there[0] for there in at),)
    if len(set(counts)) > 1:
        raise SourceUnsupportedError(
            name, expected="as many images at each position", got=_counted(counts, distances, slot)
        )
    _check_together(at, name)
    for keyword, of in _MOMENTS:
        if len(at) == 1 and keyword not in _OF_ONE_SLICE:
            continue
        keys = [[of(m.frame.moment) for m in there] for there in at]
        if all(None not in values and len(set(values)) == len(values) for values in keys):
            if keyword == "TemporalPositionIdentifier":
                _check_same_times(keys, name)
            ordered = [sorted(there, key=lambda m: of(m.frame.moment)) for there in at]
            times = tuple(zip(*ordered, strict=True))
            _check_diffusion(times, keyword, name)
            return times
    if len(at) == 1:
        raise SourceUnsupportedError(
            name, expected="slices at more than one position",
            got=f"{counts[0]} images at one position, which nothing says to be a series in time",
            hint="It is no volume: a monitoring or test series, say. Leave it out.",
        )  # fmt: skip
    raise SourceUnsupportedError(
        name, expected="one image at each position, or something that orders them in time",
        got=f"{counts[0]} images at each of {len(at)} positions, told apart by nothing",
    )  # fmt: skip


def _check_together(at: Sequence[Sequence[Member]], name: str) -> None:
    """Raise `SourceUnsupportedError` where images at one distance lie elsewhere in their plane: stations."""
    for there in at:
        places = np.array([m.frame.position for m in there])
        away = float(np.linalg.norm(places - places[0], axis=1).max())
        if away > min(there[0].frame.spacing):
            raise SourceUnsupportedError(
                name, expected="images of one distance along the normal at one place",
                got=f"some that lie {away:.4g} mm beside each other",
                hint="It is several stacks: ingest a folder for each.",
            )  # fmt: skip


def _check_same_times(keys: Sequence[Sequence[int]], name: str) -> None:
    """Raise `SourceUnsupportedError` where times occur at some positions only. A number for each image is no
    time, and may be."""
    counts = Counter(number for at_one in keys for number in at_one)
    if set(counts.values()) not in ({len(keys)}, {1}):
        odd = ", ".join(f"{number} at {n}" for number, n in sorted(counts.items()) if n < len(keys))
        raise SourceUnsupportedError(
            name, expected=f"each TemporalPositionIdentifier at all {len(keys)} positions", got=odd
        )


def _check_diffusion(times: Sequence[Sequence[Member]], keyword: str, name: str) -> None:
    """Raise `SourceUnsupportedError` where what orders images mixes diffusion weightings."""
    for row in times:
        if len(values := {m.frame.b_value for m in row}) > 1:
            raise SourceUnsupportedError(
                name, expected="one b-value for all slices of a time",
                got=f"{sorted(map(str, values))} when ordered by {keyword}",
            )  # fmt: skip


def _counted(counts: Sequence[int], distances: Any, slot: Any) -> str:
    usual = max(set(counts), key=counts.count)
    odd = [n for n, count in enumerate(counts) if count != usual]
    listed = ", ".join(
        f"{counts[n]} at {float(distances[slot == n][0] - distances.min()):.4g} mm" for n in odd[:5]
    )
    more = f" and {len(odd) - 5} positions more" if len(odd) > 5 else ""
    return f"{usual} at most of {len(counts)} positions, but {listed}{more}"


def _time_step(times: Sequence[Sequence[Member]]) -> float | None:
    """Seconds from one time to the next, None when nothing sure is said."""
    if len(times) == 1 or any(m.frame.b_value for row in times for m in row):
        return None
    moments = [row[0].frame.moment for row in times]
    for values, unit in (([m.trigger_time for m in moments], 1e-3), ([m.acquired for m in moments], 1.0)):
        if None not in values:
            steps = np.diff(np.array(values, dtype=np.float64)) * unit
            if steps.min() > 0 and steps.max() <= 1.05 * steps.min():
                return float(steps.mean())
    first = times[0][0].instance
    return first.repetition_time / 1e3 if first.modality == "MR" and first.repetition_time else None


def _distinct(found: list[Arranged | Refused]) -> list[Arranged | Refused]:
    """The same, each series' parts of different names."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for number, one in enumerate(found):
        of = one.first.instance if isinstance(one, Arranged) else one.instance
        key = of.series_uid, one.part
        seen[key] += 1
        if seen[key] > 1:
            found[number] = type(one)(**{**one.__dict__, "part": f"{one.part}{seen[key]}"})
    return found
