"""Who reads on S3: we, on each backend and engine, plain tensorstore, and zarr-python over s3fs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorstore as ts
import zarr
from zarr.storage import FsspecStore

from radiobject import RadiObject, Volume
from radiobject.format import catalog

__all__ = ["Contender", "Ours", "Raw", "ZarrPython"]

Read = Callable[[tuple[slice, ...]], npt.NDArray[Any]]
"""Takes slices along x, y, z."""


class Contender(Protocol):
    """`open` as a process that has not seen the study; `volume` hands over what reads the n-th one."""

    name: str

    def open(self) -> Any: ...

    def volume(self, number: int) -> Read: ...


class Ours:
    """radiobject; with keys in `options` it reads by zarr-python, else by tensorstore or TileDB."""

    def __init__(self, name: str, uri: str, options: dict[str, Any]) -> None:
        self.name, self._uri, self._options = name, uri, options
        self._radi = RadiObject(uri, storage_options=options)
        self._volumes: list[Volume] = list(self._radi.T1w)

    def open(self) -> Any:
        """The study, by its newest version."""
        catalog._snapshots.clear()
        return RadiObject(self._uri, storage_options=self._options)

    def volume(self, number: int) -> Read:
        """A `Volume`; the table has said where it is."""
        return self._volumes[number].__getitem__

    def folders(self) -> list[str]:
        """Keys of the arrays of level 0 below the bucket."""
        paths = self._radi.T1w.obs.to_arrow(["_path"])["_path"].to_pylist()
        return [f"{self._uri.partition('://')[2].partition('/')[2]}/{path}/0" for path in paths]


class Raw:
    """tensorstore on our arrays, told their metadata in advance, with the index of a shard kept."""

    name = "tensorstore"

    def __init__(self, bucket: str, folders: list[str], endpoint: str) -> None:
        self._bucket, self._folders, self._endpoint = bucket, folders, endpoint
        self._context = ts.Context({"cache_pool": {"total_bytes_limit": 10 * 2**20}})
        store = ts.KvStore.open(self._kvstore(folders[0]), context=self._context).result()
        self._metadata = json.loads(store.read("zarr.json").result().value)

    def open(self) -> Any:
        """One array by its own zarr.json: tensorstore knows no studies."""
        return ts.open(self._spec(0), context=ts.Context(), open=True).result()

    def volume(self, number: int) -> Read:
        """The array, x first as all read here."""
        spec = {**self._spec(number), "metadata": self._metadata}
        store = ts.open(spec, context=self._context, open=True, assume_metadata=True).result()
        return lambda box: store[box[::-1]].read().result().transpose(2, 1, 0)

    def _spec(self, number: int) -> dict[str, Any]:
        return {
            "driver": "zarr3",
            "kvstore": self._kvstore(self._folders[number]),
            "recheck_cached_data": False,
            "recheck_cached_metadata": False,
        }

    def _kvstore(self, folder: str) -> dict[str, Any]:
        return {
            "driver": "s3", "bucket": self._bucket, "path": f"{folder}/", "endpoint": self._endpoint,
            "aws_region": "us-east-1", "aws_credentials": {"type": "environment"},
        }  # fmt: skip


class ZarrPython:
    """zarr-python on our arrays over s3fs, as its documentation does it."""

    name = "zarr-python"

    def __init__(self, bucket: str, folders: list[str], options: dict[str, Any]) -> None:
        self._urls = [f"s3://{bucket}/{folder}" for folder in folders]
        self._options = options

    def open(self) -> Any:
        """One array by its own zarr.json."""
        return self._array(0)

    def volume(self, number: int) -> Read:
        """The array, opened before the clock runs."""
        array = self._array(number)
        return lambda box: np.asarray(array[box[::-1]]).transpose(2, 1, 0)

    def _array(self, number: int) -> zarr.Array[Any]:
        store = FsspecStore.from_url(self._urls[number], storage_options=self._options, read_only=True)
        return zarr.open_array(store, mode="r", zarr_format=3)
