"""Stored volumes back to NIfTI: byte for byte where the source was NIfTI, a fresh header otherwise."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from radiobject.errors import ConfigError, FormatError
from radiobject.format.meta import Scaling, VolumeMeta
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["NiftiContent", "nifti_bytes", "to_nibabel_image", "write_nifti"]

NiftiContent = tuple[bytes, bytes | None]
"""(whole file, None), or (.hdr, .img) of a pair; uncompressed."""

_KINDS = {
    (1, True): Nifti1Header,
    (1, False): Nifti1PairHeader,
    (2, True): Nifti2Header,
    (2, False): Nifti2PairHeader,
}
_LAYOUT_FIELDS = frozenset({"sizeof_hdr", "magic", "eol_check", "vox_offset"})
_SPACE = {"m": 1, "mm": 2, "um": 3}
_TIME = {"s": 8, "ms": 16, "us": 24, "hz": 32, "ppm": 40, "rads": 48}
_PER_SECOND = {"ms": 1_000, "us": 1_000_000}
_ALIGNED = 2  # "aligned to something": all that an affine alone can claim
_NIFTI1_MAX = 32767
_DRIFT_MM = 0.01  # a qform that puts a corner further off than this does not describe the affine
_SILENT = logging.Logger("radiobject.export.nifti", level=logging.CRITICAL + 1)


def nifti_bytes(
    meta: VolumeMeta,
    voxels: npt.NDArray[Any],
    header: bytes | None = None,
    tail: bytes = b"",
    *,
    lead: bytes = b"",
) -> NiftiContent:
    """The content of a NIfTI file, or of a pair, for stored `voxels` (axes `meta.dims`, scaling not applied).

    With `meta.source.exact` and the source's `header`, `lead` and `tail` (see `ingest.nifti.NiftiImage`) it
    is the uncompressed source, byte for byte. The header of a volume that was changed (reoriented, cropped,
    de-identified) keeps format, byte order, codes, descriptions and extensions and gets the new geometry;
    lead and tail are dropped. Without header: NIfTI-1, or NIfTI-2 where a dimension exceeds 32,767, with
    sform and, unless the affine is sheared, qform, both with code 2. NIfTI-1 rounds slope and intercept to
    float32.

    Raises `FormatError` when voxels, header and meta contradict each other.
    """
    if voxels.ndim != len(meta.dims):
        raise FormatError("voxels to export", expected=f"axes {meta.dims}", got=f"shape {voxels.shape}")
    shape = _file_shape(meta, voxels.shape)
    if header is None:
        fresh = _fresh(meta, voxels.dtype, shape)
        return b"".join((fresh.binaryblock, bytes(4), _in_file_order(meta, voxels, "<"))), None
    parsed = _parse(header)
    if meta.source.exact:
        _check(parsed, voxels.dtype, shape)
    else:
        header, parsed = _changed(meta, header, voxels.dtype, shape)
        lead = tail = b""
    body = _in_file_order(meta, voxels, parsed.endianness)
    if parsed.is_single:
        return b"".join((header, body, tail)), None
    return header, b"".join((lead, body, tail))


def write_nifti(
    path: str | os.PathLike[str], content: NiftiContent, *, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Write `nifti_bytes` to a path or URL ending in .nii, .hdr or .img, with or without .gz.

    Readers see the old file or the new one. Naming one half of a pair writes both. A pair written as .nii,
    and a single file written as .hdr and .img, keep every voxel and field; only the magic and the offset of
    the voxels change. Raises `ConfigError` for other names and `StorageError`.
    """
    place = Location(path, storage_options)
    folder, _, name = place.uri.rpartition("/")
    storage = Storage(Location(folder or "/", storage_options))
    stem, gz = (name[:-3], name[-3:]) if name.lower().endswith(".gz") else (name, "")
    stem, _, kind = stem.rpartition(".")
    if not stem or kind.lower() not in ("nii", "hdr", "img"):
        raise ConfigError(place.uri, expected="a name ending in .nii, .nii.gz, .hdr or .img", got=repr(name))
    first, second = content
    if kind.lower() == "nii":
        files = [(name, first if second is None else _as_single(first, second))]
    else:
        header, image = _as_pair(first) if second is None else (first, second)
        hdr, img = ("HDR", "IMG") if kind.isupper() else ("hdr", "img")
        files = [(f"{stem}.{img}{gz}", image), (f"{stem}.{hdr}{gz}", header)]
    for key, data in files:
        storage.replace(key, igzip.compress(data, mtime=0) if gz else data)


def to_nibabel_image(meta: VolumeMeta, array: npt.NDArray[Any], header: bytes | None = None) -> Any:
    """A nibabel image (NIfTI-1 or -2, as the source) of `array`.

    `array` has axes x, y, z[, t][, c] and the values that reads return. The affine is `meta.affine`; codes,
    descriptions and extensions come from the source's `header`; scaling is applied already, so the header
    has none. A channel axis stands where the source had it, else in the fifth dimension.
    """
    axes = _file_axes(meta)
    while axes[-1] == "1":
        axes = axes[:-1]
    sizes = dict(zip((d for d in "xyztc" if d in meta.dims), array.shape, strict=True))
    array = array.reshape([sizes.get(axis, 1) for axis in axes])
    plain = replace(meta, scaling=None)
    if header is None:
        parsed = _fresh(plain, array.dtype, array.shape)
    else:
        single = header if _parse(header).is_single else _as_single(header, b"")
        content, kind = _changed(plain, single, array.dtype, array.shape)
        try:
            parsed = type(kind).from_fileobj(io.BytesIO(content), endianness=kind.endianness, check=False)
        except HeaderDataError as error:
            raise FormatError(
                "extensions of the NIfTI header", expected="a chain that nibabel can follow", got=str(error),
                hint="to_nifti() still writes the file as it was.",
            ) from error  # fmt: skip
    image = nib.Nifti2Image if parsed.sizeof_hdr == 540 else nib.Nifti1Image
    return image(array, meta.affine.matrix, parsed, dtype=array.dtype)


def _file_axes(meta: VolumeMeta) -> tuple[str, ...]:
    """The source's axes, fastest first, where they still are those of the volume; else the standard's."""
    axes = meta.source.file_axes
    if axes[:3] == ("x", "y", "z") and sorted(a for a in axes if a != "1") == sorted(meta.dims):
        return axes
    fourth = ("t",) if "t" in meta.dims else ("1",)
    return ("x", "y", "z", *fourth, "c") if "c" in meta.dims else ("x", "y", "z", *fourth)[: len(meta.dims)]


def _file_shape(meta: VolumeMeta, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = dict(zip(meta.dims, shape, strict=True))
    return tuple(sizes.get(axis, 1) for axis in _file_axes(meta))


def _in_file_order(meta: VolumeMeta, voxels: npt.NDArray[Any], order: str) -> memoryview:
    """The bytes of the voxels with the slowest axis of the file first, in its byte order."""
    axes = [meta.dims.index(axis) for axis in reversed(_file_axes(meta)) if axis != "1"]
    wanted = voxels.dtype.newbyteorder("<" if order == "<" else ">")
    return np.ascontiguousarray(voxels.transpose(axes).astype(wanted, copy=False)).data


def _parse(header: bytes) -> Any:
    """A nibabel header of the right class, nothing repaired; nibabel guesses the byte order from dim[0]."""
    for version, magic in ((1, header[344:347]), (2, header[4:7])):
        if magic in (b"n+" + b"%d" % version, b"ni" + b"%d" % version):
            kind = _KINDS[version, magic.startswith(b"n+")]
            if len(header) >= kind.sizeof_hdr:
                return kind(header[: kind.sizeof_hdr], check=False)
    raise FormatError("stored NIfTI header", expected="NIfTI-1 or NIfTI-2", got=f"{len(header)} other bytes")


def _check(parsed: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    said = tuple(int(n) for n in parsed["dim"][1 : int(parsed["dim"][0]) + 1])
    stored = parsed.get_data_dtype().newbyteorder("=")
    if said != shape or stored != dtype.newbyteorder("="):
        raise FormatError(
            "volume to export exactly", expected=f"its source's {said} {stored}", got=f"{shape} {dtype}"
        )


def _convert(old: Any, *, single: bool, version: int | None = None) -> Any:
    """The same header as another of the four kinds, in the same byte order."""
    version = version or (2 if old.sizeof_hdr == 540 else 1)
    new = _KINDS[version, single](endianness=old.endianness)
    for name in set(old.keys()) & set(new.keys()) - _LAYOUT_FIELDS:
        new[name] = old[name]
    return new


def _assemble(new: Any, beside: bytes) -> bytes:
    """Header and extensions (`beside`, with the 4 bytes that announce them); sets where the voxels start."""
    beside = beside or bytes(4)
    if new.is_single:
        beside += bytes(-(new.sizeof_hdr + len(beside)) % 16)
        new["vox_offset"] = new.sizeof_hdr + len(beside)
    else:
        new["vox_offset"] = 0
    return bytes(new.binaryblock) + beside


def _as_single(header: bytes, image: bytes) -> bytes:
    old = _parse(header)
    front = _assemble(_convert(old, single=True), header[old.sizeof_hdr :])
    return b"".join((front, memoryview(image)[int(old["vox_offset"]) :]))


def _as_pair(content: bytes) -> tuple[bytes, bytes]:
    old = _parse(content)
    offset = int(old["vox_offset"])
    return _assemble(_convert(old, single=False), content[old.sizeof_hdr : offset]), content[offset:]


def _fresh(meta: VolumeMeta, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    header = _KINDS[2 if max(shape) > _NIFTI1_MAX else 1, True](endianness="<")
    header["vox_offset"] = header.single_vox_offset
    header["xyzt_units"] = _SPACE.get(meta.space_unit, 0) | _TIME.get(
        meta.time_unit or ("s" if meta.time_step else ""), 0
    )
    _describe(meta, header, dtype, shape)
    _set_scaling(header, meta.scaling)
    _set_transforms(header, shape, meta.affine.matrix, _ALIGNED, meta.affine.matrix, _ALIGNED)
    return header


def _changed(
    meta: VolumeMeta, header: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[bytes, Any]:
    """The header of the source with the geometry, type and scaling of what became of the volume."""
    old = _parse(header)
    wide = old.sizeof_hdr == 348 and max(shape) > _NIFTI1_MAX
    new = _convert(old, single=old.is_single, version=2 if wide else None)
    sound = old.copy()  # what nibabel, and so ingest, understood: bad fields repaired
    sound.check_fix(logger=_SILENT, error_level=100)
    before, after = sound.get_best_affine(), meta.affine.matrix
    _describe(meta, new, dtype, shape)
    slope, inter = sound.get_slope_inter()
    said = None if slope is None or (slope, inter) == (1, 0) else Scaling(slope, inter)
    if said != meta.scaling:
        _set_scaling(new, meta.scaling)
    if not np.array_equal(before, after):
        step = np.linalg.inv(before) @ after  # index in the changed volume to index in the source
        s_code, q_code = int(sound["sform_code"]), int(sound["qform_code"])
        # Where both are coded they may name different spaces: each goes through the same change of index.
        try:
            qform = sound.get_qform() @ step if s_code and q_code else after
        except (HeaderDataError, ValueError):  # unsound quaternions beside the sform that counts
            qform, q_code = after, 0
        _set_transforms(new, shape, after, s_code or q_code or _ALIGNED, qform, q_code)
        if not np.allclose(step[:3, :3], np.eye(3)):
            for name in ("dim_info", "slice_start", "slice_end", "slice_duration", "slice_code"):
                new[name] = 0  # they speak of array axes that have moved
    stop = int(old["vox_offset"]) if old.is_single else len(header)
    return _assemble(new, header[old.sizeof_hdr : stop]), new


def _describe(meta: VolumeMeta, header: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header.set_data_dtype(dtype.newbyteorder(header.endianness))
    spacing = header["pixdim"].copy()
    header.set_data_shape(shape)
    header["pixdim"] = spacing
    if meta.time_step is not None:
        header["pixdim"][4] = meta.time_step * _PER_SECOND.get(meta.time_unit or "s", 1)


def _set_scaling(header: Any, scaling: Scaling | None) -> None:
    header["scl_slope"], header["scl_inter"] = (1, 0) if scaling is None else (scaling.slope, scaling.inter)


def _set_transforms(
    header: Any,
    shape: tuple[int, ...],
    sform: npt.NDArray[np.float64],
    s_code: int,
    qform: npt.NDArray[np.float64],
    q_code: int,
) -> None:
    """Both transforms and the spacing; a qform cannot hold shear, and then is not coded."""
    header.set_qform(qform, q_code)
    header.set_sform(sform, s_code)
    drift = np.abs(header.get_qform() - qform) @ (*shape[:3], 1)
    if drift.max() > _DRIFT_MM:
        header["qform_code"] = 0
