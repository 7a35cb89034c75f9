"""measure() counts what code really cost, and configure() sets defaults without hidden state."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from radiobject import (
    CompressionConfig,
    OrientationConfig,
    RadiObject,
    ReadConfig,
    S3Config,
    SliceOrientation,
    TileConfig,
    WriteConfig,
    configure,
    measure,
    measuring,
)
from radiobject.config import current
from radiobject.errors import ConfigError
from radiobject.executor import run
from radiobject.location import Location

ARCHIVE = WriteConfig.preset("archive")
NONE = WriteConfig.preset("none")


@pytest.fixture
def study_uri(tmp_path) -> str:
    array = np.arange(64**3, dtype="i4").reshape(64, 64, 64)
    RadiObject.from_niftis(tmp_path / "s", {"a": [((array, np.eye(4)), "s")]})
    return str(tmp_path / "s")


def test_counts_of_a_read_are_what_it_read(study_uri) -> None:
    vol = RadiObject(study_uri).a.iloc[0]
    with measure() as cost:
        block = vol[:10, :10, :10]
    assert cost["bytes_used"] == block.nbytes == 4000
    assert cost["chunks_decoded"] == 1
    assert cost["requests"] >= 1
    assert cost["bytes_read"] > 0
    with measure() as whole:
        vol.to_numpy()
    assert whole["chunks_decoded"] == 8
    assert whole["bytes_used"] == 64**3 * 4
    assert whole["bytes_read"] > cost["bytes_read"]


def test_opening_costs_no_request_once_the_rows_are_there(study_uri) -> None:
    radi = RadiObject(study_uri)
    radi.a.iloc[0]
    with measure() as cost:
        vol = radi.a.iloc[0]
        repr(vol)
        vol.affine.sum()
    assert cost["requests"] == 0


def test_a_new_handle_costs_two_small_requests(study_uri) -> None:
    RadiObject(study_uri)
    with measure() as cost:
        RadiObject(study_uri)
    assert cost["requests"] == 2
    assert cost["bytes_read"] < 1000


def test_blocks_may_nest_and_count_every_thread() -> None:
    with measure() as outer:
        measuring.add("x", 2)
        with measure() as inner:
            threads = [threading.Thread(target=measuring.add, args=("x", 3)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        measuring.add("x")
    measuring.add("x", 100)
    assert (outer["x"], inner["x"]) == (15, 12)
    assert outer["never"] == 0
    assert not measuring.active()


def test_no_count_of_many_threads_is_lost() -> None:
    def count() -> None:
        for _ in range(20_000):
            measuring.add("x")

    with measure() as cost:
        threads = [threading.Thread(target=count) for _ in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert cost["x"] <= 120_000
    assert cost["x"] == 120_000


def test_a_block_may_end_wherever_another_one_is(monkeypatch) -> None:
    def counting():
        with measure():
            yield

    monkeypatch.setattr(measuring, "_probes", [])
    ending = [counting(), counting()]
    for pass_ in ending:
        next(pass_)

    def collected() -> dict[str, int]:
        if ending:
            ending.pop().close()  # as garbage collection does, in the middle of what takes the lock
        return {"hits": 1}

    measuring.register_probe(collected)
    with measure() as cost:
        measuring.add("x")
    assert (cost["x"], cost["hits"], ending) == (1, 0, [])
    assert not measuring.active()


def test_a_block_that_fails_is_closed() -> None:
    with pytest.raises(ZeroDivisionError), measure():
        1 / 0  # noqa: B018
    assert not measuring.active()


def test_a_probe_is_sampled_at_both_ends(monkeypatch) -> None:
    monkeypatch.setattr(measuring, "_probes", [])
    total = {"hits": 100}
    measuring.register_probe(lambda: dict(total))
    with measure() as cost:
        total["hits"] += 7
    total["hits"] += 1
    assert cost["hits"] == 7


def test_the_report_names_the_counters_in_order() -> None:
    with measure() as cost:
        measuring.add("zebra")
        measuring.add("bytes_read", 12_345)
        measuring.add("requests", 2)
    assert repr(cost) == "measure(requests=2, bytes_read=12,345, zebra=1)"


def test_settings_hold_inside_the_block_only() -> None:
    assert current().write == WriteConfig()
    with configure(write=ARCHIVE) as settings:
        assert current() == settings
        assert current().write == ARCHIVE
        with configure(read=ReadConfig(concurrency=2)):
            assert (current().write, current().read.concurrency) == (ARCHIVE, 2)
            with configure(write=NONE):
                assert current().write == NONE
            assert current().write == ARCHIVE
        assert current().read.concurrency is None
    assert current().write == WriteConfig()


def test_an_error_inside_the_block_restores_the_settings() -> None:
    with pytest.raises(ZeroDivisionError), configure(write=ARCHIVE):
        1 / 0  # noqa: B018
    assert current().write == WriteConfig()


def test_a_plain_call_sets_the_process_default_for_all_threads() -> None:
    before = current().write
    seen: list[WriteConfig] = []
    try:
        configure(write=ARCHIVE)
        thread = threading.Thread(target=lambda: seen.append(current().write))
        thread.start()
        thread.join()
        assert current().write == ARCHIVE
        with configure(write=NONE):
            assert current().write == NONE
        assert current().write == ARCHIVE
    finally:
        configure(write=before)
    assert seen == [ARCHIVE]
    assert current().write == before


def test_a_block_does_not_reach_threads_that_do_not_belong_to_it() -> None:
    started, done = threading.Event(), threading.Event()
    seen: list[WriteConfig] = []

    def other() -> None:
        started.wait(10)
        seen.append(current().write)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with configure(write=ARCHIVE):
        started.set()
        done.wait(10)
    thread.join()
    assert seen == [WriteConfig()]


@pytest.mark.parametrize("executor", ["threads", "serial"])
def test_a_block_reaches_the_workers_of_what_it_calls(executor) -> None:
    with configure(s3=S3Config(endpoint_url="http://localhost:1", anon=True)):
        made = [place for _, place in run(Location, ["s3://a/b", "s3://c/d"], executor=executor)]
    options = {"anon": True, "endpoint_url": "http://localhost:1"}
    assert [m.options for m in made if isinstance(m, Location)] == [options] * 2
    assert Location("s3://a/b").options == {}


def test_arguments_win_over_settings() -> None:
    with configure(s3=S3Config(region="eu-west-1", profile="lab")):
        assert Location("s3://a/b", {"region": "us-east-2"}).options == {
            "region": "us-east-2",
            "profile": "lab",
        }
        assert Location("/a/b").options == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TileConfig(chunks=(32, 32)), "three positive ints"),
        (lambda: TileConfig(chunks=(32, 0, 32)), "three positive ints"),
        (lambda: TileConfig(shards=(32, 1.5, 32)), "three positive ints"),
        (lambda: TileConfig(chunk_t=0), "at least 1"),
        (lambda: CompressionConfig("gzip"), "lz4hc"),
        (lambda: CompressionConfig(shuffle="bytes"), "bitshuffle"),
        (lambda: CompressionConfig(level=10), "0 to 9"),
        (lambda: CompressionConfig.preset("best"), "archive"),
        (lambda: WriteConfig.preset("best"), "archive"),
        (lambda: ReadConfig(concurrency=0), "at least 1"),
    ],
)
def test_values_out_of_range_are_refused_at_once(make, words) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_settings_are_values() -> None:
    assert WriteConfig() == WriteConfig()
    assert hash(TileConfig(SliceOrientation.AXIAL)) == hash(TileConfig(SliceOrientation.AXIAL))
    assert OrientationConfig() != OrientationConfig(reorient_on_load=True)
    with pytest.raises(AttributeError):
        WriteConfig().compression = CompressionConfig()  # type: ignore[misc]


def test_a_block_knows_what_it_has_counted() -> None:
    with measure() as cost:
        measuring.add("requests")
    assert "requests" in cost
    assert "cache_hits" not in cost
