"""The training loader as the description measured its own: three volumes, worker processes, kept volumes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radiobject import RadiObject
from radiobject.ml import InMemory, Scratch, create_training_dataloader

__all__ = ["VOLUMES", "epochs"]

VOLUMES = 3


def epochs(work: Path, files: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Seconds of an epoch of whole volumes by worker processes, and of repeated ones by what is kept.

    "first" starts the workers and reads the first volumes, "next" is the median of the epochs after it.
    """
    place = work / "training"
    some = [(path, name) for name, path in list(files.items())[:VOLUMES]]
    RadiObject.from_niftis(place, {"T1w": some}, progress=False)
    found: dict[str, Any] = {"workers": {}, "kept": {}}
    for workers in (0, 1, 2):
        found["workers"][str(workers)] = _epochs(place, rounds, num_workers=workers)
    caches = {"nothing": None, "InMemory": InMemory(), "Scratch": Scratch(work / "scratch")}
    for name, cache in caches.items():
        found["kept"][name] = _epochs(place, rounds, cache=cache)
    return found


def _epochs(place: Path, rounds: int, **options: Any) -> dict[str, float]:
    loader = create_training_dataloader(
        RadiObject(place).T1w, batch_size=1, pin_memory=False, drop_last=False, **options
    )
    seconds = []
    for number in range(rounds + 1):
        loader.set_epoch(number)
        begun = time.perf_counter()
        for _ in loader:
            pass
        seconds.append(time.perf_counter() - begun)
    return {"first": seconds[0], "next": statistics.median(seconds[1:])}
