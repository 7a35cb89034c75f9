"""Frames: what the headers say of each 2D image, classic or one frame of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["FileState", "Frame", "Instance", "Member", "Moment", "Pixels"]

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """What may tell the images at one position apart in time. None where the header says nothing."""

    temporal_position: int | None = None
    acquisition_number: int | None = None
    trigger_time: float | None = None
    acquired: float | None = None
    """Seconds of the acquisition since an arbitrary day."""
    dimensions: tuple[int, ...] | None = None
    """DimensionIndexValues of an enhanced frame."""
    instance_number: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2D image. `position` (mm, LPS) is the centre of its first voxel, `orientation` the directions of a
    row and of a column, `spacing` the distances of rows and of columns in mm.

    `value = slope * stored + inter`. The rest tells images at one position apart.
    """

    number: int
    """Which frame of its file, from 0."""
    position: Vector
    orientation: tuple[float, float, float, float, float, float]
    spacing: tuple[float, float]
    thickness: float | None = None
    slope: float = 1.0
    inter: float = 0.0
    image_type: tuple[str, ...] = ()
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    b_value: float | None = None
    gradient: Vector | None = None
    """Direction of diffusion weighting, LPS."""
    kernel: str = ""
    isotropic: bool = False
    """A map made of several directions, which some scanners add to the series."""
    moment: Moment = Moment()


@dataclass(frozen=True, slots=True)
class Pixels:
    """How the pixels of a file are stored. `offset` is where they begin, `length` their bytes, None when
    they are compressed. `big_endian` is the order of bytes in the file."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    floating: bool
    syntax: str
    """TransferSyntaxUID."""
    native: bool
    """Plain numbers at `offset`."""
    offset: int
    length: int | None
    big_endian: bool = False
    tiles: int = 0
    """Images in a mosaic, 0 for none."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was when its header was read: what tells later whether it is still the same.

    Its first `head` bytes, all before its pixels but 1 MiB at most, have the SHA-256 `head_sha256` (hex).
    """

    bytes: int
    mtime_ns: int
    head: int
    head_sha256: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One file, as far as its pixels become voxels. Empty texts where the header says nothing."""

    path: str
    sop_uid: str
    sop_class: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    patient_id: str
    modality: str
    series_number: int | None
    study_date: str
    """StudyDate and StudyTime, to order the studies of a subject."""
    pixels: Pixels
    state: FileState
    frames: tuple[Frame, ...] = field(default=())
    planar_repetition_time: float | None = None
    """RepetitionTime in ms of echo-planar series, in each of which a whole volume is taken."""


class Member(NamedTuple):
    """One image and the file that it lies in."""

    instance: Instance
    frame: Frame
