"""What the cases stand on: one small study with its files, and comparing what two names give."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from radiobject import Index, RadiObject, Volume, VolumeCollection
from tests.upstream.series import write_series

SUBJECTS = ["sub-03", "sub-01", "sub-02"]
KEY = "00" * 32
"""A de-identification key for tests."""

AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


def voxels(subject: str) -> Any:
    """An int16 array of 6x5x4 voxels, all different, and different for each subject."""
    return (np.arange(120).reshape(6, 5, 4) + 1000 * int(subject[-2:])).astype("i2")


def subjects_table() -> pd.DataFrame:
    """Its obs_meta."""
    return pd.DataFrame(
        {"obs_subject_id": SUBJECTS, "age": [63, 41, 52], "dx": ["tumor", "healthy", "tumor"]}
    )


@dataclass
class Ground:
    """A study to read (`radi`), its NIfTI files (`images`, `labels`), and a folder to write to (`folder`)."""

    study: Path
    files: Path
    folder: Path

    def series(self) -> Path:
        """A folder with a DICOM series of 4x5x3 voxels, written when first asked for."""
        folder = self.folder / "series"
        return folder if folder.exists() else write_series(folder)

    @property
    def uri(self) -> str:
        """The study's URI; nothing writes to it."""
        return str(self.study)

    @property
    def radi(self) -> RadiObject:
        """The study, opened anew."""
        return RadiObject(self.uri)

    @property
    def t1w(self) -> VolumeCollection:
        """Its images."""
        return self.radi.T1w

    @property
    def volume(self) -> Volume:
        """One image."""
        return self.t1w.loc["sub-01_T1w"]

    @property
    def images(self) -> str:
        """Folder of sub-01.nii.gz, sub-02.nii.gz, sub-03.nii.gz."""
        return str(self.files / "imagesTr")

    @property
    def labels(self) -> str:
        """Folder of masks with the same file names."""
        return str(self.files / "labelsTr")

    def new(self, name: str = "new") -> str:
        """A free place."""
        return str(self.folder / name)

    def own(self) -> RadiObject:
        """A copy of the study that may be changed."""
        return self.radi.write(self.new("own"))


def make_ground(root: Path) -> tuple[Path, Path]:
    """Write the files and the study, once."""
    files = root / "files"
    for subject in SUBJECTS:
        for folder, array in (("imagesTr", voxels(subject)), ("labelsTr", voxels(subject) % 2)):
            (files / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array.astype("u1" if folder == "labelsTr" else "i2"), AFFINE)
            image.set_sform(AFFINE, 1)
            nibabel.save(image, files / folder / f"{subject}.nii.gz")
    images = {
        name: [(str(files / folder / f"{s}.nii.gz"), s) for s in SUBJECTS]
        for name, folder in (("T1w", "imagesTr"), ("seg", "labelsTr"))
    }
    RadiObject.from_niftis(root / "study", images, subjects_table(), labels=["seg"], workers=1)
    return root / "study", files


def imported(module: str, name: str | None = None) -> Any:
    """What `from module import name` gives."""
    if name is None:
        return importlib.import_module(module)
    scope: dict[str, Any] = {}
    exec(f"from {module} import {name}", scope)
    return scope[name]


def plain(value: Any) -> Any:
    """A handle or table as values that == compares."""
    if isinstance(value, RadiObject):
        return [value.obs_subject_ids, {n: plain(value.collection(n)) for n in value}]
    if isinstance(value, VolumeCollection):
        return [value.name, value.obs_ids, [plain(v) for v in value]]
    if isinstance(value, Volume):
        return [value.obs_id, value.affine.tolist(), value.to_numpy().tolist()]
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list")
    if isinstance(value, pd.Series | np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, Index):
        return [value.name, value.to_list()]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [plain(v) for v in value]
    return value


Case = Callable[[Ground], Any]
