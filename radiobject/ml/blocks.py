"""Blocks: boxes of a sample's volumes as they were read, and what buffers are filled with from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from radiobject.errors import CapabilityError
from radiobject.format.layout import to_disk
from radiobject.geometry.box import Box
from radiobject.ml.caching import CachedHandle
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import Request
from radiobject.model.volume import Volume

__all__ = ["Blocks", "part_of", "put", "read_blocks", "read_frames", "refuse_wrapped", "within"]


class Blocks(NamedTuple):
    """What was read of a sample: a box in voxels x, y, z, and an array (frames, z, y, x) for each stream.

    Arrays may be read-only views of a cache. There are none where the box is empty.
    """

    box: Box
    arrays: tuple[npt.NDArray[Any], ...]


def within(cohort: Cohort, request: Request) -> Box:
    """The part of a patch that lies in its volume, in voxels x, y, z; empty when none does."""
    size, shape = cohort.size(request.sample), cohort.shapes[request.sample].tolist()
    low, high = [], []
    for a, k, n in zip(request.start, size, shape, strict=True):
        first = min(max(a, 0), n)
        low.append(first)
        high.append(max(min(a + k, n), first))
    return Box(tuple(low), tuple(high))


def read_blocks(cohort: Cohort, sample: int, box: Box) -> Blocks:
    """The box of each of a sample's volumes, in one read each."""
    if box.size == 0:
        return Blocks(box, ())
    return Blocks(
        box, tuple([read_frames(cohort.volume(sample, n), box) for n in range(len(cohort.streams))])
    )


def read_frames(volume: Volume, box: Box) -> npt.NDArray[Any]:
    """A box of a volume, (frames, z, y, x), scaled; of a cache's memory a view, copied once and not twice.

    Floats that are kept as integers come as these: whoever copies them into his floats casts them on the way.
    """
    handle, scaling, block = volume._handle, volume._scaling, None
    if scaling is not None and scaling.is_cast:
        scaling = None
    if isinstance(handle, CachedHandle) and volume._region is None:
        lead = handle.spec.shape[:-3]
        block = handle.view(Box((0,) * len(lead) + box.start[::-1], lead + box.stop[::-1]))
        if block is not None and scaling is not None:
            block = scaling.apply(block)
    if block is None:
        found = volume._read(box.slices, scaling)
        block = to_disk(found, volume.meta.dims) if found.ndim > 4 else found.T
    return block.reshape(-1, *block.shape[-3:])


def part_of(blocks: Blocks, box: Box) -> Blocks:
    """A view of what lies in a box within the one that was read."""
    if box.size == 0:
        return Blocks(box, ())
    place = (slice(None), *box.shift([-n for n in blocks.box.start]).slices[::-1])
    return Blocks(box, tuple([array[place] for array in blocks.arrays]))


def put(cohort: Cohort, blocks: Blocks, request: Request, buffers: Mapping[str, npt.NDArray[Any]]) -> int:
    """Fill the buffers of `sample_shape` with what was read of a patch `within` its volume; the bytes taken.

    Values are cast on the way, as `np.copyto` does. What lies outside is the spec's `pad`, in masks 0.
    """
    axis = cohort.cut(request.sample)
    if axis is not None:
        buffers = {key: np.expand_dims(buffer, 3 - axis) for key, buffer in buffers.items()}
    whole = blocks.box.shape == cohort.size(request.sample)
    if not whole:
        place = (slice(None), *blocks.box.shift([-a for a in request.start]).slices[::-1])
        for key, buffer in buffers.items():
            buffer[...] = 0 if key in cohort.spec.masks else cohort.spec.pad
    taken = 0
    for stream, array in zip(cohort.streams, blocks.arrays, strict=False):
        part = buffers[stream.key][stream.start : stream.start + stream.frames]
        _copy(part if whole else part[place], array)
        taken += array.nbytes
    return taken


def refuse_wrapped(source: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Raise `CapabilityError` for 64 unsigned bits beyond the signed type that torch has for them."""
    if source.dtype == np.uint64 and dtype.kind == "i" and source.size:
        most = int(source.max())
        if most > np.iinfo(dtype).max:
            raise CapabilityError(
                "a value of a mask as a tensor", expected=f"at most {np.iinfo(dtype).max}, as {dtype} holds",
                got=str(most), hint="Number the labels anew, with map().",
            )  # fmt: skip


def _copy(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """As `np.copyto`, with rows of one type as one item each: a fifth faster for a 96-cube of a volume.

    NumPy then loops over rows in one go, where else it calls its loop over voxels row by row.
    """
    refuse_wrapped(source, target.dtype)
    size = source.itemsize
    alike = target.dtype == source.dtype and target.strides[-1] == source.strides[-1] == size
    if alike and source.shape[-1] > 1 and not source.flags.c_contiguous:
        row = np.dtype((np.void, size * source.shape[-1]))
        target, source = target.view(row), source.view(row)
    np.copyto(target, source, casting="same_kind")
