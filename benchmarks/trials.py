"""What was tried and measured: whole numbers as integers, codecs of the inner chunks, executors of an ingest.

    python benchmarks/trials.py                    # a quarter of an hour, 2 GB of temporary files
    python benchmarks/trials.py --only codecs --rounds 7 --json FILE
    python benchmarks/trials.py --only codecs --file scan.nii.gz     # on a scan of your own, too
    python benchmarks/trials.py --quick            # small volumes, one round: does it run?

The contenders of a trial take turns, so that a busy machine slows all of them alike: read the ratios.
docs/trials.md says what came of them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import psutil
from data import AFFINE, head
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from stored import folder_bytes, opened, volume_folder

from radiobject import CompressionConfig, RadiObject, WriteConfig
from radiobject.backends.base import plan_array
from radiobject.ingest.gzipped import gunzip
from radiobject.ingest.loading import load
from radiobject.ml import PatchPlan, RadiLoader, SampleSpec, Scratch, Uniform
from radiobject.ml.cohort import Cohort
from radiobject.writing.compression import settle_shuffle
from radiobject.writing.statistics import volume_statistics
from radiobject.writing.thumbnail import thumbnail_jpeg
from radiobject.writing.volume import store

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "numcodecs", "isal", "loky", "torch", "numpy", "nibabel")
CODECS = {
    "lz4hc 5": CompressionConfig("lz4hc", 5),
    "lz4hc 3": CompressionConfig("lz4hc", 3),
    "lz4 5": CompressionConfig("lz4", 5),
    "zstd 1": CompressionConfig("zstd", 1),
    "zstd 3": CompressionConfig("zstd", 3),
    "zstd 3, bits shuffled": CompressionConfig("zstd", 3, "bitshuffle"),
}
"""By their own choice of the shuffle, but for the last; the first is the preset "fast", zstd 3 "archive"."""

EXECUTORS = (("serial", 1), ("threads", 2), ("threads", 4), ("processes", 2))
Rows = dict[str, dict[str, float]]


def main() -> None:
    """Run, print, and write the figures as JSON when asked."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 150)
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    for name, trial in {"integers": _integers, "codecs": _codecs, "executors": _executors}.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(dir=options.work) as work:
                report[name] = trial(Path(work), options)
            for title, rows in report[name].items():
                _print(console, f"{name}: {title}", rows)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("codecs", "integers", "executors"), help="one of the trials")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the contenders take turns")
    parser.add_argument("--volumes", type=int, default=24, help="volumes of an ingest by executors")
    parser.add_argument("--file", type=Path, action="append", default=[], help="a NIfTI file for the codecs")
    parser.add_argument("--quick", action="store_true", help="small volumes, one round")
    parser.add_argument("--work", type=Path, help="folder for about 2 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.volumes = 1, 3
    return options


def _print(console: Console, title: str, rows: Rows) -> None:
    table = Table(title=title)
    table.add_column("")
    columns = list(next(iter(rows.values())))
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *[f"{row[column]:.4g}" for column in columns])
    console.print(table, highlight=False)


# Whole numbers as integers


def _integers(work: Path, options: argparse.Namespace) -> dict[str, Rows]:
    images: dict[str, npt.NDArray[Any]] = {
        "12-bit numbers as float32": _head(options).round(),
        "8-bit numbers as float32": _head(options, 1, 5).round(),
        "12-bit numbers as float64": _head(options).round().astype(np.float64),
        "fractions as float32": _head(options),
    }
    kinds = {
        "as floats": WriteConfig(store_integers=False),
        "as integers, where they are": WriteConfig(),
    }
    found = {}
    for number, (title, voxels) in enumerate(images.items()):
        path = _file(work / f"{number}.nii.gz", voxels)
        found[title] = _compared(path, kinds, work / str(number), options)
    return found


# Codecs


def _codecs(work: Path, options: argparse.Namespace) -> dict[str, Rows]:
    files = {
        "int16 head": _file(work / "head.nii.gz", _head(options).round().astype(np.int16)),
        "float32 head with fractions": _file(work / "fractions.nii.gz", _head(options)),
        "CT-like int16, noise everywhere": _file(work / "ct.nii.gz", _ct(options)),
        **{path.name: path for path in options.file},
    }
    kinds = {name: WriteConfig(compression=codec) for name, codec in CODECS.items()}
    return {
        title: _compared(path, kinds, work / f"study-{number}", options)
        for number, (title, path) in enumerate(files.items())
    }


def _compared(path: Path, kinds: dict[str, WriteConfig], work: Path, options: argparse.Namespace) -> Rows:
    """The same file written in several ways: what each costs to write, to keep and to read."""
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    studies = {}
    for number in range(options.rounds + 1):
        for name, write in kinds.items():
            place = work / name.replace(" ", "-")
            shutil.rmtree(place, ignore_errors=True)
            begun = time.process_time()
            studies[name] = RadiObject.from_niftis(
                place, {"T1w": [(str(path), "s")]}, write=write, executor="serial", progress=False
            )
            cpu[name] += [time.process_time() - begun] if number else []  # the first round warms up
    reads = _reads(studies, options)
    patches = _patches(studies, work, options)
    size = path.stat().st_size
    rows = {}
    for name, study in studies.items():
        stored = folder_bytes(volume_folder(Path(study.uri), "T1w"))
        rows[name] = {
            "MB": stored / 1e6,
            "of .nii.gz": stored / size,
            "ingest, CPU s": statistics.median(cpu[name]),
            **reads[name],
            **patches[name],
        }
    return rows


def _reads(studies: dict[str, RadiObject], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median ms of open volumes, without a cache; all read the same random boxes, in turns."""
    volumes = {name: opened(study.T1w.iloc[0], 0) for name, study in studies.items()}
    shape = next(iter(volumes.values())).shape
    sides = {"64-cube": tuple(min(64, n) for n in shape), "axial": (*shape[:2], 1), "whole": shape}
    many = {"64-cube": 30, "axial": 15, "whole": 3}
    rng, found = np.random.default_rng(1), {name: dict[str, float]() for name in volumes}
    for kind, side in sides.items():
        seconds: dict[str, list[float]] = {name: [] for name in volumes}
        for _ in range(many[kind] * options.rounds):
            low = [int(rng.integers(0, n - k + 1)) for n, k in zip(shape, side, strict=True)]
            box = tuple(slice(a, a + k) for a, k in zip(low, side, strict=True))
            for name, volume in volumes.items():
                begun = time.perf_counter()
                volume[box]
                seconds[name].append(time.perf_counter() - begun)
        for name, times in seconds.items():
            found[name][f"{kind}, ms"] = statistics.median(times) * 1e3
    return found


def _patches(
    studies: dict[str, RadiObject], work: Path, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """CPU ms a patch of batches of float32: from the store, and in the first and a later epoch by Scratch."""
    count, edge = (4, 16) if options.quick else (32, 96)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in studies}
    for _ in range(options.rounds):
        for name, study in studies.items():
            place = work / "scratch"
            shutil.rmtree(place, ignore_errors=True)
            spec = SampleSpec("T1w", patch_size=edge)
            plan = PatchPlan(spec, Cohort.of(spec, study), Uniform(count))
            for cache, epochs in (
                (None, ("patch, stored",)),
                (Scratch(place), ("Scratch, first epoch", "Scratch, later")),
            ):
                loader = RadiLoader(plan, batch_size=4, cache=cache)
                for epoch, column in enumerate(epochs):
                    loader.set_epoch(epoch)
                    begun = time.process_time()
                    for _batch in loader:
                        pass
                    took = (time.process_time() - begun) / count * 1e3
                    found[name].setdefault(f"{column}, CPU ms", []).append(took)
                loader.close()
    return {
        name: {column: statistics.median(times) for column, times in columns.items()}
        for name, columns in found.items()
    }


# Executors


def _executors(work: Path, options: argparse.Namespace) -> dict[str, Rows]:
    smooth, rng = _head(options, noise=0), np.random.default_rng(0)
    files = []
    for number in range(options.volumes):
        noisy = np.where(smooth > 0, smooth + rng.normal(0, 20, smooth.shape), 0).clip(0).round()
        path = _file(work / f"sub-{number:02d}.nii.gz", noisy.astype(np.int16))
        files.append((str(path), f"sub-{number:02d}"))
    runs: dict[str, list[dict[str, float]]] = {}
    for number in range(options.rounds):
        for executor, workers in EXECUTORS:
            place = work / f"study-{number}"
            found = _in_a_process(place, files, executor, workers)
            runs.setdefault(f"{executor}, {workers}" if workers > 1 else executor, []).append(found)
            shutil.rmtree(place)
    rows = {
        name: {column: statistics.median(run[column] for run in found) for column in found[0]}
        for name, found in runs.items()
    }
    return {
        f"{options.volumes} int16 heads": rows,
        "one other thread, while a step runs": _gil(files[0][0], work),
    }


def _in_a_process(place: Path, files: list[tuple[str, str]], executor: str, workers: int) -> dict[str, float]:
    """Two ingests in a fresh process: seconds of both, CPU of the second, and the peak memory of the tree."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=_ingest, args=(theirs, place, files, executor, workers))
    child.start()
    theirs.close()
    ours.recv()  # everything is imported
    idle = peak = _memory(child.pid)
    ours.send("go")
    while not ours.poll(0.02):
        peak = max(peak, _memory(child.pid))
    found: dict[str, float] = ours.recv()
    child.join()
    return {**found, "peak memory, MB": peak / 1e6, "of it beyond an idle process": (peak - idle) / 1e6}


def _ingest(parent: Any, place: Path, files: list[tuple[str, str]], executor: str, workers: int) -> None:
    parent.send("ready")
    parent.recv()
    seconds = []
    for number in range(2):
        wall, cpu = time.perf_counter(), _cpu()
        images = {"T1w": [(path, subject) for path, subject in files]}
        RadiObject.from_niftis(
            place / str(number), images, executor=executor, workers=workers, progress=False
        )
        seconds.append(time.perf_counter() - wall)
        cpu = _cpu() - cpu
    count = len(files)
    parent.send(
        {
            "first, s a volume": seconds[0] / count,
            "again, s a volume": seconds[1] / count,
            "again, CPU s a volume": cpu / count,
        }
    )


def _tree(pid: int | None) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu() -> float:
    """Seconds of the processor that this process and those that it started have taken, ended ones too."""
    return sum(os.times()[:4]) + sum(sum(process.cpu_times()[:2]) for process in _tree(None)[1:])


def _memory(pid: int | None) -> int:
    """Bytes of a process and those that it started; what several share is counted once."""
    total = 0
    try:
        for process in _tree(pid):
            total += process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0
    return total


def _gil(path: str, work: Path) -> Rows:
    """Of each step of an ingest: its ms, and how much of that time another thread could run Python."""
    loaded, write = load(path, path, "image"), WriteConfig()
    voxels, meta, raw = loaded.voxels, loaded.meta, Path(path).read_bytes()
    body, found = (
        gunzip(path, raw, voxels.nbytes + 352, 0),
        volume_statistics(voxels, meta.scaling, meta.dims),
    )
    spec = plan_array(voxels.shape, voxels.dtype, meta.dims, write.tile, write.compression)
    study = RadiObject.from_niftis(work / "gil", {"T1w": [(path, "s")]}, progress=False)
    target, numbers = study._study.backend("zarr"), iter(range(10**6))
    window = found.p1, found.p99
    steps: dict[str, Callable[[], Any]] = {
        "control: waits": partial(time.sleep, 0.02),
        "control: keeps the lock": partial(sum, range(10**6)),
        "gunzip (isal)": partial(gunzip, path, raw, len(body), 0),
        "digest (SHA-256)": lambda: hashlib.sha256(body).digest(),
        "statistics": partial(volume_statistics, voxels, meta.scaling, meta.dims),
        "choice of the shuffle": partial(settle_shuffle, voxels, spec, write.compression),
        "thumbnail": partial(thumbnail_jpeg, voxels, meta.dims, meta.affine, window, box=found.nonzero_box),
        "statistics to files, with compression": lambda: store(
            loaded, f"collections/T1w/gil/{next(numbers)}.ome.zarr", "s", target, write
        ),
    }
    sys.setswitchinterval(1e-4)  # handing the lock over, 5 ms by default, is not to be taken for a step's
    return {name: _beside(step) for name, step in steps.items()}


def _beside(step: Callable[[], Any]) -> dict[str, float]:
    """The best of several tries: another process on the same core looks like a lock that is held."""
    free = []
    alone = min(_timed(step) for _ in range(5))
    for _ in range(15):
        stop, spun = threading.Event(), [0.0]
        other = threading.Thread(target=_spin, args=(stop, spun))
        other.start()
        before, begun = spun[0], time.perf_counter()
        step()
        free.append(min((spun[0] - before) / (time.perf_counter() - begun), 1.0))
        stop.set()
        other.join()
    return {"ms alone": alone * 1e3, "% of the time that another thread runs": max(free) * 100}


def _spin(stop: threading.Event, spun: list[float]) -> None:
    begun = time.thread_time()
    while not stop.is_set():
        spun[0] = time.thread_time() - begun


def _timed(step: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


# Volumes


def _head(options: argparse.Namespace, gain: float = 4, noise: float = 20) -> npt.NDArray[np.float32]:
    voxels = head(gain, noise)
    return voxels[60:108, 60:100, 60:92].copy() if options.quick else voxels


def _ct(options: argparse.Namespace) -> npt.NDArray[np.int16]:
    """512 x 512 x 300 numbers as of a CT, with noise of 20 HU in the body and around it."""
    smooth = head(4, 0)
    shape = (48, 40, 32) if options.quick else (512, 512, 300)
    fine = ndimage.zoom(smooth, [n / m for n, m in zip(shape, smooth.shape, strict=True)], order=1)
    noise = np.random.default_rng(5).normal(0, 20, shape)
    found: npt.NDArray[np.int16] = (fine - 1024 + noise).round().astype(np.int16)
    return found


def _file(path: Path, voxels: npt.NDArray[Any]) -> Path:
    """Gzip level 6, as FSL and others write it."""
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, AFFINE).to_bytes(), 6, mtime=0))
    return path


if __name__ == "__main__":
    main()
