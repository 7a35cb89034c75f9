"""Subjects: a study's volumes as `tio.Subject`s, in place of a list of files."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt
import pandas as pd
import torchio as tio

from radiobject.errors import ConfigError, IndexingError, UnknownIdError
from radiobject.frozen import is_whole
from radiobject.ml.caching import Cache
from radiobject.ml.cohort import Cohort
from radiobject.ml.datasets import named_collections
from radiobject.ml.labels import LabelSource, labels_of
from radiobject.ml.lazy_tensor import LazyTensor, SampleVoxels
from radiobject.ml.matching import Source
from radiobject.ml.spec import LABEL, Names, SampleSpec
from radiobject.ml.torchio.patches import SubjectTransform, failed
from radiobject.model.view import StudyView

__all__ = ["VolumeCollectionSubjectsDataset"]

_NUM_SAMPLES = "num_samples"
"""TorchIO's name for how many patches a Queue takes from a subject."""


class VolumeCollectionSubjectsDataset(tio.SubjectsDataset):
    """Subjects of a study for TorchIO: `tio.Queue`, `tio.SubjectsLoader`, its samplers and transforms.

    Each collection becomes an image of the subject, under its name (of a mapping: its key): a `tio.LabelMap`
    if it holds labels or is named in `masks`, else a `tio.ScalarImage`. Several collections are partners, as
    `RadiObject.pairs` finds them; of a study all are taken, or those in `modalities`. A subject also has
    `obs_id` and `obs_subject_id` of its first image, the `columns` of the volume or subject table (a mapping
    gives them other keys), and "label" if `labels` says so. What is missing in a column is nan among numbers,
    else None, so that `tio.SubjectsLoader` puts subjects together.

    Making a subject reads no voxel. A sampler or `tio.Crop` reads the patch that it cuts; every other
    transform reads the volumes. So transforms of patches belong behind the sampler, and `transform` is
    TorchIO's: it gets the subject with its whole volumes.

    `num_samples` is the number of patches that a Queue takes from each subject, where it is not the same for
    all: a column, or any other source of labels. `spacing`, `axcodes`, `grid`, `on`, `missing`, `pad` and
    `dtype` are those of `SampleSpec`; `cache` keeps decoded volumes (`InMemory`, `Scratch`).

    >>> import radiobject.examples
    >>> radi = radiobject.examples.study(3)
    >>> dataset = VolumeCollectionSubjectsDataset([radi.T1w, radi.seg], labels="age")
    >>> len(dataset), dataset[0], dataset[0]["label"]
    (4, Subject(Keys: ('T1w', 'seg', 'obs_id', 'obs_subject_id', 'label'); images: 2), 54)
    """

    def __init__(
        self,
        collections: Source,
        labels: LabelSource = None,
        transform: SubjectTransform | None = None,
        *,
        masks: Names = (),
        columns: Names | Mapping[str, str] | None = None,
        num_samples: LabelSource = None,
        modalities: Sequence[str] | None = None,
        spacing: float | Sequence[float] | None = None,
        axcodes: str | None = None,
        grid: Literal["error", "first"] = "error",
        on: Names | None = None,
        missing: Literal["error", "drop"] = "error",
        pad: float = 0.0,
        dtype: Literal["float32", "native"] = "float32",
        cache: Cache | None = None,
    ) -> None:
        if isinstance(collections, StudyView) and modalities is None:
            modalities = collections.collection_names
        source = named_collections(collections, modalities)
        named = [masks] if isinstance(masks, str) else list(masks)
        if unknown := [name for name in named if name not in source]:
            raise UnknownIdError(f"masks={unknown}", expected=f"some of {list(source)}")
        are_masks = {name for name in source if name in named or source[name].kind == "label"}
        spec = SampleSpec(
            {name: name for name in source if name not in are_masks},
            {name: name for name in source if name in are_masks},
            columns, spacing=spacing, axcodes=axcodes, grid=grid, on=on, missing=missing, pad=pad,
            dtype=dtype,
        )  # fmt: skip
        self.cohort = Cohort.of(spec, source).with_cache(cache)
        self.load_getitem = False
        self.set_transform(transform)
        self._columns = {key: _listed(values) for key, values in self.cohort.targets.items()}
        if labels is not None:
            self._add(LABEL, _listed(labels_of(self.cohort, labels)))
        if num_samples is not None:
            self._add(_NUM_SAMPLES, _counts(self.cohort, num_samples))

    def _add(self, key: str, values: list[Any]) -> None:
        spec = self.cohort.spec
        if key in (*spec.images, *spec.masks, *spec.targets):
            raise ConfigError(
                f"{key!r} of the subjects", expected="a key that is free", got="a collection or column"
            )
        self._columns[key] = values

    @property
    def collection_names(self) -> list[str]:
        """The images of each subject."""
        return [*self.cohort.spec.images, *self.cohort.spec.masks]

    def __len__(self) -> int:
        return len(self.cohort)

    def __getitem__(self, index: SupportsIndex) -> tio.Subject:
        """One subject. Raises `IndexingError` beyond the last, `TransformError`, and what reading raises."""
        number = _place(index, len(self))
        subject = self._subject(number)
        if self._transform is None:
            return subject
        try:
            return self._transform(subject)
        except Exception as error:
            raise failed(self.cohort.obs_ids[number], error) from error

    def dry_iter(self) -> Sequence[tio.Subject]:
        """The subjects without their transform; each is made when it is looked at."""
        return _Subjects(self._subject, len(self))

    def _subject(self, number: int) -> tio.Subject:
        cohort = self.cohort
        made: dict[str, Any] = {}
        for key in self.collection_names:
            kind = tio.LabelMap if key in cohort.spec.masks else tio.ScalarImage
            # of all images the first one's: TorchIO allows for less than lies between partners
            made[key] = kind(
                tensor=LazyTensor(SampleVoxels(cohort, number, key)), affine=cohort.affines[number]
            )
        made["obs_id"], made["obs_subject_id"] = cohort.obs_ids[number], cohort.obs_subject_ids[number]
        return tio.Subject({**made, **{key: values[number] for key, values in self._columns.items()}})


class _Subjects(Sequence[tio.Subject]):
    """Subjects made one by one: those of ten thousand are not to be in memory to be counted."""

    def __init__(self, make: Callable[[int], tio.Subject], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(n) for n in range(*index.indices(self._count))]
        return self._make(_place(index, self._count))


def _place(index: SupportsIndex, count: int) -> int:
    number = operator.index(index)
    if not -count <= number < count:
        raise IndexingError("subject", expected=f"0 to {count - 1}", got=str(number))
    return number % count


def _listed(values: npt.NDArray[Any]) -> list[Any]:
    """A value for each subject, of one kind: `tio.SubjectsLoader` looks at the first of a batch alone."""
    if values.ndim > 1:
        return list(values)
    if values.dtype.kind in "mM":
        return [None if np.isnat(value) else str(value) for value in values]
    if values.dtype.kind != "O":
        found: list[Any] = values.tolist()
        return found
    absent = [np.ndim(value) == 0 and bool(pd.isna(value)) for value in values]
    known = [value for value, gone in zip(values, absent, strict=True) if not gone]
    if known and all(isinstance(value, bool | int | float) for value in known):
        return [math.nan if gone else float(value) for value, gone in zip(values, absent, strict=True)]
    return [None if gone else value for value, gone in zip(values, absent, strict=True)]


def _counts(cohort: Cohort, source: LabelSource) -> list[int]:
    values = labels_of(cohort, source).tolist()
    if bad := [n for n, value in enumerate(values) if not (value == int(value) and is_whole(int(value)))]:
        raise ConfigError(
            f"num_samples= of {cohort.obs_ids[bad[0]]}", expected="a whole number, at least 1",
            got=repr(values[bad[0]]),
        )  # fmt: skip
    return [int(value) for value in values]
