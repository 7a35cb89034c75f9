"""Example series: the brains of the example cohort as DICOM files, as a scanner would leave them."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from radiobject.errors import ConfigError, MissingDependencyError
from radiobject.examples import cohort
from radiobject.model.volume import Volume

__all__ = ["dicom_series"]


def dicom_series(folder: str | os.PathLike[str], n: int = 2, *, spacing: float = 4.0, seed: int = 0) -> Path:
    """Write brains of `n` people as DICOM series, `folder/<surname>/<session>/IM0001` and on, to practise.

    The images are those of `radiobject.examples.cohort`; names, ids and dates are made up. Files are numbered
    against the direction of the slices, as happens. Called again it writes the same files again, in place of
    those that it made. Returns the folder.

    Raises `ConfigError` for more than eight people, and where a series would stand lies anything that is not
    of that series: nothing of yours is written over. `MissingDependencyError` without pydicom, nilearn and
    scipy.
    """
    if n > len(_NAMES):
        raise ConfigError("dicom_series()", expected=f"n of 1 to {len(_NAMES)}", got=str(n))
    place, counts = Path(folder), Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        for path, subject in cohort(work, n, seed, spacing=spacing, progress=False).images["T1w"]:
            counts[subject] += 1
            person, session = _NAMES[int(subject[-2:]) - 1], counts[subject]
            _write(Volume.from_nifti(path), place / person / str(session), person, subject, session)
    return place


_NAMES = ("Adler", "Birk", "Csonka", "Dahl", "Eriksen", "Fabbri", "Garcia", "Hoang")


def _write(volume: Volume, folder: Path, person: str, subject: str, session: int) -> None:
    try:
        import pydicom
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
    except ImportError as error:
        raise MissingDependencyError(
            f"radiobject.example_series needs {error.name}", hint='pip install "radiobject-zarr[demo,dicom]"'
        ) from error
    root = f"1.2.826.0.1.3680043.10.999.{int(subject[-2:])}.{session}"
    _clear(folder, f"{root}.3.")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    row, column, step = (lps[:3, axis] for axis in range(3))
    voxels = volume.to_numpy(raw=True)
    count = voxels.shape[2]
    for z in range(count):
        meta: Any = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = f"{root}.3.{z + 1}"
        ds: Any = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = root, f"{root}.3", f"{root}.9"
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{person}^Kim", f"MRN-{subject[-2:]}", "19600401"
        ds.StudyDate = ds.AcquisitionDate = f"202{session}0517"
        ds.StudyTime = ds.AcquisitionTime = "101500"
        ds.Modality, ds.Manufacturer, ds.MagneticFieldStrength = "MR", "radiobject", 3
        ds.SeriesDescription, ds.SeriesNumber, ds.EchoTime = f"T1 {person}", 3, 2.5
        ds.InstanceNumber = count - z
        ds.PixelSpacing = [float(np.linalg.norm(column)), float(np.linalg.norm(row))]
        ds.SliceThickness = float(np.linalg.norm(step))
        directions = [*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column))]
        ds.ImageOrientationPatient = [f"{v:.9f}" for v in directions]
        ds.ImagePositionPatient = [f"{v:.6f}" for v in lps[:3, 3] + step * z]
        ds.Rows, ds.Columns, ds.SamplesPerPixel = voxels.shape[1], voxels.shape[0], 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = np.ascontiguousarray(voxels[:, :, z].T, "<i2").tobytes()
        pydicom.dcmwrite(folder / f"IM{count - z:04d}", ds, enforce_file_format=True)


def _clear(folder: Path, series: str) -> None:
    """Make an empty folder: images of the series go, all else is a `ConfigError` before any of them goes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(str(folder), expected="a folder, or none yet", got="a file on the way") from error
    found = sorted(folder.iterdir())
    for path in found:
        if not _is_of(path, series):
            raise ConfigError(
                str(path), expected="an image of this series, made by dicom_series", got="something else",
                hint="Nothing of yours is written over: name another folder.",
            )  # fmt: skip
    for path in found:
        path.unlink()


def _is_of(path: Path, series: str) -> bool:
    """Whether the first bytes of a file are those of an image that `_write` made of the series."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1024)
    return head[128:132] == b"DICM" and series.encode() in head and b"radiobject" in head
