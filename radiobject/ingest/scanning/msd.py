"""MSD: a folder of the Medical Segmentation Decathlon, which its dataset.json lists, as rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from radiobject.errors import RadiObjectError, SourceCorruptError
from radiobject.ingest.nifti import peek_nifti
from radiobject.ingest.scanning.cases import Cases, below, channels_of, files_of, safe_names
from radiobject.ingest.scanning.label_tables import dataset_labels
from radiobject.ingest.scanning.nifti import stem_of
from radiobject.ingest.scanning.nnunet import first_version, scan_nnunet
from radiobject.ingest.scanning.rows import Found
from radiobject.ingest.scanning.small_files import absent, read_json

__all__ = ["scan_msd"]

_FOLDERS = (("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "test"))


def scan_msd(root: str | os.PathLike[str]) -> Found:
    """Rows of a `TaskXX_Name` folder: the cases of dataset.json's `training` and `test`.

    A file becomes a volume in the collection that its modality names; a file whose fourth axis are several
    modalities becomes one volume in each. Label maps go to `seg`, with the names of `labels`. Columns:
    `split` ("train" or "test") and, of images, `channel`; obs_meta has `split` too. Where dataset.json lists
    no cases, they are the files of the folders. Folders that nnU-Net 1 converted are read as its own.

    Rows of files that are not there, are empty, or have other channels than dataset.json says have the
    verdict "error". Headers are read, no voxels. Raises from the `SourceError` branch for a dataset.json
    that is missing or says something else.
    """
    root = os.path.abspath(os.fspath(root))
    path = os.path.join(root, "dataset.json")
    said = read_json(path)
    if first_version(root, said):
        return scan_nnunet(root)
    modalities = channels_of(said.get("modality"), f"{path}, modality")
    *names, seg = safe_names([*modalities.values(), "seg"])
    cases = Cases("msd", dataset_labels(said.get("labels", {}), path), seg)
    listed = set()
    for image, label, split in _pairs(root, path, said):
        case = stem_of(image)
        listed |= {image, label}
        _channels(cases, image, case, split, dict(zip(modalities, names, strict=True)))
        if label:
            cases.label(label, case, split)
    for folders in _FOLDERS:
        for folder in folders[:2]:
            present, foreign = files_of(os.path.join(root, folder))
            cases.skipped["macOS ._ files"] += foreign
            others = [n for n in present if os.path.join(root, folder, n) not in listed]
            cases.skipped[f"in {folder}, but not in dataset.json"] += len(others)
    cases.skipped = +cases.skipped
    return cases.found()


def _pairs(root: str, path: str, said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Image, label ("" for none) and split of every case."""
    for key, (images, labels, split) in zip(("training", "test"), _FOLDERS, strict=True):
        entries = said.get(key) or []
        if not isinstance(entries, list):
            raise SourceCorruptError(f"{path}, {key}", expected="a list of cases", got=repr(entries)[:80])
        for entry in entries:
            of = entry if isinstance(entry, dict) else {"image": entry}
            label = of.get("label")
            yield below(root, of.get("image"), path), below(root, label, path) if label else "", split
        if not entries:
            for name in files_of(os.path.join(root, images))[0]:
                label = os.path.join(root, labels, name)
                there = split == "train" or os.path.isfile(label)
                yield os.path.join(root, images, name), label if there else "", split


def _channels(cases: Cases, image: str, case: str, split: str, names: Mapping[int, str]) -> None:
    """Rows of one image: one for each of its modalities."""
    count, reason = 1, absent(image)
    if not reason:
        try:
            geometry = peek_nifti(image, axis4="channel")
            count = dict(zip(geometry.dims, geometry.shape, strict=True)).get("c", 1)
        except RadiObjectError as error:
            reason = str(error)
    if not reason and count != len(names):
        reason = f"channels: {count} in the file, {len(names)} in dataset.json"
    for place, (number, name) in enumerate(names.items()):
        part = place if len(names) > 1 and not reason else None
        cases.image(image, case, name, split, number=number, channel=part, reason=reason)
