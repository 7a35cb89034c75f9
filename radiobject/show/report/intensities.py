"""Intensities: images that are empty, clipped, cut off, or far brighter or darker than the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radiobject.show.appearance import short
from radiobject.show.report.findings import Finding, told
from radiobject.show.report.gather import Floats, Volumes
from radiobject.show.report.robust import FAR, FEWEST, distances, rare, share

__all__ = ["intensity_findings"]

_COMPARED = {"mean": "mean", "p1": "1st percentile", "p50": "median", "p99": "99th percentile"}
_OF_RANGE = 0.05
"""The least spread of levels that counts, as a part of the usual range; five of these are a quarter of it."""

_LOG_RANGE, _LOG_BOX = 0.2, 0.2
_SATURATED = 0.005
_FEW_LOW, _MANY_LOW = 0.01, 0.1
_NEAR, _SPIKE = 32, 5
"""A limit holds more than five times what the 32 bins beside it hold on average."""

_GRADES = 32
"""Bins that must be filled before the highest value can be a limit: of a mask it is one of two."""

_FACES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_BORDER = 0.02
"""Faces that more volumes touch are touched as a rule."""

Messages = dict[int, str]


def intensity_findings(volumes: Volumes) -> list[Finding]:
    """Everything odd or wrong about the voxels of a collection's images, and where they lie."""
    messages = {"nonfinite": _nonfinite(volumes)}
    if volumes.kind == "image":
        constant = messages["constant"] = _constant(volumes)
        messages["intensity"] = _levels(volumes, set(constant))
        messages["clipped"] = _clipped(volumes)
        messages["tiny"] = _tiny(volumes)
        messages["border"] = _borders(volumes, set(constant))
    else:
        messages["border"] = _borders(volumes, set())
    return [
        finding
        for kind, rows in messages.items()
        for finding in told(kind, volumes.name, volumes.obs_ids, volumes.subjects, rows)
    ]


def _constant(volumes: Volumes) -> Messages:
    low, high = (volumes.intensities.statistics[name] for name in ("min", "max"))
    # limits are float64, in which integers beyond 2**53 that differ may be equal
    alike = (volumes.intensities.histogram > 0).sum(axis=1) <= 1
    return {i: f"every voxel is {low[i]:g}" for i in np.flatnonzero((low == high) & alike).tolist()}


def _nonfinite(volumes: Volumes) -> Messages:
    counts = volumes.intensities.n_nonfinite
    voxels = _voxels(volumes)
    return {
        i: f"{counts[i]:,} voxels ({counts[i] / max(voxels[i], 1):.2%}) are NaN or infinite"
        for i in np.flatnonzero(counts > 0).tolist()
    }


def _voxels(volumes: Volumes) -> npt.NDArray[np.int64]:
    finite: npt.NDArray[np.int64] = volumes.intensities.histogram.sum(axis=1)
    return finite + volumes.intensities.n_nonfinite


def _levels(volumes: Volumes, without: set[int]) -> Messages:
    """The statistic that is farthest from the others', of volumes where one is far."""
    statistics = {name: values.copy() for name, values in volumes.intensities.statistics.items()}
    for values in statistics.values():
        values[list(without)] = np.nan
    width = statistics["p99_5"] - statistics["p0_5"]
    wide = width[np.isfinite(width)]
    if len(wide) < FEWEST:
        return {}
    least = _OF_RANGE * float(np.median(wide))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(width > 0, width, np.nan))
    compared = [
        (text, statistics[name], distances(statistics[name], least)) for name, text in _COMPARED.items()
    ]
    compared.append(("range (0.5th to 99.5th percentile)", width, distances(logs, _LOG_RANGE)))
    far = np.nan_to_num(np.abs(np.stack([z for _, _, z in compared], axis=1)))
    messages = {}
    for i in np.flatnonzero((far > FAR).any(axis=1)).tolist():
        text, values, z = compared[int(far[i].argmax())]
        messages[i] = (
            f"{text} {short(values[i])}, where the median is {short(np.nanmedian(values))} "
            f"(robust z {z[i]:.1f})"
        )
    return messages


def _clipped(volumes: Volumes) -> Messages:
    found, statistics = volumes.intensities, volumes.intensities.statistics
    graded = (found.histogram > 0).sum(axis=1) >= _GRADES
    shares = found.histogram / np.maximum(found.histogram.sum(axis=1, keepdims=True), 1)
    high, low = shares[:, -1], shares[:, 0]
    saturated = graded & (statistics["p99_5"] == statistics["max"]) & (high >= _SATURATED)
    saturated &= high > _SPIKE * _beside(shares[:, -_NEAR - 1 : -1])
    messages = {
        i: f"{high[i]:.1%} of the voxels have about the highest value, {statistics['max'][i]:g}"
        for i in np.flatnonzero(saturated).tolist()
    }
    # where most images begin with a background of one value, much of it is no sign of anything
    if len(low) >= FEWEST and np.median(low) <= _FEW_LOW:
        cut = graded & (low >= _MANY_LOW) & (statistics["p1"] == statistics["min"])
        cut &= low > _SPIKE * _beside(shares[:, 1 : _NEAR + 1])
        for i in np.flatnonzero(cut).tolist():
            messages.setdefault(
                i,
                f"{low[i]:.1%} of the voxels have about the lowest value, {statistics['min'][i]:g}; "
                f"usual are {np.median(low):.1%}",
            )
    return messages


def _beside(shares: Floats) -> Floats:
    """Mean share of the bins that hold anything: integers may leave every other one empty."""
    means: Floats = shares.sum(axis=1) / np.maximum((shares > 0).sum(axis=1), 1)
    return means


def _tiny(volumes: Volumes) -> Messages:
    box, spacing = volumes.intensities.box, volumes.geometry.spacing
    millilitres = ((box[:, 3:] - box[:, :3]) * spacing).prod(axis=1) / 1000
    with np.errstate(divide="ignore", invalid="ignore"):
        z = distances(np.log(np.where(millilitres > 0, millilitres, np.nan)), _LOG_BOX)
    return {
        i: f"other than 0 are only {short(millilitres[i])} ml, where the median is "
        f"{short(np.nanmedian(millilitres))} (robust z {z[i]:.1f})"
        for i in np.flatnonzero(np.nan_to_num(z) < -FAR).tolist()
    }


def _borders(volumes: Volumes, without: set[int]) -> Messages:
    """Faces are told apart by where they lie in the body, whichever way the array runs."""
    geometry, box = volumes.geometry, volumes.intensities.box
    known = np.array([i for i in np.flatnonzero(np.isfinite(box).all(axis=1)) if i not in without], np.int64)
    ends = _turned(volumes, box[:, :3] <= 0, box[:, 3:] >= geometry.shape)
    touched: dict[int, dict[int, list[str]]] = {}
    for axis, faces in enumerate(_FACES):
        for end, face in zip(ends, faces, strict=True):
            touching = end[known, axis].tolist()
            others = touching.count(False)
            if others > touching.count(True):
                for i in rare(touching, _BORDER):
                    touched.setdefault(int(known[i]), {}).setdefault(others, []).append(face)
    return {
        i: "; ".join(
            f"reaches the {', '.join(faces)} border, {share(others, len(known))} do not"
            for others, faces in by_count.items()
        )
        for i, by_count in touched.items()
    }


def _turned(
    volumes: Volumes, first: npt.NDArray[np.bool_], last: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Flags of the first and last voxels of each array axis as flags of the L, P, I and the R, A, S ends."""
    forwards = volumes.geometry.signs > 0
    low, high = np.where(forwards, first, last), np.where(forwards, last, first)
    return volumes.geometry.along_world(low), volumes.geometry.along_world(high)
