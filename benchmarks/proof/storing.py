"""Many heads written by each peer, and 64-cubes at random places of random ones among them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from .peers import Served, Who, serving
from .reading import turned

__all__ = ["ingest_and_patches"]

EDGE = 64
SLOW = 24
"""Patches that those who load whole volumes are asked for; the others are asked for all."""


def ingest_and_patches(
    whom: Sequence[Who], work: Path, files: Mapping[str, str], patches: int, rounds: int
) -> dict[str, Any]:
    """By peer: seconds, processor seconds, memory and bytes of the ingest, and the rate of patches."""
    with serving(whom, work, files) as (peers, stored):
        each = len(files)
        ingest = {
            who: {
                "seconds": found["seconds"] / each,
                "cpu": found["cpu"] / each,
                "memory": found["memory"],
                "bytes": found["bytes"] / each,
            }
            for who, found in stored.items()
            if found["bytes"]
        }
        shapes = {name: nibabel.load(path).shape for name, path in files.items()}
        readers = [peer for peer in peers if not peer.who.converts_only]
        rates = _patches(readers, shapes, patches, rounds)
    plain = sum(Path(path).stat().st_size for path in files.values()) / each
    return {"volumes": each, "nifti_bytes": plain, "ingest": ingest, "patches": rates, "asked": patches}


def _patches(
    peers: Sequence[Served], shapes: Mapping[str, Sequence[int]], patches: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Patches a second by the clock, and for each second of the processor; medians of rounds in turn."""
    rng = np.random.default_rng(11)
    names = list(shapes)
    clock: dict[str, list[float]] = {p.who.name: [] for p in peers}
    busy: dict[str, list[float]] = {p.who.name: [] for p in peers}
    for turn in range(rounds):
        jobs = []
        for number in rng.integers(0, len(names), patches // rounds):
            name = names[number]
            starts = [int(rng.integers(0, max(n - EDGE, 0) + 1)) for n in shapes[name]]
            box = [(a, min(a + EDGE, int(n))) for a, n in zip(starts, shapes[name], strict=True)]
            jobs.append((name, box))
        sums: dict[int, set[int]] = {}
        for peer in turned(peers, turn):
            mine = jobs[: SLOW // rounds] if _slow(peer) else jobs
            answer = peer.ask("patches", jobs=mine)
            clock[peer.who.name].append(len(mine) / answer["seconds"])
            busy[peer.who.name].append(len(mine) / answer["cpu"])
            sums.setdefault(len(mine), set()).add(answer["crc"])
        if any(len(found) != 1 for found in sums.values()):
            raise SystemExit(f"the peers disagree about {jobs[-1]}")
    return {
        who: {
            "median": statistics.median(found),
            "low": min(found),
            "high": max(found),
            "of_cpu": statistics.median(busy[who]),
        }
        for who, found in clock.items()
    }


def _slow(peer: Served) -> bool:
    return peer.who.whole or peer.who.folder in ("nii-gz", "indexed")
