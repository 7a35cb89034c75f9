"""Registering DICOM where it lies, against reading the same headers with pydicom alone.

    python benchmarks/registering.py                  # 2,000 series of 100 files; about ten minutes, 900 MB
    python benchmarks/registering.py --json FILE --rounds 5
    python benchmarks/registering.py --series 50      # a short look; a quarter of a minute

pydicom parses each header and forgets it. radiobject finds the files, parses them, checks and sorts the
series and commits a study that reads their voxels where they lie. Both take turns, in one process, on files
that were just written and are in the memory of the system.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_many import elements, write_series
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table

from radiobject import RadiObject

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "pydicom", "numpy")
TARGET = 0.7
"""Of the rate of pydicom, at least."""


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    console = Console(width=None if Console().is_terminal else 110)
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        begun = time.perf_counter()
        size = write_series(work / "series", options.series, options.files, options.side)
        report |= {"series": options.series, "files": options.series * options.files, "file_bytes": size}
        report["elements"] = elements()
        console.print(
            f"{report['files']:,} files of {size:,} bytes, {elements()} elements in each header, written in "
            f"{time.perf_counter() - begun:.0f} s",
            highlight=False,
        )
        report["seconds"], report["cpu_seconds"] = _seconds(work, options.rounds)
        report["study_bytes"] = sum(p.stat().st_size for p in (work / "study").rglob("*") if p.is_file())
        _check(work)
    _print(console, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--files", type=int, default=100, help="in each series")
    parser.add_argument("--side", type=int, default=16, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    return parser.parse_args()


def _seconds(work: Path, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Of each turn the seconds on the clock and, as others may want the machine too, on a processor."""
    # what either imports when it is first used is no part of the work
    _register(work / "series" / "000000", work / "study")
    names = {"pydicom: read the headers": _headers, "radiobject: register": _register}
    clock: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, run in names.items():
            shutil.rmtree(work / "study", ignore_errors=True)
            begun, used = time.perf_counter(), time.process_time()
            run(work / "series", work / "study")
            clock[name].append(time.perf_counter() - begun)
            processor[name].append(time.process_time() - used)
    return clock, processor


def _headers(series: Path, study: Path) -> None:
    for folder in series.iterdir():
        for path in folder.iterdir():
            pydicom.dcmread(path, stop_before_pixels=True)


def _register(series: Path, study: Path) -> None:
    RadiObject.from_dicoms(
        study, series, copy=False, deidentify=False, source_root=study.parent, progress=False
    )  # fmt: skip


def _check(work: Path) -> None:
    """The first series of the study is what pydicom reads of it."""
    radi = RadiObject(work / "study", source_root=work)
    series = work / "series" / "000000"
    slices = sorted(map(pydicom.dcmread, series.iterdir()), key=lambda ds: float(ds.ImagePositionPatient[2]))
    truth = np.stack([ds.pixel_array for ds in slices])
    rows = radi.CT.obs.read(["obs_id", "series_uid"])
    (obs_id,) = rows["obs_id"][rows["series_uid"] == slices[0].SeriesInstanceUID]
    assert np.array_equal(radi.CT[obs_id].to_numpy(raw=True).T, truth), "not what pydicom reads"


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="headers to a study that reads where they lie")
    for name in ("what", "files a second, median", "least", "most"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, values in report["seconds"].items():
        rates = [report["files"] / value for value in values]
        table.add_row(name, *(f"{f(rates):,.0f}" for f in (statistics.median, min, max)))
    console.print(table, highlight=False)
    ratios, on_processor = (
        [a / b for a, b in zip(*report[kind].values(), strict=True)] for kind in ("seconds", "cpu_seconds")
    )
    console.print(
        f"radiobject registers at {statistics.median(ratios):.2f} times the rate of pydicom alone "
        f"({min(ratios):.2f} to {max(ratios):.2f}, round by round; {TARGET} is asked for), by time on "
        f"a processor at {statistics.median(on_processor):.2f} times, in "
        f"{report['study_bytes'] / report['files']:,.0f} bytes of study for each file",
        highlight=False,
    )


if __name__ == "__main__":
    main()
