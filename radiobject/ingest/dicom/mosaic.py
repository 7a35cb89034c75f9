"""Mosaic: the slices that Siemens scanners tile into one square image."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.ingest.dicom.frames import Frame, Pixels
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.single import single_frame

__all__ = ["mosaic_frames", "tile_shape"]

Vector = npt.NDArray[np.float64]

_CREATOR = "SIEMENS CSA HEADER"
_SLICE = re.compile(r"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(\S+)")
_SIZE = re.compile(r"sSliceArray\.lSize\s*=\s*(0x[0-9a-fA-F]+|\d+)")
_SAME_PLACE = 1.0
"""mm between two places that are one."""

_HINT = "Convert the series with dcm2niix and ingest the NIfTI."


def mosaic_frames(header: Header, pixels: Pixels) -> tuple[Pixels, tuple[Frame, ...]]:
    """A frame for each tile; `Frame.number` counts the tiles along the rows of the sheet.

    The number of slices and the direction from one to the next are the scanner's own words: elements
    (0019,100a), (0029,1010) and the protocol in (0029,1020). ImagePositionPatient is where the first voxel
    would be if the whole sheet were one slice around the same centre, so that the first voxel of a tile is
    half the difference further in (https://nipy.org/nibabel/dicom/dicom_mosaic.html).

    Raises `SourceUnsupportedError` where the scanner's words are gone: the sheet itself is no volume.
    """
    csa, protocol = _csa(header), _protocol(header)
    count = _count(header, csa, protocol)
    if count is None:
        raise SourceUnsupportedError(
            header.name, expected="the number of slices in its private elements",
            got="a Siemens mosaic without them", hint=_HINT,
        )  # fmt: skip
    found = replace(pixels, tiles=count)
    rows, columns = tile_shape(found, header.name)
    whole = single_frame(header)
    row = np.array(whole.orientation[:3])
    column = np.array(whole.orientation[3:])
    step = _step(header, csa, protocol, whole, found)
    first = np.array(whole.position)
    first += row * whole.spacing[1] * (pixels.columns - columns) / 2
    first += column * whole.spacing[0] * (pixels.rows - rows) / 2
    places = [tuple((first + step * n).tolist()) for n in range(count)]
    return found, tuple(replace(whole, number=n, position=place) for n, place in enumerate(places))


def tile_shape(pixels: Pixels, name: str) -> tuple[int, int]:
    """Rows and columns of one tile: the sheet is the smallest square of tiles that holds them."""
    side = math.isqrt(pixels.tiles - 1) + 1
    if pixels.rows % side or pixels.columns % side:
        raise SourceCorruptError(
            name,
            expected=f"a sheet of {side} x {side} tiles for {pixels.tiles} slices",
            got=f"{pixels.rows} x {pixels.columns} pixels",
        )
    return pixels.rows // side, pixels.columns // side


def _csa(header: Header) -> dict[str, Any]:
    """The tags of the image's CSA header, none where it is missing."""
    tag = header.private(0x0029, _CREATOR, 0x10)
    data = None if tag is None else header.bytes(tag)
    if data is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its DICOM readers are young; the one of these tags is not
        from nibabel.nicom import csareader
    try:
        tags: dict[str, Any] = csareader.read(data)["tags"]
    except (csareader.CSAReadError, KeyError, ValueError, OverflowError) as error:
        raise SourceCorruptError(
            f"{header.name}, CSA header", expected="its tags", got=repr(error)
        ) from error
    return tags


def _protocol(header: Header) -> str:
    """The protocol as text, in the CSA header of the series."""
    for tag in (header.private(0x0029, _CREATOR, 0x20), 0x00291020):
        data = None if tag is None else header.bytes(tag)
        if data is not None:
            return data.decode("latin-1")
    return ""


def _count(header: Header, csa: dict[str, Any], protocol: str) -> int | None:
    tag = header.private(0x0019, "SIEMENS MR HEADER", 0x0A)
    said = None if tag is None else header.binary(tag, "US")
    if said is None and (items := csa.get("NumberOfImagesInMosaic", {}).get("items")):
        said = (items[0],)
    if said is None and (match := _SIZE.search(protocol)):
        said = (int(match[1], 0),)
    count = 0 if said is None else int(said[0])
    return count if 0 < count <= 4096 else None


def _step(header: Header, csa: dict[str, Any], protocol: str, whole: Frame, pixels: Pixels) -> Vector:
    """From one tile to the next, mm, LPS.

    The protocol lists the centres of all slices, from one end to the other, but scanners may number images
    from the other end: the centre of the sheet is that of its first tile, and tells which end that is.
    """
    row, column = np.array(whole.orientation[:3]), np.array(whole.orientation[3:])
    centre = np.array(whole.position)
    centre += row * whole.spacing[1] * pixels.columns / 2 + column * whole.spacing[0] * pixels.rows / 2
    places: dict[int, list[float]] = {}
    for number, axis, value in _SLICE.findall(protocol):
        places.setdefault(int(number), [0.0, 0.0, 0.0])["SCT".index(axis[0])] = float(value)
    last = pixels.tiles - 1
    if last > 0 and set(places) == set(range(pixels.tiles)):
        ends = np.array(places[0]), np.array(places[last])
        for here, there in (ends, ends[::-1]):
            if np.linalg.norm(centre - here) < _SAME_PLACE:
                found: Vector = (there - here) / last
                return found
    said, distance = csa.get("SliceNormalVector", {}).get("items"), header.number("SpacingBetweenSlices")
    if not said or len(said) != 3 or not distance or distance <= 0:
        raise SourceUnsupportedError(
            header.name, expected="the slices' distance and direction in its private elements",
            got="a Siemens mosaic without them", hint=_HINT,
        )  # fmt: skip
    normal = np.cross(row, column)
    return normal * math.copysign(distance, float(np.dot([float(n) for n in said], normal)))
