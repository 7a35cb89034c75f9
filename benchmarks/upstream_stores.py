"""PyPI `radiobject` 0.1.1 as a server of timings of whole studies, inside that package's own environment.

Reads one JSON request a line, answers one a line: `ingest` files as a dataset with isotropic tiles, `open`
every volume and read a voxel, `read` boxes of one volume held open, `patches` of many.
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

Studies = dict[str, list[Any]]


def main() -> None:
    """Serve until standard input ends."""
    radiobject.configure(
        write=WriteConfig(tile=TileConfig(orientation=SliceOrientation.ISOTROPIC)),
        s3=S3Config(include_credentials=False),
    )
    studies: Studies = {}
    answers = {"ingest": _ingest, "open": _open, "read": _read, "patches": _patches}
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write(json.dumps(answers[request["do"]](request, studies)) + "\n")
        sys.stdout.flush()


def _ingest(request: dict[str, Any], studies: Studies) -> dict[str, Any]:
    files = [(path, subject) for path, subject in request["files"]]
    start = time.perf_counter()
    radiobject.RadiObject.from_niftis(uri=request["uri"], images={"T1w": files})
    return {"seconds": time.perf_counter() - start, "bytes": _bytes(f"{request['uri']}/collections")}


def _bytes(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)


def _volumes(uri: str, studies: Studies) -> list[Any]:
    if uri not in studies:
        collection = radiobject.RadiObject(uri).collection("T1w")
        studies[uri] = [collection.iloc[n] for n in range(len(collection))]
    return studies[uri]


def _open(request: dict[str, Any], studies: Studies) -> dict[str, Any]:
    collection = radiobject.RadiObject(request["uri"]).collection("T1w")
    collection.iloc[0].to_numpy()
    seconds = []
    for number in request["order"]:
        start = time.perf_counter()
        collection.iloc[number][0:1, 0:1, 0:1]
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def _read(request: dict[str, Any], studies: Studies) -> dict[str, Any]:
    volume = _volumes(request["uri"], studies)[0]
    seconds, block = [], None
    for box in request["boxes"]:
        key = tuple(slice(a, b) for a, b in box)
        start = time.perf_counter()
        block = volume[key]
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "crc": zlib.crc32(np.ascontiguousarray(block))}


def _patches(request: dict[str, Any], studies: Studies) -> dict[str, Any]:
    studies.pop(request["uri"], None)
    volumes, crc = _volumes(request["uri"], studies), 0
    start = time.perf_counter()
    blocks = [volumes[n][tuple(slice(a, b) for a, b in box)] for n, box in request["jobs"]]
    seconds = time.perf_counter() - start
    for block in blocks:
        crc = zlib.crc32(np.ascontiguousarray(block), crc)
    return {"seconds": seconds, "crc": crc}


if __name__ == "__main__":
    main()
