"""Source: which files a volume's voxels lie in, and where in them; as JSON, and back from anybody's JSON."""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import mul
from typing import Any, NamedTuple

import numpy as np

from radiobject.backends.base import DISK_AXES, DTYPES
from radiobject.config import OrientationConfig
from radiobject.errors import ConfigError, FormatError
from radiobject.storage import check_key
from radiobject.strict import count, listed, mapped, one_of, text

__all__ = ["HEAD", "READERS", "Bits", "Frames", "Member", "Run", "Source", "Whole", "source_from_json"]

HEAD = 2**20
"""At most so many first bytes of a file are its head, in bytes."""

READERS = ("dicom", "nifti")
"""Names of decoders for files that cannot be read in part."""

_SHA256 = re.compile("[0-9a-f]{64}")
_FRAMES = 2**20
"""At most so many frames make a volume: each costs time to read, whatever little it holds."""
_ARGUMENTS = 2**16
"""Characters of a decoder's arguments, as JSON."""


@dataclass(frozen=True)
class Member:
    """One file as it was registered. `path` is relative to the source root, with forward slashes.

    `bytes` is its size. `mtime_ns` is when it last changed, in nanoseconds since 1970, None where a store has
    no such time; `etag` is what such a store says instead. `head_sha256` (hex) covers the first `head` bytes,
    those before the voxels; `sha256` covers all, None where nobody has read all.

    >>> Member("sub-01/T1w.nii", 700, 1, 352, "0" * 64).to_json()["path"]
    'sub-01/T1w.nii'
    """

    path: str
    bytes: int
    mtime_ns: int | None
    head: int
    head_sha256: str
    sha256: str | None = None
    etag: str | None = None

    def __post_init__(self) -> None:
        _refusing("member", self._check)

    def _check(self) -> None:
        check_key(text(self.path))
        if os.path.isabs(self.path) or os.path.splitdrive(self.path)[0]:
            raise ValueError(f"a relative path was expected, not {self.path!r:.60}")
        count(self.bytes)
        if count(self.head) > min(self.bytes, HEAD):
            raise ValueError(f"a head of at most {min(self.bytes, HEAD)} bytes was expected, not {self.head}")
        if self.mtime_ns is not None and type(self.mtime_ns) is not int:
            raise TypeError(f"nanoseconds were expected, not {self.mtime_ns!r:.60}")
        for digest in (self.head_sha256, *([] if self.sha256 is None else [self.sha256])):
            if not _SHA256.fullmatch(text(digest)):
                raise ValueError(f"a SHA-256 in hex was expected, not {digest!r:.60}")
        if self.etag is not None:
            text(self.etag)

    @property
    def whole_sha256(self) -> str | None:
        """The SHA-256 of all of the file, where it is known: a head may cover a small one."""
        return self.head_sha256 if self.head == self.bytes else self.sha256

    def to_json(self) -> dict[str, Any]:
        """As it stands in volume.json; what is None is left out."""
        said = {
            "path": self.path, "bytes": self.bytes, "mtime_ns": self.mtime_ns, "head": self.head,
            "head_sha256": self.head_sha256, "sha256": self.sha256, "etag": self.etag,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    @classmethod
    def from_json(cls, body: Any) -> Member:
        """The inverse. `FormatError`, `TypeError`, `ValueError` or `KeyError` for anything else."""
        said = mapped(body)
        return cls(
            said["path"], said["bytes"], said.get("mtime_ns"), said["head"], said["head_sha256"],
            said.get("sha256"), said.get("etag"),
        )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """`count` frames in one file, `stride` bytes from the start of one to the start of the next."""

    member: int
    offset: int
    stride: int = 0
    count: int = 1

    def to_json(self) -> list[int]:
        """As it stands in volume.json: without the last two where there is one frame."""
        both = [self.member, self.offset]
        return both if self.count == 1 else [*both, self.stride, self.count]


class Bits(NamedTuple):
    """Which bits of a stored DICOM pixel are its value (PS3.5, 8.1.1)."""

    bits_stored: int
    high_bit: int
    signed: bool


@dataclass(frozen=True)
class Frames:
    """Voxels that lie bare in files, in blocks: `places` says where each frame begins.

    `shape` and `dims` are those of the volume in disk order, `dtype` the type that reads return, in native
    order; `byteorder` ("<" or ">") is that of the files. `axes` is the order of the axes in the files,
    slowest first. A frame is one contiguous block of the trailing axes, and there is one for each index of
    the leading axes, in C order. `bits` says what is to be done to a DICOM pixel after it is read.

    >>> member = Member("a.nii", 352 + 48, 1, 352, "0" * 64)
    >>> frames = Frames((member,), (2, 3, 4), ("z", "y", "x"), np.dtype("i2"), "<", (Run(0, 352),))
    >>> frames.frame_bytes, frames.place(0)
    (48, (0, 352))
    """

    members: tuple[Member, ...]
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    byteorder: str
    places: tuple[Run, ...]
    axes: tuple[str, ...] = ()
    bits: Bits | None = None
    # of each run, the number of its first frame
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.axes:
            object.__setattr__(self, "axes", self.dims)
        _refusing("frames", self._check)
        firsts, total = [], 0
        for run in self.places:
            firsts.append(total)
            total += run.count
        object.__setattr__(self, "_firsts", tuple(firsts))

    def _check(self) -> None:
        one_of(self.byteorder, "<", ">")
        if self.dtype.str[1:] not in DTYPES or not self.dtype.isnative:
            raise ValueError(f"a dtype of {', '.join(DTYPES)} was expected, not {self.dtype}")
        if tuple(d for d in DISK_AXES if d in self.dims) != self.dims or self.dims[-3:] != ("z", "y", "x"):
            raise ValueError(
                f"a subset of t, c, z, y, x ending in z, y, x was expected, not {self.dims!r:.60}"
            )
        if len(self.shape) != len(self.dims) or sorted(self.axes) != sorted(self.dims):
            raise ValueError(
                f"a size for each of {self.dims} was expected, not {self.shape!r:.60}, {self.axes!r:.60}"
            )
        for size in self.shape:
            count(size, 1)
        if not self.places or not self.members:
            raise ValueError("frames in one file at least were expected, not none")
        for run in self.places:
            count(run.count, 1)
        # a frame is a block of the trailing axes, two at least, so that there are as many frames as the
        # leading ones have: rows and voxels by themselves would be millions of reads
        total = sum(run.count for run in self.places)
        leading = itertools.accumulate((self.sizes[axis] for axis in self.axes[:-2]), mul, initial=1)
        if total not in leading or total > _FRAMES:
            raise ValueError(
                f"a frame for each index of the leading axes of {self.shape} was expected, not {total}"
            )
        for run in self.places:
            self._check_run(run)
        if self.bits is not None:
            self._check_bits(self.bits)

    def _check_run(self, run: Run) -> None:
        if count(run.member) >= len(self.members):
            raise ValueError(f"a member from 0 to {len(self.members) - 1} was expected, not {run.member}")
        # a stride shorter than a frame would let a short file stand for a volume of any size
        least = self.frame_bytes if run.count > 1 else 0
        end = count(run.offset) + count(run.stride, least) * (run.count - 1) + self.frame_bytes
        if end > self.members[run.member].bytes:
            raise ValueError(
                f"frames inside the {self.members[run.member].bytes} bytes of "
                f"{self.members[run.member].path!r:.200} were expected, not up to byte {end}"
            )

    def _check_bits(self, bits: Bits) -> None:
        if type(bits.signed) is not bool:
            raise TypeError(f"true or false was expected, not {bits.signed!r:.60}")
        width = 8 * self.dtype.itemsize
        if self.dtype.kind not in "iu" or not count(bits.bits_stored, 1) <= count(bits.high_bit) + 1 <= width:
            raise ValueError(f"bits of a pixel of {width} bits were expected, not {bits}")

    @cached_property
    def file_dtype(self) -> np.dtype[Any]:
        """The type as the files have it."""
        return np.dtype(self.byteorder + self.dtype.str[1:])

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of each axis."""
        return dict(zip(self.dims, self.shape, strict=True))

    @cached_property
    def n_frames(self) -> int:
        """How many blocks there are."""
        return sum(run.count for run in self.places)

    @cached_property
    def beside(self) -> tuple[Member, ...]:
        """Members in which no voxel lies, such as the header of a pair."""
        used = {run.member for run in self.places}
        return tuple(member for number, member in enumerate(self.members) if number not in used)

    @cached_property
    def frame_bytes(self) -> int:
        """Size of a block in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize // self.n_frames

    @cached_property
    def leading(self) -> int:
        """How many of `axes` number the frames; the others lie inside one."""
        seen = 1
        for n, axis in enumerate(self.axes):
            if seen == self.n_frames:
                return n
            seen *= self.sizes[axis]
        return len(self.axes)

    def place(self, number: int) -> tuple[int, int]:
        """Number of the member, and byte in it, where a frame begins."""
        at = bisect.bisect_right(self._firsts, number) - 1
        run = self.places[at]
        return run.member, run.offset + run.stride * (number - self._firsts[at])

    def to_json(self) -> dict[str, Any]:
        """As it stands in volume.json."""
        return {
            "kind": "frames",
            "members": [member.to_json() for member in self.members],
            "shape": list(self.shape),
            "dims": list(self.dims),
            "dtype": self.dtype.str[1:],
            "byteorder": self.byteorder,
            "axes": list(self.axes),
            "places": [run.to_json() for run in self.places],
            "bits": None if self.bits is None else list(self.bits),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Frames:
        """The inverse. `FormatError`, `TypeError`, `ValueError` or `KeyError` for anything else."""
        bits = body["bits"]
        if bits is not None and len(listed(bits)) != len(Bits._fields):
            raise ValueError(f"three values were expected, not {bits!r:.60}")
        return cls(
            members=tuple(Member.from_json(m) for m in listed(body["members"])),
            shape=tuple(listed(body["shape"])),
            dims=tuple(text(d) for d in listed(body["dims"])),
            dtype=np.dtype(one_of(body["dtype"], *DTYPES)),
            byteorder=text(body["byteorder"]),
            places=tuple(_run(place) for place in listed(body["places"])),
            axes=tuple(text(d) for d in listed(body["axes"])),
            bits=None if bits is None else Bits(*bits),
        )


@dataclass(frozen=True)
class Whole:
    """Files that are decoded as a whole, by the decoder of that name and its arguments, plain JSON values."""

    members: tuple[Member, ...]
    reader: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _refusing("whole", self._check)

    def _check(self) -> None:
        one_of(self.reader, *READERS)
        if not self.members:
            raise ValueError("one file at least was expected, not none")
        if len(json.dumps(mapped(self.arguments), allow_nan=False)) > _ARGUMENTS:
            raise ValueError(f"arguments of at most {_ARGUMENTS} characters were expected, not more")
        if (codes := self.arguments.get("reorient")) is not None:
            try:
                OrientationConfig(canonical_target=text(codes))
            except ConfigError as error:
                raise ValueError(f"axis codes such as RAS were expected, not {codes!r:.60}") from error

    def to_json(self) -> dict[str, Any]:
        """As it stands in volume.json."""
        return {
            "kind": "whole",
            "members": [member.to_json() for member in self.members],
            "reader": self.reader,
            "arguments": dict(self.arguments),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Whole:
        """The inverse. `FormatError`, `TypeError`, `ValueError` or `KeyError` for anything else."""
        members = tuple(Member.from_json(m) for m in listed(body["members"]))
        return cls(members, text(body["reader"]), mapped(body["arguments"]))


Source = Frames | Whole


def source_from_json(body: Any, where: str) -> Source:
    """The source that a document describes. `FormatError` for anything else, naming `where` it stands."""
    try:
        kind = one_of(mapped(body)["kind"], "frames", "whole")
        return Frames.from_json(body) if kind == "frames" else Whole.from_json(body)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(
            where, expected="which files a volume lies in", got=f"{type(error).__name__}: {error}"[:300]
        ) from error


def _run(place: Any) -> Run:
    if len(listed(place)) not in (2, 4):
        raise ValueError(f"[member, offset(, stride, count)] was expected, not {place!r:.60}")
    return Run(*place)


def _refusing(what: str, check: Any) -> None:
    """Run a check; what is wrong becomes `FormatError`, whoever made the value."""
    try:
        check()
    except FormatError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(f"source, {what}: {error}") from error
