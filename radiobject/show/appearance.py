"""Appearance: which grey a value gets and which colour a label, for every picture and viewer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radiobject.format.ome import default_rgba

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["Rgba", "label_colours", "window_of"]

Rgba = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255."""


def window_of(volume: Volume) -> tuple[float, float]:
    """The values shown black and white, in units that reads return.

    The source's own display range; else the 1st to the 99th percentile, or everything where these are equal.
    Of a whole stored volume it comes from its row, and no voxel is read; else all voxels are.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> window_of(Volume.from_numpy(np.arange(1000.0, dtype="f4").reshape(10, 10, 10)))
    (9.0, 989.0)
    """
    if volume.meta.window is not None:
        return volume.meta.window
    found = volume.get_statistics(percentiles=(1, 99))
    low, high = found["p1"], found["p99"]
    if low == high:
        low, high = found["min"], found["max"]
    return (low, high) if low < high else (0.0, 1.0)  # one value only, or none that is finite


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
