"""Where the corners of volumes lie, by which grids are compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["corners"]

_ENDS = np.array(list(np.ndindex(2, 2, 2)), dtype=np.float64)


def corners(
    shapes: npt.ArrayLike, affines: npt.ArrayLike, sides: npt.ArrayLike = 1.0
) -> npt.NDArray[np.float64]:
    """World places (n, 8, 3) of the centres of the corner voxels of n volumes.

    `shapes` is (n, 3), voxels along x, y, z; `affines` (n, 4, 4). `sides` (n, or one number) multiplies the
    places: millimetres of the unit that an affine is in make them millimetres.

    >>> corners([(3, 1, 1)], np.diag([2.0, 2.0, 2.0, 1.0])[None])[0, -1].tolist()
    [4.0, 0.0, 0.0]
    """
    matrices = np.asarray(affines, dtype=np.float64).reshape(-1, 4, 4)
    voxels = _ENDS * np.maximum(np.asarray(shapes, dtype=np.float64).reshape(-1, 1, 3) - 1, 0)
    places = voxels @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3]
    scaled: npt.NDArray[np.float64] = places * np.asarray(sides, dtype=np.float64).reshape(-1, 1, 1)
    return scaled
