"""Reads of one volume: planes, cubes, the whole; what each costs in time, bytes and memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from .peers import Served

__all__ = ["KINDS", "PLANES", "boxes_of", "reads", "spread", "turned"]

Box = list[tuple[int, int]]

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis along which each is one voxel thick."""

KINDS = (*PLANES, "64-cube", "96-cube", "128-cube", "whole")
SLOW = 0.1
"""Seconds from which a read is asked for less often: once a turn, and in so many turns at most."""

TURNS_OF_THE_SLOW = 3


def reads(
    peers: Sequence[Served], name: str, shape: Sequence[int], rounds: int, kinds: Sequence[str] = KINDS
) -> dict[str, dict[str, dict[str, Any]]]:
    """By kind and peer: seconds (median and quartiles), processor seconds, bytes, memory, how often.

    Memory comes first, in processes that have read nothing but one voxel. Then all take turns on the same
    random places, and the order of turns rotates; whoever is slow reads fewer of them.
    """
    rng = np.random.default_rng(3)
    memory: dict[str, dict[str, int]] = {}
    for kind in ("axial", "64-cube"):
        boxes = boxes_of(kind, shape, 3, rng)
        memory[kind] = {p.who.name: max(p.ask("memory", name=name, boxes=boxes)["memory"]) for p in peers}
    opened = {p.who.name: p.ask("open", names=[name] * 5)["seconds"] for p in peers}
    found = {"open": {who: {**spread(seconds), "n": len(seconds)} for who, seconds in opened.items()}}
    for kind in kinds:
        found[kind] = _in_turns(peers, name, kind, shape, rounds, rng)
        for who, grown in memory.get(kind, {}).items():
            found[kind][who]["memory"] = grown
    return found


def _in_turns(
    peers: Sequence[Served], name: str, kind: str, shape: Sequence[int], rounds: int, rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    many = 2 if kind == "whole" else 8
    answers: dict[str, list[dict[str, Any]]] = {p.who.name: [] for p in peers}
    slow: set[str] = set()
    for number in range(rounds + 1):
        boxes = boxes_of(kind, shape, many, rng)
        sums = {}
        for peer in turned(peers, number):
            who = peer.who.name
            if who in slow and number > TURNS_OF_THE_SLOW:
                continue
            few = boxes[:1] if who in slow or peer.who.whole else boxes
            answer = peer.ask("read", name=name, boxes=few)
            sums[who] = answer["crc"]
            if number:  # the first round only warms up
                answers[who].append(answer)
            elif statistics.median(answer["seconds"]) > SLOW:
                slow.add(who)
        if len(set(sums.values())) != 1:
            raise SystemExit(f"the peers disagree about the {kind} {boxes[0]} of {name}: {sums}")
    return {who: _summed(given) for who, given in answers.items()}


def _summed(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds, cpu, asked = ([x for a in answers for x in a[key]] for key in ("seconds", "cpu", "bytes"))
    return {
        **spread(seconds),
        "cpu": statistics.median(cpu),
        "bytes": statistics.median(asked),
        "n": len(seconds),
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return {"median": float(middle), "low": float(low), "high": float(high)}


def turned(peers: Sequence[Served], number: int) -> list[Served]:
    """Nobody always comes after the same neighbour."""
    turn = number % len(peers)
    return [*peers[turn:], *peers[:turn]]


def boxes_of(kind: str, shape: Sequence[int], n: int, rng: np.random.Generator) -> list[Box]:
    """`n` random boxes of a kind, as (start, stop) along x, y, z."""
    return [_box(kind, shape, rng) for _ in range(n)]


def _box(kind: str, shape: Sequence[int], rng: np.random.Generator) -> Box:
    if kind == "whole":
        return [(0, int(n)) for n in shape]
    if kind in PLANES:
        at = int(rng.integers(0, shape[PLANES[kind]]))
        return [(at, at + 1) if axis == PLANES[kind] else (0, int(n)) for axis, n in enumerate(shape)]
    edge = int(kind.removesuffix("-cube"))
    starts = [int(rng.integers(0, max(n - edge, 0) + 1)) for n in shape]
    return [(a, min(a + edge, int(n))) for a, n in zip(starts, shape, strict=True)]
