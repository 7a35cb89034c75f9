"""Estimate: how long an ingest will take and how large its study will be, from a few volumes converted."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radiobject.errors import ConfigError, MetadataError
from radiobject.format.meta import row_meta
from radiobject.ingest import ingest
from radiobject.ingest.scanning.rows import PlanRow
from radiobject.ingest.scanning.sources import item_of, source_bytes

__all__ = ["Estimate", "estimated"]

_AT_ONCE = 4
"""Times a volume's decoded size that a worker holds: source, voxels, a copy in another type, and chunks."""


@dataclass(frozen=True)
class Estimate:
    """For all volumes: `hours` with `workers` at a time, `source_bytes` read, `study_bytes` written, and
    `memory_bytes` at most; measured on `sample` of them, `rate` bytes of source a second and worker."""

    volumes: int
    sample: int
    workers: int
    hours: float
    source_bytes: int
    study_bytes: int
    memory_bytes: int
    rate: float

    def __repr__(self) -> str:
        took = f"{self.hours:.1f} hours" if self.hours >= 1 else f"{self.hours * 60:.1f} minutes"
        return (
            f"{self.volumes:,} volumes, {_size(self.source_bytes)} of files: about {took} with "
            f"{self.workers} workers, {_size(self.study_bytes)} of study, at most "
            f"{_size(self.memory_bytes)} of memory\n"
            f"  from {self.sample} volumes converted here at {self.rate / 1e6:,.1f} MB a second and worker; "
            "workers are taken not to wait for each other"
        )


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def estimated(rows: Sequence[PlanRow], sample: int, workers: int | None) -> Estimate:
    """Ingest `sample` rows, spread over the sizes of their sources, one after the other, and extrapolate.

    Raises `MetadataError` for no rows, and what their ingest raises.
    """
    if sample < 1:
        raise ConfigError("estimate(sample=)", expected="at least 1", got=str(sample))
    if not rows:
        raise MetadataError("plan", expected="at least one row to ingest", got="none")
    sizes = np.array([source_bytes(row) for row in rows])
    order = np.argsort(sizes, kind="stable")
    # the middles of as many equal shares: neither the smallest nor the largest alone
    picks = [
        int(order[int((n + 0.5) * len(rows) / min(sample, len(rows)))]) for n in range(min(sample, len(rows)))
    ]
    chosen = [rows[n] for n in dict.fromkeys(picks)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        images = {"estimate": [(item_of(row), row.obs_subject_id, f"{n}") for n, row in enumerate(chosen)]}
        snapshot = ingest(
            folder + "/study", images, labels=[], executor="serial", progress=False, axis4="time"
        )
        seconds = time.perf_counter() - begun
        written = sum(
            p.stat().st_size for p in Path(folder, "study", "collections").rglob("*") if p.is_file()
        )
        shapes = snapshot.table("obs", "estimate").read(
            ["dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "dtype", "_volume"]
        )
    largest = max(_voxel_bytes(row) for row in shapes.to_pylist())
    sampled = int(sizes[picks].sum())
    count = workers or os.cpu_count() or 1
    rate = sampled / seconds
    # of the largest source at least as many times more
    scale = max(1.0, float(sizes.max()) / max(int(sizes[picks].max()), 1))
    return Estimate(
        volumes=len(rows),
        sample=len(chosen),
        workers=count,
        hours=float(sizes.sum()) / rate / count / 3600,
        source_bytes=int(sizes.sum()),
        study_bytes=int(written * sizes.sum() / max(sampled, 1)),
        memory_bytes=int(largest * scale * _AT_ONCE * count),
        rate=rate,
    )


def _voxel_bytes(row: dict[str, Any]) -> int:
    """Of a volume in memory, where floats that are kept as integers are floats still."""
    scaling = row_meta(row["_volume"]).scaling
    dtype = scaling.dtype if scaling is not None and scaling.is_cast else row["dtype"]
    count: int = math.prod(row[f"dim_{a}"] or 1 for a in "xyztc")
    return np.dtype(dtype).itemsize * count
