"""The frames of a SEG one by one, as they are stored; compressed ones by pydicom's decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian

from radiobject.errors import (
    MissingDependencyError,
    SourceCorruptError,
    SourceUnsupportedError,
)
from radiobject.ingest.dicom.headers import Header

__all__ = ["Frames"]

_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
# Chosen, since what pydicom tries next aborts the process (python-gdcm) or panics (pylibjpeg-rle) on damaged
# frames. JPEG proper holds no bits and, but for one form, no exact labels.
_PLUGINS = {
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), "pylibjpeg"),
}
_MOST_PIXELS = 2**26  # of a compressed frame: a few bytes may claim to be any size
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 8: np.dtype("u1"), 16: np.dtype("<u2")}


@dataclass(frozen=True)
class Frames:
    """`count` frames of `rows` x `columns` unsigned integers; 1-bit frames come out as 0 and 1.

    Made by `Frames.of`, which checks that the bytes can hold what the header declares, before anything of
    that size is made.
    """

    header: Header
    count: int
    rows: int
    columns: int
    bits: int
    syntax: str

    @classmethod
    def of(cls, header: Header) -> Frames:
        """Raises `SourceCorruptError` for sizes that are missing, zero or larger than the pixel data."""
        name = header.name
        rows, columns = (header.count(k) or 0 for k in ("Rows", "Columns"))
        stated = header.numbers("NumberOfFrames", 1)
        count = 1 if stated is None else int(stated[0])
        if rows < 1 or columns < 1 or count < 1:
            raise SourceCorruptError(
                name, expected="at least one frame, row and column", got=f"{count}, {rows}, {columns}"
            )
        bits = header.count("BitsAllocated") or 0
        samples, signed = header.count("SamplesPerPixel"), header.count("PixelRepresentation")
        if bits not in _TYPES or samples not in (None, 1) or signed not in (None, 0):
            raise SourceUnsupportedError(
                name,
                expected="one unsigned value of 1, 8 or 16 bits for each pixel",
                got=f"{samples} of {bits} bits" + (", signed" if signed else ""),
            )
        meta = getattr(header.dataset, "file_meta", None)
        # without a file header, as in old files, pydicom says how it read the elements
        little = header.dataset.original_encoding[1] is not False
        syntax = str(
            (meta and meta.get("TransferSyntaxUID")) or (_PLAIN[0] if little else ExplicitVRBigEndian)
        )
        frames = cls(header, count, rows, columns, bits, syntax)
        frames._check_size()
        return frames

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the arrays."""
        return _TYPES[self.bits].newbyteorder("=")

    def read(self, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """The frames of these numbers (from 0), each of shape (rows, columns)."""
        if self.syntax in _PLAIN:
            yield from map(self._plain, indices)
            return
        plugin = self._plugin()
        decoder = get_decoder(UID(self.syntax))
        if plugin not in decoder.available_plugins:
            raise MissingDependencyError(
                f"{self.header.name}: no decoder for {UID(self.syntax).name}",
                hint='pip install "radiobject-zarr[dicom]"',
            )
        # buffers, since as arrays pydicom cuts values that are wider than the header says down to its width
        frames = decoder.iter_buffer(self.header.dataset, indices=indices, decoding_plugin=plugin)
        for buffer, said in frames:
            if int(said["bits_allocated"]) > self.bits:
                raise SourceCorruptError(
                    self.header.name, expected=f"frames of {self.bits} bits", got=str(said["bits_allocated"])
                )
            yield np.frombuffer(buffer, _TYPES[int(said["bits_allocated"])]).reshape(self.rows, self.columns)

    def _plain(self, index: int) -> npt.NDArray[Any]:
        data = self._data()
        size = self.rows * self.columns
        if self.bits > 1:
            dtype = _TYPES[self.bits]
            flat = np.frombuffer(data, dtype, size, index * size * dtype.itemsize)
            return flat.astype(self.dtype, copy=False).reshape(self.rows, self.columns)
        # bits follow each other across frames, least significant first (PS3.5 8.1.1): a frame may start
        # within a byte
        start = index * size
        first, stop = start // 8, -(-(start + size) // 8)
        bits = np.unpackbits(np.frombuffer(data, "u1", stop - first, first), bitorder="little")
        return bits[start % 8 : start % 8 + size].reshape(self.rows, self.columns)

    def _data(self) -> bytes:
        data = self.header.bytes("PixelData")
        if data is None:
            raise SourceCorruptError(self.header.name, expected="pixel data", got="none")
        return data

    def _check_size(self) -> None:
        have, frame = len(self._data()), self.rows * self.columns
        if not UID(self.syntax).is_encapsulated:
            needed = -(-self.count * frame * self.bits // 8)
            if have < needed:
                raise SourceCorruptError(
                    self.header.name,
                    expected=f"{needed} bytes of pixels, as its header says",
                    got=f"{have}",
                    hint="The file is truncated, or its header describes another one; fetch it again.",
                )
        elif frame > _MOST_PIXELS or self.count > have // 8:  # an item has 8 bytes before its content
            raise SourceCorruptError(
                self.header.name,
                expected=f"frames of at most {_MOST_PIXELS} pixels, each of 8 bytes or more",
                got=f"{self.count} of {self.rows} x {self.columns} in {have} bytes",
            )

    def _plugin(self) -> str:
        if self.syntax not in _PLUGINS:
            raise SourceUnsupportedError(
                self.header.name,
                expected="frames without compression, or as RLE, JPEG-LS or JPEG 2000",
                got=UID(self.syntax).name,
                hint="Transcode the file, for example with gdcmconv --raw.",
            )
        return _PLUGINS[self.syntax]
