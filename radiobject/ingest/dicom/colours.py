"""Colours of segments: DICOM's CIELab integers to sRGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["cielab_rgba"]

# The white point D65, as the programs that write SEG objects (dcmqi, 3D Slicer, highdicom) assume it. The
# standard's "PCS-Values" suggest D50, by which no colour that they wrote comes back as it was.
_WHITE = np.array([0.95047, 1.0, 1.08883])
# IEC 61966-2-1
_LINEAR = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)
_KNEE = 6 / 29


def cielab_rgba(encoded: Sequence[float]) -> tuple[int, int, int, int]:
    """Red, green, blue and opacity (0 to 255) of a Recommended Display CIELab Value.

    `encoded`: L*, a*, b* as unsigned 16-bit numbers, 0 to 65535 for L* 0 to 100 and a*, b* -128 to 127
    (DICOM PS3.3 C.10.7.1.1). Colours outside sRGB are clipped.

    >>> cielab_rgba((41661, 41167, 40792))
    (221, 130, 101, 255)
    """
    lightness, a, b = np.asarray(encoded, dtype=np.float64) / 65535 * (100, 255, 255) - (0, 128, 128)
    middle = (lightness + 16) / 116
    roots = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = _WHITE * np.where(roots > _KNEE, roots**3, 3 * _KNEE**2 * (roots - 4 / 29))
    light = np.clip(_LINEAR @ xyz, 0.0, 1.0)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * v) for v in curved.tolist())
    return red, green, blue, 255
