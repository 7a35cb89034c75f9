"""A small picture of a volume, made while its voxels are in memory: three anatomical planes side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from radiobject.errors import FormatError
from radiobject.format.meta import Kind, Label, Scaling
from radiobject.format.ome import default_rgba
from radiobject.geometry.affine import Affine
from radiobject.geometry.planes import PLANES, display_spacing, plane_axis, to_display

__all__ = ["HEIGHT", "thumbnail_jpeg"]

HEIGHT = 128
"""Height of the picture in pixels."""

_WIDEST = 3
"""A plane is at most this many times wider than high: a single slice stays a visible stripe."""

_QUALITY = 72
_MANY_LABELS = 1024


def thumbnail_jpeg(
    voxels: npt.NDArray[Any],
    dims: Sequence[str],
    affine: Affine,
    window: tuple[float, float] | None,
    kind: Kind = "image",
    *,
    scaling: Scaling | None = None,
    box: Sequence[int] | None = None,
    labels: Sequence[Label] = (),
) -> bytes:
    """A JPEG, about 6 kB, of the three anatomical planes through the centre of `box` (default: the volume).

    `voxels` are stored values whose axes are named by `dims`; of t and c the first is shown. Planes lie as
    `geometry.planes` says (patient's left on the right; anterior, superior up) and have their physical
    proportions. `window` (low, high) is in scaled units, black to white; None takes the range of what is
    shown. `box` is x0, y0, z0, x1, y1, z1 in voxels (`Statistics.nonzero_box`). Labels, which must be
    integers, are shown in their colours. Raises `FormatError` for labels or dims that do not fit.
    """
    order = [d for d in dims if d not in ("x", "y", "z")] + ["x", "y", "z"]
    if sorted(order) != sorted(dims) or len(order) != voxels.ndim:
        raise FormatError("dims", expected=f"{voxels.ndim} names with x, y and z", got=repr(tuple(dims)))
    if kind == "label" and voxels.dtype.kind not in "iu":
        raise FormatError("label volume", expected="an integer dtype", got=str(voxels.dtype))
    xyz = voxels.transpose([list(dims).index(d) for d in order])[(0,) * (voxels.ndim - 3)]
    corners = (0, 0, 0, *xyz.shape) if box is None else box
    panels = []
    for plane in PLANES:
        axis = plane_axis(affine, plane)
        # of an even number the same one of the two middle planes, whichever way the axis runs
        middle = (corners[axis] + corners[axis + 3] - (affine.signs[axis] > 0)) // 2
        plane_of = tuple(middle if a == axis else slice(None) for a in range(3))
        panels.append(to_display(xyz[plane_of], affine, plane))  # a view: take() would copy the volume
    if kind == "label":
        colours = {x.value: x.rgba for x in labels if x.rgba is not None}
        pictures = [Image.fromarray(_coloured(panel, colours)) for panel in panels]
    else:
        scaled = [_scaled(panel, scaling) for panel in panels]
        low, high = window or _range(scaled)
        pictures = [Image.fromarray(_grey(panel, low, high)) for panel in scaled]
    filtered = Image.Resampling.NEAREST if kind == "label" else Image.Resampling.LANCZOS
    sized = [
        picture.resize(size, filtered)
        for picture, size in zip(pictures, _sizes([p.shape for p in panels], affine), strict=True)
    ]
    sheet = Image.new(sized[0].mode, (sum(p.width for p in sized), HEIGHT))
    left = 0
    for picture in sized:
        sheet.paste(picture, (left, (HEIGHT - picture.height) // 2))
        left += picture.width
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _sizes(shapes: Sequence[tuple[int, ...]], affine: Affine) -> list[tuple[int, int]]:
    """Pixels (width, height) of each panel, all at one number of millimetres a pixel."""
    extents = []
    for plane, (rows, columns) in zip(PLANES, shapes, strict=True):
        row_mm, column_mm = display_spacing(affine, plane)
        extents.append((columns * column_mm, rows * row_mm))
    tallest, widest = max(h for _, h in extents), max(w for w, _ in extents)
    per_mm = min(HEIGHT / tallest, HEIGHT * _WIDEST / widest)
    return [(max(round(w * per_mm), 1), min(max(round(h * per_mm), 1), HEIGHT)) for w, h in extents]


def _scaled(panel: npt.NDArray[Any], scaling: Scaling | None) -> npt.NDArray[np.float64]:
    values = panel.astype(np.float64)
    return values if scaling is None else values * scaling.slope + scaling.inter


def _range(panels: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    finite = [p[np.isfinite(p)] for p in panels]
    values = np.concatenate(finite)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _grey(panel: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.uint8]:
    """0 at or below `low`, 255 at or above `high`; a voxel that is NaN is black."""
    width = high - low if math.isfinite(high - low) and high > low else 1.0
    with np.errstate(over="ignore"):  # a voxel that far off is black or white all the same
        unit = np.clip(np.nan_to_num((panel - low) / width, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    grey: npt.NDArray[np.uint8] = (unit * 255).round().astype(np.uint8)
    return grey


def _coloured(
    panel: npt.NDArray[Any], colours: Mapping[int, tuple[int, int, int, int]]
) -> npt.NDArray[np.uint8]:
    values, place = np.unique(panel, return_inverse=True)
    # Beyond this the colours could not be told apart anyway, and a mistaken image must not take minutes.
    palette = [colours.get(int(v), default_rgba(int(v))) for v in values[:_MANY_LABELS]]
    palette += [(255, 255, 255, 255)] * max(len(values) - _MANY_LABELS, 0)
    rgba = np.array(palette, dtype=np.float64)
    opaque: npt.NDArray[np.uint8] = (rgba[:, :3] * rgba[:, 3:] / 255).round().astype(np.uint8)
    return opaque[place.reshape(panel.shape)]
