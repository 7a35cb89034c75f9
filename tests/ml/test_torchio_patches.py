"""Landmarks stay where they are in TorchIO's hands: on subjects, on patches, on samples of our loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject
from radiobject.errors import ConfigError, TransformError
from radiobject.ml import (
    Compose,
    Foreground,
    Grid,
    PatchPlan,
    RadiLoader,
    SampleSpec,
    Uniform,
    VolumeCollectionSubjectsDataset,
)
from radiobject.ml.datasets import PlanDataset
from radiobject.ml.torch_loader import PlanLoader
from radiobject.ml.torchio import ForegroundSampler, PatchSubjectsDataset, apply
from tests.ml.ground import SHAPES, affine_of, decoded

SUBJECTS = list(SHAPES)
CODES = st.permutations(["LR", "PA", "IS"]).flatmap(
    lambda pairs: st.tuples(*(st.sampled_from(pair) for pair in pairs)).map("".join)
)
"""Every axis code."""


def places(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """World coordinates (..., 3) in mm of every voxel of a volume (X, Y, Z)."""
    indices = np.moveaxis(np.indices(voxels.shape), 0, -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def check_places(ct: torch.Tensor, affine: Any, subject: str, atol: float = 1e-3) -> None:
    """Each voxel of a coded volume says where it lay, and lies there still."""
    found = np.asarray(ct[0])
    was = affine_of(SUBJECTS.index(subject))
    world = decoded(np.round(found)) @ was[:3, :3].T + was[:3, 3]
    assert np.allclose(places(found, np.asarray(affine)), world, atol=atol)


STEPS: dict[str, Callable[[Any], tio.Transform]] = {
    "canonical": lambda draw: tio.ToCanonical(),
    "orientation": lambda draw: tio.ToOrientation(draw(CODES)),
    "crop": lambda draw: tio.Crop(tuple(draw(st.integers(0, 1)) for _ in range(6))),
    "finer": lambda draw: tio.Resample((0.5, 0.5, 0.5), image_interpolation="nearest"),
}


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_landmark_has_one_place_whatever_is_done_with_its_volume(
    coded_study: RadiObject, data: st.DataObject
) -> None:
    """Nearest neighbours are as far from their voxel as half of it is long."""
    number = data.draw(st.integers(0, 3))
    names = data.draw(st.lists(st.sampled_from(sorted(STEPS)), max_size=3, unique=True))
    transform = tio.Compose([STEPS[name](data.draw) for name in names])
    subject = VolumeCollectionSubjectsDataset([coded_study.CT, coded_study.seg])[number]
    (patch,) = ForegroundSampler((6, 5, 4))(subject, num_patches=1)
    for whole in (subject, patch):
        found = transform(whole)
        found.check_consistent_space()
        far = np.abs(affine_of(number)[:3, :3]).sum(axis=1).max() / 2 + 0.01 if "finer" in names else 1e-3
        check_places(found.CT.data, found.CT.affine, SUBJECTS[number], far)
        assert found.seg.data.dtype == torch.uint8
        assert set(found.seg.data.unique().tolist()) <= {0, 1, 3}


def test_resampled_masks_hold_only_their_classes_and_lie_on_their_image(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionSubjectsDataset([coded_study.CT, coded_study.seg])
    for subject in (dataset[number] for number in range(4)):
        found = tio.Compose([tio.RandomAffine(), tio.Resample(0.7)])(subject)
        found.check_consistent_space()
        assert set(found.seg.data.unique().tolist()) <= {0, 1, 3}


def _nothing(subject: tio.Subject) -> tio.Subject:
    raise ValueError("nothing")


def plan_of(coded_study: RadiObject, **options: Any) -> PatchPlan:
    spec = SampleSpec("CT", "seg", ["age"], patch_size=(6, 5, 4), **options)
    return PatchPlan(spec, coded_study, Foreground(0.5, per_volume=3), seed=5)


@settings(deadline=None, max_examples=40)
@given(code=CODES, crop=st.tuples(*[st.integers(0, 1)] * 6))
def test_samples_of_a_plan_come_back_with_the_affine_that_the_transform_gave_them(
    coded_study: RadiObject, code: str, crop: tuple[int, ...]
) -> None:
    transform = Compose([tio.ToOrientation(code), tio.Crop(crop), lambda sample: {**sample, "seen": 1}])
    for sample in PlanDataset(plan_of(coded_study), transform):
        check_places(sample["image"], sample["affine"], sample["obs_subject_id"])
        assert (sample["seen"], type(sample["image"]), sample["label"].dtype) == (
            1,
            torch.Tensor,
            torch.uint8,
        )
        assert sample["image"].shape == sample["label"].shape


@pytest.mark.parametrize("axis", range(3))
def test_a_flip_turns_voxels_and_keeps_the_box(coded_study: RadiObject, axis: int) -> None:
    """Augmentation: TorchIO moves the anatomy within the grid, which stays where it is."""
    plain, flipped = (
        list(PlanDataset(plan_of(coded_study), transform)) for transform in (None, tio.RandomFlip(axis, 1))
    )
    for before, after in zip(plain, flipped, strict=True):
        assert np.array_equal(before["affine"], after["affine"])
        for key in ("image", "label"):
            assert torch.equal(before[key].flip(axis + 1), after[key])


def test_loaders_of_threads_and_processes_give_the_same_augmented_batches(coded_study: RadiObject) -> None:
    transform = tio.Compose([tio.RandomFlip((0, 1, 2)), tio.RandomNoise(p=0.5), tio.RandomGamma(p=0.5)])
    plan = plan_of(coded_study)
    told = []
    for loader in (
        RadiLoader(plan, 4, transform=transform),
        PlanLoader(plan, 4, transform),
        PlanLoader(plan, 4, transform, num_workers=1),
    ):
        loader.set_epoch(0)
        told.append([(b["obs_id"], b["image"].clone(), b["affine"], b["age"].tolist()) for b in loader])
    for first, *others in zip(*told, strict=True):
        for other in others:
            assert (first[0], first[3]) == (other[0], other[3])
            assert torch.equal(first[1], other[1])
            assert torch.equal(first[2], other[2])


def test_images_that_a_transform_adds_become_tensors() -> None:
    sample = {"image": torch.rand(1, 4, 4, 4), "affine": np.diag([1.0, 2, 3, 1]), "obs_id": "x", "seed": 1}
    found = apply(tio.Flip(0, keep={"image": "before"}), sample, ["image"], [])
    assert torch.equal(found["before"], sample["image"])
    assert (found["obs_id"], found["affine"].tolist()) == ("x", sample["affine"].tolist())
    with pytest.raises(ConfigError, match="Subject"):
        apply(lambda subject: None, sample, ["image"], [])


def test_types_that_torch_hardly_knows_are_widened() -> None:
    for dtype, wanted in (
        (torch.uint16, torch.int32),
        (torch.uint32, torch.int64),
        (torch.bool, torch.uint8),
    ):
        sample = {"label": torch.ones(1, 3, 3, 3).to(dtype), "affine": np.eye(4)}
        assert apply(tio.Flip(1), sample, [], ["label"])["label"].dtype == wanted


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_keep_their_place_and_their_two_axes(coded_study: RadiObject, plane: Any) -> None:
    spec = SampleSpec("CT", "seg", plane=plane)
    plan = PatchPlan(spec, coded_study, shuffle=False)
    for sample in PlanDataset(
        plan, tio.Compose([tio.Crop((1, 2, 0, 1, 0, 0)), tio.RescaleIntensity((0, 1))])
    ):
        assert sample["image"].ndim == sample["label"].ndim == 3
    for sample in PlanDataset(plan, tio.Crop((1, 2, 0, 1, 0, 0))):
        check_places(sample["image"][..., None], sample["affine"], sample["obs_subject_id"])


def test_patch_subjects_are_the_plans_patches(coded_study: RadiObject) -> None:
    plan = plan_of(coded_study)
    dataset, samples = PatchSubjectsDataset(plan), PlanDataset(plan)
    assert len(dataset) == 12
    for number, sample in enumerate(samples):
        subject = dataset[number]
        assert torch.equal(subject["image"].data, sample["image"])
        assert (type(subject["label"]), subject["age"]) == (tio.LabelMap, sample["age"])
        assert subject[tio.LOCATION].tolist() == [*sample["start"], *(sample["start"] + [6, 5, 4])]
        check_places(subject["image"].data, subject["image"].affine, sample["obs_subject_id"])
    first = dataset[0][tio.LOCATION]
    dataset.set_epoch(1)
    assert not torch.equal(dataset[0][tio.LOCATION], first)


def test_patch_subjects_are_augmented_alike_in_every_process(coded_study: RadiObject) -> None:
    dataset = PatchSubjectsDataset(plan_of(coded_study), tio.RandomNoise(std=(1, 2)))
    batches = [
        list(tio.SubjectsLoader(dataset, batch_size=5, num_workers=n, multiprocessing_context=how))
        for n, how in ((0, None), (1, "forkserver"))
    ]
    assert [batch["image"][tio.DATA].shape[0] for batch in batches[0]] == [5, 5, 2]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one["image"][tio.DATA], other["image"][tio.DATA])
        assert np.array_equal(one["image"][tio.AFFINE], other["image"][tio.AFFINE])
    with pytest.raises(TransformError, match="a_CT"):
        PatchSubjectsDataset(PatchPlan(plan_of(coded_study).spec, coded_study, shuffle=False), _nothing)[0]


def test_slices_and_grids_of_a_plan_become_subjects(coded_study: RadiObject) -> None:
    slices = PatchSubjectsDataset(PatchPlan(SampleSpec("CT", plane="axial"), coded_study))
    assert slices[0].is_2d()
    tiles = PatchPlan(SampleSpec("CT", patch_size=4), coded_study, Grid(), shuffle=False)
    assert PatchSubjectsDataset(tiles)[0][tio.LOCATION].tolist() == [0, 0, 0, 4, 4, 4]
    small = PatchPlan(SampleSpec("CT", patch_size=20), coded_study, Uniform(), shuffle=False)
    check_places(PatchSubjectsDataset(small)[0]["image"].data[:, 4:17, 5:16, 6:15], affine_of(0), "a")
