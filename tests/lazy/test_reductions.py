"""Reductions over a whole collection: NumPy's results, bounded memory, every chunk once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from radiobject import RadiObject, measure

N, SHAPE = 512, (64, 64, 64)
VOXEL_BYTES = N * 64**3 * 4
CHUNKS = N * 8
SCAN = np.random.default_rng(0).normal(size=SHAPE).astype("f4")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """512 volumes of float32, 1 MiB in 8 chunks each: half a gigabyte of voxels to add up."""
    place = str(tmp_path_factory.mktemp("reductions") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
        from subjects import write_subjects
    write_subjects(place, N, ("T1w",), (SCAN, np.eye(4)))
    return place


def reductions(array: xr.DataArray) -> dict[str, xr.DataArray]:
    """Over all volumes, by a column of the subject table, and within each volume."""
    return {
        "mean": array.mean("obs_id"),
        "by dx": array.groupby("dx").mean("obs_id"),
        "each": array.max(["x", "y", "z"]),
    }


EXPECTED = {
    "mean": SCAN.astype("f8"),
    "by dx": np.stack([SCAN.astype("f8")] * 3),
    "each": np.full(N, SCAN.max()),
}


@pytest.mark.parametrize("chunks", ["volume", "chunk", {"obs_id": 16}])
@pytest.mark.parametrize("name", EXPECTED)
def test_threads_give_numpys_and_read_every_chunk_once(uri: str, name: str, chunks: Any) -> None:
    made = reductions(RadiObject(uri).T1w.iloc[:96].to_xarray(chunks=chunks))[name]
    with measure() as m:
        found = made.to_numpy()
    expected = EXPECTED[name] if name != "each" else EXPECTED[name][:96]
    assert np.allclose(found, expected, rtol=1e-6)
    assert m["chunks_decoded"] == 96 * 8
    # chunk by chunk of all volumes, more are used in turn than stay open
    assert m["volumes_opened"] == 96 or (chunks == "chunk" and m["volumes_opened"] <= 96 * 8)
    assert m["lazy_reads"] == (96 * 8 if chunks == "chunk" else 96)


PEAK = """
import re

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

def forget_the_peak():
    open("/proc/self/clear_refs", "w").write("5")
    return memory("VmRSS")
"""
"""The peak of this process from now on; `ru_maxrss` begins at that of the parent."""

IN_THREADS = """
import json, sys
from radiobject import RadiObject, measure

array = RadiObject(sys.argv[1]).T1w.to_xarray(chunks="volume")
array.isel(obs_id=slice(4)).groupby("dx").mean("obs_id").compute()  # what is loaded once is no part of it
before = forget_the_peak()
with measure() as m:
    if sys.argv[2] == "mean":
        found = array.mean("obs_id").to_numpy()
    else:
        found = array.groupby("dx").mean("obs_id").to_numpy()
print(json.dumps([memory("VmHWM") - before, m["chunks_decoded"], float(found.mean())]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the peak of memory")
@pytest.mark.parametrize("what", ["mean", "groups"])
def test_memory_is_a_fraction_of_the_voxels(uri: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PEAK + IN_THREADS)
    ran = subprocess.run(
        [sys.executable, tmp_path / "script.py", uri, what], capture_output=True, text=True, check=True
    )
    grown, chunks, mean = json.loads(ran.stdout)
    print(f"\n{what}: peak grew by {grown / VOXEL_BYTES:.3f} of {VOXEL_BYTES / 2**20:.0f} MiB of voxels")
    assert chunks == CHUNKS
    assert mean == pytest.approx(float(SCAN.astype("f8").mean()), rel=1e-5)
    assert grown < VOXEL_BYTES / 4


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


def count_on_workers(client: Any, work: Any) -> tuple[Any, list[dict[str, int]]]:
    """The result, and what each worker counted meanwhile, with its peak memory before and after."""

    def begin(peak: str) -> None:
        import radiobject

        radiobject.tools = {}
        exec(peak, radiobject.tools)
        radiobject.before = radiobject.tools["forget_the_peak"]()
        radiobject.counting = radiobject.measure()
        radiobject.counting.__enter__()

    def end() -> dict[str, int]:
        import radiobject

        radiobject.counting.__exit__(None, None, None)
        return {
            **radiobject.counting.counts,
            "grown": radiobject.tools["memory"]("VmHWM") - radiobject.before,
        }

    client.run(begin, PEAK)
    try:
        result = work()
    finally:
        counted = list(client.run(end).values())
    return result, counted


@pytest.mark.parametrize(("name", "view"), [("mean", False), ("by dx", True)], ids=["whole", "view"])
def test_a_cluster_gives_numpys_and_reads_every_chunk_once(
    uri: str, client: Any, name: str, view: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = RadiObject(uri).T1w
    if view:  # as one of more rows than go along with every task
        monkeypatch.setattr("radiobject.lazy.stack._INLINE", N - 1)
        collection = collection.iloc[::-1]
    array = collection.to_xarray(chunks="volume")
    # one key holds the array for all tasks, or each task does
    assert len(array.__dask_graph__().layers) == (2 if view else 1)
    made = reductions(array)[name]
    array[:32].mean().compute()  # what workers load once is no part of it
    with measure() as here:
        found, counted = count_on_workers(client, made.to_numpy)
    assert np.allclose(found, EXPECTED[name], rtol=1e-6)
    assert sum(c["chunks_decoded"] for c in counted) == CHUNKS
    assert sum(c["volumes_opened"] for c in counted) == sum(c["lazy_reads"] for c in counted) == N
    assert all(c["chunks_decoded"] for c in counted)  # both had their part
    assert here["lazy_reads"] == 0
    print(f"\n{name}: peaks grew by {[round(c['grown'] / VOXEL_BYTES, 3) for c in counted]} of the voxels")
    assert sum(c["grown"] for c in counted) < VOXEL_BYTES / 2


def test_partners_are_read_together_on_a_cluster(study: Any, client: Any) -> None:
    radi = study()
    ds = radi.to_xarray(["T1w", "seg"], chunks="volume")
    assert (ds.seg - ds.T1w).max(["x", "y", "z"]).to_numpy().tolist() == [10, 10, 10]
    turned = ds.T1w.radi.reorient("SLP")
    assert np.array_equal(turned[0], radi.T1w.iloc[0].reorient("SLP")[...])
