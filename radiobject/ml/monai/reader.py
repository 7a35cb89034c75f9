"""References: volumes of a study as texts, and the reader by which MONAI's LoadImage loads them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
from monai.data.image_reader import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS

from radiobject.errors import AlignmentError, ConfigError
from radiobject.forking import renew_on_fork
from radiobject.ml.cohort import Cohort
from radiobject.ml.lazy_tensor import refuse_other_grids
from radiobject.ml.matching import Source
from radiobject.ml.monai.tensors import plain
from radiobject.ml.spec import Names, SampleSpec
from radiobject.model.collection import VolumeCollection
from radiobject.model.study import Study, split_collection
from radiobject.model.volume import Volume

__all__ = ["RadiReader", "reference", "references"]

_COLLAPSED = re.compile(r"^([a-z][a-z0-9+.-]+):/(?!/)")
"""A URL after `pathlib.Path`, through which LoadImage passes file names unless told `expanduser=False`."""


def reference(uri: str, version: int, collection: str, obs_id: str) -> str:
    """One volume of a version of a study as a text, which `RadiReader` reads.

    `<uri>@<version>#<collection>/<obs_id>`; characters in the last two that a URL would not have are
    percent-encoded. It goes on from how `VolumeCollection` is opened.

    >>> reference("s3://bucket/study", 7, "T1w", "sub-01_T1w")
    's3://bucket/study@7#T1w/sub-01_T1w'
    """
    return f"{uri}@{version}#{quote(collection, safe='')}/{quote(obs_id, safe='')}"


def references(
    source: Source,
    images: Names | Mapping[str, Names],
    masks: Names | Mapping[str, Names] | None = None,
    *,
    targets: Names | Mapping[str, str] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The samples of a study, or of a view of it, as MONAI's scripts list files: dicts of texts.

    `images`, `masks`, `targets` and `options` are those of `SampleSpec`: partners are matched and their grids
    compared, from the tables alone. A key of several collections has a list, which LoadImage stacks as
    channels. Partners on different grids pass with `grid="first"`, for MONAI's `ResampleToMatchd` to do the
    rest. "obs_id" and "obs_subject_id" come along. References name the version, so that a
    `PersistentDataset` never takes what it has kept of another one.

    Raises as `Cohort.of`.

    >>> import radiobject.examples
    >>> radi = radiobject.examples.study(2)
    >>> [sorted(item) for item in references(radi, "T1w", "seg")][0]
    ['image', 'label', 'obs_id', 'obs_subject_id']
    """
    for name in ("spacing", "axcodes", "patch_size", "plane", "pad", "dtype"):
        if options.get(name) is not None:
            raise ConfigError(
                f"references({name}=)", expected="volumes as they are stored", got=repr(options[name]),
                hint="Let MONAI's transforms do it, or use a SampleSpec with PlanDataset.",
            )  # fmt: skip
    cohort = Cohort.of(SampleSpec(images, masks, targets, **options), source)
    texts: list[list[str]] = []
    for number, stream in enumerate(cohort.streams):
        study = cohort.studies[number]
        ids = study.obs(stream.collection).ids()
        uri, version = study.location.uri, study.snapshot.version
        of = (ids[at] for at in cohort.positions[:, number])
        texts.append([reference(uri, version, stream.collection, obs_id) for obs_id in of])
    found: list[dict[str, Any]] = []
    for sample in range(len(cohort)):
        item: dict[str, Any] = {}
        for key in (*cohort.spec.images, *cohort.spec.masks):
            each = [text[sample] for text, s in zip(texts, cohort.streams, strict=True) if s.key == key]
            item[key] = each if len(each) > 1 else each[0]
        item |= {key: plain(values[sample]) for key, values in cohort.targets.items()}
        item |= {"obs_id": cohort.obs_ids[sample], "obs_subject_id": cohort.obs_subject_ids[sample]}
        found.append(item)
    return found


class RadiReader(ImageReader):
    """Reads volumes of studies by `references`: `LoadImaged(keys, reader=RadiReader(), expanduser=False)`.

    MONAI knows it once this module is imported, so that `LoadImaged(keys)` picks it for references by itself.
    What it gives is what MONAI's NibabelReader gives of the same scan: axes x, y, z[, channel], values
    scaled, and the affine to RAS+ mm. It also takes the URL of one volume, as `Volume` does, and URLs that
    LoadImage has collapsed for want of `expanduser=False` (`s3:/bucket`).

    A reader pickles without anything open, and each process opens a study once. `storage_options` are those
    of `RadiObject`.

    >>> import radiobject.examples
    >>> reader, item = RadiReader(), references(radiobject.examples.study(1), "T1w")[0]
    >>> array, meta = reader.get_data(reader.read(item["image"]))
    >>> array.shape, meta["obs_id"]
    ((49, 58, 47), 'sub-01_T1w')
    """

    def __init__(self, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.storage_options = dict(storage_options or {})
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()
        self._studies: dict[str, Study] = {}

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all are references."""
        return all(split_collection(_restored(name))[1] is not None for name in _listed(filename))

    def read(self, data: Any, **options: Any) -> list[Volume]:
        """The volumes of one reference, or of several; no voxel is read.

        Raises `UnknownIdError`, and as `VolumeCollection` and `Volume` do.
        """
        return [self._opened(_restored(name)) for name in _listed(data)]

    def get_data(self, img: Any) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """The voxels and what MONAI's readers say of them. Several volumes become channels, as theirs do.

        Raises `AlignmentError` when these are not on one grid.
        """
        volumes: list[Volume] = [img] if isinstance(img, Volume) else list(img)
        first = volumes[0]
        for other in volumes[1:]:
            if other.shape != first.shape:
                raise AlignmentError(
                    f"{other.obs_id!r} as a channel beside {first.obs_id!r}",
                    expected=f"shape {first.shape} on the same grid", got=f"shape {other.shape}",
                    hint="Load them under keys of their own and resample one to the other.",
                )  # fmt: skip
        refuse_other_grids(volumes)
        arrays = [_three_or_four(volume) for volume in volumes]
        channel: Any = -1 if first.ndim > 3 else 0 if len(arrays) > 1 else float("nan")  # nan: there is none
        join = np.stack if channel == 0 else np.concatenate
        array = join(arrays, axis=channel) if len(arrays) > 1 else arrays[0]
        affine = first.meta.affine.scaled(first.meta.side).matrix.copy()  # ours cannot be written to
        meta = {
            "affine": affine.copy(),
            "original_affine": affine,
            "spatial_shape": np.array(first.shape[:3]),
            "original_channel_dim": channel,
            "space": "RAS",
            "obs_id": first.obs_id,
            "obs_subject_id": first.obs_subject_id,
        }
        return array, meta

    def _opened(self, name: str) -> Volume:
        place, fragment = split_collection(name)
        if fragment is None:
            return Volume(name, storage_options=self.storage_options)
        collection, mark, obs_id = fragment.partition("/")
        if not mark or not obs_id:
            raise ConfigError(
                f"reference {name!r}", expected="<uri>#<collection>/<obs_id>", got="no obs_id",
                hint="radiobject.ml.monai.references(radi, ...) makes them.",
            )  # fmt: skip
        with self._lock:
            study = self._studies.get(place)
            if study is None:
                study = self._studies[place] = Study.at(place, storage_options=self.storage_options)
        volume: Volume = VolumeCollection._of(study, unquote(collection)).loc[unquote(obs_id)]
        return volume

    def __getstate__(self) -> dict[str, Any]:
        return {"storage_options": self.storage_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["storage_options"])  # type: ignore[misc]


# after that LoadImage asks it whether a name is a reference, before it asks its own readers
SUPPORTED_READERS["radireader"] = RadiReader


def _listed(names: Any) -> Sequence[str]:
    return [os.fspath(names)] if isinstance(names, str | os.PathLike) else [os.fspath(n) for n in names]


def _restored(name: str) -> str:
    """A reference as it was before it went through a Path."""
    return _COLLAPSED.sub(lambda found: f"{found[1]}:{'///' if found[1] == 'file' else '//'}", name)


def _three_or_four(volume: Volume) -> npt.NDArray[Any]:
    """(x, y, z), or (x, y, z, channels) with time points and channels in one axis."""
    array = volume.to_numpy()
    return array if array.ndim < 5 else array.reshape(*array.shape[:3], -1)
