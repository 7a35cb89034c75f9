"""Where the corners of volumes lie, by which grids are compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["GRID_MM", "corners", "grid_tolerance"]

GRID_MM = 1e-3
"""How far apart two affines may put a corner of a volume and still be one grid, in mm, at most."""

_OF_A_VOXEL = 0.01

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


def grid_tolerance(affines: npt.ArrayLike, sides: npt.ArrayLike = 1.0) -> npt.NDArray[np.float64]:
    """How far the corners of each of n volumes may lie from another's on one grid with it, (n,) in mm.

    That is `GRID_MM`, or a hundredth of the volume's smallest spacing where that is less: a thousandth of a
    millimetre is several voxels of a microscope. `affines` and `sides` are those of `corners`.

    >>> grid_tolerance([np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([0.25, 0.25, 4.0, 1.0])], [1.0, 1e-3]).tolist()
    [0.001, 2.5e-06]
    """
    matrices = np.asarray(affines, dtype=np.float64).reshape(-1, 4, 4)
    spacing = np.linalg.norm(matrices[:, :3, :3], axis=1).min(axis=1)
    found: npt.NDArray[np.float64] = np.minimum(GRID_MM, _OF_A_VOXEL * spacing * np.asarray(sides))
    return found
