"""NIfTI folders that follow no standard: collections and subjects from names of files and folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from radiobject.errors import RadiObjectError, SourceNotFoundError
from radiobject.ingest.nifti import says_labels
from radiobject.ingest.scanning.rows import Found, PlanRow
from radiobject.model.naming import names_labels

__all__ = ["nifti_files", "scan_nifti", "stem_of"]

_NIFTI = re.compile(r"(?P<stem>.+)\.(nii|hdr)(\.gz)?", re.IGNORECASE)
_SUBJECT = re.compile(r"^(sub-[A-Za-z0-9]+)(?:_|$)")
_SESSION = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)(?:_|$)")
_RUN = re.compile(r"(?:^|_)run-(\d+)(?:_|$)")
_UNNAMED = "image"
_SEQUENCES = frozenset(
    (
        "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "dwi", "adc", "swi", "bold", "asl",
        "mra", "ct", "cta", "cbct", "mr", "mri", "pet", "pt", "images", "image",
    )
)  # fmt: skip


def scan_nifti(root: str) -> Found:
    """Rows of all NIfTI files below a folder, in natural order.

    `sub-01_T1w.nii.gz` is T1w of sub-01 wherever it lies. Of others, folders or files are collections
    (`T1w/4711.nii.gz`, `4711/T1w.nii.gz`): whichever has names of sequences and label maps, else whichever
    are fewer. Files beside each other are of one collection, or of one for each ending that several share
    (`4711_T1w.nii.gz`).

    Raises `SourceNotFoundError` where there is none.
    """
    files, others = nifti_files(root)
    if not files:
        raise SourceNotFoundError(root, expected="at least one NIfTI file", got=f"none among {others} files")
    by_file = _files_are_collections(files, root)
    endings = Counter(stem_of(path).rpartition("_")[2] for path in files if "_" in stem_of(path))
    rows = []
    for path in files:
        stem, folder = stem_of(path), PurePath(os.path.relpath(path, root)).parent.name
        bids = _SUBJECT.match(stem)
        body, _, ending = stem.rpartition("_")
        if bids:
            subject, collection = bids[1], ending if body else _UNNAMED
        elif folder and by_file:
            subject, collection = folder, stem
        elif folder:
            subject, collection = stem.removesuffix(f"_{folder}"), folder
        elif body and endings[ending] > 1:
            subject, collection = body, ending
        else:
            subject, collection = stem, _UNNAMED
        session, run = _SESSION.search(stem), _RUN.search(stem)
        collection = re.sub(r"[^A-Za-z0-9_-]", "_", collection).strip("_-") or _UNNAMED
        labels = names_labels(collection) or _says_labels(path)
        if labels and collection == _UNNAMED:
            collection = "seg"
        rows.append(
            PlanRow(
                path=path,
                collection=collection,
                obs_subject_id=subject,
                obs_id="",
                kind="label" if labels else "image",
                session=session and session[1],
                run=run and int(run[1]),
                tags={"stem": stem, "folder": folder},
            )
        )
    return Found("nifti", rows, skipped={"not NIfTI": others} if others else {})


def _files_are_collections(files: Sequence[str], root: str) -> bool:
    """Whether names of files are collections and their folders subjects, and not the other way round."""
    stems = {stem_of(path) for path in files}
    folders = {PurePath(os.path.relpath(path, root)).parent.name for path in files}
    for names, answer in ((folders, False), (stems, True)):
        if any(name.lower() in _SEQUENCES or names_labels(name) for name in names):
            return answer
    return len(stems) < len(folders)


def _says_labels(path: str) -> bool:
    try:
        return says_labels(path)
    except RadiObjectError:
        return False  # the plan says what is wrong with it


def nifti_files(root: str) -> tuple[list[str], int]:
    """The NIfTI files below a folder in natural order, and how many others there are. Hidden ones count as
    neither."""
    found: list[str] = []
    others = 0
    for base, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in names:
            if name.startswith("."):
                continue  # what macOS leaves on foreign disks, and the like
            if _NIFTI.fullmatch(name):
                found.append(os.path.join(base, name))
            else:
                others += not name.lower().endswith((".img", ".img.gz"))
    return sorted(found, key=_natural), others


def stem_of(path: str) -> str:
    """The name of a file without its NIfTI endings."""
    name = os.path.basename(path)
    match = _NIFTI.fullmatch(name)
    return match["stem"] if match else name


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
