"""Orientation: which way a volume lies in the body and who says so; which plane its chunks are made for."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from radiobject.config import SliceOrientation
from radiobject.format.meta import VolumeMeta
from radiobject.geometry.affine import Affine

__all__ = ["OrientationInfo", "chunk_orientation", "nifti_source", "orientation_of"]

_CODES = {348: (252, "hh"), 540: (344, "ii")}
"""Header size of NIfTI-1 and -2 -> where qform_code and sform_code stand, and their types."""


@dataclass(frozen=True)
class OrientationInfo:
    """`axcodes` (the direction in which each array axis grows) and affine of a volume, and their origin.

    `is_canonical`: the axes run to R, A, S. `source`: "nifti_sform", "nifti_qform", "dicom_iop" (positions
    and orientation of DICOM slices), "affine" (handed in with the voxels), "nifti_pixdim" (a header with
    neither transform), "identity" (an affine that a source without orientation would have, too).
    `confidence` is "unknown" for the last two, else "header".
    """

    axcodes: tuple[str, str, str]
    affine: tuple[tuple[float, ...], ...]
    is_canonical: bool
    confidence: Literal["header", "unknown"]
    source: str

    @classmethod
    def of(cls, affine: Affine, source: str) -> OrientationInfo:
        """What an affine says, on the word of `source`."""
        return cls(
            axcodes=affine.axcodes,
            affine=tuple(tuple(row) for row in affine.matrix.tolist()),
            is_canonical=affine.axcodes == ("R", "A", "S"),
            confidence="unknown" if source in ("identity", "nifti_pixdim") else "header",
            source=source,
        )


def orientation_of(meta: VolumeMeta, stored: Affine, header: bytes | None) -> OrientationInfo:
    """From a volume's meta, the affine of its stored array and, for NIfTI sources, the header."""
    source = "affine"
    if meta.source.format == "dicom":
        source = "dicom_iop"
    elif np.array_equal(stored.matrix, np.eye(4)):
        source = "identity"
    elif header is not None and len(header) >= 348:
        order = meta.source.byteorder
        at, types = _CODES.get(struct.unpack_from(f"{order}i", header)[0], _CODES[348])
        qform, sform = struct.unpack_from(order + types, header, at)
        source = nifti_source(qform, sform)
    return OrientationInfo.of(meta.affine, source)


def nifti_source(qform: int, sform: int) -> str:
    """Which transform of a NIfTI header counts, by the codes of both."""
    return "nifti_sform" if sform > 0 else "nifti_qform" if qform > 0 else "nifti_pixdim"


def chunk_orientation(chunks: Sequence[int], shape: Sequence[int]) -> SliceOrientation | None:
    """Which reads chunks of that shape (x, y, z) serve best: planes that they hold one voxel thin, or cubes.

    >>> chunk_orientation((240, 240, 1), (240, 240, 155))
    <SliceOrientation.AXIAL: 'axial'>
    """
    thin = [axis for axis in range(3) if chunks[axis] == 1 < shape[axis]]
    if len(thin) == 1:
        return (SliceOrientation.SAGITTAL, SliceOrientation.CORONAL, SliceOrientation.AXIAL)[thin[0]]
    whole = [c >= n for c, n in zip(chunks, shape, strict=True)]
    cube = len({c for c, all_of in zip(chunks, whole, strict=True) if not all_of}) < 2
    return SliceOrientation.ISOTROPIC if not thin and cube else None
