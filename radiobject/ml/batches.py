"""Batches: samples put together as one dict of tensors, (B, C, X, Y, Z)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from radiobject.errors import ConfigError
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import Request
from radiobject.ml.reading import sample_facts
from radiobject.ml.spec import SampleSpec
from radiobject.ml.transforms import flattened

__all__ = ["Collate", "batch_facts", "stacked", "together"]


def batch_facts(cohort: Cohort, requests: Sequence[Request]) -> dict[str, Any]:
    """What `sample_facts` says of each of several requests, as `Collate` puts it together."""
    facts = [sample_facts(cohort, request) for request in requests]
    return {key: together([fact[key] for fact in facts]) for key in facts[0]}


class Collate:
    """Puts samples of a spec together; a `collate_fn` for torch's DataLoader.

    Images and masks become (B, C, X, Y, Z), slices (B, C, H, W), in the order in which voxels lie on disk:
    strides say so, no voxel is moved. Numbers and arrays become tensors, texts and all else lists. "affine"
    is that of the patch as it was read, or as MONAI's or TorchIO's transforms have left it: a function of
    your own that turns voxels has to change it too.

    Whole volumes and slices (a spec without a patch size) may differ in size: they are padded at their ends
    to the largest of the batch with the spec's `pad`, masks with 0, and "shape" (B, 3 or 2; int64) has the
    size of each. Patches that a transform has made unequal raise `ConfigError`.

    A transform may make several samples of one: they stand in the batch one after another, each with what is
    known of the sample that it was made of ("obs_id", "start", "seed"), so that a batch has `batch_size`
    times as many.
    """

    def __init__(self, spec: SampleSpec) -> None:
        self.spec = spec
        self._voxels = (*spec.images, *spec.masks)

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """The batch of these samples, or lists of samples."""
        found: dict[str, Any] = {}
        samples: list[Mapping[str, Any]] = flattened(items)
        first = samples[0]
        present = [key for key in self._voxels if isinstance(first.get(key), torch.Tensor)]
        if self.spec.patch_size is None and present:
            found["shape"] = torch.tensor([tuple(s[present[0]].shape[1:]) for s in samples])
        for key in first:
            values = [sample[key] for sample in samples]
            found[key] = self._stacked(key, values) if key in present else together(values)
        return found

    def _stacked(self, key: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        # what a transform's own kind of tensor says of its sample holds for no batch
        tensors = [t.as_subclass(torch.Tensor) for t in tensors]
        shapes = {tuple(t.shape) for t in tensors}
        if len(shapes) > 1:
            if self.spec.patch_size is not None or len({(len(s), s[0]) for s in shapes}) > 1:
                raise ConfigError(
                    f"{key!r} of a batch", expected="samples of one shape", got=str(sorted(shapes)),
                    hint="Let the transform return equal shapes, or pass batch_size=1.",
                )  # fmt: skip
            largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
            fill = 0.0 if key in self.spec.masks else self.spec.pad
            tensors = [_padded(t, largest, fill) for t in tensors]
        return stacked(tensors)


def stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors (C, X, Y, Z) of one shape as one (B, C, X, Y, Z), in the order in which they lie in memory."""
    turned = [_reversed(t) for t in tensors]
    if all(t.is_contiguous() for t in turned):
        # default_collate writes to shared memory in a worker
        return _reversed(default_collate(turned), lead=2)
    found: torch.Tensor = default_collate(list(tensors))
    return found


def _reversed(tensor: torch.Tensor, lead: int = 1) -> torch.Tensor:
    """The same memory with its spatial axes, those after `lead`, in the other order."""
    return tensor.permute(*range(lead), *range(tensor.ndim - 1, lead - 1, -1))


def _padded(tensor: torch.Tensor, shape: Sequence[int], fill: float) -> torch.Tensor:
    turned = tensor.new_full((shape[0], *shape[:0:-1]), fill)
    padded = _reversed(turned)
    padded[tuple(slice(n) for n in tensor.shape)] = tensor
    return padded


def together(values: list[Any]) -> Any:
    """Numbers and arrays as one tensor, all else as a list."""
    kinds = (torch.Tensor, np.ndarray, np.number, np.bool_, int, float)
    if not all(isinstance(v, kinds) for v in values) or any(
        isinstance(v, np.ndarray) and v.dtype.kind not in "biuf" for v in values
    ):
        return values
    tensors = [torch.as_tensor(v) for v in values]
    if len({t.shape for t in tensors}) > 1:
        return values
    return default_collate(tensors)
