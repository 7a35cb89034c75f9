"""Opening: a DICOM file up to its pixels, parsed by pydicom, and what tells later that it did not change."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from radiobject.backends.files.source import HEAD
from radiobject.errors import SourceCorruptError, SourceError
from radiobject.ingest.dicom.frames import FileState

__all__ = ["FIRST", "Start", "open_header", "opened", "opened_bytes"]

FIRST = 2**14
"""Bytes that are read of a file to begin with: most headers are shorter."""

_PEEK = 12
"""Bytes of an element before its value, at most."""

_SYNTAX, _CLASS = 0x00020010, 0x00020002
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


class _Parsed(NamedTuple):
    """The data set of a file up to its pixels, what its file meta says ("" for nothing), and the byte where
    the element of the pixels begins: the end of a file that has none."""

    dataset: Dataset
    syntax: str
    media_class: str
    after: int


class Start(NamedTuple):
    """The beginning of a file: its data set up to the pixels, TransferSyntaxUID and MediaStorageSOPClassUID,
    the byte where the element of the pixels begins, and the first bytes of that element."""

    dataset: Dataset
    syntax: str
    media_class: str
    after: int
    rest: bytes
    state: FileState


def open_header(path: str) -> Dataset:
    """The data set of a file up to its pixels, with its file meta. Raises from the `SourceError` branch."""
    return _opened(path, FIRST, _complete).dataset


def opened(path: str, first: int = FIRST) -> Start:
    """Read and parse a file up to its pixels, at once where its header has at most `first` bytes.

    Raises from the `SourceError` branch only.
    """
    return _opened(path, first, _quick)


def opened_bytes(data: bytes, name: str) -> Start:
    """The same of a file that has been read already, which was changed nobody says when."""
    return _start(_quick(data, name), data, len(data), 0)


def _opened(path: str, first: int, parse: Callable[[bytes, str], _Parsed]) -> Start:
    try:
        with open(path, "rb", buffering=0) as file:
            # before anything is read: a file that changes meanwhile must look changed
            state = os.fstat(file.fileno())
            data = file.read(first)
            found = parse(data, path) if len(data) >= state.st_size else _if_enough(data, path, parse)
            if found is None:
                with open(file.fileno(), "rb", closefd=False) as whole:
                    whole.seek(0)
                    found = _dcmread(whole, path, data)
                    whole.seek(0)
                    # of a file without pixels all of it
                    data = whole.read(max(min(found.after, HEAD), first))
                    whole.seek(found.after)
                    rest = whole.read(_PEEK)
                return _start(found, data, state.st_size, state.st_mtime_ns, rest)
    except OSError as error:
        raise SourceError(path, expected="a readable file", got=f"{type(error).__name__}: {error}") from error
    return _start(found, data, state.st_size, state.st_mtime_ns)


def _start(found: _Parsed, data: bytes, size: int, mtime_ns: int, rest: bytes | None = None) -> Start:
    head = memoryview(data)[: min(found.after, HEAD)]
    state = FileState(size, mtime_ns, len(head), hashlib.sha256(head).hexdigest())
    return Start(*found, data[found.after : found.after + _PEEK] if rest is None else rest, state)


def _if_enough(data: bytes, path: str, parse: Callable[[bytes, str], _Parsed]) -> _Parsed | None:
    """What the beginning of a file says, None where it ends before the pixels begin."""
    try:
        found = parse(data, path)
    except SourceError:
        return None  # the whole file will say whether it is damaged, or its header only cut here
    return found if found.after + _PEEK <= len(data) else None


def _complete(data: bytes, path: str) -> _Parsed:
    return _dcmread(io.BytesIO(data), path, data)


def _quick(data: bytes, path: str) -> _Parsed:
    """Parsed by pydicom without what `dcmread` makes around a data set, which takes more than half as long
    again; by `dcmread` where a file is not of the usual kind."""
    file = io.BytesIO(data)
    file.seek(132)
    try:
        if data[128:132] == b"DICM":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                meta = _elements(file, _after_meta, implicit=False)
                syntax, media_class = _text(meta, _SYNTAX), _text(meta, _CLASS)
                implicit, at = _is_implicit(syntax), file.tell()
                # group 0000 is that of messages: dcmread reads over it
                if implicit is not None and data[at : at + 2] != b"\0\0":
                    dataset = _elements(file, _at_pixels, implicit=implicit)
                    return _Parsed(dataset, syntax, media_class, file.tell())
    except Exception as error:  # pydicom raises what the bytes bring about, RecursionError among it
        raise SourceCorruptError(path, expected="a readable DICOM header", got=repr(error)) from error
    return _complete(data, path)


def _elements(file: BinaryIO, stop: Callable[[BaseTag, str | None, int], bool], *, implicit: bool) -> Dataset:
    """Little-endian elements up to the first that `stop` says."""
    return read_dataset(file, is_implicit_VR=implicit, is_little_endian=True, stop_when=stop)


def _after_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag >> 16 != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


@lru_cache(1024)
def _is_implicit(syntax: str) -> bool | None:
    """Whether elements have no VR in a little-endian syntax; None for other syntaxes."""
    uid = UID(syntax)
    if not uid.is_transfer_syntax or uid.is_private or uid.is_deflated or uid == ExplicitVRBigEndian:
        return None
    return bool(uid == ImplicitVRLittleEndian)


def _text(meta: Dataset, tag: int) -> str:
    element = meta.get_item(tag)
    value = None if element is None else element.value
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def _dcmread(file: BinaryIO, path: str, start: bytes) -> _Parsed:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(file, stop_before_pixels=True, force=start[128:132] != b"DICM")
            meta = dataset.file_meta
            syntax, media = meta.get("TransferSyntaxUID"), meta.get("MediaStorageSOPClassUID")
            return _Parsed(dataset, str(syntax or ""), str(media or ""), file.tell())
    except InvalidDicomError as error:
        raise SourceCorruptError(
            path, expected='"DICM" after 128 bytes', got="none", hint="It is no DICOM file, or was cut."
        ) from error
    except Exception as error:  # pydicom raises what the bytes bring about, RecursionError among it
        raise SourceCorruptError(path, expected="a readable DICOM header", got=repr(error)) from error
