"""Workers of a cluster: one that dies each time, all that there are, what they hold and are given."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import IngestError
from radiobject.executor import run
from radiobject.ingest.groups import MOST_BYTES, MOST_VOLUMES, grouped
from radiobject.ingest.sources import Readable, Source
from radiobject.writing.loaded import Loaded, from_array

pytestmark = pytest.mark.slow


@contextmanager
def cluster(workers: int, threads: int = 1, *, processes: bool = True) -> Iterator[Any]:
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, processes=processes,
            dashboard_address="127.0.0.1:0", **({"host": "127.0.0.1"} if processes else {}),
        ) as made,
        distributed.Client(made) as client,
    ):  # fmt: skip
        yield client


class Scan(Readable):
    """A source that knows how many of its kind are in memory; a `deadly` one kills who loads it."""

    alive: ClassVar[int] = 0
    most: ClassVar[int] = 0
    lock: ClassVar[Any] = threading.Lock()

    def __init__(self, value: int, *, deadly: bool = False) -> None:
        self.value, self.deadly = value, deadly

    @property
    def name(self) -> str:
        return f"scan {self.value}"

    @property
    def fingerprint(self) -> str | None:
        return None

    def load(self) -> Loaded:
        if self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        array = np.full((20, 20, 20), self.value, "i2")
        loaded = from_array(array, None, self.name)
        with Scan.lock:
            Scan.alive += 1
            Scan.most = max(Scan.most, Scan.alive)
        weakref.finalize(loaded.voxels, Scan.gone)
        return loaded

    @staticmethod
    def gone() -> None:
        with Scan.lock:
            Scan.alive -= 1

    def private(self, text: str) -> str:
        return text


def scans(n: int, deadly: int | None = None) -> dict[str, Any]:
    return {"T1w": [(Scan(i, deadly=i == deadly), f"s{i:03d}") for i in range(n)]}


def test_a_volume_that_kills_every_worker_is_the_only_one_that_fails(tmp_path: Path) -> None:
    with cluster(2) as client:
        radi = RadiObject.from_niftis(
            tmp_path / "study", scans(24, deadly=13), executor=client, errors="collect"
        )
    assert [int(v[0, 0, 0]) for v in radi.T1w] == [n for n in range(24) if n != 13]
    failed = [r for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "failed"]
    assert [(r["obs_subject_id"], r["error"]) for r in failed] == [("s013", "WorkerError")]


def test_the_only_worker_is_killed_and_its_successor_goes_on(tmp_path: Path) -> None:
    killed: list[int] = []
    with cluster(1) as client:

        def kill(done: int, total: int) -> None:
            if done >= 4 and not killed:
                killed.extend(client.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)

        radi = RadiObject.from_niftis(tmp_path / "study", scans(16), executor=client, progress=kill)
        assert killed != list(client.run(os.getpid).values())
    assert [int(v[0, 0, 0]) for v in radi.T1w] == list(range(16))


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_volumes_are_in_memory_than_threads_whatever_a_task_holds(tmp_path: Path, threads) -> None:
    Scan.alive = Scan.most = 0
    with cluster(1, threads, processes=False) as client:
        assert len(grouped(sources(64), threads)[0]) > 4
        radi = RadiObject.from_niftis(tmp_path / "study", scans(64), executor=client)
    gc.collect()
    assert [int(v[0, 0, 0]) for v in radi.T1w] == list(range(64))
    # the engine's threads let go of what was written a moment after the write has returned
    assert 1 <= Scan.most <= threads + 1
    assert Scan.alive == 0


def test_every_failure_of_a_group_is_reported_with_its_source(tmp_path: Path, files: Path) -> None:
    for n in range(30):
        (files / f"sub-x{n:02d}_T1w.nii.gz").write_bytes(b"<html>")
    with cluster(1, 2, processes=False) as client, pytest.raises(IngestError, match="30 of 34") as caught:
        RadiObject.from_niftis(tmp_path / "study", {"T1w": files}, executor=client)
    assert sorted(r["obs_subject_id"] for r in caught.value.report) == [f"sub-x{n:02d}" for n in range(30)]


def test_two_runs_on_one_worker_are_not_mixed_up() -> None:
    """Threads of a worker share the task that they keep loaded."""
    met = threading.Barrier(2)
    found: dict[int, set[Any]] = {}

    def task(factor: int) -> Callable[[int], int]:
        return lambda n: n * factor

    with cluster(1, 2, processes=False) as client:

        def go(factor: int) -> None:
            met.wait(60)
            found[factor] = {r for _, r in run(task(factor), [1] * 500, executor=client)}

        both = [threading.Thread(target=go, args=(factor,)) for factor in (1, 1000)]
        often = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for one in both:
                one.start()
            for one in both:
                one.join()
        finally:
            sys.setswitchinterval(often)
    assert found == {1: {1}, 1000: {1000}}


def sources(n: int, item: Any = None) -> list[Source]:
    return [Source("T1w", f"s{i}", f"s{i}_T1w", item or Scan(i), f"s{i}") for i in range(n)]


@pytest.mark.parametrize(("n", "width"), [(1, 4), (7, 2), (64, 2), (2000, 2), (100_000, 16)])
def test_groups_keep_the_order_and_leave_work_for_all(n: int, width: int) -> None:
    listed = sources(n)
    groups = grouped(listed, width)
    assert list(chain(*groups)) == listed
    assert max(map(len, groups)) <= MOST_VOLUMES
    assert len(groups) >= min(n, 4 * width)


def test_groups_of_large_files_and_of_arrays_are_small(tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES // 3 + 1)  # sparse: it takes no room
    assert {len(g) for g in grouped(sources(400, str(large)), 2)} == {2}
    assert {len(g) for g in grouped(sources(400, (np.zeros((2, 2, 2), "i2"), np.eye(4))), 2)} == {1}
