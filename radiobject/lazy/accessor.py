"""Accessor: `da.radi`, what a DataArray knows of its place in the world, and the way back to a Volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from radiobject.errors import GeometryError, SelectionError
from radiobject.geometry.affine import Affine
from radiobject.geometry.coordinates import AFFINE, DIRECTION, matrix_of, matrix_text

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["RadiAccessor"]


@xr.register_dataarray_accessor("radi")  # type: ignore[no-untyped-call]
class RadiAccessor:
    """Geometry of an array with the axes x, y, z, as `to_xarray()` makes it, however it was sliced since.

    It reads coordinates only, and so works on arrays that were computed, saved and opened again.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> vol = Volume.from_numpy(np.zeros((10, 20, 30), "i2"), np.diag([-2.0, 2.0, 3.0, 1.0]))
    >>> part = vol.to_xarray().isel(x=slice(4, None), z=slice(None, None, 2))
    >>> part.radi.spacing, part.radi.axcodes
    ((2.0, 2.0, 6.0), ('L', 'A', 'S'))
    >>> bool((part.radi.affine == vol.slicer[4:, :, ::2].affine).all())
    True
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4 float64, voxel index (x, y, z, 1) of this array to RAS+ mm; (n, 4, 4) for n grids.

        An axis of one voxel, or one taken by an int, keeps the direction and thickness of the stored voxels.
        Raises `GeometryError` where coordinates are missing or uneven.
        """
        from radiobject.lazy.geometry import affine_of

        return affine_of(self._array)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along x, y, z, in mm."""
        return self._one().spacing

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """Anatomical direction nearest to each array axis, such as ('R', 'A', 'S')."""
        return self._one().axcodes

    @property
    def labels(self) -> dict[int, str]:
        """Name of each value of a label volume."""
        from radiobject.lazy.arrays import labels_of

        return {label.value: label.name for label in labels_of(self._array.attrs, self._what)}

    def reorient(self, axcodes: str | Sequence[str]) -> xr.DataArray:
        """The array with its axes x, y, z permuted and flipped to codes such as "LPS". No voxel is read.

        Raises `GeometryError` for codes that name no orientation.
        """
        array, affine = self._array, self._one()
        if missing := [axis for axis in "xyz" if axis not in array.dims]:
            raise GeometryError(
                f"reorient of {self._what}", expected="axes x, y and z", got=f"no axis {', '.join(missing)}"
            )
        turn = affine.reorientation(axcodes, [array.sizes[axis] for axis in "xyz"])
        back = slice(None, None, -1)
        array = array.isel({"xyz"[a]: back for a, f in zip(turn.perm, turn.flips, strict=True) if f})
        return array if turn.perm == (0, 1, 2) else _permuted(array, turn.perm)

    def to_volume(self) -> Volume:
        """A Volume in memory with these voxels, affine, kind, label names and time step; reads the voxels.

        Raises `SelectionError` for axes other than x, y, z, t, c, and what `Volume.from_numpy` raises.
        """
        from radiobject.lazy.arrays import volume_of

        return volume_of(self._array)

    def to_nifti(self, path: str | os.PathLike[str]) -> None:
        """Write .nii, .nii.gz or a .hdr/.img pair, as the path says."""
        self.to_volume().to_nifti(path)

    @property
    def _what(self) -> str:
        return f"DataArray {self._array.name!r}"

    def _one(self) -> Affine:
        affine = self.affine
        if affine.ndim > 2:
            raise SelectionError(
                self._what,
                expected="one grid",
                got=f"{len(affine)} volumes on grids of their own",
                hint="Take one, da.isel(obs_id=0), or make the array with grid=volume.",
            )
        return Affine(affine)


def _permuted(array: xr.DataArray, perm: Sequence[int]) -> xr.DataArray:
    """The array with axis `perm[k]` as axis k: names, coordinates and voxels."""
    from radiobject.lazy.geometry import text
    from radiobject.lazy.indexing import PermutedArray, lazily

    array = array.rename({"xyz"[source]: "xyz"[k] for k, source in enumerate(perm)})
    spatial = iter("xyz")
    dims = tuple(next(spatial) if d in ("x", "y", "z") else d for d in array.dims)
    if array.chunks is not None:
        made = array.transpose(*dims)
    else:
        variable = xr.Variable(dims, lazily(PermutedArray(array.variable, dims)), array.attrs)
        made = xr.DataArray(variable, array.coords, name=array.name)
    for name, size, columns in ((AFFINE, 4, [*perm, 3]), (DIRECTION, 3, perm)):
        if name in made.coords:
            matrix = matrix_of(made.coords[name].item(), size, name)[:, columns]
            turned = text(matrix_text(matrix), made.coords[name].attrs)
            made = made.assign_coords({name: turned})
    return made
