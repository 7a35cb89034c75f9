"""A DICOM series for what the TileDB-based package does with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

__all__ = ["write_series"]


def write_series(folder: Path, positions: Sequence[float] = (0.0, 2.5, 5.0), **values: Any) -> Path:
    """CT slices of 5 rows and 4 columns at these z, in mm; rows are 0.5 mm apart, columns 0.75 mm.

    File names and instance numbers run against the positions, and SliceThickness is wrong, as happens.
    Returns the folder, which is made.
    """
    folder.mkdir(parents=True)
    series, frame = generate_uid(), generate_uid()
    for n, z in enumerate(positions):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID = series, frame, "1.2.3"
        ds.PatientName, ds.PatientID, ds.StudyDate = "Doe^Jane", "MRN-4711", "20200301"
        ds.Modality, ds.SeriesDescription, ds.KVP, ds.Exposure = "CT", "thorax of Jane", 120, 30
        ds.InstanceNumber, ds.SliceThickness, ds.PixelSpacing = len(positions) - n, 5, [0.5, 0.75]
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [1, 2, z]
        ds.Rows, ds.Columns, ds.SamplesPerPixel = 5, 4, 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = (np.arange(20, dtype="<u2") + 100 * n).tobytes()
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        pydicom.dcmwrite(folder / f"{len(positions) - n}.dcm", ds, enforce_file_format=True)
    return folder
