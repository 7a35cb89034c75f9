"""Scratch and InMemory: each volume is decoded once, whoever asks; stale or damaged copies are never read."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import ConfigError
from radiobject.ml import scratch as scratch_module
from radiobject.ml.caching import Cache, InMemory
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Uniform
from radiobject.ml.scratch import Scratch
from radiobject.ml.spec import SampleSpec

SHAPE = (40, 33, 37)
BYTES = 40 * 33 * 37 * 2
CHUNKS = 2 * 2 * 2


def voxels(number: int) -> npt.NDArray[np.int16]:
    return np.random.default_rng(number).integers(0, 999, SHAPE).astype(np.int16)


@pytest.fixture(params=["zarr", "tiledb"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> RadiObject:
    if request.param == "tiledb":
        pytest.importorskip("tiledb")
    return made(tmp_path / "study", request.param)


def made(place: Path, backend: str = "zarr", first: int = 0) -> RadiObject:
    images = {"T1w": [((voxels(first + n), np.eye(4)), f"sub-{n}") for n in range(4)]}
    return RadiObject.from_niftis(place, images, progress=False, backend=backend)


def plan(study: RadiObject, cache: Cache | None, **spec: Any) -> PatchPlan:
    cohort = Cohort.of(SampleSpec("T1w", patch_size=16, dtype="native", **spec), study)
    return PatchPlan(cohort.spec, cohort.with_cache(cache), Uniform(8))


def read(of: PatchPlan) -> list[npt.NDArray[Any]]:
    return [read_sample(of.cohort, request)["image"] for request in of]


def read_counted(of: PatchPlan) -> tuple[int, int, list[npt.NDArray[Any]]]:
    with measure() as cost:
        found = read(of)
    return cost["chunks_decoded"], cost["cache_hits"], found


def equal(a: list[npt.NDArray[Any]], b: list[npt.NDArray[Any]]) -> bool:
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


@pytest.fixture(params=["scratch", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Scratch(tmp_path / "scratch") if request.param == "scratch" else InMemory(8 * BYTES)


def test_each_volume_is_decoded_once(study: RadiObject, cache: Cache) -> None:
    tiled = plan(study, cache).cohort.volume(0, 0)._handle.spec
    whole = tiled.chunks_in(tiled.box)
    chunks, hits, found = read_counted(plan(study, cache))
    assert (chunks, hits) == (4 * whole, 28)
    assert read_counted(plan(study, cache))[:2] == (0, 32)
    assert equal(found, read(plan(study, None)))


@pytest.mark.parametrize("spec", [{"spacing": 1.5}, {"axcodes": "LPS"}])
def test_what_is_kept_lies_below_resampling_and_turning(
    study: RadiObject, cache: Cache, spec: dict[str, Any]
) -> None:
    read(plan(study, cache))
    chunks, _, found = read_counted(plan(study, cache, **spec))
    assert chunks == 0
    assert equal(found, read(plan(study, None, **spec)))


def test_threads_that_want_the_same_volume_decode_it_once(study: RadiObject, cache: Cache) -> None:
    of, start = plan(study, cache), threading.Barrier(8)

    def one() -> None:
        start.wait()
        read_sample(of.cohort, of[0])

    threads = [threading.Thread(target=one) for _ in range(8)]
    with measure() as cost:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert cost["volumes_opened"] == 1
    assert cost["cache_hits"] == 7


def test_patches_own_their_memory(study: RadiObject, cache: Cache) -> None:
    of = plan(study, cache)
    volume = of.cohort.volume(0, 0)
    block = volume[:8, :8, :8]
    block[...] = -1
    assert np.array_equal(of.cohort.volume(0, 0)[:8, :8, :8], voxels(0)[:8, :8, :8])


def _worker(of: PatchPlan, answers: Any, start: Any) -> None:
    start.wait(60)
    chunks, _, found = read_counted(of)
    answers.put((chunks, [int(block.sum()) for block in found]))


@pytest.mark.filterwarnings(
    "ignore:TileDB is a multithreading"
)  # other tests have used it; the child does not
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_share_one_copy(tmp_path: Path, method: str) -> None:
    """Also a forked one, whose parent has used tensorstore."""
    of = plan(made(tmp_path / "study"), Scratch(tmp_path / "scratch"))
    expected = [int(block.sum()) for block in read(of)]
    files = sorted((tmp_path / "scratch").iterdir())
    assert [f.stat().st_size for f in files] == [BYTES + 4096] * 4
    context: Any = multiprocessing.get_context(method)
    answers, start = context.Queue(), context.Barrier(2)
    workers = [context.Process(target=_worker, args=(of, answers, start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert found == [(0, expected)] * 2
    assert sorted((tmp_path / "scratch").iterdir()) == files


def test_workers_that_begin_together_decode_each_volume_once(tmp_path: Path) -> None:
    of = plan(made(tmp_path / "study"), Scratch(tmp_path / "scratch"))
    context = multiprocessing.get_context("forkserver")
    answers, start = context.Queue(), context.Barrier(3)
    workers = [context.Process(target=_worker, args=(of, answers, start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sum(chunks for chunks, _ in found) == 4 * CHUNKS
    assert len({tuple(sums) for _, sums in found}) == 1
    assert [f.suffix for f in (tmp_path / "scratch").iterdir()] == [".voxels"] * 4


def test_another_version_of_a_volume_is_another_file(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch")
    radi = made(tmp_path / "study")
    read(plan(radi, scratch))
    other = made(tmp_path / "other", first=4)
    assert equal(read(plan(other, scratch)), read(plan(other, None)))
    assert len(list((tmp_path / "scratch").iterdir())) == 8


@pytest.mark.parametrize("damage", ["flip", "truncate", "header", "empty"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    radi = made(tmp_path / "study")
    expected = read(plan(radi, Scratch(tmp_path / "scratch")))
    for file in (tmp_path / "scratch").iterdir():
        data = bytearray(file.read_bytes())
        if damage == "flip":
            data[4096 + 1000] ^= 1
        elif damage == "header":
            data[30] ^= 1
        file.write_bytes(data[: {"truncate": 9000, "empty": 0}.get(damage, len(data))])
    again = Scratch(tmp_path / "scratch")
    chunks, _, found = read_counted(plan(radi, again))
    assert equal(found, expected)
    assert chunks == 4 * CHUNKS
    assert len(caplog.records) == 4
    assert read_counted(plan(radi, Scratch(tmp_path / "scratch")))[0] == 0


def test_what_was_used_last_stays_and_nothing_of_this_run_goes(tmp_path: Path) -> None:
    radi, folder = made(tmp_path / "study"), tmp_path / "scratch"
    size = BYTES + 4096
    old = plan(made(tmp_path / "old", first=8), Scratch(folder))
    read(old)
    ages = sorted(folder.iterdir())
    for age, file in enumerate(ages):
        os.utime(file, (1000 + age, 1000 + age))
    few = plan(radi, Scratch(folder, bytes=5 * size))
    chunks, _, found = read_counted(few)
    assert equal(found, read(plan(radi, None)))
    assert chunks == 4 * CHUNKS  # all four, in place of the three oldest
    assert ages[3].exists()
    assert not any(file.exists() for file in ages[:3])
    three = Scratch(folder, bytes=3 * size)
    third = made(tmp_path / "third", first=12)
    assert equal(read(plan(third, three)), read(plan(third, None)))
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 3 * size
    hits = read_counted(plan(third, three))[1]
    assert hits == 3 * 8  # three volumes stay for the next epoch, the fourth is read where it is


def test_memory_keeps_what_fits(tmp_path: Path) -> None:
    radi = made(tmp_path / "study")
    cache = InMemory(3 * BYTES)
    read(plan(radi, cache))
    assert read_counted(plan(radi, cache))[1] == 3 * 8


def test_without_room_on_the_disk_reads_go_to_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    radi, folder = made(tmp_path / "study"), tmp_path / "scratch"

    def full(self: Any, head: bytes, block: npt.NDArray[Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch_module._Aside, "write", full)
    with caplog.at_level(logging.WARNING):
        found = read(plan(radi, Scratch(folder)))
    assert equal(found, read(plan(radi, None)))
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert list(folder.iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("a file")
    radi = made(tmp_path / "study")
    assert equal(read(plan(radi, Scratch(tmp_path / "taken" / "scratch"))), read(plan(radi, None)))
    assert len(caplog.records) == 1


def test_what_a_killed_writer_left_is_no_volume(tmp_path: Path) -> None:
    radi, folder = made(tmp_path / "study"), tmp_path / "scratch"
    read(plan(radi, Scratch(folder)))
    for file in list(folder.iterdir()):
        file.rename(file.with_suffix(".making"))
    assert read_counted(plan(radi, Scratch(folder)))[0] == 4 * CHUNKS
    assert [f.suffix for f in folder.iterdir()] == [".voxels"] * 4
    Scratch(folder).clear()
    assert list(folder.iterdir()) == []


def test_caches_pickle_as_settings(tmp_path: Path) -> None:
    radi = made(tmp_path / "study")
    for cache in (Scratch(tmp_path / "scratch", bytes=10**9, verify=False), InMemory(10**6)):
        of = plan(radi, cache)
        read(of)
        data = pickle.dumps(of)
        assert len(data) < 40_000
        assert repr(pickle.loads(data).cohort.cache) == repr(cache)


@pytest.mark.parametrize("size", [0, -5, 1.5])
def test_sizes_that_make_no_sense(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        Scratch(tmp_path, bytes=size)
    with pytest.raises(ConfigError, match="bytes"):
        InMemory(size)
