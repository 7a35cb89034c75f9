"""Local disk: files that are there after a power cut, and created by one of several writers only."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable

__all__ = ["LEFTOVER", "create_file", "is_below", "open_regular", "sync_folder", "syncfs"]

LEFTOVER = re.compile(r"[^/]+\.[0-9a-f]{16}\.tmp")
"""Names of what `create_file` leaves when it is killed."""


def open_regular(path: str) -> int:
    """A descriptor to read a file by. `OSError` for a pipe, which would wait, a device, a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "a folder, a pipe or a device where a file should be", path)


def is_below(descriptor: int, path: str, root: str) -> bool:
    """Whether an open file lies below `root`, a path without links, once those in its own are followed."""
    try:
        place = os.readlink(f"/proc/self/fd/{descriptor}")  # one call, where resolving a path takes ten
    except OSError:
        place = os.path.realpath(path)
    return place.startswith(root.rstrip("/") + "/")


def create_file(path: str, data: bytes, mode: int = 0o644) -> bool:
    """Create a file with these bytes, durably; False when the name is taken."""
    folder = os.path.dirname(path)
    _make_folder(folder)
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            _link_new(temporary, path)
        except FileExistsError:
            return False
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    sync_folder(folder)
    return True


def _make_folder(folder: str) -> None:
    """A folder that is there after a power cut: its own entry stands in its parent."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for made in reversed(missing):
        os.makedirs(made, exist_ok=True)
        sync_folder(os.path.dirname(made))


def sync_folder(folder: str, sync: Callable[[int], None] = os.fsync) -> None:
    """Make the entries of a folder durable, or by `syncfs` all of its file system."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def _link_new(temporary: str, path: str) -> None:
    """Give the temporary file its name unless the name is taken (then FileExistsError)."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # some FUSE and network mounts have no links; the kernel's exclusive rename does the same
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        at_cwd, no_replace = -100, 1
        if rename is None:
            raise
        if rename(at_cwd, os.fsencode(temporary), at_cwd, os.fsencode(path), no_replace) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path) from error


def syncfs(descriptor: int) -> None:
    """Make the whole file system of an open file durable."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        os.sync()
        return
    if call(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
