"""One peer in a process of its own: takes questions as lines of JSON, answers with seconds, bytes and memory.

    python benchmarks/peers/serve.py ours:Zarr PLACE        # started by the harness, `python benchmarks`

It runs in the peer's own environment and needs only NumPy there. Linux says what a process read and how much
memory it had at most (`/proc/self`); elsewhere these figures are left out.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Alone", "Box", "Peer", "Read", "slices"]

Box = tuple[tuple[int, int], ...]
"""(start, stop) along x, y, z."""

Read = Callable[[Box], Any]
"""Gives the voxels of a box as an array; axes x, y, z."""


def slices(box: Box) -> tuple[slice, ...]:
    """What indexes a box out of an array."""
    return tuple(itertools.starmap(slice, box))


class Peer(Protocol):
    """Keeps volumes below a folder of its own. Nothing that was decoded is kept from one read to the next."""

    def __init__(self, place: Path) -> None: ...

    def store(self, files: dict[str, str]) -> None:
        """Write each .nii.gz, by its name, in the peer's way; nothing for those that read the files."""

    def open(self, name: str) -> Read:
        """What reads a volume, with all opened anew."""

    def among(self, name: str) -> Read:
        """What reads one volume of many: whatever they have in common is open already."""

    def kept(self) -> list[str]:
        """Files and folders that hold what was stored."""


class Alone:
    """Volumes that have nothing in common: one of many is opened like any."""

    def open(self, name: str) -> Read:
        raise NotImplementedError

    def among(self, name: str) -> Read:
        """As `open`."""
        return self.open(name)


class Service:
    """Answers for one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._readers: dict[str, Read] = {}

    def store(self, files: dict[str, str]) -> dict[str, Any]:
        """Seconds of clock and processor, memory at most, and bytes on disk."""
        low = _resident_anew()
        begun, busy = time.perf_counter(), time.process_time()
        self._peer.store(files)
        took, worked = time.perf_counter() - begun, time.process_time() - busy
        size = sum(_bytes(Path(place)) for place in self._peer.kept())
        return {"seconds": took, "cpu": worked, "memory": _above(low), "bytes": size}

    def open(self, names: list[str]) -> dict[str, Any]:
        """Seconds to open each from nothing and to read its first voxel."""
        seconds = []
        for name in names:
            begun = time.perf_counter()
            self._peer.open(name)(((0, 1),) * 3)
            seconds.append(time.perf_counter() - begun)
        return {"seconds": seconds}

    def memory(self, name: str, boxes: list[Box]) -> dict[str, Any]:
        """How much the process grows at most while it reads each box, over what it had before."""
        read, grown = self._reader(name), []
        read(((0, 1),) * 3)
        for box in boxes:
            low = _resident_anew()
            block = read(box)
            grown.append(_above(low))
            del block
        return {"memory": grown}

    def read(self, name: str, boxes: list[Box]) -> dict[str, Any]:
        """Seconds, processor seconds and bytes of each read, and the CRC-32 of the first block's voxels."""
        read, first = self._reader(name), None
        seconds, cpu, bytes_read = [], [], []
        for box in boxes:
            before = _read_so_far()
            busy, begun = time.process_time(), time.perf_counter()
            block = read(box)
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - busy)
            bytes_read.append(_read_so_far() - before - _LOOK)
            first = block if first is None else first
        return {"seconds": seconds, "cpu": cpu, "bytes": bytes_read, "crc": _crc(first)}

    def patches(self, jobs: list[tuple[str, Box]]) -> dict[str, Any]:
        """Seconds to read all one after the other, volumes opened on the way; CRC-32 of the last."""
        readers: dict[str, Read] = {}
        block = None
        busy, begun = time.process_time(), time.perf_counter()
        for name, box in jobs:
            if name not in readers:
                readers[name] = self._peer.among(name)
            block = readers[name](box)
        took, worked = time.perf_counter() - begun, time.process_time() - busy
        return {"seconds": took, "cpu": worked, "crc": _crc(block)}

    def count(self, name: str, expression: str) -> dict[str, Any]:
        """How many rows of a table an expression fits."""
        return {"count": self._peer.count(name, expression)}  # type: ignore[attr-defined] - of tables alone

    def _reader(self, name: str) -> Read:
        if name not in self._readers:
            self._readers[name] = self._peer.open(name)
        return self._readers[name]


def main() -> None:
    """Serve until standard input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    where, place = sys.argv[1:]
    module, _, kind = where.partition(":")
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    service = Service(getattr(importlib.import_module(f"peers.{module}"), kind)(Path(place)))
    for line in sys.stdin:
        question = json.loads(line)
        answer = getattr(service, question.pop("do"))(**question)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _crc(block: Any) -> int:
    """Of whole numbers as int32, of others as float32: some peers hand out another type than the file's."""
    voxels = np.asarray(block)
    if np.array_equal(voxels, np.rint(voxels)):
        return zlib.crc32(np.ascontiguousarray(voxels, np.int32))
    return zlib.crc32(np.ascontiguousarray(voxels, np.float32))


def _bytes(place: Path) -> int:
    files = [place] if place.is_file() else place.rglob("*")
    return sum(f.stat().st_size for f in files if f.is_file())


def _read_so_far() -> int:
    """Bytes that this process asked of files, whether from the disk or the page cache."""
    try:
        with open("/proc/self/io", "rb") as file:
            return int(file.readline().split()[1])
    except OSError:
        return 0


def _resident_anew() -> int:
    """Bytes of memory now, without what was freed but not given back; the peak is counted from here."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    except AttributeError:
        return 0
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return 0
    return _status("VmRSS")


def _above(low: int) -> int:
    return max(_status("VmHWM") - low, 0) if low else 0


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(key + ":")]
    return int(line.split()[1]) * 1024


def _cost_of_a_look() -> int:
    """Bytes by which one look at `/proc/self/io` raises the next."""
    first, second = _read_so_far(), _read_so_far()
    return second - first


_LOOK = _cost_of_a_look()

if __name__ == "__main__":
    main()
