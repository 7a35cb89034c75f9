"""Files: the objects of one stored volume that a viewer may have, and the byte ranges it asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from math import ceil

from radiobject.backends.base import Level
from radiobject.errors import MissingObjectError
from radiobject.storage import Storage

__all__ = ["UNSATISFIABLE", "VolumeFiles", "byte_range"]

UNSATISFIABLE = (0, 0)
"""What `byte_range` makes of a range that lies beyond the object."""

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*")


class VolumeFiles:
    """Metadata and voxels of one OME-Zarr volume, by key below its folder; nothing else has a key here.

    What stands beside the voxels (the source's header, which may name the patient) is left out. Sizes are
    asked of the store once each: a committed volume does not change. Safe to share between threads.
    """

    def __init__(self, storage: Storage, folder: str, levels: Sequence[Level]) -> None:
        self._storage, self._folder = storage, folder
        self._grids = {
            level.path: tuple(ceil(n / s) for n, s in zip(level.spec.shape, level.spec.shards, strict=True))
            for level in levels
        }
        nodes = {"", *self._grids}
        for path in self._grids:
            nodes.update(path[:end] for end, sign in enumerate(path) if sign == "/")
        self._documents = {f"{node}/zarr.json".lstrip("/") for node in nodes}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        """Whether the volume has an object of that key, by its metadata: the store is not asked.

        >>> from radiobject.backends.base import plan_array
        >>> from radiobject.location import Location
        >>> level = Level("0", plan_array((4, 4, 4), "i2", ("z", "y", "x")))
        >>> files = VolumeFiles(Storage(Location("study")), "collections/T1w/a/1.ome.zarr", [level])
        >>> [key in files for key in ("zarr.json", "0/c/0/0/0", "0/c/0/0/1", "nifti/c/0", "../zarr.json")]
        [True, True, False, False, False]
        """
        if key in self._documents:
            return True
        level, separator, place = key.rpartition("/c/")
        grid = self._grids.get(level)
        if not separator or grid is None:
            return False
        numbers = place.split("/")
        return len(numbers) == len(grid) and all(
            number.isascii() and number.isdigit() and len(number) < 10 and str(int(number)) == number
            and int(number) < count
            for number, count in zip(numbers, grid, strict=True)
        )  # fmt: skip

    def size(self, key: str) -> int:
        """Bytes of an object; `MissingObjectError` for one that is gone."""
        with self._lock:
            known = self._sizes.get(key)
        if known is not None:
            return known
        found = self._storage.size(f"{self._folder}/{key}")
        if found is None:
            raise MissingObjectError(f"{self._folder}/{key}", expected="an object", got="nothing there")
        with self._lock:
            self._sizes[key] = found
        return found

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes `start:stop` of an object, one ranged read of the store; `CorruptObjectError` for fewer."""
        return self._storage.read_range(f"{self._folder}/{key}", start, stop)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes `start:stop` that a Range header asks for, of an object of `size` bytes.

    None means all of it: no header, several ranges, another unit, or a header that is malformed, as
    RFC 9110 (14.2) lets a server answer these. A range beyond the object is `UNSATISFIABLE`.

    >>> byte_range("bytes=10-19", 100), byte_range("bytes=90-", 100), byte_range("bytes=-10", 100)
    ((10, 20), (90, 100), (90, 100))
    >>> byte_range("bytes=100-", 100) == UNSATISFIABLE, byte_range("bytes=0-1,5-6", 100)
    (True, None)
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    return (start, stop) if start < stop else UNSATISFIABLE
