"""Volumes as SimpleITK images: axes x, y, z, world LPS+ instead of RAS+."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import MissingDependencyError
from radiobject.format.layout import python_axes
from radiobject.format.meta import VolumeMeta

__all__ = ["to_sitk_image"]


def to_sitk_image(meta: VolumeMeta, array: npt.NDArray[Any]) -> Any:
    """A `SimpleITK.Image` of `array` (axes x, y, z[, t][, c]) with the geometry of `meta`, in mm.

    Time is the fourth dimension, with the time step in seconds as its spacing (1 when unknown); channels
    make it a vector image. ITK's indices are ours; its world counts to L, P, S where ours counts to R, A, S.
    """
    try:
        import SimpleITK as sitk  # noqa: N813 - the name that its users know
    except ImportError as error:
        raise MissingDependencyError(
            "SimpleITK image", expected="the package SimpleITK", hint="pip install SimpleITK"
        ) from error
    axes = python_axes(meta.dims)
    order = [axes.index(a) for a in ("t", "z", "y", "x", "c") if a in axes]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector="c" in axes)
    ndim = 4 if "t" in axes else 3
    affine = meta.affine.scaled(meta.side)  # ITK's lengths are mm, whatever those of the file are
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine.matrix
    spacing, origin, direction = np.ones(ndim), np.zeros(ndim), np.eye(ndim)
    spacing[:3], origin[:3] = affine.spacing, lps[:3, 3]
    direction[:3, :3] = lps[:3, :3] / affine.spacing
    if ndim == 4:
        spacing[3] = meta.time_step or 1.0
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image
