"""Transforms: a caller's function on a sample, whose random numbers follow from the sample alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch

from radiobject.errors import TransformError
from radiobject.forking import on_fork

__all__ = ["Compose", "Sample", "Transform", "flattened", "seeded", "transformed"]

Sample = dict[str, Any]

Transform = Callable[[Sample], Sample | list[Sample]]
"""Takes a sample and returns one, or several made of it; MONAI's dictionary transforms are such."""

_FRAMEWORKS = ("monai", "torchio")
"""Packages whose transforms know voxels with their affine, as images of their own kind."""

_lock = threading.RLock()


class Compose:
    """Transforms one after another. MONAI's Compose does as well; this one needs no MONAI.

    >>> Compose([lambda sample: {**sample, "a": 1}, lambda sample: {**sample, "b": sample["a"] + 1}])({})
    {'a': 1, 'b': 2}
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, data: Any) -> Any:
        """What the last one returns."""
        for transform in self.transforms:
            data = transform(data)
        return data

    def set_random_state(self, seed: int) -> Compose:
        """Seed those that have random numbers of their own, as MONAI's have."""
        for number, transform in enumerate(self.transforms):
            _seed_own(transform, seed + number)
        return self

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In the block the generators of `random`, NumPy and torch (CPU) follow from `seed`; then they go on.

    They belong to the process: one block at a time, others wait.
    """
    with _lock:
        kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.set_rng_state(kept[2])


def transformed(
    transform: Transform | None, sample: Sample, images: Iterable[str] = (), masks: Iterable[str] = ()
) -> Sample | list[Sample]:
    """The sample as the transform returns it; random numbers in it follow from `sample["seed"]`.

    So a sample comes out the same whichever worker or thread makes it. A transform with `set_random_state`
    (MONAI's) is given the seed too. One that makes several samples of one (MONAI's RandCropByPosNegLabeld)
    returns a list of them.

    Transforms of MONAI and TorchIO, by themselves or in our `Compose`, get the voxels under `images` and
    `masks` as MetaTensors and as a Subject, with the patch's affine; "affine" is then that of the first image
    as they have left it. Any other function gets the dict as it is.

    Raises `TransformError`, naming the volume, for what it raises and for what is no dict.
    """
    if transform is None:
        return sample
    seed, obs_id = int(sample["seed"]), sample["obs_id"]
    try:
        with seeded(seed):
            _seed_own(transform, seed)
            return _called(transform, sample, tuple(images), tuple(masks))
    except Exception as error:
        raise _failed(obs_id, f"transform of {obs_id}: {type(error).__name__}: {error}") from error


def _called(
    transform: Callable[[Any], Any], sample: Sample, images: tuple[str, ...], masks: tuple[str, ...]
) -> Sample | list[Sample]:
    """What a transform makes of a sample, in its framework's hands."""
    if isinstance(transform, Compose):
        several = [sample]
        makes_several = False
        for one in transform.transforms:
            found = [_called(one, each, images, masks) for each in several]
            makes_several |= any(isinstance(made, list) for made in found)
            several = flattened(found)
        return several if makes_several else several[0]
    framework = _framework_of(transform)
    if framework is None:
        made = transform(sample)
    else:
        room = import_module(f"radiobject.ml.{framework}")
        made = room.apply(
            transform, sample, [k for k in images if k in sample], [k for k in masks if k in sample]
        )
    if not isinstance(made, dict) and not (
        isinstance(made, list) and made and all(isinstance(each, dict) for each in made)
    ):
        raise TypeError(f"expected a dict, or a list of them, got {type(made).__name__}. Return the sample.")
    return made


def flattened(items: Iterable[Any]) -> list[Any]:
    """Samples in a row, those that were made of one after another."""
    return [sample for item in items for sample in (item if isinstance(item, list) else (item,))]


def _framework_of(transform: object) -> str | None:
    """Whose a transform is, by the classes that it is an instance of."""
    for kind in type(transform).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in _FRAMEWORKS:
            return package
    return None


def _seed_own(transform: object, seed: int) -> None:
    own = getattr(transform, "set_random_state", None)
    if own is not None:
        own(seed=seed % 2**32)


def _failed(obs_id: str, text: str) -> TransformError:
    error = TransformError(text)
    error.obs_ids = (obs_id,)
    return error


@on_fork
def _renew() -> None:
    global _lock
    _lock = threading.RLock()
