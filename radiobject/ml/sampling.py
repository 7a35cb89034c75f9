"""Sampling: where the patches of an epoch lie; decided from draws and tables alone, or from masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, MetadataError
from radiobject.ml.cohort import Cohort
from radiobject.ml.draws import Draws
from radiobject.ml.foreground import centres, holding

__all__ = ["Foreground", "Grid", "Places", "Sampling", "Uniform", "Weighted"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Patches in the order in which they are read.

    `sample` (patches,), `start` (patches, 3) in voxels x, y, z, negative where a volume is smaller than the
    patch, and `visit` (patches,): patches of one visit lie close together in one volume.
    """

    sample: Ints
    start: Ints
    visit: Ints


class Sampling(Protocol):
    """A way to place patches of `sizes` (samples, 3). Equal arguments give equal places, on every machine."""

    def places(self, cohort: Cohort, sizes: Ints, draws: Draws, locality: int) -> Places: ...


@dataclass(frozen=True)
class Uniform:
    """Every volume `per_volume` times; every place that fits the volume equally likely, those at borders too.

    With `locality` k the patches of a volume come in visits of k. A visit draws a cell of start positions
    with the share of all positions that it holds, then its patches within: each patch for itself is as
    uniform as without.
    """

    per_volume: int = 1

    def __post_init__(self) -> None:
        _whole("Uniform(per_volume=)", self.per_volume)

    def places(self, cohort: Cohort, sizes: Ints, draws: Draws, locality: int) -> Places:
        """One epoch."""
        samples = np.repeat(np.arange(len(cohort), dtype=np.int64), self.per_volume)
        return _scattered(cohort, sizes, draws, samples, locality)


@dataclass(frozen=True)
class Weighted:
    """`number` patches (default: one for each sample), volumes drawn with replacement by weight.

    `by` is a numeric column of the volume or subject table, or a weight for each sample.
    """

    by: str | Sequence[float]
    number: int | None = None

    def __post_init__(self) -> None:
        if self.number is not None:
            _whole("Weighted(number=)", self.number)
        if not isinstance(self.by, str):
            object.__setattr__(self, "by", tuple(float(weight) for weight in self.by))

    def places(self, cohort: Cohort, sizes: Ints, draws: Draws, locality: int) -> Places:
        """One epoch. Raises `MetadataError` for weights that are missing, negative, infinite or all 0."""
        weights = self._weights(cohort)
        picked = draws.picks(weights, -(-(self.number or len(cohort)) // locality))
        several = np.repeat(picked, locality)[: self.number or len(cohort)]
        return _scattered(cohort, sizes, draws, several, locality)

    def _weights(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        named = isinstance(self.by, str)
        given = cohort.column(self.by) if isinstance(self.by, str) else self.by
        weights = np.asarray(given, dtype=np.float64)
        if weights.shape != (len(cohort),):
            raise ConfigError(
                "Weighted(by=)", expected=f"{len(cohort)} weights, one a sample", got=str(weights.shape)
            )
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(bad) or not weights.sum() > 0:
            where = f"column {self.by!r}" if named else "Weighted(by=)"
            got = f"{weights[bad[0]]} for {cohort.obs_ids[bad[0]]}" if len(bad) else "all 0"
            raise MetadataError(where, expected="weights of 0 or more, one of them above", got=got)
        return weights


@dataclass(frozen=True)
class Grid:
    """Every volume covered by patches that overlap by at least `overlap` voxels (one number or x, y, z).

    Patches lie evenly; the first begins at 0 and the last ends with the volume. Nothing is drawn.

    `containing` leaves out patches that surely hold no voxel of these values of the first mask, as its
    foreground index tells: whole blocks count, so that a patch that stays may still have none.
    """

    overlap: int | tuple[int, int, int] = 0
    containing: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.containing is not None:
            object.__setattr__(self, "containing", _classes("Grid(containing=)", self.containing))

    def places(self, cohort: Cohort, sizes: Ints, draws: Draws, locality: int) -> Places:
        """Volume by volume, x slowest.

        Raises `ConfigError` for an overlap that leaves no step, and for `containing` without a mask.
        """
        overlap = np.broadcast_to(np.asarray(self.overlap, dtype=np.int64), (3,))
        if (overlap < 0).any() or (overlap >= np.maximum(sizes.min(axis=0), 1)).any():
            raise ConfigError(
                "Grid(overlap=)", expected=f"from 0 to less than the patch {tuple(sizes[0].tolist())}",
                got=repr(self.overlap),
            )  # fmt: skip
        samples, starts, visits, seen = [], [], [], 0
        for number, (shape, size) in enumerate(zip(cohort.shapes.tolist(), sizes.tolist(), strict=True)):
            axes = [_steps(n, p, o) for n, p, o in zip(shape, size, overlap.tolist(), strict=True)]
            places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
            if self.containing is not None:
                places = places[holding(cohort, None, self.containing, number, places, np.array(size))]
            starts.append(places)
            samples.append(np.full(len(places), number, dtype=np.int64))
            visits.append(np.arange(len(places)) // locality + seen)
            seen += -(-len(places) // locality)
        return Places(np.concatenate(samples), np.concatenate(starts), np.concatenate(visits))


@dataclass(frozen=True)
class Foreground:
    """As `Uniform`, but a share `fraction` of the patches is centred on a voxel of a mask.

    `classes` are the mask's values that count, each equally likely where a volume has several (a mapping
    gives them weights); None means all but 0. Patches are moved inwards to fit the volume, as nnU-Net does.
    A volume without any of them gets uniform patches. `key` is the mask's key, None the first.

    Where the voxels of a class lie is read from the masks' foreground indexes, some kilobytes each. A mask
    that has none (`RadiObject.index_foreground` builds them) is read as a whole when a plan first needs it,
    and so is each with `index=False`.
    """

    fraction: float = 1 / 3
    classes: Sequence[int] | Mapping[int, float] | None = None
    per_volume: int = 1
    key: str | None = None
    index: bool = True

    def __post_init__(self) -> None:
        _whole("Foreground(per_volume=)", self.per_volume)
        if not 0 <= self.fraction <= 1:
            raise ConfigError("Foreground(fraction=)", expected="from 0 to 1", got=repr(self.fraction))
        if self.classes is not None:
            object.__setattr__(self, "classes", _weighted("Foreground(classes=)", self.classes))

    def places(self, cohort: Cohort, sizes: Ints, draws: Draws, locality: int) -> Places:
        """One epoch. Raises `ConfigError` when the samples have no mask, `StaleIndexError`."""
        samples = np.repeat(np.arange(len(cohort), dtype=np.int64), self.per_volume)
        made = _scattered(cohort, sizes, draws, samples, locality)
        # the same number in every epoch, give or take one
        count = int(len(samples) * self.fraction + draws.unit(1)[0])
        chosen = np.sort(draws.order(len(samples))[:count])
        found, at = centres(cohort, self.key, self.classes, samples[chosen], draws, stored=self.index)
        size = sizes[samples[chosen]]
        room = cohort.shapes[samples[chosen]] - size
        starts = np.where(room < 0, made.start[chosen], np.clip(at - size // 2, 0, np.maximum(room, 0)))
        start, visit = made.start.copy(), made.visit.copy()
        start[chosen[found]] = starts[found]
        # it lies where the mask is, not near the others of its visit
        visit[chosen[found]] = visit.max(initial=0) + 1 + np.arange(int(found.sum()))
        return Places(made.sample, start, visit)


def _scattered(cohort: Cohort, sizes: Ints, draws: Draws, samples: Ints, locality: int) -> Places:
    """Uniform places in these volumes; runs of the same volume are cut into visits of `locality`."""
    number = np.arange(len(samples))
    first = np.flatnonzero(np.diff(samples, prepend=-1))
    run = np.cumsum(np.isin(number, first)) - 1
    within = number - first[run]
    visit = np.cumsum((within % locality == 0).astype(np.int64)) - 1
    size = sizes[samples]
    room = cohort.shapes[samples] - size
    options = np.maximum(room, 0) + 1
    if locality == 1:
        start = draws.below(options)
    else:
        side = _cells(size, locality)
        opening = np.flatnonzero(np.diff(visit, prepend=-1))
        # a place drawn uniformly lies in a cell with that cell's share of all places
        cell = draws.below(options[opening])[visit] // side * side
        start = cell + draws.below(np.minimum(side, options - cell))
    return Places(samples, np.where(room < 0, room // 2, start), visit)


def _cells(size: Ints, locality: int) -> Ints:
    """Sides of cells of start positions: the patches in one together cover about as much as they hold."""
    side: Ints = np.maximum(np.round(size * (locality ** (1 / 3) - 1)), 1).astype(np.int64)
    return side


def _steps(n: int, patch: int, overlap: int) -> Ints:
    if n <= patch:
        return np.array([(n - patch) // 2], dtype=np.int64)
    count = math.ceil((n - patch) / (patch - overlap)) + 1
    return np.floor(np.linspace(0, n - patch, count) + 0.5).astype(np.int64)


def _weighted(what: str, classes: Any) -> tuple[int, ...] | dict[int, float]:
    """Values of a mask, or their weights: `ConfigError` for what would find no voxel in any mask."""
    values = _classes(what, classes)
    if not isinstance(classes, Mapping):
        if not values:
            raise ConfigError(what, expected="some values of the mask, or None for all but 0", got="none")
        return values
    try:
        weights = [float(weight) for weight in classes.values()]
    except (TypeError, ValueError):
        weights = []
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
        raise ConfigError(what, expected="weights of 0 or more, one of them above", got=repr(classes))
    return dict(zip(values, weights, strict=True))


def _classes(what: str, values: Any) -> tuple[int, ...]:
    try:
        given = list(values)
        found = tuple(int(value) for value in given)
    except (OverflowError, TypeError, ValueError):
        found, given = (), [values]
    if list(found) != given:
        raise ConfigError(what, expected="a list of integers, as the mask has them", got=repr(values))
    return found


def _whole(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(what, expected="an int, at least 1", got=repr(value))
