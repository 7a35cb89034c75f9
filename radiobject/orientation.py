"""Orientation: which way an image or array lies, and turning it; the names of the TileDB-based package.

Volumes tell it themselves: `Volume.orientation_info`, `Volume.axcodes`, `Volume.reorient`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine
from radiobject.model.orientation import OrientationInfo, nifti_source
from radiobject.moved import refuse_moved

__all__ = [
    "OrientationInfo",
    "detect_dicom_orientation",
    "detect_nifti_orientation",
    "is_orientation_valid",
    "reorient_to_canonical",
]

_SKEW = 0.01  # degrees: what rounding to float32 leaves of a right angle


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.orientation", name)
    raise AttributeError(f"module 'radiobject.orientation' has no attribute {name!r}")


def detect_nifti_orientation(image: Any) -> OrientationInfo:
    """The orientation of a nibabel NIfTI image, from its header alone.

    Equal to `Volume.from_nifti(image).orientation_info`, which reads the voxels too. Raises `GeometryError`
    for an affine that describes no space.
    """
    affine = Affine(np.asarray(image.affine, dtype=np.float64))
    sform, qform = int(image.header["sform_code"]), int(image.header["qform_code"])
    source = "identity" if np.array_equal(affine.matrix, np.eye(4)) else nifti_source(qform, sform)
    return OrientationInfo.of(affine, source)


def detect_dicom_orientation(path: str | os.PathLike[str]) -> OrientationInfo:
    """The orientation of the one volume in a folder of DICOM files, or in one file, from headers alone.

    Equal to `Volume.from_dicom(path).orientation_info`. Raises from the `SourceError` branch.
    """
    from radiobject.ingest.dicom.one import only_volume

    return OrientationInfo.of(only_volume(path).arranged.stack.affine, "dicom_iop")


def is_orientation_valid(info: OrientationInfo) -> bool:
    """Whether it says something: an affine other than the identity, with axes at right angles."""
    matrix = np.asarray(info.affine, dtype=np.float64)
    try:
        affine = Affine(matrix)
    except GeometryError:
        return False
    return not np.allclose(matrix, np.eye(4), atol=1e-6) and affine.shear <= _SKEW


def reorient_to_canonical(
    data: npt.NDArray[Any], affine: npt.ArrayLike, target: str | Sequence[str] = "RAS"
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """The array (x, y, z[, t]) with its axes permuted and flipped to `target`, a view, and its affine.

    `target` is any axis code; every voxel keeps its place in the world. Raises `GeometryError`.

    >>> array, affine = reorient_to_canonical(np.arange(2).reshape(2, 1, 1), np.diag([-1.0, 1, 1, 1]))
    >>> array.ravel().tolist(), affine[0].tolist()
    ([1, 0], [1.0, 0.0, 0.0, -1.0])
    """
    turn = Affine(np.asarray(affine, dtype=np.float64)).reorientation(target, data.shape[:3])
    return turn.apply(data), turn.affine.matrix.copy()
