"""Stacking: the images of a volume as one array, whether their files are paths or bytes in memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.ingest.dicom.frames import Member
from radiobject.ingest.dicom.pixels import dtype_of, read_frames

__all__ = ["Images", "common_scaling", "shape_of", "stacked", "stored_dtype"]

Images = Sequence[Sequence[Member]]
"""`[t][z]`."""


def common_scaling(images: Images) -> tuple[float, float] | None:
    """Slope and intercept that all images have; None when they differ."""
    both = {(m.frame.slope, m.frame.inter) for row in images for m in row}
    return next(iter(both)) if len(both) == 1 else None


def shape_of(images: Images) -> tuple[int, ...]:
    """(t,) z, y, x; t where there are several times."""
    pixels = images[0][0].instance.pixels
    # a mosaic is a square of tiles
    side = math.isqrt(pixels.tiles - 1) + 1 if pixels.tiles else 1
    lead = (len(images),) if len(images) > 1 else ()
    return (*lead, len(images[0]), pixels.rows // side, pixels.columns // side)


def stored_dtype(images: Images, *, scaled: bool) -> np.dtype[Any]:
    """The type of the voxels. `scaled`: images have scalings of their own, which are applied."""
    return np.dtype(np.float32) if scaled else dtype_of(images[0][0].instance.pixels)


def stacked(images: Images, *, scaled: bool, read: Callable[[str], bytes] | None = None) -> npt.NDArray[Any]:
    """The stored values of images, in the axes of `shape_of`; scaled image by image if `scaled`.

    Files are opened by their paths, or `read` by them. Errors are those of `read_frames`.
    """
    shape = shape_of(images)
    found = np.empty((len(images), *shape[-3:]), stored_dtype(images, scaled=scaled))
    files: dict[str, list[tuple[Member, npt.NDArray[Any]]]] = defaultdict(list)
    for t, row in enumerate(images):
        for z, member in enumerate(row):
            files[member.instance.path].append((member, found[t, z]))
    for path, members in files.items():
        _fill(members, scaled=scaled, data=None if read is None else read(path))
    return found.reshape(shape)


def _fill(members: Sequence[tuple[Member, npt.NDArray[Any]]], *, scaled: bool, data: bytes | None) -> None:
    """The images of one file."""
    instance = members[0][0].instance
    if not scaled:
        read_frames(instance.path, instance.pixels, {m.frame.number: into for m, into in members}, data)
        return
    kind = dtype_of(instance.pixels)
    frames = {m.frame.number: np.empty(into.shape, kind) for m, into in members}
    read_frames(instance.path, instance.pixels, frames, data)
    for member, into in members:
        # in double precision, so that only the result is rounded
        into[...] = frames[member.frame.number] * np.float64(member.frame.slope) + member.frame.inter
