"""RadiLoader: batches of a plan, read by threads of this process straight into the batch's memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any

import torch

from radiobject import measuring
from radiobject.errors import ConfigError
from radiobject.frozen import is_whole
from radiobject.ml.batches import Collate
from radiobject.ml.buffers import BufferPool
from radiobject.ml.caching import Cache
from radiobject.ml.cohort import Cohort
from radiobject.ml.filling import Batch, Filling, Recipe
from radiobject.ml.plan import PatchPlan
from radiobject.ml.report import COPY, READ, TRANSFER, TRANSFORM, LoaderReport, Tally
from radiobject.ml.transforms import Transform
from radiobject.ml.visits import batches_ahead, in_visits

__all__ = ["RadiLoader"]

_REMOTE_THREADS = 16
"""Reads under way at a time where each waits for a network."""


class RadiLoader:
    """Iterating gives the batches of the plan's epoch as dicts, the same for any number of threads.

    Images and masks are tensors (B, C, X, Y, Z), slices (B, C, H, W), strided over memory in disk order;
    targets, "obs_id", "start", "affine" and what else `sample_facts` has come along. `transform` takes and
    returns one sample, or a list of them, as in `PlanDataset`; then `collate` (default `Collate`) puts
    samples together.

    `threads` (None: one a core, of remote studies 16) read up to `prefetch` batches ahead. With a plan's
    `locality` the box around the patches of a visit is read once, and all of them go into their batches then:
    at most about `locality` x (`window` + the batches ahead) patches wait in memory. `cache` is a `Scratch`
    or `InMemory`. `device` is where batches go; for CUDA they are read into pinned memory.

    A read or transform that fails raises when its batch is due, with a note that names the volume.

    >>> import radiobject.examples
    >>> from radiobject.ml.spec import SampleSpec
    >>> radi = radiobject.examples.study(3)
    >>> plan = PatchPlan(SampleSpec("T1w", "seg", patch_size=16), radi)
    >>> with RadiLoader(plan, batch_size=2) as loader:
    ...     for batch in loader:
    ...         shape = tuple(batch["image"].shape)
    >>> len(loader), shape
    (2, (2, 1, 16, 16, 16))
    """

    def __init__(
        self,
        plan: PatchPlan,
        batch_size: int = 1,
        *,
        transform: Transform | None = None,
        collate: Callable[[Sequence[Any]], Batch] | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        threads: int | None = None,
        cache: Cache | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("prefetch", prefetch), ("threads", threads)):
            if not is_whole(value, none=name == "threads"):
                raise ConfigError(f"RadiLoader({name}=)", expected="an int, at least 1", got=repr(value))
        self.plan, self.batch_size, self.drop_last = plan, batch_size, drop_last
        self.prefetch = prefetch
        self.device = None if device is None else torch.device(device)
        self.cohort = plan.cohort if cache is None else plan.cohort.with_cache(cache)
        local = all(study.location.is_local for study in self.cohort.studies)
        self.threads = threads or (_cores() if local else max(_REMOTE_THREADS, _cores()))
        whole = transform is None and collate is None
        self._ahead = batches_ahead(plan, batch_size)
        kept = prefetch + 2 + self._ahead
        memory = BufferPool(kept, pinned=self.device is not None and self.device.type == "cuda")
        joined = None if whole else collate or Collate(plan.spec)
        self._recipe = Recipe(self.cohort, memory, transform, joined, _cores() if local else None)
        self._tally, self._reads = Tally(), measuring.measure()
        self._running: weakref.ref[Generator[Batch, None, None]] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.plan), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        running = self._batches()
        # whoever leaves its loop ends the pass at once: no circle waits for garbage collection
        self._running = weakref.ref(running)
        return running

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; see `PatchPlan.set_epoch`."""
        self.close()
        self.plan.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the training loop stands: after the last batch that it was given, whatever is read ahead."""
        return self.plan.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; see `PatchPlan.load_state_dict`."""
        self.close()
        self.plan.load_state_dict(state)

    def close(self) -> None:
        """End the pass that is running, and its threads."""
        running = None if self._running is None else self._running()
        if running is not None:
            running.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def __enter__(self) -> RadiLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def report(self) -> LoaderReport:
        """What the latest pass cost so far."""
        seen, cohort = self._tally.values, self.cohort
        names = (READ, COPY, TRANSFORM, TRANSFER)
        return LoaderReport(
            batches=int(seen["batches"]),
            samples=int(seen["samples"]),
            seconds=seen["seconds"],
            waiting=seen["waiting"],
            stages={name: seen[name] for name in names if seen[name]},
            bytes_decoded=self._reads["bytes_decoded"],
            bytes_used=seen["bytes"],
            cache_hits=self._reads["cache_hits"],
            volume_bytes=_decoded_bytes(cohort),
            free_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
            cached=cohort.cache is not None,
            casts=any(s.dtype != cohort.dtypes[s.key] for s in cohort.streams),
            locality=self.plan.locality,
            threads=self.threads,
            cores=_cores(),
        )

    def _batches(self) -> Generator[Batch, None, None]:
        self.plan.begin()
        left = len(self.plan) - self.plan.position
        steps = left // self.batch_size + (left % self.batch_size > 0 and not self.drop_last)
        tally, reads = self._tally, self._reads = Tally(), measuring.measure()
        fillings = in_visits(self.cohort, self._planned(tally, steps), self._ahead)
        pool = self._pool = ThreadPoolExecutor(self.threads, "RadiLoader")
        ahead: deque[Filling] = deque()
        begun = time.perf_counter()
        try:
            with reads:
                for step in range(steps):
                    asked = time.perf_counter()
                    while len(ahead) <= min(self.prefetch, steps - 1 - step):
                        ahead.append(next(fillings))
                        ahead[-1].begin(pool, self.threads)
                    batch = self._sent(ahead.popleft().result(), tally)
                    rest = left - step * self.batch_size
                    # what is dropped at the end counts as handed out: a state saved now begins the next epoch
                    over = self.drop_last and rest < 2 * self.batch_size
                    self.plan.advance(rest if over else min(self.batch_size, rest))
                    now = time.perf_counter()
                    tally.add(batches=1, samples=min(self.batch_size, rest), waiting=now - asked)
                    tally.values["seconds"] = now - begun
                    yield batch
                    del batch
                    tally.values["seconds"] = time.perf_counter() - begun
        finally:
            # not waited for: garbage collection may end a pass in a thread that holds what its readers need
            pool.shutdown(wait=False, cancel_futures=True)

    def _planned(self, tally: Tally, steps: int) -> Iterator[Filling]:
        requests = iter(self.plan)
        for _ in range(steps):
            yield Filling(self._recipe, tally, list(islice(requests, self.batch_size)))

    def _sent(self, batch: Batch, tally: Tally) -> Batch:
        if self.device is None:
            return batch
        begun = time.perf_counter()
        found = {
            key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        tally.add(**{TRANSFER: time.perf_counter() - begun})
        return found


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _decoded_bytes(cohort: Cohort) -> int:
    """About what all volumes of the samples hold."""
    voxels = int(cohort.shapes.prod(axis=1).sum())
    return sum(voxels * stream.frames * stream.dtype.itemsize for stream in cohort.streams)
