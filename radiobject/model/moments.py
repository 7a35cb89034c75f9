"""Moments: count, mean, spread and ends of the voxels of each label, added up piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

_STEP = 2**18
"""Voxels in one step: what the arithmetic needs beside them stays in the processor's cache."""

_EMPTY = {"n_voxels": 0, "n": 0, "mean": 0.0, "m2": 0.0, "low": np.inf, "high": -np.inf}


@dataclass(frozen=True)
class Moments:
    """One entry for each label, ascending: `n_voxels` counts all its voxels, the rest is of finite ones.

    `m2` is the sum of squared deviations from the mean. A label without finite voxels has n and m2 zero.
    """

    labels: npt.NDArray[Any]
    n_voxels: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    m2: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def none(cls, dtype: npt.DTypeLike) -> Moments:
        """Of no voxels, with labels of that type."""
        return _step(np.empty(0), np.empty(0, dtype))

    @classmethod
    def of(cls, values: npt.NDArray[Any], labels: npt.NDArray[Any], *, background: bool) -> Moments:
        """Of an array and its integer labels, of one shape; the label 0 is left out without `background`."""
        # columns lie behind one another in what reads return
        values, labels = values.ravel(order="F"), labels.ravel(order="F")
        found = cls.none(labels.dtype)
        for at in range(0, values.size, _STEP):
            step, label = values[at : at + _STEP], labels[at : at + _STEP]
            if not background:
                step, label = step[label != 0], label[label != 0]
            found |= _step(step, label)
        return found

    def __or__(self, other: Moments) -> Moments:
        """Both together, by the pairwise update of Chan, Golub and LeVeque (1983), The American Statistician
        37, 242-247: exact counts, and no sum of squares that cancels."""
        labels = np.union1d(self.labels, other.labels)
        a, b = self._spread(labels), other._spread(labels)
        n = a.n + b.n
        some, apart = np.maximum(n, 1), b.mean - a.mean
        return Moments(
            labels,
            a.n_voxels + b.n_voxels,
            n,
            a.mean + apart * (b.n / some),
            a.m2 + b.m2 + apart * apart * (a.n / some) * b.n,
            np.minimum(a.low, b.low),
            np.maximum(a.high, b.high),
        )

    def _spread(self, labels: npt.NDArray[Any]) -> Moments:
        """The same among more labels, of which those that are new have no voxels."""
        if len(labels) == len(self.labels):
            return self
        at = np.searchsorted(labels, self.labels)
        grown = {"labels": labels}
        for name, empty in _EMPTY.items():
            values = getattr(self, name)
            grown[name] = np.full(len(labels), empty, values.dtype)
            grown[name][at] = values
        return replace(self, **grown)


def _step(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Moments:
    """Of few voxels, both flat, in two passes."""
    distinct, codes = _coded(labels)
    k = len(distinct)
    n_voxels = np.bincount(codes, minlength=k)
    floats = values.astype(np.float64)
    if not (finite := np.isfinite(floats)).all():
        floats, codes = floats[finite], codes[finite]
    n = np.bincount(codes, minlength=k)
    some = np.maximum(n, 1)
    mean = np.bincount(codes, floats, k) / some
    low, high = np.full(k, np.inf), np.full(k, -np.inf)
    np.minimum.at(low, codes, floats)
    np.maximum.at(high, codes, floats)
    floats -= mean[codes]
    # the corrected two-pass algorithm: what rounding has left in the mean is taken out again
    rest = np.bincount(codes, floats, k) / some
    m2 = np.maximum(np.bincount(codes, floats * floats, k) - n * rest * rest, 0.0)
    return Moments(distinct, n_voxels, n, mean + rest, m2, low, high)


def _coded(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The distinct labels, ascending, and for each voxel which of them it has."""
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if int(high) - int(low) >= 2**16 or not labels.size:
        distinct, codes = np.unique(labels, return_inverse=True)
        return distinct, codes
    # differences of unsigned integers cannot overflow in their own type, those of signed ones can
    wide = labels.dtype if labels.dtype.kind == "u" else np.dtype(np.int64)
    offsets = np.subtract(labels, low, dtype=wide).astype(np.intp)
    seen = np.flatnonzero(np.bincount(offsets))
    place = np.zeros(int(high) - int(low) + 1, np.intp)
    place[seen] = np.arange(len(seen))
    return (seen.astype(wide) + wide.type(low)).astype(labels.dtype), place[offsets]
