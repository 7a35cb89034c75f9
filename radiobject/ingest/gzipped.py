"""Gunzip that notices damage: every member is read to its end and its CRC checked, and size is bounded.

isal is about twice as fast as zlib and, unlike zlib.decompress and libdeflate, goes on after the first
member; nibabel stops at the last voxel and so never sees a wrong CRC.
"""

from __future__ import annotations

import io
import zlib
from typing import cast

from isal import igzip, isal_zlib

from radiobject.errors import SourceCorruptError

__all__ = ["gunzip", "gunzip_start", "is_gzip"]

_MAGIC = b"\x1f\x8b"
_MAX_RATIO = 1032  # DEFLATE cannot expand further: two bits for 258 bytes at best
_GZIP_WBITS = 31
# isal's stub declares its exception as an instance
_DAMAGE = (OSError, EOFError, zlib.error, cast("type[Exception]", isal_zlib.error))


def is_gzip(data: bytes) -> bool:
    """Whether these bytes begin as gzip does. File names are not asked.

    >>> is_gzip(b"<html>")
    False
    """
    return data[:2] == _MAGIC


def gunzip_start(name: str, data: bytes, size: int) -> bytes:
    """The first `size` bytes of the content, or fewer when `data`, which may be cut anywhere, holds fewer."""
    out = b""
    try:
        while len(out) < size and is_gzip(data):
            member = isal_zlib.decompressobj(_GZIP_WBITS)
            out += member.decompress(data, size - len(out))
            data = member.unused_data
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    return out


def gunzip(name: str, data: bytes, needed: int, slack: int) -> bytes:
    """The whole content: `needed` bytes by its header, and at most `slack` bytes after them.

    Several members and zeros after the last one are accepted, as gzip does. Raises `SourceCorruptError` for
    a truncated file, a wrong CRC, other bytes after the end, and for a header that asks for more than these
    bytes can expand to, before anything is allocated.
    """
    if needed > _MAX_RATIO * len(data):
        raise SourceCorruptError(
            name,
            expected=f"{needed} bytes, as its header says",
            got=f"{len(data)} compressed bytes, which cannot hold so many",
            hint="The file is truncated or its header damaged; fetch it again.",
        )
    try:
        with igzip.IGzipFile(fileobj=io.BytesIO(data)) as file:
            content: bytes = file.read(needed + slack + 1)
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    if len(content) > needed + slack:
        raise SourceCorruptError(
            name,
            expected=f"{needed} bytes and at most {slack} after them",
            got="more",
            hint="The header does not describe this content.",
        )
    return content


def _damaged(name: str, error: Exception) -> SourceCorruptError:
    return SourceCorruptError(
        name,
        expected="a whole gzip file",
        got=f"a damaged one ({error})",
        hint="It was cut short or changed on its way; fetch it again.",
    )
