"""Changed: whether a source file is still the one that was registered, before and after it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from radiobject import measuring
from radiobject.backends.files.source import Member
from radiobject.errors import FormatError, MissingObjectError, RadiObjectError, SourceChangedError
from radiobject.failures import mapped
from radiobject.local_disk import is_below, open_regular
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["SourceFiles", "State"]

State = tuple[int, int, int, int, int]
"""Of a local file, as it is now: device, inode, size in bytes, time of the last change of its content in
nanoseconds, and of anything about it, which nobody can set back."""

_AGAIN = 'Register it anew: append(..., on_conflict="update", copy=False).'

_sound: dict[tuple[str, Member], State | None] = {}
"""Files that were held against what was registered, once a process; of a local one, how it was then."""
_MOST = 2**18


class SourceFiles:
    """Source files below a root, each held against its `Member` before this process first reads it.

    The size must be the recorded one, and the time of the last change; where only the time differs and the
    file was read whole when it was registered, its SHA-256 decides. Then the SHA-256 of its head. Of local
    files this is asked again whenever anything about the file is another, and after each read.

    Raises `MissingObjectError` for a file that is gone, `SourceChangedError` for another, `FormatError` for a
    link that leads out of the root.
    """

    def __init__(self, root: Location) -> None:
        self.root, self.storage = root, Storage(root)
        self._real = "\0"  # the root, links followed; looked up when first needed

    @property
    def is_local(self) -> bool:
        """Whether files can be opened here."""
        return self.root.is_local

    @contextmanager
    def opened(self, member: Member) -> Iterator[int]:
        """A descriptor of a local file that is the registered one, and still was when the block ended."""
        path = self.path(member)
        measuring.add("requests")
        try:
            with mapped(path):
                descriptor = open_regular(path)
        except MissingObjectError as error:
            raise self._missing(member) from error
        try:
            self._require_inside(descriptor, path)
            state = state_of(os.fstat(descriptor))
            if _sound.get((self.root.uri, member)) != state:
                self._hold(member, state, descriptor)
            yield descriptor
            self._unchanged(member, state, state_of(os.fstat(descriptor)))
        finally:
            os.close(descriptor)

    @contextmanager
    def standing(self, member: Member) -> Iterator[State]:
        """As `opened`, for a reader that has the file open or mapped already: it is asked by its path."""
        state = self._asked(member)
        if _sound.get((self.root.uri, member)) != state:
            with self.opened(member) as descriptor:
                state = state_of(os.fstat(descriptor))
        yield state
        self._unchanged(member, state, self._asked(member))

    def _asked(self, member: Member) -> State:
        try:
            with mapped(path := self.path(member)):
                return state_of(os.stat(path))
        except MissingObjectError as error:
            raise self._missing(member) from error

    def read(self, member: Member) -> bytes:
        """The whole file."""
        if self.is_local:
            with self.opened(member) as descriptor, open(descriptor, "rb", closefd=False) as file:
                data = file.read()
        else:
            self.require(member)
            data = self.storage.read(member.path)
        if len(data) != member.bytes:
            raise self.changed(member, f"{member.bytes:,} bytes", f"{len(data):,}")
        return data

    def read_range(self, member: Member, start: int, stop: int) -> bytes:
        """Bytes `start:stop` of the file."""
        if not self.is_local:
            self.require(member)
            return self.storage.read_range(member.path, start, stop)
        with self.opened(member) as descriptor:
            data = os.pread(descriptor, stop - start, start)
        if len(data) != stop - start:
            raise self.changed(member, f"{member.bytes:,} bytes", "fewer")
        return data

    def require(self, member: Member) -> None:
        """Hold a file that is not local against what was registered, once a process."""
        if (self.root.uri, member) in _sound:
            return
        try:
            info = self.storage.info(member.path)
        except MissingObjectError as error:
            raise self._missing(member) from error
        if info.bytes != member.bytes:
            raise self.changed(member, f"{member.bytes:,} bytes", f"{info.bytes:,}")
        same_tag = member.etag is not None and info.etag == member.etag
        found = nanoseconds(info.mtime)
        if not same_tag:
            if member.etag is not None and info.etag is not None:
                self._decide(member, f"ETag {member.etag}", str(info.etag))
            elif member.mtime_ns is not None and found not in (None, member.mtime_ns):
                self._decide(member, _time(member.mtime_ns), _time(found or 0))
            head = self.storage.read_range(member.path, 0, member.head)
            if hashlib.sha256(head).hexdigest() != member.head_sha256:
                raise self.changed(member, "the header that was registered", "another")
        self._note(member, None)

    def _decide(self, member: Member, recorded: str, found: str) -> None:
        """Whether a file that is not local and looks changed is the same after all."""
        if member.sha256 is not None:
            data = self.storage.read(member.path)
            if hashlib.sha256(data).hexdigest() == member.sha256:
                return
        raise self.changed(member, recorded, found)

    def path(self, member: Member) -> str:
        """Where a local file is."""
        return os.path.join(self.root.path, member.path)

    def changed(self, member: Member, recorded: str, found: str) -> SourceChangedError:
        """The error for a file that is not the registered one."""
        return SourceChangedError(f"{self.root.uri}/{member.path}", expected=recorded, got=found, hint=_AGAIN)

    def _missing(self, member: Member) -> RadiObjectError:
        return MissingObjectError(
            f"{self.root.uri}/{member.path}",
            expected="a source file that the study reads where it lies",
            got="nothing there",
            hint=f"Say with source_root= where the sources are, if not below {self.root.uri}.",
        )

    def _require_inside(self, descriptor: int, path: str) -> None:
        # links inside the root are followed: git-annex makes one of each file
        if not is_below(descriptor, path, self._real):
            self._real = os.path.realpath(self.root.path)
            if not is_below(descriptor, path, self._real):
                raise FormatError(path, expected=f"a file below {self.root.uri}", got="a link out of it")

    def _hold(self, member: Member, state: State, descriptor: int) -> None:
        """Hold an open file against what was registered."""
        size, changed = state[2:4]
        if size != member.bytes:
            raise self.changed(member, f"{member.bytes:,} bytes", f"{size:,}")
        if member.mtime_ns not in (None, changed) and not _is(descriptor, member.sha256):
            raise self.changed(member, _time(member.mtime_ns or 0), _time(changed))
        if hashlib.sha256(os.pread(descriptor, member.head, 0)).hexdigest() != member.head_sha256:
            raise self.changed(member, "the header that was registered", "another")
        self._note(member, state)

    def _note(self, member: Member, state: State | None) -> None:
        if len(_sound) >= _MOST:
            _sound.clear()  # they are asked again
        _sound[self.root.uri, member] = state

    def _unchanged(self, member: Member, before: State, now: State) -> None:
        if now[:4] != before[:4]:
            raise self.changed(member, f"a file of {_time(before[3])}", "one that changed while it was read")

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceFiles, (self.root,)

    def __repr__(self) -> str:
        return f"SourceFiles({self.root.uri!r})"


def state_of(stat: os.stat_result) -> State:
    """What tells whether a file is another than before."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def nanoseconds(seconds: float) -> int | None:
    """A store's time of change as a `Member` has it: to the microsecond; None where there is none."""
    return round(seconds * 1e6) * 1000 or None


def _is(descriptor: int, sha256: str | None) -> bool:
    if sha256 is None:
        return False
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _time(ns: int) -> str:
    """A time of change for an error, whatever number somebody has written."""
    try:
        return f"last changed {datetime.fromtimestamp(ns / 1e9, UTC).isoformat()}"
    except (OverflowError, OSError, ValueError):
        return f"last changed {ns} ns after 1970"
