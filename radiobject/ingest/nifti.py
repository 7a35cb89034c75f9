"""NIfTI files to voxels and metadata, without loss: nothing here knows of studies or tables.

nibabel interprets the header (affine, repairs of bad fields); the voxels are a view of the file's own bytes,
and every byte beside them is kept, so that an export gives the file back.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import struct
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from radiobject.errors import (
    GeometryError,
    SourceCorruptError,
    SourceUnsupportedError,
)
from radiobject.format.meta import Label, Scaling, SourceInfo, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.ingest.axes import HeaderAxes
from radiobject.ingest.caret import CARET, CIFTI, caret_labels, extensions
from radiobject.ingest.files import (
    PEEK_BYTES,
    Reader,
    fetch,
    fetch_first,
    foreign,
    local_reader,
    local_start,
    pair_names,
)
from radiobject.ingest.gzipped import gunzip, gunzip_start, is_gzip
from radiobject.writing.loaded import Axis4

__all__ = [
    "PEEK_BYTES",
    "Axis4",
    "NiftiGeometry",
    "NiftiImage",
    "header_labels",
    "peek_nifti",
    "read_nifti",
    "says_labels",
]

_STORED = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_REFUSED = {
    1: "1-bit binary", 32: "complex64", 128: "RGB24 colour", 1536: "float128", 1792: "complex128",
    2048: "complex256", 2304: "RGBA32 colour",
}  # fmt: skip
_SPACE = {1: "m", 2: "mm", 3: "um"}
_LABEL_INTENT = 1002
_CIFTI_INTENTS = range(3000, 3100)
_BESIDE = 64 * 2**20  # largest header with extensions, and largest remainder after the voxels
_SIZE = {1: 348, 2: 540}
_FORMATS = {
    "nifti1": Nifti1Header,
    "nifti1-pair": Nifti1PairHeader,
    "nifti2": Nifti2Header,
    "nifti2-pair": Nifti2PairHeader,
}
# nibabel reports each field it repairs to a logger; a repair changes only how we understand the header.
_SILENT = logging.Logger("radiobject.ingest.nifti", level=logging.CRITICAL + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiGeometry:
    """What a header says. `shape` and `dims` are in disk order: a subset of (t, c, z, y, x), x fastest.

    `affine` is nibabel's choice: sform, else qform, else spacing alone. `scaling` is None for identity and
    for a slope that means none (0, NaN, infinite). `time_step` is in seconds, where there is a t axis.
    `window` is cal_min and cal_max, in scaled units. `vox_offset` is where voxels start in their file.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    affine: Affine
    scaling: Scaling | None
    space_unit: str
    time_unit: str | None
    time_step: float | None
    window: tuple[float, float] | None
    intent_code: int
    intent_name: str
    vox_offset: int
    source: SourceInfo

    @property
    def nbytes(self) -> int:
        """Size of the voxels in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stored_axes(self) -> tuple[str, ...]:
        """The order of the axes of the voxels in the file, slowest first."""
        return tuple(axis for axis in reversed(self.source.file_axes) if axis != "1")

    def described(self, kind: Literal["image", "label"], labels: tuple[Label, ...]) -> VolumeMeta:
        """The same, as it is stored with a volume."""
        return VolumeMeta(
            affine=self.affine, dims=self.dims, kind=kind, scaling=self.scaling, space_unit=self.space_unit,
            time_unit=self.time_unit, time_step=self.time_step, window=self.window,
            labels=labels if kind == "label" else (), source=self.source,
        )  # fmt: skip

    def require_length(self, name: str, found: int) -> None:
        """Refuse (`SourceCorruptError`) an uncompressed file of so many bytes that is not the header's."""
        needed = self.vox_offset + self.nbytes
        if not needed <= found <= needed + _BESIDE:
            raise SourceCorruptError(
                name,
                expected=f"{needed} bytes, as its header says",
                got=f"{found}" + (", a header without voxels" if found == self.vox_offset else ""),
                hint="The file is truncated, or its header describes another one; fetch it again.",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiImage(NiftiGeometry):
    """A whole file. `voxels` has `shape` and `dtype`, C-contiguous, native byte order, and is read-only
    where it is a view of the file's bytes. Stored values: `scaling` is not applied.

    `header`: a single file's bytes up to the voxels, extensions included, or a pair's whole .hdr; `lead`:
    bytes before the voxels of an .img; `tail`: bytes after the voxels. `digest`: SHA-256 (hex) of the
    uncompressed content, of .hdr then .img for a pair. `labels`: names and colours from a Caret extension.
    """

    voxels: npt.NDArray[Any]
    header: bytes
    lead: bytes
    tail: bytes
    digest: str
    labels: tuple[Label, ...]

    def meta(self, kind: Literal["image", "label"] = "image") -> VolumeMeta:
        """The same, as it is stored with a volume."""
        return self.described(kind, self.labels)


def read_nifti(
    path: str | os.PathLike[str], *, axis4: Axis4 = "auto", reader: Reader | None = None
) -> NiftiImage:
    """Read a NIfTI-1 or NIfTI-2 file, gzipped or not, or a .hdr/.img pair by either of its names.

    `axis4` says what a fourth axis is; "auto" asks the header (a vector intent, then units, then TR).
    `reader` fetches the bytes of one file by its name; the default reads local files. Dimensions of size 1
    after the third are not axes of the result; `source.file_axes` remembers them.

    Raises `SourceNotFoundError`, `SourceCorruptError`, `SourceUnsupportedError` (colour, complex, CIFTI-2,
    Analyze, fewer than three dimensions, an affine that spans no space) or `AxisAmbiguousError`; any other
    trouble in reading is a `SourceError`.
    """
    name = os.fspath(path)
    read = reader or local_reader
    names = pair_names(name)
    if names is None:
        header, raw = b"", fetch(read, name)
        geometry = _geometry(name, _start(name, raw), axis4, pair=False)
    else:
        hdr_name, header = fetch_first(read, name, names[0])
        geometry = _geometry(hdr_name, _start(hdr_name, header), axis4, pair=True)
        name, raw = fetch_first(read, name, names[1])
        if is_gzip(header):
            header = gunzip(hdr_name, header, 0, _BESIDE)
    offset, needed = geometry.vox_offset, geometry.vox_offset + geometry.nbytes
    body = gunzip(name, raw, needed, _BESIDE) if is_gzip(raw) else raw
    geometry.require_length(name, len(body))
    digest = hashlib.sha256(header)
    digest.update(body)
    lead, tail = body[:offset], body[needed:]
    if names is None:
        header, lead = lead, b""
    return NiftiImage(
        **{field.name: getattr(geometry, field.name) for field in fields(geometry)},
        voxels=_voxels(body, geometry),
        header=header,
        lead=lead,
        tail=tail,
        digest=digest.hexdigest(),
        labels=header_labels(header, geometry),
    )


def peek_nifti(
    path: str | os.PathLike[str], *, axis4: Axis4 = "auto", reader: Reader | None = None
) -> NiftiGeometry:
    """Geometry from the first bytes of a file; of a pair, from its .hdr alone. Errors as `read_nifti`.

    `reader` may return no more than the first `PEEK_BYTES` of the file.
    """
    name = os.fspath(path)
    read = reader or local_start
    names = pair_names(name)
    if names is not None:
        name, raw = fetch_first(read, name, names[0])
    else:
        raw = fetch(read, name)
    return _geometry(name, _start(name, raw), axis4, pair=names is not None)


def says_labels(path: str | os.PathLike[str], *, reader: Reader | None = None) -> bool:
    """Whether a file says that it is a label map: unscaled integers with a label table or the label intent.

    Most label maps in the wild say neither. Reads what `peek_nifti` reads; errors as there.
    """
    name = os.fspath(path)
    read = reader or local_start
    names = pair_names(name)
    name, raw = (name, fetch(read, name)) if names is None else fetch_first(read, name, names[0])
    start = _start(name, raw)
    # what a fourth axis is has no bearing on it
    found = _geometry(name, start, "time", pair=names is not None)
    if found.dtype.kind not in "iu" or found.scaling is not None:
        return False
    header = _FORMATS[found.source.format].sizeof_hdr
    tables = (c for code, c in extensions(start, header, len(start), found.source.byteorder) if code == CARET)
    return found.intent_code == _LABEL_INTENT or any(b"<LabelTable" in content for content in tables)


def _start(name: str, raw: bytes) -> bytes:
    """The first uncompressed bytes of a file: enough for its header and the code of its first extension."""
    return gunzip_start(name, raw, PEEK_BYTES) if is_gzip(raw) else raw[:PEEK_BYTES]


def _identify(name: str, start: bytes, *, pair: bool) -> tuple[str, str]:
    """The format as `SourceInfo` names it, and the byte order; from magic and rank, not from the size."""
    magic, version, rank, at = start[344:348], 1, "h", 40
    if start[4:7] in (b"n+2", b"ni2"):
        magic, version, rank, at = start[4:8], 2, "q", 16
    if magic not in (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0") or len(start) < _SIZE[version]:
        raise foreign(name, start)
    if magic.startswith(b"ni") is not pair:
        raise SourceCorruptError(
            name,
            expected="the header of a pair" if pair else "voxels in the same file",
            got=f"magic {magic[:3].decode()!r}, which says otherwise",
            hint="Name a pair .hdr and .img, and a single file .nii.",
        )
    for order in ("<", ">"):
        if 1 <= struct.unpack_from(order + rank, start, at)[0] <= 7:
            return f"nifti{version}" + ("-pair" if pair else ""), order
    raise SourceCorruptError(name, expected="1 to 7 dimensions", got=f"dim[0] {start[at : at + 2].hex(' ')}")


def _geometry(name: str, start: bytes, axis4: Axis4, *, pair: bool) -> NiftiGeometry:
    form, order = _identify(name, start, pair=pair)
    kind = _FORMATS[form]
    header = kind(start[: kind.sizeof_hdr], endianness=order, check=False)
    dtype, intent = _dtype(name, header), int(header["intent_code"])
    axes = HeaderAxes(
        name=name,
        dim=tuple(int(n) for n in header["dim"]),
        intent=intent,
        units=int(header["xyzt_units"]),
        step=float(str(header["pixdim"][4])),
    )
    codes = [code for code, _ in extensions(start, header.sizeof_hdr, len(start), order)]
    if CIFTI in codes or (form.startswith("nifti2") and intent in _CIFTI_INTENTS):
        raise SourceUnsupportedError(
            name, expected="a volume", got="CIFTI-2 (grayordinates)", hint="Only volumes are stored."
        )
    try:
        with np.errstate(all="ignore"):
            header.check_fix(logger=_SILENT, error_level=40)
            matrix = header.get_best_affine()
            slope, inter = header.get_slope_inter()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise SourceCorruptError(
            name, expected="a valid NIfTI header", got=str(error), hint="Repair the header, then try again."
        ) from error
    file_axes, sizes = axes.named(axis4)
    dims = tuple(d for d in ("t", "c", "z", "y", "x") if d in sizes)
    window = float(header["cal_min"]), float(header["cal_max"])
    return NiftiGeometry(
        shape=tuple(sizes[d] for d in dims),
        dims=dims,
        dtype=dtype,
        affine=_affine(name, matrix),
        scaling=None if slope is None or (slope, inter) == (1, 0) else Scaling(slope, inter),
        space_unit=_SPACE.get(axes.units & 7, "mm"),
        time_unit=axes.unit,
        time_step=axes.seconds if "t" in dims else None,
        window=window if -math.inf < window[0] < window[1] < math.inf else None,
        intent_code=intent,
        intent_name=header["intent_name"].item().decode("latin-1"),
        vox_offset=_vox_offset(name, header, pair=pair),
        source=SourceInfo(form, order, exact=True, file_axes=file_axes),
    )


def _dtype(name: str, header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in _STORED:
        return np.dtype(_STORED[code])
    if code in _REFUSED:
        raise SourceUnsupportedError(
            name,
            expected="integers up to 64 bits, float32 or float64",
            got=_REFUSED[code],
            hint="Convert it to one of these types, one file for each part.",
        )
    raise SourceCorruptError(name, expected="a NIfTI datatype code", got=str(code))


def _vox_offset(name: str, header: Any, *, pair: bool) -> int:
    offset, least = float(header["vox_offset"]), 0 if pair else header.single_vox_offset
    if not least <= offset <= _BESIDE:
        raise SourceCorruptError(
            name, expected=f"voxels to start at byte {least} to {_BESIDE}", got=f"vox_offset {offset:g}"
        )
    return int(offset)


def _affine(name: str, matrix: npt.NDArray[np.float64]) -> Affine:
    try:
        return Affine(matrix)
    except GeometryError as error:
        raise SourceUnsupportedError(
            f"{name}: {error}", hint="Its sform, or qform and pixdim, span no space; repair the header."
        ) from error


def _voxels(body: bytes, geometry: NiftiGeometry) -> npt.NDArray[Any]:
    source = geometry.source
    stored = geometry.dtype.newbyteorder("<" if source.byteorder == "<" else ">")
    sizes = dict(zip(geometry.dims, geometry.shape, strict=True))
    in_file = geometry.stored_axes
    flat = np.frombuffer(body, stored, math.prod(geometry.shape), geometry.vox_offset)
    voxels = flat.reshape([sizes[axis] for axis in in_file])
    voxels = voxels.transpose([in_file.index(axis) for axis in geometry.dims])
    return np.require(voxels.astype(geometry.dtype, copy=False), requirements=("C", "A"))


def header_labels(header: bytes, geometry: NiftiGeometry) -> tuple[Label, ...]:
    """Names and colours of labels from a Caret extension of a whole header."""
    start = _FORMATS[geometry.source.format].sizeof_hdr
    for code, content in extensions(header, start, len(header), geometry.source.byteorder):
        labels = caret_labels(content) if code == CARET else ()
        if labels:
            return labels
    return ()
