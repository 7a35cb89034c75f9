"""Zarr and TileDB underneath one study, and PyPI radiobject 0.1.1: ingest, size, opening, reads, patches.

    python benchmarks/backends.py                     # all; about 6 minutes, 3 GB of temporary files
    python benchmarks/backends.py --plot out.png --json out.json
    python benchmarks/backends.py --no-upstream --volumes 5 --spacing 4 --rounds 2

The stores take turns within the run, so that a busy machine slows all of them alike: read the ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import nibabel
import numpy as np
from contenders import Box, Shard, volume_folder
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from stores import Ours, Patch, Store, Upstream

from radiobject import WriteConfig
from radiobject.examples import cohort

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tiledb", "tensorstore", "zarr", "numpy", "nibabel")
FIRST = "Zarr"
"""The store that the others are compared with."""

READS = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Planes, and the axis that each is thin along."""


def main() -> None:
    """Run, print, and write figures and picture when asked."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        report = _run(Path(work), options)
    _print(console, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.plot:
        from backends_plot import draw

        draw(report, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--work", type=Path, help="folder for about 3 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them into this PNG (matplotlib)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which the stores take turns")
    parser.add_argument("--volumes", type=int, default=50, help="volumes in a study")
    parser.add_argument("--patches", type=int, default=1000, help="random patches over them")
    parser.add_argument(
        "--spacing", type=float, default=1.0, help="voxel size in mm; 1 is 197x233x189 voxels"
    )
    parser.add_argument("--no-upstream", action="store_true", help="leave PyPI radiobject 0.1.1 out")
    parser.add_argument("--upstream-venv", type=Path, default=root / ".venv-upstream")
    return parser.parse_args()


def _run(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    stores: list[Store] = [Ours("zarr", FIRST), Ours("tiledb", "TileDB")]
    upstream = None if options.no_upstream else Upstream(options.upstream_venv)
    if upstream:
        stores.append(upstream)
    report: dict[str, Any] = {
        "machine": machine_line(*PACKAGES),
        "command": command_line(),
        "volumes": options.volumes,
        "patches": options.patches,
        "stores": [s.name for s in stores],
        "kinds": {},
    }
    for kind, files in _files(work / "nifti", options).items():
        found = _of_kind(stores, work / kind, files, options)
        found["nifti_bytes"] = sum(Path(f).stat().st_size for f in files)
        report["kinds"][kind] = found
        shutil.rmtree(work / kind)
    if upstream:
        upstream.close()
    return report


def _files(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Brains of the example cohort as int16, and each with zero mean and unit variance as float32."""
    made = cohort(folder, options.volumes, spacing=options.spacing, progress=False)
    whole = [path for path, _ in made.images["T1w"]][: options.volumes]
    scaled = []
    for path in whole:
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj, np.float32)
        other = nibabel.Nifti1Image((voxels - voxels.mean()) / voxels.std(), image.affine)
        scaled.append(path.replace("_T1w.nii.gz", "_float.nii.gz"))
        nibabel.save(other, scaled[-1])
    return {"int16": whole, "float32": scaled}


def _of_kind(
    stores: Sequence[Store], work: Path, files: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    work.mkdir()
    shape = nibabel.load(files[0]).shape
    rng = np.random.default_rng(5)
    ingest = _ingest(stores, work, files[:8], max(options.rounds // 3, 1))
    sizes = {}
    for store in stores:
        _, sizes[store.name] = store.ingest(_place(work, store), files)
    found: dict[str, Any] = {"shape": shape, "bytes": sizes, "ingest": ingest}
    found["bytes_zstd"] = _with_zstd(stores, work, files)
    found["open"] = _in_turns(
        stores,
        options.rounds,
        lambda store, order: (store.open(_place(work, store), order), 0),
        lambda: rng.permutation(len(files)).tolist(),
    )
    for name, many in {**dict.fromkeys(READS, 8), "64-cube": 20, "whole": 2}.items():
        found[name] = _in_turns(
            stores,
            options.rounds,
            lambda store, boxes: store.read(_place(work, store), boxes),
            lambda name=name, many=many: [_box(name, shape, rng) for _ in range(many)],
        )
    jobs = _jobs(files, options.patches, rng)
    found["patches"] = _in_turns(
        stores, max(options.rounds // 3, 1), lambda store, j: _listed(store.patches(_place(work, store), j)),
        lambda: jobs,
    )  # fmt: skip
    found["limits"] = _limits(work, files, rng)
    return found


def _place(work: Path, store: Store) -> Path:
    return work / store.name.replace(" ", "-")


def _listed(answer: tuple[float, int]) -> tuple[list[float], int]:
    return [answer[0]], answer[1]


def _ingest(stores: Sequence[Store], work: Path, files: list[str], rounds: int) -> dict[str, float]:
    """Median seconds a volume; every round writes new studies."""
    seconds: dict[str, list[float]] = {s.name: [] for s in stores}
    for number in range(rounds + 1):
        turn = number % len(stores)
        for store in [*stores[turn:], *stores[:turn]]:
            place = work / f"ingest-{number}-{store.name.replace(' ', '-')}"
            took, _ = store.ingest(place, files)
            seconds[store.name] += [took / len(files)] if number else []  # the first round only warms up
            shutil.rmtree(place)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _with_zstd(stores: Sequence[Store], work: Path, files: list[str]) -> dict[str, float]:
    """Bytes of all volumes with the preset "archive"; zstd is what 0.1.1 takes anyhow."""
    found = {}
    for store in stores:
        place = work / "archive"
        more = {"write": WriteConfig.preset("archive")} if isinstance(store, Ours) else {}
        found[store.name] = store.ingest(place, files, **more)[1]
        shutil.rmtree(place)
    return found


def _in_turns(
    stores: Sequence[Store],
    rounds: int,
    ask: Callable[[Store, Any], tuple[list[float], int]],
    question: Callable[[], Any],
) -> dict[str, float]:
    """Median seconds of each store; nobody always comes after the same neighbour, and all must agree."""
    seconds: dict[str, list[float]] = {s.name: [] for s in stores}
    for number in range(rounds + 1):
        asked, sums = question(), set()
        turn = number % len(stores)
        for store in [*stores[turn:], *stores[:turn]]:
            times, crc = ask(store, asked)
            seconds[store.name] += times if number else []  # the first round only warms up
            sums.add(crc)
        if len(sums) != 1:
            raise SystemExit(f"the stores disagree about {str(asked)[:200]}")
    return {name: statistics.median(found) for name, found in seconds.items()}


def _box(kind: str, shape: Sequence[int], rng: np.random.Generator) -> Box:
    if kind == "whole":
        return tuple((0, int(n)) for n in shape)
    if kind in READS:
        at = int(rng.integers(0, shape[READS[kind]]))
        return tuple((at, at + 1) if axis == READS[kind] else (0, int(n)) for axis, n in enumerate(shape))
    starts = [int(rng.integers(0, max(n - 64, 0) + 1)) for n in shape]
    return tuple((a, min(a + 64, int(n))) for a, n in zip(starts, shape, strict=True))


def _jobs(files: list[str], patches: int, rng: np.random.Generator) -> list[Patch]:
    shapes = [nibabel.load(file).shape for file in files]
    numbers = rng.integers(0, len(files), patches)
    return [(int(n), _box("64-cube", shapes[n], rng)) for n in numbers]


def _limits(work: Path, files: list[str], rng: np.random.Generator) -> dict[str, float]:
    """What a 64-cube costs at least: a copy, and decoding Zarr's chunks in one thread; rates of checksums."""
    shard = Shard(volume_folder(work / FIRST, "T1w", "scan-000_T1w"))
    shape = nibabel.load(files[0]).shape
    boxes = [_box("64-cube", shape, rng) for _ in range(60)]
    blocks = [shard.read(box) for box in boxes[:32]]  # together larger than the second-level cache
    target = np.empty_like(blocks[0])

    def timed(run: Callable[[Any], object], over: Sequence[Any]) -> float:
        found = []
        for one in over:
            start = time.perf_counter()
            run(one)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    megabyte = rng.bytes(2**20)
    return {
        "bytes": float(target.nbytes),
        "copy": timed(lambda block: np.copyto(target, block), blocks * 4),
        "decode": timed(shard.read, boxes),
        "sha256": 2**20 / timed(lambda data: hashlib.sha256(data).digest(), [megabyte] * 30),
        "crc32c": 2**20 / timed(google_crc32c.value, [megabyte] * 30),
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    for kind, found in report["kinds"].items():
        side = "x".join(map(str, found["shape"]))
        table = Table(title=f"{kind}, {report['volumes']} brains of about {side} (times {FIRST}'s)")
        table.add_column("what")
        for name in report["stores"]:
            table.add_column(name, justify="right")
        for title, values, scale, digits in rows(report, found):
            first = values[FIRST]
            cells = [
                f"{values[s] * scale:.{digits}f}" + ("" if s == FIRST else f" ({values[s] / first:.2f})")
                for s in report["stores"]
            ]
            table.add_row(title, *cells)
        limit = found["limits"]
        table.caption = (
            f"a 64-cube: {limit['copy'] * 1e3:.3f} ms to copy it"
            f" ({limit['bytes'] / limit['copy'] / 1e9:.1f} GB/s), {limit['decode'] * 1e3:.2f} ms to check and"
            f" decode Zarr's chunks in one thread; SHA-256 {limit['sha256'] / 1e9:.1f} GB/s, CRC-32C"
            f" {limit['crc32c'] / 1e9:.1f} GB/s; .nii.gz {found['nifti_bytes'] / report['volumes'] / 1e6:.2f}"
            " MB a volume"
        )
        console.print(table, highlight=False)


def rows(report: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, dict[str, float], float, int]]:
    """What a table shows of a kind: title, values by store, the factor to the title's unit, digits."""
    sizes, small = (
        {name: size / report["volumes"] for name, size in found[key].items()}
        for key in ("bytes", "bytes_zstd")
    )
    return [
        ("ingest, s a volume", found["ingest"], 1, 2),
        ("size, MB a volume", sizes, 1e-6, 2),
        ("size with zstd, MB a volume", small, 1e-6, 2),
        ("open + first voxel, ms", found["open"], 1e3, 2),
        *((f"{name}, ms", found[name], 1e3, 2) for name in (*READS, "64-cube", "whole")),
        (f"{report['patches']:,} patches, s", found["patches"], 1, 2),
    ]


if __name__ == "__main__":
    main()
