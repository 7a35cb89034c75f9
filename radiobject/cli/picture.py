"""A picture of a scan and its labels: three planes each, as a radiologist has them on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import MissingDependencyError

if TYPE_CHECKING:
    from radiobject import Volume

__all__ = ["draw_planes", "require_matplotlib"]

_BACKGROUND, _INK, _FAINT = "black", "#e8eaf0", "#a3abbd"
_COLOURS = ("#2fb5c7", "#f2a541", "#d1495b", "#7bc950", "#9b6bd3", "#e86fb5")
"""For label values in turn; apart from each other also to eyes that do not see red and green."""

# World axes (0 R/L, 1 A/P, 2 S/I) along the columns and down the rows; letters left, right, top, bottom.
_LAYOUT = {
    "axial": ((0, 1), ("R", "L", "A", "P")),
    "coronal": ((0, 2), ("R", "L", "S", "I")),
    "sagittal": ((1, 2), ("A", "P", "S", "I")),
}


def require_matplotlib() -> None:
    """Raise `MissingDependencyError` before any work is done for a picture that cannot be drawn."""
    try:
        import matplotlib  # noqa: F401 - only asked for
    except ImportError as error:
        raise MissingDependencyError(
            "the picture needs matplotlib", hint='pip install "radiobject-zarr[demo]"'
        ) from error


def draw_planes(path: Path, image: Volume, labels: Volume, title: str, names: tuple[str, str]) -> None:
    """Write a PNG: the middle axial, coronal and sagittal plane of `image`, below them with `labels` on them.

    `names` are written beside the two rows. All panels have one scale in mm. Both volumes must lie on one
    grid.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    extent = _extent(image)
    widths = [extent[_LAYOUT[plane][0][0]] for plane in _LAYOUT]
    height = max(extent[1], extent[2])
    inches = 10 / sum(widths)
    figure = Figure(figsize=(10, 2 * height * inches + 1.1), facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    top = 1 - 0.7 / figure.get_figheight()
    grid = figure.add_gridspec(
        2, 3, width_ratios=widths, left=0.012, right=0.988, top=top, bottom=0.42 / figure.get_figheight(),
        wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for column, plane in enumerate(_LAYOUT):
        for row in range(2):
            axes = figure.add_subplot(grid[row, column])
            if not row:
                axes.set_title(plane, color=_INK, fontsize=11, pad=2)
            if not column:
                axes.text(0.03, 0.97, names[row], color=_INK, fontsize=11, va="top", transform=axes.transAxes)
            _panel(axes, plane, image, extent, height)
            if row:
                _overlay(axes, plane, labels, extent)
    heading = 1 - 0.25 / figure.get_figheight()
    figure.text(0.012, heading, title, color=_INK, fontsize=13, weight="bold", va="center")
    _legend(figure, labels)
    figure.savefig(path, dpi=96, facecolor=_BACKGROUND, pil_kwargs={"optimize": True})


def _extent(volume: Volume) -> tuple[float, float, float]:
    """Size in mm along right-left, anterior-posterior, superior-inferior."""
    world = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    found = [0.0, 0.0, 0.0]
    for code, size, spacing in zip(volume.axcodes, volume.shape, volume.spacing, strict=False):
        found[world[code]] = size * spacing
    return found[0], found[1], found[2]


def _plane(volume: Volume, plane: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = getattr(volume, plane)(display=True)
    return found


def _bounds(plane: str, extent: tuple[float, float, float]) -> tuple[float, float, float, float]:
    (across, down), _ = _LAYOUT[plane]
    return 0, extent[across], extent[down], 0


def _panel(axes: Any, plane: str, image: Volume, extent: tuple[float, float, float], height: float) -> None:
    bounds = _bounds(plane, extent)
    # from the percentiles that ingest kept: no voxel is read for the window
    low, high = image.metadata["intensity_p1"], 1.1 * image.metadata["intensity_p99_5"]
    axes.imshow(
        _plane(image, plane), cmap="gray", vmin=low, vmax=high, extent=bounds, interpolation="bilinear"
    )
    spare = (height - bounds[2]) / 2
    axes.set(xlim=(0, bounds[1]), ylim=(bounds[2] + spare, -spare), aspect="equal", facecolor="black")
    axes.set_axis_off()
    left, right, top, bottom = _LAYOUT[plane][1]
    style = {"color": _FAINT, "fontsize": 11, "transform": axes.transAxes}
    axes.text(0.02, 0.5, left, ha="left", va="center", **style)
    axes.text(0.98, 0.5, right, ha="right", va="center", **style)
    axes.text(0.5, 0.985, top, ha="center", va="top", **style)
    axes.text(0.5, 0.015, bottom, ha="center", va="bottom", **style)


def _overlay(axes: Any, plane: str, labels: Volume, extent: tuple[float, float, float]) -> None:
    from matplotlib.colors import to_rgb

    found = _plane(labels, plane)
    colours = np.zeros((*found.shape, 4))
    for number, value in enumerate(_values(labels)):
        colours[found == value] = (*to_rgb(_COLOURS[number % len(_COLOURS)]), 0.55)
    axes.imshow(colours, extent=_bounds(plane, extent), interpolation="nearest")


def _values(labels: Volume) -> list[int]:
    return [label.value for label in labels.meta.labels]


def _legend(figure: Any, labels: Volume) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(color=_COLOURS[number % len(_COLOURS)], label=label.name)
        for number, label in enumerate(labels.meta.labels)
    ]
    figure.legend(
        handles=patches, loc="lower left", ncols=len(patches), frameon=False, labelcolor=_INK, fontsize=10,
        bbox_to_anchor=(0.005, 0.0), handlelength=1.1, handleheight=1.0,
    )  # fmt: skip
    figure.text(
        0.988, 0.2 / figure.get_figheight(), "radiological display: the patient's right is on the left",
        color=_FAINT, fontsize=9, ha="right", va="center",
    )  # fmt: skip
