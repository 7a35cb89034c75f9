"""What radiobject adds to tensorstore on a 64-cube: on an open volume, and on the first touch of many."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts
from data import AFFINE, crops, head
from stored import known_metadata, kvstore, opened, raw_context, raw_spec, raw_store, volume_folder

from radiobject import RadiObject, ReadConfig, WriteConfig, configure

__all__ = ["Overhead", "overhead"]

EDGE = 64
DEFAULT_CACHE = ReadConfig().cache_bytes
SMALL = 96
"""Edge of the many volumes: small ones, so that a thousand are really written, and the index of a shard is
short, which is the harder case for us: less of tensorstore's own work stands against our part."""

Read = Callable[[], Any]


@dataclass(frozen=True)
class Overhead:
    """Seconds for a 64-cube (medians over all reads) and the ratio ours / raw.

    `ratio` is the median over rounds of (median of ours / median of raw) of that round, `low` and `high` the
    least and greatest of them. `added` is the median of ours minus raw over pairs read one after the other.
    """

    what: str
    ours: float
    raw: float
    ratio: float
    low: float
    high: float
    added: float


def overhead(work: Path, volumes: int, rounds: int) -> dict[str, Any]:
    """Every case, and the seconds of opening a study of `volumes` volumes once in a process."""
    whole = head().round()
    kinds = {"int16": whole.astype(np.int16), "float32": whole}
    study = work / "overhead"
    floats = WriteConfig(store_integers=False)  # both are to hand out what is stored
    images = {n: [((v, AFFINE), "sub-01")] for n, v in kinds.items()}
    RadiObject.from_images(study, images, write=floats, progress=False)
    found = [
        _open_handle(study, name, cache, rounds, 200)
        for name in kinds
        for cache in (0, DEFAULT_CACHE, 100 * 2**20)
    ]
    _write_many(work / "many", kinds["int16"], volumes)
    found.append(_first_touch(work / "many", max(rounds // 2, 1)))
    return {"cases": [asdict(o) for o in found], "first_opening": _first_opening(work / "many")}


def _open_handle(study: Path, collection: str, cache_bytes: int, rounds: int, reads: int) -> Overhead:
    """Random cubes of one volume, both handles open and with a cache of that size, in alternating order."""
    volume = opened(RadiObject(study).collection(collection).iloc[0], cache_bytes)
    store = raw_store(volume_folder(study, collection), raw_context(cache_bytes))
    rng = np.random.default_rng(2)
    table = np.empty((rounds, reads, 2))
    for row in table:
        for n in range(reads):
            x, y, z = (int(rng.integers(0, size - EDGE + 1)) for size in volume.shape)

            def ours(x: int = x, y: int = y, z: int = z) -> Any:
                return volume[x : x + EDGE, y : y + EDGE, z : z + EDGE]

            def raw(x: int = x, y: int = y, z: int = z) -> Any:
                return store[z : z + EDGE, y : y + EDGE, x : x + EDGE].read().result()

            row[n] = _pair(ours, raw, swap=n % 2 == 1)
    return _summary(f"open {collection}, cache {cache_bytes // 2**20} MiB", table)


def _write_many(study: Path, voxels: npt.NDArray[Any], n: int) -> None:
    """A study of `n` subjects, each a different crop of the head, ingested like any other."""
    images = [((c, AFFINE), f"sub-{i:04d}") for i, c in enumerate(crops(voxels, n, SMALL))]
    RadiObject.from_niftis(study, {"T1w": images}, progress=False)


def _first_touch(study: Path, rounds: int) -> Overhead:
    """`radi.T1w.iloc[i]` and a cube, against ts.open of known metadata and that cube, each i once a round.

    tensorstore is given all that it can be told in advance: one parsed spec for all volumes, the path of
    each, one context. Every round begins with an opened study and fresh contexts: no index is cached.
    """
    count = len(RadiObject(study).T1w)
    folders = [volume_folder(study, "T1w", f"sub-{i:04d}_T1w") for i in range(count)]
    spec = raw_spec(known_metadata(folders[0]))
    paths = [str(folder) for folder in folders]
    # the files were just written: a round more than asked for makes sure that all are in the page cache
    table = np.empty((rounds + 1, count, 2))
    for number, row in enumerate(table):
        # another size makes another context of ours: the public way to begin with an empty cache
        with configure(read=ReadConfig(cache_bytes=DEFAULT_CACHE + number + 1)):
            _round(row, RadiObject(study).T1w, spec, paths, np.random.default_rng(number))
    return _summary(f"first touch of 1 of {count:,}", table[1:])


def _first_opening(study: Path) -> float:
    """Seconds to open the study and the first volume of its table, in a process that did neither before."""
    code = (
        "import sys, time, pandas, pyarrow.parquet, tensorstore, radiobject\n"
        "start = time.perf_counter()\n"
        "radiobject.RadiObject(sys.argv[1]).T1w.iloc[0]\n"
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", code, str(study)]
    found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    return float(np.median([float(text) for text in found]))


def _round(row: npt.NDArray[Any], collection: Any, spec: ts.Spec, paths: list[str], rng: Any) -> None:
    context = raw_context(DEFAULT_CACHE)
    collection.iloc[0]  # the table is read once for all volumes; `_first_opening` has that
    for n, i in enumerate(rng.permutation(len(paths)).tolist()):
        x, y, z = (int(v) for v in rng.integers(0, SMALL - EDGE + 1, 3))
        kept: list[Any] = []  # neither side pays for closing inside its time

        def ours(i: int = i, x: int = x, y: int = y, z: int = z, kept: list[Any] = kept) -> Any:
            volume = collection.iloc[i]
            kept.append(volume)
            return volume[x : x + EDGE, y : y + EDGE, z : z + EDGE]

        def raw(i: int = i, x: int = x, y: int = y, z: int = z, kept: list[Any] = kept) -> Any:
            store = ts.open(
                spec, kvstore=kvstore(paths[i]), open=True, assume_metadata=True, context=context
            ).result()
            kept.append(store)
            return store[z : z + EDGE, y : y + EDGE, x : x + EDGE].read().result()

        row[n] = _pair(ours, raw, swap=n % 2 == 1)


def _pair(ours: Read, raw: Read, *, swap: bool) -> tuple[float, float]:
    """Seconds of both, one straight after the other; who goes first alternates."""
    if swap:
        second, b = _timed(raw)
        first, a = _timed(ours)
    else:
        first, a = _timed(ours)
        second, b = _timed(raw)
    if a[0, 0, 0] != b[0, 0, 0] or a[-1, -1, -1] != b[-1, -1, -1]:
        raise SystemExit("radiobject and tensorstore disagree")
    return first, second


def _timed(read: Read) -> tuple[float, Any]:
    start = time.perf_counter()
    block = read()
    return time.perf_counter() - start, block


def _summary(what: str, table: npt.NDArray[Any]) -> Overhead:
    medians = np.median(table, axis=1)
    ratios = medians[:, 0] / medians[:, 1]
    ours, raw = np.median(table.reshape(-1, 2), axis=0).tolist()
    added = float(np.median(table[..., 0] - table[..., 1]))
    return Overhead(
        what, ours, raw, float(np.median(ratios)), float(ratios.min()), float(ratios.max()), added
    )
