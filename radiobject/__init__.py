"""Radiology studies on Zarr v3 / OME-Zarr: lazy volumes, typed tables, one atomic commit a change."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radiobject.conflict import refuse_other_distribution
from radiobject.moved import ALIASES, point_to_modules, refuse_moved

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
    from radiobject.ingest.deidentify import pseudonym
    from radiobject.ingest.scanning.plan import Plan, scan
    from radiobject.measuring import measure
    from radiobject.model.collection import VolumeCollection
    from radiobject.model.dataframe import Dataframe
    from radiobject.model.index import Index, align
    from radiobject.model.radi_object import RadiObject
    from radiobject.model.volume import Volume
    from radiobject.model.writers import RadiObjectWriter, VolumeCollectionWriter

__all__ = [
    "CompressionConfig",
    "Dataframe",
    "Index",
    "OrientationConfig",
    "Plan",
    "RadiObject",
    "RadiObjectWriter",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "TileConfig",
    "Volume",
    "VolumeCollection",
    "VolumeCollectionWriter",
    "WriteConfig",
    "align",
    "configure",
    "measure",
    "pseudonym",
    "scan",
]

# `import radiobject` must not cost pandas, pyarrow and an engine: each name loads its room when first used.
_ROOMS = {
    "Dataframe": "model.dataframe",
    "Index": "model.index",
    "Plan": "ingest.scanning.plan",
    "RadiObject": "model.radi_object",
    "RadiObjectWriter": "model.writers",
    "Volume": "model.volume",
    "VolumeCollection": "model.collection",
    "VolumeCollectionWriter": "model.writers",
    "align": "model.index",
    "measure": "measuring",
    "pseudonym": "ingest.deidentify",
    "scan": "ingest.scanning.plan",
}

refuse_other_distribution()
point_to_modules()


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject", name)
    if name not in __all__ and name not in ALIASES:
        raise AttributeError(f"module 'radiobject' has no attribute {name!r}")
    room, _, real = ALIASES.get(name, f"{_ROOMS.get(name, 'config')}:{name}").partition(":")
    found = getattr(import_module(f"radiobject.{room}"), real)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
