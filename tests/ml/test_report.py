"""The loader's report: what the time went into, and the advice that follows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, ReadConfig, configure
from radiobject.ml.caching import InMemory
from radiobject.ml.loader import RadiLoader
from radiobject.ml.plan import PatchPlan
from radiobject.ml.report import COPY, MODEL, READ, TRANSFER, TRANSFORM, LoaderReport
from radiobject.ml.sampling import Uniform
from radiobject.ml.spec import SampleSpec


@pytest.fixture
def study(tmp_path: Path) -> RadiObject:
    voxels = np.random.default_rng(0).integers(0, 999, (64, 64, 64)).astype(np.int16)
    images = {"T1w": [((voxels, np.eye(4)), "sub-1"), ((voxels + 1, np.eye(4)), "sub-2")]}
    return RadiObject.from_niftis(tmp_path / "study", images, progress=False)


def plan(study: RadiObject, locality: int = 1) -> PatchPlan:
    return PatchPlan(SampleSpec("T1w", patch_size=32), study, Uniform(8), locality=locality)


def report(**values: Any) -> LoaderReport:
    given = {"batches": 10, "samples": 40, "seconds": 10.0, "waiting": 5.0, "stages": {READ: 5.0}, **values}
    return LoaderReport(**given)


def test_it_counts_what_a_pass_read_and_used(study: RadiObject) -> None:
    with configure(read=ReadConfig(cache_bytes=0)):
        loader = RadiLoader(plan(study), 4)
        for _ in loader:
            pass
    found = loader.report()
    assert (found.batches, found.samples) == (4, 16)
    assert found.bytes_used == 16 * 32**3 * 2
    assert found.bytes_decoded % (32**3 * 2) == 0
    assert 1 < found.amplification <= 8
    assert found.volume_bytes == 2 * 64**3 * 2
    assert 0 < found.waiting <= found.seconds
    assert set(found.stages) == {READ, COPY}
    assert "Scratch" in found.recommendation
    assert "4 batches of 16 samples" in repr(found)


def test_with_locality_as_much_is_used_and_less_decoded(study: RadiObject) -> None:
    reports = []
    for locality in (1, 8):
        loader = RadiLoader(plan(study, locality), 4)
        with configure(read=ReadConfig(cache_bytes=0)):
            for _ in loader:
                pass
        reports.append(loader.report())
    alone, shared = reports
    assert alone.bytes_used == shared.bytes_used
    assert shared.bytes_decoded < alone.bytes_decoded


def test_from_a_cache_nothing_is_decoded(study: RadiObject) -> None:
    loader = RadiLoader(plan(study), 4, cache=InMemory(2**24))
    for _ in range(2):
        for _ in loader:
            pass
    found = loader.report()
    assert (found.bytes_decoded, found.amplification, found.cache_hits) == (0, 0, 16)
    assert "Scratch" not in found.recommendation


def test_a_loop_that_does_not_wait_is_limited_by_its_model() -> None:
    found = report(waiting=0.1)
    assert (found.waiting_share, found.slowest) == (0.01, MODEL)
    assert "nothing to change" in found.recommendation


def test_the_time_of_the_model_is_no_waiting(study: RadiObject) -> None:
    loader, busy = RadiLoader(plan(study), 4), 0.0
    for batch in loader:
        begun = time.perf_counter()
        for _ in range(20):
            batch["image"].sin().sum()
        busy += time.perf_counter() - begun
    found = loader.report()
    assert found.seconds - found.waiting >= busy


def test_the_time_in_a_transform_is_counted_as_its_own_stage(study: RadiObject) -> None:
    spent = []

    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        sample["image"] = sample["image"].sin()
        spent.append(time.perf_counter() - begun)
        return sample

    loader = RadiLoader(plan(study), 4, transform=transform)
    for _ in loader:
        pass
    assert len(spent) == 16
    assert loader.report().stages[TRANSFORM] >= sum(spent)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"volume_bytes": 1e9, "free_bytes": 1e10}, "cache=Scratch(directory): all volumes are 1.0 GB"),
        ({"volume_bytes": 1e11, "free_bytes": 1e10, "bytes_decoded": 4e9, "bytes_used": 1e9}, "locality=8"),
        ({"volume_bytes": 1e11, "free_bytes": 1e10, "threads": 1, "cores": 4}, "threads=4"),
        ({"volume_bytes": 1e11, "free_bytes": 1e10}, "codec"),
        ({"stages": {READ: 1.0, TRANSFORM: 2.0}}, "whole batches on the device"),
        ({"stages": {READ: 1.0, TRANSFER: 2.0}}, 'dtype="native"'),
        ({"stages": {READ: 1.0, COPY: 2.0}}, 'dtype="native"'),
        ({"stages": {READ: 1.0, COPY: 2.0}, "casts": False, "cached": True}, "nothing to change"),
    ],
)
def test_the_advice_follows_from_the_slowest_stage(values: dict[str, Any], advice: str) -> None:
    assert advice in report(**values).recommendation
