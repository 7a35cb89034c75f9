"""nnU-Net: a folder of nnUNet_raw, of version 2 or 1, as rows."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.ingest.scanning.cases import Cases, below, channels_of, files_of, safe_names
from radiobject.ingest.scanning.label_tables import dataset_labels
from radiobject.ingest.scanning.rows import Found
from radiobject.ingest.scanning.small_files import read_json

__all__ = ["first_version", "scan_nnunet"]

_log = logging.getLogger(__name__)
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
_ENDINGS = (".nii.gz", ".nii")


def scan_nnunet(root: str | os.PathLike[str]) -> Found:
    """Rows of a `DatasetXXX_Name` folder (nnU-Net 2), or of a `TaskXXX_Name` folder of nnU-Net 1.

    `{case}_{XXXX}` of imagesTr and imagesTs goes to the collection that channel XXXX has in `channel_names`
    (`modality` in version 1); `{case}` of labelsTr, and of labelsTs where there is one, to `seg` with the
    names of `labels`. Of regions, whose labels are lists, every integer stays a label of its own
    (`label_tables.dataset_labels`). Columns: `split` ("train" or "test") and, of images, `channel`; obs_meta
    has `split` too. `dataset`, where dataset.json has it, names the files of training instead.

    A channel or a label map that a case lacks is a row with the verdict "error". Nothing but names and
    dataset.json is read. Raises from the `SourceError` branch for a dataset.json that is missing or says
    something else, `SourceUnsupportedError` for files that are not NIfTI.
    """
    root = os.path.abspath(os.fspath(root))
    path = os.path.join(root, "dataset.json")
    said = read_json(path)
    ending = str(said.get("file_ending", ".nii.gz"))
    if ending not in _ENDINGS:
        reader = said.get("overwrite_image_reader_writer")
        raise SourceUnsupportedError(
            path, expected=f"file_ending {' or '.join(_ENDINGS)}",
            got=repr(ending) + (f", read by {reader}" if reader else ""), hint="Convert the images to NIfTI.",
        )  # fmt: skip
    key = "channel_names" if "channel_names" in said else "modality"
    channels = channels_of(said.get(key), f"{path}, {key}")
    *names, seg = safe_names([*channels.values(), "seg"])
    cases = Cases("nnunet", dataset_labels(said.get("labels", {}), path), seg)
    collections = dict(zip(channels, names, strict=True))
    listed = said.get("dataset")
    train = _listed(root, path, listed) if listed else _present(cases, root, "imagesTr", "labelsTr", ending)
    for case, (images, label) in train.items():
        _rows(cases, case, images, label, "train", collections)
    for case, (images, label) in _present(cases, root, "imagesTs", "labelsTs", ending).items():
        _rows(cases, case, images, label if os.path.isfile(label) else "", "test", collections)
    expected = said.get("numTraining")
    if expected is not None and expected != len(train):
        _log.warning("%s says numTraining %s, and %d cases are there", path, expected, len(train))
    cases.skipped = +cases.skipped
    return cases.found()


def first_version(root: str, said: Mapping[str, Any]) -> bool:
    """Whether a folder with MSD's dataset.json has files as nnU-Net 1 names them.

    Its `training` names `{case}`, and `{case}_0000` is there instead.
    """
    listed = said.get("training")
    first = listed[0] if isinstance(listed, list) and listed else None
    image = first.get("image") if isinstance(first, Mapping) else first
    if not isinstance(image, str):
        return False
    place = below(root, image, os.path.join(root, "dataset.json"))
    return not os.path.lexists(place) and os.path.lexists(f"{place.removesuffix('.nii.gz')}_0000.nii.gz")


_Case = tuple[dict[int, str], str]
"""Files of the channels by number, and of the label map."""


def _present(cases: Cases, root: str, images: str, labels: str, ending: str) -> dict[str, _Case]:
    """Cases by the names of their files."""
    found: dict[str, _Case] = {}
    names, foreign = files_of(os.path.join(root, images))
    others, of_labels = files_of(os.path.join(root, labels))
    cases.skipped["macOS ._ files"] += foreign + of_labels
    for name in names:
        match = _CHANNEL.fullmatch(name.removesuffix(ending)) if name.endswith(ending) else None
        if match is None:
            cases.skipped[f"in {images}, but not named case_XXXX{ending}"] += 1
            continue
        label = os.path.join(root, labels, match["case"] + ending)
        files, _ = found.setdefault(match["case"], ({}, label))
        files[int(match["number"])] = os.path.join(root, images, name)
    alone = [n for n in others if n.removesuffix(ending) not in found]
    cases.skipped[f"in {labels}, but of no case in {images}"] += len(alone)
    return found


def _listed(root: str, path: str, listed: Any) -> dict[str, _Case]:
    """Cases by `dataset` of dataset.json: `{case: {"images": [...], "label": ...}}`."""
    found: dict[str, _Case] = {}
    for case, files in listed.items() if isinstance(listed, Mapping) else [("", listed)]:
        images = files.get("images") if isinstance(files, Mapping) else None
        if not isinstance(images, Sequence) or isinstance(images, str) or not images or "label" not in files:
            raise SourceCorruptError(
                f"{path}, dataset, {case!r}", expected="images and label of each case", got=repr(files)[:80]
            )
        places = {number: below(root, image, path) for number, image in enumerate(images)}
        found[case] = places, below(root, files["label"], path)
    return found


def _rows(
    cases: Cases, case: str, images: Mapping[int, str], label: str, split: str, collections: Mapping[int, str]
) -> None:
    for number in sorted({*images, *collections}):
        path = images.get(number)
        collection = collections.get(number, f"channel_{number:04}")
        if path is None:
            present = next(iter(images.values()))
            lacking = f"channel: {number:04} is missing"
            cases.image(present, case, collection, split, number=number, reason=lacking)
        else:
            unnamed = "" if number in collections else f"channel: {number:04} is not in dataset.json"
            cases.image(path, case, collection, split, number=number, reason=unnamed)
    if label:
        cases.label(label, case, split)
