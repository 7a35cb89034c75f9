"""PyPI `radiobject` 0.1.1 as a server of timings: runs inside that package's own environment.

Reads one JSON request a line, answers one a line. `store` writes NIfTI files as a dataset with isotropic
tiles; `read` reads boxes of one volume by an open handle and returns the seconds of each and a CRC-32 of
the last one's bytes, in order x, y, z.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from typing import Any

import numpy as np
from radiobject.ctx import S3Config, SliceOrientation, TileConfig, WriteConfig

import radiobject

__all__: list[str] = []


def main() -> None:
    """Serve until standard input ends."""
    radiobject.configure(
        write=WriteConfig(tile=TileConfig(orientation=SliceOrientation.ISOTROPIC)),
        s3=S3Config(include_credentials=False),
    )
    volumes: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer = _store(request, volumes) if request["do"] == "store" else _read(request, volumes)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _store(request: dict[str, Any], volumes: dict[str, Any]) -> dict[str, Any]:
    images = {name: [(path, "sub-01")] for name, path in request["files"].items()}
    radi = radiobject.RadiObject.from_niftis(uri=request["uri"], images=images)
    sizes = {}
    for name in images:
        volumes[name] = radi.collection(name).iloc[0]
        folder = volumes[name].uri.removeprefix("file://")
        sizes[name] = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)
    return {"bytes": sizes}


def _read(request: dict[str, Any], volumes: dict[str, Any]) -> dict[str, Any]:
    volume, seconds, block = volumes[request["volume"]], [], None
    for box in request["boxes"]:
        key = tuple(slice(a, b) for a, b in box)
        start = time.perf_counter()
        block = volume[key]
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "crc32": zlib.crc32(np.ascontiguousarray(block))}


if __name__ == "__main__":
    main()
