"""Registering: NIfTI files as volumes that stay where they lie; their headers are read, their voxels not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.files.changed import nanoseconds
from radiobject.backends.files.source import HEAD, Frames, Member, Run, Whole
from radiobject.config import OrientationConfig
from radiobject.errors import SourceError, SourceNotFoundError, SourceUnsupportedError
from radiobject.format.layout import to_disk, to_python
from radiobject.format.meta import Kind, Label, VolumeMeta
from radiobject.ingest.files import PEEK_BYTES, missing_half, pair_names
from radiobject.ingest.gzipped import gunzip_start, is_gzip
from radiobject.ingest.nifti import NiftiGeometry, header_labels, peek_nifti, read_nifti
from radiobject.ingest.source_root import SourceRoot
from radiobject.ingest.sources import Readable, is_url, path_of
from radiobject.storage import Storage
from radiobject.writing.in_place import InPlace
from radiobject.writing.loaded import Axis4, Loaded, refuse_float_labels, reoriented

__all__ = ["channel_in_place", "decode_nifti", "in_place", "nifti_in_place"]

_AXIS4 = ("auto", "time", "channel")


def in_place(
    item: Any,
    name: str,
    kind: Kind,
    root: SourceRoot,
    *,
    axis4: Axis4 = "auto",
    labels: Mapping[int, str] | None = None,
    orientation: OrientationConfig | None = None,
) -> InPlace:
    """What `load` reads, left where it lies: a path, a URL, a `Readable`, an image that nibabel has open.

    Raises from the `SourceError` branch, and `ConfigError` for a file that is not below the root.
    """
    path = path_of(item)
    if path is None and not isinstance(item, Readable):
        raise SourceUnsupportedError(
            name, expected="a file, for copy=False", got=type(item).__name__, hint="Pass copy=True."
        )
    if isinstance(item, Readable):
        found = item.in_place(root.relative)
    else:
        found = nifti_in_place(str(path), root.relative, axis4, Storage(root.location))
    meta = replace(found.meta, kind=kind, labels=found.meta.labels if kind == "label" else ())
    refuse_float_labels(meta, found.dtype, name)
    if kind == "label" and labels:
        meta = replace(meta, labels=tuple(Label(v, t) for v, t in sorted(labels.items())))
    found = replace(found, meta=meta)
    found.require_exact(name)
    if orientation is not None and orientation.reorient_on_load:
        found = _turned(found, orientation, name)
    return found


def nifti_in_place(
    path: str, relative: Callable[[str], str], axis4: Axis4, store: Storage | None = None
) -> InPlace:
    """A NIfTI file, or a pair by either of its names; its labels are those of its own header.

    `relative` gives its path below the root of all sources, and `store` is that root, for a URL.
    """
    names = pair_names(path)
    first = _found(path, names[0] if names else (path,), relative, store)
    geometry = peek_nifti(first.name, axis4=axis4, reader=lambda name: first.start)
    image = first if names is None else _found(path, names[1], relative, store)
    packed = is_gzip(image.start)
    header = first.content(geometry.vox_offset if names is None else None)
    extras = {"nifti": header}
    meta = geometry.described("label", header_labels(header, geometry))
    decoding = {"axis4": axis4}
    source: Frames | Whole
    if packed:
        others = () if names is None else (first.member(first.size),)
        source = Whole((image.member(PEEK_BYTES), *others), "nifti", decoding)
        names_beside = ("nifti", *(["nifti_lead"] if names and geometry.vox_offset else []), "nifti_tail")
        meta = _with(meta, names_beside)
        return InPlace(source, geometry.shape, geometry.dtype, meta, extras, decoding=decoding)
    geometry.require_length(image.name, image.size)
    if names is not None and geometry.vox_offset:
        extras["nifti_lead"] = image.content(geometry.vox_offset)
    members = (image.member(geometry.vox_offset), *([] if names is None else [first.member(first.size)]))
    source = _bare(members, geometry)
    end = geometry.vox_offset + geometry.nbytes
    ranges = {"nifti_tail": (0, end, image.size - end)} if image.size > end else {}
    meta = _with(meta, (*extras, *ranges))
    return InPlace(source, geometry.shape, geometry.dtype, meta, extras, ranges, decoding=decoding)


def channel_in_place(found: InPlace, channel: int, meta: VolumeMeta) -> InPlace:
    """One channel of a volume whose slowest axis they are, which `meta` is to be said of."""
    shape, source, decoding = found.shape[1:], found.source, {**(found.decoding or {}), "channel": channel}
    if isinstance(source, Whole) or len(source.members) > 1:
        # the digest of a pair covers its header, which may be compressed, and which a channel does not keep
        source = Whole(source.members, "nifti", decoding)
    else:
        size = source.frame_bytes // found.shape[0]
        places = (Run(0, source.place(0)[1] + channel * size),)
        source = replace(source, shape=shape, dims=meta.dims, axes=source.axes[1:], places=places)
    return InPlace(source, shape, found.dtype, meta, {}, decoding=decoding)


def _bare(members: tuple[Member, ...], geometry: NiftiGeometry) -> Frames:
    return Frames(
        members=members,
        shape=geometry.shape,
        dims=geometry.dims,
        dtype=geometry.dtype,
        byteorder="<" if geometry.source.byteorder == "<" else ">",
        places=(Run(0, geometry.vox_offset),),
        axes=geometry.stored_axes,
    )


def _with(meta: VolumeMeta, extras: tuple[str, ...]) -> VolumeMeta:
    return replace(meta, source=replace(meta.source, extras=extras))


def _turned(found: InPlace, orientation: OrientationConfig, name: str) -> InPlace:
    """The volume as `reoriented` makes it of the voxels, whenever they are decoded."""
    empty = np.broadcast_to(np.zeros((), found.dtype), found.shape)  # takes no memory
    view = to_python(empty, found.meta.dims)
    turn = found.meta.affine.reorientation(orientation.canonical_target, view.shape[:3])
    if turn.perm == (0, 1, 2) and not any(turn.flips):
        return found
    if found.decoding is None:
        raise SourceUnsupportedError(
            name, expected="voxels that are read as they lie, for copy=False", got="reorient=",
            hint="Pass copy=True, or turn volumes when they are read: vol.reorient(codes).",
        )  # fmt: skip
    target = "".join(orientation.canonical_target)
    meta = replace(
        found.meta,
        affine=turn.affine,
        original_affine=found.meta.affine if orientation.store_original_affine else None,
        source=replace(found.meta.source, exact=False),
    )
    source = Whole(found.source.members, "nifti", {**found.decoding, "reorient": target})
    shape = to_disk(turn.apply(view), meta.dims).shape
    return replace(found, source=source, shape=shape, meta=meta)


def decode_nifti(
    path: str, arguments: Mapping[str, Any], read: Callable[[str], bytes]
) -> tuple[npt.NDArray[Any], dict[str, bytes], str]:
    """Voxels in disk order, what lies beside them, and the digest, of a file that was registered; `read`
    gives its bytes.

    Raises from the `SourceError` branch, also for arguments that nobody would have written.
    """
    axis4, codes, channel = (arguments.get(name) for name in ("axis4", "reorient", "channel"))
    if axis4 not in _AXIS4 or not isinstance(codes, str | None) or not isinstance(channel, int | None):
        raise SourceError(path, expected="arguments of a NIfTI file", got=repr(dict(arguments))[:200])
    image = read_nifti(path, axis4=axis4, reader=read)
    extras = {"nifti_lead": image.lead, "nifti_tail": image.tail}
    loaded = Loaded(image.voxels, image.meta(), {}, image.digest)
    if channel is not None:
        if image.dims[0] != "c" or not 0 <= channel < image.shape[0]:
            raise SourceError(path, expected=f"channel {channel}", got=f"axes {image.dims} of {image.shape}")
        meta = replace(loaded.meta, dims=image.dims[1:])
        loaded = replace(loaded, voxels=np.ascontiguousarray(image.voxels[channel]), meta=meta)
    if codes is not None:
        turn = OrientationConfig(reorient_on_load=True, canonical_target=codes)
        loaded = reoriented(loaded, turn)
    return loaded.voxels, extras, image.digest


@dataclass(frozen=True)
class _Seen:
    """A source file as it is now: its first bytes, and a way to more of them. `relative` is its path below
    the root."""

    name: str
    relative: str
    size: int
    mtime_ns: int | None
    etag: str | None
    start: bytes
    read: Callable[[int], bytes]

    def member(self, head: int) -> Member:
        """What is registered of it, with the digest of its first `head` bytes."""
        head = min(head, self.size, HEAD)
        data = self.start[:head] if head <= len(self.start) else self.read(head)
        digest = hashlib.sha256(data).hexdigest()
        return Member(self.relative, self.size, self.mtime_ns, head, digest, etag=self.etag)

    def content(self, most: int | None) -> bytes:
        """The first `most` bytes of the uncompressed content, None for all of a header's."""
        packed = is_gzip(self.start)
        if most is None and not packed:
            return self.read(self.size)
        wanted = 2**62 if most is None else most
        if not packed:
            return self.start[:wanted] if wanted <= len(self.start) else self.read(wanted)
        data = gunzip_start(self.name, self.start, wanted)
        if len(data) < wanted and self.size > len(self.start):
            # compressed bytes are at most a little more than what they stand for
            data = gunzip_start(self.name, self.read(min(self.size, 2 * wanted + PEEK_BYTES)), wanted)
        return data


def _found(
    name: str, candidates: tuple[str, ...], relative: Callable[[str], str], store: Storage | None
) -> _Seen:
    """The first candidate that exists."""
    for candidate in candidates:
        try:
            return _seen(candidate, relative(candidate), store)
        except FileNotFoundError:
            continue
    if name not in candidates:
        raise missing_half(name, candidates)
    raise SourceNotFoundError(name, expected="a NIfTI file", got="nothing at this path")


def _seen(name: str, relative: str, store: Storage | None) -> _Seen:
    if store is not None and is_url(name):
        info = store.info(relative)

        def fetch(size: int) -> bytes:
            return store.read_range(relative, 0, min(size, info.bytes))

        mtime = nanoseconds(info.mtime)
        return _Seen(name, relative, info.bytes, mtime, info.etag, fetch(PEEK_BYTES), fetch)
    path = os.path.expanduser(name.removeprefix("file://"))

    def read(size: int) -> bytes:
        with open(path, "rb") as file:
            return file.read(size)

    try:
        with open(path, "rb") as file:
            state, start = os.fstat(file.fileno()), file.read(PEEK_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SourceError(name, expected="a readable file", got=f"{type(error).__name__}: {error}") from error
    return _Seen(name, relative, state.st_size, state.st_mtime_ns, None, start, read)
