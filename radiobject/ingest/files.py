"""The bytes of a source file, or of the two files of a pair, and what they are when they are no NIfTI."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from radiobject.errors import SourceCorruptError, SourceError, SourceNotFoundError, SourceUnsupportedError
from radiobject.ingest.gzipped import is_gzip

__all__ = [
    "PEEK_BYTES",
    "Reader",
    "fetch",
    "fetch_first",
    "foreign",
    "local_reader",
    "local_start",
    "missing_half",
    "pair_names",
]

PEEK_BYTES = 65536
"""How much of a file a look at its header needs, compressed or not."""

Reader = Callable[[str], bytes]
"""Gives the bytes of one file by its name; raises FileNotFoundError where there is none."""

_PAIR_NAME = re.compile(r"(?P<stem>.*)\.(?P<half>hdr|img)(?P<gz>\.gz)?", re.IGNORECASE | re.DOTALL)
_ANNEX = b"/annex/objects/"
_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # 348 in either byte order
_LFS = b"version https://git-lfs"


def local_reader(name: str) -> bytes:
    """The whole of a local file."""
    with open(name, "rb") as file:
        return file.read()


def local_start(name: str) -> bytes:
    """The first `PEEK_BYTES` of a local file."""
    with open(name, "rb") as file:
        return file.read(PEEK_BYTES)


def fetch(read: Reader, name: str) -> bytes:
    """The bytes of one file; a name that says gzip must hold gzip."""
    try:
        data = read(name)
    except FileNotFoundError as error:
        raise SourceNotFoundError(name, expected="a NIfTI file", got="nothing at this path") from error
    except OSError as error:
        raise SourceError(name, expected="a readable file", got=f"{type(error).__name__}: {error}") from error
    if name.lower().endswith(".gz") and not is_gzip(data):
        raise _not_gzip(name, data)
    return data


def pair_names(name: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Candidates for the .hdr and for the .img of a pair; None when the name is not one of a pair.

    The name that was given is the only candidate for its half; the other may be gzipped or not.

    >>> pair_names("a/b.img")
    (('a/b.hdr', 'a/b.hdr.gz'), ('a/b.img',))
    """
    match = _PAIR_NAME.fullmatch(name)
    if match is None:
        return None
    stem, half, gz = match["stem"], match["half"], match["gz"] or ""
    partner = "img" if half.lower() == "hdr" else "hdr"
    partner = partner.upper() if half.isupper() else partner
    others = tuple(f"{stem}.{partner}{end}" for end in ((gz, "") if gz else ("", ".gz")))
    return ((name,), others) if partner.lower() == "img" else (others, (name,))


def fetch_first(read: Reader, name: str, candidates: tuple[str, ...]) -> tuple[str, bytes]:
    """The first candidate that exists, with its name; `name` is the one that the user gave."""
    for candidate in candidates:
        try:
            return candidate, fetch(read, candidate)
        except SourceNotFoundError:
            if candidate == name:
                raise
    raise missing_half(name, candidates)


def missing_half(name: str, candidates: tuple[str, ...]) -> SourceNotFoundError:
    """The error for a file of a pair without the other, which would be one of the candidates."""
    return SourceNotFoundError(
        name,
        expected=f"its other half beside it, {' or '.join(os.path.basename(c) for c in candidates)}",
        got="nothing there",
        hint="A NIfTI pair needs both files.",
    )


def _not_gzip(name: str, data: bytes) -> SourceError:
    if not data or _known(data):
        return foreign(name, data)
    return SourceCorruptError(
        name,
        expected="a gzip file, as its name says",
        got=f"other bytes ({data[:4].hex(' ')})",
        hint="If it is a plain NIfTI, rename it without .gz.",
    )


def foreign(name: str, data: bytes) -> SourceError:
    """The error for content that is no NIfTI: empty, a web page, a pointer, another format."""
    if not data:
        return SourceCorruptError(
            name, expected="a NIfTI file", got="0 bytes", hint="The file is empty; fetch it again."
        )
    known = _known(data)
    if known is not None:
        kind, what, hint = known
        return kind(name, expected="a NIfTI file", got=what, hint=hint)
    if len(data) >= 348 and data[:4] in _ANALYZE:
        return SourceUnsupportedError(
            name,
            expected="a NIfTI file",
            got="an Analyze 7.5 header: 348 bytes without the NIfTI magic",
            hint="Analyze does not say where left is; convert it with a tool that knows its origin.",
        )
    return SourceCorruptError(
        name,
        expected="a NIfTI-1 or NIfTI-2 header",
        got="nothing but zeros" if not any(data) else f"{len(data)} bytes or more without the NIfTI magic",
        hint="The file is cut short or of another format.",
    )


def _known(data: bytes) -> tuple[type[SourceError], str, str] | None:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return SourceCorruptError, "a web page", "A login or error page was saved; fetch the file again."
    if head.startswith(_LFS) or (_ANNEX in head and len(data) < 4096):
        return (
            SourceCorruptError,
            "a pointer of Git LFS or git-annex, not the file itself",
            "Run `git lfs pull` or `datalad get` first.",
        )
    if data[128:132] == b"DICM":
        return SourceUnsupportedError, "a DICOM file", "Use from_dicoms."
    return None
