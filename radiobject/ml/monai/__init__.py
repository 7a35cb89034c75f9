"""MONAI: its transforms on our samples, its LoadImage on our volumes, its sliding window read lazily."""

from __future__ import annotations

from radiobject.errors import MissingDependencyError

try:
    import monai  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "radiobject.ml.monai needs MONAI", hint='pip install "radiobject-zarr[ml,monai]"'
    ) from error

from radiobject.ml.monai.prediction import argmax, predict
from radiobject.ml.monai.reader import RadiReader, references
from radiobject.ml.monai.tensors import MetaTensors, apply, collate
from radiobject.ml.monai.windows import sliding_window

__all__ = [
    "MetaTensors",
    "RadiReader",
    "apply",
    "argmax",
    "collate",
    "predict",
    "references",
    "sliding_window",
]
