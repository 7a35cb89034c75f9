"""The harness: this package against every peer, in one run, each figure with its spread.

    python benchmarks                        # a quick look, less than ten minutes, 4 GB of temporary files
    python benchmarks --full                 # all volumes, 10,000 patches, 100,000 subjects, S3: half an hour
    python benchmarks --only reads --peers radiobject tensorstore --rounds 3
    python benchmarks --page FILE.json       # write the figures of a run into the pages of docs/

Peers run in processes of their own (`benchmarks/peers`), take turns, and must agree about every voxel. The
environments that some of them need are made at the first run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import command_line, machine_line
from proof.asking import tables
from proof.contents import contents
from proof.images import IMAGES, heads, made
from proof.limits import limits
from proof.overhead import overhead
from proof.page import tell, verdicts, write_pages
from proof.peers import OURS, TABLE, Who, serving
from proof.reading import KINDS, boxes_of, reads
from proof.storing import ingest_and_patches
from rich.console import Console
from stored import volume_folder

__all__: list[str] = []

PACKAGES = (
    "radiobject-zarr", "tensorstore", "zarr", "tiledb", "numcodecs", "numpy", "nibabel", "torch",
    "monai", "torchio",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for, print it, write it as JSON."""
    options = _options()
    if options.page:
        write_pages(json.loads(options.page.read_text()))
        return
    console = Console(width=None if Console().is_terminal else 150)
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for section in options.only:
            console.print(f"{section} ...", style="dim", highlight=False)
            SECTION[section](Path(work), options, report)
            tell(console, section, report)
            report["seconds"] = round(time.perf_counter() - begun)
            _save(report, options.json)  # after each: a run that is broken off has said something
    for line in verdicts(report):
        console.print(line, highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="everything, as docs/benchmarks.md shows it")
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION", choices=list(SECTION), help=", ".join(SECTION)
    )
    named = "; ".join(repr(who.name) for who in TABLE)
    parser.add_argument("--peers", nargs="+", metavar="NAME", choices=[who.name for who in TABLE],
                        help=f"some peers, {OURS!r} among them: {named}")  # fmt: skip
    images = "; ".join(map(repr, IMAGES))
    parser.add_argument("--images", nargs="+", metavar="NAME", choices=IMAGES, help=f"some of {images}")
    parser.add_argument("--rounds", type=int, help="rounds in which the peers take turns")
    parser.add_argument("--volumes", type=int, help="heads for ingest and patches")
    parser.add_argument("--patches", type=int, help="random 64-cubes over them")
    parser.add_argument("--subjects", type=int, nargs="+", help="sizes of the studies whose tables are asked")
    parser.add_argument("--size", type=float, default=1.0, help="of the made volumes, as a part of each side")
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=RESULTS / "latest.json", help="where the figures go"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write these figures into the pages and end"
    )
    options = parser.parse_args()
    full = options.full
    options.only = options.only or [s for s in SECTION if full or s != "contents"]
    options.images = options.images or (list(IMAGES) if full else [IMAGES[0], IMAGES[2]])
    options.rounds = options.rounds or (9 if full else 4)
    options.volumes = options.volumes or (100 if full else 12)
    options.patches = options.patches or (10_000 if full else 600)
    options.subjects = options.subjects or ([10_000, 100_000] if full else [10_000])
    options.whom = [w for w in TABLE if not options.peers or w.name in options.peers]
    if options.whom[0].name != OURS:
        parser.error(f"--peers needs {OURS!r}: some of the others read what it has stored")
    return options


def _reads(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Every image, by every peer."""
    report["images"] = {}
    for number, name in enumerate(options.images):
        image = made(name, work / f"in-{number}", options.size)
        if image is None:
            print(f"{name}: left out, $RADIOBJECT_TEST_DATA names no real data", file=sys.stderr)
            continue
        place = work / f"image-{number}"
        with serving(options.whom, place, {"scan": image.path}) as (peers, stored):
            readers = [p for p in peers if not p.who.converts_only]
            # a large volume takes whoever loads it whole a second for each box
            short = image.bytes_plain > 1e8 and not options.full
            kinds = ("axial", "sagittal", "64-cube", "whole") if short else KINDS
            found = reads(readers, "scan", image.shape, 2 if short else options.rounds, kinds)
        sizes = {who: answer["bytes"] for who, answer in stored.items() if answer["bytes"]}
        rng = np.random.default_rng(4)
        some = {k: boxes_of(k, image.shape, 1 if k == "whole" else 8, rng) for k in kinds}
        at_most = limits(image, volume_folder(place / "zarr" / "study", "image"), some)
        report["images"][name] = {"image": asdict(image), "reads": found, "sizes": sizes, "limits": at_most}
        shutil.rmtree(place)


def _overhead(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """A 64-cube beside tensorstore's, on open volumes and on the first touch of many."""
    volumes = 1000 if options.full else 100
    report["overhead"] = overhead(work / "beside", volumes, 2 * options.rounds)


def _contents(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Sizes of other contents."""
    report["contents"] = contents(work / "contents")


def _patches(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Ingest of many heads, and random patches of them."""
    files = heads(work / "heads", options.volumes, options.size)
    rounds = 3 if options.full else 2
    report["many"] = ingest_and_patches(options.whom, work / "many", files, options.patches, rounds)
    shutil.rmtree(work / "many")


def _training(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Worker processes and kept volumes."""
    from proof.training import VOLUMES, epochs

    report["training"] = epochs(work, heads(work / "three", VOLUMES, options.size), options.rounds)


def _tables(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Questions to tables."""
    upstream = next((w for w in options.whom if w.folder == "upstream-isotropic"), None)
    who = upstream and Who("radiobject 0.1.1", "predecessor:Tables", "upstream-tables", upstream.environment)
    report["tables"] = {str(n): tables(work / str(n), n, options.rounds, who) for n in options.subjects}


def _s3(work: Path, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Reads of objects with latency, by `benchmarks/s3.py`: Ceph's radosgw, or moto for a quick look."""
    quick = ["--server", "moto", "--rounds", "2", "--edge", "140", "--delays", "0", "20"]
    full = ["--server", "radosgw", "--rounds", "5", "--delays", "0", "20", "50", "100"]
    file = work / "s3.json"
    script = str(Path(__file__).with_name("s3.py"))
    command = [sys.executable, script, *(full if options.full else quick), "--json", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report["s3"] = json.loads(file.read_text())


SECTION: dict[str, Callable[[Path, argparse.Namespace, dict[str, Any]], None]] = {
    "reads": _reads,
    "overhead": _overhead,
    "contents": _contents,
    "patches": _patches,
    "training": _training,
    "tables": _tables,
    "s3": _s3,
}


def _save(report: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
