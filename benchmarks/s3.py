"""Reads on S3 with latency: a study behind a proxy that makes every request late and counts them.

    python benchmarks/s3.py                       # Ceph's radosgw; about 3 minutes
    python benchmarks/s3.py --server moto --rounds 2 --edge 80

The server runs on this machine. What a network adds is only the latency: its bandwidth is no part of this.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table

from radiobject import RadiObject, S3Config, configure

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the servers are those of the tests

from data import AFFINE, head
from s3_contenders import Contender, Ours, Raw, ZarrPython

from tests.servers.proxy import Proxy, counting_proxy, rounds
from tests.servers.radosgw import radosgw_server
from tests.servers.s3 import s3_server

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "zarr", "s3fs", "tiledb", "numpy")
KINDS = ("open", "first 64-cube", "next 64-cube", "slice", "whole")
BUCKET = "benchmark"
ALLOWED = 1.3
"""How many times its rounds of latency a read may take, beside what it takes without."""


def main() -> None:
    """Run, print, and write the figures as JSON when asked."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    report = _run(options)
    for kind in KINDS:
        console.print(_table(kind, report["reads"][kind]), highlight=False)
    console.print(verdict(report), highlight=False)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", choices=("radosgw", "moto"), default="radosgw")
    parser.add_argument(
        "--delays", type=int, nargs="+", default=[0, 20, 50, 100], help="ms added to a request"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the peers take turns")
    parser.add_argument("--edge", type=int, default=240, help="voxels of a volume along x, y and z at most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> dict[str, Any]:
    edge = options.edge
    voxels = head().round().astype(np.int16)[:edge, :edge, :edge].copy()
    volumes = 1 + 2 * options.rounds * len(options.delays)  # each is read for the first time once
    with ExitStack() as running:
        make = {"radosgw": radosgw_server, "moto": s3_server}[options.server]
        server = running.enter_context(make(BUCKET))
        proxy = running.enter_context(counting_proxy(server["endpoint_url"]))
        os.environ |= {"AWS_ACCESS_KEY_ID": server["key"], "AWS_SECRET_ACCESS_KEY": server["secret"]}
        running.enter_context(configure(s3=S3Config(endpoint_url=proxy.url, region=server["region"])))
        images = {"T1w": [((voxels, AFFINE), f"sub-{n:03d}") for n in range(volumes)]}
        for backend in ("zarr", "tiledb"):
            RadiObject.from_niftis(f"s3://{BUCKET}/{backend}", images, backend=backend, progress=False)
        peers = _peers(proxy.url, server)
        reads: dict[str, dict[str, dict[int, dict[str, Any]]]] = {
            kind: {peer.name: {} for peer in peers} for kind in KINDS
        }
        for number, delay in enumerate(options.delays):
            fresh = iter(range(1 + 2 * options.rounds * number, volumes))
            for kind, name, found in _measured(peers, proxy, delay, options.rounds, fresh, voxels):
                reads[kind][name][delay] = found
    return {"machine": machine_line(*PACKAGES), "command": command_line(), "reads": reads}


def _peers(endpoint: str, server: dict[str, Any]) -> list[Contender]:
    keys = {"key": server["key"], "secret": server["secret"]}
    ours = Ours("radiobject", f"s3://{BUCKET}/zarr", {})
    folders = ours.folders()
    return [
        ours,
        Ours("radiobject, explicit keys", f"s3://{BUCKET}/zarr", keys),
        Ours("radiobject, TileDB", f"s3://{BUCKET}/tiledb", {}),
        Raw(BUCKET, folders, endpoint),
        ZarrPython(BUCKET, folders, {**keys, "endpoint_url": endpoint}),
    ]


def _measured(
    peers: list[Contender], proxy: Proxy, delay: int, turns: int, fresh: Any, voxels: Any
) -> list[tuple[str, str, dict[str, Any]]]:
    """Median ms, rounds and requests of each kind of read and peer, at one latency."""
    seconds: dict[tuple[str, str], list[float]] = {}
    asked: dict[tuple[str, str], list[list[Any]]] = {}
    for turn in range(turns):
        one, other = next(fresh), next(fresh)
        for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
            proxy.delay(0)
            peer.volume(0)((slice(0, 1),) * 3)  # its connections are made
            volume, whole = peer.volume(one), peer.volume(other)
            at = voxels.shape[2] // 2
            cubes = [tuple(slice(a, a + 64) for a in start) for start in ((8, 8, 8), (60, 50, 40))]
            axial = (slice(None), slice(None), slice(at, at + 1))
            every = (slice(None),) * 3
            reads: list[tuple[str, Callable[[], Any], Any]] = [
                ("open", peer.open, None),
                ("first 64-cube", partial(volume, cubes[0]), cubes[0]),
                ("next 64-cube", partial(volume, cubes[1]), cubes[1]),
                ("slice", partial(volume, axial), axial),
                ("whole", partial(whole, every), every),
            ]
            proxy.delay(delay / 1000)
            for kind, read, box in reads:
                with proxy.recorded() as seen:
                    start = time.perf_counter()
                    found = read()
                    taken = time.perf_counter() - start
                if box is not None and not np.array_equal(found, voxels[box]):
                    raise SystemExit(f"{peer.name} reads another {kind}")
                seconds.setdefault((kind, peer.name), []).append(taken)
                asked.setdefault((kind, peer.name), []).append(seen)
    proxy.delay(0)
    return [
        (
            kind,
            name,
            {
                "ms": float(np.median(taken)) * 1e3,
                "rounds": int(np.median([rounds(seen) for seen in asked[kind, name]])),
                "requests": int(np.median([len(seen) for seen in asked[kind, name]])),
            },
        )
        for (kind, name), taken in seconds.items()
    ]


def _limit(by_delay: dict[int, dict[str, Any]], delay: int) -> float:
    """Ms that a read may take: its rounds of latency and a little, beside what it takes without."""
    return ALLOWED * by_delay[delay]["rounds"] * delay + by_delay[0]["ms"]


def _table(kind: str, found: dict[str, dict[int, dict[str, Any]]]) -> Table:
    delays = list(next(iter(found.values())))
    table = Table(title=f"{kind}: median ms by latency of each request; rounds and requests at the last")
    table.add_column("reader")
    for delay in delays:
        table.add_column(f"{delay} ms", justify="right")
    table.add_column("rounds", justify="right")
    table.add_column("requests", justify="right")
    table.add_column(f"limit at {delays[-1]} ms", justify="right")
    for name, by_delay in found.items():
        last = by_delay[delays[-1]]
        limit = f"{_limit(by_delay, delays[-1]):.0f}" if 0 in by_delay else ""
        times = [f"{by_delay[delay]['ms']:.1f}" for delay in delays]
        table.add_row(name, *times, str(last["rounds"]), str(last["requests"]), limit)
    return table


def verdict(report: dict[str, Any]) -> str:
    """Whether radiobject's reads are their rounds of latency, and no more."""
    lines = []
    for kind, found in report["reads"].items():
        by_delay = found["radiobject"]
        for delay in by_delay:
            if delay and 0 in by_delay:
                limit = _limit(by_delay, delay)
                kept = "within" if by_delay[delay]["ms"] <= limit else "BEYOND"
                lines.append(f"{kind} at {delay} ms: {by_delay[delay]['ms']:.0f} ms, {kept} {limit:.0f} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
