"""Walking: which files below the paths of a caller are DICOM. Knows files by their first bytes alone."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from radiobject.errors import SourceError, SourceNotFoundError, SourceUnsupportedError

__all__ = ["Found", "dicom_files", "holds_dicom", "is_dicom"]

_WILD = re.compile(r"[*?\[]")
_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")
_INDEX = "DICOMDIR"
_NIFTI = re.compile(r"\.(nii|hdr)(\.gz)?$", re.IGNORECASE)
_MOST_LOOKS = 500


class Found:
    """`paths` of DICOM files in natural order, what is `unreadable`, and how many `others` there are."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.unreadable: dict[str, SourceError] = {}
        self.others = 0


def dicom_files(place: str | os.PathLike[str]) -> Found:
    """The DICOM files of a folder (with all below it), a glob of files and folders, or one file.

    Files are known by their content, whatever they are called: by "DICM" after 128 bytes, or by a first
    element of group 0008 where that is missing. Hidden files and DICOMDIR, which repeats what other files
    say, count as others. Raises `SourceNotFoundError` where nothing is there, or nothing of it is DICOM.
    """
    text = os.fspath(place)
    if _URL.match(text) and not text.startswith("file://"):
        raise SourceUnsupportedError(
            text, expected="DICOM files on a local disk", got="a URL", hint="Fetch the folder first."
        )
    starts = _starts(text)
    if not starts:
        raise SourceNotFoundError(text, expected="a DICOM file or a folder of them", got="nothing there")
    found = Found()
    for path in sorted({os.path.abspath(p) for start in starts for p in _walk(start)}, key=_natural):
        name = os.path.basename(path)
        try:
            mine = not name.startswith(".") and name.upper() != _INDEX and is_dicom(path)
        except SourceError as error:
            found.unreadable[path] = error
            continue
        if mine:
            found.paths.append(path)
        else:
            found.others += 1
    if not found.paths and not found.unreadable:
        raise SourceNotFoundError(
            text, expected="at least one DICOM file", got=f"none among {found.others} files"
        )
    return found


def is_dicom(path: str) -> bool:
    """Whether a file begins as DICOM files do. `SourceError` for one that cannot be read."""
    start = _start(path)
    # (0008,xxxx) in little endian, as files from before Part 10 begin, or file meta without its preamble
    return start[128:132] == b"DICM" or (
        start[1:2] == b"\0" and start[0:1] in b"\x02\x08" and _plausible(start)
    )


def holds_dicom(place: str) -> bool:
    """Whether a folder, a glob or a path holds DICOM before it holds NIfTI. URLs do not.

    Looks at a few hundred files at most: what a disk from a hospital has beside its images is passed over.
    """
    if _URL.match(place) and not place.startswith("file://"):
        return False
    for path in islice(chain.from_iterable(map(_walk, _starts(place))), _MOST_LOOKS):
        name = os.path.basename(path)
        if _NIFTI.search(name):
            return False
        if not name.startswith(".") and os.path.isfile(path) and is_dicom(path):
            return True
    return False


def _plausible(start: bytes) -> bool:
    """Whether the first element is one: of an explicit VR, or of an implicit length that is not absurd."""
    return start[4:6].isalpha() or int.from_bytes(start[4:8], "little") < 1024


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(132)
    except OSError as error:
        raise SourceError(path, expected="a readable file", got=f"{type(error).__name__}: {error}") from error


def _starts(text: str) -> list[str]:
    text = os.path.expanduser(text.removeprefix("file://"))
    if not os.path.exists(text) and _WILD.search(text):
        return glob.glob(text, recursive=True)
    return [text] if os.path.exists(text) else []


def _walk(start: str) -> Iterable[str]:
    if not os.path.isdir(start):
        return [start]
    return _below(start)


def _below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        # a folder that cannot be listed may hold slices of a volume: going on would close the gap
        raise SourceError(
            str(error.filename), expected="a readable folder", got=f"{type(error).__name__}: {error}"
        ) from error

    seen: set[tuple[int, int]] = set()
    for base, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = os.stat(base)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()  # a link leads back to where this walk has been
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = os.path.join(base, name)
            # a link that leads nowhere is told; pipes and sockets would hang, and are no files
            if os.path.isfile(path) or os.path.islink(path):
                yield path


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
