"""What this machine can do at most: copy, decode, inflate, read a file that is in memory already."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from isal import igzip
from stored import Shard

from .images import Image

__all__ = ["limits"]


def limits(image: Image, volume: Path, boxes: dict[str, Sequence[Any]], times: int = 15) -> dict[str, Any]:
    """Seconds by kind of box to copy it and to check and decode its chunks in one thread; rates in bytes/s.

    `volume` is the .ome.zarr of this image with the preset "fast".
    """
    shard = Shard(volume)
    found: dict[str, Any] = {"copy": {}, "decode": {}}
    for kind, some in boxes.items():
        blocks = [shard.read(box) for box in some]
        target = np.empty_like(blocks[0])
        few = times if kind != "whole" else 3
        found["copy"][kind] = _median(lambda t=target, b=blocks: [np.copyto(t, x) for x in b], few) / len(
            some
        )
        found["decode"][kind] = _median(lambda b=some: [shard.read(x) for x in b], few) / len(some)
    packed = Path(image.path).read_bytes()
    whole = np.empty(2**24, np.uint8)  # larger than the processor's cache
    other = np.ones_like(whole)
    megabyte = np.random.default_rng(0).bytes(2**20)
    plain = Path(image.path).with_suffix(".plain")
    plain.write_bytes(gzip.decompress(packed))
    found["rates"] = {
        "copy": whole.nbytes / _median(lambda: np.copyto(whole, other), times),
        "read": image.bytes_plain / _median(lambda: np.fromfile(plain, np.uint8), 5),
        "zlib": image.bytes_plain / _median(lambda: gzip.decompress(packed), 3),
        "isal": image.bytes_plain / _median(lambda: igzip.decompress(packed), 3),
        "crc32c": 2**20 / _median(lambda: google_crc32c.value(megabyte), times),
    }
    found["read_plain"] = _median(lambda: np.fromfile(plain, np.uint8), 9)
    plain.unlink()
    return found


def _median(run: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return float(np.median(found))
