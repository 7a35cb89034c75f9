"""How often the network is waited for, counted by a proxy that makes every request late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, ReadConfig, Volume, configure
from radiobject.backends.zarr import shards
from radiobject.format import catalog
from radiobject.location import Location
from radiobject.storage import Storage
from tests.s3.conftest import BUCKET, S3PathFactory
from tests.servers.proxy import Proxy, Request, counting_proxy, rounds

ENGINES = ("tensorstore", "zarr-python")
LATE = 0.3
"""Seconds; requests that a client sends together are sent within it, also on a busy machine."""

SHAPE = (160, 128, 96)


def voxels(seed: int) -> np.ndarray:
    """Noise, which no codec makes smaller, so that chunks lie apart in the shard."""
    return np.random.default_rng(seed).integers(-(2**15), 2**15, SHAPE, np.int16)


def images(*seeds: int) -> dict[str, Any]:
    return {"T1w": [((voxels(seed), np.eye(4)), f"sub-{seed}") for seed in seeds]}


@pytest.fixture(scope="module")
def proxy(server: dict[str, Any]) -> Iterator[Proxy]:
    with counting_proxy(server["endpoint_url"]) as made:
        yield made


@pytest.fixture(scope="module")
def place(proxy: Proxy, on_s3: None) -> tuple[str, dict[str, Any]]:
    uri, options = str(S3PathFactory().mktemp("rounds") / "study"), {"endpoint_url": proxy.url}
    RadiObject.from_niftis(uri, images(0, 1, 2, 3, 4, 5), storage_options=options, progress=False)
    return uri, options


@pytest.fixture
def radi(engine: str, place: tuple[str, dict[str, Any]], proxy: Proxy) -> Iterator[RadiObject]:
    """The study, open, its table read and the client's connections made, from now on with latency."""
    uri, options = place
    with configure(read=ReadConfig(cache_bytes=2**20)):
        study = RadiObject(uri, storage_options=options)
        study.T1w.loc["sub-3_T1w"][0, 0, 0]
        proxy.delay(LATE)
        yield study
    proxy.delay(0)


def waited(requests: list[Request]) -> tuple[int, str]:
    """The rounds, and the requests for the message of a test that fails."""
    lines = [f"{r.begin:.3f} {r.end:.3f} {r.method} {r.key} {r.range} {r.status}" for r in requests]
    return rounds(requests), "\n".join(lines)


def test_a_study_opens_in_two_rounds_and_its_table_in_one(radi: RadiObject, place, proxy: Proxy) -> None:
    uri, options = place
    catalog._snapshots.clear()  # as a process that has not seen it
    with proxy.recorded() as seen:
        opened = RadiObject(uri, storage_options=options)
    assert waited(seen)[0] <= 2, waited(seen)
    assert sorted(r.method for r in seen) == ["GET", "GET", "HEAD"]
    with proxy.recorded() as seen:
        assert len(list(opened.T1w)) == 6
    assert (len(seen), waited(seen)[0]) == (1, 1), waited(seen)


def test_a_study_that_was_seen_opens_again_in_one_round(radi: RadiObject, place, proxy: Proxy) -> None:
    uri, options = place
    with proxy.recorded() as seen:
        RadiObject(uri, storage_options=options)
    assert (len(seen), waited(seen)[0]) == (2, 1), waited(seen)


def cube(volume: Volume, start: int) -> np.ndarray:
    return volume[start : start + 64, start : start + 64, start : start + 64]


def test_a_cube_is_two_rounds_and_the_next_one(radi: RadiObject, proxy: Proxy) -> None:
    attempts = []
    for subject in range(3):  # a machine that has much to do sends late: the best of three counts
        volume = radi.T1w.loc[f"sub-{subject}_T1w"]
        with proxy.recorded() as first:
            found = cube(volume, 8)
        with proxy.recorded() as second:
            cube(volume, 32)
        np.testing.assert_array_equal(found, voxels(subject)[8:72, 8:72, 8:72])
        assert len(first) >= 9, "these chunks lie apart in the shard: their ranges are to go together"
        attempts.append((waited(first), waited(second)))
        if rounds(first) <= 2 and rounds(second) == 1:
            return
    raise AssertionError(attempts)


def test_a_whole_volume_is_one_request(radi: RadiObject, proxy: Proxy) -> None:
    with proxy.recorded() as seen:
        found = radi.T1w.loc["sub-4_T1w"][...]
    assert (len(seen), waited(seen)[0]) == (1, 1), waited(seen)
    np.testing.assert_array_equal(found, voxels(4))


@pytest.mark.only("zarr-python", reason="tensorstore decides for itself what it asks at a time")
def test_a_large_shard_is_fetched_by_ranges_at_the_same_time(
    radi: RadiObject, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_AT_ONCE", 2**16)
    monkeypatch.setattr(shards, "_LEAST_RANGE", 2**18)
    with proxy.recorded() as seen:
        found = radi.T1w.loc["sub-5_T1w"][...]
    assert (len(seen) > 3, waited(seen)[0]) == (True, 2), waited(seen)
    np.testing.assert_array_equal(found, voxels(5))


def test_an_ingest_puts_each_shard_once_and_in_one_request(place, proxy: Proxy, tmp_path) -> None:
    _, options = place
    with proxy.recorded() as seen:
        RadiObject.from_niftis(tmp_path / "study", images(0, 1), storage_options=options, progress=False)
    shards_put = Counter(r.key for r in seen if r.method == "PUT" and "/0/c/" in r.key)
    assert list(shards_put.values()) == [1, 1]
    assert not [r for r in seen if r.method == "POST"]  # no upload in parts
    puts = Counter(r.key for r in seen if r.method == "PUT" and r.status == 200)
    assert set(puts.values()) == {1}


def test_a_missing_object_is_asked_for_once(place, proxy: Proxy) -> None:
    uri, options = place
    storage = Storage(Location(uri, options))
    with proxy.recorded() as seen:
        assert storage.size("none") is None
    assert [(r.method, r.status) for r in seen] == [("HEAD", 404)]
    assert BUCKET not in seen[0].key
