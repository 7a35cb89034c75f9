"""Filling: one batch on its way, from requests to a dict of tensors."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from radiobject.config import ReadConfig, configure, current
from radiobject.ml.blocks import Blocks, put, read_blocks, within
from radiobject.ml.buffers import BufferPool
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import Request
from radiobject.ml.reading import in_user_order, patch_affines, sample_facts, sample_shape
from radiobject.ml.report import COPY, READ, TRANSFORM, Tally
from radiobject.ml.transforms import Transform, transformed
from radiobject.ml.visits import Visit

__all__ = ["Batch", "Filling", "Recipe"]

Batch = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What all batches of a loader share. Without `collate` samples are read into the batch itself."""

    cohort: Cohort
    memory: BufferPool
    transform: Transform | None
    collate: Callable[[Sequence[Any]], Batch] | None
    cores: int | None
    """Threads that an engine may decode with, which counts the cores of the machine and not of this process.

    None where reads wait for a network."""


class Filling:
    """A batch on its way: its samples are shared out among threads, the last of which puts it together.

    It takes memory when the first of its samples is there, which may be long before it is begun: a visit
    fills the places of all its `requests` at once.
    """

    def __init__(self, recipe: Recipe, tally: Tally, requests: list[Request]) -> None:
        self.requests = requests
        self.visits: list[Visit | None] = [None] * len(requests)
        self._recipe, self._tally = recipe, tally
        self._samples: list[Batch | list[Batch]] = [{} for _ in requests]
        self._taken = [0] * len(requests)
        self._buffers: list[dict[str, npt.NDArray[Any]]] = []
        self._tensors: Batch = {}
        self._left, self._lock = 0, threading.Lock()
        self._batch: Batch = {}
        self._futures: list[Future[None]] = []

    def begin(self, pool: ThreadPoolExecutor, threads: int) -> None:
        """Have it filled by so many of the pool's threads."""
        self._allocate()
        count = len(self.requests)
        self._left = width = min(threads, count)
        self._futures = [
            # settings of a `with configure(...)` around the loop hold in its threads too
            pool.submit(contextvars.copy_context().run, self._fill, range(first, count, width))
            for first in range(width)
        ]

    def put(self, place: int, blocks: Blocks) -> None:
        """Fill a place with what was read of its patch."""
        self._allocate()
        self._taken[place] = put(self._recipe.cohort, blocks, self.requests[place], self._buffers[place])

    def result(self) -> Batch:
        """The batch, when it is there; the error of the first of its samples that has one."""
        errors = [error for future in self._futures if (error := future.exception()) is not None]
        if errors:
            raise min(errors, key=lambda error: getattr(error, "_place", 0))
        return self._batch

    def _allocate(self) -> None:
        with self._lock:
            if not self._buffers:
                self._buffers = self._made()

    def _made(self) -> list[dict[str, npt.NDArray[Any]]]:
        cohort, spec = self._recipe.cohort, self._recipe.cohort.spec
        shapes = [sample_shape(cohort, self.requests[0])] * len(self.requests)  # patches are of one size
        if spec.patch_size is None:
            shapes = [sample_shape(cohort, request) for request in self.requests]
        if self._recipe.collate is not None:
            dtypes = cohort.dtypes
            return [{k: np.empty(shape, dtypes[k]) for k, shape in of.items()} for of in shapes]
        places: dict[str, list[npt.NDArray[Any]]] = {}
        for key, dtype in cohort.dtypes.items():
            each = [shape[key] for shape in shapes]
            largest = tuple([max(sizes) for sizes in zip(*each, strict=True)])
            array, self._tensors[key] = self._recipe.memory.take((len(each), *largest), dtype)
            places[key] = list(array)
            if any(shape != largest for shape in each):
                array[...] = 0 if key in spec.masks else spec.pad
                parts = [tuple([slice(n) for n in shape]) for shape in each]
                places[key] = [whole[part] for whole, part in zip(array, parts, strict=True)]
        if spec.patch_size is None:
            self._tensors["shape"] = torch.tensor([shape[:0:-1] for shape in each])
        return [dict(zip(places, views, strict=True)) for views in zip(*places.values(), strict=True)]

    def _fill(self, places: range) -> None:
        with configure(read=_bounded(current().read, self._recipe.cores)):
            self._fill_all(places)

    def _fill_all(self, places: range) -> None:
        recipe, clock = self._recipe, time.perf_counter
        cohort, transform = recipe.cohort, recipe.transform
        reading = copying = changing = 0.0
        for place in places:
            request, visit = self.requests[place], self.visits[place]
            try:
                begun = clock()
                if visit is None:
                    blocks = read_blocks(cohort, request.sample, within(cohort, request))
                    read = clock()
                    self.put(place, blocks)
                    del blocks
                else:
                    read = visit.fill(clock)
                copied = clock()
                if recipe.collate is not None:
                    buffers, self._buffers[place] = self._buffers[place], {}
                    voxels = {key: torch.from_numpy(in_user_order(b)) for key, b in buffers.items()}
                    sample = {**voxels, **sample_facts(cohort, request)}
                    spec = cohort.spec
                    self._samples[place] = transformed(transform, sample, spec.images, spec.masks)
                    changing += clock() - copied
                reading, copying = reading + read - begun, copying + copied - read
            except BaseException as error:
                error.add_note(f"reading {cohort.obs_ids[request.sample]}, patch at {request.start}")
                error._place = place  # type: ignore[attr-defined]  # which of several to raise
                raise
        begun = clock()
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._finish()
        copying += clock() - begun
        taken = sum(self._taken) if last else 0
        self._tally.add(**{READ: reading, COPY: copying, TRANSFORM: changing}, bytes=taken)

    def _finish(self) -> None:
        collate = self._recipe.collate
        if collate is None:
            self._batch = {**self._tensors, **batch_facts(self._recipe.cohort, self.requests)}
        else:
            self._batch = collate(self._samples)
        self._buffers, self._tensors, self._samples, self.visits = [], {}, [], []


@lru_cache(maxsize=16)
def _bounded(read: ReadConfig, cores: int | None) -> ReadConfig:
    """The same settings, the engine's threads bounded where the caller has not done it."""
    return replace(read, concurrency=read.concurrency or cores)


def batch_facts(cohort: Cohort, requests: Sequence[Request]) -> Batch:
    """What `Collate` makes of the `sample_facts` of all of them, at once."""
    _, samples, starts, seeds, _ = zip(*requests, strict=True)
    which, start = np.array(samples), np.array(starts)
    affine = patch_affines(cohort, which, start)
    targets = {key: values[which] for key, values in cohort.targets.items()}
    return {
        **{k: torch.from_numpy(v) if v.dtype.kind in "biuf" else list(v) for k, v in targets.items()},
        "idx": torch.from_numpy(which),
        "obs_id": [cohort.obs_ids[sample] for sample in samples],
        "obs_subject_id": [cohort.obs_subject_ids[sample] for sample in samples],
        "start": torch.from_numpy(start),
        "affine": torch.from_numpy(affine),
        "seed": torch.from_numpy(np.array(seeds)),
    }
