"""Single: the frame of a classic file, which holds one image."""

from __future__ import annotations

import datetime

from radiobject.errors import SourceCorruptError
from radiobject.ingest.dicom.frames import Frame, Moment, Vector
from radiobject.ingest.dicom.headers import Header

__all__ = [
    "diffusion",
    "orientation_of",
    "position_of",
    "scaling_of",
    "seconds",
    "single_frame",
    "spacing_of",
]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_MOST_MM, _MOST = 1e6, 1e30
"""What is larger, or a length below 1 / _MOST_MM, is a broken number, and would overflow."""


def single_frame(header: Header) -> Frame:
    """Geometry, scaling and order of the one image of a file."""
    b_value, gradient, isotropic = diffusion(header)
    slope, inter = scaling_of(header)
    return Frame(
        number=0,
        position=position_of(header),
        orientation=orientation_of(header),
        spacing=spacing_of(header),
        thickness=header.number("SliceThickness"),
        slope=slope,
        inter=inter,
        image_type=header.words("ImageType"),
        echo_time=header.number("EchoTime"),
        inversion_time=header.number("InversionTime"),
        flip_angle=header.number("FlipAngle"),
        b_value=b_value,
        gradient=gradient,
        kernel=header.text("ConvolutionKernel"),
        isotropic=isotropic,
        moment=Moment(
            temporal_position=_whole(header, "TemporalPositionIdentifier"),
            acquisition_number=_whole(header, "AcquisitionNumber"),
            trigger_time=header.number("TriggerTime"),
            acquired=seconds(header),
            instance_number=_whole(header, "InstanceNumber"),
        ),
    )


def position_of(header: Header) -> Vector:
    """ImagePositionPatient, mm, LPS."""
    x, y, z = header.numbers("ImagePositionPatient", 3) or _missing(header, "ImagePositionPatient")
    if max(abs(x), abs(y), abs(z)) > _MOST_MM:
        raise SourceCorruptError(
            f"{header.name}, ImagePositionPatient", expected=f"within {_MOST_MM:g} mm", got=str([x, y, z])
        )
    return x, y, z


def orientation_of(header: Header) -> tuple[float, float, float, float, float, float]:
    """ImageOrientationPatient: the directions of a row and of a column, LPS. Both of length 1 and square."""
    found = header.numbers("ImageOrientationPatient", 6) or _missing(header, "ImageOrientationPatient")
    a, b, c, d, e, f = found
    lengths = a * a + b * b + c * c, d * d + e * e + f * f
    if any(abs(n - 1) > 1e-2 for n in lengths) or abs(a * d + b * e + c * f) > 1e-2:
        raise SourceCorruptError(
            f"{header.name}, ImageOrientationPatient",
            expected="two directions of length 1 at a right angle",
            got=str(list(found)),
        )
    return a, b, c, d, e, f


def spacing_of(header: Header) -> tuple[float, float]:
    """PixelSpacing: the distances of rows and of columns, mm."""
    found = header.numbers("PixelSpacing", 2) or _missing(header, "PixelSpacing")
    if min(found) < 1 / _MOST_MM or max(found) > _MOST_MM:
        raise SourceCorruptError(
            f"{header.name}, PixelSpacing",
            expected=f"{1 / _MOST_MM:g} to {_MOST_MM:g} mm",
            got=str(list(found)),
        )
    return found[0], found[1]


def seconds(header: Header) -> float | None:
    """When the image was acquired, in seconds from 1970; None where date or time are missing or wrong."""
    text = header.text("AcquisitionDateTime") or header.text("FrameAcquisitionDateTime")
    if not text:
        date, time = (
            header.text("AcquisitionDate") or header.text("ContentDate"),
            header.text("AcquisitionTime"),
        )
        text = date.replace(".", "") + time.replace(":", "") if date and time else ""
    digits, _, fraction = text.partition(".")
    digits = digits[:14]
    try:
        if len(digits) == 14 and digits.isdigit():
            # as strptime reads it, in a tenth of the time
            month, day, hour, minute, second = (int(digits[n : n + 2]) for n in range(4, 14, 2))
            whole = datetime.datetime(
                int(digits[:4]), month, day, hour, minute, second, tzinfo=datetime.UTC
            )  # fmt: skip
        else:
            whole = datetime.datetime.strptime(digits + "+0000", "%Y%m%d%H%M%S%z")
        part = float(f"0.{fraction[:6]}") if fraction[:6].isdigit() else 0.0
    except ValueError:
        return None
    return (whole - _EPOCH).total_seconds() + part


def diffusion(header: Header) -> tuple[float | None, Vector | None, bool]:
    """b-value (s/mm2), direction (LPS), and whether the image is an isotropic map.

    From the public elements, else from those of Siemens, Philips and GE; of GE's directions none, because
    they are relative to the scan plane in ways that differ by software.
    """
    item = header.item("MRDiffusionSequence") or header
    value = _one(item, "DiffusionBValue")
    turn = (item.item("DiffusionGradientDirectionSequence") or item).binary(
        "DiffusionGradientOrientation", "FD"
    )
    said = item.text("DiffusionDirectionality")
    if value is None:
        siemens, ge = (
            header.private(0x0019, "SIEMENS MR HEADER", 0x0C),
            header.private(0x0043, "GEMS_PARM_01", 0x39),
        )
        philips = header.private(0x2001, "Philips Imaging DD 001", 0x03)
        if siemens is not None:
            value = header.number(siemens)
            place = header.private(0x0019, "SIEMENS MR HEADER", 0x0E)
            turn = None if place is None else header.binary(place, "FD")
            way = header.private(0x0019, "SIEMENS MR HEADER", 0x0D)
            said = "" if way is None else header.text(way)
        elif philips is not None:
            data = header.binary(philips, "FL")
            value = data[0] if data else None
        elif ge is not None and (number := header.number(ge)) is not None:
            value = number % 1e9  # GE adds 1e9 to some
    gradient = None
    if turn is not None and len(turn) == 3:
        gradient = (float(turn[0]), float(turn[1]), float(turn[2]))
    return value, gradient, said == "ISOTROPIC"


def _one(header: Header, keyword: str) -> float | None:
    found = header.binary(keyword, "FD")
    return found[0] if found else None


def scaling_of(header: Header) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept, 1 and 0 where they are missing. A slope of 0 is refused."""
    slope, inter = header.numbers("RescaleSlope", 1), header.numbers("RescaleIntercept", 1)
    for keyword, found in (("RescaleSlope", slope), ("RescaleIntercept", inter)):
        if found is not None and (abs(found[0]) > _MOST or (found is slope and found[0] == 0)):
            expected = f"other than 0, within {_MOST:g}" if found is slope else f"within {_MOST:g}"
            raise SourceCorruptError(f"{header.name}, {keyword}", expected=expected, got=f"{found[0]:g}")
    return 1.0 if slope is None else slope[0], 0.0 if inter is None else inter[0]


def _whole(header: Header, keyword: str) -> int | None:
    found = header.number(keyword)
    return None if found is None else int(found)


def _missing(header: Header, keyword: str) -> tuple[float, ...]:
    raise SourceCorruptError(f"{header.name}, {keyword}", expected="a value", got="none")
