"""Transforms: a caller's function on a sample, whose random numbers follow from the sample alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from radiobject.errors import TransformError
from radiobject.forking import on_fork

__all__ = ["Compose", "Transform", "seeded", "transformed"]

Transform = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a sample and returns one; MONAI's dictionary transforms are such."""

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


def transformed(transform: Transform | None, sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as the transform returns it; random numbers in it follow from `sample["seed"]`.

    So a sample comes out the same whichever worker or thread makes it. A transform with `set_random_state`
    (MONAI's) is given the seed too. Raises `TransformError`, naming the volume, for what it raises and for
    what is no dict.
    """
    if transform is None:
        return sample
    seed, obs_id = int(sample["seed"]), sample["obs_id"]
    call: Callable[[dict[str, Any]], Any] = transform
    try:
        with seeded(seed):
            _seed_own(transform, seed)
            found = call(sample)
    except Exception as error:
        raise _failed(obs_id, f"transform of {obs_id}: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        got = f"expected a dict, got {type(found).__name__}"
        raise _failed(obs_id, f"transform of {obs_id}: {got}. Return the sample.")
    return found


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
