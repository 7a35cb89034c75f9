"""The other way to read a scan, for the demo's table: nibabel on the .nii.gz that was ingested."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["read_region", "version"]


def read_region(path: str | os.PathLike[str], key: tuple[slice | int, ...]) -> npt.NDArray[Any]:
    """Open the file and read one region, voxel axes x, y, z, as nibabel's documentation says."""
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj[key])


def version() -> str:
    """Version of the installed nibabel."""
    import nibabel

    return str(nibabel.__version__)
