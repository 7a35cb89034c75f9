"""Datasets: samples one by one or in batches, for torch's DataLoader or any loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from radiobject.errors import ConfigError, IndexingError
from radiobject.ml.labels import LabelSource, labels_of
from radiobject.ml.matching import Source
from radiobject.ml.plan import PatchPlan, Request
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Foreground, Sampling, Uniform
from radiobject.ml.settings import DatasetConfig
from radiobject.ml.spec import IMAGE, LABEL, SampleSpec
from radiobject.ml.transforms import Compose, Transform, transformed
from radiobject.model.collection_view import CollectionView
from radiobject.model.view import StudyView

__all__ = [
    "PlanDataset",
    "SegmentationDataset",
    "VolumeCollectionDataset",
    "named_collections",
    "with_labels",
]


class PlanDataset(Dataset[dict[str, Any]]):
    """The samples of a plan. `dataset[i]` is the plan's i-th request, `dataset[request]` any request.

    A sample is a dict: tensors (C, X, Y, Z), of slices (C, H, W), under the spec's keys, the targets, and
    what `radiobject.ml.reading.sample_facts` lists. `transform` takes and returns such a dict, or returns a
    list of them, which is then what the dataset gives; its random numbers follow from the request's seed.

    It pickles as places and numbers, and opens nothing before the first sample is read.
    """

    def __init__(self, plan: PatchPlan, transform: Transform | None = None) -> None:
        self.plan, self.transform = plan, transform

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self.plan)

    def __getitem__(self, item: int | Request) -> Any:
        """One sample. Raises `IndexingError` beyond the epoch, `TransformError`, and what reading raises."""
        request = item if isinstance(item, Request) else self.plan[_index(item, len(self))]
        sample = read_sample(self.plan.cohort, request)
        for key in self.plan.cohort.dtypes:
            sample[key] = torch.from_numpy(sample[key])
        return transformed(self.transform, sample, self.plan.spec.images, self.plan.spec.masks)

    def __getitems__(self, items: Sequence[int | Request]) -> list[Any]:
        """The samples of a batch; those of one volume are read one after another, whatever their order."""
        order = sorted(range(len(items)), key=lambda n: _place(items[n]))
        found = {n: self[items[n]] for n in order}
        return [found[n] for n in range(len(items))]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: `dataset[i]` is another patch in each."""
        self.plan.set_epoch(epoch)


class VolumeCollectionDataset(PlanDataset):
    """Samples of one collection, or of several whose partners become channels, under "image".

    `config` says how much of a volume a sample is (without one: all of it); `labels` gives each sample
    "label". `options` are those of `SampleSpec` (spacing, axcodes, grid, dtype, pad ...). Raises as
    `Cohort.of` and `labels_of`.

    >>> import radiobject.examples
    >>> radi = radiobject.examples.study(3)
    >>> dataset = VolumeCollectionDataset(radi.T1w, labels="age")
    >>> len(dataset), tuple(dataset[0]["image"].shape)
    (4, (1, 49, 58, 47))
    """

    def __init__(
        self,
        collections: Source,
        config: DatasetConfig | None = None,
        labels: LabelSource = None,
        transform: Transform | None = None,
        *,
        modalities: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        settings = config or DatasetConfig()
        source = named_collections(collections, modalities)
        spec = SampleSpec({IMAGE: tuple(source)}, **settings.sizes(), **options)
        plan = PatchPlan(spec, source, sampling or _default(settings), seed=seed, shuffle=False)
        super().__init__(with_labels(plan, labels), transform)

    @property
    def collection_names(self) -> list[str]:
        """The collections, in the order of their channels."""
        return list(self.plan.spec.images[IMAGE])

    @property
    def volume_shape(self) -> tuple[int, int, int] | None:
        """Voxels x, y, z of all volumes; None when they differ."""
        return _one_shape(self.plan)

    @property
    def n_channels(self) -> int:
        """Channels of "image"."""
        return self.plan.cohort.channels(IMAGE)


class SegmentationDataset(PlanDataset):
    """Images with their masks, under "image" and "label" (`keys`), patches of both at one place.

    `foreground_sampling` centres patches on voxels of the mask: True all of them, a number that share, a
    `Foreground` as it says. `spatial_transform` is called first, then `image_transform`, then `transform`;
    each takes and returns the whole sample. `options` are those of `SampleSpec`.

    >>> import radiobject.examples
    >>> radi = radiobject.examples.study(3)
    >>> config = DatasetConfig("patch", (16, 16, 16))
    >>> dataset = SegmentationDataset(radi.T1w, radi.seg, config, foreground_sampling=True)
    >>> int(dataset[0]["label"][0, 8, 8, 8]) > 0
    True
    """

    def __init__(
        self,
        image: CollectionView | Sequence[CollectionView],
        mask: CollectionView,
        config: DatasetConfig | None = None,
        image_transform: Transform | None = None,
        spatial_transform: Transform | None = None,
        foreground_sampling: bool | float | Foreground = False,
        *,
        transform: Transform | None = None,
        keys: tuple[str, str] = (IMAGE, LABEL),
        sampling: Sampling | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        settings = config or DatasetConfig()
        images = named_collections(image, None)
        both = _unique([*images.items(), (mask.name, mask)])
        names = list(both)
        spec = SampleSpec({keys[0]: tuple(names[:-1])}, {keys[1]: names[-1]}, **settings.sizes(), **options)
        chosen = sampling or _foreground(foreground_sampling, settings) or _default(settings)
        plan = PatchPlan(spec, both, chosen, seed=seed, shuffle=False)
        several = [t for t in (spatial_transform, image_transform, transform) if t is not None]
        super().__init__(plan, Compose(several) if several else None)

    @property
    def volume_shape(self) -> tuple[int, int, int] | None:
        """Voxels x, y, z of all volumes; None when they differ."""
        return _one_shape(self.plan)

    @property
    def n_volumes(self) -> int:
        """Images with a mask."""
        return len(self.plan.cohort)


def named_collections(source: Source, modalities: Sequence[str] | None) -> dict[str, CollectionView]:
    """The collections of a source by name, all images of a study unless `modalities` names some.

    Collections of equal names (of two studies) are told apart by a number. Raises `ConfigError`,
    `UnknownIdError`.
    """
    found: dict[str, CollectionView]
    if isinstance(source, StudyView):
        names = modalities or [n for n in source.collection_names if source.collection(n).kind != "label"]
        found = {name: source.collection(name) for name in names}
    elif isinstance(source, Mapping):
        found = dict(source)
    elif isinstance(source, CollectionView):
        found = {source.name: source}
    elif isinstance(source, list | tuple) and all(isinstance(c, CollectionView) for c in source):
        found = _unique([(collection.name, collection) for collection in source])
    else:
        raise ConfigError(
            "collections", expected="VolumeCollections, or a RadiObject", got=type(source).__name__
        )
    if modalities is not None and (missing := [n for n in modalities if n not in found]):
        raise ConfigError("modalities=", expected=f"some of {list(found)}", got=repr(missing))
    if modalities is not None:
        found = {name: found[name] for name in modalities}
    if not found:
        raise ConfigError("collections", expected="at least one collection of images", got="none")
    return found


def with_labels(plan: PatchPlan, labels: LabelSource) -> PatchPlan:
    """The plan, whose samples also have "label"."""
    if labels is not None:
        if LABEL in (*plan.spec.images, *plan.spec.masks, *plan.spec.targets):
            raise ConfigError(f"labels= as {LABEL!r}", expected="a key that is free", got="a mask or target")
        plan.cohort.targets[LABEL] = labels_of(plan.cohort, labels)
    return plan


def _unique(collections: Sequence[tuple[str, CollectionView]]) -> dict[str, CollectionView]:
    found: dict[str, CollectionView] = {}
    for name, collection in collections:
        free, number = name, 2
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found[free] = collection
    return found


def _default(config: DatasetConfig) -> Sampling | None:
    return Uniform(config.patches_per_volume) if config.patch_size is not None else None


def _foreground(wanted: bool | float | Foreground, config: DatasetConfig) -> Sampling | None:
    if isinstance(wanted, Foreground):
        return wanted
    if wanted is False:
        return None
    return Foreground(float(wanted), per_volume=config.patches_per_volume)


def _one_shape(plan: PatchPlan) -> tuple[int, int, int] | None:
    shapes = {tuple(shape) for shape in plan.cohort.shapes.tolist()}
    if len(shapes) > 1:
        return None
    x, y, z = shapes.pop()
    return x, y, z


def _index(item: Any, length: int) -> int:
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise ConfigError("dataset[...]", expected="an int or a Request", got=repr(item))
    index = int(item)
    if not -length <= index < length:
        raise IndexingError("dataset", expected=f"0 to {length - 1}", got=str(index))
    return index % length


def _place(item: int | Request) -> tuple[int, int]:
    return (item.sample, item.visit) if isinstance(item, Request) else (int(item), 0)
