"""Ten thousand volumes as xarray: tables once, no volume, no object a volume; every chunk once when used."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from radiobject import RadiObject, Volume, measure
from radiobject.format import catalog

N = 10_000


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """T1w and seg of 10,000 subjects, 8x8x8 voxels each, with tables as ingest and an append leave them."""
    place = str(tmp_path_factory.mktemp("scale") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
        from subjects import write_subjects
    write_subjects(place, N, ("T1w", "seg"))
    return place


def row_groups(uri: str, *tables: str) -> int:
    """How many there are in all parts of tables, "obs_meta" or names of collections."""
    commit = RadiObject(uri)._study.snapshot.commit
    parts = [
        p
        for t in tables
        for p in (commit.tables[t] if t == "obs_meta" else commit.collection(t).tables["obs"])
    ]
    return sum(pq.ParquetFile(f"{uri}/{part.path}").num_row_groups for part in parts)


def whole(uri: str) -> Any:
    return RadiObject(uri).T1w.to_xarray()


def by_volume(uri: str) -> Any:
    return RadiObject(uri).T1w.to_xarray(chunks="volume")


def by_index(uri: str) -> Any:
    return RadiObject(uri).T1w.to_xarray(grid="index", chunks={})


def with_one_column(uri: str) -> Any:
    return RadiObject(uri).T1w.to_xarray(columns=["age"])


def partners(uri: str) -> Any:
    return RadiObject(uri).to_xarray(["T1w", "seg"], chunks={})


def by_engine(uri: str) -> Any:
    return xr.open_dataset(uri, engine="radiobject", collection="T1w", chunks={})


@pytest.mark.parametrize("make", [whole, by_volume, by_index, with_one_column, partners, by_engine])
def test_opening_reads_each_table_once_and_no_voxel(uri: str, make: Callable[[str], Any]) -> None:
    tables = ("T1w", "obs_meta", *(("seg",) if make is partners else ()))
    expected = row_groups(uri, *tables)
    catalog._snapshots.clear()
    with measure() as m:
        made = make(uri)
        repr(made)
    assert m["volumes_opened"] == m["chunks_decoded"] == m["lazy_reads"] == m["bytes_used"] == 0
    assert m["row_groups"] == expected
    # beside the column ranges of each part: hint, commit, the version after it, and footers
    assert m["requests"] <= 6 * len(tables) + 12


def test_a_tree_of_collections_reads_the_subjects_once_a_collection(uri: str) -> None:
    expected = row_groups(uri, "T1w", "seg", "obs_meta", "obs_meta")
    catalog._snapshots.clear()
    with measure() as m:
        tree = xr.open_datatree(uri, engine="radiobject", chunks={})
    assert m["volumes_opened"] == m["chunks_decoded"] == 0
    assert m["row_groups"] == expected
    assert tree["T1w"].sizes["obs_id"] == N


def test_there_is_no_object_a_volume(uri: str) -> None:
    def alive() -> tuple[int, int]:
        gc.collect()
        things = gc.get_objects()
        return len(things), sum(type(thing) is Volume for thing in things)

    first = by_volume(uri)
    objects, volumes = alive()
    second = by_volume(uri)
    more, still = alive()
    assert first.data.npartitions == second.data.npartitions == N
    assert not any(layer.is_materialized() for layer in second.__dask_graph__().layers.values())
    assert still == volumes
    assert more - objects < N / 4


def test_graphs_stay_small_also_for_views(uri: str) -> None:
    radi = RadiObject(uri)
    for some in (radi.T1w, radi.T1w.iloc[::2], radi.filter("dx == 'AD'").T1w):
        graph = pickle.dumps(some.to_xarray(chunks="volume").__dask_graph__())
        assert len(graph) < 20 * len(some) + 10_000  # a length and a row number for each, no handles


def test_a_mean_over_all_opens_each_once_and_decodes_each_chunk_once(uri: str) -> None:
    array = RadiObject(uri).T1w.to_xarray(chunks={"obs_id": 100})
    with measure() as m:
        mean = array.mean("obs_id").to_numpy()
    assert m["volumes_opened"] == m["chunks_decoded"] == m["lazy_reads"] == N
    assert np.array_equal(mean, np.arange(512).reshape(8, 8, 8))
    assert m["bytes_used"] == N * 8**3 * 2


def test_one_of_ten_thousand_costs_one_volume(uri: str) -> None:
    array = RadiObject(uri).T1w.to_xarray()
    with measure() as m:
        one = array.sel(obs_id="sub-007777_T1w", z=slice(0, 1))
        assert int(one.max()) == 505
    assert (m["volumes_opened"], m["lazy_reads"]) == (1, 1)
    assert m["row_groups"] <= 1
    assert one.radi.to_volume().obs_id == "sub-007777_T1w"
    assert sys.getsizeof(pickle.dumps(one.variable)) < 5_000
