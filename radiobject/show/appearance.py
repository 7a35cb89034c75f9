"""Appearance: which grey a value gets and which colour a label, for every picture and viewer alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError
from radiobject.format.ome import default_rgba
from radiobject.model.summary import stored_statistics

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = [
    "Rgba",
    "checked_opacity",
    "checked_title",
    "hot",
    "label_colours",
    "label_pixels",
    "labels_of",
    "range_of",
    "refuse_label_window",
    "short",
    "window_of",
]

Rgba = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255."""

_DISPLAY = {"p1": 1.0, "p99": 99.0}
_WIDE = {"p0.5": 0.5, "p99.5": 99.5}


def window_of(
    volume: Volume, given: Sequence[float] | None = None, *, shown: Iterable[npt.NDArray[Any]] | None = None
) -> tuple[float, float]:
    """The values shown black and white, in units that reads return.

    `given` (low, high) if there is one; the source's own display range; else the 1st to the 99th percentile,
    or everything where these are equal. Percentiles of a stored volume come from its row, also for a part of
    it, and no voxel is read; else they are those of the voxels `shown`, without which all voxels are read.

    Raises `ConfigError` for a range that is none.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> window_of(Volume.from_numpy(np.arange(1000.0, dtype="f4").reshape(10, 10, 10)))
    (9.0, 989.0)
    """
    if given is not None:
        return _checked(given)
    low, high = volume.meta.window or (0.0, 0.0)
    # what another program wrote may be none
    return (low, high) if -math.inf < low < high < math.inf else _spread(volume, _DISPLAY, shown)


def range_of(volume: Volume, *, shown: Iterable[npt.NDArray[Any]] | None = None) -> tuple[float, float]:
    """The values worth keeping where only 256 can be kept: the 0.5th to the 99.5th percentile.

    Where they come from is said at `window_of`.
    """
    return _spread(volume, _WIDE, shown)


def _spread(
    volume: Volume, percentiles: dict[str, float], shown: Iterable[npt.NDArray[Any]] | None
) -> tuple[float, float]:
    found = stored_statistics(volume.metadata, percentiles)
    if found is None and shown is not None:
        voxels = np.concatenate([v[np.isfinite(v)] for v in shown])
        ranks = [0.0, *percentiles.values(), 100.0]
        levels = np.percentile(voxels, ranks, method="inverted_cdf") if voxels.size else np.zeros(4)
        least, low, high, most = levels.tolist()
    else:
        found = found or volume.get_statistics(percentiles=list(percentiles.values()))
        least, low, high, most = (found[name] for name in ("min", *percentiles, "max"))
    if low == high:
        low, high = least, most
    return (low, high) if low < high else (0.0, 1.0)  # one value only, or none that is finite


def _checked(given: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in given)
    except (TypeError, ValueError) as error:
        raise ConfigError("window=", expected="(low, high)", got=repr(given)) from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError("window=", expected="two finite numbers, low before high", got=repr(given))
    return low, high


def refuse_label_window(volume: Volume, window: Sequence[float] | None) -> None:
    """Labels have colours, not grey values: `ConfigError` for a window of theirs."""
    if window is not None and volume.meta.kind == "label":
        raise ConfigError("window= of a label volume", expected="None", got=repr(window))


def checked_opacity(opacity: float) -> float:
    """A number from 0 to 1; `ConfigError` for anything else."""
    if not (isinstance(opacity, int | float | np.number) and 0 <= opacity <= 1):
        raise ConfigError("opacity=", expected="0 to 1", got=repr(opacity))
    return float(opacity)


def checked_title(title: str | None, volume: Volume) -> str:
    """The title, by default the volume's id; `ConfigError` for what is no text."""
    if title is not None and not isinstance(title, str):
        raise ConfigError("title=", expected="text, or None", got=repr(title))
    return title if title is not None else volume.obs_id or "volume"


def label_colours(volume: Volume) -> dict[int, tuple[str, Rgba]]:
    """Name and colour of each label that the volume names, in order; 0 is the background and has none.

    >>> from radiobject.examples import study
    >>> [name for name, rgba in label_colours(study(n=1).seg.iloc[0]).values()]
    ['grey matter', 'white matter']
    """
    return {
        label.value: (label.name, label.rgba or default_rgba(label.value))
        for label in volume.meta.labels
        if label.value != 0
    }


def labels_of(volume: Volume, values: Iterable[int]) -> dict[int, tuple[str, Rgba]]:
    """Name and colour of each of these values but 0, also of those that the volume does not name.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> labels_of(Volume.from_numpy(np.zeros((2, 2, 2), "u1"), kind="label"), [3, 0])
    {3: ('label 3', (144, 46, 230, 255))}
    """
    named = label_colours(volume)
    wanted = [int(v) for v in values if v != 0]
    return {value: named.get(value, (f"label {value}", default_rgba(value))) for value in wanted}


def label_pixels(
    values: npt.NDArray[Any], labels: dict[int, tuple[str, Rgba]], opacity: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Labels as RGBA pixels (..., 4); what is not in `labels` is clear."""
    found, place = np.unique(values, return_inverse=True)
    palette = np.array([labels[int(v)][1] if int(v) in labels else (0, 0, 0, 0) for v in found], np.float64)
    palette[:, 3] *= opacity
    pixels: npt.NDArray[np.uint8] = palette.round().astype(np.uint8)[place.reshape(values.shape)]
    return pixels


def hot(unit: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Red, green, blue (..., 3) of values from 0 to 1: black, red, yellow, white, as fused PET is shown.

    >>> hot([0.0, 1 / 3, 1.0]).tolist()
    [[0, 0, 0], [255, 0, 0], [255, 255, 255]]
    """
    value = np.asarray(unit, np.float64)[..., None]
    colours: npt.NDArray[np.uint8] = (np.clip(3 * value - (0, 1, 2), 0, 1) * 255).round().astype(np.uint8)
    return colours


def short(value: float) -> str:
    """A number as a picture has room for it.

    >>> short(12430.4), short(0.01234), short(-40.0)
    ('12430', '0.0123', '-40')
    """
    return f"{value:.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"
