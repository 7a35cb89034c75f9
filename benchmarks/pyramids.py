"""What a pyramid costs in size and time of ingest, and what an overview then reads.

    python benchmarks/pyramids.py                     # about two minutes, 1 GB of temporary files
    python benchmarks/pyramids.py --json FILE         # the figures as JSON too
    python benchmarks/pyramids.py --shrink 2 --rounds 1

With and without take turns within the run, so that a busy machine slows both alike: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from data import head
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from stored import folder_bytes

from radiobject import RadiObject, ReadConfig, Volume, WriteConfig, configure, measure

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "numpy", "nibabel")
WITH = WriteConfig(pyramid="auto")
COARSE = 4.0
"""Spacing in mm of an overview."""


def main() -> None:
    """Run, print, and write the figures when asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the two take turns")
    parser.add_argument("--shrink", type=int, default=1, help="by how much every axis is shorter")
    options = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    report = {}
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for name, make in VOLUMES.items():
            voxels, spacing = make(options.shrink)
            folder = Path(work) / name.replace(" ", "-")
            folder.mkdir()
            nibabel.save(
                nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0])), folder / f"sub-1_{_layer(name)}.nii.gz"
            )
            report[name] = {"shape": voxels.shape, "spacing": spacing, **_run(folder, name, options.rounds)}
            shutil.rmtree(folder)
    _print(console, report)
    if options.json:
        named = {"machine": machine_line(*PACKAGES), "command": command_line(), "volumes": report}
        options.json.write_text(json.dumps(named, indent=1))


def _template(shape: tuple[int, int, int], order: int = 1) -> npt.NDArray[np.float32]:
    smooth = head(noise=0)
    return ndimage.zoom(smooth, [n / m for n, m in zip(shape, smooth.shape, strict=True)], order=order)


def _mr(shrink: int) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """A head with noise in it and nothing around it."""
    smooth = _template((512 // shrink, 512 // shrink, 300 // shrink))
    noisy = smooth + np.random.default_rng(0).normal(0, 20, smooth.shape)
    return np.where(smooth > 4, noisy, 0).clip(0).astype("i2"), (0.45, 0.45, 0.6)


def _ct(shrink: int) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """A head in Hounsfield units, with noise everywhere."""
    smooth = _template((512 // shrink, 512 // shrink, 300 // shrink))
    units = np.where(smooth > 4, smooth / 10, -1000)
    return (units + np.random.default_rng(0).normal(0, 12, smooth.shape)).round().astype("i2"), (
        0.7,
        0.7,
        1.0,
    )


def _labels(shrink: int) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Four kinds of tissue in each of 27 boxes of a head: up to 108 labels."""
    edge = 300 // shrink
    tissue = np.digitize(_template((edge, edge, edge)), (200, 400, 600, 760)).astype("u1")
    thirds = np.arange(edge) * 3 // edge
    region = thirds[:, None, None] * 9 + thirds[:, None] * 3 + thirds
    return np.where(tissue > 0, region * 4 + tissue, 0).astype("u1"), (0.8, 0.8, 0.8)


VOLUMES: dict[str, Callable[[int], tuple[npt.NDArray[Any], tuple[float, float, float]]]] = {
    "MR int16": _mr,
    "CT int16": _ct,
    "labels uint8": _labels,
}


def _layer(name: str) -> str:
    return "seg" if name.startswith("labels") else "scan"


def _run(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    layer = _layer(name)
    seconds: dict[str, list[float]] = {"none": [], "auto": []}
    for number in range(rounds + 1):
        for kind in ("none", "auto")[:: 1 if number % 2 else -1]:
            place = folder / kind
            shutil.rmtree(place, ignore_errors=True)
            begun = time.perf_counter()
            RadiObject.from_niftis(
                place,
                {layer: str(folder / "*.nii.gz")},
                write=WITH if kind == "auto" else None,
                progress=False,
            )
            if number:  # the first round only warms up
                seconds[kind].append(time.perf_counter() - begun)
    volumes = {kind: RadiObject(folder / kind).collection(layer).iloc[0] for kind in seconds}
    report: dict[str, Any] = {
        "file_bytes": (next(folder.glob("*.nii.gz"))).stat().st_size,
        "levels": [level.shape for level in volumes["auto"].levels],
        "ingest_s": {kind: statistics.median(found) for kind, found in seconds.items()},
        "bytes": {kind: folder_bytes(folder / kind / "collections") for kind in seconds},
    }
    with configure(read=ReadConfig(cache_bytes=0)):
        report["overview"] = {kind: _overview(volumes[kind], rounds) for kind in seconds}
    one, other = (_coarse(v)[...] for v in volumes.values())
    if not np.array_equal(one, other):
        raise SystemExit(f"{name}: another overview with a pyramid than without")
    return report


def _coarse(volume: Volume) -> Volume:
    return volume.resample(spacing=COARSE, antialias=True)


def _overview(volume: Volume, rounds: int) -> dict[str, float]:
    spent = []
    for _ in range(rounds + 1):
        with measure() as cost:
            begun = time.perf_counter()
            _coarse(volume)[...]
            spent.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(spent[1:]), "bytes_read": cost["bytes_read"]}


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(
        "volume", "levels", "MB", "with", "more", "ingest s", "with", "more", "overview ms, MB", "with"
    )
    for name, found in report.items():
        size, ingest, view = found["bytes"], found["ingest_s"], found["overview"]
        table.add_row(
            name,
            "\n".join("x".join(map(str, shape)) for shape in found["levels"]),
            f"{size['none'] / 1e6:.2f}",
            f"{size['auto'] / 1e6:.2f}",
            f"{100 * (size['auto'] / size['none'] - 1):.1f} %",
            f"{ingest['none']:.2f}",
            f"{ingest['auto']:.2f}",
            f"{100 * (ingest['auto'] / ingest['none'] - 1):.1f} %",
            *(f"{view[k]['seconds'] * 1e3:.0f}, {view[k]['bytes_read'] / 1e6:.2f}" for k in ("none", "auto")),
        )
    console.print(table)


if __name__ == "__main__":
    main()
