"""Prediction: a network run over all samples of a study, its results a new collection of that study."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from radiobject.backends.base import plan_array
from radiobject.config import WriteConfig
from radiobject.errors import ConfigError
from radiobject.executor import Progress
from radiobject.format.layout import to_disk
from radiobject.format.meta import Kind, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box
from radiobject.ml.cohort import Cohort
from radiobject.ml.monai.windows import (
    Post,
    Predictor,
    Source,
    Windows,
    mapped,
    rows_of,
    sliding_window,
)
from radiobject.ml.spec import SampleSpec
from radiobject.model.collection import VolumeCollection
from radiobject.model.held import HeldHandle
from radiobject.model.provenance import function_identity
from radiobject.model.radi_object import RadiObject
from radiobject.model.view import StudyView
from radiobject.model.volume import Volume

__all__ = ["argmax", "predict"]

_SLAB = 64
"""Planes (z) that are brought back to a volume's own grid at a time."""


def argmax(scores: torch.Tensor) -> torch.Tensor:
    """The class with the highest score of each voxel, (C, X, Y, Z) to (X, Y, Z), uint8 or int16.

    Raises `ConfigError` for one channel, of which the highest is always the same.

    >>> argmax(torch.tensor([[[[0.1, 0.9]]], [[[0.7, 0.2]]]])).tolist()
    [[[1, 0]]]
    """
    if len(scores) < 2:
        raise ConfigError(
            "argmax", expected="at least two channels of scores", got=str(len(scores)),
            hint="For one channel pass post=lambda scores: scores[0] > 0.",
        )  # fmt: skip
    return scores.argmax(0).to(torch.uint8 if len(scores) <= 256 else torch.int16)


def predict(
    radi: RadiObject,
    spec: SampleSpec,
    network: Predictor,
    collection: str = "prediction",
    *,
    roi_size: int | Sequence[int] | None = None,
    sw_batch_size: int = 1,
    overlap: float | Sequence[float] = 0.25,
    mode: str = "constant",
    sigma_scale: float | Sequence[float] = 0.125,
    device: torch.device | str = "cpu",
    post: Post | None = argmax,
    samples: StudyView | None = None,
    kind: Literal["image", "label"] | None = None,
    version: str | None = None,
    write: WriteConfig | None = None,
    resume: bool = False,
    progress: bool | Progress | None = None,
    message: str = "",
) -> VolumeCollection:
    """Run a network over samples by `sliding_window`, and add what it gives to the study as a collection.

    `spec` says what a sample is, as in training: its images (masks and targets are not read), their grid,
    and `patch_size`, which is the window unless `roi_size` is given. `radi` is the study, `samples` a view of
    it (`radi.filter("split == 'test'")`) for some of them only. A `torch.nn.Module` is moved to `device` and
    run in its evaluation mode; sums stay in this machine's memory.

    Each result is a volume on the grid of its sample's first image: where the spec turns or resamples, it is
    brought back, integers by the nearest voxel, others linearly. It is a label map where `post` gives
    integers (unless `kind` says otherwise), and its row names image, version and network as those of
    `RadiObject.add_collection` do. Voxels go from the windows into a temporary file and from there into
    the study; put TMPDIR on a disk with room.

    All are committed at once, at the end. `resume=True` keeps what an interrupted call with the same network
    and settings has finished, and a call after an append predicts what is new. `version` is your word for
    which network it is, in place of a digest of its parameters and buffers, and of the numbers and texts that
    its modules have as attributes.

    Raises as `sliding_window`, `SampleSpec`'s `Cohort.of` and `add_collection`.

    >>> import radiobject.examples
    >>> radi = radiobject.examples.study(2)
    >>> network = torch.nn.Conv3d(1, 2, 1)
    >>> found = predict(radi, SampleSpec("T1w", patch_size=32), network, "T1w_pred", sw_batch_size=4)
    >>> found.kind, found.obs_ids[0], found.iloc[0].shape == radi.T1w.iloc[0].shape
    ('label', 'sub-01_T1w_pred', True)
    """
    size = spec.patch_size if roi_size is None else roi_size
    if size is None:
        raise ConfigError("predict", expected="roi_size=, or a spec with patch_size=", got="neither")
    if spec.plane is not None:
        raise ConfigError("predict", expected="a spec without plane=", got=repr(spec.plane))
    images = SampleSpec(
        spec.images, spacing=spec.spacing, axcodes=spec.axcodes, grid=spec.grid, on=spec.on,
        missing=spec.missing, pad=spec.pad,
    )  # fmt: skip
    view = radi if samples is None else samples
    if not isinstance(view, StudyView) or view._study.location.uri != radi._study.location.uri:
        raise ConfigError("predict(samples=)", expected="a view of radi, as radi.filter", got=repr(samples))
    cohort = Cohort.of(images, view)
    settings = {
        "roi_size": size, "sw_batch_size": sw_batch_size, "overlap": overlap, "mode": mode,
        "sigma_scale": sigma_scale, "cval": spec.pad, "post": post,
    }  # fmt: skip
    source = view.collection(cohort.streams[0].collection)
    with _evaluating(network, device):
        kind = kind or _kind_of(cohort, network, size, spec.pad, device, post)
        job = _Job(cohort, network, {**settings, "sw_device": device}, kind)
        query = source.loc[cohort.obs_ids].lazy().map(
            job.function(), format="volume", version=version or _digest(network, images, settings)
        )  # fmt: skip
        radi.add_collection(
            collection, query, kind=kind, write=write, resume=resume, message=message,
            executor="serial", progress=progress,
        )  # fmt: skip
    return radi.collection(collection)


@dataclass(frozen=True)
class _Job:
    """What is done for every volume."""

    cohort: Cohort
    network: Predictor
    settings: dict[str, Any]
    kind: Kind

    def function(self) -> Callable[[Volume, Any], Volume]:
        """The function whose name stands in the rows."""
        places = {obs_id: n for n, obs_id in enumerate(self.cohort.obs_ids)}

        def predicted(volume: Volume, row: Any) -> Volume:
            return self._predicted(volume, places[volume.obs_id])

        named = self.network if hasattr(self.network, "__qualname__") else type(self.network)
        predicted.__qualname__ = f"predict({named.__qualname__})"
        return predicted

    def _predicted(self, image: Volume, sample: int) -> Volume:
        volumes = _volumes(self.cohort, sample)
        found = sliding_window(volumes, self.network, **self.settings)
        first = volumes[0]
        if first.shape[:3] != image.shape[:3] or not np.allclose(first.affine, image.affine, atol=1e-6):
            order = 0 if found.dtype.kind in "iu" else 1
            made = _mapped_volume(found, first.meta.affine, self.kind, image.meta)
            found = _on_grid(made.resample(like=image, order=order), found)
        return _mapped_volume(found, image.meta.affine, self.kind, image.meta)


class _MappedHandle(HeldHandle):
    """A handle on voxels in a file that nobody else has: reads are views, so that nothing is held twice."""

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """A view of the voxels of a box in disk order."""
        return self.voxels[box.slices]


def _mapped_volume(array: npt.NDArray[Any], affine: Affine, kind: Kind, like: VolumeMeta) -> Volume:
    """An array of `mapped` as a Volume."""
    dims = ("z", "y", "x") if array.ndim == 3 else ("c", "z", "y", "x")
    voxels = to_disk(array, dims)
    meta = VolumeMeta(affine, dims, kind=kind, space_unit=like.space_unit)
    return Volume._of(_MappedHandle(voxels, {}, plan_array(voxels.shape, voxels.dtype, dims)), meta)


def _on_grid(volume: Volume, before: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The voxels of a resampled volume, in a file, some planes at a time."""
    made = mapped(volume.shape, before.dtype)
    for z in range(0, volume.shape[2], _SLAB):
        made[:, :, z : z + _SLAB] = volume[:, :, z : z + _SLAB]
    return made


def _volumes(cohort: Cohort, sample: int) -> list[Volume]:
    return [cohort.volume(sample, stream) for stream in range(len(cohort.streams))]


def _kind_of(
    cohort: Cohort, network: Predictor, size: Any, pad: float, device: torch.device | str, post: Post | None
) -> Kind:
    """What `post` makes of the first window of all: labels if it is integers."""
    windows = Windows.of(Source.of(_volumes(cohort, 0)), size, 0.0, pad)
    with torch.no_grad():
        scores = network(windows.read(windows.places[0])[None].to(device))[0].cpu()
        rows = rows_of(scores, scores if post is None else post(scores))
    return "label" if rows.dtype.kind in "iu" else "image"


@contextmanager
def _evaluating(network: Predictor, device: torch.device | str) -> Iterator[None]:
    """A module on `device` and in evaluation mode; afterwards each part is in the mode that it was in."""
    if not isinstance(network, torch.nn.Module):
        yield
        return
    modes = [(part, part.training) for part in network.modules()]
    network.to(device).eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _digest(network: Predictor, spec: SampleSpec, settings: dict[str, Any]) -> str:
    """What decides a prediction besides the voxels: parameters, structure, spec and settings."""
    told = hashlib.sha256()
    post = settings["post"]
    said = {**settings, "post": None if post is None else function_identity(post)}
    del said["sw_batch_size"]  # of which results depend by rounding at most
    told.update(f"{spec!r} {said!r}".encode())
    if isinstance(network, torch.nn.Module):
        told.update(f"{function_identity(type(network).forward)} {network!r}".encode())
        for name, part in network.named_modules():
            told.update(f"{name} {_plain_attributes(part)!r}".encode())
        for name, value in network.state_dict().items():
            told.update(name.encode())
            told.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    else:
        told.update(function_identity(network).encode())
    return told.hexdigest()


def _plain_attributes(part: torch.nn.Module) -> list[tuple[str, Any]]:
    """Numbers and texts that a module computes with and does not say of itself."""
    plain = (bool, int, float, str)
    return sorted((k, v) for k, v in vars(part).items() if isinstance(v, plain) and k != "training")
