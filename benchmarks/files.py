"""Reading NIfTI where it lies: a 64-cube of a .nii against NumPy's memory map, a .nii.gz against nibabel.

    python benchmarks/files.py                     # about one minute, 500 MB of temporary files
    python benchmarks/files.py --json FILE         # the figures as JSON too
    python benchmarks/files.py --shrink 2 --rounds 1

All take turns within the run, so that a busy machine slows all alike: read the ratios. Files are in the page
cache. "map" is a crop of a memory map that is open, "map, opened" opens it for each crop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from data import head
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table

from radiobject import RadiObject
from radiobject.backends.base import VolumeHandle
from radiobject.backends.files.decoded import kept
from radiobject.geometry.box import Box
from radiobject.ml import Scratch
from radiobject.ml.caching import CachedHandle

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "numpy", "nibabel")
CROPS = 40
"""Cubes in a turn."""


def main() -> None:
    """Run, print, and write the figures when asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which all take turns")
    parser.add_argument("--shrink", type=int, default=1, help="by how much every axis is shorter")
    options = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = Path(work)
        voxels = head()[:: options.shrink, :: options.shrink, :: options.shrink].round().astype("i2")
        for name in ("sub-1_plain.nii", "sub-1_packed.nii.gz"):
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.2, 1.0])), folder / name)
        images = {"plain": str(folder / "*.nii"), "packed": str(folder / "*.nii.gz")}
        radi = RadiObject.from_niftis(folder / "study", images, copy=False, progress=False)
        edge = min(64, *voxels.shape)
        report = {
            "cube of .nii": _cubes(folder / "sub-1_plain.nii", radi, voxels.shape, edge, options.rounds),
            "whole .nii.gz": _whole(folder / "sub-1_packed.nii.gz", radi, options.rounds),
            "cube of .nii.gz, later": _later(folder, radi, voxels.shape, edge, options.rounds),
        }
    _print(console, report, edge)
    if options.json:
        named = {"machine": machine_line(*PACKAGES), "command": command_line(), "edge": edge, "ms": report}
        options.json.write_text(json.dumps(named, indent=1))


def _cubes(
    path: Path, radi: RadiObject, shape: tuple[int, ...], edge: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds a cube, in a turn of each round; all must find the same voxels."""
    image: Any = nibabel.load(path)
    disk, offset = shape[::-1], image.dataobj.offset
    held, handle = np.memmap(path, "<i2", "r", offset, disk), _handle(radi, "plain")
    volume = radi.plain.iloc[0]
    return _turns(
        {
            "map": lambda box: np.array(held[box.slices]),
            "map, opened": lambda box: np.array(np.memmap(path, "<i2", "r", offset, disk)[box.slices]),
            "radiobject, backend": handle.read,
            "radiobject, volume": lambda box: np.asarray(volume[_turned(box)]).T,
            "nibabel": lambda box: np.asarray(image.dataobj[_turned(box)]).T,
        },
        _boxes(disk, edge), rounds,
    )  # fmt: skip


def _whole(path: Path, radi: RadiObject, rounds: int) -> dict[str, list[float]]:
    """Milliseconds for all voxels of a file that nobody has decoded yet."""
    handle = _handle(radi, "packed")

    def first(box: Box) -> npt.NDArray[Any]:
        kept.clear()
        return handle.read(box)

    def loaded(box: Box) -> npt.NDArray[Any]:
        image: Any = nibabel.load(path)
        return np.asarray(image.dataobj).T

    return _turns({"nibabel": loaded, "radiobject, backend": first}, [handle.spec.box], rounds)


def _later(
    folder: Path, radi: RadiObject, shape: tuple[int, ...], edge: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds a cube of a .nii.gz that was decoded before: in memory, and in a Scratch."""
    handle = _handle(radi, "packed")
    cached = CachedHandle(handle, Scratch(folder / "scratch"), "0" * 64)
    found = {"Scratch": cached.read, "radiobject, backend": handle.read}
    return _turns(found, _boxes(shape[::-1], edge), rounds)


def _handle(radi: RadiObject, name: str) -> VolumeHandle:
    return radi.collection(name).iloc[0]._handle


def _turned(box: Box) -> tuple[slice, ...]:
    return tuple(reversed(box.slices))


def _boxes(shape: tuple[int, ...], edge: int) -> list[Box]:
    rng = np.random.default_rng(0)
    starts = [tuple(int(rng.integers(0, n - edge + 1)) for n in shape) for _ in range(CROPS)]
    return [Box(start, tuple(a + edge for a in start)) for start in starts]


def _turns(
    contenders: Mapping[str, Callable[[Box], npt.NDArray[Any]]], boxes: list[Box], rounds: int
) -> dict[str, list[float]]:
    for box in boxes:
        first, *others = [read(box) for read in contenders.values()]
        assert all(np.array_equal(first, other) for other in others)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, read in contenders.items():
            begun = time.perf_counter()
            for box in boxes:
                read(box)
            found[name].append((time.perf_counter() - begun) / len(boxes) * 1000)
    return found


def _print(console: Console, report: dict[str, dict[str, list[float]]], edge: int) -> None:
    table = Table("", "reader", "ms", "least", "most", "ratio", title=f"medians; cubes of {edge}")
    for what, readers in report.items():
        first = statistics.median(next(iter(readers.values())))
        for name, times in readers.items():
            middle = statistics.median(times)
            table.add_row(
                what, name, f"{middle:.3f}", f"{min(times):.3f}", f"{max(times):.3f}", f"{middle / first:.2f}"
            )
            what = ""
    console.print(table)


if __name__ == "__main__":
    main()
