"""Sources: what a caller points at (globs, folders, lists, images, arrays) as rows of a plan."""

from __future__ import annotations

import datetime
import fnmatch
import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from radiobject.errors import (
    DuplicateIdError,
    MetadataError,
    SourceError,
    SourceNotFoundError,
    SourceUnsupportedError,
)
from radiobject.format.layout import check_collection_name
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.writing.in_place import InPlace
from radiobject.writing.loaded import Loaded
from radiobject.writing.objects import is_array_pair, is_object, is_volume, told_apart

__all__ = ["Readable", "Source", "file_states", "is_url", "path_of", "resolve"]

_NIFTI = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
_WILD = re.compile(r"[*?\[]")
_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")
_SUBJECT = re.compile(r"^(sub-[A-Za-z0-9]+)(?:_|$)")
_SESSION = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)(?:_|$)")
_RUN = re.compile(r"(?:^|_)run-(\d+)(?:_|$)")


class Readable:
    """A source that reads itself, such as the images of a DICOM series; safe to pickle."""

    drawn = False
    """Whether its voxels are in no file, but made when it is read: it is written also with copy=False."""

    @property
    def name(self) -> str:
        """What errors call it."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str | None:
        """Tells whether it changed between two runs, None where that cannot be told."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """Equal for two runs that mean the same volume, whether it can be read or not."""
        return self.name

    def load(self) -> Loaded:
        """The volume in memory. Raises from the `SourceError` branch, or `MissingDependencyError`."""
        raise NotImplementedError

    def in_place(self, relative: Callable[[str], str]) -> InPlace:
        """The volume, left where it lies; `relative` gives the path of a file or folder below the root of
        all sources. Raises from the `SourceError` branch, for what cannot be left there too."""
        raise SourceUnsupportedError(
            self.name, expected="a source that can be read where it lies, for copy=False",
            got=type(self).__name__, hint="Pass copy=True.",
        )  # fmt: skip

    def private(self, text: str) -> str:
        """A text about it, an error's say, as the study may keep it: without what names people."""
        raise NotImplementedError


def path_of(item: Any) -> str | None:
    """The file that an item is, or that nibabel has open and unchanged; None for what is in memory."""
    if isinstance(item, str | os.PathLike):
        return os.fspath(item)
    proxy = getattr(item, "dataobj", None)
    name = getattr(getattr(item, "file_map", {}).get("image"), "filename", None)
    # nibabel marks what still lies in the file; an array in memory may have been changed
    if (
        name
        and getattr(proxy, "is_proxy", False)
        and re.search(r"\.(nii|img|hdr)(\.gz)?$", str(name), re.IGNORECASE)
        and _is_as_in_file(item)
    ):
        return str(name)
    return None


def _is_as_in_file(image: Any) -> bool:
    """Whether neither the affine nor the header of an open image was changed since it was loaded."""
    try:
        fresh = type(image).from_file_map(image.file_map)
    except Exception:
        # a file that is gone or damaged by now: reading it as a file says so by name
        return True
    return bool(np.array_equal(fresh.affine, image.affine) and fresh.header == image.header)


def is_url(path: str) -> bool:
    """Whether it is one of a store elsewhere."""
    return _URL.match(path) is not None and not path.startswith("file://")


def file_states(paths: Iterable[str], said: str = "") -> str | None:
    """A digest of names, sizes and times of files, and of what is `said` besides; None when one cannot be
    asked."""
    digest = hashlib.sha256(said.encode())
    try:
        for path in paths:
            state = os.stat(path)
            digest.update(f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    except OSError:
        return None
    return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """One future volume. `item` is a path or URL, or an object that `from_object` takes."""

    collection: str
    obs_subject_id: str
    obs_id: str
    item: Any
    name: str
    session: str | None = None
    run: int | None = None
    acquisition_time: datetime.datetime | None = None


def resolve(
    images: Mapping[str, Any],
    subjects: Sequence[str] | None,
    near: Location | None = None,
) -> list[Source]:
    """One `Source` a volume, collections in the order given, files in natural order of their names.

    A value is a glob, a folder, one source, or a list of sources, `(source, subject)` or
    `(source, subject, obs_id)`. Where no subject is given it is that of a Volume, or comes from the file
    name: `sub-<label>` when the name begins so, else the name without a trailing `_{collection}`; of these,
    the one that `subjects` knows wins. Where no obs_id is given it is `{subject}_{collection}`; a second
    volume of that pair gets `_acq-1`, and so on. Session and run are a Volume's own, or the file name's.

    Raises `SourceNotFoundError` for what matches nothing, `DuplicateIdError` for a file or an obs_id listed
    twice.
    """
    if not isinstance(images, Mapping) or not images:
        raise MetadataError("images", expected="{collection: glob, folder or list}", got=repr(images)[:80])
    known = set(subjects or ())
    listed: dict[str, list[_Entry]] = {}
    for collection, value in images.items():
        check_collection_name(collection)
        listed[collection] = list(_entries(collection, value, near))
        names = Counter(entry.name for entry in listed[collection] if entry.name)
        if twice := [name for name, n in names.items() if n > 1]:
            raise DuplicateIdError(
                f"collection {collection!r}: {twice[0]}", expected="each file once", got="twice"
            )
    chosen = Counter(entry.obs_id for entries in listed.values() for entry in entries if entry.obs_id)
    if twice := [obs_id for obs_id, n in chosen.items() if n > 1]:
        raise DuplicateIdError(f"obs_id {twice[0]!r}", expected="one source", got=f"{chosen[twice[0]]}")
    used = set(chosen)
    found: list[Source] = []
    for collection, entries in listed.items():
        for number, entry in enumerate(entries):
            stem = _stem(entry.name)
            subject = entry.subject or _subject_of(stem, collection, known) or f"{collection}-{number}"
            obs_id, count = entry.obs_id or f"{subject}_{collection}", 0
            while not entry.obs_id and obs_id in used:
                count += 1
                obs_id = f"{subject}_{collection}_acq-{count}"
            used.add(obs_id)
            session, run = _SESSION.search(stem), _RUN.search(stem)
            said = {"session": session and session[1], "run": run and int(run[1]), **told_apart(entry.item)}
            own = entry.item.name if isinstance(entry.item, Readable) else entry.name
            name = own or f"{collection}[{number}]"
            found.append(Source(collection, subject, obs_id, entry.item, name, **said))
    _check_present(found)
    return found


class _Entry(NamedTuple):
    """One source as the caller listed it; `name` is its path, empty for an object."""

    item: Any
    name: str = ""
    subject: str | None = None
    obs_id: str | None = None


def _entries(collection: str, value: Any, near: Location | None) -> Iterable[_Entry]:
    if isinstance(value, str | os.PathLike):
        for path in _expand(os.fspath(value), near):
            yield _Entry(path, path)
        return
    if is_object(value):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise MetadataError(
            f"images[{collection!r}]",
            expected="a glob, a folder, a list or an image",
            got=type(value).__name__,
        )
    for entry in value:
        item: Any = entry
        ids: Sequence[Any] = ()
        if isinstance(entry, tuple) and len(entry) in (2, 3) and not is_array_pair(entry):
            item, *ids = entry
            if not all(isinstance(i, str) and i for i in ids):
                raise MetadataError(
                    f"images[{collection!r}]",
                    expected="(source, subject as text) or (source, subject, obs_id as text)",
                    got=repr(tuple(ids)),
                )
        if isinstance(item, str | os.PathLike):
            path = os.fspath(item)
            yield _Entry(path, path, *ids)
        elif isinstance(item, Readable):
            yield _Entry(item, "", *ids)
        elif is_object(item):
            yield _Entry(item, "", *(ids or [item.obs_subject_id if is_volume(item) else None]))
        else:
            raise SourceError(
                f"images[{collection!r}]",
                expected="a path, (array, affine), a nibabel image, a Volume or a DataArray",
                got=type(item).__name__,
                hint="An array needs its 4x4 affine beside it (None for voxels of 1 mm).",
            )


def _expand(text: str, near: Location | None) -> list[str]:
    """The files that a glob, a folder or a single path stands for."""
    if is_url(text):
        return _expand_url(text, near)
    text = os.path.expanduser(text.removeprefix("file://"))
    if os.path.isdir(text):
        found = [os.path.join(text, n) for n in os.listdir(text) if _is_nifti(n)]
    elif _WILD.search(text) and not os.path.exists(text):
        found = [p for p in glob.glob(text, recursive=True) if _is_nifti(os.path.basename(p))]
    else:
        found = [text]
    if not found:
        raise SourceNotFoundError(
            text,
            expected="at least one NIfTI file (.nii, .nii.gz, .hdr)",
            got="none",
            hint="Check the path or pattern.",
        )
    return sorted(found, key=_natural)


def _expand_url(text: str, near: Location | None) -> list[str]:
    if text.endswith(_NIFTI) and not _WILD.search(text):
        return [text]
    cut = _WILD.search(text)
    folder = text[: cut.start()].rpartition("/")[0] if cut else text.rstrip("/")
    pattern = text[len(folder) + 1 :].split("/") if cut else ["*"]
    keys = [info.key for info in Storage(near.beside(folder) if near else Location(folder)).list("")]
    found = [
        f"{folder}/{key}"
        for key in keys
        if _is_nifti(key.rsplit("/", 1)[-1]) and _matches(key.split("/"), pattern)
    ]
    if not found:
        raise SourceNotFoundError(text, expected="at least one NIfTI file", got="none")
    return sorted(found, key=_natural)


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a glob, segment by segment as on a local disk; `**` is any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[n:], pattern[1:]) for n in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _is_nifti(name: str) -> bool:
    # "._x" files are what macOS leaves on foreign disks: no images
    return name.lower().endswith(_NIFTI) and not name.startswith(".")


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    for ending in (".nii.gz", ".nii", ".hdr.gz", ".hdr", ".img.gz", ".img"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _subject_of(stem: str, collection: str, known: set[str]) -> str:
    bids = _SUBJECT.match(stem)
    short = stem.removesuffix(f"_{collection}")
    candidates = [bids[1]] if bids else []
    candidates += [short, stem]
    return next((c for c in candidates if c in known), candidates[0])


def _check_present(sources: Sequence[Source]) -> None:
    missing = [
        s.item
        for s in sources
        if isinstance(s.item, str) and not _URL.match(s.item) and not os.path.exists(s.item)
    ]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceNotFoundError(
            f"{missing[0]}{more}",
            expected="a NIfTI file",
            got="nothing there",
            hint="Check the path; nothing was written.",
        )
