"""Codestreams: what compressed frames say of their own size, held against the header before they are decoded.

Decoders do not all look: one aborts the process when a frame has fewer rows than the header says, another
cuts 16-bit values down to the 8 bits of the header.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.uid import UID, RLELossless

__all__ = ["PLUGINS", "Stated", "stated"]

PLUGINS = {
    RLELossless: "pydicom",
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)), "pyjpegls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), "pylibjpeg"),
    "1.2.840.10008.1.2.4.50": "pillow",
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (51, 57, 70)), "gdcm"),
}
"""Transfer syntax -> the decoder of pydicom's that is used for it, never whichever is tried next."""

_JPEG_2000 = b"\xff\x4f\xff\x51"
_NO_FRAME = {0xC4, 0xC8, 0xCC}
"""Markers among those of frames (C0 to CF) that begin tables."""


class Stated(NamedTuple):
    """What a frame says; None for what it does not say."""

    rows: int | None
    columns: int | None
    bits: int


def stated(frame: bytes, syntax: str) -> Stated | None:
    """Rows, columns and bits of one compressed frame, None where its bytes are no codestream of the syntax.

    JPEG and JPEG-LS: the first frame header (ITU-T T.81 B.2.2, T.87 C.2.2). JPEG 2000: the SIZ segment
    (ITU-T T.800 A.5.1), also inside a JP2 file. RLE: the number of segments, one a byte (PS3.5 G.3).
    """
    try:
        if UID(syntax) == RLELossless:
            return Stated(None, None, 8 * struct.unpack_from("<I", frame)[0])
        at = frame.find(_JPEG_2000, 0, 4096)
        return _jpeg(frame) if at < 0 else _jpeg_2000(frame, at + len(_JPEG_2000))
    except (struct.error, IndexError):
        return None


def _jpeg_2000(frame: bytes, at: int) -> Stated:
    right, bottom, left, top = struct.unpack_from(">IIII", frame, at + 4)
    (depth,) = struct.unpack_from(">B", frame, at + 38)
    return Stated(bottom - top, right - left, (depth & 0x7F) + 1)


def _jpeg(frame: bytes) -> Stated | None:
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == 0xF7:
            bits, rows, columns = struct.unpack_from(">BHH", frame, at + 4)
            return Stated(rows, columns, bits)
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None
