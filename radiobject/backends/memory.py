"""Volumes in this process's memory: the reference that the conformance tests trust."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import ArraySpec, Capabilities, Level, StoredVolume, VolumeHandle, VolumeWriter
from radiobject.errors import CapabilityError, FormatError, MissingObjectError, StudyExistsError
from radiobject.geometry.box import Box
from radiobject.location import Location

__all__ = ["MemoryBackend"]


@dataclass(frozen=True)
class _Stored:
    levels: tuple[Level, ...]
    arrays: tuple[npt.NDArray[Any], ...]
    attrs: str
    extras: dict[str, bytes]


_volumes: dict[str, _Stored] = {}
"""By URL: a volume of a study is opened by its own place, too."""


class MemoryBackend:
    """Keeps every volume as NumPy arrays under its URL, for as long as the process lives.

    Handles pickle, but another process holds other volumes: there they raise MissingObjectError.
    """

    name = "memory"
    suffix = ".mem"
    capabilities = Capabilities(persistent=False, sharding=False)

    def __init__(self, location: Location) -> None:
        self.location = location

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter:
        """A writer of a new volume; StudyExistsError when the path holds one."""
        if f"{self.location.uri}/{path}" in _volumes:
            raise StudyExistsError(
                f"{self.location.uri}/{path}",
                expected="a free path",
                got="a volume",
                hint="Paths are used once.",
            )
        return _Writer(self.location.uri, path, levels, attrs, extras)

    def open_volume(self, path: str, hint: str | None = None) -> VolumeHandle:
        """A handle; without a hint MissingObjectError is raised now, with one at the first use."""
        handle = MemoryHandle(self.location.uri, path)
        if hint is None:
            handle.stored()
        return handle

    def delete_volume(self, path: str) -> None:
        """Forget the volume."""
        _volumes.pop(f"{self.location.uri}/{path}", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location,)

    def __repr__(self) -> str:
        return f"MemoryBackend({self.location.uri!r})"


class MemoryHandle:
    """Reads one volume by copying from it. See `VolumeHandle` for the promises."""

    def __init__(self, uri: str, path: str) -> None:
        self._uri = uri
        self._path = path

    @property
    def uri(self) -> str:
        """Place of the volume; of this process alone."""
        return f"{self._uri}/{self._path}"

    def stored(self) -> _Stored:
        """The volume itself, or MissingObjectError."""
        try:
            return _volumes[f"{self._uri}/{self._path}"]
        except KeyError:
            raise MissingObjectError(
                f"{self._uri}/{self._path}",
                expected="a volume in the memory of this process",
                got="none",
                hint="Memory volumes are not shared between processes.",
            ) from None

    @property
    def levels(self) -> tuple[Level, ...]:
        """Resolutions, finest first."""
        return self.stored().levels

    @property
    def spec(self) -> ArraySpec:
        """The array of level 0."""
        return self.stored().levels[0].spec

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes handed to `create_volume`."""
        attributes: dict[str, Any] = json.loads(self.stored().attrs)
        return attributes

    def read(self, box: Box, level: int = 0) -> npt.NDArray[Any]:
        """A copy of the voxels of `box`, in disk order."""
        stored = self.stored()
        if not 0 <= level < len(stored.levels):
            raise CapabilityError(
                f"level of {self._uri}/{self._path}",
                expected=f"0 to {len(stored.levels) - 1}",
                got=str(level),
            )
        stored.levels[level].spec.check(box)
        block = stored.arrays[level][box.slices].copy(order="C")
        if measuring.active():
            measuring.add("bytes_used", block.nbytes)
        return block

    def extra(self, name: str) -> bytes:
        """The bytes stored under that name; MissingObjectError when the volume has none."""
        extras = self.stored().extras
        if name not in extras:
            raise MissingObjectError(
                f"extra {name!r} of {self._uri}/{self._path}",
                expected=f"one of {sorted(extras)}",
                got="no such",
            )
        return extras[name]

    def native(self) -> npt.NDArray[Any]:
        """Level 0 as a read-only NumPy view."""
        view = self.stored().arrays[0].view()
        view.flags.writeable = False
        return view

    def __repr__(self) -> str:
        return f"MemoryHandle({self._uri!r}, {self._path!r})"


class _Writer:
    def __init__(
        self,
        uri: str,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> None:
        self._where = f"{uri}/{path}"
        self._levels = tuple(levels)
        try:
            self._attrs = json.dumps(dict(attrs), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{uri}/{path}", expected="plain JSON values", got=str(error)) from error
        self._extras = {name: bytes(data) for name, data in extras.items()}
        self._arrays = tuple(np.zeros(level.spec.shape, level.spec.dtype) for level in self._levels)
        self._missing = [dict.fromkeys(level.spec.shard_boxes()) for level in self._levels]
        self._open = True

    def write(self, level: int, box: Box, block: npt.NDArray[Any]) -> None:
        self._expect_open()
        if not 0 <= level < len(self._levels) or box not in self._missing[level]:
            raise CapabilityError(
                f"box of {self._where}",
                expected="one of shard_boxes() of a level, once",
                got=f"{level}, {box}",
            )
        dtype = self._levels[level].spec.dtype
        if block.shape != box.shape or block.dtype != dtype:
            raise CapabilityError(
                f"block of {self._where}",
                expected=f"{dtype} {box.shape}",
                got=f"{block.dtype} {block.shape}",
            )
        self._arrays[level][box.slices] = block
        del self._missing[level][box]

    def finish(self) -> StoredVolume:
        self._expect_open()
        if any(self._missing):
            raise CapabilityError(f"finish of {self._where}", expected="all shards", got="some not written")
        self._open = False
        _volumes[self._where] = _Stored(self._levels, self._arrays, self._attrs, self._extras)
        return StoredVolume("memory", ())

    def abort(self) -> None:
        self._open = False

    def _expect_open(self) -> None:
        if not self._open:
            raise CapabilityError(f"writer of {self._where}", expected="an open writer", got="a closed one")
