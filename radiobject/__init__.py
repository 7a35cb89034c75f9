"""Radiology studies on Zarr v3 / OME-Zarr: lazy volumes, typed tables, one atomic commit a change."""

from radiobject.conflict import refuse_other_distribution

refuse_other_distribution()

from radiobject.config import (  # noqa: E402 - the check above must come before anything of ours
    CompressionConfig,
    OrientationConfig,
    ReadConfig,
    S3Config,
    SliceOrientation,
    TileConfig,
    WriteConfig,
    configure,
)
from radiobject.measuring import measure  # noqa: E402
from radiobject.model.collection import VolumeCollection  # noqa: E402
from radiobject.model.dataframe import Dataframe  # noqa: E402
from radiobject.model.index import Index, align  # noqa: E402
from radiobject.model.radi_object import RadiObject  # noqa: E402
from radiobject.model.volume import Volume  # noqa: E402

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
