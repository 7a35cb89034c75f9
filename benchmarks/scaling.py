"""What grows with the number of subjects, 1,000 to 100,000 of them in 4 collections; and what does not.

    python benchmarks/scaling.py --json FILE --plots docs/images    # about 15 minutes, 5 GB of disk
    python benchmarks/scaling.py --subjects 500 5000 --commits 50 --volumes 20    # a short look

Tables and commits are real, and made by the engine's own transaction. The objects of volumes are those of
one volume of 8x8x8 under many names, and only up to `--stored` subjects: what looks at each of them is not
asked of larger studies. What voxels cost is measured on `--volumes` small brains. Each operation has a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from scaling_operations import AFTER_COMMITS, NAMES, OPERATIONS, WORK, Operation, cost_of, grow, in_a_process
from subjects import write_subjects

from radiobject import RadiObject
from radiobject.examples import cohort

__all__ = ["slope"]

PACKAGES = ("radiobject-zarr", "pyarrow", "numpy", "tensorstore")
JPEG_BYTES = 6000
"""Size of a thumbnail of a head of 1 mm."""

MEASURED = ("seconds", "least", "cpu", *WORK, "peak_bytes")


def main() -> None:
    """Run, print, and write figures and pictures when asked."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 160)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    report: dict[str, Any] = {"collections": len(NAMES), "commits": options.commits, "sizes": {}}
    if options.add and options.json.exists():
        report = json.loads(options.json.read_text())
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for n in options.subjects:
            place = Path(work) / f"study-{n}"
            report["sizes"][str(n)] = _of_size(place, n, options, console)
            if options.json:  # a run that is cut off has measured something
                options.json.write_text(json.dumps(report, indent=1))
            shutil.rmtree(place)
        if "voxels" not in report:
            report["voxels"] = _voxels(Path(work), options)
    report["sizes"] = {n: report["sizes"][n] for n in sorted(report["sizes"], key=int)}
    report["exponents"] = exponents(report["sizes"])
    _print(console, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.plots:
        from scaling_plot import draw

        draw(report, options.plots)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for about 5 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--one-process", action="store_true", help="quick; peaks of memory then say little")
    parser.add_argument("--add", action="store_true", help="keep the other sizes that --json FILE has")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="draw them into this folder (matplotlib)"
    )
    parser.add_argument("--subjects", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument(
        "--stored", type=int, default=10_000, help="with more subjects, only tables and commits are made"
    )
    parser.add_argument("--commits", type=int, default=1000, help="commits on top of each study")
    parser.add_argument("--volumes", type=int, default=200, help="brains to measure voxels on")
    parser.add_argument("--spacing", type=float, default=2.5, help="their voxel size in mm")
    options = parser.parse_args()
    if options.add and options.json is None:
        parser.error("--add needs --json FILE")
    return options


def _of_size(place: Path, n: int, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Every operation on a study of `n` subjects, before and after many commits."""

    def ask(which: str, operations: Sequence[Operation]) -> dict[str, dict[str, float]]:
        costs = {}
        for operation in operations:
            if n <= options.stored or not operation.looks:
                costs[operation.name] = (
                    cost_of(str(place), operation)
                    if options.one_process
                    else in_a_process(str(place), which, operation.name)
                )
                took = costs[operation.name]["seconds"]
                console.print(f"  {operation.name}: {took:.4f} s", highlight=False)
        return costs

    begun = time.perf_counter()
    radi = write_subjects(place, n, NAMES, objects=True, stored=n <= options.stored, pictures=JPEG_BYTES)
    found: dict[str, Any] = {
        "machine": machine_line(*PACKAGES),
        "command": command_line(),
        "made_in": time.perf_counter() - begun,
        "tables": _table_bytes(radi),
    }
    console.print(f"{n:,} subjects, made in {found['made_in']:.0f} s", highlight=False)
    found["operations"] = ask("sizes", OPERATIONS)
    begun = time.perf_counter()
    grow(str(place), options.commits)
    found["seconds_a_commit"] = (time.perf_counter() - begun) / options.commits
    console.print(f" and {options.commits:,} commits later", highlight=False)
    found["after_commits"] = ask("commits", AFTER_COMMITS)
    return found


def _table_bytes(radi: RadiObject) -> dict[str, int]:
    """Bytes of each kind of table."""
    commit = radi._study.snapshot.commit
    held: dict[str, int] = {}
    for tables in (commit.tables, *(c.tables for c in commit.collections)):
        for name, parts in tables.items():
            held[name] = held.get(name, 0) + sum(part.bytes for part in parts)
    return held


def _voxels(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What a volume costs: ingest, opening it and reading a 64-cube of it, and its bytes."""
    files = cohort(work / "nifti", options.volumes, spacing=options.spacing, progress=False)
    images = files.images["T1w"][: options.volumes]
    begun = time.perf_counter(), time.process_time()
    radi = RadiObject.from_niftis(
        work / "voxels", {"T1w": images}, files.obs_meta, executor="threads", progress=False
    )
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    reads = []
    for position in np.random.default_rng(0).permutation(len(images)).tolist():
        start = time.perf_counter()
        radi.T1w.iloc[position][:64, :64, :64]
        reads.append(time.perf_counter() - start)
    shape = radi.T1w.iloc[0].shape
    stored = sum(f.stat().st_size for f in (work / "voxels" / "collections").rglob("*") if f.is_file())
    return {
        "volumes": len(images), "shape": shape, "dtype": "int16",
        "nifti_bytes": sum(Path(str(path)).stat().st_size for path, _ in images) / len(images),
        "ingest": took[0] / len(images), "ingest_cpu": took[1] / len(images),
        "open_and_64_cube": statistics.median(reads), "bytes": stored / len(images),
        "bytes_a_voxel": stored / len(images) / float(np.prod(shape)),
    }  # fmt: skip


def slope(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Exponent b of `value = a * size ** b`, by least squares of the logarithms; None where a value is 0."""
    if min(values) <= 0 or len(sizes) < 2:
        return None
    return float(np.polyfit(np.log10(sizes), np.log10(values), 1)[0])


def exponents(sizes: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Of each operation and measure: over all sizes (`all`), and from the last but one to the last (`last`).

    What has a constant part grows more slowly at first: `last` says more of what comes next.
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name in next(iter(sizes.values()))["operations"]:
        rows = {float(n): of["operations"][name] for n, of in sizes.items() if name in of["operations"]}
        counts = list(rows)
        found[name] = {}
        for measure in MEASURED:
            values = [row[measure] for row in rows.values()]
            found[name][measure] = {
                "all": slope(counts, values),
                "last": slope(counts[-2:], values[-2:]),
            }
    return found


def _print(console: Console, report: Mapping[str, Any]) -> None:
    sizes = report["sizes"]
    table = Table(
        title="median ms; exponents of time, CPU, bytes read and written (last step); work at the largest"
    )
    for title in ("", *(f"{int(n):,}" for n in sizes), "time", "CPU", "read", "written", "requests",
                  "row groups", "kB read", "kB written", "MB of RAM"):  # fmt: skip
        table.add_column(title, justify="right" if title else "left")
    for name, fit in report["exponents"].items():
        costs = [of["operations"].get(name) for of in sizes.values()]
        row = [cost for cost in costs if cost][-1]
        measures = ("seconds", "cpu", "bytes_read", "bytes_written")
        powers = [fit[m]["last"] for m in measures]
        work = [f"{row['requests']:,.0f}", f"{row['row_groups']:,.0f}"]
        kilo = [f"{row[m] / 1e3:,.0f}" for m in measures[2:]]
        times = [f"{cost['seconds'] * 1e3:,.1f}" if cost else "" for cost in costs]
        fitted = ["" if p is None else f"{p:.2f}" for p in powers]
        table.add_row(name, *times, *fitted, *work, *kilo, f"{row['peak_bytes'] / 1e6:,.0f}")
    console.print(table, highlight=False)
    for n, of in sizes.items():
        said = ", ".join(
            f"{name} {r['seconds'] * 1e3:,.1f} ms ({r['requests']:,.0f} requests)"
            for name, r in of["after_commits"].items()
        )
        console.print(f"{int(n):,} subjects, {report['commits']:,} commits later: {said}", highlight=False)
    voxels = report["voxels"]
    told = (
        f"{voxels['volumes']} volumes of {voxels['shape']}",
        f"{voxels['ingest'] * 1e3:.1f} ms to ingest ({voxels['ingest_cpu'] * 1e3:.1f} of CPU)",
        f"{voxels['open_and_64_cube'] * 1e3:.2f} ms to open and read a 64-cube",
        f"{voxels['bytes'] / 1e6:.2f} MB",
    )
    console.print("voxels:", ", ".join(told), highlight=False)


if __name__ == "__main__":
    main()
