"""Curves: the histograms of a collection on one axis of intensity, as lines to draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radiobject.show.report.gather import Floats, Volumes

__all__ = ["HEIGHT", "WIDTH", "Curve", "Plot", "intensity_plot", "spread"]

WIDTH, HEIGHT = 1000, 260
"""Size of the drawing, without its axes' texts."""

_STEPS = 160
_FAINT, _MARKED = 150, 40
"""Most lines drawn of volumes like the others, and of those found odd: a page of 100,000 must open."""

_LOWEST = -5
"""log10 of the share of voxels at the foot of the drawing; what is less lies on it."""


@dataclass(frozen=True)
class Curve:
    """The line of the volume in one row of its collection, as the points of an SVG polyline."""

    row: int
    points: str


@dataclass(frozen=True)
class Plot:
    """Lines over intensities from `low` to `high`; upwards runs the logarithm of the share of voxels.

    `ticks` are (x, text) and `lines` (y, text) in pixels of the drawing. `of` is the number of volumes that
    have a histogram, from `counted` of which the median was made.
    """

    low: float
    high: float
    faint: list[Curve]
    marked: list[Curve]
    median: str
    ticks: list[tuple[float, str]]
    lines: list[tuple[float, str]]
    of: int
    counted: int


def intensity_plot(volumes: Volumes, marked: Iterable[int]) -> Plot | None:
    """The histograms of a collection; those of the rows in `marked` stand out. None when there is nothing."""
    found = volumes.intensities
    low, high = found.statistics["min"], found.statistics["max"]
    with np.errstate(invalid="ignore"):
        usable = (high > low) & (found.histogram.sum(axis=1) > 0)
    rows = np.flatnonzero(usable)
    if not len(rows):
        return None
    outstanding = [row for row in sorted(set(marked)) if usable[row]][:_MARKED]
    shown = rows[spread(len(rows), _FAINT)]
    start, stop = _axis(volumes, rows)
    edges = np.linspace(start, stop, _STEPS + 1)
    shares = np.stack([_resampled(found.histogram[i], low[i], high[i], edges) for i in shown])
    return Plot(
        low=start,
        high=stop,
        faint=[
            Curve(row, _points(line))
            for row, line in zip(shown.tolist(), shares, strict=True)
            if row not in outstanding
        ],
        marked=[
            Curve(row, _points(_resampled(found.histogram[row], low[row], high[row], edges)))
            for row in outstanding
        ],
        median=_points(np.median(shares, axis=0)),
        ticks=_ticks(start, stop),
        lines=[
            (HEIGHT * power / _LOWEST, f"{10.0 ** (power + 2):g} %") for power in range(0, _LOWEST - 1, -1)
        ],
        of=len(rows),
        counted=len(shown),
    )


def spread(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of n positions, evenly, from the first to the last.

    >>> spread(4, 9).tolist(), spread(9, 3).tolist()
    ([0, 1, 2, 3], [0, 4, 8])
    """
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, max(most, 0))).round().astype(np.int64))


def _axis(volumes: Volumes, rows: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Where nearly all volumes lie: one that is a thousand times brighter cannot hide the others."""
    statistics = volumes.intensities.statistics
    start = float(np.quantile(statistics["p0_5"][rows], 0.02))
    stop = float(np.quantile(statistics["max"][rows], 0.75))
    if not start < stop:
        start, stop = float(statistics["min"][rows].min()), float(statistics["max"][rows].max())
    margin = (stop - start) / 50
    return start - margin, stop + margin


def _resampled(counts: npt.NDArray[np.int64], low: float, high: float, edges: Floats) -> Floats:
    """Share of voxels between neighbouring edges, as if each bin were filled evenly."""
    below = np.concatenate(([0], np.cumsum(counts))) / counts.sum()
    return np.diff(np.interp(edges, np.linspace(low, high, len(counts) + 1), below))


def _points(shares: Floats) -> str:
    with np.errstate(divide="ignore"):
        heights = np.clip(np.log10(shares), _LOWEST, 0) * HEIGHT / _LOWEST
    step = WIDTH / len(shares)
    return " ".join(f"{(i + 0.5) * step:.0f},{y:.0f}" for i, y in enumerate(heights.tolist()))


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers, about eight of them: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    return [
        ((k * step - low) / (high - low) * WIDTH, f"{k * step:g}")
        for k in range(first, math.floor(high / step) + 1)
    ]
