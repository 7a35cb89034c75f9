"""Dtypes: the type that holds the voxels of several volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from radiobject.errors import AlignmentError

__all__ = ["common_dtype"]


def common_dtype(dtypes: Iterable[np.dtype[Any]], what: str) -> np.dtype[Any]:
    """The type that holds every value of all of these. `what` stands in errors.

    Raises `AlignmentError` where there is none: NumPy would make integers of 64 bits floats, which round
    those beyond 2**53.

    >>> common_dtype([np.dtype("int16"), np.dtype("uint16")], "array")
    dtype('int32')
    """
    kinds = set(dtypes)
    common = np.result_type(*kinds)
    if common.kind == "f" and any(k.kind in "iu" and k.itemsize >= common.itemsize for k in kinds):
        raise AlignmentError(
            what,
            expected="a type that holds all values",
            got=f"volumes of {', '.join(sorted(map(str, kinds)))}",
            hint="Bring them to one type first, with map().",
        )
    return common
