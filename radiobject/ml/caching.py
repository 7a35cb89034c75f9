"""Caching: decoded volumes kept, so that they are decoded once and not for every patch.

A random 96-cube of 32-cube chunks decodes twice the voxels that it has. Where all decoded volumes of a cohort
fit into memory or on a local disk, a patch is a copy and nothing else.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import ArraySpec, Level, VolumeHandle
from radiobject.errors import ConfigError
from radiobject.forking import renew_on_fork
from radiobject.frozen import is_whole
from radiobject.geometry.box import Box
from radiobject.key_locks import KeyLocks
from radiobject.model.study import Study
from radiobject.model.volume import Volume

__all__ = ["Cache", "CachedHandle", "InMemory", "cached", "volume_key"]

Array = npt.NDArray[Any]


class Cache(Protocol):
    """Keeps decoded volumes by key. Safe to share between threads, to fork and to pickle."""

    def array(self, key: str, spec: ArraySpec, read: Callable[[], Array]) -> Array | None:
        """The volume of that key, read-only, in disk order; `read` decodes it at its first use.

        None when it finds no room: whoever asks reads the part that he needs.
        """


class CachedHandle:
    """A `VolumeHandle` that reads from a cache what is in it, and all else from the stored volume.

    Only level 0 is cached.
    """

    __slots__ = ("_cache", "_key", "stored")

    def __init__(self, stored: VolumeHandle, cache: Cache, key: str) -> None:
        self.stored, self._cache, self._key = stored, cache, key

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those of the stored volume."""
        return self.stored.levels

    @property
    def spec(self) -> ArraySpec:
        """The array of level 0."""
        return self.stored.spec

    @property
    def attrs(self) -> dict[str, Any]:
        """Those of the stored volume."""
        return self.stored.attrs

    @property
    def uri(self) -> str | None:
        """The place of the stored volume."""
        return getattr(self.stored, "uri", None)

    def read(self, box: Box, level: int = 0) -> Array:
        """The voxels of `box` in disk order; see `VolumeHandle.read`."""
        view = self.view(box) if level == 0 else None
        return self.stored.read(box, level) if view is None else view.copy(order="C")

    def view(self, box: Box) -> Array | None:
        """The voxels of `box` as a read-only view of the cache's memory; None when there is no room."""
        spec = self.spec
        spec.check(box)
        missed = False

        def decode() -> Array:
            nonlocal missed
            missed = True
            return self.stored.read(spec.box)

        whole = self._cache.array(self._key, spec, decode)
        if whole is None:
            return None
        found = whole[box.slices]
        if measuring.active() and not missed:
            measuring.add("cache_hits")
            measuring.add("bytes_used", found.nbytes)
        return found

    def extra(self, name: str) -> bytes:
        """Bytes stored beside the voxels."""
        return self.stored.extra(name)

    def native(self) -> Any:
        """The stored array itself."""
        return self.stored.native()

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedHandle, (self.stored, self._cache, self._key)


class InMemory:
    """Decoded volumes in the memory of this process, at most `bytes` of them; each process has its own.

    What is there stays: in an epoch that reads all volumes of a cohort in random order, to drop the oldest
    for the newest would drop each volume just before its turn. Volumes beyond `bytes` are read where they
    are. See `Scratch` for a cache that processes share.

    >>> InMemory(bytes=2**30)
    InMemory(bytes=1,073,741,824)
    """

    def __init__(self, bytes: int = 2**30) -> None:  # noqa: A002 - the word for it
        if not is_whole(bytes):
            raise ConfigError("InMemory(bytes=)", expected="an int, at least 1", got=repr(bytes))
        self.bytes = int(bytes)
        self._kept: dict[str, Array] = {}
        self._used = 0
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the locks anew, in a forked child, which shares the memory of what is there."""
        self._lock, self._making = threading.Lock(), KeyLocks()

    def array(self, key: str, spec: ArraySpec, read: Callable[[], Array]) -> Array | None:
        """See `Cache.array`."""
        found = self._kept.get(key)
        if found is not None or self._used + spec.nbytes > self.bytes:
            return found
        with self._making(key):
            if key in self._kept:
                return self._kept[key]
            with self._lock:
                if self._used + spec.nbytes > self.bytes:
                    return None
                self._used += spec.nbytes
            try:
                made = read()
            except BaseException:
                with self._lock:
                    self._used -= spec.nbytes
                raise
            made.flags.writeable = False
            self._kept[key] = made
            return made

    def __reduce__(self) -> tuple[Any, ...]:
        return InMemory, (self.bytes,)

    def __repr__(self) -> str:
        return f"InMemory(bytes={self.bytes:,})"


def cached(volume: Volume, cache: Cache, key: str) -> Volume:
    """The same volume, read by way of a cache."""
    return volume._derived(CachedHandle(volume._handle, cache, key), region=volume._region)


def volume_key(study: Study, collection: str, position: int) -> str:
    """A digest (64 hex digits) of what is stored of a volume: objects, their sizes and CRC-32C, metadata.

    A volume's path holds a random part that is used once, so that another version has another key whatever
    its checksums are.
    """
    path, hint, objects = study.obs(collection).record(position, ("_path", "_hint", "_objects"))
    stored = sorted((o["path"], o["bytes"], o["crc32c"]) for o in objects)
    said = f"{path} {hint} {np.little_endian} {stored}"
    return hashlib.sha256(said.encode()).hexdigest()
