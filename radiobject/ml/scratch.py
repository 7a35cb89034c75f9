"""Scratch: decoded volumes on a local disk, mapped into the memory of every process that reads them."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec
from radiobject.errors import ConfigError, RadiObjectError
from radiobject.forking import renew_on_fork
from radiobject.frozen import is_whole
from radiobject.key_locks import KeyLocks

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows: two processes may then both make a copy, and one of them stays
    fcntl = None

__all__ = ["Scratch"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_SUFFIX, _MAKING = ".voxels", ".making"
_HEADER = 4096
"""Bytes before the voxels: a page, so that voxels begin on one."""

_MAPPED = 4096
"""Files that a process keeps mapped; Linux allows about 65,000."""


class Scratch:
    """Decoded volumes as files in `directory`, at most `bytes` of them (None: nine tenths of what is free).

    The first read of a volume decodes all of it into an uncompressed file of its stored type; whoever reads
    it later, in whatever thread, worker or rank of this machine, copies from the page cache, which holds one
    copy for all. It works for every backend and in forked processes. Resampled and turned volumes are made
    from the voxels in the file.

    Files are named by a digest of the stored volume, so that another version of it is another file. A file is
    written aside and renamed; its header and length are checked whenever it is mapped, and with `verify`
    its CRC-32C, once a process. A file that does not pass is made anew.

    A file that nobody has mapped since this object was made goes, the oldest first, where room is needed.
    Where there is none left, volumes are read where they are stored: no epoch throws out what the next needs.

    >>> Scratch("/scratch/radiobject", bytes=200 * 10**9)
    Scratch('/scratch/radiobject', bytes=200,000,000,000)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        bytes: int | None = None,  # noqa: A002 - the word for it
        *,
        verify: bool = True,
    ) -> None:
        if bytes is not None and not is_whole(bytes):
            raise ConfigError("Scratch(bytes=)", expected="an int, at least 1, or None", got=repr(bytes))
        self.directory, self.bytes, self.verify = Path(directory), bytes, verify
        self._began = time.time()
        self._maps: OrderedDict[str, Array] = OrderedDict()
        self._without: set[str] = set()
        self._refused = False
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the locks anew, in a forked child; what is mapped stays mapped."""
        self._lock, self._making = threading.Lock(), KeyLocks()

    def array(self, key: str, spec: ArraySpec, read: Callable[[], Array]) -> Array | None:
        """The volume of that key as a read-only view of its file; see `Cache.array`."""
        found = self._maps.get(key)
        if found is not None or key in self._without:
            return found
        with self._making(key):
            if key in self._maps:
                return self._maps[key]
            found = self._mapped(key, spec)
            if found is None:
                found = self._made(key, spec, read)
            with self._lock:
                if found is None:
                    self._without.add(key)
                    return None
                self._maps[key] = found
                while len(self._maps) > _MAPPED:
                    self._maps.popitem(last=False)
            return found

    def clear(self) -> None:
        """Remove every file of the directory that belongs to a scratch cache."""
        with self._lock:
            self._maps.clear()
            self._without.clear()
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Those of volumes, and what is left of writers that were killed."""
        if not self.directory.is_dir():
            return []
        return [p for p in self.directory.iterdir() if p.suffix in (_SUFFIX, _MAKING)]

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}{_SUFFIX}"

    def _mapped(self, key: str, spec: ArraySpec) -> Array | None:
        """The file's voxels, None when there is no file or not the right one."""
        path, wanted = self._path(key), _HEADER + spec.nbytes
        try:
            with path.open("rb") as file:
                size, said = os.fstat(file.fileno()).st_size, _parsed(file.read(_HEADER))
                if size != wanted or {**said, "crc32c": 0} != _header(key, spec, 0):
                    self._reject(path, "another length or header")
                    return None
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            with contextlib.suppress(OSError):  # another user's, or of a disk that is not to be written
                os.utime(path)  # used now: not the next to go
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)
            return None
        voxels = np.frombuffer(mapped, spec.dtype, offset=_HEADER).reshape(spec.shape)
        if self.verify and _crc32c(voxels) != said["crc32c"]:
            self._reject(path, "another CRC-32C")
            return None
        return voxels

    def _reject(self, path: Path, why: str) -> None:
        _log.warning("%s has %s than was written; it is made anew", path, why)
        path.unlink(missing_ok=True)

    def _made(self, key: str, spec: ArraySpec, read: Callable[[], Array]) -> Array | None:
        """Decode the volume into its file, unless another process just did; None when there is no room."""
        if self._refused:
            return None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with _Aside(self._path(key).with_suffix(_MAKING)) as aside:
                found = self._mapped(key, spec)
                if found is not None or not self._room(_HEADER + spec.nbytes):
                    return found
                voxels = np.ascontiguousarray(read())
                head = json.dumps(_header(key, spec, _crc32c(voxels))).encode().ljust(_HEADER)
                aside.write(head, voxels)
                aside.rename(self._path(key))
        except RadiObjectError:
            raise  # it was the stored volume that could not be read
        except OSError as error:
            self._refuse(error)
            return None
        return self._mapped(key, spec)

    def _refuse(self, error: OSError) -> None:
        """Write nothing more in this process; said once."""
        if not self._refused:
            self._refused = True
            _log.warning("%s takes no more files (%s): volumes are read where they are stored", self, error)

    def _room(self, wanted: int) -> bool:
        """Whether so many bytes fit, after files of earlier runs have gone for them, the oldest first."""
        files = []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        used = sum(size for _, size, _ in files)
        free = shutil.disk_usage(self.directory).free
        limit = (used + free) * 9 // 10 if self.bytes is None else min(self.bytes, used + free)
        for last_used, size, path in sorted(files):
            if used + wanted <= limit or last_used >= self._began:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used + wanted <= limit

    def __getstate__(self) -> dict[str, Any]:
        return {
            "directory": self.directory,
            "bytes": self.bytes,
            "verify": self.verify,
            "_began": self._began,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["directory"], state["bytes"], verify=state["verify"])  # type: ignore[misc]
        self._began = state["_began"]

    def __repr__(self) -> str:
        most = None if self.bytes is None else f"{self.bytes:,}"
        return f"Scratch({str(self.directory)!r}, bytes={most})"


class _Aside:
    """The file that one process at a time writes; others wait at it until it is renamed or given up."""

    def __init__(self, path: Path) -> None:
        self._path, self._renamed = path, False

    def __enter__(self) -> _Aside:
        while True:
            self._file = self._path.open("ab")
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    return self
            self._file.close()  # it was renamed or removed while this process waited

    def write(self, head: bytes, voxels: Array) -> None:
        """The whole content; OSError when it does not fit."""
        self._file.truncate(0)
        self._file.write(head)
        self._file.write(voxels.data)
        self._file.flush()

    def rename(self, path: Path) -> None:
        """Give it its name; no fsync, because what a power cut leaves is found by its checksum."""
        self._path.replace(path)
        self._renamed = True

    def __exit__(self, *error: object) -> None:
        if not self._renamed:
            self._path.unlink(missing_ok=True)
        self._file.close()


def _header(key: str, spec: ArraySpec, crc32c: int) -> dict[str, Any]:
    return {"radiobject_scratch": 1, "key": key, "dtype": spec.dtype.newbyteorder("=").str,
            "shape": list(spec.shape), "crc32c": crc32c}  # fmt: skip


def _parsed(head: bytes) -> dict[str, Any]:
    try:
        said = json.loads(head)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _crc32c(voxels: Array) -> int:
    return int(google_crc32c.value(voxels.reshape(-1).view(np.uint8)))
