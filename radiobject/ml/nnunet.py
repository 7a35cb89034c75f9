"""nnU-Net: the samples of a spec as a dataset for its trainer, of which only the patches are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, MissingDependencyError, UnknownIdError
from radiobject.format.layout import to_disk
from radiobject.geometry.box import Box, normalise
from radiobject.ml.blocks import refuse_wrapped
from radiobject.ml.cohort import Cohort
from radiobject.ml.foreground import voxels_of
from radiobject.ml.matching import Source
from radiobject.ml.spec import SampleSpec

try:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "nnunetv2":
        raise
    raise MissingDependencyError(
        "radiobject.ml.nnunet needs nnU-Net", hint='pip install "radiobject-zarr[nnunet]"'
    ) from error

__all__ = ["CaseArray", "Normalize", "Places", "RadiNnUNetDataset"]

Normalize = Callable[[npt.NDArray[np.float32], str], npt.NDArray[np.float32]]
"""Takes a box of an image (C, z, y, x) and the case's identifier; returns as many voxels."""


class CaseArray:
    """One key of a sample as an array (C, z, y, x), of which what is sliced is read, and nothing else.

    Indexes are NumPy's. Axes have the order in which voxels lie on disk, which is nnU-Net's.
    """

    def __init__(self, cohort: Cohort, sample: int, key: str, normalize: Normalize | None = None) -> None:
        self._cohort, self._sample, self._key, self._normalize = cohort, sample, key, normalize
        x, y, z = cohort.shapes[sample].tolist()
        self.shape: tuple[int, int, int, int] = (cohort.channels(key), z, y, x)
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if normalize else cohort.dtypes[key]

    @property
    def ndim(self) -> int:
        """4."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        box, rest = normalise(index, self.shape)
        if self._normalize is not None:
            # it sees every channel, so that their order is theirs
            box, channels = Box((0, *box.start[1:]), (self.shape[0], *box.stop[1:])), box.slices[0]
            found = np.asarray(self._normalize(self._read(box), self._cohort.obs_ids[self._sample]))
            if found.shape != box.shape:
                raise ConfigError("normalize=", expected=f"an array {box.shape}", got=str(found.shape))
            found = found[channels]
        else:
            found = self._read(box)
        return found if rest is None else found[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self[...]
        return found if dtype is None else found.astype(dtype, copy=False)

    def _read(self, box: Box) -> npt.NDArray[Any]:
        """The box, in one read of each volume that has one of its channels."""
        if box.size == 0:
            return np.empty(box.shape, self.dtype)
        first, last = box.start[0], box.stop[0]
        parts = []
        for number, stream in enumerate(self._cohort.streams):
            low, high = max(first - stream.start, 0), min(last - stream.start, stream.frames)
            if stream.key != self._key or low >= high:
                continue
            volume = self._cohort.volume(self._sample, number)
            block = volume[box.slices[:0:-1]]
            block = to_disk(block, volume.meta.dims) if block.ndim > 3 else block.T
            parts.append(block.reshape(stream.frames, *box.shape[1:])[low:high])
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        refuse_wrapped(found, self.dtype)
        return found.astype(self.dtype, copy=False)


class Places:
    """Voxels of a class as rows (0, z, y, x), as nnU-Net's `class_locations` have them.

    Kept as one number a voxel; `places[n]` and `np.asarray(places)` make coordinates of them. A case with a
    hundred classes has a million, of which a patch needs one.
    """

    def __init__(self, linear: npt.NDArray[Any], shape: tuple[int, int, int]) -> None:
        self._linear, self._shape = linear, shape

    def __len__(self) -> int:
        return len(self._linear)

    def __getitem__(self, index: Any) -> npt.NDArray[np.int64]:
        z, y, x = np.unravel_index(self._linear[index], self._shape)
        return np.stack([np.zeros_like(z), z, y, x], axis=-1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)


@dataclass(frozen=True)
class _Settings:
    """What all datasets of a class made by `over` share."""

    cohort: Cohort
    key: str
    normalize: Normalize | None
    classes: tuple[int | tuple[int, ...], ...] | None


class RadiNnUNetDataset(nnUNetBaseDataset):  # type: ignore[misc]  # nnU-Net has no types
    """Cases of a study for nnU-Net's data loader: `data` and `seg` are read where a patch lies.

    `RadiNnUNetDataset.over(radi, spec)` makes the class that a trainer gets as its `dataset_class`; the
    folder that the trainer passes is not looked at. A case is a sample of the spec, its identifier the obs_id
    of its first image.

    **It reads, and preprocesses nothing.** nnU-Net trains on volumes that it has cropped to what is not 0,
    resampled to the spacing of its plans and normalised; this dataset gives values as they stand in the
    study, on the spec's grid, resampled linearly where that has `spacing=`. So make the study of preprocessed
    volumes, or pass `normalize`.

    Raises `ConfigError` for a previous stage (cascades are not supported), `UnknownIdError` for identifiers
    that are not there.
    """

    _settings: ClassVar[_Settings | None] = None

    def __init__(
        self,
        folder: str = "",
        identifiers: Sequence[str] | None = None,
        folder_with_segs_from_previous_stage: str | None = None,
    ) -> None:
        if folder_with_segs_from_previous_stage is not None:
            raise ConfigError(
                "folder_with_segs_from_previous_stage", expected="None: cascades are not supported",
                got=repr(folder_with_segs_from_previous_stage),
            )  # fmt: skip
        cohort = self._of().cohort
        self._samples = {obs_id: sample for sample, obs_id in enumerate(cohort.obs_ids)}
        wanted = list(self._samples if identifiers is None else identifiers)
        if missing := [name for name in wanted if name not in self._samples]:
            raise UnknownIdError(
                f"cases {missing[:5]}", expected=f"some of {len(self._samples)}: {cohort.obs_ids[:5]}"
            )
        super().__init__(folder, wanted)

    @classmethod
    def over(
        cls,
        source: Source | Cohort,
        spec: SampleSpec,
        *,
        normalize: Normalize | None = None,
        classes: Sequence[int | Sequence[int]] | None = None,
    ) -> type[RadiNnUNetDataset]:
        """A dataset class over the samples of a spec, for `trainer.dataset_class`.

        `spec` has one mask key, of one collection, and no patch size: nnU-Net has its own. `normalize` is
        called with every box of an image that is read, (C, z, y, x) float32, and the case's identifier.
        `classes` are the labels of which patches are asked for, a sequence of labels being a region; None
        means all above 0 that a mask has. Raises `ConfigError`, and as `Cohort.of`.

        >>> import radiobject.examples
        >>> from radiobject.ml import SampleSpec
        >>> radi = radiobject.examples.study(3)
        >>> dataset = RadiNnUNetDataset.over(radi, SampleSpec("T1w", "seg"))()
        >>> data, seg, seg_prev, properties = dataset.load_case(dataset.identifiers[0])
        >>> data.shape, data[:, 10:20, :8, -8:].shape, sorted(properties["class_locations"])
        ((1, 47, 58, 49), (1, 10, 8, 8), [1, 2])
        """
        cohort = source if isinstance(source, Cohort) else Cohort.of(spec, source)
        spec = cohort.spec
        if spec.patch_size is not None or spec.plane is not None:
            raise ConfigError(
                "the spec of a RadiNnUNetDataset", expected="whole volumes: nnU-Net has its own patch size",
                got="patch_size=" if spec.patch_size is not None else "plane=",
            )  # fmt: skip
        if len(spec.masks) != 1 or cohort.channels(next(iter(spec.masks))) != 1:
            raise ConfigError(
                "the spec of a RadiNnUNetDataset", expected="one mask", got=repr(dict(spec.masks))
            )
        if len(spec.images) != 1:
            raise ConfigError(
                "the spec of a RadiNnUNetDataset", expected="one key of images", got=repr(dict(spec.images)),
                hint='SampleSpec(["T1w", "FLAIR"], "seg") makes channels of collections.',
            )  # fmt: skip
        wanted = None if classes is None else tuple([_class(value) for value in classes])
        return cls._with(_Settings(cohort, next(iter(spec.masks)), normalize, wanted))

    @classmethod
    def _with(cls, settings: _Settings) -> type[RadiNnUNetDataset]:
        names = {"_settings": settings, "__doc__": cls.__doc__, "__module__": __name__}
        return type(cls.__name__, (cls,), names)

    @classmethod
    def _of(cls) -> _Settings:
        if cls._settings is None:
            raise ConfigError(
                "RadiNnUNetDataset", expected="a class that says what it reads", got="the base class",
                hint="Make one with RadiNnUNetDataset.over(radi, spec).",
            )  # fmt: skip
        return cls._settings

    @classmethod
    def get_identifiers(cls, folder: str = "") -> list[str]:
        """The obs_ids of the first image, sample by sample."""
        return list(cls._of().cohort.obs_ids)

    def load_case(self, identifier: str) -> tuple[CaseArray, CaseArray, None, dict[str, Any]]:
        """`data` (C, z, y, x) and `seg` (1, z, y, x), of which nothing is read yet; None; `properties`.

        These have `class_locations` from the foreground index, and the geometry that nnU-Net writes
        predictions with: that of the sample's grid, uncropped.
        """
        settings = self._of()
        cohort, sample = settings.cohort, self._samples[identifier]
        image = next(iter(cohort.spec.images))
        data = CaseArray(cohort, sample, image, settings.normalize)
        seg = CaseArray(cohort, sample, settings.key)
        return data, seg, None, {"class_locations": self._locations(sample), **_geometry(cohort, sample)}

    def _locations(self, sample: int) -> dict[int | tuple[int, ...], Places]:
        settings = self._of()
        voxels = voxels_of(settings.cohort, settings.key, sample)
        x, y, z = settings.cohort.shapes[sample].tolist()
        known: Mapping[int, npt.NDArray[Any]] = dict(zip(voxels.values.tolist(), voxels.places, strict=True))
        wanted = settings.classes
        if wanted is None:
            wanted = tuple([value for value in known if value > 0])
        none = np.empty(0, dtype=np.int64)
        found: dict[int | tuple[int, ...], Places] = {}
        for value in wanted:
            if isinstance(value, tuple):
                linear = np.concatenate([none, *(known[v] for v in value if v in known)])
            else:
                linear = known.get(value, none)
            found[value] = Places(linear, (z, y, x))
        return found

    @staticmethod
    def save_case(data: Any, seg: Any, properties: Any, output_filename_truncated: str) -> None:
        """Raises `ConfigError`: nnU-Net's preprocessing, which calls it, writes to its own folders."""
        raise ConfigError(
            "RadiNnUNetDataset.save_case", expected="reads only", got=output_filename_truncated,
            hint="RadiObject.from_niftis and RadiObjectWriter put preprocessed arrays into a study.",
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        # the class was made by `over`: no module has it by name
        return _again, (self._of(), self.source_folder, list(self.identifiers))


def _again(settings: _Settings, folder: str, identifiers: list[str]) -> RadiNnUNetDataset:
    return RadiNnUNetDataset._with(settings)(folder, identifiers)


def _class(value: int | Sequence[int]) -> int | tuple[int, ...]:
    return tuple([int(v) for v in value]) if isinstance(value, Sequence) else int(value)


def _geometry(cohort: Cohort, sample: int) -> dict[str, Any]:
    """The grid of a sample in nnU-Net's words: lists z, y, x, and SimpleITK's (LPS+ mm, x, y, z)."""
    x, y, z = cohort.shapes[sample].tolist()
    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ cohort.affines[sample]
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    return {
        "spacing": spacing[::-1].tolist(),
        "shape_before_cropping": (z, y, x),
        "bbox_used_for_cropping": [[0, z], [0, y], [0, x]],
        "shape_after_cropping_and_before_resampling": (z, y, x),
        "sitk_stuff": {
            "spacing": tuple(spacing.tolist()),
            "origin": tuple(world[:3, 3].tolist()),
            "direction": tuple((world[:3, :3] / spacing).ravel().tolist()),
        },
    }
