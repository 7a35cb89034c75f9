"""Changed: whether a source file is still the one that was registered, before and after it is read."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from radiobject import measuring
from radiobject.backends.files.source import Member
from radiobject.config import current
from radiobject.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    RadiObjectError,
    SourceChangedError,
)
from radiobject.failures import mapped
from radiobject.local_disk import is_below, open_regular
from radiobject.location import Location
from radiobject.storage import ObjectInfo, Storage

__all__ = ["ASKED", "SourceFiles", "State"]

State = tuple[int, int, int, int, int]
"""Of a local file, as it is now: device, inode, size in bytes, time of the last change of its content in
nanoseconds, and of anything about it, which nobody can set back."""

_AGAIN = 'Register it anew: append(..., on_conflict="update", copy=False).'

ASKED = 5.0
"""Seconds for which what a store said of a file is taken to be so: parts of it are read without asking."""


class _Answer(NamedTuple):
    """What a store said of a file: when it was asked, on this process's clock, and size, time and ETag."""

    when: float
    stamp: tuple[int, float, str | None]


_sound: dict[tuple[tuple[str, bytes], Member], State | _Answer] = {}
"""Files of a root that were found to be as they were registered, and how they were then."""
_MOST = 2**18


class SourceFiles:
    """Source files below a root, each held against its `Member` before this process first reads it.

    The size must be the recorded one, and the time of the last change, which may have lost its fraction of a
    second, as archives and web servers cut it; where only the time differs and the SHA-256 of the whole file
    is known, it decides. Then the SHA-256 of its head. Of local files this is asked again whenever anything
    about the file is another, and after each read. A store is asked again after `ASKED` seconds, and after
    a file or a volume was read whole.

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
            if _sound.get((self.root.identity, member)) != state:
                self._hold(member, state, descriptor)
            yield descriptor
            self._unchanged(member, state, state_of(os.fstat(descriptor)))
        finally:
            os.close(descriptor)

    @contextmanager
    def standing(self, member: Member) -> Iterator[State]:
        """As `opened`, for a reader that has the file open or mapped already: it is asked by its path."""
        state = self._asked(member)
        if _sound.get((self.root.identity, member)) != state:
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

    @contextmanager
    def unchanged(self, members: Sequence[Member], *, fresh: bool = True) -> Iterator[None]:
        """A block that reads files of a store: it is asked for them before (see `require`) and afterwards.

        Of local files nothing is asked here, since each read of one does.
        """
        if self.is_local:
            yield
            return
        before = self._answers(members, fresh=fresh)
        yield
        for member, was, now in zip(members, before, self._answers(members, fresh=True), strict=True):
            if now.stamp != was.stamp:
                raise self.changed(member, "a file that stays", "one that changed while it was read")

    def read(self, member: Member) -> bytes:
        """The whole file."""
        if self.is_local:
            with self.opened(member) as descriptor, open(descriptor, "rb", closefd=False) as file:
                data = file.read()
        else:
            with self.unchanged([member], fresh=False):
                data = self._from_store(member, lambda: self.storage.read(member.path))
        if len(data) != member.bytes:
            raise self.changed(member, f"{member.bytes:,} bytes", f"{len(data):,}")
        return data

    def read_range(self, member: Member, start: int, stop: int) -> bytes:
        """Bytes `start:stop` of the file."""
        if not self.is_local:
            self.require([member])
            data = self._from_store(member, lambda: self.storage.read_range(member.path, start, stop))
            self.require([member])  # no request, unless this one took long
            return data
        with self.opened(member) as descriptor:
            data = os.pread(descriptor, stop - start, start)
        if len(data) != stop - start:
            raise self.changed(member, f"{member.bytes:,} bytes", "fewer")
        return data

    def require(self, members: Sequence[Member], *, fresh: bool = False) -> None:
        """Hold files against what was registered.

        Local ones are looked at now. A store is asked where `fresh`, or where its last answer is older than
        `ASKED` seconds.
        """
        if not self.is_local:
            self._answers(members, fresh=fresh)
            return
        for member in members:
            with self.standing(member):
                pass

    def _answers(self, members: Sequence[Member], *, fresh: bool) -> list[_Answer]:
        """What a store says of files that it was or is now found to have as they were registered."""
        now = time.monotonic()
        found = {} if fresh else {member: _sound.get((self.root.identity, member)) for member in members}
        good = {m: a for m, a in found.items() if isinstance(a, _Answer) and now - a.when < ASKED}
        due = [member for member in dict.fromkeys(members) if member not in good]
        if len(due) > 1:
            with ThreadPoolExecutor(min(len(due), current().read.concurrency or 16)) as pool:
                good.update(zip(due, pool.map(self._ask, due), strict=True))
        elif due:
            good[due[0]] = self._ask(due[0])
        return [good[member] for member in members]

    def _ask(self, member: Member) -> _Answer:
        # what fails here is asked again
        known, when = _sound.pop((self.root.identity, member), None), time.monotonic()
        try:
            info = self.storage.info(member.path)
            answer = _Answer(when, (info.bytes, info.mtime, info.etag))
            # where a store tells versions apart, the same one was looked at before
            told = info.mtime != 0 or info.etag is not None
            if not (told and isinstance(known, _Answer) and known.stamp == answer.stamp):
                self._hold_answer(member, info)
        except MissingObjectError as error:
            raise self._missing(member) from error
        except CorruptObjectError as error:
            raise self.changed(member, f"{member.bytes:,} bytes", "fewer") from error
        self._note(member, answer)
        return answer

    def _hold_answer(self, member: Member, info: ObjectInfo) -> None:
        """Hold a file of a store against what was registered."""
        if info.bytes != member.bytes:
            raise self.changed(member, f"{member.bytes:,} bytes", f"{info.bytes:,}")
        if member.etag is not None and info.etag is not None:
            if info.etag == member.etag:
                return
            self._decide(member, f"ETag {member.etag}", info.etag)
        elif not _is_time(found := nanoseconds(info.mtime), member.mtime_ns):
            self._decide(member, _time(member.mtime_ns or 0), _time(found or 0))
        head = self.storage.read_range(member.path, 0, member.head)
        if hashlib.sha256(head).hexdigest() != member.head_sha256:
            raise self.changed(member, "the header that was registered", "another")

    def _decide(self, member: Member, recorded: str, found: str) -> None:
        """Whether a file that is not local and looks changed is the same after all."""
        if member.whole_sha256 is not None:
            data = self.storage.read(member.path)
            if hashlib.sha256(data).hexdigest() == member.whole_sha256:
                return
        raise self.changed(member, recorded, found)

    def _from_store(self, member: Member, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (MissingObjectError, CorruptObjectError):
            self.require([member], fresh=True)  # the error that says what became of the file
            raise

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
        if not _is_time(changed, member.mtime_ns) and not _is(descriptor, member.whole_sha256):
            raise self.changed(member, _time(member.mtime_ns or 0), _time(changed))
        if hashlib.sha256(os.pread(descriptor, member.head, 0)).hexdigest() != member.head_sha256:
            raise self.changed(member, "the header that was registered", "another")
        self._note(member, state)

    def _note(self, member: Member, state: State | _Answer) -> None:
        if len(_sound) >= _MOST:
            _sound.clear()  # they are asked again
        _sound[self.root.identity, member] = state

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


def _is_time(found: int | None, recorded: int | None) -> bool:
    """Whether a time is the recorded one, or that cut to seconds; what is not known is no other."""
    return recorded is None or found in (None, recorded, recorded // 10**9 * 10**9)


def _is(descriptor: int, sha256: str | None) -> bool:
    if sha256 is None:
        return False
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)  # the descriptor's own place, where whoever reads the whole file begins
    return found == sha256


def _time(ns: int) -> str:
    """A time of change for an error, whatever number somebody has written."""
    try:
        return f"last changed {datetime.fromtimestamp(ns / 1e9, UTC).isoformat()}"
    except (OverflowError, OSError, ValueError):
        return f"last changed {ns} ns after 1970"
