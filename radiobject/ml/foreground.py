"""Foreground: where the voxels of each class of a mask lie, from its index; patches are centred on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError
from radiobject.executor import progress_bar, run
from radiobject.forking import renew_on_fork
from radiobject.format.foreground import ForegroundIndex
from radiobject.format.layout import to_disk
from radiobject.geometry.affine import Affine
from radiobject.ml.draws import Draws
from radiobject.model.foreground import stored_index
from radiobject.writing.foreground import PLACES, index_voxels

if TYPE_CHECKING:
    from radiobject.ml.cohort import Cohort

__all__ = ["ClassVoxels", "Indexes", "centres", "holding", "voxels_of"]

Ints = npt.NDArray[np.int64]

_ALL = 256 * 2**20
"""Bytes of places that are kept of all masks of a cohort; but never fewer than `_LEAST` a mask."""

_LEAST = 4000
_READERS = 8
"""Masks read at a time: each that has no index is in memory as a whole."""


@dataclass(frozen=True)
class ClassVoxels:
    """The values of one mask, and for each some of its voxels as places in the sample's memory (z, y, x)."""

    values: Ints
    places: tuple[Ints, ...]


class Indexes:
    """The indexes at hand in this process: stored ones while there is room, those of masks that were read.

    None makes way for another: epochs go over all masks in one order, which would find each just gone.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], ForegroundIndex] = {}
        self._stored: dict[tuple[int, int], ForegroundIndex] = {}
        self._bytes = 0
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()

    def of(self, cohort: Cohort, sample: int, stream: int, *, stored: bool) -> ForegroundIndex:
        """The index of one volume: as it is stored, or made from its voxels."""
        key = (sample, stream)
        found = self._kept(cohort, key) if stored else None
        if found is None:
            with self._lock:
                found = self._made.get(key)
        return self._read(cohort, key) if found is None else found

    def _kept(self, cohort: Cohort, key: tuple[int, int]) -> ForegroundIndex | None:
        """The stored index. It goes before one made from voxels, which may have fewer places."""
        with self._lock:
            found = self._stored.get(key)
        if found is None:
            sample, stream = key
            study, name = cohort.studies[stream], cohort.streams[stream].collection
            found = stored_index(study, name, int(cohort.positions[sample, stream]))
            with self._lock:
                if found is not None and key not in self._stored and self._bytes + found.nbytes <= _ALL:
                    self._stored[key] = found
                    self._bytes += found.nbytes
        return found

    def _read(self, cohort: Cohort, key: tuple[int, int]) -> ForegroundIndex:
        volume = cohort.stored_volume(*key)
        voxels = to_disk(volume.to_numpy(), volume.meta.dims)
        with np.errstate(invalid="ignore"):
            whole = voxels.astype(np.int64, copy=False) if voxels.dtype.kind == "f" else voxels
        room = min(max(_ALL // len(cohort), _LEAST), PLACES)
        made = index_voxels(whole, volume._handle.spec.chunks[-3:], places=room, most=int(voxels.size))
        if made is None or (whole != voxels).any():
            raise ConfigError(
                f"Foreground on {volume.obs_id}", expected="integers of at most 64 bits with a sign",
                got=f"other values ({voxels.dtype})",
            )  # fmt: skip
        with self._lock:
            return self._made.setdefault(key, made)


def centres(
    cohort: Cohort,
    key: str | None,
    classes: Sequence[int] | Mapping[int, float] | None,
    samples: Ints,
    draws: Draws,
    *,
    stored: bool = True,
) -> tuple[npt.NDArray[np.bool_], Ints]:
    """A foreground voxel for each of `samples`: (found (n,), voxels x, y, z (n, 3)); 0 where none is.

    The class is drawn among those of `classes` (None: all but 0) that the mask has, by weight where they are
    a mapping, then a voxel of it. Indexes are read when first needed, several at a time; a mask that has
    none, or with `stored=False`, is read as a whole, once in a process.

    Raises `ConfigError` when the samples have no such mask, and what reading raises.
    """
    key = _mask_key(cohort, key)
    weights = dict(classes) if isinstance(classes, Mapping) else None
    wanted = None if classes is None else np.array([int(value) for value in classes])
    which, where = draws.unit(len(samples)), draws.unit(len(samples))
    found, at = np.zeros(len(samples), dtype=bool), np.zeros((len(samples), 3), dtype=np.int64)
    order = np.argsort(samples, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(samples[order])) + 1) if len(samples) else []

    def choose(group: Ints) -> None:
        masks = _masks(cohort, key, int(samples[group[0]]), stored=stored)
        for n in group.tolist():
            voxel = _drawn(masks, wanted, weights, float(which[n]), float(where[n]))
            if voxel is not None:
                found[n], at[n] = True, voxel

    with (
        progress_bar(f"{key}: where the classes are", len(groups), None) as tell,
        closing(run(choose, groups, workers=_READERS)) as results,
    ):
        for done, (_, outcome) in enumerate(results, start=1):
            if isinstance(outcome, Exception):
                raise outcome
            tell(done, len(groups))
    return found, at


def voxels_of(cohort: Cohort, key: str | None, sample: int) -> ClassVoxels:
    """Every value of a sample's mask with some of its voxels, on the sample's grid; from its index.

    A value whose known voxels all lie outside of that grid is left out. Raises as `centres`.
    """
    masks = _masks(cohort, _mask_key(cohort, key), sample, stored=True)
    shape = cohort.shapes[sample][::-1]
    values, places = [], []
    for value in np.unique(np.concatenate([mask.index.values for mask in masks])).tolist():
        voxels = np.concatenate([mask.voxels(value) for mask in masks])
        if len(voxels):
            values.append(value)
            places.append(np.ravel_multi_index(tuple(voxels[:, ::-1].T), shape))
    return ClassVoxels(np.array(values, dtype=np.int64), tuple(places))


def holding(
    cohort: Cohort,
    key: str | None,
    classes: Sequence[int] | None,
    sample: int,
    starts: Ints,
    size: Ints,
) -> npt.NDArray[np.bool_]:
    """Which patches (starts (n, 3), size (3,), voxels x, y, z) may hold a voxel of a class; from indexes.

    Those that are not among them surely hold none: a patch counts when it touches a block that does.
    """
    found = np.zeros(len(starts), dtype=bool)
    for mask in _masks(cohort, _mask_key(cohort, key), sample, stored=True):
        low, high = mask.boxes(classes)
        for first, last in zip(low, high, strict=True):
            found |= ((starts < last) & (starts + size > first)).all(axis=1)
    return found


class _Mask:
    """One volume of a sample's mask: its index, and the way from its grid to the sample's."""

    def __init__(self, cohort: Cohort, sample: int, stream: int, index: ForegroundIndex) -> None:
        self.index = index
        self._shape = cohort.shapes[sample]
        self._turn: npt.NDArray[np.float64] | None = None
        spec = cohort.spec
        if spec.axcodes is not None or spec.spacing is not None or cohort.regrid[sample, stream]:
            meta = cohort.stored_volume(sample, stream).meta
            own = meta.affine.scaled(meta.side)
            self._turn = Affine(cohort.affines[sample]).inverse().compose(own).matrix

    def count(self, value: int) -> int:
        """How many voxels have the value."""
        place = int(np.searchsorted(self.index.values, value))
        held = place < len(self.index.values) and self.index.values[place] == value
        return int(self.index.counts[place]) if held else 0

    def boxes(self, classes: Sequence[int] | None) -> tuple[Ints, Ints]:
        """The blocks that hold one of the classes, on the sample's grid: (n, 3) x, y, z, from and up to."""
        index = self.index
        wanted = index.values != 0 if classes is None else np.isin(index.values, np.asarray(list(classes)))
        numbers = [index.blocks[n][0] for n in np.flatnonzero(wanted)]
        held = np.unique(np.concatenate(numbers)) if numbers else np.empty(0, np.int64)
        grid = [-(-n // b) for n, b in zip(index.shape, index.block, strict=True)]
        corner = np.stack(np.unravel_index(held.astype(np.int64), grid), axis=-1) * index.block
        low, high = corner[:, ::-1], np.minimum(corner + index.block, index.shape)[:, ::-1]
        if self._turn is None:
            return low, high
        # the outer faces of the voxels, so that a resampled voxel within a block is within its box
        ends = np.stack([low, high], axis=1) - 0.5
        corners = np.stack(
            [ends[:, c, (0, 1, 2)] for c in np.ndindex(2, 2, 2)], axis=1
        ) @ self._turn[:3, :3].T + self._turn[:3, 3]  # fmt: skip
        return (
            np.floor(corners.min(axis=1)).astype(np.int64),
            np.ceil(corners.max(axis=1)).astype(np.int64) + 1,
        )

    def voxels(self, value: int, one: float | None = None) -> Ints:
        """The known voxels of a value on the sample's grid, x, y, z (n, 3); `one` in [0, 1) picks one.

        Resampled, a voxel is the one of the new grid that lies nearest to its centre.
        """
        place = int(np.searchsorted(self.index.values, value))
        if place == len(self.index.values) or self.index.values[place] != value:
            return np.empty((0, 3), dtype=np.int64)
        places = self.index.places[place]
        if one is None:
            return self._placed(places)
        at = one * len(places)
        found = self._placed(places[int(at)][None])
        if len(found):
            return found
        found = self._placed(places)
        # what is behind the point of `at` is as even as `one`, so that each of them is as likely as any other
        return found[int(at % 1 * len(found))][None] if len(found) else found

    def _placed(self, places: npt.NDArray[Any]) -> Ints:
        """Places as voxels of the sample's grid, x, y, z; without those outside of it."""
        found: Ints = np.stack(np.unravel_index(places, self.index.shape)[::-1], axis=-1).astype(np.int64)
        if self._turn is None:
            return found
        moved = np.rint(found @ self._turn[:3, :3].T + self._turn[:3, 3]).astype(np.int64)
        inside: Ints = moved[((moved >= 0) & (moved < self._shape)).all(axis=1)]
        return inside


def _mask_key(cohort: Cohort, key: str | None) -> str:
    masks = list(cohort.spec.masks)
    if not masks or (key is not None and key not in masks):
        raise ConfigError(
            "Foreground", expected=f"a mask among {masks}" if masks else "SampleSpec(masks=)", got=repr(key)
        )
    return key or masks[0]


def _masks(cohort: Cohort, key: str, sample: int, *, stored: bool) -> list[_Mask]:
    return [
        _Mask(cohort, sample, number, cohort.indexes.of(cohort, sample, number, stored=stored))
        for number, stream in enumerate(cohort.streams)
        if stream.key == key
    ]


def _drawn(
    masks: Sequence[_Mask], wanted: Any, weights: Mapping[int, float] | None, which: float, where: float
) -> Ints | None:
    """One voxel of one of the wanted classes; None when there is none on the sample's grid."""
    values = np.unique(np.concatenate([mask.index.values for mask in masks]))
    options = values[values != 0 if wanted is None else np.isin(values, wanted)].tolist()
    while options:
        share = np.cumsum([1.0 if weights is None else weights[value] for value in options])
        if not share[-1] > 0:
            return None
        pick = min(int(np.searchsorted(share, which * share[-1], "right")), len(options) - 1)
        value = options[pick]
        held = np.cumsum([mask.count(value) for mask in masks])
        number = int(np.searchsorted(held, where * held[-1], "right"))
        first = int(held[number - 1]) if number else 0
        one = (where * held[-1] - first) / (held[number] - first)
        # resampled, those of one mask or of all may lie outside
        for mask in (masks[number], *masks[:number], *masks[number + 1 :]):
            if len(voxels := mask.voxels(value, one)):
                chosen: Ints = voxels[0]
                return chosen
        options.pop(pick)
    return None
