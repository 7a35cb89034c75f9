"""Lazy: volumes, collections and studies as xarray and dask objects; voxels are read when they are used.

Importing it gives every DataArray the accessor `da.radi`. Raises `MissingDependencyError` without xarray.
"""

from __future__ import annotations

from radiobject.errors import MissingDependencyError

try:
    import xarray  # noqa: F401 - asked for here, so that no module below has to say what is missing
except ImportError as error:
    raise MissingDependencyError(
        f"xarray objects need the package xarray: {error}", hint='pip install "radiobject-zarr[xarray]"'
    ) from error

from radiobject.lazy.accessor import RadiAccessor

__all__ = ["RadiAccessor"]
