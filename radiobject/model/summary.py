"""Summary: statistics and histogram of a volume, from its obs row where that has them, else from voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import SelectionError

__all__ = [
    "Histogram",
    "checked_percentiles",
    "histogram_of",
    "statistics_of",
    "stored_histogram",
    "stored_statistics",
]

Histogram = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]

_STORED_BINS = 256


def checked_percentiles(percentiles: Sequence[float] | None) -> dict[str, float]:
    """Name of each percentile ("p1", "p99.5") and its value; `SelectionError` outside 0 to 100."""
    found = {}
    for value in percentiles or ():
        if not isinstance(value, int | float | np.number) or not 0 <= value <= 100:
            raise SelectionError("percentiles", expected="numbers from 0 to 100", got=repr(value))
        found[f"p{float(value):g}"] = float(value)
    return found


def stored_statistics(row: Mapping[str, Any], percentiles: Mapping[str, float]) -> dict[str, float] | None:
    """What ingest computed, from the obs row; None when it lacks something asked for."""
    names = {"mean": "mean", "std": "std", "min": "min", "max": "max", "median": "p50"}
    names |= {name: name.replace(".", "_") for name in percentiles}
    found = {name: row.get(f"intensity_{column}") for name, column in names.items()}
    return (
        None
        if any(v is None for v in found.values())
        else {k: float(v) for k, v in found.items() if v is not None}
    )


def statistics_of(voxels: npt.NDArray[Any], percentiles: Mapping[str, float]) -> dict[str, float]:
    """The same from voxels. NaN and infinite ones do not count; without others every number is NaN."""
    finite = _finite(voxels)
    if not finite.size:
        return dict.fromkeys(("mean", "std", "min", "max", "median", *percentiles), math.nan)
    ranks = np.percentile(finite, [50.0, *percentiles.values()], method="inverted_cdf").tolist()
    return {
        "mean": float(finite.mean(dtype=np.float64)),
        "std": float(finite.std(dtype=np.float64)),
        "min": float(finite.min()),
        "max": float(finite.max()),
        **dict(zip(("median", *percentiles), map(float, ranks), strict=True)),
    }


def stored_histogram(row: Mapping[str, Any], bins: int) -> Histogram | None:
    """The histogram over the whole range that ingest computed, from the obs row; None for other bins."""
    counts, low, high = (row.get(f"intensity_{name}") for name in ("histogram", "min", "max"))
    if counts is None or low is None or high is None or not low < high or bins != _STORED_BINS:
        return None
    return np.array(counts, dtype=np.int64), np.linspace(low, high, bins + 1)


def histogram_of(voxels: npt.NDArray[Any], bins: int, value_range: tuple[float, float] | None) -> Histogram:
    """The same from voxels; `np.histogram` of the finite ones."""
    try:
        counts, edges = np.histogram(_finite(voxels), bins=bins, range=value_range)
    except (TypeError, ValueError) as error:
        raise SelectionError(
            "histogram", expected="bins above zero and a range (low, high)", got=f"{bins}, {value_range}"
        ) from error
    return counts.astype(np.int64), edges.astype(np.float64)


def _finite(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    flat = voxels.ravel(order="K")
    return flat if flat.dtype.kind != "f" else flat[np.isfinite(flat)]
