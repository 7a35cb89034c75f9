"""Where the processor's time goes when one .nii.gz becomes a stored volume, stage by stage."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radiobject import WriteConfig
from radiobject.backends import get_backend
from radiobject.backends.base import plan_array
from radiobject.backends.zarr.tensorstore_engine import make_encoder
from radiobject.ingest.gzipped import gunzip
from radiobject.ingest.loading import load
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.writing.compression import settle_shuffle
from radiobject.writing.statistics import volume_statistics
from radiobject.writing.thumbnail import thumbnail_jpeg
from radiobject.writing.volume import Naming, Target, write_volume

__all__ = ["stages"]

_TIMES = 9


def stages(path: str, place: Path) -> dict[str, float]:
    """Milliseconds of the processor, medians; "the rest" is what no stage accounts for."""
    location, write = Location(str(place), None), WriteConfig()
    backend, storage = get_backend("zarr", location), Storage(location)
    target = Target(storage, backend, {"T1w": "collections/T1w"}, {"T1w": "image"}, write)

    def whole() -> dict[str, Any]:
        return write_volume(load(path, path, "image"), Naming("T1w", "s", "s_T1w"), target)

    row, total = _timed(whole)
    loaded = load(path, path, "image")
    voxels, meta = loaded.voxels, loaded.meta
    raw, size = Path(path).read_bytes(), voxels.nbytes + 352
    body, gunzipped = _timed(lambda: gunzip(path, raw, size, 0))
    digest = _timed(lambda: hashlib.sha256(body).digest())[1]
    found, counted = _timed(lambda: volume_statistics(voxels, meta.scaling, meta.dims))
    spec = plan_array(voxels.shape, voxels.dtype, meta.dims, write.tile, write.compression)
    spec, settled = _timed(lambda: settle_shuffle(voxels, spec, write.compression))
    document = json.dumps(json.loads((place / row["_path"] / "0" / "zarr.json").read_text()))

    def encode() -> None:
        encoder = make_encoder(spec, document)
        for box in spec.shard_boxes():
            list(encoder.encode(box, voxels[box.slices]))

    encoded = _timed(encode)[1]
    window = found.p1, found.p99
    picture = _timed(lambda: thumbnail_jpeg(voxels, meta.dims, meta.affine, window, box=found.nonzero_box))[1]
    durable = _timed(storage.make_durable)[1]
    known = {
        "gunzip (isal)": gunzipped,
        "digest (SHA-256)": digest,
        "statistics": counted,
        "choice of the shuffle": settled,
        "compression (lz4hc 5), CRC-32C": encoded,
        "thumbnail": picture,
    }
    rest = total - sum(known.values())
    return {**known, "reading, writing, metadata": rest, "syncfs, once a commit": durable}


def _timed(task: Callable[[], Any]) -> tuple[Any, float]:
    found, result = [], None
    for _ in range(_TIMES):
        begun = time.process_time()
        result = task()
        found.append((time.process_time() - begun) * 1000)
    return result, statistics.median(found)
