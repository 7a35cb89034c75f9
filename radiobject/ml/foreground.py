"""Foreground: where the voxels of each class of a mask lie, sampled once; patches are centred on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError
from radiobject.executor import progress_bar, run
from radiobject.format.layout import to_disk
from radiobject.ml.cohort import Cohort
from radiobject.ml.draws import Draws

__all__ = ["ClassVoxels", "centres"]

Ints = npt.NDArray[np.int64]

_PER_CLASS = 10_000
"""Voxels of a class that are kept of one mask, as nnU-Net does."""

_ALL = 64 * 2**20
"""Voxels kept of all masks together, 256 MiB of numbers; but never fewer than `_LEAST` a mask."""

_LEAST = 1000
_PURPOSE = 0x466F7265
"""Sets these draws apart from those of plans: which voxels are kept depends on no seed."""

_READERS = 8
"""Masks read at a time: each is in memory as a whole."""

_SLAB = 2**22
"""Voxels that are counted in one step; NumPy makes numbers of 8 bytes of them."""


@dataclass(frozen=True)
class ClassVoxels:
    """The values of one mask, and for each some of its voxels as places in the mask's memory (z, y, x)."""

    values: Ints
    places: tuple[npt.NDArray[np.uint32 | np.int64], ...]


def centres(
    cohort: Cohort,
    key: str | None,
    classes: Sequence[int] | Mapping[int, float] | None,
    samples: Ints,
    draws: Draws,
) -> tuple[npt.NDArray[np.bool_], Ints]:
    """A foreground voxel for each of `samples`: (found (n,), voxels x, y, z (n, 3)); 0 where none is.

    The class is drawn among those of `classes` (None: all but 0) that the mask has, by weight where they are
    a mapping, then a voxel of it. Masks are read when first needed, once in a process, several at a time.

    Raises `ConfigError` when the samples have no such mask, and what reading them raises.
    """
    masks = list(cohort.spec.masks)
    if not masks or (key is not None and key not in masks):
        raise ConfigError(
            "Foreground", expected=f"a mask among {masks}" if masks else "SampleSpec(masks=)", got=repr(key)
        )
    key = key or masks[0]
    known = cohort.class_voxels.setdefault(key, {})
    _read_missing(cohort, key, known, samples)
    weights = dict(classes) if isinstance(classes, Mapping) else None
    wanted = None if classes is None else np.array([int(value) for value in classes])
    which, where = draws.unit(len(samples)), draws.unit(len(samples))
    found, at = np.zeros(len(samples), dtype=bool), np.zeros((len(samples), 3), dtype=np.int64)
    for n, sample in enumerate(samples.tolist()):
        voxels = known[sample]
        fits = voxels.values != 0 if wanted is None else np.isin(voxels.values, wanted)
        options = np.flatnonzero(fits)
        share = np.array([1.0 if weights is None else weights[v] for v in voxels.values[options].tolist()])
        if not share.sum() > 0:
            continue
        pick = min(int(np.searchsorted(np.cumsum(share), which[n] * share.sum(), "right")), len(options) - 1)
        places = voxels.places[options[pick]]
        found[n] = True
        at[n] = np.unravel_index(int(places[int(where[n] * len(places))]), cohort.shapes[sample][::-1])[::-1]
    return found, at


def _read_missing(cohort: Cohort, key: str, known: dict[int, ClassVoxels], samples: Ints) -> None:
    missing = [sample for sample in np.unique(samples).tolist() if sample not in known]
    room = max(_ALL // len(cohort), _LEAST)

    def read(sample: int) -> ClassVoxels:
        return _sampled(list(_frames(cohort, key, sample)), Draws(_PURPOSE, sample), room)

    with progress_bar(f"{key}: where the classes are", len(missing), None) as tell:
        for done, (number, outcome) in enumerate(run(read, missing, workers=_READERS), start=1):
            if isinstance(outcome, Exception):
                raise outcome
            known[missing[number]] = outcome
            tell(done, len(missing))


def _frames(cohort: Cohort, key: str, sample: int) -> Iterator[npt.NDArray[Any]]:
    """Every frame of every mask of a key, flat in disk order."""
    for number, stream in enumerate(cohort.streams):
        if stream.key == key:
            volume = cohort.volume(sample, number)
            block = np.ascontiguousarray(to_disk(volume.to_numpy(), volume.meta.dims))
            yield from block.reshape(stream.frames, -1)


def _sampled(frames: list[npt.NDArray[Any]], draws: Draws, room: int) -> ClassVoxels:
    """Some voxels of each value: chosen by their number among all of that value, then looked up."""
    voxels = frames[0].size
    slabs = [(frame[begin : begin + _SLAB], begin) for frame in frames for begin in range(0, voxels, _SLAB)]
    counted = [_counts(slab) for slab, _ in slabs]
    values = np.unique(np.concatenate([found for found, _ in counted]))
    per_class = min(_PER_CLASS, max(room // len(values), 1))
    small = np.dtype(np.uint32 if voxels <= 2**32 else np.int64)
    places = []
    for value in values:
        counts = np.array([int(n[found == value].sum()) for found, n in counted])
        total = int(counts.sum())
        chosen = np.arange(total)
        if total > per_class:
            # one of each of `per_class` equal parts: none twice, all equally likely
            edges = np.linspace(0, total, per_class + 1)
            chosen = (edges[:-1] + draws.unit(per_class) * np.diff(edges)).astype(np.int64)
        parts, before = [], 0
        for (slab, begin), count in zip(slabs, counts.tolist(), strict=True):
            mine = chosen[(chosen >= before) & (chosen < before + count)] - before
            if len(mine):
                parts.append(np.flatnonzero(slab == value)[mine] + begin)
            before += count
        places.append(np.concatenate(parts).astype(small))
    return ClassVoxels(values.astype(np.int64), tuple(places))


def _counts(slab: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Ints]:
    """The values of a slab and how often each occurs."""
    if slab.dtype.kind in "iu" and slab.dtype.itemsize <= 2:
        low = int(slab.min())
        counts = np.bincount(slab.astype(np.int64) - low)
        found = np.flatnonzero(counts)
        return found + low, counts[found]
    values, counts = np.unique(slab, return_counts=True)
    return values, counts
