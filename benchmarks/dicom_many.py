"""Many small DICOM series, written as fast as files can be: one template, in which a few bytes change."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

__all__ = ["elements", "write_series"]

# Texts that are found in the template, and replaced by others of their length.
_STUDY, _SERIES, _IMAGE = "1.2.826.0.1.4.777777", "1.2.826.0.1.5.777777", "1.2.826.0.1.6.7777777777"
_PERSON = "PAT777777"
_NUMBER, _PLACE = 0x00200013, 0x00200032

_HEADER: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    "InstanceCreationDate": "20200301", "InstanceCreationTime": "120102.125000",
    "SOPClassUID": CTImageStorage, "SOPInstanceUID": _IMAGE, "StudyDate": "20200301",
    "SeriesDate": "20200301", "AcquisitionDate": "20200301", "ContentDate": "20200301",
    "StudyTime": "120000.500000", "SeriesTime": "120042.750000", "AcquisitionTime": "120058.250000",
    "ContentTime": "120058.250000", "AccessionNumber": "A20200301", "Modality": "CT",
    "Manufacturer": "SIEMENS", "InstitutionName": "Hospital of Examples", "StationName": "CT01",
    "ReferringPhysicianName": "Roe^Richard", "StudyDescription": "Thorax",
    "SeriesDescription": "Thorax 1.25 B31f",
    "ManufacturerModelName": "Sensation 64", "PatientName": "Doe^Jane", "PatientID": _PERSON,
    "PatientBirthDate": "19600101", "PatientSex": "F", "PatientAge": "060Y", "PatientSize": "1.7",
    "PatientWeight": "70", "BodyPartExamined": "CHEST", "ScanOptions": "FAST", "SliceThickness": "1.5",
    "KVP": "120", "DataCollectionDiameter": "500", "DeviceSerialNumber": "55555",
    "SoftwareVersions": "syngo CT 2011A", "ProtocolName": "Thorax routine", "ReconstructionDiameter": "320",
    "DistanceSourceToDetector": "1040", "DistanceSourceToPatient": "570", "GantryDetectorTilt": "0",
    "TableHeight": "150", "RotationDirection": "CW", "ExposureTime": "500", "XRayTubeCurrent": "180",
    "Exposure": "90", "FilterType": "0", "GeneratorPower": "21", "FocalSpots": "1.2",
    "DateOfLastCalibration": "20200229", "TimeOfLastCalibration": "072301.000000", "PatientPosition": "HFS",
    "ConvolutionKernel": "B31f", "StudyInstanceUID": _STUDY, "SeriesInstanceUID": _SERIES, "StudyID": "1",
    "SeriesNumber": "2", "AcquisitionNumber": "1", "InstanceNumber": "7777",
    "ImagePositionPatient": ["-128", "-128", "7777.77777"], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "FrameOfReferenceUID": f"{_SERIES}.1", "PositionReferenceIndicator": "", "SliceLocation": "0",
    "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelSpacing": [0.625, 0.625],
    "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
    "SmallestImagePixelValue": 0, "LargestImagePixelValue": 4095, "WindowCenter": "40", "WindowWidth": "400",
    "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU",
}  # fmt: skip


def elements() -> int:
    """How many elements each header has besides its file meta: research exports that were stripped have 40,
    what a clinical CT writes has 110."""
    return len(_HEADER) + 2


def write_series(folder: Path, series: int, files: int, side: int) -> int:
    """`series` folders of `files` axial slices of `side` x `side` voxels (16 bits), 1.25 mm apart; names of
    files do not tell their order. Two series each are of one person. Returns the bytes of one file.
    """
    template = _template(side)
    names = np.random.default_rng(0).permutation(files).tolist()
    changing = {text: _places(template, text.encode()) for text in (_STUDY, _SERIES, _IMAGE, _PERSON)}
    number, position = _value(template, _NUMBER), _value(template, _PLACE)
    voxels = len(template) - 2 * side * side
    for one in range(series):
        into = folder / f"{one:06d}"
        into.mkdir(parents=True)
        made = bytearray(template)
        for text, new in (
            (_STUDY, f"{100_000 + one}"), (_SERIES, f"{100_000 + one}"), (_PERSON, f"{one // 2:06d}")
        ):  # fmt: skip
            _patch(made, changing[text], text[: -len(new)] + new)
        for z, name in enumerate(names):
            _patch(made, changing[_IMAGE], f"{_IMAGE[:-10]}{100_000 + one}{1000 + z}")
            _patch(made, [number], f"{z + 1:4d}")
            _patch(made, [position], f"-128\\-128\\{1.25 * z:10.4f}")
            made[voxels : voxels + 2] = z.to_bytes(2, "little")
            (into / f"IM{name:04d}").write_bytes(made)
    return len(template)


def _template(side: int) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = _IMAGE
    made = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in _HEADER.items():
        setattr(made, keyword, value)
    made.Rows, made.Columns = side, side
    made.PixelData = np.arange(side * side, dtype="<u2").tobytes()
    written = io.BytesIO()
    pydicom.dcmwrite(written, made, enforce_file_format=True)
    return written.getvalue()


def _places(template: bytes, data: bytes) -> list[int]:
    found = [at for at in range(len(template)) if template.startswith(data, at)]
    assert found, data
    return found


def _value(template: bytes, tag: int) -> int:
    """Where the value of a short explicit element begins."""
    (at,) = _places(template, (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"))
    return at + 8


def _patch(made: bytearray, places: list[int], text: str) -> None:
    data = text.encode()
    for place in places:
        made[place : place + len(data)] = data
