"""Plot: one volume, or all volumes of a subject, as three sections each through one point of the world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, IndexingError, SelectionError
from radiobject.model.partners import PARTNER_COLUMNS
from radiobject.show.appearance import (
    Rgba,
    checked_opacity,
    checked_title,
    hot,
    label_pixels,
    labels_of,
    refuse_label_window,
    short,
    window_of,
)
from radiobject.show.figure import Layer, Row, draw
from radiobject.show.sections import (
    Planes,
    Section,
    checked_point,
    facts_of,
    frame_of,
    lean_of,
    moment_of,
    point_of,
    reaches,
    sections,
)
from radiobject.show.units import decimals, in_mm, overlay_in_mm

if TYPE_CHECKING:
    from radiobject.model.view import StudyView
    from radiobject.model.volume import Volume

__all__ = ["plot_subject", "plot_volume"]

Names = list[tuple[str, Rgba]]


def plot_volume(
    volume: Volume,
    at: Sequence[float] | None = None,
    *,
    t: int | None = None,
    c: int | None = None,
    window: Sequence[float] | None = None,
    overlay: Volume | None = None,
    overlay_window: Sequence[float] | None = None,
    opacity: float = 0.5,
    crosshair: bool = True,
    planes: Planes = "scan",
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """What `Volume.plot` does; see there."""
    name, opacity = checked_title(title, volume), checked_opacity(opacity)
    overlay, volume = overlay_in_mm(overlay), in_mm(volume)
    frame = frame_of(volume, t, c)
    point = point_of(frame, at)
    cuts = sections(frame, point, planes)
    layers, names, shown = _base(volume, frame, cuts, window)
    heat, note = None, ""
    if overlay is not None:
        moment, note = moment_of(overlay, volume, t)
        above = frame_of(overlay, moment)
        if overlay.meta.kind == "label":
            layer, names = _coloured(above, cuts, opacity)
        else:
            layer, low, high = _heated(overlay, above, cuts, overlay_window, opacity)
            heat = overlay.obs_id or "overlay", (low, high)
        layers.append(layer)
    facts = [*facts_of(volume, frame, t or 0, c or 0), _place(frame, point), note]
    return draw(
        [Row(cuts, layers, "", shown)],
        name,
        facts="   ".join(filter(None, facts)),
        crosshair=crosshair,
        names=names,
        heat=heat,
        figure=figure,
    )


def plot_subject(
    study: StudyView,
    subject: str,
    at: Sequence[float] | None = None,
    *,
    t: int | None = None,
    opacity: float = 0.5,
    crosshair: bool = True,
    planes: Planes = "scan",
    figure: Any = None,
) -> Any:
    """What `RadiObject.plot_subject` does; see there."""
    opacity = checked_opacity(opacity)
    view = study.loc[subject]
    held = [(name, in_mm(volume)) for name in view.collection_names for volume in view.collection(name)]
    if not held:
        raise SelectionError(f"plot_subject({subject!r})", expected="a subject with volumes", got="none")
    images = [(name, volume) for name, volume in held if volume.meta.kind == "image"]
    point = _point(held, (images or held)[0][1], at, subject)
    facts = [_at(point, decimals([step for _, volume in held for step in volume.spacing]))]
    rows, names = list[Row](), Names()
    for name, volume in held:
        of_it = f"{name} {volume.obs_id}" if sum(n == name for n, _ in held) > 1 else name
        below = _partner(volume, images) if volume.meta.kind == "label" else None
        frame = frame_of(volume, t if "t" in volume.axes else None)
        ground = frame if below is None else frame_of(below[1], t if "t" in below[1].axes else None)
        if not reaches(ground, point):
            facts.append(f"{of_it} does not reach it")
            continue
        cuts = sections(ground, point, planes)
        layers, found, shown = _base(volume if below is None else below[1], ground, cuts, None)
        if below is not None:
            layer, found = _coloured(frame, cuts, opacity)
            layers.append(layer)
            of_it = f"{of_it} on {below[0]}"
        lean = lean_of(ground.meta.affine)
        rows.append(Row(cuts, layers, of_it, "  ".join(v for v in (shown, lean) if v)))
        names += [entry for entry in found if entry not in names]
    return draw(rows, subject, facts="   ".join(facts), crosshair=crosshair, names=names, figure=figure)


def _point(
    held: Sequence[tuple[str, Volume]], first: Volume, at: Sequence[float] | None, subject: str
) -> tuple[float, float, float]:
    """The point, which at least one volume of the subject must reach."""
    if at is None:
        return point_of(frame_of(first))
    at = checked_point(at)
    for _, volume in held:
        if reaches(volume, at):
            return point_of(frame_of(volume), at)
    raise IndexingError(f"at= of {subject!r}", expected="a point inside one of its volumes", got=f"{at}")


def _partner(label: Volume, images: Iterable[tuple[str, Volume]]) -> tuple[str, Volume] | None:
    """The first image of the same session, run and time, as far as both say which they are of."""
    mine = label.metadata
    for name, image in images:
        theirs = image.metadata
        both = [(mine.get(column), theirs.get(column)) for column in PARTNER_COLUMNS]
        if all(a == b for a, b in both if a is not None and b is not None):
            return name, image
    return None


def _base(
    volume: Volume, frame: Volume, cuts: Sequence[Section], window: Sequence[float] | None
) -> tuple[list[Layer], Names, str]:
    """The lowest layer, its legend, and its window in words: grey, or the colours of labels on black."""
    refuse_label_window(volume, window)
    if volume.meta.kind == "label":
        layer, names = _coloured(frame, cuts, 1.0)
        return [layer], names, ""
    read = [cut.read(frame) for cut in cuts]
    low, high = window_of(volume, window, shown=read)
    return [Layer(read, (low, high))], [], f"W {short(high - low)}  L {short((low + high) / 2)}"


def _coloured(frame: Volume, cuts: Sequence[Section], opacity: float) -> tuple[Layer, Names]:
    """Labels in their colours, with the names of those to be seen, the largest first."""
    read = [cut.read(frame) for cut in cuts]
    if read[0].dtype.kind not in "iu":
        raise ConfigError("labels", expected="a volume of integers", got=str(read[0].dtype))
    values, counts = np.unique(np.concatenate([v.ravel() for v in read]), return_counts=True)
    labels = labels_of(frame, values[np.argsort(-counts, kind="stable")])
    pixels = [label_pixels(v, labels, opacity) for v in read]
    return Layer(pixels, smooth=False), list(labels.values())


def _heated(
    volume: Volume, frame: Volume, cuts: Sequence[Section], window: Sequence[float] | None, opacity: float
) -> tuple[Layer, float, float]:
    """A second image from black to white by way of red; clear outside it, and where it is at its lowest."""
    read = [cut.read(frame) for cut in cuts]
    low, high = window_of(volume, window, shown=read)
    pixels = []
    for values in read:
        unit: npt.NDArray[np.float64] = np.clip((values - low) / (high - low), 0, 1)
        clear = ~(unit > 0)  # NaN, too
        rgba = np.empty((*values.shape, 4), np.uint8)
        rgba[..., :3] = hot(np.where(clear, 0, unit))
        rgba[..., 3] = np.where(clear, 0, round(255 * opacity))
        pixels.append(rgba)
    return Layer(pixels), low, high


def _place(frame: Volume, point: Sequence[float]) -> str:
    index = frame.meta.affine.inverse().apply(point).round().astype(int).tolist()
    return f"{_at(point, decimals(frame.spacing))}, voxel ({', '.join(map(str, index))})"


def _at(point: Sequence[float], digits: int) -> str:
    return f"at ({', '.join(f'{v:.{digits}f}' for v in point)}) mm"
