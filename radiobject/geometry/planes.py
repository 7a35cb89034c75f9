"""How a slice is laid on a screen: which array axis it cuts, which way its rows and columns run.

The convention is radiology's: axial slices are seen from the feet and coronal ones from the front, so that
the patient's left is on the right of the screen; sagittal slices are seen from the patient's left.

========  =====================  ====================
plane     rows, top to bottom    columns, left to right
========  =====================  ====================
axial     anterior to posterior  right to left
coronal   superior to inferior   right to left
sagittal  superior to inferior   anterior to posterior
========  =====================  ====================
"""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine

__all__ = ["PLANES", "Plane", "display_spacing", "plane_axis", "to_display"]

Plane = Literal["axial", "coronal", "sagittal"]

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

# World axes 0 R/L, 1 A/P, 2 S/I: the one cut, the one down the rows, the one along the columns. On a screen
# R/L runs towards L, A/P towards P and S/I towards I: against the world axis every time.
_WORLD = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


def _axes(affine: Affine, plane: str) -> tuple[int, int, int]:
    """The array axes that are cut, run down the rows, run along the columns."""
    if plane not in _WORLD:
        raise GeometryError("plane", expected="axial, coronal or sagittal", got=repr(plane))
    cut, row, column = (affine.world_axes.index(w) for w in _WORLD[plane])
    return cut, row, column


def plane_axis(affine: Affine, plane: Plane) -> int:
    """The array axis (0 x, 1 y, 2 z) that an anatomical plane cuts; of an oblique volume the nearest.

    >>> plane_axis(Affine.from_spacing((1, 1, 1)), "coronal")
    1
    """
    return _axes(affine, plane)[0]


def to_display(slice2d: npt.NDArray[Any], affine: Affine, plane: Plane) -> npt.NDArray[Any]:
    """A view of a slice with rows and columns as the table of this module says.

    `slice2d` is the (x, y, z) array with `plane_axis` taken out: its first two axes are what is left of
    x, y, z in that order; further axes (time, colour) stay where they are.

    >>> import numpy as np
    >>> ras = Affine.from_spacing((1, 1, 1))
    >>> to_display(np.array([["left-back", "left-front"], ["right-back", "right-front"]]), ras, "axial")
    array([['right-front', 'left-front'],
           ['right-back', 'left-back']], dtype='<U11')
    """
    _, row, column = _axes(affine, plane)
    if slice2d.ndim < 2:
        raise GeometryError("slice", expected="two axes or more", got=str(slice2d.shape))
    turned = slice2d if row < column else slice2d.swapaxes(0, 1)
    return turned[tuple(slice(None, None, -affine.signs[a]) for a in (row, column))]


def display_spacing(affine: Affine, plane: Plane) -> tuple[float, float]:
    """Distance in mm between rows, and between columns, of a slice that `to_display` has turned."""
    _, row, column = _axes(affine, plane)
    return affine.spacing[row], affine.spacing[column]
