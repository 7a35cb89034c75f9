"""What a disk may hold after a power cut: the calls of a change, and the states that POSIX then allows.

What was written but not synced may be there, be empty or be half there; a name that was made or removed may
be as before or as after until its folder is synced. Nothing is asked of a file system beyond that.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from radiobject import local_disk, storage

__all__ = ["Call", "Recorder", "states"]

Tree = dict[str, bytes]
_CONTENTS = {
    "full": lambda data: data,
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
}


@dataclass
class Call:
    """One call: create, mkdir, link, rename, unlink, rmdir; fsync of a file, fsync of a folder, syncfs."""

    what: str
    path: str = ""
    to: str = ""
    data: bytes | None = None

    @property
    def folder(self) -> str:
        """The folder whose entries this call changes."""
        return os.path.dirname(self.to or self.path)


@dataclass
class Recorder:
    """Records the calls that change what lies below `root`, which are made all the same."""

    root: str
    calls: list[Call] = field(default_factory=list)

    def note(self, what: str, path: Any, to: Any = "") -> None:
        """Append a call, unless it is about another place."""
        self.settle()
        inside = [os.path.relpath(os.fspath(p), self.root) if p else "" for p in (path, to)]
        if not inside[0].startswith(".."):
            self.calls.append(Call(what, *inside))

    def settle(self) -> None:
        """Take the bytes of the last created file, which by now are written."""
        if self.calls and self.calls[-1].what == "create" and self.calls[-1].data is None:
            with builtins.open(os.path.join(self.root, self.calls[-1].path), "rb") as file:
                self.calls[-1].data = file.read()

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        """Listen to all calls of `os` that the storage door makes."""
        for name, what in (("mkdir", "mkdir"), ("unlink", "unlink"), ("rmdir", "rmdir"),
                           ("link", "link"), ("replace", "rename")):  # fmt: skip
            patch.setattr(os, name, self._before(what, getattr(os, name)))
        real_open, real_fsync = os.open, os.fsync

        def low_open(path: Any, flags: int, *rest: Any, **how: Any) -> int:
            descriptor = real_open(path, flags, *rest, **how)
            if flags & os.O_CREAT:
                self.note("create", path)
            return descriptor

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self.note("fsync folder" if os.path.isdir(path) else "fsync", path)
            real_fsync(descriptor)

        def high_open(path: Any, mode: str = "r", *rest: Any, **how: Any) -> Any:
            file = builtins.open(path, mode, *rest, **how)  # noqa: SIM115 - the caller closes it
            if "w" in mode:
                self.note("create", path)
            return file

        def syncfs(descriptor: int) -> None:
            self.note("syncfs", self.root)

        patch.setattr(os, "open", low_open)
        patch.setattr(os, "fsync", fsync)
        patch.setattr(storage, "open", high_open, raising=False)
        patch.setattr(storage, "syncfs", syncfs)
        patch.setattr(local_disk.sync_folder, "__defaults__", (fsync,))

    def _before(self, what: str, real: Any) -> Any:
        def call(path: Any, *rest: Any, **how: Any) -> Any:
            self.settle()  # while the file still has its name
            done = real(path, *rest, **how)
            self.note(what, path, rest[0] if what in ("link", "rename") else "")
            return done

        return call


def states(base: Tree, calls: list[Call], single: bool) -> Iterator[tuple[int, str, Tree]]:
    """Every tree that a cut may leave: the number of calls before it, what was kept of them, the tree.

    `single` adds those in which one name alone is as before and all others as after. Equal trees come once
    for each number of calls.
    """
    for count in range(len(calls) + 1):
        done = calls[:count]
        pending = [n for n, call in enumerate(done) if _changes(call) and not _synced(done, n)]
        drops = {"all kept": set(), "none kept": set(pending)}
        if single:
            drops |= {f"{done[n].what} {done[n].path} not kept": {n} for n in pending}
        seen = []
        for kept, dropped in drops.items():
            for content, cut in _CONTENTS.items():
                tree = _tree(base, done, dropped, cut)
                if tree not in seen:
                    seen.append(tree)
                    yield count, f"{content}, {kept}", tree


def _changes(call: Call) -> bool:
    return "sync" not in call.what


def _synced(done: list[Call], number: int) -> bool:
    """Whether a change of names is on disk: its folder was synced later, or everything was."""
    return any(
        call.what == "syncfs" or (call.what == "fsync folder" and call.path == (done[number].folder or "."))
        for call in done[number + 1 :]
    )


def _tree(base: Tree, done: list[Call], dropped: set[int], cut: Any) -> Tree:
    folders = {folder for path in base for folder in _above(path)} | {"."}
    inodes: dict[str, dict[str, Any]] = {path: {"data": data, "synced": True} for path, data in base.items()}
    names: dict[str, dict[str, Any]] = dict(inodes)  # as the program sees them, whatever is kept
    for number, call in enumerate(done):
        keep = number not in dropped
        there = (call.folder or ".") in folders
        match call.what:
            case "syncfs":
                for inode in names.values():
                    inode["synced"] = True
            case "fsync":
                names[call.path]["synced"] = True
            case "mkdir":
                if keep and there:
                    folders.add(call.path)
            case "create":
                names[call.path] = inode = {"data": call.data or b"", "synced": False}
                if keep and there:
                    inodes[call.path] = inode
            case "link" | "rename":
                names[call.to] = inode = names[call.path]
                if call.what == "rename":
                    del names[call.path]
                if keep and there:
                    inodes[call.to] = inode
                    if call.what == "rename":
                        inodes.pop(call.path, None)
            case "unlink":
                names.pop(call.path, None)
                if keep:
                    inodes.pop(call.path, None)
            case "rmdir":
                if keep:
                    folders.discard(call.path)
    return {path: inode["data"] if inode["synced"] else cut(inode["data"]) for path, inode in inodes.items()}


def _above(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path
