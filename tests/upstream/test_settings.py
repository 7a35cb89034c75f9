"""Settings under the names of the TileDB-based package: what they become, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from radiobject import (
    CompressionConfig,
    OrientationConfig,
    ReadConfig,
    S3Config,
    SliceOrientation,
    TileConfig,
    WriteConfig,
    configure,
)
from radiobject.config import Compressor, Config, current, reset
from radiobject.errors import ConfigError
from radiobject.location import Location

ARRAY = np.zeros((40, 50, 60), dtype="i2")


@pytest.mark.parametrize(
    ("tile", "chunks"),
    [
        (TileConfig(x=16, y=8, z=4), (16, 8, 4)),
        (TileConfig(orientation=SliceOrientation.AXIAL, z=4), (40, 50, 4)),
        (TileConfig(orientation=SliceOrientation.SAGITTAL), (1, 50, 60)),
        (TileConfig(y=64), (32, 50, 32)),
    ],
)
def test_tiles_are_the_chunks_that_are_stored(study, tile: TileConfig, chunks: tuple[int, ...]) -> None:
    radi = study({"x": {"a": ARRAY}}, write=WriteConfig(tile=tile))
    assert radi.x.iloc[0]._handle.spec.chunks[::-1] == chunks


def test_time_points_may_share_a_chunk(study) -> None:
    array = np.zeros((4, 4, 4, 10), dtype="i2")
    radi = study({"x": {"a": array}}, write=WriteConfig(tile=TileConfig(t=5)), axis4="time")
    assert radi.x.iloc[0]._handle.spec.chunks == (5, 4, 4, 4)


def test_settings_of_both_names_are_equal_values() -> None:
    assert TileConfig(x=1, y=2, z=3, t=4) == TileConfig(chunks=(1, 2, 3), chunk_t=4)
    assert hash(CompressionConfig(Compressor.ZSTD, 3)) == hash(CompressionConfig("zstd", 3))
    assert repr(CompressionConfig(Compressor.ZSTD, 3)) == repr(CompressionConfig("zstd", 3))
    assert ReadConfig(tile_cache_size_mb=8) == ReadConfig(cache_bytes=8 * 2**20)
    assert S3Config(endpoint="http://a") == S3Config("http://a")
    assert OrientationConfig(auto_detect=True) == OrientationConfig()


def test_settings_are_read_by_both_names() -> None:
    tile, read = TileConfig(x=1, y=2, z=3, t=4), ReadConfig(cache_bytes=3 * 2**20)
    assert (tile.x, tile.y, tile.z, tile.t, tile.chunk_t) == (1, 2, 3, 4, 4)
    assert (TileConfig().x, TileConfig().t) == (None, 1)
    assert read.tile_cache_size_mb == 3
    assert S3Config(endpoint="http://a").endpoint == S3Config(endpoint="http://a").endpoint_url == "http://a"


def test_settings_are_replaced_and_pickled_like_any_value() -> None:
    values = [TileConfig(x=1, y=2, z=3), ReadConfig(2, 0, 64, 8), S3Config("http://a", max_parallel_ops=3)]
    assert pickle.loads(pickle.dumps(values)) == values
    assert replace(values[1], cache_bytes=5).cache_bytes == 5
    assert replace(values[2], endpoint_url="http://b").endpoint == "http://b"
    assert replace(values[0], orientation=SliceOrientation.AXIAL).chunks == (1, 2, 3)
    with pytest.raises(AttributeError):
        values[1].cache_bytes = 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TileConfig(x=0), "three positive ints"),
        (lambda: TileConfig(x=1.5), "three positive ints"),
        (lambda: TileConfig(chunks=(1, 2, 3), x=4), "one of them"),
        (lambda: TileConfig(chunk_t=2, t=3), "one of them"),
        (lambda: TileConfig(t=0), "at least 1"),
        (lambda: TileConfig(shards=(32, None, 32)), "three positive ints"),
        (lambda: CompressionConfig(Compressor.GZIP), "archive"),
        (lambda: CompressionConfig("zstd", 10), "9 is its strongest"),
        (lambda: OrientationConfig(canonical_target="RRS"), "one of L, R"),
        (lambda: OrientationConfig(canonical_target="RASA"), "one of L, R"),
        (lambda: OrientationConfig(canonical_target="ras"), "one of L, R"),
        (lambda: OrientationConfig(auto_detect=False), "what the source says is kept"),
        (lambda: ReadConfig(memory_budget_mb=0), "at least 1"),
        (lambda: ReadConfig(memory_budget_mb=None), "at least 1"),
        (lambda: ReadConfig(max_workers=0), "at least 1"),
        (lambda: ReadConfig(max_workers=2.5), "at least 1"),
        (lambda: ReadConfig(max_workers=True), "at least 1"),
        (lambda: ReadConfig(cache_bytes=-1), "0 or more"),
        (lambda: ReadConfig(cache_bytes=0, tile_cache_size_mb=512), "one of them"),
        (lambda: S3Config(max_parallel_ops=0), "at least 1"),
        (lambda: S3Config(multipart_part_size_mb=4), "at least 5"),
        (lambda: S3Config(endpoint="http://a", endpoint_url="http://b"), "one of them"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_reset_gives_the_defaults_of_a_fresh_start() -> None:
    configure(read=ReadConfig(max_workers=3))
    assert current().read.max_workers == 3
    reset()
    assert current() == Config()


def under(options: dict[str, object], uri: str = "s3://bucket/study", **settings: object) -> Location:
    with configure(s3=S3Config(**settings)):
        return Location(uri, options)


def test_s3_settings_reach_the_client_of_s3fs() -> None:
    s3fs = pytest.importorskip("s3fs")
    place = under({}, endpoint="http://localhost:1", max_parallel_ops=16, use_virtual_addressing=True)
    fs, _ = place.filesystem()
    assert isinstance(fs, s3fs.S3FileSystem)
    assert fs.config_kwargs["max_pool_connections"] == 16
    assert fs.config_kwargs["s3"] == {"addressing_style": "virtual"}
    assert fs.endpoint_url == "http://localhost:1"


def test_s3_settings_reach_tensorstore_or_keep_it_away() -> None:
    spec = under({}, max_parallel_ops=16).kvstore()
    assert spec is not None
    assert spec["bucket"] == "bucket"
    assert under({}, max_parallel_ops=16).max_requests == 16
    # it knows only one way to address a bucket, by whether there is an endpoint
    for endpoint, virtual, can in (
        (None, True, True), (None, False, False), ("http://a", False, True), ("http://a", True, False),
    ):  # fmt: skip
        place = under({}, endpoint=endpoint, use_virtual_addressing=virtual)
        assert (place.kvstore() is not None) is can


def test_options_of_a_call_win_over_s3_settings() -> None:
    place = under({"max_parallel_ops": 2}, max_parallel_ops=16, multipart_part_size_mb=100)
    assert place.max_requests == 2
    assert place.pipe_args == {"chunksize": 100 * 2**20}


def test_s3_settings_do_not_concern_other_places(tmp_path) -> None:
    place = under({}, str(tmp_path), max_parallel_ops=16, multipart_part_size_mb=100)
    assert (place.options, place.max_requests, place.pipe_args) == ({}, None, {})


def test_s3_settings_survive_a_pickle_of_the_place() -> None:
    place = under({}, max_parallel_ops=16, endpoint="http://a")
    assert pickle.loads(pickle.dumps(place)).options == {"endpoint_url": "http://a", "max_parallel_ops": 16}
