"""Labels: which values a collection's label volumes hold and how much of each, told from their histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radiobject.format.ome import default_rgba
from radiobject.show.appearance import short
from radiobject.show.report.findings import Finding, told
from radiobject.show.report.gather import Intensities, Volumes
from radiobject.show.report.robust import FAR, FEWEST, MOST_USUAL, distances, share

__all__ = ["LabelRow", "Presence", "label_findings", "label_rows", "presence"]

_EXACT = 256
"""A histogram of 256 bins over fewer steps than that has every value in a bin of its own."""

_SIZE = 0.35
"""The least spread of log volumes that counts: what is less than 5.8 times the median is never far."""


@dataclass(frozen=True)
class Presence:
    """Voxels (n, k) of each of k label values in each of n volumes; 0 is the background and is left out.

    Rows of `known` are those whose histogram tells: values from `min` to `max` less than 256 apart.
    """

    values: list[int]
    voxels: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelRow:
    """One label in a collection: name, colour "#rrggbb", how many volumes have it, median of their ml."""

    value: int
    name: str | None
    colour: str
    volumes: int
    millilitres: float | None


def presence(found: Intensities) -> Presence:
    """Which label values occur where, without reading a voxel.

    Bin b of volume i, of values from lo to hi, holds the integers v with b = (v - lo) * 256 // (hi - lo), the
    last one closed. While hi - lo is at most 256 there is at most one, but for hi in the last bin.
    """
    low, high = (found.statistics[name] for name in ("min", "max"))
    with np.errstate(invalid="ignore"):
        known = np.isfinite(low) & np.isfinite(high) & (high - low < _EXACT) & (low == np.rint(low))
    counted: dict[int, dict[int, int]] = {}
    for i in np.flatnonzero(known).tolist():
        first, last = int(low[i]), int(high[i])
        steps = np.arange(last - first + 1)
        bins = np.minimum(steps * _EXACT // max(last - first, 1), _EXACT - 1)
        for step, voxels in zip(steps.tolist(), found.histogram[i][bins].tolist(), strict=True):
            if voxels and first + step:
                counted.setdefault(first + step, {})[i] = voxels
    values = sorted(counted)
    table = np.zeros((len(low), len(values)), np.int64)
    for k, value in enumerate(values):
        table[list(counted[value]), k] = list(counted[value].values())
    return Presence(values, table, known)


def label_rows(volumes: Volumes, found: Presence) -> list[LabelRow]:
    """Every label that occurs or is named, by value."""
    size, named = _millilitres(volumes), volumes.labels
    rows = []
    for value in sorted({*found.values, *(v for v in named if v != 0)}):
        label = named.get(value)
        red, green, blue, _ = (label and label.rgba) or default_rgba(value)
        k = found.values.index(value) if value in found.values else None
        held = np.zeros(len(volumes), np.int64) if k is None else found.voxels[:, k]
        sizes = (held * size)[(held > 0) & np.isfinite(size)]
        rows.append(
            LabelRow(
                value,
                label.name if label else None,
                f"#{red:02x}{green:02x}{blue:02x}",
                int((held > 0).sum()),
                float(np.median(sizes)) if len(sizes) else None,
            )
        )
    return rows


def label_findings(volumes: Volumes, found: Presence) -> list[Finding]:
    """Everything odd or wrong about the values of a collection's label volumes."""
    low, high = (volumes.intensities.statistics[name] for name in ("min", "max"))
    empty = ((low == 0) & (high == 0)).tolist()
    messages = {
        "negative_label": {i: f"values from {low[i]:g} on" for i in np.flatnonzero(low < 0).tolist()},
        "empty_label": {i: "no voxel is labelled" for i, flag in enumerate(empty) if flag},
        "unnamed_label": _unnamed(volumes, found),
        "absent_label": _absent(volumes, found, empty),
        "label_size": _sizes(volumes, found),
    }
    return [
        finding
        for kind, rows in messages.items()
        for finding in told(kind, volumes.name, volumes.obs_ids, volumes.subjects, rows)
    ]


def _millilitres(volumes: Volumes) -> npt.NDArray[np.float64]:
    """Of one voxel of each volume: the determinant of its affine, so that sheared ones are right too."""
    spacing, matrix = volumes.geometry.spacing, volumes.geometry.affine[:, :3, :3]
    steps = np.linalg.norm(matrix, axis=1)
    size: npt.NDArray[np.float64] = np.abs(np.linalg.det(matrix / steps[:, None, :])) * spacing.prod(axis=1)
    return size / 1000


def _called(volumes: Volumes, value: int) -> str:
    named = volumes.labels
    return f"{value} ({named[value].name})" if value in named else str(value)


def _unnamed(volumes: Volumes, found: Presence) -> dict[int, str]:
    named = volumes.labels
    if not named:
        return {}
    strange = [k for k, value in enumerate(found.values) if value not in named and value > 0]
    held = found.voxels[:, strange] > 0
    return {
        i: "holds " + ", ".join(str(found.values[k]) for k, has in zip(strange, held[i], strict=True) if has)
        for i in np.flatnonzero(held.any(axis=1)).tolist()
    }


def _absent(volumes: Volumes, found: Presence, empty: list[bool]) -> dict[int, str]:
    """An empty volume lacks every label; that is told once, by another finding."""
    asked = found.known & ~np.array(empty, dtype=bool)
    n = int(asked.sum())
    if n < FEWEST:
        return {}
    lacking: dict[int, list[str]] = {}
    for k, value in enumerate(found.values):
        have = int((found.voxels[asked, k] > 0).sum())
        if MOST_USUAL * n <= have < n:
            for i in np.flatnonzero(asked & (found.voxels[:, k] == 0)).tolist():
                lacking.setdefault(i, []).append(f"{_called(volumes, value)}, which {share(have, n)} have")
    return {i: "lacks " + "; ".join(texts) for i, texts in lacking.items()}


def _sizes(volumes: Volumes, found: Presence) -> dict[int, str]:
    """The label whose size is farthest from that in the others, of volumes where one is far."""
    size = _millilitres(volumes)
    farthest: dict[int, tuple[float, str]] = {}
    for k, value in enumerate(found.values):
        have = found.voxels[:, k] > 0
        millilitres = np.where(have, found.voxels[:, k] * size, np.nan)
        with np.errstate(invalid="ignore"):
            z = distances(np.log(millilitres), _SIZE)
        for i in np.flatnonzero(np.nan_to_num(np.abs(z)) > FAR).tolist():
            text = (
                f"{_called(volumes, value)} has {short(millilitres[i])} ml, where the median is "
                f"{short(np.nanmedian(millilitres))} (robust z {z[i]:.1f})"
            )
            farthest[i] = max(farthest.get(i, (0.0, "")), (abs(float(z[i])), text))
    return {i: text for i, (_, text) in farthest.items()}
