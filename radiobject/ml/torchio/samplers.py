"""Samplers: patches around voxels of a mask, whose places are known; transforms behind any sampler."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
import torchio as tio
from torchio.data.sampler.sampler import PatchSampler, RandomSampler

from radiobject.errors import ConfigError, UnknownIdError
from radiobject.ml.draws import Draws
from radiobject.ml.foreground import centres
from radiobject.ml.lazy_tensor import LazyTensor, SampleVoxels
from radiobject.ml.sampling import Foreground
from radiobject.ml.torchio.patches import SubjectTransform

__all__ = ["ForegroundSampler", "TransformedSampler"]

_AT_ONCE = 16
"""Places that are drawn together: to look up one costs as much as to look up all of them."""


class ForegroundSampler(RandomSampler):
    """Random patches centred on voxels of a LabelMap: in place of `tio.LabelSampler`, with its arguments.

    `label_name` is the LabelMap, None the subject's first. `label_probabilities` are the values that count,
    with weights (a mapping, as LabelSampler has it: `{0: 0, 1: 2, 2: 1}`) or each equally likely (a list);
    None means all but 0. Values that a subject does not have are left out for it.

    Different from LabelSampler: where the voxels of a class lie is known of a stored mask, so that of it too
    only the patches are read. Classes without probabilities are equally likely, however many voxels they
    have. Patches near a border are moved inwards to fit, so that voxels there count as all others. A subject
    without any of the classes gets patches anywhere.

    `ConfigError` is raised for values that are no integers, negative weights and weights of 0 alone.

    Subjects are those of `VolumeCollectionSubjectsDataset`, their masks as stored: a transform before the
    sampler would move voxels away from the places that are known, and is refused (`ConfigError`).

    >>> import radiobject.examples
    >>> from radiobject.ml import VolumeCollectionSubjectsDataset
    >>> radi = radiobject.examples.study(3)
    >>> dataset = VolumeCollectionSubjectsDataset([radi.T1w, radi.seg])
    >>> sampler = ForegroundSampler(16, "seg", {1: 1, 2: 3})
    >>> [int(patch.seg.data[0, 8, 8, 8]) in (1, 2) for patch in sampler(dataset[0], num_patches=3)]
    [True, True, True]
    """

    def __init__(
        self,
        patch_size: int | tuple[int, int, int],
        label_name: str | None = None,
        label_probabilities: Mapping[int, float] | Sequence[int] | None = None,
    ) -> None:
        super().__init__(patch_size)
        # as a plan has them: a negative weight, or weights of 0 alone, would find nothing anywhere
        self.label_probabilities = Foreground(classes=label_probabilities).classes
        self.label_name = label_name

    def _generate_patches(
        self, subject: tio.Subject, num_patches: int | None = None
    ) -> Generator[tio.Subject, None, None]:
        voxels, left = self._voxels(subject), math.inf if num_patches is None else num_patches
        while left > 0:
            count = int(min(left, _AT_ONCE))
            for x, y, z in self._starts(voxels, count):
                yield self.extract_patch(subject, (x, y, z))
            left -= count

    def _starts(self, voxels: SampleVoxels, count: int) -> list[tuple[int, int, int]]:
        """Where patches begin, drawn from torch's generator as everything random in TorchIO is."""
        draws = Draws(int(torch.randint(2**62, (1,))))
        samples = np.full(count, voxels.sample)
        found, at = centres(voxels.cohort, voxels.key, self.label_probabilities, samples, draws)
        size = self.patch_size.astype(np.int64)
        room = np.broadcast_to(voxels.cohort.shapes[voxels.sample] - size, (count, 3))
        starts = np.where(found[:, None], np.clip(at - size // 2, 0, room), draws.below(room + 1))
        return [(x, y, z) for x, y, z in starts.tolist()]

    def _voxels(self, subject: tio.Subject) -> SampleVoxels:
        """What the subject's LabelMap is read from."""
        maps = {k: v for k, v in subject.get_images_dict(intensity_only=False).items() if v.type == tio.LABEL}
        name = next(iter(maps), None) if self.label_name is None else self.label_name
        if name is None or name not in maps:
            raise UnknownIdError(f"LabelMap {name!r} of the subject", expected=f"one of {list(maps)}")
        tensor = maps[name].data
        source = tensor.source if isinstance(tensor, LazyTensor) and tensor.untouched else None
        if isinstance(source, SampleVoxels) and tensor.shape == source.shape:
            return source
        raise ConfigError(
            f"ForegroundSampler on {name!r}",
            got="another, or one that a transform has read",
            expected="a mask of a VolumeCollectionSubjectsDataset, as stored",
            hint="Transform the patches, not the volumes, or take tio.LabelSampler.",
        )


class TransformedSampler(PatchSampler):
    """A sampler whose patches go through `transform` when they are cut: for the augmentation behind a Queue.

    A transform in the dataset gets whole volumes, and reads them.

    >>> import radiobject.examples
    >>> from radiobject.ml import VolumeCollectionSubjectsDataset
    >>> dataset = VolumeCollectionSubjectsDataset(radiobject.examples.study(3).T1w)
    >>> sampler = TransformedSampler(tio.UniformSampler(16), tio.RescaleIntensity((0, 1)))
    >>> queue = tio.Queue(dataset, max_length=8, samples_per_volume=2, sampler=sampler)
    >>> [float(batch["T1w"][tio.DATA].max()) for batch in tio.SubjectsLoader(queue, batch_size=8)]
    [1.0]
    """

    def __init__(self, sampler: PatchSampler, transform: SubjectTransform) -> None:
        super().__init__(tuple(sampler.patch_size.tolist()))
        self.sampler, self.transform = sampler, transform

    def __call__(
        self, subject: tio.Subject, num_patches: int | None = None
    ) -> Generator[tio.Subject, None, None]:
        """The sampler's patches, transformed one by one."""
        for patch in self.sampler(subject, num_patches):
            yield self.transform(patch)
