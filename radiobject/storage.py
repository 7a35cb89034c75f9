"""Storage: the one door through which tables, commits, journals and volume objects pass as bytes.

Local files go by the operating system's own calls, so that durability and exclusive creation are ours to
promise; everything else goes by fsspec.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Any, TypeVar

from radiobject import measuring
from radiobject.errors import (
    CapabilityError,
    ConcurrencyError,
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    StorageError,
)
from radiobject.failures import mapped
from radiobject.local_disk import LEFTOVER, create_file, is_below, open_regular, sync_folder, syncfs
from radiobject.location import Location
from radiobject.remote import ObjectInfo, create_remote, etag_of, info_of, mtime_of, size_of

__all__ = ["ObjectInfo", "Storage", "check_key"]

T = TypeVar("T")

_CREATES = frozenset({"file", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
_memory_lock = threading.Lock()


def check_key(key: str) -> str:
    """Refuse any key that could leave the storage: absolute, `..`, a scheme, backslash, NUL.

    >>> check_key("tables/obs_meta/a.parquet")
    'tables/obs_meta/a.parquet'
    """
    segments = key.split("/") if isinstance(key, str) else [""]
    if not key or "\\" in key or "\0" in key or "://" in key or any(s in ("", ".", "..") for s in segments):
        raise FormatError("path", expected="a relative path inside the study", got=repr(key))
    return key


class Storage:
    """Objects below one `Location`, addressed by relative keys with forward slashes.

    Every call raises from our tree and names the object: `MissingObjectError`, `StorageReadOnlyError`,
    `StorageFullError`, or `StorageError` for the rest. Safe to share between threads; pickles.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._root = "\0"  # where the study is, links followed; looked up when first needed

    @property
    def creates_exclusively(self) -> bool:
        """Whether `create` is known to let exactly one of two writers win here."""
        return self.location.scheme in _CREATES

    def read(self, key: str, at_most: int = 2**62) -> bytes:
        """The whole object; `FormatError` for one of more than `at_most` bytes, which is not read."""

        def local(path: str) -> bytes:
            with self._opened(path) as file:
                self._bounded(key, os.fstat(file.fileno()).st_size, at_most)
                return file.read()

        once = self.location.read_args
        data: bytes = self._call("read", key, local, lambda fs, path: fs.cat_file(path, **once))
        measuring.add("bytes_read", len(data))
        self._bounded(key, len(data), at_most)
        return data

    def _bounded(self, key: str, size: int, at_most: int) -> None:
        if size > at_most:
            raise FormatError(
                f"{self.location.uri}/{key}", expected=f"at most {at_most} bytes", got=f"{size} bytes"
            )

    def _opened(self, path: str) -> BufferedReader:
        """A file of a local study, open for reading; `FormatError` where a link leads out of the study."""
        file = os.fdopen(open_regular(path), "rb")
        if not is_below(file.fileno(), path, self._root):
            self._root = os.path.realpath(self.location.path)  # it may have moved
            if not is_below(file.fileno(), path, self._root):
                file.close()
                raise FormatError(path, expected="a file inside the study", got="a link out of it")
        return file

    def require_inside(self, key: str, at_most: int) -> None:
        """Of a local object, if it is there, that an engine may open it by its path.

        `FormatError` for a link that leads out or over `at_most` bytes, `StorageError` for what is no file.
        """
        path, where = os.path.join(self.location.path, check_key(key)), f"{self.location.uri}/{key}"
        with contextlib.suppress(MissingObjectError), mapped(where), self._opened(path) as file:
            self._bounded(key, os.fstat(file.fileno()).st_size, at_most)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes `start:stop` of the object; fewer came than asked for is `CorruptObjectError`."""

        def local(path: str) -> bytes:
            with self._opened(path) as file:
                file.seek(start)
                # what a document says is there, or less: no room is made for more than is
                return file.read(max(min(stop, os.fstat(file.fileno()).st_size) - start, 0))

        if stop <= start:
            return b""
        return self._part(
            key, f"bytes {start} to {stop}", stop - start, local,
            lambda fs, path: fs.cat_file(path, start=start, end=stop), is_there=lambda size: size > start,
        )  # fmt: skip

    def read_tail(self, key: str, length: int) -> bytes:
        """The last `length` bytes of the object; fewer there are is `CorruptObjectError`.

        One request where a range may count from the end, else two.
        """

        def local(path: str) -> bytes:
            with self._opened(path) as file:
                file.seek(max(os.fstat(file.fileno()).st_size - length, 0))
                return file.read()

        if not self.location.is_local and not self.location.has_suffix_ranges:
            size = self.size(key)
            if size is None:
                raise MissingObjectError(
                    f"{self.location.uri}/{key}", expected="an object", got="nothing there"
                )
            return self.read_range(key, max(size - length, 0), max(size, length))
        return self._part(
            key, f"its last {length} bytes", length, local,
            lambda fs, path: fs.cat_file(path, start=-length), is_there=lambda size: size >= length,
        )  # fmt: skip

    def _part(
        self,
        key: str,
        wanted: str,
        length: int,
        local: Callable[[str], bytes],
        remote: Callable[[Any, str], bytes],
        is_there: Callable[[int], bool],
    ) -> bytes:
        """A range of an object, with as many bytes as were asked for."""
        where = f"{self.location.uri}/{key}"
        try:
            data = self._call("read", key, local, remote)
        except StorageError:
            # a range that begins beyond the end is refused, by each driver in its own words
            size = None if self.location.is_local else self.size(key)
            if size is None or is_there(size):
                raise
            data = b""
        measuring.add("bytes_read", len(data))
        if len(data) > length:
            hint = "This server ignores ranges; serve the study from one that honours them."
            raise StorageError(where, expected=wanted, got=f"{len(data)} bytes", hint=hint)
        if len(data) < length:
            hint = "The object is shorter than when it was committed; restore it or ingest it again."
            raise CorruptObjectError(where, expected=wanted, got=f"{len(data)} bytes", hint=hint)
        return data

    def size(self, key: str) -> int | None:
        """Size in bytes, None when there is no such object."""
        try:
            return self._call("size", key, lambda path: os.stat(path).st_size, size_of)
        except MissingObjectError:
            return None

    def info(self, key: str) -> ObjectInfo:
        """Size, time and ETag of an object; `MissingObjectError` when there is none."""

        def local(path: str) -> ObjectInfo:
            stat = os.stat(path)
            return ObjectInfo(key, stat.st_size, stat.st_mtime)

        def remote(fs: Any, path: str) -> ObjectInfo:
            said = info_of(fs, path)
            return ObjectInfo(key, int(said["size"]), mtime_of(said), etag_of(said))

        return self._call("size", key, local, remote)

    def write(self, key: str, data: bytes) -> None:
        """Write an object at its own key; local folders are made as needed."""

        def local(path: str) -> None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)

        self._call("write", key, local, lambda fs, path: fs.pipe_file(path, data, **self.location.pipe_args))
        measuring.add("bytes_written", len(data))

    def replace(self, key: str, data: bytes, *, whole: bool = False) -> None:
        """Overwrite an object so that a reader sees the old bytes or the new ones.

        `whole` holds after a power cut, too: the bytes are on disk before they have the name. Whether they
        have it is then for `make_durable` to settle.
        """

        def local(path: str) -> None:
            temporary = f"{path}.{secrets.token_hex(8)}.tmp"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    if whole:
                        file.flush()
                        os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                if os.path.lexists(temporary):
                    os.unlink(temporary)

        self._call("replace", key, local, lambda fs, path: fs.pipe_file(path, data))
        measuring.add("bytes_written", len(data))

    def create(self, key: str, data: bytes) -> bool:
        """Create an object durably unless the key is taken.

        True: it is ours, whole and on disk. False or an exception: the answer may lie, read the key back
        (a retry inside a client can meet its own first success).
        """
        if not self.creates_exclusively:
            raise ConcurrencyError(
                f"{self.location.uri}",
                expected=f"a store with exclusive creation ({', '.join(sorted(_CREATES))})",
                got=self.location.scheme,
                hint="Pass single_writer=True if you are sure to be the only writer.",
            )
        if self.location.scheme == "memory":
            with _memory_lock:
                if self.size(key) is not None:
                    return False
                self.write(key, data)
                return True
        ours = self._call(
            "create",
            key,
            lambda path: create_file(path, data),
            lambda fs, path: create_remote(fs, path, data),
        )
        measuring.add("bytes_written", len(data) if ours else 0)
        return ours

    def delete(self, key: str) -> None:
        """Remove an object; silent when there is none."""
        try:
            self._call("delete", key, os.unlink, lambda fs, path: fs.rm_file(path))
        except MissingObjectError:
            return

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Every object below `prefix`, in key order."""

        def local(path: str) -> list[ObjectInfo]:
            return list(_walk(path, prefix))

        def remote(fs: Any, path: str) -> list[ObjectInfo]:
            found = fs.find(path, detail=True)
            return [
                ObjectInfo(_below(name, path, prefix), int(info["size"]), mtime_of(info))
                for name, info in found.items()
                if not name.endswith("/")  # what consoles leave to show an empty folder
            ]

        if self.location.scheme in ("http", "https"):
            raise CapabilityError(f"{self.location.uri}", expected="a store that can list", got="plain HTTP")
        try:
            found = self._call("list", prefix, local, remote)
        except MissingObjectError:
            return []
        return sorted(found, key=lambda info: info.key)

    def is_empty(self) -> bool:
        """Whether nothing stands here but what a killed writer left; looks no deeper than one level."""

        def is_litter(name: str) -> bool:
            # a probe of the store's promises, or the study document before it had its name
            return name == "transactions" or LEFTOVER.fullmatch(name) is not None

        def local(path: str) -> bool:
            if os.path.lexists(path) and not os.path.isdir(path):
                return False
            with os.scandir(path) as entries:
                return all(is_litter(entry.name) for entry in entries)

        def remote(fs: Any, path: str) -> bool:
            below = [n.rstrip("/") for n in fs.ls(path, detail=False) if n.strip("/") != path.strip("/")]
            return all(is_litter(name.rpartition("/")[2]) for name in below)

        try:
            return self._call("list", "", local, remote)
        except MissingObjectError:
            return True

    def delete_tree(self, prefix: str) -> None:
        """Remove every object below `prefix`, and the empty folders that a local disk keeps."""
        for info in self.list(prefix):
            self.delete(info.key)
        if self.location.is_local:
            top = os.path.join(self.location.path, check_key(prefix))
            for folder, _, _ in os.walk(top, topdown=False):
                with mapped(f"{self.location.uri}/{prefix}"):
                    os.rmdir(folder)

    def drop_empty_folders(self, prefix: str) -> None:
        """Remove the folders below `prefix` that hold nothing: a local disk keeps them, with their names."""

        def local(path: str) -> None:
            for folder, _, _ in os.walk(path, topdown=False):
                with os.scandir(folder) as entries:
                    empty = next(entries, None) is None
                if empty:
                    os.rmdir(folder)

        self._call("delete", prefix, local, lambda fs, path: None)

    def make_durable(self) -> None:
        """Return once everything written here so far survives a power cut (object stores always do)."""
        if not self.location.is_local:
            return

        self._call("sync", "", lambda path: sync_folder(path, syncfs), lambda fs, path: None)

    def _call(
        self, operation: str, key: str, local: Callable[[str], T], remote: Callable[[Any, str], T]
    ) -> T:
        """The single place that every request passes: it counts, checks the key and maps errors."""
        measuring.add("requests")
        measuring.add(f"door_{operation}")
        if key:
            check_key(key)
        writing = operation in ("write", "replace", "create")
        with mapped(f"{self.location.uri}/{key}" if key else self.location.uri, writing=writing):
            if self.location.is_local:
                return local(os.path.join(self.location.path, key) if key else self.location.path)
            fs, root = self.location.filesystem()
            return remote(fs, f"{root}/{key}" if key else root)

    def __repr__(self) -> str:
        return f"Storage({self.location.uri!r})"


def _walk(top: str, prefix: str) -> Iterator[ObjectInfo]:
    with os.scandir(top) as entries:
        for entry in entries:
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(entry.path, key)
                else:
                    stat = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(key, stat.st_size, stat.st_mtime)
            except FileNotFoundError:
                continue  # another process removed it meanwhile; the rest of the listing stands


def _below(name: str, root: str, prefix: str) -> str:
    tail = name[name.index(root.strip("/")) + len(root.strip("/")) :].strip("/")
    return f"{prefix}/{tail}" if prefix and tail else (tail or prefix)
