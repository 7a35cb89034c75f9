"""Geometry: volumes of a collection that lie, or are sampled, unlike the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from radiobject.show.appearance import short
from radiobject.show.report.findings import Finding, told
from radiobject.show.report.gather import Floats, Volumes
from radiobject.show.report.robust import FAR, MOST_USUAL, distances, rare, share, usual

__all__ = ["STRAIGHT", "geometry_findings", "shape_text", "spacing_text"]

_WORLD = ("R/L", "A/P", "S/I")
_SHEARED = 0.1
STRAIGHT = 1.0
"""Degrees of obliquity up to which a volume counts as straight."""

# The least spread that counts, in the units that are compared: a fifth of the least distance that can be far.
_LOG_SAMPLING, _LOG_EXTENT, _PLACE_MM, _TILT = 0.02, 0.08, 20.0, 5.0
_SPACING = 0.01
"""Spacings that differ by less are the same."""

Messages = dict[int, str]
T = TypeVar("T", bound=Hashable)


def geometry_findings(volumes: Volumes) -> list[Finding]:
    """Everything odd or wrong about the geometry of a collection's volumes."""
    found = volumes.geometry
    shapes, spacings = _shapes(volumes), _spacings(volumes)
    messages = {
        "affine": {i: f"reading it will fail: {text}" for i, text in found.unusable.items()},
        "shear": {
            i: f"axes depart from right angles by {found.shear[i]:.3g} degrees"
            for i in np.flatnonzero(found.shear > _SHEARED).tolist()
        },
        "shape": shapes,
        "axes": _named(found.more, _axes_text),
        "spacing": spacings,
        "unit": _named(found.units, str),
        "field_of_view": _extents(volumes, {*shapes, *spacings}),
        "position": _positions(volumes),
        "axcodes": _named(found.axcodes, lambda codes: codes or "none"),
        "obliquity": _tilts(volumes),
        "dtype": _named(volumes.dtype, str),
    }
    return [
        finding
        for kind, rows in messages.items()
        for finding in told(kind, volumes.name, volumes.obs_ids, volumes.subjects, rows)
    ]


def shape_text(shape: Iterable[float], more: Iterable[int | None] = ()) -> str:
    """ "64 x 64 x 32", with time points and channels behind."""
    return " x ".join(str(int(n)) for n in (*shape, *(m for m in more if m is not None)))


def spacing_text(spacing: Iterable[float]) -> str:
    """ "1 x 1 x 2.5"."""
    return " x ".join(f"{step:.4g}" for step in spacing)


def _axes_text(more: tuple[int | None, int | None]) -> str:
    kept = [f"{n} {what}" for n, what in zip(more, ("time points", "channels"), strict=True) if n is not None]
    return ", ".join(kept) or "x, y, z alone"


def _named(values: Sequence[T], text: Callable[[T], str]) -> Messages:
    """Rare values beside the usual one."""
    found = usual(values)
    if found is None:
        return {}
    return {
        i: f"{text(values[i])}; {share(found[1], len(values))} have {text(found[0])}" for i in rare(values)
    }


def _shapes(volumes: Volumes) -> Messages:
    """Shapes are compared as they lie in space: the order of the axes in the array is another finding."""
    found = volumes.geometry
    turned = found.along_world(found.shape)
    common = usual([tuple(row) for row in turned.tolist()])
    messages: Messages = {}
    with np.errstate(divide="ignore"):
        logs = np.log(turned.astype(np.float64))
    for i, axis, z in _far(logs, _LOG_SAMPLING):
        messages[i] = (
            f"{shape_text(found.shape[i])} voxels: {turned[i, axis]} along {_WORLD[axis]}, where the median "
            f"is {np.median(turned[:, axis]):g} (robust z {z:.1f})"
        )
    if common is not None:
        for i in rare([tuple(row) for row in turned.tolist()]):
            messages[i] = (
                f"{shape_text(found.shape[i])} voxels; {share(common[1], len(volumes))} have "
                f"{shape_text(_as_array(volumes, i, np.array(common[0])))}"
            )
    return messages


def _spacings(volumes: Volumes) -> Messages:
    found = volumes.geometry
    turned = found.along_world(found.spacing)
    rounded = [tuple(f"{step:.3g}" for step in row) for row in turned.tolist()]
    common = usual(rounded)
    messages: Messages = {}
    for i, axis, z in _far(np.log(turned), _LOG_SAMPLING):
        messages[i] = (
            f"{spacing_text(found.spacing[i])} mm: {turned[i, axis]:.4g} along {_WORLD[axis]}, where the "
            f"median is {np.nanmedian(turned[:, axis]):.4g} (robust z {z:.1f})"
        )
    if common is not None:
        standard = np.array([float(step) for step in common[0]])
        for i in rare(rounded):
            if i not in found.unusable and (np.abs(turned[i] / standard - 1) > _SPACING).any():
                messages[i] = (
                    f"{spacing_text(found.spacing[i])} mm; {share(common[1], len(volumes))} have "
                    f"{spacing_text(_as_array(volumes, i, standard))}"
                )
    return messages


def _as_array(volumes: Volumes, row: int, world: Floats) -> Floats:
    """Values by world axis in the order in which this volume's array has the axes."""
    placed: Floats = world[volumes.geometry.world_axes[row]]
    return placed


def _far(values: Floats, least: float) -> list[tuple[int, int, float]]:
    """(row, column, robust z) of numbers that are far from the others of their column; the farthest a row.

    None where so many are that the others are not the usual ones: the counts on the page show such groups.
    """
    z = np.stack([distances(values[:, a], least) for a in range(values.shape[1])], axis=1)
    far = np.nan_to_num(np.abs(z))
    rows = np.flatnonzero((far > FAR).any(axis=1))
    if len(rows) > (1 - MOST_USUAL) * len(values):
        return []
    return [(int(i), int(a), float(z[i, a])) for i, a in zip(rows, far[rows].argmax(axis=1), strict=True)]


def _extents(volumes: Volumes, known: set[int]) -> Messages:
    found = volumes.geometry
    extents = found.along_world(found.shape * found.spacing)
    with np.errstate(divide="ignore"):
        logs = np.log(extents)
    return {
        i: f"{short(extents[i, axis])} mm along {_WORLD[axis]}, where the median is "
        f"{short(np.nanmedian(extents[:, axis]))} (robust z {z:.1f})"
        for i, axis, z in _far(logs, _LOG_EXTENT)
        if i not in known
    }


def _positions(volumes: Volumes) -> Messages:
    centres = volumes.geometry.corners.mean(axis=1)
    return {
        i: f"centre at {_place(centres[i])} mm (R, A, S), where the median is "
        f"{_place(np.nanmedian(centres, axis=0))} "
        f"(robust z {z:.1f})"
        for i, _, z in _far(centres, _PLACE_MM)
    }


def _place(point: Floats) -> str:
    return ", ".join(f"{v:.0f}" for v in point)


def _tilts(volumes: Volumes) -> Messages:
    # what is sheared is told already, and its axes have no one tilt
    tilt = np.where(volumes.geometry.shear > _SHEARED, np.nan, volumes.geometry.obliquity)
    z = distances(tilt, _TILT)
    messages = {
        i: f"oblique by {tilt[i]:.1f} degrees, where the median is {np.nanmedian(tilt):.1f} "
        f"(robust z {z[i]:.1f})"
        for i in np.flatnonzero(np.nan_to_num(np.abs(z)) > FAR).tolist()
    }
    known = np.flatnonzero(np.isfinite(tilt))
    oblique = (tilt[known] > STRAIGHT).tolist()
    common = usual(oblique)
    if common is not None:
        others = "oblique" if common[0] else f"straight, within {STRAIGHT:g} degree"
        for i in rare(oblique):
            how = f"oblique by {tilt[known[i]]:.1f} degrees" if oblique[i] else "straight"
            messages[int(known[i])] = f"{how}; {share(common[1], len(oblique))} are {others}"
    return messages
