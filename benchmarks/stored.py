"""The arrays of a study below this package: as tensorstore opens them, and one shard decoded by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import tensorstore as ts
from numcodecs import Blosc, blosc

from radiobject import ReadConfig, configure

__all__ = [
    "Box",
    "Shard",
    "folder_bytes",
    "known_metadata",
    "kvstore",
    "opened",
    "raw_context",
    "raw_spec",
    "raw_store",
    "volume_folder",
]

Box = tuple[tuple[int, int], ...]
"""(start, stop) along x, y, z."""


class Shard:
    """One shard file in memory, decoded by numcodecs in this thread alone: what the codec itself costs."""

    def __init__(self, folder: Path) -> None:
        metadata = known_metadata(folder)
        self._dtype = np.dtype(metadata["data_type"])
        self._chunk = metadata["codecs"][0]["configuration"]["chunk_shape"]
        shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        self._grid = [s // c for s, c in zip(shard, self._chunk, strict=True)]
        self._data = (folder / "0" / "c" / "0" / "0" / "0").read_bytes()
        count = int(np.prod(self._grid))
        index = np.frombuffer(self._data[-16 * count - 4 : -4], "<u8").reshape(*self._grid, 2)
        self._ranges: Any = index.tolist()
        self._codec = Blosc()
        blosc.use_threads = False

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The box in disk order, checked and decoded chunk by chunk."""
        want = box[::-1]
        block = np.empty([b - a for a, b in want], self._dtype)
        for chunk in np.ndindex(*[-(-b // c) - a // c for (a, b), c in zip(want, self._chunk, strict=True)]):
            at = [a // c + i for (a, _), c, i in zip(want, self._chunk, chunk, strict=True)]
            offset, size = self._ranges[at[0]][at[1]][at[2]]
            stored = self._data[offset : offset + size]
            if google_crc32c.value(stored[:-4]) != int.from_bytes(stored[-4:], "little"):
                raise SystemExit("the shard is damaged")
            voxels = np.frombuffer(self._codec.decode(stored[:-4]), self._dtype).reshape(self._chunk)
            source, target = [], []
            for (a, b), c, i in zip(want, self._chunk, at, strict=True):
                low, high = max(a, i * c), min(b, i * c + c)
                source.append(slice(low - i * c, high - i * c))
                target.append(slice(low - a, high - a))
            block[tuple(target)] = voxels[tuple(source)]
        return block


def opened(volume: Any, cache_bytes: int) -> Any:
    """The volume, opened by a read of one voxel, with a cache of that size (indexes and decoded chunks)."""
    with configure(read=ReadConfig(cache_bytes=cache_bytes)):
        volume[:1, :1, :1]
    return volume


def raw_store(folder: Path, context: ts.Context) -> Any:
    """Level 0 of a volume, opened by tensorstore with the options of ours."""
    return ts.open(
        raw_spec(known_metadata(folder)),
        kvstore=kvstore(folder),
        open=True,
        assume_metadata=True,
        context=context,
    ).result()


def raw_context(cache_bytes: int) -> ts.Context:
    """A context with a cache of that size (indexes and decoded chunks), as `ReadConfig` makes one."""
    return ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})


def raw_spec(metadata: dict[str, Any]) -> ts.Spec:
    """The options that radiobject opens its own arrays with."""
    return ts.Spec(
        {
            "driver": "zarr3",
            "metadata": metadata,
            "recheck_cached_data": False,
            "recheck_cached_metadata": False,
            "fill_missing_data_reads": False,
        }
    )


def kvstore(folder: Path | str) -> ts.KvStore.Spec:
    """Where level 0 of a volume lies."""
    return ts.KvStore.Spec({"driver": "file", "path": f"{folder}/0/"})


def known_metadata(folder: Path) -> dict[str, Any]:
    """The zarr.json of level 0."""
    document: dict[str, Any] = json.loads((folder / "0" / "zarr.json").read_bytes())
    return document


def volume_folder(study: Path, collection: str, obs_id: str = "*") -> Path:
    """The folder of the one volume that matches."""
    (found,) = (study / "collections" / collection).glob(f"{obs_id}/*.ome.zarr")
    return found


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
