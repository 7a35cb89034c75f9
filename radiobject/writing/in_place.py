"""InPlace: one volume that stays in the files where it lies, with all that must be said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from radiobject.backends.files.source import Source
from radiobject.errors import SourceUnsupportedError
from radiobject.format.meta import VolumeMeta, scaled_dtype

__all__ = ["InPlace", "digest_with"]


def digest_with(digest: str, layout_sha256: str | None) -> str:
    """The `source_digest` of a volume: that of its file's content, and of what a layout says besides it.

    Whoever ingests a file and whoever stores it later ask here, so that both find one and the same.
    """
    if layout_sha256 is None:
        return digest
    return hashlib.sha256(f"{digest}{layout_sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class InPlace:
    """`Loaded` without voxels: nobody has read them. `shape` and `dtype` are those of the stored values.

    `extras` are bytes to keep beside, `ranges` names such that lie in a file of the source: (number of the
    member, first byte, bytes). `stored_range` are the least and the greatest value that can be stored, None
    for what the type allows. `decoding` are the arguments that a NIfTI file is decoded with as a whole, also
    where its voxels lie bare; None for other files. `layout_sha256` (hex) covers what a layout says of the
    volume besides its file, None where it says nothing.
    """

    source: Source
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    meta: VolumeMeta
    extras: Mapping[str, bytes]
    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    stored_range: tuple[int, int] | None = None
    decoding: Mapping[str, Any] | None = None
    layout_sha256: str | None = None

    def settled(self) -> VolumeMeta:
        """The meta with the type that scaled reads return: one that holds all that could be stored."""
        scaling = self.meta.scaling
        if scaling is None:
            return self.meta
        low, high = self.stored_range or (0, 0)
        if self.stored_range is None and self.dtype.kind in "iu":
            low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        wide = scaled_dtype(self.dtype, scaling.slope, scaling.inter, low, high)
        return replace(self.meta, scaling=replace(scaling, dtype=wide))

    def require_exact(self, name: str) -> None:
        """Refuse (`SourceUnsupportedError`) whole numbers of 64 bits that scaled reads would round.

        An ingest sees the values, and reads them as int64 where that holds them. Of what could be stored
        only float64 holds the ends, and not what lies between.
        """
        scaling = self.settled().scaling
        if scaling is None or self.meta.kind == "label" or self.dtype.kind not in "iu":
            return
        whole = float(scaling.slope).is_integer() and float(scaling.inter).is_integer()
        if whole and self.dtype.itemsize == 8 and scaling.dtype == "float64":
            raise SourceUnsupportedError(
                name, expected="integers of at most 32 bits where they are scaled, for copy=False",
                got=f"{self.dtype}, slope {scaling.slope:g}, intercept {scaling.inter:g}",
                hint="float64 would round them. Pass copy=True, which looks at the values.",
            )  # fmt: skip
