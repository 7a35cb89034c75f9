"""Volume: one array of the TileDB-based package as ingest takes it; its voxels are read in the worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from radiobject.backends.tiledb.context import context_for, engine
from radiobject.errors import GeometryError, SourceUnsupportedError
from radiobject.format.meta import SourceInfo, VolumeMeta, row_text
from radiobject.geometry.affine import Affine
from radiobject.ingest.upstream.findings import Outcome
from radiobject.ingest.upstream.layout import VOXELS, ArrayFound, names_below, reading
from radiobject.location import Location

__all__ = ["UpstreamVolume", "affine_of", "numbers_of", "volume_of"]

FORMAT = "upstream-tiledb"
"""What `source_format` of an imported volume says."""

_SPACE = {1: "m", 2: "mm", 3: "um"}
_TIME = {8: "s", 16: "ms", 24: "us", 32: "hz", 40: "ppm", 48: "rads"}
_NIFTI1_MAX = 32767
_SAME_MM = 1e-3

Note = tuple[Outcome, str, str]
"""What became of it, its kind, and the text of a finding."""


@dataclass(frozen=True, eq=False)
class UpstreamVolume:
    """What `from_object` takes for a Volume. Opening it costs nothing; `to_numpy` reads the array whole.

    `fields` are the header fields that the package has kept: qform_code, sform_code, xyzt_units, scl_slope,
    scl_inter, as far as it has.
    """

    location: Location
    path: str
    obs_subject_id: str
    obs_id: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    meta: VolumeMeta
    fields: Mapping[str, float]
    header: bytes | None = field(repr=False)
    notes: tuple[Note, ...] = ()
    """What is to be said of it."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Nothing: its columns are joined by id."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Changes when the array does: every write adds files under names of its own."""
        digest = hashlib.sha256(f"{self.location.uri}\0{self.path}\0".encode())
        for part in ("__schema", "__fragments", "__commits", "__meta"):
            names = names_below(self.location, f"{self.path}/{part}", hidden=True)
            digest.update("\0".join(names).encode())
        digest.update(f"{row_text(self.meta)}{self.meta.affine.matrix.tolist()}".encode())
        return digest.hexdigest()

    def to_numpy(self, *, raw: bool = False) -> npt.NDArray[Any]:
        """The voxels, x, y, z[, t]; nothing is scaled, because that package has applied scaling itself."""
        with (
            reading(self.location, self.path) as uri,
            engine().open(uri, "r", ctx=context_for(self.location)) as array,
        ):
            voxels: npt.NDArray[Any] = array[:][VOXELS]
        return voxels[..., 0] if "t" not in self.meta.dims and voxels.ndim == 4 else voxels

    def extra(self, name: str) -> bytes | None:
        """The header, made anew of the fields that were kept."""
        return self.header if name == "nifti" else None


def volume_of(location: Location, array: ArrayFound, row: Mapping[str, Any]) -> UpstreamVolume:
    """The volume of an array, with what its row says where the array itself says nothing.

    Raises `SourceUnsupportedError` for an array that is no volume.
    """
    if array.dtype is None or not 3 <= len(array.shape) <= 4 or array.dtype.kind not in "iufb":
        raise SourceUnsupportedError(
            array.path, expected="numbers along x, y, z[, t]",
            got=f"{array.dtype} of shape {array.shape}",
        )  # fmt: skip
    said = array.meta or {}
    fields = _fields(said, row)
    affine, notes = _affine(said, row, array.shape)
    timed = array.shape[3:] > (1,)
    dims = ("t", "z", "y", "x") if timed else ("z", "y", "x")
    if timed:
        notes.append(
            ("noted", "time step", "the time between its volumes was not kept there, and is unknown")
        )
    header = None if "qform_code" not in fields else _header(array, affine, fields)
    units = int(fields.get("xyzt_units", 0))
    meta = VolumeMeta(
        affine=affine,
        dims=dims,
        space_unit=_SPACE.get(units & 7, "mm"),
        time_unit=_TIME.get(units & 0o70),
        source=SourceInfo(
            FORMAT,
            file_axes=("x", "y", "z", *(["t"] if timed else ["1"] * (len(array.shape) - 3))),
            extras=() if header is None else ("nifti",),
        ),
        original_affine=_before_turning(said, affine),
    )
    return UpstreamVolume(
        location, array.path, str(row["obs_subject_id"]), str(row["obs_id"]), array.shape, array.dtype, meta,
        fields, header, tuple(notes),
    )  # fmt: skip


def _fields(said: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    """Header fields as the array has them; those of the row for an array that was copied without."""
    names = ("qform_code", "sform_code", "xyzt_units", "scl_slope", "scl_inter")
    found = {name: said.get(f"nifti_{name}", row.get(name)) for name in names}
    return {name: number for name, value in found.items() if (number := _number(value)) is not None}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _affine(
    said: Mapping[str, Any], row: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Affine, list[Note]]:
    """The array's own affine; else the one of its row, if that speaks of this shape; else the identity."""
    own = affine_of(said.get("orientation_affine"))
    if own is not None:
        return own, []
    table, dimensions = affine_of(row.get("affine_json")), numbers_of(row.get("dimensions"))
    if table is not None and _fits(dimensions, shape):
        text = (
            "a copy made there has lost it; taken from affine_json, which is of the file that was read first"
        )
        return table, [("repaired", "affine", text)]
    why = "the array has none" if "orientation_affine" not in said else "that of the array cannot be used"
    also = ", nor has the table" if table is None else ", and that of the table is for another shape"
    return Affine.identity(), [("noted", "no affine", f"{why}{also}: it is the identity here")]


def _fits(dimensions: tuple[float, ...] | None, shape: tuple[int, ...]) -> bool:
    return dimensions is None or tuple(dimensions[:3]) == shape[:3]


def numbers_of(text: Any) -> tuple[float, ...] | None:
    """The numbers of a tuple that was stored as its text; None for anything else.

    >>> numbers_of("(1.0, 1.0, 2.5)"), numbers_of("unknown")
    ((1.0, 1.0, 2.5), None)
    """
    try:
        return tuple(float(part) for part in str(text).strip("()[] ").split(",") if part.strip()) or None
    except ValueError:
        return None


def affine_of(text: Any) -> Affine | None:
    if not isinstance(text, str):
        return None
    try:
        return Affine(np.asarray(json.loads(text), dtype=np.float64))
    except (ValueError, TypeError, GeometryError):
        return None


def _before_turning(said: Mapping[str, Any], affine: Affine) -> Affine | None:
    """The source's affine where voxels were turned; it was stored, too, where there was nothing to turn."""
    before = affine_of(said.get("original_affine"))
    return before if before is not None and before != affine else None


def _header(array: ArrayFound, affine: Affine, fields: Mapping[str, float]) -> bytes | None:
    """A NIfTI header with the fields that were kept, as its own export makes one.

    None where codes and affine contradict each other: then an export says what an affine alone can say.
    """
    q_code, s_code = int(fields.get("qform_code", 0)), int(fields.get("sform_code", 0))
    kind = Nifti2Header if max(array.shape) > _NIFTI1_MAX else Nifti1Header
    header = kind(endianness="<")
    header.set_data_dtype(np.dtype("u1") if array.dtype == np.dtype(bool) else array.dtype)
    header.set_data_shape(array.shape)
    # the step in time is not known: 0 says so, 1 would be a claim
    header.set_zooms((*affine.spacing, *(0.0 for _ in array.shape[3:])))
    if s_code > 0:
        header.set_sform(affine.matrix, s_code)
    if q_code > 0:
        header.set_qform(affine.matrix, q_code)
        if not np.allclose(header.get_qform(), affine.matrix, atol=_SAME_MM):
            header["qform_code"] = 0  # shear, which quaternions cannot hold
    if not np.allclose(header.get_best_affine(), affine.matrix, atol=_SAME_MM):
        return None
    header["xyzt_units"] = int(fields.get("xyzt_units", 0))
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    return bytes(header.binaryblock) + bytes(4)
