"""Draws: random numbers that follow from their key alone, on every machine and with every NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Draws"]


class Draws:
    """A stream of draws for a key, such as (seed, epoch, purpose). Equal keys give equal streams.

    Of NumPy only what it promises never to change is used: `SeedSequence`, and the raw bits of Philox (NEP 19
    lets methods of `Generator` change their streams between versions).

    >>> Draws(7, 0).below([10, 10, 1000]).tolist() == Draws(7, 0).below([10, 10, 1000]).tolist()
    True
    """

    def __init__(self, *key: int) -> None:
        state = np.random.SeedSequence(key).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=state)

    def raw(self, n: int) -> npt.NDArray[np.uint64]:
        """`n` numbers of 64 random bits."""
        return np.atleast_1d(np.asarray(self._bits.random_raw(n), dtype=np.uint64))

    def unit(self, n: int) -> npt.NDArray[np.float64]:
        """`n` numbers in [0, 1), each a multiple of 2**-53."""
        found: npt.NDArray[np.float64] = (self.raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return found

    def below(self, bounds: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """For each bound (1 or more) a whole number from 0 to bound - 1, of the bounds' shape."""
        limits = np.asarray(bounds, dtype=np.int64)
        return (self.unit(limits.size).reshape(limits.shape) * limits).astype(np.int64)

    def order(self, n: int) -> npt.NDArray[np.int64]:
        """A permutation of 0 to n - 1."""
        found: npt.NDArray[np.int64] = np.argsort(self.raw(n), kind="stable").astype(np.int64)
        return found

    def picks(self, weights: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
        """`n` places, each drawn with its weight's share of the sum."""
        sums = np.cumsum(np.asarray(weights, dtype=np.float64))
        found: npt.NDArray[np.intp] = np.searchsorted(sums, self.unit(n) * sums[-1], side="right")
        return np.minimum(found, len(sums) - 1).astype(np.int64)
