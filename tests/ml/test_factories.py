"""Loaders in one call: the same batches by threads and by processes, resumed exactly, epoch by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from radiobject import RadiObject
from radiobject.errors import ConfigError, MovedNameError
from radiobject.ml import (
    CacheStrategy,
    InMemory,
    PatchPlan,
    SampleSpec,
    Scratch,
    Uniform,
    create_inference_dataloader,
    create_segmentation_dataloader,
    create_training_dataloader,
    create_validation_dataloader,
    set_epoch,
)
from radiobject.ml.loader import RadiLoader
from radiobject.ml.torch_loader import PlanLoader, RequestBatches

PATCH: dict[str, Any] = {"patch_size": (4, 4, 4), "patches_per_volume": 5, "batch_size": 3}


def noisy(sample: dict[str, Any]) -> dict[str, Any]:
    """A transform that draws."""
    return {**sample, "image": sample["image"] + torch.rand(1) + float(np.random.rand())}


def equal(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Whether batches are the same, key by key."""
    assert [set(a) for a in one] == [set(b) for b in other]
    pairs = [(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def starts(batches: Any) -> list[Any]:
    return [(o, tuple(s)) for b in batches for o, s in zip(b["obs_id"], b["start"].tolist(), strict=True)]


def test_training_batches_are_shuffled_and_other_in_every_epoch(coded_study: RadiObject) -> None:
    loader = create_training_dataloader(coded_study.CT, "age", **PATCH)
    epochs = [starts(loader) for _ in range(3)]
    assert [len(e) for e in epochs] == [18, 18, 18]  # of 20, in whole batches
    assert len({tuple(e) for e in epochs}) == 3
    assert [o for o, _ in epochs[0]] != sorted(o for o, _ in epochs[0])
    set_epoch(loader, 1)
    assert starts(loader) == epochs[1]


def test_a_cohort_smaller_than_a_batch_still_gives_one(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT"), coded_study)
    made = create_training_dataloader(coded_study.CT, batch_size=9), PlanLoader(plan, 9, drop_last=None)
    for loader in made:
        assert [len(b["obs_id"]) for b in loader] == [4]
        assert len(loader) == 1
    assert list(create_training_dataloader(coded_study.CT, batch_size=9, drop_last=True)) == []


def test_validation_has_the_same_patches_in_every_epoch_and_in_order(coded_study: RadiObject) -> None:
    loader = create_validation_dataloader(coded_study.CT, **PATCH)
    first, second = starts(loader), starts(loader)
    assert first == second
    assert [o for o, _ in first] == sorted(o for o, _ in first)
    assert len(first) == 20


def test_inference_has_whole_volumes_in_order(coded_study: RadiObject) -> None:
    batches = list(create_inference_dataloader(coded_study.CT))
    assert [b["obs_id"] for b in batches] == [["a_CT"], ["b_CT"], ["c_CT"], ["d_CT"]]
    assert batches[0]["image"].shape == (1, 1, 13, 11, 9)


def test_segmentation_has_image_and_label(coded_study: RadiObject) -> None:
    loader = create_segmentation_dataloader(
        coded_study.CT, coded_study.seg, foreground_sampling=True, **PATCH
    )
    for batch in loader:
        assert batch["label"].flatten(1).any(1).all()
        assert batch["image"].shape == batch["label"].shape == (3, 1, 4, 4, 4)


def test_labels_keep_their_type_which_losses_take_as_long(coded_study: RadiObject) -> None:
    batch = next(iter(create_segmentation_dataloader(coded_study.CT, coded_study.seg, **PATCH)))
    assert batch["label"].dtype == torch.uint8
    torch.nn.functional.cross_entropy(torch.zeros(3, 4, 4, 4, 4), batch["label"][:, 0].long())


def test_arguments_of_the_predecessor_say_what_is_here_instead(coded_study: RadiObject) -> None:
    with pytest.raises(MovedNameError, match="foreground_sampling"):
        create_segmentation_dataloader(coded_study.CT, coded_study.seg, foreground_threshold=0.1)  # type: ignore[call-arg]


def test_caches_give_the_same_batches(coded_study: RadiObject, tmp_path: Any) -> None:
    expected = list(create_training_dataloader(coded_study.CT, **PATCH))
    scratch = Scratch(tmp_path / "scratch", bytes=2**20)
    for cache in (CacheStrategy.IN_MEMORY, "none", InMemory(2**20), scratch):
        found = list(create_training_dataloader(coded_study.CT, cache_strategy=cache, **PATCH))
        assert equal(found, expected)
    disk = create_training_dataloader(coded_study.CT, cache=CacheStrategy.DISK, **PATCH)
    assert isinstance(disk.plan.cohort.cache, Scratch)
    with pytest.raises(ConfigError, match="cache="):
        create_training_dataloader(coded_study.CT, cache="ram", **PATCH)  # type: ignore[arg-type]


def test_threads_and_processes_give_the_same_batches_and_resume_alike(coded_study: RadiObject) -> None:
    made = [
        create_training_dataloader(coded_study.CT, "age", transform=noisy, **PATCH, **options)
        for options in ({}, {"num_workers": 2})
    ]
    threads, processes = made
    assert isinstance(threads, RadiLoader)
    assert isinstance(processes, PlanLoader)
    assert processes.multiprocessing_context.get_start_method() in ("forkserver", "spawn")
    expected = [list(threads) for _ in range(2)]
    assert equal(list(processes), expected[0])
    running = iter(processes)
    head = [next(running) for _ in range(2)]
    assert equal(head, expected[1][:2])
    state = processes.state_dict()
    for loader in made:
        loader.load_state_dict(state)
        set_epoch(loader, 1)
        assert equal(list(loader), expected[1][2:])
    del running
    # an epoch that is over, but for what is dropped, is not begun again
    for loader in made:
        again = create_training_dataloader(coded_study.CT, "age", transform=noisy, **PATCH)
        again.load_state_dict(loader.state_dict())
        assert (again.plan.epoch, again.plan.position) == (2, 0)


def test_the_memory_of_batches_lies_as_on_disk_in_every_loader(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT", patch_size=4), coded_study, Uniform(2))
    for loader in (PlanLoader(plan, 2), PlanLoader(plan, 2, transform=noisy), RadiLoader(plan, 2)):
        image = next(iter(loader))["image"]
        assert image.permute(0, 1, 4, 3, 2).is_contiguous()


def test_set_epoch_finds_the_sampler_and_leaves_others_alone(coded_study: RadiObject) -> None:
    dataset = list(range(8))
    sampler: Any = DistributedSampler(dataset, 2, 0)  # type: ignore[arg-type, var-annotated]
    set_epoch(DataLoader(dataset, sampler=sampler), 3)  # type: ignore[arg-type, var-annotated]
    assert sampler.epoch == 3
    set_epoch(DataLoader(dataset), 3)  # type: ignore[arg-type, var-annotated]
    plan = PatchPlan(SampleSpec("CT", patch_size=4), coded_study)
    set_epoch(DataLoader(dataset, batch_sampler=RequestBatches(plan, 2)), 4)  # type: ignore[arg-type, var-annotated]
    assert plan.epoch == 4


def test_numbers_that_are_none_are_refused(coded_study: RadiObject) -> None:
    for options in ({"batch_size": 0}, {"num_workers": -1}, {"patch_size": 0}, {"patches_per_volume": 0}):
        with pytest.raises(ConfigError):
            create_training_dataloader(coded_study.CT, **{**PATCH, **options})
