"""Factories: a loader in one call, for training, validation, inference and segmentation."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radiobject.errors import ConfigError
from radiobject.ml.caching import Cache, InMemory
from radiobject.ml.datasets import SegmentationDataset, VolumeCollectionDataset
from radiobject.ml.labels import LabelSource
from radiobject.ml.loader import RadiLoader
from radiobject.ml.matching import Source
from radiobject.ml.plan import PatchPlan
from radiobject.ml.sampling import Foreground, Sampling
from radiobject.ml.scratch import Scratch
from radiobject.ml.settings import CacheStrategy, config_of
from radiobject.ml.torch_loader import PlanLoader
from radiobject.ml.transforms import Transform
from radiobject.model.collection_view import CollectionView
from radiobject.moved import known_as, renamed

__all__ = [
    "create_inference_dataloader",
    "create_segmentation_dataloader",
    "create_training_dataloader",
    "create_validation_dataloader",
    "loader_of",
    "training_plan",
]

Patch = int | Sequence[int] | None


@known_as(cache_strategy="cache")
def create_training_dataloader(
    collections: Source,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: Patch = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    persistent_workers: bool = True,
    transform: Transform | None = None,
    patches_per_volume: int = 1,
    *,
    modalities: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    locality: int = 1,
    seed: int = 0,
    cache: Cache | CacheStrategy | None = None,
    drop_last: bool | None = None,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> RadiLoader | PlanLoader:
    """Shuffled batches of images, {"image": (B, C, X, Y, Z), ...}, other patches in every epoch.

    `collections` is a collection, several whose partners become channels, or a study (its images, or those
    that `modalities` names). `labels` adds "label". `patch_size` takes `patches_per_volume` patches of each
    volume, or as `sampling` places them; without it samples are whole volumes.

    With `num_workers=0` threads of this process read ahead (`RadiLoader`). With more, processes do
    (`PlanLoader`): for transforms that take long in Python. Batches are the same, whatever the number.
    `cache` keeps decoded volumes (`InMemory`, `Scratch`, a `CacheStrategy`). `drop_last` None leaves an
    incomplete last batch out, unless it is the only one. `options` are those of `SampleSpec`.

    >>> import radiobject.examples
    >>> loader = create_training_dataloader(radiobject.examples.study(3).T1w, patch_size=32, batch_size=2)
    >>> tuple(next(iter(loader))["image"].shape)
    (2, 1, 32, 32, 32)
    """
    plan = training_plan(
        collections, labels, patch_size, patches_per_volume, modalities, sampling, locality, seed, options
    )
    return loader_of(
        plan, batch_size, transform, num_workers, cache, drop_last=drop_last, pin_memory=pin_memory,
        persistent_workers=persistent_workers, multiprocessing_context=multiprocessing_context,
    )  # fmt: skip


@known_as(cache_strategy="cache")
def create_validation_dataloader(
    collections: Source,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: Patch = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    *,
    persistent_workers: bool = True,
    patches_per_volume: int = 1,
    modalities: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    cache: Cache | CacheStrategy | None = None,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> RadiLoader | PlanLoader:
    """As `create_training_dataloader`, in the order of the collection, the same patches in every epoch."""
    plan = training_plan(
        collections, labels, patch_size, patches_per_volume, modalities, sampling, 1, seed, options
    ).with_order(shuffle=False, repeat=True)
    return loader_of(
        plan, batch_size, transform, num_workers, cache, drop_last=False, pin_memory=pin_memory,
        persistent_workers=persistent_workers, multiprocessing_context=multiprocessing_context,
    )  # fmt: skip


@known_as(cache_strategy="cache")
def create_inference_dataloader(
    collections: Source,
    batch_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    *,
    persistent_workers: bool = True,
    patch_size: Patch = None,
    modalities: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    cache: Cache | CacheStrategy | None = None,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> RadiLoader | PlanLoader:
    """Whole volumes in the order of the collection; `patch_size` and `sampling=Grid(overlap=)` tile them."""
    return create_validation_dataloader(
        collections, None, batch_size, patch_size, num_workers, pin_memory, transform,
        persistent_workers=persistent_workers, modalities=modalities, sampling=sampling, cache=cache,
        multiprocessing_context=multiprocessing_context, **options,
    )  # fmt: skip


@renamed(
    foreground_threshold="foreground_sampling=True: patches are centred on voxels of the mask",
    foreground_max_retries="foreground_sampling=True: patches are centred on voxels of the mask",
)
@known_as(cache_strategy="cache")
def create_segmentation_dataloader(
    image: CollectionView | Sequence[CollectionView],
    mask: CollectionView,
    batch_size: int = 4,
    patch_size: Patch = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    persistent_workers: bool = True,
    image_transform: Transform | None = None,
    spatial_transform: Transform | None = None,
    foreground_sampling: bool | float | Foreground = False,
    patches_per_volume: int = 1,
    *,
    transform: Transform | None = None,
    keys: tuple[str, str] = ("image", "label"),
    sampling: Sampling | None = None,
    locality: int = 1,
    seed: int = 0,
    cache: Cache | CacheStrategy | None = None,
    drop_last: bool | None = None,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> RadiLoader | PlanLoader:
    """Shuffled batches of images with their masks, {"image": ..., "label": ...}; see `SegmentationDataset`.

    The rest is as in `create_training_dataloader`.
    """
    dataset = SegmentationDataset(
        image, mask, config_of(patch_size, patches_per_volume), image_transform, spatial_transform,
        foreground_sampling, transform=transform, keys=keys, sampling=sampling, seed=seed, **options,
    )  # fmt: skip
    plan = dataset.plan.with_order(shuffle=True, repeat=False, locality=locality)
    return loader_of(
        plan, batch_size, dataset.transform, num_workers, cache, drop_last=drop_last, pin_memory=pin_memory,
        persistent_workers=persistent_workers, multiprocessing_context=multiprocessing_context,
    )  # fmt: skip


def training_plan(
    collections: Source,
    labels: LabelSource,
    patch_size: Patch,
    patches_per_volume: int,
    modalities: Sequence[str] | None,
    sampling: Sampling | None,
    locality: int,
    seed: int,
    options: Mapping[str, Any],
) -> PatchPlan:
    """The shuffled plan behind the factories; see `create_training_dataloader`."""
    dataset = VolumeCollectionDataset(
        collections, config_of(patch_size, patches_per_volume, options.get("plane")), labels,
        modalities=modalities, sampling=sampling, seed=seed,
        **{name: value for name, value in options.items() if name != "plane"},
    )  # fmt: skip
    return dataset.plan.with_order(shuffle=True, repeat=False, locality=locality)


def loader_of(
    plan: PatchPlan,
    batch_size: int,
    transform: Transform | None,
    num_workers: int,
    cache: Cache | CacheStrategy | str | None,
    *,
    drop_last: bool | None,
    pin_memory: bool,
    persistent_workers: bool,
    multiprocessing_context: str | None,
) -> RadiLoader | PlanLoader:
    """A loader of a plan: threads of this process, or `num_workers` others. Raises `ConfigError`."""
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ConfigError("num_workers=", expected="an int, 0 or more", got=repr(num_workers))
    plan.cohort = plan.cohort.with_cache(_cache(cache))
    if num_workers == 0:
        drops = len(plan) >= batch_size if drop_last is None else drop_last
        return RadiLoader(plan, batch_size, transform=transform, drop_last=drops)
    return PlanLoader(
        plan, batch_size, transform, drop_last=drop_last, num_workers=num_workers, pin_memory=pin_memory,
        persistent_workers=persistent_workers, multiprocessing_context=multiprocessing_context,
    )  # fmt: skip


def _cache(wanted: Cache | CacheStrategy | str | None) -> Cache | None:
    """The cache that a strategy means; one that is a cache already as it is."""
    if wanted is None or hasattr(wanted, "array"):
        return wanted
    try:
        strategy = CacheStrategy(wanted)
    except ValueError as error:
        raise ConfigError(
            "cache=", expected=f"Scratch(...), InMemory(...) or one of {[c.value for c in CacheStrategy]}",
            got=repr(wanted),
        ) from error  # fmt: skip
    if strategy is CacheStrategy.DISK:
        return Scratch(Path(tempfile.gettempdir()) / f"radiobject-scratch-{getpass.getuser()}")
    return InMemory() if strategy is CacheStrategy.IN_MEMORY else None
