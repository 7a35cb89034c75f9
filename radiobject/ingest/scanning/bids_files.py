"""BidsFiles: the files of one BIDS data set, by what they are for. bids2table understands their names."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from radiobject.errors import MissingDependencyError
from radiobject.ingest.scanning.sidecars import BidsFile, Sidecars
from radiobject.ingest.scanning.small_files import read_text

__all__ = ["DataSet", "data_set", "derived_roots", "typed_entities"]

_IMAGE = re.compile(r"(?P<stem>.+)(?P<extension>\.nii(\.gz)?)", re.IGNORECASE)
_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+")
_BESIDE = (".json", ".bval", ".bvec", ".tsv")
_INT32 = 2**31
_TABLES = ("scans", "sessions")


@dataclass
class DataSet:
    """One data set: raw, or what one pipeline derived. `pipeline` is empty for raw data.

    `tables` are scans.tsv and sessions.tsv. `skipped` counts what is no image, by reason.
    """

    root: str
    pipeline: str
    sidecars: Sidecars
    images: list[BidsFile] = field(default_factory=list)
    tables: list[BidsFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def data_set(root: str, pipeline: str = "", *, within: str | None = None) -> DataSet:
    """Every file of the subjects of a data set, and those at its root that they may inherit from.

    `within` is the folder that links of sidecars may lead to, by default the data set's.

    bids2table is not asked for the files: it knows no data set whose folder has a dot in its name, as
    ds000030_R1.0.4 has, and goes on to believe what a folder was when it first saw it.
    """
    found, ignored = DataSet(root, pipeline, Sidecars(within or root)), _ignored(root)
    for folder, name, path in _walk(root):
        if name.startswith("."):
            found.skipped["macOS ._ files"] += name.startswith("._") and bool(_IMAGE.fullmatch(name))
            continue
        file = _file(folder, name, path)
        if file is not None and _IMAGE.fullmatch(name):
            found.sidecars.add_image(file)  # an image that is ignored has sidecars of its own too
        if ignored is not None and ignored.match_file(f"{folder}/{name}" if folder else name):
            found.skipped["named in .bidsignore"] += bool(_IMAGE.fullmatch(name))
            continue
        if file is None:
            found.skipped["NIfTI files not named as BIDS says"] += bool(_IMAGE.fullmatch(name))
        elif _IMAGE.fullmatch(name):
            if folder:
                found.images.append(file)
        elif file.suffix in _TABLES and file.extension == ".tsv":
            found.tables.append(file)
        elif file.extension in _BESIDE:
            found.sidecars.add(file)
            datatype = folder.rpartition("/")[2]
            if folder and file.extension == ".tsv" and datatype == "beh":
                found.skipped["beh files, which are no images"] += 1
        elif folder:
            found.skipped[f"{folder.rpartition('/')[2]} files that are no images"] += 1
    found.skipped = +found.skipped
    return found


def derived_roots(root: str) -> list[tuple[str, str]]:
    """Name and root of every data set below derivatives/, in order."""
    place = os.path.join(root, "derivatives")
    if not os.path.isdir(place):
        return []
    inside = [(n, os.path.join(place, n)) for n in sorted(os.listdir(place)) if not n.startswith(".")]
    return [(name, path) for name, path in [("derivatives", place), *inside] if _has_subjects(path)]


def typed_entities(file: BidsFile) -> dict[str, Any]:
    """Entities as the BIDS schema types them: an index as int, a label as text.

    An entity that the schema does not know is text; one whose value it does not allow is left out.
    """
    valid, extra = _bids2table().validate_bids_entities(dict(file.entities))
    valid = {key: value for key, value in valid.items() if isinstance(value, str) or value < _INT32}
    return {**valid, **{key: value for key, value in extra.items() if key and key not in _known_entities()}}


@functools.cache
def _known_entities() -> frozenset[str]:
    return frozenset(_bids2table().get_arrow_schema().names)


def _bids2table() -> Any:
    try:
        import bids2table
    except ImportError as error:
        raise MissingDependencyError(
            "BIDS folders", expected="the package bids2table", hint='pip install "radiobject-zarr[bids]"'
        ) from error
    return bids2table


def _ignored(root: str) -> Any:
    """What matches paths that .bidsignore names, in the syntax of .gitignore; None without one."""
    path = os.path.join(root, ".bidsignore")
    if not os.path.isfile(path):
        return None
    try:
        from pathspec import GitIgnoreSpec
    except ImportError as error:
        raise MissingDependencyError(
            path, expected="the package pathspec", hint='pip install "radiobject-zarr[bids]"'
        ) from error
    return GitIgnoreSpec.from_lines(read_text(path).splitlines())


def _has_subjects(root: str) -> bool:
    if not os.path.isdir(root):
        return False
    with os.scandir(root) as entries:
        return any(_SUBJECT.fullmatch(entry.name) and entry.is_dir() for entry in entries)


def _walk(root: str) -> Iterator[tuple[str, str, str]]:
    """Folder below the root, name and path of every file at the root and in folders of subjects."""
    waiting, seen = [""], {os.path.realpath(root)}
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in listed:
            if not entry.is_dir():
                yield folder, entry.name, entry.path
            elif "." not in entry.name and (folder or _SUBJECT.fullmatch(entry.name)):
                # a folder with an ending is one recording, such as .ds, or a Zarr image: no place for NIfTI
                place = os.path.realpath(entry.path)
                if place not in seen:  # a link may lead back
                    seen.add(place)
                    below.append(f"{folder}/{entry.name}" if folder else entry.name)
        waiting.extend(reversed(below))


def _file(folder: str, name: str, path: str) -> BidsFile | None:
    """None for a name that says no suffix, is not ASCII, or is of no subject where it should be."""
    said = _bids2table().parse_bids_entities(f"{folder}/{name}" if folder else name)
    suffix, extension = said.pop("suffix", None), said.pop("ext", None)
    said.pop("datatype", None)
    if suffix is None or extension is None or not name.isascii():
        return None
    image = _IMAGE.fullmatch(name)
    if image is not None and ("sub" not in said or extension.lower() != image["extension"].lower()):
        return None
    stem = image["stem"] if image is not None else name.removesuffix(extension)
    return BidsFile(path, folder, stem, said, suffix, extension.lower())
