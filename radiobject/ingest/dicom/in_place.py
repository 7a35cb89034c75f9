"""In place: the files that the voxels of a DICOM volume lie in, and the way back from these to its voxels.

Nothing of the pixels is read to find them: the scan has seen where they begin in each file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.files.source import Bits, Frames, Member, Run, Source, Whole
from radiobject.errors import FormatError, SourceCorruptError, SourceUnsupportedError
from radiobject.format.meta import VolumeMeta
from radiobject.ingest.dicom import frames as dicom
from radiobject.ingest.dicom.pixels import dtype_of
from radiobject.ingest.dicom.reading import read_instance
from radiobject.ingest.dicom.stacking import Images, common_scaling, shape_of, stacked, stored_dtype
from radiobject.writing.in_place import InPlace

__all__ = ["decode_dicom", "in_place"]

_Run = tuple[int, int, int, int, int]
"""Images of a decoded volume: file and frame of the first, steps of both from one to the next, count."""


def in_place(
    images: Images, meta: VolumeMeta, extras: Mapping[str, bytes], name: str, relative: Callable[[str], str]
) -> InPlace:
    """The images of a volume in frames that can be read one by one, or in files that are decoded as a whole.

    `relative` makes of a folder the path that it has below the root of all sources. Bare are frames of plain
    numbers of one kind and one scaling. Compressed ones, mosaics and images with scalings of their own are
    not.

    Raises `SourceUnsupportedError` for more disorder in files to be decoded than can be written down, and for
    names of files that are no UTF-8.
    """
    flat = [member for row in images for member in row]
    numbers = {path: number for number, path in enumerate(dict.fromkeys(m.instance.path for m in flat))}
    members = tuple(_members(flat, numbers, relative))
    shape, scaled = shape_of(images), common_scaling(images) is None
    dtype = stored_dtype(images, scaled=scaled)
    pixels = flat[0].instance.pixels
    kinds = {(p.bits_stored, p.big_endian, p.native, p.tiles) for p in (m.instance.pixels for m in flat)}
    if len(kinds) > 1 or not pixels.native or pixels.tiles or scaled:
        source: Source = _whole(
            members, len(images), scaled, [(numbers[m.instance.path], m.frame.number) for m in flat], name
        )
    else:
        frame = pixels.rows * pixels.columns * dtype.itemsize
        starts = [(numbers[m.instance.path], m.instance.pixels.offset + m.frame.number * frame) for m in flat]
        spare = dtype.kind != "f" and pixels.bits_stored < pixels.bits_allocated
        bits = Bits(pixels.bits_stored, pixels.bits_stored - 1, pixels.signed) if spare else None
        order = ">" if pixels.big_endian else "<"
        source = Frames(members, shape, meta.dims, dtype, order, tuple(_places(starts, frame)), bits=bits)
    return InPlace(source, shape, dtype, meta, extras, stored_range=_stored_range(flat, dtype))


def _stored_range(flat: Sequence[dicom.Member], dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """The least and the greatest value that the stored bits can hold; None for floats."""
    if dtype.kind == "f":
        return None
    half = 1 << (max(m.instance.pixels.bits_stored for m in flat) - 1)
    return (-half, half - 1) if dtype.kind == "i" else (0, 2 * half - 1)


def _members(
    flat: Iterable[dicom.Member], numbers: Mapping[str, int], relative: Callable[[str], str]
) -> Iterator[Member]:
    """Each file once, in the order of their numbers."""
    try:
        "\0".join(numbers).encode()
    except UnicodeEncodeError as error:
        raise SourceUnsupportedError(
            ascii(error.object[max(error.start - 40, 0) : error.end + 40]),
            expected="names of files in UTF-8, for copy=False", got="other bytes",
            hint="Rename them, or ingest with copy=True.",
        ) from error  # fmt: skip
    states = {m.instance.path: m.instance.state for m in flat}
    folders: dict[str, str] = {}
    for path in numbers:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = relative(folder)
        state, below = states[path], folders[folder]
        yield Member(
            f"{below}/{name}" if below else name, state.bytes, state.mtime_ns, state.head, state.head_sha256
        )


def _places(starts: Sequence[tuple[int, int]], frame: int) -> Iterator[Run]:
    """Frames that lie at equal distances in one file as one place."""
    run = Run(*starts[0])
    for member, offset in starts[1:]:
        step = offset - (run.offset + run.stride * (run.count - 1))
        if member == run.member and step >= frame and (run.count == 1 or step == run.stride):
            run = Run(member, run.offset, step, run.count + 1)
        else:
            yield run
            run = Run(member, offset)
    yield run


def _whole(
    members: tuple[Member, ...], times: int, scaled: bool, images: Sequence[tuple[int, int]], name: str
) -> Whole:
    arguments = {"times": times, "scaled": scaled, "images": [list(run) for run in _runs(images)]}
    try:
        return Whole(members, "dicom", arguments)
    except FormatError as error:
        raise SourceUnsupportedError(
            name, expected="images in some regular order of their files", got=str(error),
            hint="Ingest it with copy=True.",
        ) from error  # fmt: skip


def _runs(images: Sequence[tuple[int, int]]) -> Iterator[_Run]:
    """Images one after the other, as few runs of equal steps."""
    first, step, count = images[0], (0, 0), 1
    for before, one in pairwise(images):
        found = one[0] - before[0], one[1] - before[1]
        if count == 1 or found == step:
            step, count = found, count + 1
        else:
            yield *first, *step, count
            first, step, count = one, (0, 0), 1
    yield *first, *step, count


def decode_dicom(
    paths: Sequence[str], arguments: Mapping[str, Any], read: Callable[[str], bytes]
) -> npt.NDArray[Any]:
    """The voxels of files that `in_place` called whole, in disk order; `read` gives the bytes of a path.

    Raises `SourceCorruptError` for files that are no images, `FormatError` for other arguments, and what
    `stacked` raises.
    """
    data = {path: read(path) for path in paths}
    instances = []
    for path in paths:
        found = read_instance(path, data=data[path])
        if not isinstance(found, dicom.Instance):
            raise SourceCorruptError(path, expected="images of a volume", got=found.reason)
        instances.append(found)
    try:
        images = list(_images(instances, arguments["images"]))
        times, scaled = arguments["times"], arguments["scaled"]
        if type(scaled) is not bool or type(times) is not int or times < 1 or len(images) % times:
            raise ValueError(f"{len(images)} images in {times!r:.60} times, scaled: {scaled!r:.60}")
        if len(kinds := {(shape_of([[m]]), dtype_of(m.instance.pixels)) for m in images}) != 1:
            raise ValueError(f"images of one size and type were expected, not of {kinds or 'none'}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(
            paths[0], expected="which image is where in a volume", got=f"{type(error).__name__}: {error}"
        ) from error
    depth = len(images) // times
    rows = [images[t * depth : (t + 1) * depth] for t in range(times)]
    return stacked(rows, scaled=scaled, read=data.__getitem__)


def _images(instances: Sequence[dicom.Instance], runs: Any) -> Iterator[dicom.Member]:
    """The inverse of `_runs`. Each image once, so that a short document cannot ask for any number."""
    seen: set[tuple[int, int]] = set()
    for run in runs:
        file, frame, files, frames, count = run
        for n in range(count):
            at = file + n * files, frame + n * frames
            if min(at) < 0 or at in seen:
                raise ValueError(f"image {at} of run {run!r:.60}")
            seen.add(at)
            instance = instances[at[0]]
            yield dicom.Member(instance, instance.frames[at[1]])
