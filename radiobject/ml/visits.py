"""Visits: patches close together in one volume, which share one read."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from radiobject.geometry.box import Box
from radiobject.ml.blocks import part_of, read_blocks, within
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan

if TYPE_CHECKING:
    from radiobject.ml.filling import Filling

__all__ = ["Visit", "batches_ahead", "in_visits"]


class Visit:
    """Requests of one volume that lie close together, each a place in a batch.

    One block around them is read when the first is due, and all of them are copied into their batches then:
    it is still in the processor's cache, and the next block takes the same memory. Kept until the last is
    due, as many blocks as a window has visits took 2.5 times as long to copy from and 1.4 times to read into.
    """

    def __init__(self, cohort: Cohort, members: Sequence[tuple[Filling, int]]) -> None:
        self._cohort, self._sample = cohort, members[0][0].requests[members[0][1]].sample
        self._boxes = [within(cohort, batch.requests[place]) for batch, place in members]
        corners = (
            zip(*(b.start for b in self._boxes), strict=True),
            zip(*(b.stop for b in self._boxes), strict=True),
        )
        self.box = Box(tuple(map(min, corners[0])), tuple(map(max, corners[1])))
        self.worthwhile = self.box.size <= sum(box.size for box in self._boxes)
        # weak, as batches hold their visits: what a pass that ends early leaves is freed at once
        self._members = [(weakref.ref(batch), place) for batch, place in members]
        self._lock, self._done = threading.Lock(), False

    def fill(self, clock: Callable[[], float]) -> float:
        """Fill the places of all, unless that is done; the time on the clock when the block was there."""
        with self._lock:
            if self._done:
                return clock()
            blocks = read_blocks(self._cohort, self._sample, self.box)
            read = clock()
            for (member, place), box in zip(self._members, self._boxes, strict=True):
                batch = member()
                if batch is not None:
                    batch.put(place, part_of(blocks, box))
            self._done = True
            return read


def batches_ahead(plan: PatchPlan, batch_size: int) -> int:
    """Over how many batches after the one that it begins in a visit is spread at most."""
    if plan.locality == 1:
        return 0
    # the plan spreads a visit over no more requests than these; what a rank repeats at the end is read again
    return math.ceil((plan.window + 1) * plan.locality / batch_size)


def in_visits(cohort: Cohort, batches: Iterator[Filling], ahead: int) -> Iterator[Filling]:
    """The batches, each with the visits of its requests, found among so many batches ahead.

    None where a request is read for itself: where one box around the visit's patches would hold more voxels
    than they do.
    """
    if not ahead:
        yield from batches
        return
    known: deque[Filling] = deque()
    for batch in batches:
        known.append(batch)
        if len(known) > ahead:
            yield _settled(cohort, known)
    while known:
        yield _settled(cohort, known)


def _settled(cohort: Cohort, known: deque[Filling]) -> Filling:
    """The next batch, when its visits, and the others that belong to them, are told of each other."""
    batch = known[0]
    for place, request in enumerate(batch.requests):
        if batch.visits[place] is not None:
            continue
        members = [
            (other, n)
            for other in known
            for n, near in enumerate(other.requests)
            if near.visit == request.visit and other.visits[n] is None
        ]
        visit = Visit(cohort, members)
        if len(members) > 1 and visit.worthwhile:
            for other, n in members:
                other.visits[n] = visit
    return known.popleft()
