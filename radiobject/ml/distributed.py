"""Distributed: a loader for each of several processes that train one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed

from radiobject.errors import ConfigError
from radiobject.ml.caching import Cache
from radiobject.ml.factories import loader_of, training_plan
from radiobject.ml.labels import LabelSource
from radiobject.ml.loader import RadiLoader
from radiobject.ml.matching import Source
from radiobject.ml.sampling import Sampling
from radiobject.ml.settings import CacheStrategy
from radiobject.ml.torch_loader import PlanLoader
from radiobject.ml.transforms import Transform
from radiobject.moved import known_as

__all__ = ["create_distributed_dataloader", "set_epoch"]


@known_as(cache_strategy="cache")
def create_distributed_dataloader(
    collections: Source,
    rank: int | None = None,
    world_size: int | None = None,
    labels: LabelSource = None,
    batch_size: int = 4,
    patch_size: int | Sequence[int] | None = None,
    num_workers: int = 0,
    pin_memory: bool = True,
    transform: Transform | None = None,
    *,
    persistent_workers: bool = True,
    patches_per_volume: int = 1,
    modalities: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    locality: int = 1,
    seed: int = 0,
    cache: Cache | CacheStrategy | None = None,
    drop_last: bool | None = None,
    multiprocessing_context: str | None = None,
    **options: Any,
) -> RadiLoader | PlanLoader:
    """As `create_training_dataloader`, the part of process `rank` of `world_size` (`batch_size` in each).

    Without them they are those of the process group of `torch.distributed`. All processes pass the same
    arguments and go through as many batches; together they read every patch of an epoch, and none twice but
    to make counts even.

    A trainer must not put a sampler of its own in place: for Lightning pass
    `Trainer(use_distributed_sampler=False)`.
    """
    if rank is None or world_size is None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise ConfigError(
                "create_distributed_dataloader", expected="rank= and world_size=, or a process group",
                got="neither", hint="Call torch.distributed.init_process_group first.",
            )  # fmt: skip
        rank = torch.distributed.get_rank() if rank is None else rank
        world_size = torch.distributed.get_world_size() if world_size is None else world_size
    plan = training_plan(
        collections, labels, patch_size, patches_per_volume, modalities, sampling, locality, seed, options
    )
    return loader_of(
        plan.shard(rank, world_size), batch_size, transform, num_workers, cache, drop_last=drop_last,
        pin_memory=pin_memory, persistent_workers=persistent_workers,
        multiprocessing_context=multiprocessing_context,
    )  # fmt: skip


def set_epoch(dataloader: Any, epoch: int) -> None:
    """Go to an epoch of a loader of this package, or of one whose sampler has `set_epoch`; else nothing."""
    samplers = (getattr(dataloader, name, None) for name in ("batch_sampler", "sampler"))
    for owner in (dataloader, *samplers):
        change = getattr(owner, "set_epoch", None)
        if callable(change):
            change(epoch)
            return
