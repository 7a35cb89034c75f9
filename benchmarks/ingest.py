"""100 .nii.gz to a committed study: this package and PyPI radiobject 0.1.1, with as many workers each.

    python benchmarks/ingest.py                     # about five minutes, 1.5 GB of temporary files
    python benchmarks/ingest.py --json out.json
    python benchmarks/ingest.py --no-upstream --volumes 3 --contents 1 --rounds 1    # a short look

They take turns within the run. A busy machine changes the clock more than the seconds of the processor: here
are both. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import environments
import nibabel
import numpy as np
from data import AFFINE, NOISE, SHAPE, head
from ingest_stages import stages
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table

from radiobject import CompressionConfig, RadiObject, WriteConfig

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "isal", "numcodecs", "numpy")
OURS: dict[str, WriteConfig] = {
    "radiobject": WriteConfig(),
    'radiobject, "archive"': WriteConfig.preset("archive"),
    "radiobject, lz4hc 1": WriteConfig(compression=CompressionConfig("lz4hc", 1)),
}
UPSTREAM = "radiobject 0.1.1"
STUDIES, VOLUMES_EACH, CORES = 20_000, 4, 16

Run = Callable[[Path, Sequence[tuple[str, str]], int], dict[str, float]]


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    console = Console(width=None if Console().is_terminal else 120)
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        files = _files(work / "in", options.volumes, options.contents)
        report["file_bytes"] = sum(os.path.getsize(path) for path, _ in files) // len(files)
        report["stages"] = stages(files[0][0], work / "one")
        report["runs"] = []
        for run in _turns(work, files, options):
            report["runs"].append(run)
            if options.json:  # after each: a long run that is broken off has said something
                options.json.write_text(json.dumps(report, indent=1))
    _print(console, report, options.volumes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for about 1.5 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--contents", type=int, default=10, help="different ones among them")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, besides one to warm up")
    parser.add_argument("--no-upstream", action="store_true", help="leave PyPI radiobject 0.1.1 out")
    return parser.parse_args()


def _files(folder: Path, volumes: int, contents: int) -> list[tuple[str, str]]:
    """Files of noise of their own up to `contents`, then the same again under other names; gzip level 6."""
    folder.mkdir()
    found: list[tuple[str, str]] = []
    smooth = head(noise=0)
    for number in range(volumes):
        path = folder / f"sub-{number:04d}_T1w.nii.gz"
        if number < contents:
            noise = np.random.default_rng(number).normal(0, NOISE, SHAPE)
            voxels = np.where(smooth > 0, smooth + noise, 0).clip(0).round().astype(np.int16)
            path.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, AFFINE).to_bytes(), 6, mtime=0))
        else:
            shutil.copy(found[number % contents][0], path)
        found.append((str(path), f"sub-{number:04d}"))
    return found


def _turns(
    work: Path, files: Sequence[tuple[str, str]], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    runs: dict[str, Run] = {name: _ours(write) for name, write in OURS.items()}
    upstream = None if options.no_upstream else _upstream()
    if upstream is not None:
        runs[UPSTREAM] = lambda place, files, workers: _asked(upstream, place, files, workers)
    expected = zlib.crc32(np.asanyarray(nibabel.load(files[0][0]).dataobj).tobytes())
    for number in range(options.rounds + 1):
        for workers in options.workers:
            for name, run in runs.items():
                place = work / "study"
                # the first round only warms up
                answer = run(place, files if number else files[:2], workers)
                if answer.pop("crc") != expected:
                    raise SystemExit(f"{name}: the first volume is not what nibabel reads")
                answer["bytes"] = _bytes(place / "collections") / len(files)
                shutil.rmtree(place)
                if number:
                    yield {"who": name, "workers": workers, **answer}
    if upstream is not None:
        assert upstream.stdin is not None
        upstream.stdin.close()
        upstream.wait()


def _ours(write: WriteConfig) -> Run:
    def run(place: Path, files: Sequence[tuple[str, str]], workers: int) -> dict[str, float]:
        clock, processor = time.perf_counter(), time.process_time()
        radi = RadiObject.from_niftis(
            place, {"T1w": list(files)}, workers=workers, write=write, progress=False
        )
        answer = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - processor}
        return {**answer, "crc": zlib.crc32(radi.T1w.iloc[0].to_numpy().tobytes())}

    return run


def _upstream() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(environments.UPSTREAM.interpreter()), str(Path(__file__).with_name("upstream_ingest.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
    )  # fmt: skip


def _asked(
    upstream: subprocess.Popen[str], place: Path, files: Sequence[tuple[str, str]], workers: int
) -> dict[str, float]:
    assert upstream.stdin is not None
    assert upstream.stdout is not None
    upstream.stdin.write(json.dumps({"uri": str(place), "files": files, "workers": workers}) + "\n")
    upstream.stdin.flush()
    line = upstream.stdout.readline()
    if not line:
        raise SystemExit(f"{UPSTREAM} ended with code {upstream.wait()}; its message is above")
    answer: dict[str, float] = json.loads(line)
    return answer


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _print(console: Console, report: dict[str, Any], volumes: int) -> None:
    megabytes = float(np.prod(SHAPE)) * 2 / 1e6
    table = Table(title=f"{volumes} volumes, {megabytes:.1f} MB of voxels each")
    for name in ("who", "workers", "volumes/s", "MB/s", "CPU s a volume", "MB a volume"):
        table.add_column(name, justify="left" if name == "who" else "right")
    medians = {}
    for who, workers in dict.fromkeys((r["who"], r["workers"]) for r in report["runs"]):
        mine = [r for r in report["runs"] if (r["who"], r["workers"]) == (who, workers)]
        seconds, cpu, size = (statistics.median(r[n] for r in mine) for n in ("seconds", "cpu", "bytes"))
        medians[who, workers] = volumes / seconds, cpu / volumes
        rate, each = medians[who, workers]
        table.add_row(
            who, str(workers), f"{rate:.2f}", f"{rate * megabytes:.0f}", f"{each:.3f}", f"{size / 1e6:.2f}"
        )
    console.print(table, highlight=False)
    for workers in dict.fromkeys(w for who, w in medians if who == UPSTREAM):
        rate, each = medians["radiobject", workers]
        other_rate, other_each = medians[UPSTREAM, workers]
        console.print(
            f"workers={workers}: {rate / other_rate:.2f} times the volumes a second of {UPSTREAM}, "
            f"{other_each / each:.2f} times those a second of the processor",
            highlight=False,
        )
    whole = sum(report["stages"].values())
    table = Table(title="where the processor's time goes, one volume, one thread")
    for name in ("stage", "ms", "%"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, ms in report["stages"].items():
        table.add_row(name, f"{ms:.1f}", f"{100 * ms / whole:.0f}")
    console.print(table, highlight=False)
    each = medians["radiobject", min(w for _, w in medians)][1]
    hours = STUDIES * VOLUMES_EACH * each / CORES / 3600
    console.print(
        f"{STUDIES:,} studies of {VOLUMES_EACH} such volumes on {CORES} cores: {hours:.2f} hours, if "
        "processors are what limits it",
        highlight=False,
    )


if __name__ == "__main__":
    main()
