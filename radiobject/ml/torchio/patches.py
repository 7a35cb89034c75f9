"""Patches: samples of a plan as subjects, and TorchIO's transforms on samples of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchio as tio
from torch.utils.data import Dataset

from radiobject.errors import ConfigError, TransformError
from radiobject.ml.datasets import PlanDataset
from radiobject.ml.plan import PatchPlan, Request
from radiobject.ml.transforms import seeded

__all__ = ["PatchSubjectsDataset", "apply"]

_WIDENED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
"""What TorchIO does to arrays of these types, but not to tensors."""

SubjectTransform = Callable[[tio.Subject], tio.Subject]


def apply(
    transform: Callable[[Any], Any], sample: Mapping[str, Any], images: Iterable[str], masks: Iterable[str]
) -> dict[str, Any]:
    """What a transform of TorchIO makes of a sample, a dict of tensors with the patch's "affine".

    The transform gets a Subject: the tensors under `images` as ScalarImages, those under `masks` as
    LabelMaps, all with that affine; everything else as it is. Slices (C, H, W) are (C, H, W, 1) in its hands.
    Images that it adds become tensors too, and "affine" is that of the first image as it has left it.

    >>> sample = {"image": torch.zeros(1, 6, 6, 6), "affine": np.eye(4)}
    >>> found = apply(tio.Crop((2, 0, 0, 0, 0, 0)), sample, ["image"], [])
    >>> tuple(found["image"].shape), found["affine"][:3, 3].tolist()
    ((1, 4, 6, 6), [2.0, 0.0, 0.0])
    """
    images, masks = list(images), list(masks)
    flat = {key for key in (*images, *masks) if sample[key].ndim == 3}
    found = transform(_subject(sample, images, masks))
    if not isinstance(found, dict):
        raise ConfigError("a transform of TorchIO", expected="a Subject", got=type(found).__name__)
    made = dict(found)
    pictures = {key: value for key, value in found.items() if isinstance(value, tio.Image)}
    for key, image in pictures.items():
        made[key] = image.data[..., 0] if key in flat and image.shape[-1] == 1 else image.data
    first = next((pictures[key] for key in (*images, *masks) if key in pictures), None)
    return {**made, "affine": sample["affine"] if first is None else first.affine.copy()}


def _subject(sample: Mapping[str, Any], images: Sequence[str], masks: Sequence[str]) -> tio.Subject:
    affine = np.asarray(sample["affine"], dtype=np.float64)
    kinds: dict[str, type[tio.Image]] = {
        **dict.fromkeys(images, tio.ScalarImage),
        **dict.fromkeys(masks, tio.LabelMap),
    }
    made = {key: value for key, value in sample.items() if key not in kinds and key != "affine"}
    for key, kind in kinds.items():
        tensor = torch.as_tensor(sample[key])
        tensor = tensor.to(_WIDENED.get(tensor.dtype, tensor.dtype))
        made[key] = kind(tensor=tensor if tensor.ndim == 4 else tensor[..., None], affine=affine)
    return tio.Subject(made)


class PatchSubjectsDataset(Dataset[tio.Subject]):
    """The samples of a plan as subjects, already cut: for `tio.SubjectsLoader`, without a Queue.

    A Queue reads in the process that trains; here the loader's `num_workers` processes read and transform.
    Which patches there are, and in which order, the plan decides (`PatchPlan`: seeds, epochs, foreground,
    ranks): leave `shuffle` of the loader as it is. `dataset[i]` is the plan's i-th request.

    A subject has the spec's images and masks, the targets, `obs_id`, `obs_subject_id`, and TorchIO's
    `location` (6 ints: first voxel and end). Random numbers of `transform` follow from the request's seed.

    >>> import radiobject.examples
    >>> from radiobject.ml import PatchPlan, SampleSpec
    >>> spec = SampleSpec({"t1": "T1w"}, {"seg": "seg"}, patch_size=16)
    >>> dataset = PatchSubjectsDataset(PatchPlan(spec, radiobject.examples.study(3)))
    >>> len(dataset), dataset[0].t1.shape, type(dataset[0].seg).__name__
    (4, (1, 16, 16, 16), 'LabelMap')
    """

    def __init__(self, plan: PatchPlan, transform: SubjectTransform | None = None) -> None:
        self.plan, self.transform = plan, transform
        self._samples = PlanDataset(plan)

    def __len__(self) -> int:
        """Subjects in an epoch."""
        return len(self.plan)

    def __getitem__(self, item: int | Request) -> tio.Subject:
        """One subject. Raises `IndexingError` beyond the epoch, `TransformError`, and what reading raises."""
        sample, spec = self._samples[item], self.plan.spec
        seed, start = int(sample.pop("seed")), sample.pop("start")
        subject = _subject(sample, list(spec.images), list(spec.masks))
        if spec.plane is None:
            subject[tio.LOCATION] = torch.as_tensor([*start, *(start + subject.spatial_shape)])
            subject.update_attributes()
        if self.transform is None:
            return subject
        try:
            with seeded(seed):
                return self.transform(subject)
        except Exception as error:
            raise failed(sample["obs_id"], error) from error

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: `dataset[i]` is another patch in each."""
        self.plan.set_epoch(epoch)


def failed(obs_id: str, error: Exception) -> TransformError:
    """What a transform raised, as an error that names the volume."""
    made = TransformError(f"transform of {obs_id}: {type(error).__name__}: {error}")
    made.obs_ids = (obs_id,)
    return made
