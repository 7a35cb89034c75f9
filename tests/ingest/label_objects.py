"""SEG and RTSTRUCT files for tests, written by pydicom from masks and polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import ExplicitVRLittleEndian

__all__ = ["RTSTRUCT_CLASS", "SEG_CLASS", "Plane", "contour", "rtstruct", "save", "seg"]

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SERIES, SPACE = "1.2.3.4", "1.2.3.5"

Plane = tuple[int, Sequence[float], npt.NDArray[Any]]
"""Segment, position (LPS, mm) and pixels (rows, columns) of a frame."""


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def numbers(values: Iterable[float]) -> list[str]:
    """As decimal strings of at most 16 characters."""
    return [f"{v:.9g}"[:16] for v in values]


def seg(
    frames: Sequence[Plane],
    *,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    pixel_spacing: Sequence[float] = (2, 3),
    between: float | None = 5,
    kind: str = "BINARY",
    names: Mapping[int, str] | None = None,
    bits: int | None = None,
) -> Dataset:
    """A segmentation whose frames stand in the file in the order given."""
    rows, columns = frames[0][2].shape
    made = item(
        SOPClassUID=LABELMAP_CLASS if kind == "LABELMAP" else SEG_CLASS,
        SOPInstanceUID="1.2.9",
        Modality="SEG",
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Nobody^At All",
        FrameOfReferenceUID=SPACE,
        Rows=rows,
        Columns=columns,
        NumberOfFrames=len(frames),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelRepresentation=0,
        BitsAllocated=bits or (1 if kind == "BINARY" else 8),
        SegmentationType=kind,
        ReferencedSeriesSequence=[item(SeriesInstanceUID=SERIES)],
    )
    made.BitsStored = made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    if kind == "FRACTIONAL":
        made.SegmentationFractionalType, made.MaximumFractionalValue = "PROBABILITY", 200
    made.SegmentSequence = [
        item(SegmentNumber=number, SegmentLabel=name, RecommendedDisplayCIELabValue=[41661, 41167, 40792])
        for number, name in (names or {n: f"organ {n}" for n in sorted({f[0] for f in frames})}).items()
    ]
    measures = item(PixelSpacing=numbers(pixel_spacing))
    if between is not None:
        measures.SpacingBetweenSlices = f"{between:g}"
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[item(ImageOrientationPatient=numbers(orientation))],
        )
    ]
    made.PerFrameFunctionalGroupsSequence = [_group(number, at, kind) for number, at, _ in frames]
    pixels = np.stack([frame for _, _, frame in frames])
    made.PixelData = (
        pack_bits(pixels.astype("u1"))
        if made.BitsAllocated == 1
        else _even(pixels.astype(f"<u{made.BitsAllocated // 8}"))
    )
    made["PixelData"].VR = "OB" if made.BitsAllocated <= 8 else "OW"
    return made


def _even(pixels: npt.NDArray[Any]) -> bytes:
    data = pixels.tobytes()
    return data + b"\0" * (len(data) % 2)


def _group(number: int, at: Sequence[float], kind: str) -> Dataset:
    made = item(PlanePositionSequence=[item(ImagePositionPatient=numbers(at))])
    if kind != "LABELMAP":
        made.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=number)]
    return made


def contour(
    points: npt.ArrayLike, kind: str = "CLOSED_PLANAR", image: str | None = None, decimals: int = 6
) -> Dataset:
    """A contour of points (n, 3) in LPS mm."""
    flat = np.asarray(points, dtype=float).ravel()
    made = item(
        ContourGeometricType=kind,
        NumberOfContourPoints=len(flat) // 3,
        ContourData=[f"{v:.{decimals}f}"[:16] for v in flat],
    )
    if image is not None:
        made.ContourImageSequence = [item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=image)]
    return made


def rtstruct(
    rois: Mapping[int, tuple[str, Sequence[Dataset]]], colours: Mapping[int, Sequence[int]] | None = None
) -> Dataset:
    """A structure set of `{number: (name, contours)}`."""
    made = item(
        SOPClassUID=RTSTRUCT_CLASS,
        SOPInstanceUID="1.2.9",
        Modality="RTSTRUCT",
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Nobody^At All",
        StructureSetROISequence=[
            item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=SPACE)
            for n, (name, _) in rois.items()
        ],
        ROIContourSequence=[
            item(ReferencedROINumber=n, ContourSequence=list(contours)) for n, (_, contours) in rois.items()
        ],
    )
    series = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=SERIES)])
    made.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=SPACE, RTReferencedStudySequence=[series])
    ]
    for roi in made.ROIContourSequence:
        if roi.ReferencedROINumber in (colours or {}):
            roi.ROIDisplayColor = list((colours or {})[roi.ReferencedROINumber])
    return made


def save(made: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write it as a DICOM file."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", "1.2")
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    made.save_as(path, enforce_file_format=True)
    return path
