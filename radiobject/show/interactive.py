"""Interactive: a volume as one HTML page that needs nothing else, neither a server nor a network.

The page carries the voxels (`packing`) and shows three planes, cut along the array axes nearest to anatomy,
as `sections` does with `planes="scan"`. Its frame, style and script are the files in `page/`.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from radiobject.errors import CapabilityError
from radiobject.geometry.resample import Grid
from radiobject.show.appearance import (
    checked_opacity,
    checked_title,
    labels_of,
    range_of,
    refuse_label_window,
    short,
    window_of,
)
from radiobject.show.document import framed, policy_of
from radiobject.show.packing import Steps, coarse_grid, label_codes, packed, sampled
from radiobject.show.sections import facts_of, frame_of, lean_of, moment_of, point_of, sections
from radiobject.show.units import decimals, in_mm, overlay_in_mm

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["MAX_BYTES", "Page", "page_of"]

MAX_BYTES = 2_000_000
"""No page is larger."""

_MOST_VOXELS = 10_000_000
"""What a browser still turns over without a pause, and we hold in memory."""

_LOOK = 500_000
"""Voxels from which the range of values is estimated where no table has it."""

_COARSENED = 1.5
"""All time points are kept where that makes the voxels no wider than by this factor."""

_HEIGHT = 620
"""Of the frame in a notebook, in pixels."""

_HOW = (
    "Drag or click moves the point, the wheel changes the slice, Shift or the right button drags the window. "
    "Keys: arrows, Page Up, Page Down, Home. Not for diagnosis."
)


@dataclass(frozen=True)
class Page:
    """One self-contained HTML document, `html`. A notebook shows it in a frame of its own."""

    title: str
    html: str = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, which any browser opens."""
        Path(path).write_text(self.html, encoding="utf-8")

    def _repr_html_(self) -> str:
        return framed(self.html, self.title, _HEIGHT)


@dataclass
class _Layer:
    """One volume in the page: its 3D frames, and what the script must know of them.

    The axes of the first layer run to L, P and I, and so do those of the grid that all are sampled on.
    """

    frames: list[Volume]
    facts: dict[str, Any]
    steps: Steps | None = None  # None for labels
    text: str = ""

    def pack(self, grid: Grid) -> None:
        """Sample every frame on the grid and keep the codes as text."""
        if self.steps is not None:
            codes = np.stack([self.steps.codes(sampled(frame, grid)) for frame in self.frames])
        else:
            values = np.stack([sampled(frame, grid) for frame in self.frames])
            known = np.union1d(values, np.zeros(1, values.dtype))
            named = {0: ("none", (0, 0, 0, 0))} | labels_of(self.frames[0], known)
            codes = label_codes(values, known)
            self.facts["wide"] = len(known) > 256
            self.facts["labels"] = [
                {"value": v, "name": named[v][0], "rgb": named[v][1][:3]} for v in known.tolist()
            ]
        self.text = base64.b64encode(packed(codes)).decode()


def page_of(
    volume: Volume,
    overlay: Volume | None = None,
    at: Sequence[float] | None = None,
    *,
    t: int | None = None,
    c: int | None = None,
    window: Sequence[float] | None = None,
    overlay_window: Sequence[float] | None = None,
    opacity: float = 0.5,
    title: str | None = None,
) -> Page:
    """What `Volume.show` does; see there."""
    name, opacity = checked_title(title, volume), checked_opacity(opacity)
    refuse_label_window(volume, window)
    overlay, volume = overlay_in_mm(overlay), in_mm(volume)
    one = frame_of(volume, t, c)
    point = point_of(one, at)
    layers = [_layer(volume, one.reorient("LPI"), window, "grey", name, 1.0)]
    note = ""
    if overlay is not None:
        moment, note = moment_of(overlay, volume, t)
        above = frame_of(overlay, moment)
        layers.append(_layer(overlay, above, overlay_window, "hot", overlay.obs_id or "overlay", opacity))
    told = {
        "title": name,
        "facts": [*facts_of(volume, one, t, c or 0), *filter(None, [note])],
        "decimals": decimals(one.spacing),
        "letters": {section.plane: section.letters for section in sections(one, point)},
        "toVoxel": one.meta.affine.inverse().matrix.tolist(),
        "voxels": one.shape,
    }
    n = dict(zip(volume.axes, volume.shape, strict=True)).get("t", 1)
    if n > 1 and t is None:
        layers[0].frames = [frame_of(volume, i, c).reorient("LPI") for i in range(n)]
        if overlay is not None and dict(zip(overlay.axes, overlay.shape, strict=True)).get("t") == n:
            layers[1].frames = [frame_of(overlay, i) for i in range(n)]
        page = _fitted(told, layers, point)
        if page is not None:
            return page
        for layer in layers:
            del layer.frames[1:]
        told["facts"].append("here time point 0 alone: all of them would not fit; t= takes another")
    page = _fitted(told, layers, point)
    assert page is not None, "one frame is always fitted"
    return page


def _fitted(told: dict[str, Any], layers: Sequence[_Layer], point: Sequence[float]) -> Page | None:
    """The page with the finest grid that fits; None when several frames would make it too coarse."""
    first, n = layers[0].frames[0], len(layers[0].frames)
    most = _MOST_VOXELS // n
    while True:
        grid = coarse_grid(first, most)
        wider = max(a / b for a, b in zip(first.shape, grid[0], strict=True))
        if n > 1 and wider > _COARSENED:
            return None
        for layer in layers:
            layer.pack(grid)
        page = _written(told, layers, grid, point)
        carried = sum(len(layer.text) for layer in layers)
        room = MAX_BYTES - (len(page.html.encode()) - carried)
        if carried <= room:
            return page
        if room < MAX_BYTES // 4:
            raise CapabilityError(
                f"page of {page.title}", expected="names of labels that leave room for voxels",
                got=f"{MAX_BYTES - room} bytes of names",
            )  # fmt: skip
        most = int(math.prod(grid[0]) * room / carried * 0.97)


def _layer(
    volume: Volume, frame: Volume, window: Sequence[float] | None, kind: str, name: str, opacity: float
) -> _Layer:
    if volume.meta.kind == "label":
        return _Layer([frame], {"name": name, "kind": "label", "opacity": opacity})
    unknown = volume.metadata.get("intensity_p99") is None
    shown = [sampled(frame, coarse_grid(frame, _LOOK))] if unknown else None
    low, high = window_of(volume, window, shown=shown)
    if window is not None:  # what the caller wants to see gets all steps, with room to turn the window
        bounds = low - (high - low) / 2, high + (high - low) / 2
    else:
        wide = range_of(volume, shown=shown)
        bounds = min(low, wide[0]), max(high, wide[1])
    steps = Steps.over(*bounds, volume.dtype)
    facts = {"name": name, "kind": kind, "opacity": opacity, "window": [low, high], "low": steps.low,
             "high": steps.high, "exact": steps.exact}  # fmt: skip
    return _Layer([frame], facts, steps)


def _written(told: dict[str, Any], layers: Sequence[_Layer], grid: Grid, point: Sequence[float]) -> Page:
    """The document, with all that the script must know as JSON beside it."""
    shape, affine = grid
    start = affine.inverse().apply(point).round().clip(0, np.array(shape) - 1).astype(int).tolist()
    data = {
        **told,
        "shape": shape,
        "spacing": affine.spacing,
        "affine": affine.matrix.tolist(),
        "point": start,
        "notes": [*_notes(layers, grid), _HOW],
        "layers": [{**layer.facts, "data": layer.text} for layer in layers],
    }
    folder = files("radiobject.show") / "page"
    parts = {kind: (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    title = told["title"]
    document = Template(parts["html"]).substitute(
        title=html.escape(title),
        policy=policy_of(parts["css"], parts["js"]),
        style=parts["css"],
        script=parts["js"],
        # inside a script element only its end tag means something to HTML
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )
    return Page(title, document)


def _notes(layers: Sequence[_Layer], grid: Grid) -> list[str]:
    """What the page shows otherwise than it is stored."""
    first, (shape, affine) = layers[0].frames[0], grid
    notes = []
    if shape == first.shape:
        notes.append("Every voxel is in this page.")
    else:
        size, spacing = (" x ".join(f"{v:.3g}" for v in of) for of in (shape, affine.spacing))
        notes.append(
            f"In this page: {size} voxels of {spacing} mm, resampled from those above so that it stays small."
        )
    for layer in layers:
        if layer.steps is not None and not layer.steps.exact:
            low, high, width = (short(v) for v in (layer.steps.low, layer.steps.high, layer.steps.width))
            notes.append(
                f"{layer.facts['name']}: values from {low} to {high} in steps of {width}; what lies beyond "
                "is shown as the nearest of them. window= keeps a narrower range in finer steps."
            )
    if lean := lean_of(first.meta.affine):
        notes.append(f"Planes are cut as the scan lies ({lean}); two letters name a direction that leans.")
    return notes
