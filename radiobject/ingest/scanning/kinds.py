"""Kinds: which layout a folder follows, known by its files, and its rows."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Literal, get_args

from radiobject.errors import ConfigError, SourceNotFoundError
from radiobject.ingest.scanning.nifti import scan_nifti
from radiobject.ingest.scanning.rows import Found
from radiobject.ingest.walking import holds_dicom

__all__ = ["Layout", "detect", "find"]

Layout = Literal["bids", "msd", "nnunet", "dicom", "nifti"]


def detect(root: str) -> Layout:
    """The layout of a folder.

    dataset.json with channel_names is nnU-Net, with modality MSD; dataset_description.json or folders
    `sub-*` with folders below are BIDS; DICOM is known by its first file; all else is NIfTI.
    """
    if not os.path.isdir(root):
        if not os.path.exists(root):
            raise SourceNotFoundError(root, expected="a folder", got="nothing there")
        return "dicom" if holds_dicom(root) else "nifti"
    described = os.path.join(root, "dataset.json")
    if os.path.isfile(described):
        try:
            with open(described, encoding="utf-8-sig") as file:
                keys = set(json.load(file))
        except (OSError, ValueError, RecursionError, TypeError):
            keys = set()
        if "channel_names" in keys:
            return "nnunet"
        if "modality" in keys:
            return "msd"
    if os.path.isfile(os.path.join(root, "dataset_description.json")) or _has_subjects(root):
        return "bids"
    return "dicom" if holds_dicom(root) else "nifti"


def _has_subjects(root: str) -> bool:
    """Whether there is a folder `sub-<label>` with a folder of BIDS in it."""
    for name in sorted(os.listdir(root)):
        place = os.path.join(root, name)
        if re.fullmatch(r"sub-[A-Za-z0-9]+", name) and os.path.isdir(place):
            below = os.listdir(place)
            return any(re.fullmatch(r"ses-[A-Za-z0-9]+|anat|func|dwi|fmap|perf|pet", n) for n in below)
    return False


def find(root: str, kind: str, options: dict[str, Any]) -> Found:
    """The rows of a folder by its layout; `options` are those of that layout's scan.

    Raises `ConfigError` for a kind or an option that there is not.
    """
    if kind != "auto" and kind not in get_args(Layout):
        raise ConfigError("kind=", expected=f"'auto' or one of {get_args(Layout)}", got=repr(kind))
    layout = detect(root) if kind == "auto" else kind
    try:
        if layout == "dicom":
            from radiobject.ingest.scanning.dicom import scan_dicom_folder

            return scan_dicom_folder(root, **options)
        if layout == "bids":
            from radiobject.ingest.scanning.bids import scan_bids

            return scan_bids(root, **options)
        if layout == "msd":
            from radiobject.ingest.scanning.msd import scan_msd

            return scan_msd(root, **options)
        if layout == "nnunet":
            from radiobject.ingest.scanning.nnunet import scan_nnunet

            return scan_nnunet(root, **options)
        return scan_nifti(root, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ConfigError(f"scan() of layout {layout}", expected="its own options", got=str(error)) from error
