"""What the benchmarks of reads time, as counts of work: they hold on any machine, however busy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from radiobject import RadiObject, ReadConfig, configure, measure

pytestmark = pytest.mark.slow

SHAPE = (100, 132, 70)
EDGE = 64
INDEX_BYTES = 16 * 4 * 5 * 3 + 4
"""(offset, size) of each 32-cube of the shard, and a crc32c."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One volume of noise, which no codec makes smaller, so that bytes read tell what was fetched."""
    place = tmp_path_factory.mktemp("reads") / "study"
    voxels = np.random.default_rng(0).integers(-(2**15), 2**15, SHAPE, np.int16)
    RadiObject.from_niftis(place, {"T1w": [((voxels, np.eye(4)), "sub-01")]}, progress=False)
    return place


@pytest.mark.parametrize("start", [(0, 0, 0), (31, 31, 3), (36, 68, 6), (1, 63, 5)])
def test_a_cube_decodes_at_most_27_chunks_of_one_shard(study: Path, start: tuple[int, int, int]) -> None:
    volume = RadiObject(study).T1w.iloc[0]
    with measure() as cost:
        volume[tuple(slice(a, a + EDGE) for a in start)]
    touched = [(a + EDGE - 1) // 32 - a // 32 + 1 for a in start]
    assert cost["chunks_decoded"] == np.prod(touched) <= 27
    assert len([f for f in study.glob("collections/T1w/*/*/0/c/**/*") if f.is_file()]) == 1


def test_the_index_of_a_shard_is_read_once(study: Path) -> None:
    with configure(read=ReadConfig(cache_bytes=2**25)):
        volume = RadiObject(study).T1w.iloc[0]
        costs = []
        for y in (0, 64):  # chunks that lie alike in the shard, none of them in both cubes
            with measure() as cost:
                volume[:EDGE, y : y + EDGE, :EDGE]
            costs.append(cost)
    first, second = costs
    assert first["requests"] == second["requests"] + 1
    assert first["bytes_read"] == second["bytes_read"] + INDEX_BYTES


def test_a_thousand_volumes_open_from_one_read_of_their_table(tmp_path: Path) -> None:
    voxels = np.ones((2, 2, 2), np.uint8)
    images = [((voxels, np.eye(4)), f"sub-{i:04d}") for i in range(1000)]
    RadiObject.from_niftis(tmp_path / "study", {"T1w": images}, progress=False)
    collection = RadiObject(tmp_path / "study").T1w
    with measure() as first:
        collection.iloc[0]
    assert first["row_groups"] == first["table_reads:T1w/obs"] == 1
    with measure() as rest:
        volumes = list(collection)
        shapes = {(v.shape, v.spacing) for v in volumes}
    assert (len(volumes), shapes) == (1000, {((2, 2, 2), (1.0, 1.0, 1.0))})
    assert rest["requests"] == rest["row_groups"] == rest["bytes_read"] == 0
    assert first["volumes_opened"] == rest["volumes_opened"] == 0  # no array was opened at all
    with measure() as touch:
        volumes[-1][...]
    assert (touch["volumes_opened"], touch["chunks_decoded"]) == (1, 1)


def test_an_open_volume_reads_a_cube_about_as_fast_as_tensorstore(study: Path) -> None:
    """One copy too many takes three times as long; docs/benchmarks.md has the fine figure. The best round
    counts, because what else the machine does can only make a round worse."""
    with configure(read=ReadConfig(cache_bytes=2**26)):
        volume = RadiObject(study).T1w.iloc[0]
        volume[...]
    store = ts.open(volume.array.spec(), context=ts.Context({"cache_pool": {"total_bytes_limit": 2**26}}))
    raw = store.result()
    raw.read().result()

    def median(read: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            read()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    ratios = [
        median(lambda: volume[5:69, 3:67, 2:66]) / median(lambda: raw[2:66, 3:67, 5:69].read().result())
        for _ in range(10)
    ]
    assert min(ratios) <= 1.5
