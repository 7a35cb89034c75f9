"""Source files made for tests, and a backend that makes them when it is asked to store a volume."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import ArraySpec, Level, StoredVolume, VolumeWriter
from radiobject.backends.files import FilesBackend
from radiobject.backends.files.source import Frames, Member, Run
from radiobject.backends.memory import MemoryBackend
from radiobject.location import Location
from radiobject.storage import Storage

HEAD = bytes(range(100, 200))

Form = Callable[[Storage, str, ArraySpec, npt.NDArray[Any]], Frames]


def put_file(root: Storage, name: str, data: bytes, head: int = len(HEAD), **said: Any) -> Member:
    """A source file, and what is registered of it."""
    root.write(name, data)
    local = root.location.is_local
    mtime = Path(root.location.path, name).stat().st_mtime_ns if local else None
    said = {"mtime_ns": mtime, **said}
    return Member(name, len(data), head=head, head_sha256=hashlib.sha256(data[:head]).hexdigest(), **said)


def one_block(root: Storage, name: str, spec: ArraySpec, array: npt.NDArray[Any], order: str = "<") -> Frames:
    """As a NIfTI file has them: a header, then all voxels."""
    data = HEAD + array.astype(np.dtype(order + spec.dtype.str[1:])).tobytes() + b"tail"
    member = put_file(root, f"{name}.nii", data)
    return Frames((member,), spec.shape, spec.dims, spec.dtype, order, (Run(0, len(HEAD)),))


def big_endian(root: Storage, name: str, spec: ArraySpec, array: npt.NDArray[Any]) -> Frames:
    """The same in the other byte order."""
    return one_block(root, name, spec, array, ">")


def a_file_a_slice(root: Storage, name: str, spec: ArraySpec, array: npt.NDArray[Any]) -> Frames:
    """As a DICOM series has them: each plane in a file of its own."""
    planes = array.reshape(-1, *spec.shape[-2:])
    members = [put_file(root, f"{name}/{n}.dcm", HEAD + p.tobytes()) for n, p in enumerate(planes)]
    places = tuple(Run(n, len(HEAD)) for n in range(len(planes)))
    return Frames(tuple(members), spec.shape, spec.dims, spec.dtype, "<", places)


def frames_apart(root: Storage, name: str, spec: ArraySpec, array: npt.NDArray[Any]) -> Frames:
    """As an enhanced DICOM file has them, with something between the frames."""
    planes = array.reshape(-1, *spec.shape[-2:])
    member = put_file(root, f"{name}.dcm", HEAD + b"".join(p.tobytes() + b"between" for p in planes))
    stride = planes[0].nbytes + len(b"between")
    return Frames(
        (member,), spec.shape, spec.dims, spec.dtype, "<", (Run(0, len(HEAD), stride, len(planes)),)
    )


def axes_turned(root: Storage, name: str, spec: ArraySpec, array: npt.NDArray[Any]) -> Frames:
    """As a NIfTI file of five dimensions has them: the slowest axes of the file are not those of the disk."""
    n = len(spec.dims) - 3
    axes = (*reversed(spec.dims[:n]), *spec.dims[n:])
    turned = array.transpose([spec.dims.index(a) for a in axes])
    member = put_file(root, f"{name}.nii", HEAD + turned.tobytes())
    return Frames((member,), spec.shape, spec.dims, spec.dtype, "<", (Run(0, len(HEAD)),), axes)


FORMS: tuple[Form, ...] = (one_block, big_endian, a_file_a_slice, frames_apart, axes_turned)


class RegisteringBackend(FilesBackend):
    """Writes voxels into source files of some form, and registers these."""

    def __init__(self, location: Location, form: Form = one_block) -> None:
        super().__init__(location)
        self.form = form

    def create_volume(
        self,
        path: str,
        levels: Sequence[Level],
        attrs: Mapping[str, Any],
        extras: Mapping[str, bytes],
    ) -> VolumeWriter:
        return _Writer(self, path, levels, attrs, extras)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location, self.form)


_numbers = itertools.count()


class _Writer:
    """Gathers voxels as the backend in memory does, whose refusals are the seam's."""

    def __init__(self, backend: RegisteringBackend, path: str, levels: Any, attrs: Any, extras: Any) -> None:
        self._backend, self._said = backend, (path, levels, attrs, extras)
        if backend.storage.size(f"{path}/volume.json") is not None:
            backend.register_volume(path, levels, attrs, extras, None)  # type: ignore[arg-type]
        self._memory = MemoryBackend(Location(f"memory://gathering/{next(_numbers)}"))
        self._writer = self._memory.create_volume("v", levels, attrs, extras)
        self.write, self.abort = self._writer.write, self._writer.abort

    def finish(self) -> StoredVolume:
        self._writer.finish()
        handle = self._memory.open_volume("v")
        path, levels, attrs, extras = self._said
        root = Storage(self._backend.source_root)
        source = self._backend.form(
            root, f"{path}-{next(_numbers)}", handle.spec, handle.read(handle.spec.box)
        )
        assert math.prod(source.shape) == handle.read(handle.spec.box).size
        return self._backend.register_volume(path, levels, attrs, extras, source)
