"""What it costs to open a study of 10,000 volumes as xarray, beside xarray's way of opening many Zarr stores.

    python benchmarks/xarray_open.py                       # about half a minute, 50 MB of temporary files
    python benchmarks/xarray_open.py --volumes 1000 --peer 50 --rounds 3 --json FILE

All volumes are 8x8x8 int16, and one and the same on disk: what is timed is tables, handles and graphs, not
decoding. Ours opens the study anew in a warm process each time. The peer opens the URL of each volume with
`xr.open_zarr` and joins them with `xr.concat`, for `--peer` volumes; its time for all is extrapolated. Both
then average the same volumes on dask's threads, and must agree.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from subjects import write_subjects

from radiobject import RadiObject, measure
from radiobject.format import catalog

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "xarray", "dask", "zarr", "pyarrow", "numpy")


def main() -> None:
    """Make the study, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=10_000)
    parser.add_argument("--peer", type=int, default=200, help="volumes that the peer opens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{folder}/study"
        write_subjects(uri, options.volumes, ("T1w", "seg"))
        report = {
            "machine": machine_line(*PACKAGES),
            "command": command_line(),
            "volumes": options.volumes,
            "peer_volumes": options.peer,
            "opening": _opening(uri, options.rounds),
            "peer": _peer(uri, options.volumes, options.peer, options.rounds),
            "all": _all(uri),
        }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))
    _print(Console(width=140), report)


def _opening(uri: str, rounds: int) -> dict[str, Any]:
    ways: dict[str, Callable[[], Any]] = {
        "T1w.to_xarray()": lambda: RadiObject(uri).T1w.to_xarray(),
        'T1w.to_xarray(columns=["age"])': lambda: RadiObject(uri).T1w.to_xarray(columns=["age"]),
        'T1w.to_xarray(chunks="volume")': lambda: RadiObject(uri).T1w.to_xarray(chunks="volume"),
        'T1w.iloc[::2].to_xarray(chunks="volume")': lambda: (
            RadiObject(uri).T1w.iloc[::2].to_xarray(chunks="volume")
        ),
        'to_xarray(["T1w", "seg"], chunks={})': lambda: RadiObject(uri).to_xarray(["T1w", "seg"], chunks={}),
        "xr.open_datatree(chunks={})": lambda: xr.open_datatree(uri, engine="radiobject", chunks={}),
    }
    found = {}
    for name, make in ways.items():
        seconds = []
        for _ in range(rounds + 1):
            catalog._snapshots.clear()
            with measure() as cost:
                begun = time.perf_counter()
                made = make()
                seconds.append(time.perf_counter() - begun)
        assert cost["volumes_opened"] == cost["lazy_reads"] == 0
        found[name] = {
            "seconds": statistics.median(seconds[1:]),
            "requests": cost["requests"],
            "bytes_read": cost["bytes_read"],
            "row_groups": cost["row_groups"],
            "graph_bytes": _graph_bytes(made),
        }
    return found


def _graph_bytes(made: Any) -> int | None:
    """Of the graphs that a cluster is sent; None without dask."""
    if isinstance(made, xr.DataTree):
        arrays = [array for node in made.subtree for array in node.data_vars.values()]
    else:
        arrays = [made] if isinstance(made, xr.DataArray) else list(made.data_vars.values())
    graphs = [array.__dask_graph__() for array in arrays if array.chunks is not None]
    return sum(len(pickle.dumps(graph)) for graph in graphs) or None


def _peer(uri: str, volumes: int, peer: int, rounds: int) -> dict[str, Any]:
    radi = RadiObject(uri)
    url, ids = radi.T1w.iloc[0].uri, radi.T1w.obs_ids[:peer]

    def theirs() -> xr.DataArray:
        opened = [xr.open_zarr(url, chunks={})["0"] for _ in ids]
        return xr.concat(opened, dim=xr.Variable("obs_id", ids), coords="minimal", compat="override")

    def ours() -> xr.DataArray:
        catalog._snapshots.clear()
        array: xr.DataArray = RadiObject(uri).T1w.iloc[:peer].to_xarray(chunks="volume")
        return array

    found: dict[str, Any] = {}
    for name, make in (("ours", ours), ("xr.open_zarr", theirs)):
        opening, averaging = [], []
        for _ in range(rounds):
            begun = time.perf_counter()
            array = make()
            opened = time.perf_counter()
            mean = array.mean("obs_id").to_numpy()
            opening.append(opened - begun)
            averaging.append(time.perf_counter() - opened)
        found[name] = {
            "open": statistics.median(opening),
            "mean": statistics.median(averaging),
            "sum": float(mean.sum()),
        }
    assert found["ours"]["sum"] == found["xr.open_zarr"]["sum"]
    found["xr.open_zarr"]["extrapolated"] = found["xr.open_zarr"]["open"] * volumes / peer
    return found


def _all(uri: str) -> dict[str, float]:
    array = RadiObject(uri).T1w.to_xarray(chunks={"obs_id": 100})
    with measure() as cost:
        begun = time.perf_counter()
        mean = array.mean("obs_id").to_numpy()
        seconds = time.perf_counter() - begun
    assert np.array_equal(mean, np.arange(512).reshape(8, 8, 8))
    return {
        "seconds": seconds,
        "volumes_opened": cost["volumes_opened"],
        "chunks_decoded": cost["chunks_decoded"],
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    console.print(report["machine"], f"$ {report['command']}", sep="\n", highlight=False, soft_wrap=True)
    table = Table(title=f"opening {report['volumes']:,} volumes of a collection; no voxel is read")
    for title in ("", "ms", "requests", "kB read", "row groups", "kB of graph"):
        table.add_column(title, justify="right" if title else "left")
    for name, row in report["opening"].items():
        graph = "" if row["graph_bytes"] is None else f"{row['graph_bytes'] / 1e3:.0f}"
        kilo = f"{row['bytes_read'] / 1e3:,.0f}"
        table.add_row(
            name, f"{row['seconds'] * 1e3:.0f}", str(row["requests"]), kilo, str(row["row_groups"]), graph
        )
    console.print(table, highlight=False)
    table = Table(title=f"{report['peer_volumes']} of them, beside xr.open_zarr of each and xr.concat")
    for title in ("", "open, ms", f"open {report['volumes']:,}, s (extrapolated)", "mean over them, ms"):
        table.add_column(title, justify="right" if title else "left")
    for name, row in report["peer"].items():
        more = f"{row['extrapolated']:.1f}" if "extrapolated" in row else ""
        table.add_row(name, f"{row['open'] * 1e3:.0f}", more, f"{row['mean'] * 1e3:.0f}")
    console.print(table, highlight=False)
    whole = report["all"]
    line = f"mean over all, 100 volumes a task: {whole['seconds']:.1f} s, {whole['volumes_opened']:,} opened"
    console.print(line, highlight=False)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of defaults that xr.concat is about to change
        main()
