"""What is usual among many values, and what is not: median and MAD for numbers, counts for names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FAR", "FEWEST", "MOST_USUAL", "distances", "rare", "share", "usual"]

FAR = 5.0
"""Robust z beyond which a number is far from the others. 3.5 is the book's; here thousands are looked at."""

FEWEST = 8
"""Of fewer values nothing is said to be usual."""

MOST_USUAL = 0.8
"""A value is the usual one when at least this share has it."""

_RARE = 0.05
_CONSISTENT = 1.4826
"""Turns the MAD of normally distributed numbers into their standard deviation."""

Floats = npt.NDArray[np.float64]


def distances(values: Floats, least: float) -> Floats:
    """Robust z of each value: its distance from the median in units of 1.4826 MAD, or of `least` if larger.

    The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993). `least` keeps
    values that are nearly all the same from making every other one far. NaN stays NaN and counts for
    nothing; with fewer than `FEWEST` numbers, or without any spread and `least`, all are NaN.

    >>> distances(np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0, 9.0]), 0.1).round(1).tolist()
    [0.0, 1.0, -1.0, 0.0, 0.5, -0.5, 0.0, 80.0]
    """
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    spread: float = max(_CONSISTENT * float(np.median(np.abs(known - median))), least)
    if spread == 0:
        return np.full(values.shape, np.nan)
    return np.where(np.isfinite(values), values - median, np.nan) / spread


def usual(values: Sequence[Hashable]) -> tuple[Any, int] | None:
    """The value that at least `MOST_USUAL` of `FEWEST` or more have, and how many; None if there is none.

    >>> usual(["RAS"] * 9 + ["LAS"]), usual(["RAS"] * 6 + ["LAS"] * 4)
    (('RAS', 9), None)
    """
    if len(values) < FEWEST:
        return None
    value, count = Counter(values).most_common(1)[0]
    return (value, count) if count >= MOST_USUAL * len(values) else None


def rare(values: Sequence[Hashable], at_most: float = _RARE) -> list[int]:
    """Positions of values that are not the usual one, each shared by one or by `at_most` of all.

    >>> rare(["RAS"] * 9 + ["LAS"])
    [9]
    >>> rare(["RAS"] * 16 + ["LAS"] * 4)  # a second group, no outliers
    []
    """
    found = usual(values)
    if found is None:
        return []
    counts, most = Counter(values), max(1, math.floor(at_most * len(values)))
    return [i for i, value in enumerate(values) if value != found[0] and counts[value] <= most]


def share(count: int, of: int) -> str:
    """ "3 of 12"."""
    return f"{count:,} of {of:,}"
