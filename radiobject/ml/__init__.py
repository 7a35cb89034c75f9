"""Training: samples of a study as batches of tensors. torch is needed where tensors are made, not before."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radiobject.errors import MissingDependencyError
from radiobject.moved import refuse_moved

if TYPE_CHECKING:
    from radiobject.ml.caching import InMemory
    from radiobject.ml.datasets import SegmentationDataset, VolumeCollectionDataset
    from radiobject.ml.distributed import create_distributed_dataloader, set_epoch
    from radiobject.ml.factories import (
        create_inference_dataloader,
        create_segmentation_dataloader,
        create_training_dataloader,
        create_validation_dataloader,
    )
    from radiobject.ml.labels import LabelSource
    from radiobject.ml.loader import RadiLoader
    from radiobject.ml.plan import PatchPlan, Request
    from radiobject.ml.sampling import Foreground, Grid, Uniform, Weighted
    from radiobject.ml.scratch import Scratch
    from radiobject.ml.settings import CacheStrategy, DatasetConfig, LoadingMode
    from radiobject.ml.spec import SampleSpec
    from radiobject.ml.torchio import VolumeCollectionSubjectsDataset
    from radiobject.ml.transforms import Compose

__all__ = [
    "CacheStrategy",
    "Compose",
    "DatasetConfig",
    "Foreground",
    "Grid",
    "InMemory",
    "LabelSource",
    "LoadingMode",
    "PatchPlan",
    "RadiLoader",
    "Request",
    "SampleSpec",
    "Scratch",
    "SegmentationDataset",
    "Uniform",
    "VolumeCollectionDataset",
    "VolumeCollectionSubjectsDataset",
    "Weighted",
    "create_distributed_dataloader",
    "create_inference_dataloader",
    "create_segmentation_dataloader",
    "create_training_dataloader",
    "create_validation_dataloader",
    "set_epoch",
]

_ROOMS = {
    "CacheStrategy": "settings",
    "Compose": "transforms",
    "DatasetConfig": "settings",
    "Foreground": "sampling",
    "Grid": "sampling",
    "InMemory": "caching",
    "LabelSource": "labels",
    "LoadingMode": "settings",
    "PatchPlan": "plan",
    "RadiLoader": "loader",
    "Request": "plan",
    "SampleSpec": "spec",
    "Scratch": "scratch",
    "SegmentationDataset": "datasets",
    "Uniform": "sampling",
    "VolumeCollectionDataset": "datasets",
    "VolumeCollectionSubjectsDataset": "torchio",
    "Weighted": "sampling",
    "create_distributed_dataloader": "distributed",
    "set_epoch": "distributed",
}


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.ml", name)
    if name not in __all__:
        raise AttributeError(f"module 'radiobject.ml' has no attribute {name!r}")
    try:
        found = getattr(import_module(f"radiobject.ml.{_ROOMS.get(name, 'factories')}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(
            f"radiobject.ml.{name} needs PyTorch", hint='pip install "radiobject-zarr[ml]"'
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
