"""TorchIO: subjects whose voxels are read where a sampler cuts a patch, and its transforms on our samples."""

from __future__ import annotations

from radiobject.errors import MissingDependencyError

try:
    import torchio  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torchio":
        raise
    raise MissingDependencyError(
        "radiobject.ml.torchio needs TorchIO", hint='pip install "radiobject-zarr[torchio]"'
    ) from error

from radiobject.ml.torchio.images import label_map, scalar_image
from radiobject.ml.torchio.patches import PatchSubjectsDataset, apply
from radiobject.ml.torchio.samplers import ForegroundSampler, TransformedSampler
from radiobject.ml.torchio.subjects import VolumeCollectionSubjectsDataset

__all__ = [
    "ForegroundSampler",
    "PatchSubjectsDataset",
    "TransformedSampler",
    "VolumeCollectionSubjectsDataset",
    "apply",
    "label_map",
    "scalar_image",
]
