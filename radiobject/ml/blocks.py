"""Blocks: boxes of a sample's volumes read once, and the patches of a visit cut from them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from radiobject.format.layout import to_disk
from radiobject.geometry.box import Box
from radiobject.ml.caching import CachedHandle
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan, Request
from radiobject.model.volume import Volume

__all__ = ["Blocks", "Visit", "cut", "in_visits", "read_blocks", "within"]


class Blocks(NamedTuple):
    """What was read of a sample: a box in voxels x, y, z, and an array (frames, z, y, x) for each stream.

    Arrays may be read-only views of a cache. There are none where the box is empty.
    """

    box: Box
    arrays: tuple[npt.NDArray[Any], ...]


def within(cohort: Cohort, request: Request) -> Box:
    """The part of a patch that lies in its volume, in voxels x, y, z; empty when none does."""
    size, shape = cohort.size(request.sample), cohort.shapes[request.sample].tolist()
    low = [min(max(a, 0), n) for a, n in zip(request.start, shape, strict=True)]
    ends = zip(request.start, size, shape, low, strict=True)
    return Box(tuple(low), tuple([max(min(a + k, n), b) for a, k, n, b in ends]))


def read_blocks(cohort: Cohort, sample: int, box: Box) -> Blocks:
    """The box of each of a sample's volumes, in one read each."""
    if box.size == 0:
        return Blocks(box, ())
    return Blocks(box, tuple([_read(cohort.volume(sample, n), box) for n in range(len(cohort.streams))]))


def _read(volume: Volume, box: Box) -> npt.NDArray[Any]:
    """(frames, z, y, x), scaled; of a cache's memory a view, which is copied once and not twice."""
    handle, scaling, block = volume._handle, volume._scaling, None
    if isinstance(handle, CachedHandle) and volume._region is None:
        lead = handle.spec.shape[:-3]
        block = handle.view(Box((*(0 for _ in lead), *box.start[::-1]), (*lead, *box.stop[::-1])))
        if block is not None and scaling is not None:
            block = scaling.apply(block)
    if block is None:
        found = volume[box.slices]
        block = to_disk(found, volume.meta.dims) if found.ndim > 4 else found.T
    return block.reshape(-1, *block.shape[-3:])


def cut(cohort: Cohort, blocks: Blocks, request: Request, buffers: Mapping[str, npt.NDArray[Any]]) -> int:
    """Fill the buffers of `sample_shape` with a patch whose part in the volume was read; the bytes taken.

    Values are cast on the way, as `np.copyto` does. What lies outside is the spec's `pad`, in masks 0.
    """
    axis, size = cohort.cut(request.sample), cohort.size(request.sample)
    if axis is not None:
        buffers = {key: np.expand_dims(buffer, 3 - axis) for key, buffer in buffers.items()}
    whole, target, source = bool(blocks.arrays), [], []
    for a, k, low, high in zip(request.start, size, blocks.box.start, blocks.box.stop, strict=True):
        first, last = max(a, low), min(a + k, high)
        whole = whole and last - first == k
        target.append(slice(first - a, last - a))
        source.append(slice(first - low, last - low))
    if not whole:
        for key, buffer in buffers.items():
            buffer[...] = 0 if key in cohort.spec.masks else cohort.spec.pad
    place, key_ = (slice(None), *target[::-1]), (slice(None), *source[::-1])
    taken = 0
    for stream, array in zip(cohort.streams, blocks.arrays, strict=False):
        part, found = buffers[stream.key][stream.start : stream.start + stream.frames], array[key_]
        np.copyto(part if whole else part[place], found, casting="same_kind")
        taken += found.nbytes
    return taken


class Visit:
    """Requests close together in one volume: one read serves them all, and is kept until the last has it."""

    def __init__(self, cohort: Cohort, requests: Sequence[Request]) -> None:
        self._cohort, self._sample, self._left = cohort, requests[0].sample, len(requests)
        boxes = [within(cohort, request) for request in requests]
        corners = zip(*(b.start for b in boxes), strict=True), zip(*(b.stop for b in boxes), strict=True)
        self.box = Box(tuple(map(min, corners[0])), tuple(map(max, corners[1])))
        self.worthwhile = self.box.size <= sum(box.size for box in boxes)
        self._lock = threading.Lock()
        self._blocks: Blocks | None = None

    def blocks(self) -> Blocks:
        """What was read; asked for once by each request."""
        with self._lock:
            found = self._blocks
            if found is None:
                found = self._blocks = read_blocks(self._cohort, self._sample, self.box)
            self._left -= 1
            if self._left == 0:
                self._blocks = None
        return found


def in_visits(plan: PatchPlan, cohort: Cohort) -> Iterator[tuple[Request, Visit | None]]:
    """The plan's requests from its position on, each with the visit that it shares a read of `cohort` with.

    None where a request is read for itself: without locality, or where one box around the visit's patches
    would hold more voxels than they do.
    """
    requests = iter(plan)
    if plan.locality == 1:
        yield from ((request, None) for request in requests)
        return
    # the plan spreads a visit over no more requests than these; what a rank repeats at the end is read again
    horizon = (plan.window + 1) * plan.locality
    ahead: deque[tuple[Request, Visit | None]] = deque()
    for request in requests:
        ahead.append((request, None))
        if len(ahead) > horizon:
            yield _first(cohort, ahead)
    while ahead:
        yield _first(cohort, ahead)


def _first(cohort: Cohort, ahead: deque[tuple[Request, Visit | None]]) -> tuple[Request, Visit | None]:
    """The next request; when it opens a visit, the others of it that are ahead are told."""
    request, visit = ahead.popleft()
    if visit is not None:
        return request, visit
    places = [n for n, (other, of) in enumerate(ahead) if other.visit == request.visit and of is None]
    made = Visit(cohort, [request, *(ahead[n][0] for n in places)])
    if not places or not made.worthwhile:
        return request, None
    for n in places:
        ahead[n] = ahead[n][0], made
    return request, made
