"""Reads of one volume and of many, against plain tensorstore, nibabel and PyPI radiobject 0.1.1, in one run.

    python benchmarks/reads.py                    # all; makes .venv-upstream once, about 3 minutes
    python benchmarks/reads.py --no-upstream --volumes 200 --rounds 5

Peers take turns within the run, so that a busy machine slows all of them alike: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import overhead
from contenders import Box, Contender, Nibabel, Ours, Raw, Shard, Upstream, folder_bytes, volume_folder
from data import GAIN, NOISE, SHAPE, Source, head, sources
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from upstream_env import ENVIRONMENT

from radiobject import RadiObject, WriteConfig

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "zarr", "numcodecs", "numpy", "nibabel")
GAINS = ((2, 10), (2, 20), (3, 20), (4, 20), (5, 50))
"""Intensity and noise of the heads whose sizes are compared: the bits that a voxel needs decide the ratio."""


def main() -> None:
    """Run, print, and write the figures as JSON when asked."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 130)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        report = _run(Path(work), options)
    _print(console, report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for about 1.5 GB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--rounds", type=int, default=15, help="rounds in which the peers take turns")
    parser.add_argument("--volumes", type=int, default=1000, help="volumes in the first-touch study")
    parser.add_argument("--no-upstream", action="store_true", help="leave PyPI radiobject 0.1.1 out")
    parser.add_argument("--upstream-venv", type=Path, default=ENVIRONMENT)
    return parser.parse_args()


def _run(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    made = sources(work / "nifti")
    paths = {name: source.path for name, source in made.items()}
    study = work / "study"
    RadiObject.from_niftis(study, {name: [(str(p), "sub-01")] for name, p in paths.items()}, progress=False)
    peers: list[Contender] = [Ours(study), Raw(study, list(paths)), Nibabel(paths)]
    upstream = None if options.no_upstream else Upstream(options.upstream_venv, work / "upstream", paths)
    if upstream:
        peers.append(upstream)
    report: dict[str, Any] = {
        "machine": machine_line(*PACKAGES),
        "command": command_line(),
        "reads": {name: _reads(peers, name, options.rounds) for name in paths},
        "sizes": {name: _sizes(made[name], study, name, upstream) for name in paths},
        "sizes_by_content": [_by_content(work / f"content-{i}", *g) for i, g in enumerate(GAINS)],
    }
    if upstream:
        upstream.close()
    report["limits"] = {name: _limits(volume_folder(study, name)) for name in paths}
    found = [
        overhead.open_handle(study, name, cache, options.rounds, 200)
        for name in ("int16", "float32")
        for cache in (0, overhead.DEFAULT_CACHE, 100 * 2**20)
    ]
    overhead.write_many(work / "many", head().round().astype(np.int16), options.volumes)
    found.append(overhead.first_touch(work / "many", max(options.rounds // 2, 1)))
    report["overhead"] = [o.to_json() for o in found]
    report["first_opening"] = overhead.first_opening(work / "many")
    return report


def _boxes(kind: str, n: int, rng: np.random.Generator) -> list[Box]:
    """Random boxes of a kind, as (start, stop) along x, y, z."""
    sides = {"64-cube": (64,) * 3, "whole": SHAPE}
    for axis, name in enumerate(("sagittal", "coronal", "axial")):
        sides[name] = tuple(1 if a == axis else s for a, s in enumerate(SHAPE))
    found = []
    for _ in range(n):
        starts = [int(rng.integers(0, s - w + 1)) for s, w in zip(SHAPE, sides[kind], strict=True)]
        found.append(tuple((a, a + w) for a, w in zip(starts, sides[kind], strict=True)))
    return found


def _reads(peers: list[Contender], volume: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds by kind of read and peer. nibabel, by far the slowest, reads less often."""
    many = {"64-cube": 20, "axial": 8, "coronal": 8, "sagittal": 8, "whole": 2}
    rng = np.random.default_rng(3)
    result = {}
    for kind, n in many.items():
        seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for number in range(rounds + 1):
            boxes = _boxes(kind, n, rng)
            slow = boxes[-1:] if number < 6 else []
            sums = set()
            turn = number % len(peers)  # nobody always reads after the same neighbour
            for peer in peers[turn:] + peers[:turn]:
                times, crc = peer.times(volume, slow if isinstance(peer, Nibabel) else boxes)
                seconds[peer.name] += times if number else []  # the first round only warms up
                if times:
                    sums.add(crc)
            if len(sums) != 1:
                raise SystemExit(f"the peers disagree about the {kind} {boxes[-1]} of {volume}")
        result[kind] = {name: float(np.median(found)) for name, found in seconds.items()}
    return result


def _sizes(source: Source, study: Path, name: str, upstream: Upstream | None) -> dict[str, int]:
    found = {
        "radiobject": folder_bytes(volume_folder(study, name)),
        ".nii.gz level 1": source.bytes_level1,
        ".nii.gz level 6": source.bytes_level6,
        "voxels": int(np.prod(SHAPE)) * (2 if name == "int16" else 4),
    }
    return found | ({upstream.name: upstream.sizes[name]} if upstream else {})


def _by_content(folder: Path, gain: float, noise: float) -> dict[str, Any]:
    made = sources(folder, gain, noise)
    row: dict[str, Any] = {"gain": gain, "noise": noise}
    for preset in ("fast", "archive"):
        images = {n: [(str(s.path), "sub-01")] for n, s in made.items()}
        RadiObject.from_niftis(folder / preset, images, write=WriteConfig.preset(preset), progress=False)
        for name, source in made.items():
            size = folder_bytes(volume_folder(folder / preset, name))
            row[f"{name} {preset}"] = [size / source.bytes_level1, size / source.bytes_level6]
    return row


def _limits(folder: Path) -> dict[str, float]:
    """Median seconds to copy a 64-cube in memory, and to check and decode its chunks in one thread."""
    shard = Shard(folder)
    boxes = _boxes("64-cube", 200, np.random.default_rng(4))
    blocks = [shard.read(box) for box in boxes[:32]]  # together larger than the second-level cache
    target = np.empty_like(blocks[0])
    copies, decodes = [], []
    for n, box in enumerate(boxes):
        start = time.perf_counter()
        np.copyto(target, blocks[n % len(blocks)])
        copies.append(time.perf_counter() - start)
        start = time.perf_counter()
        shard.read(box)
        decodes.append(time.perf_counter() - start)
    return {
        "copy": float(np.median(copies)),
        "decode": float(np.median(decodes)),
        "bytes": float(target.nbytes),
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    for volume, kinds in report["reads"].items():
        peers = list(next(iter(kinds.values())))
        table = Table(title=f"{volume}, {'x'.join(map(str, SHAPE))}: median ms (times radiobject's)")
        table.add_column("read")
        for peer in peers:
            table.add_column(peer, justify="right")
        for kind, found in kinds.items():
            ours = found["radiobject"]
            cells = [
                f"{v * 1e3:.2f}" + ("" if p == "radiobject" else f" ({v / ours:.2f})")
                for p, v in found.items()
            ]
            table.add_row(kind, *cells)
        limit = report["limits"][volume]
        table.caption = (
            f"limit of a 64-cube: {limit['copy'] * 1e3:.3f} ms to copy it"
            f" ({limit['bytes'] / limit['copy'] / 1e9:.1f} GB/s), {limit['decode'] * 1e3:.2f} ms to check and"
            " decode its chunks in one thread (numcodecs); no cache is kept"
        )
        console.print(table, highlight=False)
    _print_sizes(console, report)
    table = Table(title="64-cube: radiobject against tensorstore, in turns")
    for title in ("case", "radiobject ms", "tensorstore ms", "ratio (rounds: least to greatest)", "added µs"):
        table.add_column(title, justify="left" if title == "case" else "right")
    for o in report["overhead"]:
        spread = f"{o['ratio']:.3f} ({o['low']:.3f} to {o['high']:.3f})"
        table.add_row(
            o["what"], f"{o['ours'] * 1e3:.3f}", f"{o['raw'] * 1e3:.3f}", spread, f"{o['added'] * 1e6:.0f}"
        )
    table.caption = f"opening the study and its table, once a process: {report['first_opening'] * 1e3:.1f} ms"
    console.print(table, highlight=False)
    for line in verdicts(report):
        console.print(line, highlight=False)


def _print_sizes(console: Console, report: dict[str, Any]) -> None:
    table = Table(title=f"size, MB (radiobject over it); template x {GAIN}, noise {NOISE:.0f}")
    table.add_column("volume")
    columns = list(next(iter(report["sizes"].values())))
    for column in columns:
        table.add_column(column, justify="right")
    for volume, sizes in report["sizes"].items():
        ours = sizes["radiobject"]
        table.add_row(
            volume, *[f"{v / 1e6:.2f}" + ("" if v is ours else f" ({ours / v:.3f})") for v in sizes.values()]
        )
    console.print(table, highlight=False)
    table = Table(title="size over .nii.gz level 1 / level 6, by content and preset")
    for column in report["sizes_by_content"][0]:
        table.add_column(column, justify="right")
    for row in report["sizes_by_content"]:
        table.add_row(*[f"{v[0]:.2f} / {v[1]:.2f}" if isinstance(v, list) else str(v) for v in row.values()])
    console.print(table, highlight=False)


def verdicts(report: dict[str, Any]) -> list[str]:
    """One line for each target: met or missed, and by what figure."""
    lines = [
        _verdict(f"{o['what']}: at most 1.15 times tensorstore", o["ratio"], 1.15) for o in report["overhead"]
    ]
    for volume in ("int16", "float32"):
        sizes = report["sizes"][volume]
        for level in (1, 6):
            ratio = sizes["radiobject"] / sizes[f".nii.gz level {level}"]
            lines.append(_verdict(f"{volume}: at most 0.92 of the .nii.gz of level {level}", ratio, 0.92))
            several = [row[f"{volume} fast"][level == 6] for row in report["sizes_by_content"]]
            lines.append(_verdict(f"  the same, worst of {len(several)} contents", max(several), 0.92))
        cube = report["reads"][volume]["64-cube"]
        if Upstream.name in cube:
            ratio = cube["radiobject"] / cube[Upstream.name]
            lines.append(_verdict(f"{volume}: 64-cube at most 0.2 of {Upstream.name}", ratio, 0.2))
    return lines


def _verdict(target: str, found: float, bound: float) -> str:
    return f"{'met   ' if found <= bound else 'MISSED'} {target}: {found:.3f}"


if __name__ == "__main__":
    main()
