"""Times: images at the same positions as a series in time, or why they are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from radiobject.errors import SourceUnsupportedError
from radiobject.ingest.dicom.frames import Member, Moment
from radiobject.ingest.dicom.geometry import along_normal, slots

__all__ = ["in_time", "time_step"]

_MOMENTS: tuple[tuple[str, Callable[[Moment], Any]], ...] = (
    ("TemporalPositionIdentifier", lambda m: m.temporal_position),
    ("DimensionIndexValues", lambda m: m.dimensions),
    ("TriggerTime", lambda m: m.trigger_time),
    ("AcquisitionNumber", lambda m: m.acquisition_number),
    ("AcquisitionTime", lambda m: m.acquired),
    ("InstanceNumber", lambda m: m.instance_number),
)
"""What orders images at one position, the surest first."""

_NUMBERS = ("TemporalPositionIdentifier", "AcquisitionNumber")
"""Those of them that number times, the same ones at every position."""

_OF_ONE_SLICE = ("TemporalPositionIdentifier", "DimensionIndexValues", "TriggerTime")
"""What says that images of a single slice are a time series, and not the same slice again."""


def in_time(members: Sequence[Member], name: str) -> tuple[tuple[Member, ...], ...]:
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
            if keyword in _NUMBERS:
                _check_same_times(keys, keyword, name)
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


def _check_same_times(keys: Sequence[Sequence[int]], keyword: str, name: str) -> None:
    """Raise `SourceUnsupportedError` where times occur at some positions only. A number for each image is no
    time, and may be."""
    counts = Counter(number for at_one in keys for number in at_one)
    if set(counts.values()) not in ({len(keys)}, {1}):
        odd = ", ".join(f"{number} at {n}" for number, n in sorted(counts.items()) if n < len(keys))
        raise SourceUnsupportedError(name, expected=f"each {keyword} at all {len(keys)} positions", got=odd)


def _check_diffusion(times: Sequence[Sequence[Member]], keyword: str, name: str) -> None:
    """Raise `SourceUnsupportedError` where what orders images mixes diffusion weightings."""
    for row in times:
        if len(values := {m.frame.b_value for m in row}) > 1:
            raise SourceUnsupportedError(
                name, expected="one b-value for all slices of a time",
                got=f"{sorted(map(str, values))} when ordered by {keyword}",
            )  # fmt: skip
        ways = {m.frame.gradient for m in row}
        known = [way for way in ways if way is not None]
        if len(ways) > 1 and (None in ways or np.ptp(np.array(known), axis=0).max() > 1e-3):
            raise SourceUnsupportedError(
                name, expected="one direction of diffusion weighting for all slices of a time",
                got=f"{len(ways)} when ordered by {keyword}",
            )  # fmt: skip


def _counted(counts: Sequence[int], distances: Any, slot: Any) -> str:
    usual = max(set(counts), key=counts.count)
    odd = [n for n, count in enumerate(counts) if count != usual]
    listed = ", ".join(
        f"{counts[n]} at {float(distances[slot == n][0] - distances.min()):.4g} mm" for n in odd[:5]
    )
    more = f" and {len(odd) - 5} positions more" if len(odd) > 5 else ""
    return f"{usual} at most of {len(counts)} positions, but {listed}{more}"


def time_step(times: Sequence[Sequence[Member]]) -> float | None:
    """Seconds from one time to the next, None when nothing sure is said.

    Times of images where they are known and even. Where none are known, the repetition time of echo-planar
    series, which take one volume in each; of others it is a fraction of what a volume takes.
    """
    if len(times) == 1 or any(m.frame.b_value for row in times for m in row):
        return None
    moments = [row[0].frame.moment for row in times]
    for values, unit in (([m.trigger_time for m in moments], 1e-3), ([m.acquired for m in moments], 1.0)):
        if None not in values and len(set(values)) > 1:
            steps = np.diff(np.array(values, dtype=np.float64)) * unit
            even = steps.min() > 0 and steps.max() <= 1.05 * steps.min()
            return float(steps.mean()) if even else None
    first = times[0][0].instance
    return first.planar_repetition_time / 1e3 if first.planar_repetition_time else None
