"""Tensors: samples and batches with their voxels as MetaTensors, which know where they lie."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.lazy.functional import apply_pending_transforms
from torch.utils.data import default_collate

from radiobject.errors import ConfigError
from radiobject.ml.batches import stacked, together
from radiobject.ml.spec import IMAGE, LABEL
from radiobject.ml.transforms import Sample, flattened

__all__ = ["MetaTensors", "apply", "collate", "plain"]


class MetaTensors:
    """A transform that makes MetaTensors of the voxels of a sample or of a batch; no voxel is copied.

    A MetaTensor has the patch's `affine` (4x4 float64, voxel centres to RAS+ mm, its origin moved to the
    patch) and in `meta` what MONAI's readers say: "affine", "original_affine", "spatial_shape", "space"
    ("RAS"), "original_channel_dim" (0) and "filename_or_obj" (the obs_id of the sample's first image). Those
    of a batch are batches of MONAI's kind, which `decollate_batch` takes apart.

    `keys` are those of the voxels; what a sample does not have of them is left out, and `ConfigError` raised
    when it has none. In samples, texts and dates that are missing become "" and dates become texts:
    `list_data_collate` takes no others.

    MONAI's own transforms get MetaTensors without this one. It is for functions that call MONAI, and for
    batches of a `RadiLoader` without a transform:

    >>> import radiobject.examples
    >>> from radiobject.ml import create_training_dataloader
    >>> loader = create_training_dataloader(radiobject.examples.study(3).T1w, patch_size=16, batch_size=2)
    >>> batch = MetaTensors()(next(iter(loader)))
    >>> tuple(batch["image"].affine.shape), batch["image"].is_batch
    ((2, 4, 4), True)
    """

    def __init__(self, keys: str | Sequence[str] = (IMAGE, LABEL)) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The same dict, with MetaTensors."""
        present = [key for key in self.keys if isinstance(data.get(key), torch.Tensor)]
        if not present:
            raise ConfigError(
                "MetaTensors(keys=)", expected=f"tensors under some of {list(self.keys)}",
                got=f"keys {list(data)}",
            )  # fmt: skip
        affine = torch.as_tensor(data["affine"], dtype=torch.float64, device="cpu")
        if affine.ndim == 3:
            return {**data, **{key: _batch(data, key, affine) for key in present}}
        made = {key: _one(data, key, affine) for key in present}
        return {**{key: plain(value) for key, value in data.items()}, **made}


def apply(
    transform: Callable[[Any], Any], sample: Sample, images: Sequence[str], masks: Sequence[str]
) -> Any:
    """Call a transform of MONAI on a sample of ours, and return what it makes of it.

    The voxels under `images` and `masks` go in, and stay, as `MetaTensors` says. In the result, or in each of
    several, "affine" is that of the first image, a 4x4 float64 array; where no MetaTensor is left
    (`EnsureTyped(track_meta=False)`, `ToNumpy`) nobody knows it, and the key is gone. `PlanDataset` and
    `RadiLoader` do this for the transforms that they are given.

    >>> from monai.transforms import Flipd
    >>> sample = {"image": torch.arange(4.0).reshape(1, 4, 1, 1), "affine": np.eye(4), "obs_id": "a"}
    >>> found = apply(Flipd("image", 0), sample, ["image"], [])
    >>> found["image"].flatten().tolist(), found["affine"][0].tolist()
    ([3.0, 2.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 3.0])
    """
    keys = (*images, *masks)
    made = transform(MetaTensors(keys)(sample))
    for each in made if isinstance(made, list) else (made,):
        if isinstance(each, dict):
            placed = [key for key in keys if isinstance(each.get(key), MetaTensor)]
            # what a lazy transform has left to do would be lost with the next step or the batch
            each.update(apply_pending_transforms({key: each[key] for key in placed}, None))
            if placed:
                each["affine"] = each[placed[0]].affine.numpy().astype(np.float64)
            else:  # that of the patch as it was read may be another one by now
                each.pop("affine", None)
    return made


def collate(items: Sequence[Any]) -> dict[str, Any]:
    """Put samples together as a batch of MetaTensors: `collate=` of the loaders, or torch's `collate_fn`.

    Takes samples as MONAI's transforms or `MetaTensors` have left them, or lists of such, which stand one
    after another. Voxels are stacked once, in the order in which they lie in memory, with the affine, meta
    and applied operations of each, so that `decollate_batch` gives the samples back and `Invertd` undoes what
    was done to them. Everything else is put together as in `Collate`.

    Raises `ConfigError` for samples without MetaTensors and for unequal shapes; MONAI's
    `pad_list_data_collate` pads those.

    >>> import radiobject.examples
    >>> from radiobject.ml import PatchPlan, RadiLoader, SampleSpec
    >>> plan = PatchPlan(SampleSpec("T1w", patch_size=16), radiobject.examples.study(2), shuffle=False)
    >>> batch = next(iter(RadiLoader(plan, 2, transform=MetaTensors(), collate=collate)))
    >>> tuple(batch["image"].shape), tuple(batch["image"].affine.shape), batch["obs_id"]
    ((2, 1, 16, 16, 16), (2, 4, 4), ['sub-01_T1w', 'sub-02_T1w'])
    """
    samples: list[Sample] = flattened(items)
    first = samples[0]
    if not any(isinstance(value, MetaTensor) for value in first.values()):
        raise ConfigError(
            "collate", expected="samples with MetaTensors", got=f"keys {list(first)}",
            hint="Pass transform=MetaTensors() too.",
        )  # fmt: skip
    found = {}
    for key, value in first.items():
        values = [sample[key] for sample in samples]
        found[key] = _together(key, values) if isinstance(value, MetaTensor) else together(values)
    return found


def _together(key: str, tensors: list[MetaTensor]) -> MetaTensor:
    if len({tuple(t.shape) for t in tensors}) > 1:
        raise ConfigError(
            f"{key!r} of a batch", expected="samples of one shape",
            got=str(sorted({tuple(t.shape) for t in tensors})),
            hint="Let the transforms crop or pad, or pass monai.data.pad_list_data_collate.",
        )  # fmt: skip
    shared = set.intersection(*(set(t.meta) for t in tensors))
    meta = default_collate([{name: t.meta[name] for name in shared} for t in tensors])
    operations = [t.applied_operations for t in tensors]
    return _as_batch(stacked([t.as_tensor() for t in tensors]), meta, operations, tensors[0].spatial_ndim)


def _one(sample: Mapping[str, Any], key: str, affine: torch.Tensor) -> MetaTensor:
    voxels = sample[key]
    if isinstance(voxels, MetaTensor):
        return voxels
    meta = _said(affine, torch.tensor(voxels.shape[1:]), sample["obs_id"], 0, "RAS")
    return MetaTensor(voxels, meta=meta)


def _batch(batch: Mapping[str, Any], key: str, affine: torch.Tensor) -> MetaTensor:
    voxels = batch[key]
    count = len(affine)
    sizes = batch.get("shape")
    if sizes is None:
        sizes = torch.tensor(voxels.shape[2:]).expand(count, -1)
    meta = _said(affine, sizes, batch["obs_id"], torch.zeros(count, dtype=torch.int64), ["RAS"] * count)
    return _as_batch(voxels, meta, [[] for _ in range(count)], voxels.ndim - 2)


def _said(affine: torch.Tensor, sizes: torch.Tensor, name: Any, channel: Any, space: Any) -> dict[str, Any]:
    """What MONAI's readers say of an image, or of each of several."""
    return {
        "affine": affine.clone(),
        "original_affine": affine.clone(),
        "spatial_shape": sizes,
        "original_channel_dim": channel,
        "filename_or_obj": name,
        "space": space,
    }


def _as_batch(
    voxels: torch.Tensor, meta: dict[str, Any], operations: list[Any], spatial_ndim: int
) -> MetaTensor:
    made = MetaTensor(voxels)
    made.meta, made.applied_operations = meta, operations
    made.is_batch, made.spatial_ndim = True, spatial_ndim
    return made


def plain(value: Any) -> Any:
    """A value as torch's and MONAI's collate take it."""
    if value is None:
        return ""
    if isinstance(value, datetime.date | np.datetime64):
        text = str(value)
        return "" if text == "NaT" else text
    return value
