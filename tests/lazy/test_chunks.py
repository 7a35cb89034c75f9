"""`chunks=`: dask chunks along the borders of stored ones, one read a task; splits are warned of."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy.grids import slices
from radiobject import TileConfig, Volume, WriteConfig, measure
from radiobject.errors import ConfigError

SHAPE = (10, 9, 5)
SMALL = WriteConfig(tile=TileConfig(chunks=(4, 3, 2), shards=(8, 6, 4)))
VOXELS = np.arange(10 * 9 * 5, dtype="i2").reshape(SHAPE)


@pytest.fixture
def volume(study) -> Volume:
    return study({"T1w": {"a": VOXELS}}, write=SMALL).T1w.iloc[0]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ("chunk", ((4, 4, 2), (3, 3, 3), (2, 2, 1))),
        ("volume", ((10,), (9,), (5,))),
        ({}, ((8, 2), (6, 3), (4, 1))),
        ({"x": 4, "z": -1}, ((4, 4, 2), (6, 3), (5,))),
        ({"x": 8, "y": None}, ((8, 2), (9,), (4, 1))),
        ({"y": (3, 6)}, ((8, 2), (3, 6), (4, 1))),
        ({"x": 100, "y": np.int64(6)}, ((10,), (6, 3), (4, 1))),
    ],
)
def test_chunks_are_whole_stored_ones(volume: Volume, chunks: Any, expected: Any) -> None:
    array = volume.to_xarray(chunks)
    assert array.chunks == expected
    assert volume.to_dask(chunks).chunks == expected
    with measure() as m:
        assert np.array_equal(array, VOXELS)
    assert m["lazy_reads"] == np.prod([len(c) for c in expected])  # one read a task
    assert m["chunks_decoded"] == 3 * 3 * 3  # each of them once
    assert m["volumes_opened"] == 1


def test_to_dask_is_a_task_a_shard(volume: Volume) -> None:
    array = volume.to_dask()
    assert array.chunks == ((8, 2), (6, 3), (4, 1))
    assert array.dtype == np.int16
    assert int(array.sum().compute()) == VOXELS.sum()


def test_chunks_of_parts_follow_what_is_stored(volume: Volume) -> None:
    @settings(deadline=None, max_examples=25)
    @given(st.tuples(*[slices(n) for n in SHAPE]), st.sampled_from(["RAS", "LSP", "PIR"]))
    def check(key: tuple[slice, ...], codes: str) -> None:
        part = volume.slicer[key].reorient(codes)
        array = part.to_xarray("chunk")
        with measure() as m:
            values = array.to_numpy()
        assert np.array_equal(values, part[...])
        touched = [len({i // c for i in range(n)[s]}) for n, s, c in zip(SHAPE, key, (4, 3, 2), strict=True)]
        assert m["lazy_reads"] == m["chunks_decoded"] == np.prod(touched)

    check()


def test_sizes_that_split_stored_chunks_are_right_and_warned_of(volume: Volume) -> None:
    with pytest.warns(UserWarning, match=r"along 'x', the first at 5: .*chunks of 4") as caught:
        array = volume.to_xarray({"x": 5})
    assert caught[0].filename == __file__
    assert array.chunks[0] == (5, 5)
    with measure() as m:
        assert np.array_equal(array, VOXELS)
    assert m["chunks_decoded"] == 4 * 3 * 3  # that in the middle twice


def test_the_warning_for_collections_names_the_caller_too(study) -> None:
    radi = study({"T1w": {"a": VOXELS}}, write=SMALL)
    for make in (radi.T1w.to_xarray, radi.to_xarray):
        with pytest.warns(UserWarning, match="along 'z', the first at 1") as caught:
            make(chunks={"z": 1})
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ("auto", "expected None, 'volume', 'chunk' or sizes by axis"),
        (32, "expected None, 'volume', 'chunk'"),
        ({"t": 1}, r"some of the axes \['x', 'y', 'z'\], got \['t'\]"),
        ({"x": 0}, "chunks= along 'x': expected a size above zero, -1, or sizes that add up to 10"),
        ({"x": (4, 4)}, "chunks= along 'x'.*got \\(4, 4\\)"),
        ({"x": (11, -1)}, "chunks= along 'x'"),
        ({"x": True}, "chunks= along 'x'"),
        ({"x": "4"}, "chunks= along 'x'"),
    ],
)
def test_other_chunks_are_refused(volume: Volume, chunks: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        volume.to_xarray(chunks)


def test_a_volume_in_memory_is_in_the_graph_once() -> None:
    volume = Volume.from_numpy(np.zeros((64, 64, 64)))
    array = volume.to_dask("chunk")
    assert array.npartitions == 8
    graph = dict(array.__dask_graph__())
    holders = [key for key, task in graph.items() if not getattr(task, "dependencies", ())]
    assert len(holders) == 1
    assert float(array.sum().compute(scheduler="sync")) == 0


def test_settings_of_dask_choose_where_it_runs(volume: Volume) -> None:
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            assert np.array_equal(volume.to_xarray("chunk"), VOXELS)
