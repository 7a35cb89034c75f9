"""LabelVolume, and what SEG and RTSTRUCT objects share: opening one, its names, the series it is about."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.charset import convert_encodings, decode_bytes

from radiobject.errors import (
    GeometryError,
    RadiObjectError,
    SourceCorruptError,
    SourceError,
    SourceNotFoundError,
    SourceUnsupportedError,
    UnknownIdError,
)
from radiobject.format.meta import Label, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.headers import Header
from radiobject.writing.loaded import Loaded, from_voxels

__all__ = [
    "LabelVolume",
    "chosen_part",
    "damage_named",
    "frame_of_reference",
    "label_dtype",
    "label_volume",
    "named_text",
    "on_grid",
    "open_object",
    "ras_affine",
    "referenced_instances",
    "referenced_series",
]

_ON_GRID = 1e-3  # voxels: how far apart two grids may lie and still be one, and mm of their columns


@dataclass(frozen=True)
class LabelVolume:
    """One volume out of a SEG or RTSTRUCT object.

    `part` is "" when it is the object's only volume, else it names the segment or ROI ("segment-2", "roi-7").
    `title` is the name of that one segment or ROI, "" for a volume of several. `series_uid` is the Series
    Instance UID of the images that were segmented, `frame_of_reference_uid` that of their space; None where
    the object does not say.
    """

    loaded: Loaded
    part: str
    title: str
    series_uid: str | None
    frame_of_reference_uid: str | None


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever the bytes of one file bring about is a `SourceCorruptError` that names it; no warnings.

    pydicom and its decoders raise errors of any type, and warn about values that nobody asked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RadiObjectError:
            raise
        except Exception as error:
            raise SourceCorruptError(
                os.fspath(path), expected="a readable DICOM object", got=f"{type(error).__name__}: {error}"
            ) from error


def open_object(path: str | os.PathLike[str], classes: Mapping[str, str], what: str) -> Header:
    """The data set of a file of one of the SOP `classes` (UID to name); also one without the DICM prefix.

    Raises `SourceNotFoundError`, `SourceError` for a file that cannot be read, `SourceUnsupportedError` for
    another class; to be called within `damage_named`. `what` is what was wanted, in words.
    """
    name = os.fspath(path)
    try:
        # force: files from before DICOM Part 10, and those cut out of a PACS, have no prefix
        header = Header(pydicom.dcmread(name, force=True), name)
    except FileNotFoundError as error:
        raise SourceNotFoundError(name, expected=what, got="nothing at this path") from error
    except OSError as error:
        raise SourceError(name, expected="a readable file", got=f"{type(error).__name__}: {error}") from error
    found = header.text("SOPClassUID")
    if found not in classes:
        raise SourceUnsupportedError(
            name, expected=f"{what} ({' or '.join(classes.values())})", got=f"SOP class {found or 'missing'}"
        )
    return header


def named_text(header: Header, item: Header, keyword: str) -> str:
    """Text of a sequence item, in the character set that the data set names; unprintable characters as ?."""
    data = item.bytes(keyword)
    if data is None:
        return ""
    said = item.dataset.get("SpecificCharacterSet") or header.dataset.get("SpecificCharacterSet")
    try:
        text = decode_bytes(data, convert_encodings(said), set())
    except (LookupError, UnicodeError, ValueError) as error:
        raise SourceCorruptError(f"{header.name}, {keyword}", expected="text", got=str(error)) from error
    return "".join(c if c.isprintable() else "?" for c in text.strip(" \0"))


def frame_of_reference(header: Header) -> str | None:
    """Frame of Reference UID of the object, or of its first Referenced Frame of Reference, or None."""
    inner = header.item("ReferencedFrameOfReferenceSequence")
    return header.text("FrameOfReferenceUID") or (inner and inner.text("FrameOfReferenceUID")) or None


def referenced_series(header: Header) -> str | None:
    """Series Instance UID of the images that were segmented, where exactly one is named.

    A SEG names it in Referenced Series Sequence (PS3.3 C.12.1.4), an RTSTRUCT in RT Referenced Series
    Sequence, two sequences deeper (PS3.3 C.8.8.5).
    """
    series = {item.text("SeriesInstanceUID") for item in _series_items(header)} - {""}
    return series.pop() if len(series) == 1 else None


def referenced_instances(header: Header) -> set[str]:
    """SOP Instance UIDs of the images that a SEG names."""
    return {
        item.text("ReferencedSOPInstanceUID")
        for series in header.items("ReferencedSeriesSequence")
        for item in series.items("ReferencedInstanceSequence")
    } - {""}


def _series_items(header: Header) -> Iterator[Header]:
    yield from header.items("ReferencedSeriesSequence")
    for space in header.items("ReferencedFrameOfReferenceSequence"):
        for study in space.items("RTReferencedStudySequence"):
            yield from study.items("RTReferencedSeriesSequence")


def ras_affine(name: str, origin: Any, x: Any, y: Any, z: Any) -> Affine:
    """The affine of a grid given in DICOM's patient coordinates (LPS, mm): first voxel's centre, three steps.

    Raises `SourceUnsupportedError` where the steps span no space.
    """
    matrix = np.eye(4)
    matrix[:3] = np.stack([x, y, z, origin], axis=1)
    matrix[:2] *= -1  # LPS to RAS
    try:
        return Affine(matrix + 0.0)
    except GeometryError as error:
        raise SourceUnsupportedError(f"{name}: {error}", hint="Its planes span no space.") from error


def label_dtype(values: Sequence[int]) -> np.dtype[Any]:
    """The smallest unsigned type that holds the values of labels.

    >>> label_dtype([1, 255]), label_dtype([256])
    (dtype('uint8'), dtype('uint16'))
    """
    return np.dtype("u1" if max(values, default=0) <= 255 else "u2")


def label_volume(
    name: str,
    voxels: npt.NDArray[Any],
    meta: VolumeMeta,
    *,
    part: str,
    labels: Sequence[Label],
    header: Header,
    extras: Mapping[str, bytes] | None = None,
) -> LabelVolume:
    """A volume (z, y, x) with what the object says of all its volumes. `labels` become the meta's."""
    kept = dict(extras or {})
    meta = replace(
        meta,
        labels=tuple(labels) if meta.kind == "label" else (),
        source=replace(meta.source, extras=tuple(kept)),
    )
    return LabelVolume(
        loaded=from_voxels(voxels.transpose(2, 1, 0), meta, name, kept),
        part=part,
        title=labels[0].name if len(labels) == 1 else "",
        series_uid=referenced_series(header),
        frame_of_reference_uid=frame_of_reference(header),
    )


def chosen_part(name: str, parts: Sequence[str], part: str | None) -> Sequence[str]:
    """All `parts`, or the one asked for. `UnknownIdError` for one that the object does not have."""
    if part is None:
        return parts
    if part not in parts:
        raise UnknownIdError(f"part {part!r} of {name}", expected=f"one of {', '.join(map(repr, parts))}")
    return [part]


def on_grid(volume: LabelVolume, affine: Affine, shape: Sequence[int]) -> LabelVolume | None:
    """The volume on the grid of its image, where both have their voxels in the same places; else None.

    A SEG mostly has frames only where something was segmented. Its planes then are some of the image's, and
    the other planes (or rows, or columns) are background: nothing is resampled. `shape` is (x, y, z).

    >>> image = Affine.from_spacing((1, 1, 2))
    >>> meta = VolumeMeta(image.crop((0, 0, 3)), ("z", "y", "x"))
    >>> mask = from_voxels(np.ones((4, 4, 2), "u1"), meta, "mask")
    >>> whole = on_grid(LabelVolume(mask, "", "", None, None), image, (4, 4, 9))
    >>> whole.loaded.voxels.shape, whole.loaded.voxels.any(axis=(1, 2)).nonzero()[0].tolist()
    ((9, 4, 4), [3, 4])
    """
    loaded = volume.loaded
    mine, theirs = loaded.meta.affine, affine
    corner = theirs.inverse().apply(mine.translation)
    start = np.rint(corner).astype(int)
    size = np.array(loaded.voxels.shape[::-1])
    steps = np.abs(mine.matrix[:3, :3] - theirs.matrix[:3, :3]) * size
    if (
        np.abs(corner - start).max() > _ON_GRID
        or steps.max() > _ON_GRID
        or (start < 0).any()
        or (start + size > shape).any()
    ):
        return None
    (x, y, z), (nx, ny, nz) = start.tolist(), size.tolist()
    voxels = np.zeros(tuple(shape)[::-1], loaded.voxels.dtype)
    voxels[z : z + nz, y : y + ny, x : x + nx] = loaded.voxels
    meta = replace(loaded.meta, affine=affine)
    return replace(volume, loaded=from_voxels(voxels.transpose(2, 1, 0), meta, volume.part, loaded.extras))
