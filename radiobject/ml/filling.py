"""Filling: one batch on its way, from requests to a dict of tensors."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from radiobject.config import configure, current
from radiobject.ml.blocks import Visit, cut, read_blocks, within
from radiobject.ml.buffers import BufferPool
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import Request
from radiobject.ml.reading import in_user_order, sample_facts, sample_shape
from radiobject.ml.report import COPY, READ, TRANSFORM, Tally
from radiobject.ml.transforms import Transform, transformed

__all__ = ["Batch", "Filling", "Recipe"]

Batch = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What all batches of a loader share. Without `collate` samples are read into the batch itself."""

    cohort: Cohort
    memory: BufferPool
    transform: Transform | None
    collate: Callable[[Sequence[Batch]], Batch] | None
    cores: int | None
    """Threads that an engine may decode with, which counts the cores of the machine and not of this process.

    None where reads wait for a network."""


class Filling:
    """A batch on its way: its samples are shared out among threads, the last of which puts it together."""

    def __init__(
        self,
        recipe: Recipe,
        tally: Tally,
        entries: list[tuple[Request, Visit | None]],
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self._recipe, self._tally, self._entries = recipe, tally, entries
        self._requests = [request for request, _ in entries]
        self._samples: list[Batch] = [{} for _ in entries]
        self._arrays: dict[str, Any] = {}
        self._tensors: Batch = {}
        if recipe.collate is None:
            self._allocate()
        width = min(threads, len(entries))
        self._left, self._lock = width, threading.Lock()
        self._batch: Batch = {}
        self._futures: list[Future[None]] = [
            # settings of a `with configure(...)` around the loop hold in its threads too
            pool.submit(contextvars.copy_context().run, self._fill, range(first, len(entries), width))
            for first in range(width)
        ]

    def result(self) -> Batch:
        """The batch, when it is there; the error of the first of its samples that has one."""
        errors = [error for future in self._futures if (error := future.exception()) is not None]
        if errors:
            raise min(errors, key=lambda error: getattr(error, "_place", 0))
        return self._batch

    def _allocate(self) -> None:
        cohort, spec = self._recipe.cohort, self._recipe.cohort.spec
        if spec.patch_size is None:
            shapes = [sample_shape(cohort, request) for request in self._requests]
        else:
            shapes = [sample_shape(cohort, self._requests[0])] * len(self._requests)
        for key, dtype in cohort.dtypes.items():
            each = [shape[key] for shape in shapes]
            largest = [max(sizes) for sizes in zip(*each, strict=True)]
            array, self._tensors[key] = self._recipe.memory.take((len(each), *largest), dtype)
            if any(list(shape) != largest for shape in each):
                array[...] = 0 if key in spec.masks else spec.pad
            self._arrays[key] = array, each
        if spec.patch_size is None:
            (first, *_) = self._arrays
            self._tensors["shape"] = torch.tensor([shape[:0:-1] for shape in self._arrays[first][1]])

    def _buffers(self, place: int) -> dict[str, Any]:
        if self._recipe.collate is None:
            return {
                key: array[place][tuple([slice(n) for n in each[place]])]
                for key, (array, each) in self._arrays.items()
            }
        cohort = self._recipe.cohort
        shapes = sample_shape(cohort, self._requests[place])
        return {key: np.empty(shape, cohort.dtypes[key]) for key, shape in shapes.items()}

    def _fill(self, places: range) -> None:
        read = current().read
        with configure(read=replace(read, concurrency=read.concurrency or self._recipe.cores)):
            self._fill_all(places)

    def _fill_all(self, places: range) -> None:
        recipe, clock = self._recipe, time.perf_counter
        cohort, transform = recipe.cohort, recipe.transform
        reading = copying = changing = 0.0
        taken = 0
        for place in places:
            request, visit = self._entries[place]
            try:
                begun = clock()
                if visit is None:
                    blocks = read_blocks(cohort, request.sample, within(cohort, request))
                else:
                    blocks = visit.blocks()
                read = clock()
                buffers = self._buffers(place)
                taken += cut(cohort, blocks, request, buffers)
                copied = clock()
                del blocks
                if recipe.collate is not None:
                    voxels = {key: torch.from_numpy(in_user_order(b)) for key, b in buffers.items()}
                    self._samples[place] = transformed(transform, {**voxels, **sample_facts(cohort, request)})
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
        self._tally.add(**{READ: reading, COPY: copying + clock() - begun, TRANSFORM: changing}, bytes=taken)

    def _finish(self) -> None:
        collate = self._recipe.collate
        if collate is None:
            self._batch = {**self._tensors, **batch_facts(self._recipe.cohort, self._requests)}
        else:
            self._batch = collate(self._samples)
        self._arrays, self._tensors, self._samples, self._entries = {}, {}, [], []


def batch_facts(cohort: Cohort, requests: Sequence[Request]) -> Batch:
    """What `Collate` makes of the `sample_facts` of all of them, at once."""
    _, samples, starts, seeds, _ = zip(*requests, strict=True)
    which, start = np.array(samples), np.array(starts)
    affine = cohort.affines[which]
    affine[:, :3, 3] += (affine[:, :3, :3] @ start[..., None].astype(np.float64))[..., 0]
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
