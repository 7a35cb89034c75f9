"""Reading: the voxels of a box out of files in which they lie bare, and what a decoder makes of others."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.files.bits import keep_bits
from radiobject.backends.files.changed import SourceFiles, State, state_of
from radiobject.backends.files.source import Frames, Member, Whole
from radiobject.config import current
from radiobject.errors import CorruptObjectError, RadiObjectError, SourceChangedError, SourceError
from radiobject.failures import mapped
from radiobject.geometry.box import Box

__all__ = ["Decoded", "decode", "read_frames"]

Array = npt.NDArray[Any]

_GAP_LOCAL = 2**14
"""Bytes that are read with their neighbours rather than skipped: a call costs what copying them does."""
_GAP_REMOTE = 2**16

_LARGE = 2**24
"""Bytes of a box that are worth a look at the files before room for them is made."""

_MAPPED = 128
"""Files that a process keeps mapped, each with a descriptor, of which there may be 1,024."""


class Decoded(NamedTuple):
    """What a decoder gives: voxels in disk order, bytes that belong beside them, and, of NIfTI, the SHA-256
    (hex) of the uncompressed content."""

    voxels: Array
    extras: Mapping[str, bytes]
    digest: str | None = None


def read_frames(files: SourceFiles, source: Frames, box: Box) -> Array:
    """The voxels of `box`, in disk order and native byte order; of files, only what holds them is read.

    A small part of one long block is copied out of a memory map, everything else by reads of ranges.
    """
    order = [source.dims.index(axis) for axis in source.axes]
    start, stop = ([ends[n] for n in order] for ends in (box.start, box.stop))
    sizes, lead = [source.shape[n] for n in order], source.leading
    part = _Part(sizes[lead:], start[lead:], stop[lead:], source.file_dtype)
    steps = [prod(sizes[n + 1 : lead]) for n in range(lead)]
    first = sum(a * step for a, step in zip(start, steps, strict=False))
    places = [
        (*source.place(first + sum(i * step for i, step in zip(index, steps, strict=True))), index)
        for index in np.ndindex(*(b - a for a, b in zip(start[:lead], stop[:lead], strict=True)))
    ]
    due = list(source.beside)  # nothing is read of them now, but what they say is what the voxels mean
    if not files.is_local or box.size * source.dtype.itemsize > _LARGE:
        # no room is made for voxels that a document says are there, before a file is seen to hold them
        due += [source.members[n] for n in dict.fromkeys(member for member, *_ in places)]
    files.require(due)
    found = np.empty(box.shape, source.dtype)
    target = found.transpose(order)
    frames = [(member, offset, target[index]) for member, offset, index in places]
    if not files.is_local:
        _fill_remote(files, source, frames, part)
    elif source.n_frames == 1 and part.reach > 2 * part.nbytes:
        ((member, offset, into),) = frames
        with files.standing(source.members[member]) as state:
            into[...] = part.crop(_mapped(files.path(source.members[member]), state)[offset:])
        measuring.add("bytes_read", part.nbytes)
    else:
        for number, blocks in _by_member(frames):
            _fill_local(files, source.members[number], blocks, part)
    if source.bits is not None:
        keep_bits(found, source.bits)
    return found


@dataclass(frozen=True)
class _Part:
    """A box inside a block of `sizes` (C order): where its bytes lie, from the start of the block."""

    sizes: Sequence[int]
    start: Sequence[int]
    stop: Sequence[int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one index to the next, of each axis."""
        return tuple(prod(self.sizes[n + 1 :]) * self.dtype.itemsize for n in range(len(self.sizes)))

    @property
    def reach(self) -> int:
        """Bytes from the first voxel to the end of the last."""
        return self.length(0)

    def length(self, axis: int) -> int:
        """The same for a box of size 1 along the axes before `axis`."""
        inner = zip(self.shape[axis:], self.strides[axis:], strict=True)
        return sum((n - 1) * step for n, step in inner) + self.dtype.itemsize

    @property
    def offset(self) -> int:
        """Byte of the first voxel."""
        return sum(a * step for a, step in zip(self.start, self.strides, strict=True))

    def crop(self, block: Array) -> Array:
        """The box as a view of a block's bytes."""
        return np.ndarray(self.shape, self.dtype, block, self.offset, self.strides)

    def spans(self, gap: int) -> tuple[int, list[tuple[tuple[int, ...], int]]]:
        """Bytes of a span, and of each its index along the leading axes and its offset in the block.

        Spans less than `gap` bytes apart are one.
        """
        split = len(self.sizes)
        while split and self.strides[split - 1] - self.length(split) <= gap:
            split -= 1
        outer = self.strides[:split]
        return self.length(split), [
            (index, self.offset + sum(i * step for i, step in zip(index, outer, strict=True)))
            for index in np.ndindex(*self.shape[:split])
        ]

    def put(self, data: Any, into: Array) -> None:
        """Copy the voxels of a span to where they belong."""
        into[...] = np.ndarray(into.shape, self.dtype, data, 0, self.strides[len(self.sizes) - into.ndim :])


_Block = tuple[int, Array]


def _by_member(frames: Sequence[tuple[int, int, Array]]) -> Iterator[tuple[int, list[_Block]]]:
    """Frames that lie in one file together, so that it is opened once."""
    grouped: dict[int, list[_Block]] = {}
    for member, offset, into in frames:
        grouped.setdefault(member, []).append((offset, into))
    yield from grouped.items()


def _fill_local(files: SourceFiles, member: Member, blocks: Sequence[_Block], part: _Part) -> None:
    length, spans = part.spans(_GAP_LOCAL)
    solid = length == part.nbytes // max(len(spans), 1) and part.dtype.isnative
    room = None if solid else np.empty(length, np.uint8)
    with files.opened(member) as descriptor:
        for offset, into in blocks:
            for index, at in spans:
                view = into[index]
                # bytes that are voxels already go to where they belong at once
                direct = solid and view.flags.c_contiguous
                buffer = view.reshape(-1).view(np.uint8) if direct else room
                if buffer is None:
                    buffer = room = np.empty(length, np.uint8)
                if not _read_into(descriptor, buffer, offset + at):
                    raise files.changed(member, f"{member.bytes:,} bytes", "fewer, while it was read")
                if not direct:
                    part.put(buffer, view)
    measuring.add("bytes_read", length * len(spans) * len(blocks))


def _read_into(descriptor: int, buffer: Array, at: int) -> bool:
    """Fill a buffer from a file; whether there were so many bytes."""
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer.data[done:]], at + done)
        if count == 0:
            return False
        done += count
    return True


def _fill_remote(
    files: SourceFiles, source: Frames, frames: Sequence[tuple[int, int, Array]], part: _Part
) -> None:
    length, spans = part.spans(_GAP_REMOTE)

    def fetch(job: tuple[int, int, Array]) -> None:
        member, at, view = job
        part.put(files.read_range(source.members[member], at, at + length), view)

    jobs = [(m, offset + at, into[index]) for m, offset, into in frames for index, at in spans]
    if len(jobs) == 1:
        fetch(jobs[0])
        return
    with ThreadPoolExecutor(min(len(jobs), current().read.concurrency or 16)) as pool:
        for _ in pool.map(fetch, jobs):
            pass


@lru_cache(maxsize=_MAPPED)
def _mapped(path: str, state: State) -> Array:
    """The bytes of a file that was just held against what was registered, and is as it was then."""
    with mapped(path), open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if state_of(found) != state:
            raise SourceChangedError(path, expected="the file that was just looked at", got="another")
        return np.frombuffer(mmap.mmap(file.fileno(), found.st_size, access=mmap.ACCESS_READ), np.uint8)


def decode(files: SourceFiles, source: Whole, where: str) -> Decoded:
    """All voxels of a volume that cannot be read in part, and what stands beside them in its files.

    `CorruptObjectError` for a file that is the registered one and cannot be decoded.
    """
    members = {member.path: member for member in source.members}
    failed: list[RadiObjectError] = []

    def read(name: str) -> bytes:
        if name not in members:
            raise FileNotFoundError(name)  # a decoder asks for each name that the half of a pair may have
        try:
            return files.read(members[name])
        except RadiObjectError as error:
            failed.append(error)
            raise

    try:
        return _DECODERS[source.reader](source, read)
    except SourceError as error:
        wrong = error
    try:
        if failed:
            # a decoder makes its own error of a file that it cannot have; what is wrong with it says ours
            raise failed[0]
        raise CorruptObjectError(where, expected="files that can be decoded", got=str(wrong)) from wrong
    finally:
        failed.clear()
        del wrong  # else the errors' frames name the errors, and stay with what their callers hold


def _nifti(source: Whole, read: Callable[[str], bytes]) -> Decoded:
    from radiobject.ingest.registering import decode_nifti

    return Decoded(*decode_nifti(source.members[0].path, source.arguments, read))


def _dicom(source: Whole, read: Callable[[str], bytes]) -> Decoded:
    from radiobject.ingest.dicom.in_place import decode_dicom

    return Decoded(decode_dicom([m.path for m in source.members], source.arguments, read), {})


_DECODERS: dict[str, Callable[[Whole, Callable[[str], bytes]], Decoded]] = {
    "dicom": _dicom,
    "nifti": _nifti,
}
