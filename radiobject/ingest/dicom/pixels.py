"""Pixels: the stored values of files, decoded into the slices of a volume."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from radiobject.backends.files.bits import keep_bits
from radiobject.backends.files.source import Bits
from radiobject.errors import (
    MissingDependencyError,
    RadiObjectError,
    SourceCorruptError,
    SourceError,
    SourceUnsupportedError,
)
from radiobject.ingest.dicom.codestreams import PLUGINS, stated
from radiobject.ingest.dicom.frames import Pixels
from radiobject.ingest.dicom.mosaic import tile_shape

__all__ = ["dtype_of", "read_frames"]

Array = npt.NDArray[Any]


def dtype_of(pixels: Pixels) -> np.dtype[Any]:
    """The type that a file's values have, in the byte order of this machine."""
    kind = "f" if pixels.floating else "i" if pixels.signed else "u"
    return np.dtype(f"{kind}{pixels.bits_allocated // 8}")


def read_frames(path: str, pixels: Pixels, into: Mapping[int, Array], data: bytes | None = None) -> None:
    """Decode frames of a file, by number, each into a C-contiguous array (rows, columns) of `dtype_of`.

    `data` is the whole file, where it has been read already; `path` is then its name.

    Bits above BitsStored are no part of a value (PS3.5 8.1.1): they once held overlays.

    Raises `SourceCorruptError` for bytes that do not decode to what the header says,
    `MissingDependencyError` with the pip line where a decoder is missing.
    """
    if pixels.tiles:
        _read_sheet(path, pixels, into, data)
        return
    if pixels.native:
        _read_native(path, pixels, into, data)
    else:
        for number, frame in _decoded(path, pixels, sorted(into), data):
            np.copyto(into[number], frame)
    if not pixels.floating and pixels.bits_stored < pixels.bits_allocated:
        bits = Bits(pixels.bits_stored, pixels.bits_stored - 1, pixels.signed)
        for frame in into.values():
            keep_bits(frame, bits)


def _read_sheet(path: str, pixels: Pixels, into: Mapping[int, Array], data: bytes | None) -> None:
    sheet = np.empty((pixels.rows, pixels.columns), dtype_of(pixels))
    read_frames(path, replace(pixels, tiles=0), {0: sheet}, data)
    rows, columns = tile_shape(pixels, path)
    for number, frame in into.items():
        down, right = divmod(number, pixels.columns // columns)
        np.copyto(frame, sheet[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns])


def _read_native(path: str, pixels: Pixels, into: Mapping[int, Array], data: bytes | None) -> None:
    try:
        with open(path, "rb") if data is None else io.BytesIO(data) as file:
            for number in sorted(into):
                frame = into[number]
                file.seek(pixels.offset + number * frame.nbytes)
                if (found := file.readinto(frame.data)) != frame.nbytes:
                    raise SourceCorruptError(
                        path, expected=f"{frame.nbytes:,} bytes of pixels", got=f"{found:,}",
                        hint="The file was cut short; fetch it again.",
                    )  # fmt: skip
                if pixels.big_endian != (sys.byteorder == "big"):
                    frame.byteswap(inplace=True)
    except OSError as error:
        raise SourceError(path, expected="a readable file", got=f"{type(error).__name__}: {error}") from error


def _decoded(
    path: str, pixels: Pixels, numbers: Sequence[int], data: bytes | None
) -> Iterator[tuple[int, Array]]:
    name = UID(pixels.syntax).name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(path if data is None else io.BytesIO(data), force=True)
            if not UID(pixels.syntax).is_encapsulated:
                whole = dataset.pixel_array.reshape(pixels.frames, pixels.rows, pixels.columns)
                decoded: Iterable[Array] = (whole[n] for n in numbers)
            else:
                plugin = _plugin(path, pixels)
                _check_stated(dataset.PixelData, pixels, path)
                decoded = iter_pixels(dataset, indices=numbers, raw=True, decoding_plugin=plugin)
            for number, frame in zip(numbers, decoded, strict=True):
                if frame.shape != (pixels.rows, pixels.columns):
                    raise SourceCorruptError(
                        path, expected=f"{pixels.rows} x {pixels.columns} pixels", got=str(frame.shape)
                    )
                yield number, _as_stored(frame, pixels, path)
        except RadiObjectError:
            raise
        except Exception as error:  # decoders raise what the bytes bring about
            raise SourceCorruptError(
                path, expected=f"pixels of {name}", got=f"{type(error).__name__}: {error}"
            ) from error


def _plugin(path: str, pixels: Pixels) -> str:
    """The decoder for these pixels; `MissingDependencyError` with the pip line where it is missing."""
    name, plugin = UID(pixels.syntax).name, PLUGINS.get(pixels.syntax)
    if plugin is None:
        raise SourceUnsupportedError(path, expected="a syntax that can be decoded", got=name)
    if plugin not in get_decoder(UID(pixels.syntax)).available_plugins:
        raise MissingDependencyError(
            f"{path} is {name}, which needs the decoder {plugin}", hint='pip install "radiobject-zarr[dicom]"'
        )
    return plugin


def _check_stated(data: bytes, pixels: Pixels, path: str) -> None:
    """Raise `SourceCorruptError` unless every compressed frame is of the size that the header says."""
    frames = list(generate_frames(data, number_of_frames=pixels.frames))
    if len(frames) != pixels.frames:
        raise SourceCorruptError(path, expected=f"{pixels.frames} frames", got=str(len(frames)))
    for frame in frames:
        said = stated(frame, pixels.syntax)
        size = None if said is None else (said.rows or pixels.rows, said.columns or pixels.columns)
        if said is None or size != (pixels.rows, pixels.columns) or said.bits > pixels.bits_allocated:
            raise SourceCorruptError(
                path,
                expected=f"{pixels.rows} x {pixels.columns} pixels of at most {pixels.bits_allocated} bits",
                got="no codestream of its kind" if said is None else f"{size} of {said.bits} bits",
            )


def _as_stored(frame: Array, pixels: Pixels, path: str) -> Array:
    """A decoded frame in the type that the header says; some decoders return a wider or unsigned one."""
    wanted = dtype_of(pixels)
    # of big-endian files pydicom gives big-endian arrays
    frame = frame.astype(frame.dtype.newbyteorder("="), copy=False)
    if frame.dtype == wanted:
        return frame
    if frame.dtype.itemsize == wanted.itemsize and frame.dtype.kind in "iu":
        return frame.view(wanted)
    found = frame.astype(wanted)
    if not np.array_equal(found, frame):
        raise SourceCorruptError(path, expected=f"values of {wanted}", got=f"{frame.dtype} beyond its range")
    return found
