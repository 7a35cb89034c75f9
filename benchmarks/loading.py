"""Random patches for training: this loader, tensorstore, blosc2, MONAI, TorchIO, PyPI radiobject 0.1.1.

    python benchmarks/loading.py                      # all; about ten minutes, 5 GB of temporary files
    python benchmarks/loading.py --json FILE --no-upstream
    python benchmarks/loading.py --volumes 4 --rounds 2 --patches 16 --edges 64 --cores 1 --no-peers

It needs torch, blosc2, monai and torchio. One process for each type and number of cores, pinned to them; in
it all take turns, so that a busy machine slows all of them alike: read the ratios. Seconds of CPU, of all
threads of the process, say what one idle core would do where other work goes on beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "torch", "numpy")
PEERS = ("blosc2", "monai", "torchio")
FIRST = "tensorstore"
"""Whom the others are compared with."""

ELSEWHERE = "radiobject 0.1.1"
"""It runs in a process of its own, whose CPU is not counted."""


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    if options.part:
        _part(options)
        return
    packages = PACKAGES + (() if options.no_peers else PEERS)
    report: dict[str, Any] = {"machine": machine_line(*packages), "command": command_line(), "runs": []}
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for kind in options.kinds:
            _prepare(Path(work) / kind, kind, options)
            for cores in options.cores:
                found = _run_part(Path(work) / kind, cores)
                report["runs"].append({"kind": kind, "cores": cores, **found})
                _print(console, report["runs"][-1])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for about 5 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--patches", type=int, default=160, help="patches in a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, besides one to warm up")
    parser.add_argument("--edges", type=int, nargs="+", default=[64, 96, 128], help="cubes of so many voxels")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", default=["int16", "float32"], choices=["int16", "float32"])
    parser.add_argument("--size", type=float, default=1.0, help="of a volume, as a part of 240x240x155")
    parser.add_argument("--no-peers", action="store_true", help="leave blosc2, MONAI and TorchIO out")
    parser.add_argument("--no-upstream", action="store_true", help="leave PyPI radiobject 0.1.1 out")
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(work: Path, kind: str, options: argparse.Namespace) -> None:
    """Heads that differ in noise and place, as .nii.gz, in a study, and for blosc2."""
    from data import AFFINE, head

    from radiobject import RadiObject

    work.mkdir()
    (work / "blosc").mkdir()
    smooth = head(noise=0)
    keep = [int(n * options.size) for n in smooth.shape]
    files = []
    for number in range(options.volumes):
        rng = np.random.default_rng(number)
        voxels: npt.NDArray[Any] = np.where(smooth > 0, smooth + rng.normal(0, 20, smooth.shape), 0)
        voxels = np.roll(voxels.clip(0).round(), tuple(rng.integers(-3, 4, 3)), (0, 1, 2))
        voxels = voxels[
            tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(voxels.shape, keep, strict=True))
        ]
        voxels = voxels.astype(np.int16)
        if kind == "float32":
            voxels = ((voxels - voxels.mean()) / voxels.std()).astype(np.float32)
        files.append(str(work / f"{number:03d}.nii.gz"))
        nibabel.Nifti1Image(voxels, AFFINE).to_filename(files[-1])
        np.save(work / f"{number:03d}.npy", voxels.T)
        if not options.no_peers:
            from peers.arrays import write_blosc

            write_blosc(work / "blosc" / f"{number:03d}.b2nd", voxels.T)
    named = [(file, f"sub-{n:03d}") for n, file in enumerate(files)]
    RadiObject.from_niftis(work / "study", {"T1w": named}, progress=False)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "work", "part")}
    (work / "settings.json").write_text(json.dumps({**settings, "files": files}, default=str))


def _run_part(work: Path, cores: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", str(work), "--cores", str(cores)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(cores)})  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _part(options: argparse.Namespace) -> None:
    """One type, on so many cores: a JSON line of patches a second, by cube and contender."""
    (cores,) = options.cores
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import warnings

    warnings.simplefilter("ignore")
    settings = json.loads((options.part / "settings.json").read_text())
    contenders = _contenders(options.part, settings, cores)
    rates: dict[str, dict[str, float]] = {}
    of_cpu: dict[str, dict[str, float]] = {}
    for edge in settings["edges"]:
        wall: dict[str, list[float]] = {c.name: [] for c in contenders}
        busy: dict[str, list[float]] = {c.name: [] for c in contenders}
        for number in range(settings["rounds"] + 1):
            turn = number % len(contenders)
            for contender in [*contenders[turn:], *contenders[:turn]]:
                patches = min(settings["patches"], contender.most or settings["patches"])
                before = time.process_time()
                seconds, count = contender.seconds(edge, patches, 1000 * edge + number)
                used = time.process_time() - before
                if number:  # the first only warms up
                    wall[contender.name].append(count / seconds)
                    busy[contender.name].append(count / used)
        rates[str(edge)] = {name: statistics.median(found) for name, found in wall.items()}
        of_cpu[str(edge)] = {name: statistics.median(found) for name, found in busy.items()}
    print(json.dumps({"rates": rates, "cpu_rates": of_cpu}))
    os._exit(0)  # libraries of peers keep threads that would hold the exit up


def _contenders(work: Path, settings: dict[str, Any], cores: int) -> list[Any]:
    import loading_contenders as of

    from radiobject.ml.scratch import Scratch

    study, files = work / "study", settings["files"]
    arrays = [np.load(file) for file in sorted(work.glob("*.npy"))]
    # one chain of epochs each: the first turn fills the scratch
    found: list[Any] = [
        of.Raw(study, cores),
        of.Loader("RadiLoader", study),
        of.Loader("RadiLoader, float32", study, dtype="float32"),
        of.Loader("RadiLoader, locality 8", study, locality=8),
        of.Loader("RadiLoader, Scratch", study, cache=Scratch(work / "scratch")),
        of.InRam(arrays, cores),
    ]
    if not settings["no_peers"]:
        found.append(of.Blosc(work / "blosc", cores))
        if cores == 1:
            found += [of.Monai(files, cached=False), of.Monai(files, cached=True)]
            found += [of.TorchIo(files, 1), of.TorchIo(files, 8)]
    if not settings["no_upstream"] and cores == 1:
        place = work / "upstream"
        found.append(of.Predecessor(place, files, arrays[0].shape[::-1]))
    return found


def _print(console: Console, run: dict[str, Any]) -> None:
    cores = f"{run['cores']} core" + "s" * (run["cores"] > 1)
    table = Table(title=f"{run['kind']}, {cores}: patches a second (times {FIRST}; for each second of CPU)")
    table.add_column("who")
    for edge in run["rates"]:
        table.add_column(f"{edge}-cube", justify="right")
    for name in next(iter(run["rates"].values())):
        cells = []
        for edge, found in run["rates"].items():
            cpu = run["cpu_rates"][edge]
            share = "-" if name == ELSEWHERE else f"{cpu[name] / cpu[FIRST]:.2g}"
            rate = f"{found[name]:,.{1 if found[name] < 100 else 0}f}"
            cells.append(f"{rate} ({found[name] / found[FIRST]:.2g}; {share})")
        table.add_row(name, *cells)
    console.print(table, highlight=False)


if __name__ == "__main__":
    main()
