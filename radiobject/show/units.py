"""Units: volumes as pictures and viewers take them, in millimetres, whatever length their affine is in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from radiobject.errors import MissingObjectError, RadiObjectError, SelectionError
from radiobject.format.meta import MM
from radiobject.model.volume import Volume

if TYPE_CHECKING:
    from radiobject.model.voxels import Row

__all__ = ["decimals", "in_mm", "overlay_in_mm"]

_MOST_DECIMALS = 9


def in_mm(volume: Volume) -> Volume:
    """The same lazy volume with its affine, and that of its row, in mm; itself where they are already.

    >>> from dataclasses import replace
    >>> from radiobject import Volume
    >>> slide = Volume.from_numpy(np.zeros((4, 4, 4), "u1"), np.diag([50.0, 50.0, 80.0, 1.0]))
    >>> slide = slide._derived(meta=replace(slide.meta, space_unit="um"))
    >>> in_mm(slide).spacing
    (0.05, 0.05, 0.08)
    """
    factor = MM.get(volume.meta.space_unit)
    if factor is None:
        return volume
    meta = replace(volume._meta, affine=volume._stored_affine.scaled(factor), space_unit="mm")
    made = volume._derived(meta=meta, region=volume._region)
    made._row = None if volume._row is None else _RowInMm(volume._row, factor)
    return made


def overlay_in_mm(overlay: Volume | None) -> Volume | None:
    """An overlay as `in_mm` has it, if there is one; `SelectionError` for what is no Volume."""
    if overlay is None:
        return None
    if not isinstance(overlay, Volume):
        raise SelectionError(
            "overlay=", expected="a Volume", got=type(overlay).__name__,
            hint="Volume.from_numpy(array, affine) makes one, kind=\"label\" for labels.",
        )  # fmt: skip
    return in_mm(overlay)


@dataclass(frozen=True)
class _RowInMm:
    """A row of obs whose lengths are in mm."""

    row: Row
    factor: float

    def values(self) -> dict[str, Any]:
        found = dict(self.row.values())
        found |= {n: found[n] * self.factor for n in ("spacing_x", "spacing_y", "spacing_z") if found.get(n)}
        if found.get("affine") is not None:
            matrix = np.array(found["affine"], np.float64).reshape(4, 4)
            matrix[:3] *= self.factor
            found["affine"] = matrix.ravel().tolist()
        return found

    def explain(self, error: MissingObjectError) -> RadiObjectError:
        return self.row.explain(error)


def decimals(spacing: Sequence[float]) -> int:
    """How many decimals a place in mm needs, so that neighbouring voxels differ: one, more below 0.1 mm.

    >>> decimals((0.7, 0.7, 5.0)), decimals((0.02, 0.02, 0.05))
    (1, 2)
    """
    return min(max(1, math.ceil(-math.log10(min(spacing)))), _MOST_DECIMALS)
