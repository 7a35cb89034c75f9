"""PyPI `radiobject` 0.1.1 ingesting files, inside that package's own environment.

Reads one JSON request a line, answers one a line: seconds by the clock and of the processor, and the CRC-32
of the voxels of the first volume.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from typing import Any

import numpy as np
from radiobject.ctx import ReadConfig, S3Config, SliceOrientation, TileConfig, WriteConfig

import radiobject

__all__: list[str] = []


def main() -> None:
    """Serve until standard input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_ingest(json.loads(line))) + "\n")
        sys.stdout.flush()


def _ingest(request: dict[str, Any]) -> dict[str, Any]:
    radiobject.configure(
        write=WriteConfig(tile=TileConfig(orientation=SliceOrientation.ISOTROPIC)),
        read=ReadConfig(max_workers=request["workers"]),
        s3=S3Config(include_credentials=False),
    )
    files = [(path, subject) for path, subject in request["files"]]
    clock, processor = time.perf_counter(), time.process_time()
    radiobject.RadiObject.from_niftis(uri=request["uri"], images={"T1w": files})
    answer = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - processor}
    voxels = radiobject.RadiObject(request["uri"]).collection("T1w").iloc[0].to_numpy()
    return {**answer, "crc": zlib.crc32(np.ascontiguousarray(voxels))}


if __name__ == "__main__":
    main()
