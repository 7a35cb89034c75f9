"""Who reads: we, plain tensorstore, nibabel, PyPI radiobject 0.1.1; and what the machine itself can do."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import nibabel
import numpy as np
import numpy.typing as npt
import tensorstore as ts
from numcodecs import Blosc, blosc
from upstream_env import interpreter

from radiobject import RadiObject, ReadConfig, configure

__all__ = [
    "Box",
    "Contender",
    "Nibabel",
    "Ours",
    "Raw",
    "Shard",
    "Upstream",
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


class Contender(Protocol):
    """Reads boxes of named volumes; returns the seconds of each read and the CRC-32 of the last block."""

    name: str

    def times(self, volume: str, boxes: list[Box]) -> tuple[list[float], int]: ...


class Ours:
    """radiobject: a `Volume` held open, indexed; nothing that was decoded is kept between reads."""

    name = "radiobject"

    def __init__(self, study: Path) -> None:
        radi = RadiObject(study)
        self._volumes = {name: opened(radi.collection(name).iloc[0], 0) for name in radi.collection_names}

    def times(self, volume: str, boxes: list[Box]) -> tuple[list[float], int]:
        found, seconds, block = self._volumes[volume], [], None
        for (x0, x1), (y0, y1), (z0, z1) in boxes:
            start = time.perf_counter()
            block = found[x0:x1, y0:y1, z0:z1]
            seconds.append(time.perf_counter() - start)
        return seconds, _crc(block)


class Raw:
    """tensorstore on the same array: a store held open, indexed in disk order; nothing is kept either."""

    name = "tensorstore"

    def __init__(self, study: Path, names: list[str]) -> None:
        context = raw_context(0)
        self._stores = {name: raw_store(volume_folder(study, name), context) for name in names}

    def times(self, volume: str, boxes: list[Box]) -> tuple[list[float], int]:
        store, seconds, block = self._stores[volume], [], None
        for (x0, x1), (y0, y1), (z0, z1) in boxes:
            start = time.perf_counter()
            block = store[z0:z1, y0:y1, x0:x1].read().result()
            seconds.append(time.perf_counter() - start)
        return seconds, _crc(block.T)


class Nibabel:
    """nibabel on the .nii.gz, which has to inflate from the start for every read."""

    name = "nibabel .nii.gz"

    def __init__(self, paths: dict[str, Path]) -> None:
        self._paths = paths

    def times(self, volume: str, boxes: list[Box]) -> tuple[list[float], int]:
        seconds, block = [], None
        for (x0, x1), (y0, y1), (z0, z1) in boxes:
            start = time.perf_counter()
            block = np.asarray(nibabel.load(self._paths[volume]).dataobj[x0:x1, y0:y1, z0:z1])
            seconds.append(time.perf_counter() - start)
        return seconds, _crc(block)


class Upstream:
    """PyPI radiobject 0.1.1 in an environment of its own, made on demand."""

    name = "radiobject 0.1.1"

    def __init__(self, environment: Path, uri: Path, paths: dict[str, Path]) -> None:
        self._process = subprocess.Popen(
            [str(interpreter(environment)), str(Path(__file__).with_name("upstream_reads.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )
        answer = self._ask({"do": "store", "uri": str(uri), "files": {n: str(p) for n, p in paths.items()}})
        self.sizes: dict[str, int] = answer["bytes"]

    def times(self, volume: str, boxes: list[Box]) -> tuple[list[float], int]:
        answer = self._ask({"do": "read", "volume": volume, "boxes": boxes})
        return answer["seconds"], answer["crc32"]

    def close(self) -> None:
        """End the other process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self._process.wait()}; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


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


def _crc(block: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(block))
