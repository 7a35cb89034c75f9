"""Zarr v3 by tensorstore where it can, by zarr-python over fsspec everywhere else.

Importing this loads neither; the engine is imported when a volume is first read or written.
"""

from radiobject.backends.zarr.backend import ZarrBackend

__all__ = ["ZarrBackend"]
