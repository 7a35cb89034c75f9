"""Figure: rows of three sections as a matplotlib figure, all at one physical scale, their crosses in line."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import MissingDependencyError
from radiobject.show.appearance import Rgba, hot, short
from radiobject.show.sections import Section

try:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke
except ImportError as error:
    raise MissingDependencyError(
        "pictures need matplotlib", hint='pip install "radiobject-zarr[plot]"'
    ) from error

__all__ = ["Layer", "Picture", "Row", "draw", "round_length"]

_BACKGROUND, _INK, _FAINT, _CROSS = "black", "#e8eaf0", "#a3abbd", "#f7d154"

_READING = "the patient's right is on the left"

_INCHES = 10.0
_DPI = 96
_SIDE = 0.12
_GAP = 0.08
_THIN = 0.12
"""A panel is at least this part of the widest one, half of it of the tallest: letters stay apart."""

_TALLEST_ROW, _TALLEST = 20.0, 600.0
"""Inches; what is longer has a smaller scale. matplotlib draws no more than 65536 pixels."""

_NAMES_A_LINE = 5
_MOST_NAMES = 14
"""Labels in the legend; a segmentation of a hundred organs would hide the picture."""

Bounds = tuple[float, float, float, float]


class Picture(Figure):
    """A matplotlib Figure that notebooks show, made without pyplot: it belongs to no global state.

    It is freed when nobody holds it. `savefig(path)` writes it.
    """

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png")
        return out.getvalue()


@dataclass(frozen=True)
class Layer:
    """What is laid on the sections: grey values with a window, or ready RGBA pixels, sharp or smooth."""

    pixels: Sequence[npt.NDArray[Any]]
    window: tuple[float, float] | None = None
    smooth: bool = True


@dataclass(frozen=True)
class Row:
    """One row of the figure: three sections, what is on them, a name, and what is known about it."""

    sections: Sequence[Section]
    layers: Sequence[Layer]
    name: str = ""
    facts: str = ""


def draw(
    rows: Sequence[Row],
    title: str,
    *,
    facts: str = "",
    crosshair: bool = True,
    names: Sequence[tuple[str, Rgba]] = (),
    heat: tuple[str, tuple[float, float]] | None = None,
    figure: Any = None,
) -> Any:
    """Draw the rows into a new `Picture`, or into `figure` (a matplotlib Figure or SubFigure), and return it.

    A column of the figure is one plane; in it, what lies one below the other lies at the same place. `names`
    with their colours become a legend, `heat` (name, window) a colour bar.
    """
    bounds = _bounds(rows)
    widths = [right - left for left, right, _, _ in bounds]
    heights = bounds[0][3] - bounds[0][2]
    tallest = min(_TALLEST_ROW, _TALLEST / len(rows))
    per_mm = min((_INCHES - 2 * _SIDE - 2 * _GAP) / sum(widths), tallest / heights)
    legend = _legend(names)
    lines = max(math.ceil(len(legend) / _NAMES_A_LINE), int(heat is not None))
    head, foot = (0.78 if facts else 0.55), 0.1 + 0.24 * lines
    made = figure
    if made is None:
        high = head + foot + len(rows) * (heights * per_mm + _GAP) - _GAP
        made = Picture(figsize=(_INCHES, high), dpi=_DPI)
    made.set_facecolor(_BACKGROUND)
    wide, high = (side / made.dpi for side in (made.bbox.width, made.bbox.height))
    grid = made.add_gridspec(
        len(rows), 3, width_ratios=widths, left=_SIDE / wide, right=1 - _SIDE / wide, top=1 - head / high,
        bottom=foot / high, wspace=_GAP / (sum(widths) * per_mm / 3), hspace=_GAP / (heights * per_mm),
    )  # fmt: skip
    for number, row in enumerate(rows):
        for column, section in enumerate(row.sections):
            axes = made.add_subplot(grid[number, column])
            if not number:
                axes.set_title(section.plane, color=_INK, fontsize=11, pad=3)
            _panel(axes, section, row, column, bounds[column])
            if crosshair:
                _cross(axes, bounds[column])
            if not column:
                _written(axes, 0.025, 0.975, row.name, color=_INK, size=10.5, va="top")
                _written(axes, 0.025, 0.025, row.facts, color=_FAINT, size=9, va="bottom")
            if not column and number == len(rows) - 1:
                _scale_bar(axes, bounds[column])
    side = _SIDE / wide
    made.text(side, 1 - 0.14 / high, _plain(title), color=_INK, size=13, weight="bold", va="top")
    made.text(side, 1 - 0.42 / high, _plain(facts), color=_FAINT, size=9.5, va="top")
    made.text(1 - side, 1 - 0.17 / high, _READING, color=_FAINT, size=9, va="top", ha="right")
    if legend:
        made.legend(
            handles=legend, loc="lower left", ncols=min(len(legend), _NAMES_A_LINE), frameon=False,
            labelcolor=_INK, fontsize=10, bbox_to_anchor=(0.005, 0.0), handlelength=1.1, handleheight=1.0,
        )  # fmt: skip
    if heat is not None:
        _heat_bar(made, wide, high, *heat)
    return made


def _legend(names: Sequence[tuple[str, Rgba]]) -> list[Any]:
    shown = names[:_MOST_NAMES]
    patches = [Patch(color=[v / 255 for v in rgba[:3]], label=_plain(name)) for name, rgba in shown]
    if len(names) > len(shown):
        patches.append(Patch(color="none", label=f"and {len(names) - len(shown)} more"))
    return patches


def _heat_bar(figure: Any, wide: float, high: float, name: str, window: tuple[float, float]) -> None:
    bar = figure.add_axes((_SIDE / wide, 0.12 / high, 1.6 / wide, 0.1 / high))
    bar.imshow(hot(np.linspace(0, 1, 128))[None], aspect="auto", extent=(0, 1, 0, 1))
    bar.set_axis_off()
    text = f"{_plain(name)}: {short(window[0])} to {short(window[1])}"
    figure.text((_SIDE + 1.7) / wide, 0.17 / high, text, color=_INK, size=9.5, va="center")


def _bounds(rows: Sequence[Row]) -> list[Bounds]:
    """Of each column what the sections of all rows need, in mm around the point, and equally high."""
    found = []
    for column in range(3):
        each = np.array([row.sections[column].bounds for row in rows])
        found.append((each[:, 0].min(), each[:, 1].max(), each[:, 2].min(), each[:, 3].max()))
    tallest = max(bottom - top for _, _, top, bottom in found)
    least = _THIN * max(*(right - left for left, right, _, _ in found), tallest / 2)
    padded = []
    for left, right, top, bottom in found:
        across, down = (max(least - (right - left), 0) / 2, (tallest - (bottom - top)) / 2)
        padded.append((left - across, right + across, top - down, bottom + down))
    return padded


def _panel(axes: Any, section: Section, row: Row, column: int, bounds: Bounds) -> None:
    left, right, top, bottom = section.bounds
    for layer in row.layers:
        pixels, (low, high) = layer.pixels[column], layer.window or (None, None)
        axes.imshow(
            pixels, cmap="gray", vmin=low, vmax=high, extent=(left, right, bottom, top),
            interpolation="bilinear" if layer.smooth else "nearest",
        )  # fmt: skip
    left, right, top, bottom = bounds
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor=_BACKGROUND)
    axes.set_axis_off()
    to_left, to_right, to_top, to_bottom = section.letters
    _written(axes, 0.02, 0.5, to_left, va="center")
    _written(axes, 0.98, 0.5, to_right, va="center", ha="right")
    _written(axes, 0.5, 0.985, to_top, va="top", ha="center")
    _written(axes, 0.5, 0.015, to_bottom, va="bottom", ha="center")


def _written(axes: Any, x: float, y: float, text: str, *, color: str = _FAINT, size: float = 11, va: str,
             ha: str = "left") -> None:  # fmt: skip
    """Text on a picture, with an edge that keeps it readable on white."""
    edge = [withStroke(linewidth=2.5, foreground=_BACKGROUND)]
    axes.text(
        x,
        y,
        _plain(text),
        color=color,
        fontsize=size,
        va=va,
        ha=ha,
        transform=axes.transAxes,
        path_effects=edge,
    )


def _cross(axes: Any, bounds: Bounds) -> None:
    """Lines through the point. It is left open, to be seen, and so are the edges, where letters stand."""
    left, right, top, bottom = bounds
    gap, edge = (part * min(right - left, bottom - top) for part in (0.04, 0.08))
    style = {"color": _CROSS, "linewidth": 0.8, "alpha": 0.75}
    for start, end in ((left + edge, -gap), (gap, right - edge)):
        if start < end:
            axes.plot([start, end], [0, 0], **style)
    for start, end in ((top + edge, -gap), (gap, bottom - edge)):
        if start < end:
            axes.plot([0, 0], [start, end], **style)


def _scale_bar(axes: Any, bounds: Bounds) -> None:
    """A round length of up to a third of the panel, in its lower right corner."""
    left, right, top, bottom = bounds
    length = round_length((right - left) / 3)
    x, y = right - 0.03 * (right - left), bottom - 0.03 * (bottom - top)
    axes.plot([x - length, x], [y, y], color=_INK, linewidth=2, solid_capstyle="butt")
    axes.annotate(
        f"{length:g} mm", (x - length / 2, y), (0, 3), textcoords="offset points", color=_INK, fontsize=9,
        ha="center", path_effects=[withStroke(linewidth=2.5, foreground=_BACKGROUND)],
    )  # fmt: skip


def round_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, 20 ... that is no longer than `most`.

    >>> round_length(70.0), round_length(0.3)
    (50.0, 0.2)
    """
    decade = 10.0 ** math.floor(math.log10(most))
    # the logarithm of a number just below a power of ten may be that of the power
    return decade * max(n for n in (0.5, 1, 2, 5) if n * decade <= most)


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: a pair of dollars would be mathematics, a bad one an error."""
    return text.replace("$", r"\$")
