"""What the dimensions of a NIfTI header are: x, y, z, then time, channel or nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from radiobject.errors import AxisAmbiguousError, ConfigError, SourceCorruptError, SourceUnsupportedError
from radiobject.writing.loaded import Axis4

__all__ = ["HeaderAxes"]

_UNITS = {8: "s", 16: "ms", 24: "us", 32: "hz", 40: "ppm", 48: "rads"}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
# general and symmetric matrix, displacement, vector, point set, quaternion, RGB and RGBA vector
_VECTOR_INTENTS = frozenset({1004, 1005, 1006, 1007, 1008, 1010, 2003, 2004})


@dataclass(frozen=True)
class HeaderAxes:
    """The fields of one header that bear on its axes: `dim` (8), `xyzt_units`, `intent_code`, `pixdim[4]`."""

    name: str
    dim: tuple[int, ...]
    intent: int
    units: int
    step: float

    @property
    def unit(self) -> str | None:
        """The unit of the fourth axis ("s", "ms", "us", "hz", "ppm", "rads"), None when not stated."""
        return _UNITS.get(self.units & 0o70)

    @property
    def seconds(self) -> float | None:
        """Seconds between volumes; a step without a unit is in seconds."""
        if not 0 < self.step < math.inf:
            return None
        return self.step / _PER_SECOND.get(self.unit or "s", 1)

    def named(self, axis4: Axis4) -> tuple[tuple[str, ...], dict[str, int]]:
        """The axes of the file, fastest first, with "1" for a dimension of size 1 after the third; and sizes.

        >>> HeaderAxes("a.nii", (5, 64, 64, 30, 1, 3, 1, 1), 1007, 2, 1.0).named("auto")
        (('x', 'y', 'z', '1', 'c'), {'x': 64, 'y': 64, 'z': 30, 'c': 3})
        """
        if axis4 not in ("auto", "time", "channel"):
            raise ConfigError("axis4", expected='"auto", "time" or "channel"', got=repr(axis4))
        rank = self.dim[0]
        shape = self.dim[1 : rank + 1]
        if min(shape) < 1:
            raise SourceCorruptError(self.name, expected="dimensions of 1 or more", got=str(shape))
        if rank < 3 or any(n > 1 for n in shape[5:]):
            raise SourceUnsupportedError(
                self.name, expected="x, y, z and at most a fourth and a fifth dimension", got=str(shape)
            )
        fourth, fifth = (*shape[3:], 1, 1)[:2]
        axes = ["x", "y", "z"] + ["1"] * (rank - 3)
        if fourth > 1:
            # nifti1.h: with values in dimension 5, dimension 4 is time
            axes[3] = "t" if axis4 == "time" or (axis4 == "auto" and fifth > 1) else self._fourth(axis4)
        if fifth > 1:
            axes[4] = "c"
        if axes.count("c") > 1:
            raise SourceUnsupportedError(
                self.name, expected="one channel axis", got=str(shape), hint='Pass axis4="time".'
            )
        return tuple(axes), {axis: n for axis, n in zip(axes, shape, strict=True) if axis != "1"}

    def _fourth(self, axis4: Axis4) -> str:
        # A vector image names its axis; its time unit is often only a tool's default ("mm, s" on every file).
        if axis4 == "channel" or self.intent in _VECTOR_INTENTS:
            return "c"
        if self.unit is not None:
            return "t" if self.unit in _PER_SECOND else "c"
        if 0 < self.step < math.inf and self.step != 1:
            return "t"
        raise AxisAmbiguousError(
            self.name,
            expected="a time unit, a repetition time or a vector intent for its fourth axis",
            got=f"{self.dim[4]} volumes without any",
            hint='Pass axis4="time" or axis4="channel".',
        )
