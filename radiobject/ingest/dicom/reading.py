"""Reading: one file as an `Instance`, or why it is none that becomes a volume."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.uid import UID, ExplicitVRBigEndian

from radiobject.errors import SourceCorruptError, SourceError, SourceUnsupportedError
from radiobject.ingest.dicom.enhanced import enhanced_frames, has_positions, planar_repetition_time
from radiobject.ingest.dicom.frames import Frame, Instance, Pixels
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.mosaic import mosaic_frames
from radiobject.ingest.dicom.opening import FIRST, Start, opened, opened_bytes
from radiobject.ingest.dicom.rtstruct import RTSTRUCT_CLASSES
from radiobject.ingest.dicom.seg import SEG_CLASSES
from radiobject.ingest.dicom.single import single_frame

__all__ = ["Skip", "read_instance"]

_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that is intact and becomes no voxels. `label` is "seg" or "rtstruct" for label objects."""

    path: str
    reason: str
    label: str = ""
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str = ""
    study_date: str = ""
    sop_uid: str = ""


def read_instance(path: str, first: int = FIRST, data: bytes | None = None) -> Instance | Skip:
    """What one DICOM file holds. `first` is how many bytes to read at once; `data` the whole file, where it
    has been read already.

    `SourceCorruptError` for a file that cannot be parsed or contradicts itself, `SourceUnsupportedError` for
    an image whose geometry this version does not know how to find. Raises from the `SourceError` branch only.
    """
    start = opened(path, first) if data is None else opened_bytes(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(Header(start.dataset, path), path, start)
    except SourceError:
        raise
    except Exception as error:  # of one hostile or damaged file among thousands
        raise SourceCorruptError(path, expected="a readable DICOM header", got=repr(error)) from error


def _read(header: Header, path: str, start: Start) -> Instance | Skip:
    sop_class = header.text("SOPClassUID") or start.media_class
    image_type = header.words("ImageType")
    said: dict[str, Any] = {
        "path": path,
        "series_uid": header.text("SeriesInstanceUID"),
        "study_uid": header.text("StudyInstanceUID"),
        "patient_id": header.in_its_charset("PatientID"),
        "sop_uid": header.text("SOPInstanceUID"),
        "study_date": header.text("StudyDate") + header.text("StudyTime"),
    }
    if reason := _no_voxels(header, sop_class, image_type, start):
        label = "seg" if sop_class in SEG_CLASSES else "rtstruct" if sop_class in RTSTRUCT_CLASSES else ""
        return Skip(reason=reason, label=label, **said)
    pixels = _pixels(header, path, start)
    if "ModalityLUTSequence" in header:
        raise SourceUnsupportedError(
            path, expected="a rescale slope and intercept", got="a modality look-up table"
        )
    frames: tuple[Frame, ...]
    if "PerFrameFunctionalGroupsSequence" in header or "SharedFunctionalGroupsSequence" in header:
        if not has_positions(header):
            return _nowhere(header, said)
        frames = enhanced_frames(header, pixels.frames)
    elif "MOSAIC" in image_type:
        pixels, frames = mosaic_frames(header, pixels)
    elif "VFRAME" in image_type:
        raise SourceUnsupportedError(
            path, expected="a position of each slice",
            got="a UIH VFRAME image, which keeps them in private elements",
            hint="Convert the series with dcm2niix and ingest the NIfTI.",
        )  # fmt: skip
    elif pixels.frames > 1:
        return Skip(reason="many frames without a position for each", **said)
    elif "ImagePositionPatient" not in header or "ImageOrientationPatient" not in header:
        return _nowhere(header, said)
    else:
        frames = (single_frame(header),)
    number = header.number("SeriesNumber")
    return Instance(
        sop_class=sop_class,
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        modality=header.text("Modality"),
        series_number=None if number is None else int(number),
        pixels=pixels,
        state=start.state,
        frames=frames,
        planar_repetition_time=planar_repetition_time(header),
        **said,
    )


def _nowhere(header: Header, said: dict[str, Any]) -> Skip:
    return Skip(reason=f"no position in space ({header.text('Modality') or 'no modality'})", **said)


def _no_voxels(header: Header, sop_class: str, image_type: tuple[str, ...], start: Start) -> str:
    """Why an object is no part of a volume, "" for one that may be."""
    if not sop_class:
        raise SourceCorruptError(
            f"{header.name}, SOPClassUID", expected="what kind of object it is", got="none",
            hint="The file was cut short, or is no DICOM file.",
        )  # fmt: skip
    name = _name(sop_class)
    if sop_class in SEG_CLASSES or sop_class in RTSTRUCT_CLASSES or sop_class == _DOSE:
        return name
    if start.rest[:4] not in _PIXELS and not (start.syntax and UID(start.syntax).is_deflated):
        # pydicom takes the end of a file for the end of its header: an image that lost its pixels was cut
        if name.endswith("Image Storage") or "Rows" in header:
            raise SourceCorruptError(
                header.name, expected="pixels", got=f"none ({name})", hint="The file was cut short."
            )
        return f"no pixels ({name})"
    if sop_class == _CAPTURES or sop_class.startswith(_CAPTURES + "."):
        return "secondary capture"
    if any("LOCALIZER" in word for word in image_type):
        return "localizer"
    if (header.count("SamplesPerPixel") or 1) > 1 or header.text("PhotometricInterpretation").startswith(
        "PAL"
    ):
        return "colour"
    return ""


_FLOATING = (b"\xe0\x7f\x08\x00", b"\x7f\xe0\x00\x08", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x09")
"""Float Pixel Data and Double Float Pixel Data, little and big endian."""

_PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10", *_FLOATING)
"""The same, and Pixel Data."""

_BIG = b"\x7f\xe0"
"""Their group in big endian."""


@lru_cache(1024)
def _name(uid: str) -> str:
    """What the standard calls it, the UID itself where it does not."""
    return UID(uid).name


@lru_cache(1024)
def _standard(syntax: str) -> UID | None:
    """A transfer syntax that the standard has; to ask for each file takes as long as to read its position."""
    found = UID(syntax)
    return None if found.is_private or not found.is_transfer_syntax else found


def _syntax(header: Header, path: str, said: str) -> UID:
    if not said:
        implicit, little = header.dataset.original_encoding
        said = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else ExplicitVRBigEndian
    found = _standard(said)
    if found is None:
        raise SourceUnsupportedError(path, expected="a standard transfer syntax", got=said)
    return found


def _pixels(header: Header, path: str, start: Start) -> Pixels:
    syntax, rest = _syntax(header, path, start.syntax), start.rest
    sizes = {k: header.count(k) for k in ("Rows", "Columns", "BitsAllocated")}
    frames = header.number("NumberOfFrames")
    count = 1 if frames is None else int(frames)
    for keyword, value in {**sizes, "NumberOfFrames": count}.items():
        if value is None or value < 1:
            raise SourceCorruptError(f"{path}, {keyword}", expected="1 or more", got=str(value))
    floating = rest[:4] in _FLOATING
    bits = sizes["BitsAllocated"] or 0
    big = syntax == ExplicitVRBigEndian
    native = not syntax.is_encapsulated and not syntax.is_deflated
    if big:
        # bytes may stand there in words, swapped; and some files only say that they are big-endian
        native = bits > 8 and rest[:2] == _BIG
    # group, element, then in explicit syntaxes the VR and two reserved bytes; then the length
    # as the file has it: some say one syntax and are written in the other, which pydicom forgives
    before = 8 if rest[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN") else 4
    length = struct.unpack(">I" if big else "<I", rest[before : before + 4])[0] if native else None
    found = Pixels(
        rows=sizes["Rows"] or 0,
        columns=sizes["Columns"] or 0,
        frames=count,
        bits_allocated=bits,
        bits_stored=header.count("BitsStored") or bits,
        signed=header.count("PixelRepresentation") == 1,
        floating=floating,
        syntax=str(syntax),
        native=native,
        offset=start.after + before + 4,
        length=length,
        big_endian=big,
    )
    _check_pixels(found, path, start.state.bytes)
    high = header.count("HighBit")
    if high is not None and not floating and high != found.bits_stored - 1:
        raise SourceUnsupportedError(f"{path}, HighBit", expected=str(found.bits_stored - 1), got=str(high))
    return found


def _check_pixels(pixels: Pixels, path: str, size: int) -> None:
    if pixels.bits_allocated not in ((32, 64) if pixels.floating else (8, 16, 32)):
        raise SourceUnsupportedError(
            f"{path}, BitsAllocated", expected="8, 16 or 32", got=str(pixels.bits_allocated)
        )
    if not 1 <= pixels.bits_stored <= pixels.bits_allocated:
        raise SourceCorruptError(
            f"{path}, BitsStored", expected=f"1 to {pixels.bits_allocated}", got=str(pixels.bits_stored)
        )
    wanted = pixels.rows * pixels.columns * pixels.frames * pixels.bits_allocated // 8
    if pixels.length is None:
        return
    if pixels.length == _UNDEFINED:
        raise SourceCorruptError(
            path, expected=f"plain pixels ({UID(pixels.syntax).name})", got="compressed ones"
        )
    there = min(pixels.length, size - pixels.offset)
    # more than padding: rows, columns, frames or bits are not what they are said to be
    if there < wanted or there >= 2 * wanted:
        raise SourceCorruptError(
            path,
            expected=f"{wanted:,} bytes of pixels ({pixels.frames} x {pixels.rows} x {pixels.columns})",
            got=f"{max(there, 0):,}",
            hint="The file was cut short; fetch it again." if there < wanted else None,
        )
