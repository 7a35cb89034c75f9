"""DICOM series for tests, written by pydicom. Every voxel holds a number that tells where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .label_objects import item, numbers

__all__ = ["ENHANCED_MR", "MR", "PARAMETRIC_MAP", "enhanced", "in_place", "pixels_of", "save", "slices"]

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"

Array = npt.NDArray[Any]


def slices(
    count: int = 5,
    *,
    rows: int = 9,
    columns: int = 8,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (0.75, 0.5),
    step: Sequence[float] = (0, 0, 2.5),
    corner: Sequence[float] = (-10, 20, 30),
    stored: str = "<u2",
    start: int = 0,
    **values: Any,
) -> list[Dataset]:
    """Classic slices at `corner`, `corner + step`, ... (mm, LPS), with values from `start` up.

    `spacing` is the distance of rows and of columns. A function in `values` is called with the slice's
    number, None takes the element away.
    """
    type_ = np.dtype(stored)
    voxels = np.arange(start, start + count * rows * columns).astype(type_).reshape(count, rows, columns)
    return [
        with_values(_slice(n, voxels[n], orientation, spacing, np.add(corner, np.multiply(step, n))),
                    n, values)
        for n in range(count)
    ]  # fmt: skip


def _slice(
    n: int, pixels: Array, orientation: Sequence[float], spacing: Sequence[float], at: Sequence[float]
) -> Dataset:
    made = item(
        SOPClassUID=MR, SOPInstanceUID=f"1.2.3.4.{n + 1}", SeriesInstanceUID="1.2.3.4",
        StudyInstanceUID="1.2.3", FrameOfReferenceUID="1.2.3.5", PatientID="MRN-4711", StudyDate="20200301",
        Modality="MR", SeriesNumber=3, InstanceNumber=n + 1, PixelSpacing=numbers(spacing),
        ImageOrientationPatient=numbers(orientation), ImagePositionPatient=numbers(at),
    )  # fmt: skip
    _store(made, pixels)
    return made


def _store(made: Dataset, pixels: Array) -> None:
    bits = 8 * pixels.dtype.itemsize
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = bits
    if pixels.dtype.kind == "f":
        setattr(made, "FloatPixelData" if bits == 32 else "DoubleFloatPixelData", pixels.tobytes())
        return
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if bits == 8 else "OW"


def with_values(made: Dataset, n: int, values: dict[str, Any]) -> Dataset:
    """The data set with these elements set, or taken away."""
    for keyword, value in values.items():
        chosen = value(n) if callable(value) else value
        if chosen is not None:
            setattr(made, keyword, chosen)
        elif keyword in made:
            delattr(made, keyword)
    return made


def enhanced(
    count: int = 5,
    *,
    rows: int = 9,
    columns: int = 8,
    stored: str = "<u2",
    slope: Callable[[int], float] | None = None,
    groups: Callable[[int], dict[str, Any]] = lambda n: {},
    position: Callable[[int], Sequence[float]] = lambda n: (-10, 20, 30 + 2.5 * n),
    **values: Any,
) -> Dataset:
    """One multi-frame file; `groups` adds functional groups to each frame, `slope` gives each its own."""
    made = item(
        SOPClassUID=ENHANCED_MR, SOPInstanceUID="1.2.3.4.1", SeriesInstanceUID="1.2.3.4",
        StudyInstanceUID="1.2.3", PatientID="MRN-4711", StudyDate="20200301", Modality="MR", SeriesNumber=3,
        NumberOfFrames=count,
    )  # fmt: skip
    _store(made, np.arange(count * rows * columns).astype(stored).reshape(count, rows, columns))
    made.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=numbers((0.75, 0.5)), SliceThickness="9")],
            PlaneOrientationSequence=[item(ImageOrientationPatient=numbers((1, 0, 0, 0, 1, 0)))],
        )
    ]
    frames = []
    for n in range(count):
        frame = item(PlanePositionSequence=[item(ImagePositionPatient=numbers(position(n)))], **groups(n))
        if slope is not None:
            frame.PixelValueTransformationSequence = [
                item(RescaleSlope=f"{slope(n):g}", RescaleIntercept="-1", RescaleType="US")
            ]
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = frames
    return with_values(made, 0, values)


def save(
    folder: Path,
    datasets: Sequence[Dataset],
    *,
    names: Sequence[str] | None = None,
    syntax: str = ExplicitVRLittleEndian,
    bare: bool = False,
) -> Path:
    """Write a file for each, without preamble and file meta if `bare`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, dataset in enumerate(datasets):
        path = folder / (names[n] if names else f"{n + 1}.dcm")
        if bare:
            implicit = syntax == ImplicitVRLittleEndian
            pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True)
            continue
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{n + 1}"
        if syntax == ExplicitVRBigEndian:
            words = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
            dataset.PixelData = words.byteswap().tobytes()
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return folder


def pixels_of(dataset: Dataset) -> Array:
    """The stored values of a little-endian slice (rows, columns), as `slices` made them."""
    kind = "i" if dataset.PixelRepresentation else "u"
    whole = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
    return whole[: dataset.Rows * dataset.Columns].reshape(dataset.Rows, dataset.Columns)


def in_place(array: Array, affine: Array, datasets: Sequence[Dataset], atol: float = 1e-4) -> None:
    """Assert that the array (x, y, z) has the pixels of every slice where its plane equation puts them, mm.

    PS3.3 C.7.6.2.1.1, with x and y turned from LPS to RAS, for the first and the last voxel of each slice.
    """
    seen = set()
    for dataset in datasets:
        first, orientation = np.array(dataset.ImagePositionPatient), np.array(dataset.ImageOrientationPatient)
        last = np.array([dataset.Columns - 1, dataset.Rows - 1])
        between_rows, between_columns = dataset.PixelSpacing
        end = first + orientation[:3] * between_columns * last[0] + orientation[3:] * between_rows * last[1]
        z = round(float((np.linalg.inv(affine) @ [-first[0], -first[1], first[2], 1])[2]))
        for voxel, place in (((0, 0, z, 1), first), ((*last, z, 1), end)):
            np.testing.assert_allclose((affine @ voxel)[:3], place * [-1, -1, 1], atol=atol)
        np.testing.assert_array_equal(array[:, :, z].T, pixels_of(dataset))
        seen.add(z)
    assert seen == set(range(array.shape[2]))
