"""Who stores: this package on Zarr and on TileDB, and PyPI radiobject 0.1.1; the same questions to each."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from contenders import Box, folder_bytes
from upstream_env import interpreter

from radiobject import RadiObject, ReadConfig, WriteConfig, configure

__all__ = ["Ours", "Patch", "Store", "Upstream"]

Patch = tuple[int, Box]
"""Number of a volume, and a box of it."""


class Store(Protocol):
    """Keeps collections of NIfTI files by name. Nothing that was decoded is kept between reads."""

    name: str

    def ingest(self, place: Path, files: Sequence[str]) -> tuple[float, int]:
        """Write one volume a file; seconds, and bytes of the volumes."""

    def open(self, place: Path, order: Sequence[int]) -> list[float]:
        """Seconds to look up each of these volumes and read its first voxel; the study is open already."""

    def read(self, place: Path, boxes: Sequence[Box]) -> tuple[list[float], int]:
        """Seconds to read each box of the first volume, held open; CRC-32 of the last block."""

    def patches(self, place: Path, jobs: Sequence[Patch]) -> tuple[float, int]:
        """Seconds to read all of them, volumes opened on the way; CRC-32 of all blocks."""


class Ours:
    """This package, on a backend."""

    def __init__(self, backend: str, name: str) -> None:
        self.name, self._backend = name, backend
        self._held: dict[Path, Any] = {}

    def ingest(
        self, place: Path, files: Sequence[str], write: WriteConfig | None = None
    ) -> tuple[float, int]:
        images = {"T1w": _sources(files)}
        start = time.perf_counter()
        RadiObject.from_niftis(place, images, backend=self._backend, write=write, progress=False)
        return time.perf_counter() - start, folder_bytes(place / "collections")

    def open(self, place: Path, order: Sequence[int]) -> list[float]:
        collection, seconds = RadiObject(place).T1w, []
        with configure(read=ReadConfig(cache_bytes=0)):
            collection.iloc[0].to_numpy()
            for number in order:
                start = time.perf_counter()
                collection.iloc[number][0:1, 0:1, 0:1]
                seconds.append(time.perf_counter() - start)
        return seconds

    def read(self, place: Path, boxes: Sequence[Box]) -> tuple[list[float], int]:
        seconds, block = [], None
        with configure(read=ReadConfig(cache_bytes=0)):
            if place not in self._held:
                self._held[place] = RadiObject(place).T1w.iloc[0]
                self._held[place][:1, :1, :1]
            volume = self._held[place]
            for (x0, x1), (y0, y1), (z0, z1) in boxes:
                start = time.perf_counter()
                block = volume[x0:x1, y0:y1, z0:z1]
                seconds.append(time.perf_counter() - start)
        return seconds, zlib.crc32(np.ascontiguousarray(block))

    def patches(self, place: Path, jobs: Sequence[Patch]) -> tuple[float, int]:
        crc = 0
        with configure(read=ReadConfig(cache_bytes=0)):
            volumes = list(RadiObject(place).T1w)
            start = time.perf_counter()
            blocks = [volumes[n][x0:x1, y0:y1, z0:z1] for n, ((x0, x1), (y0, y1), (z0, z1)) in jobs]
            seconds = time.perf_counter() - start
        for block in blocks:
            crc = zlib.crc32(np.ascontiguousarray(block), crc)
        return seconds, crc


class Upstream:
    """PyPI radiobject 0.1.1 in an environment of its own, made on demand."""

    name = "radiobject 0.1.1"

    def __init__(self, environment: Path) -> None:
        self._process = subprocess.Popen(
            [str(interpreter(environment)), str(Path(__file__).with_name("upstream_stores.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )

    def ingest(self, place: Path, files: Sequence[str]) -> tuple[float, int]:
        answer = self._ask(do="ingest", uri=str(place), files=_sources(files))
        return answer["seconds"], answer["bytes"]

    def open(self, place: Path, order: Sequence[int]) -> list[float]:
        seconds: list[float] = self._ask(do="open", uri=str(place), order=list(order))["seconds"]
        return seconds

    def read(self, place: Path, boxes: Sequence[Box]) -> tuple[list[float], int]:
        answer = self._ask(do="read", uri=str(place), boxes=list(boxes))
        return answer["seconds"], answer["crc"]

    def patches(self, place: Path, jobs: Sequence[Patch]) -> tuple[float, int]:
        answer = self._ask(do="patches", uri=str(place), jobs=list(jobs))
        return answer["seconds"], answer["crc"]

    def close(self) -> None:
        """End the other process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self._process.wait()}; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _sources(files: Sequence[str]) -> list[tuple[str, str]]:
    return [(file, f"scan-{number:03d}") for number, file in enumerate(files)]
