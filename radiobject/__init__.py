"""Radiology studies on Zarr v3 / OME-Zarr: lazy volumes, typed tables, one atomic commit a change."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radiobject.conflict import refuse_other_distribution

if TYPE_CHECKING:
    from radiobject.config import (
        CompressionConfig,
        OrientationConfig,
        ReadConfig,
        S3Config,
        SliceOrientation,
        TileConfig,
        WriteConfig,
        configure,
    )
    from radiobject.measuring import measure
    from radiobject.model.collection import VolumeCollection
    from radiobject.model.dataframe import Dataframe
    from radiobject.model.index import Index, align
    from radiobject.model.radi_object import RadiObject
    from radiobject.model.volume import Volume

__all__ = [
    "CompressionConfig",
    "Dataframe",
    "Index",
    "OrientationConfig",
    "RadiObject",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "TileConfig",
    "Volume",
    "VolumeCollection",
    "WriteConfig",
    "align",
    "configure",
    "measure",
]

# `import radiobject` must not cost pandas, pyarrow and an engine: each name loads its room when first used.
_ROOMS = {
    "Dataframe": "model.dataframe",
    "Index": "model.index",
    "RadiObject": "model.radi_object",
    "Volume": "model.volume",
    "VolumeCollection": "model.collection",
    "align": "model.index",
    "measure": "measuring",
}

refuse_other_distribution()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'radiobject' has no attribute {name!r}")
    found = getattr(import_module(f"radiobject.{_ROOMS.get(name, 'config')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
