"""VolumeMeta: what one volume says about itself besides its voxels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from radiobject.errors import FormatError, GeometryError
from radiobject.geometry.affine import Affine
from radiobject.strict import count, listed, number, one_of, text

__all__ = [
    "FORMAT",
    "MM",
    "Kind",
    "Label",
    "Scaling",
    "SourceInfo",
    "VolumeMeta",
    "require_dims",
    "row_meta",
    "row_text",
    "scaled_dtype",
]

MM = {"um": 1e-3, "m": 1e3}
"""Millimetres of a `space_unit`; one that is not here is a millimetre, or taken for one."""

FORMAT = "1.0"

Kind = Literal["image", "label"]


@dataclass(frozen=True)
class Scaling:
    """`value = slope * stored + inter`, as the source states it; None in VolumeMeta means identity.

    `dtype` is the type that scaled reads return, chosen at ingest by `scaled_dtype`. Slope 1, intercept 0 and
    a float type, which no source states, are floats of the source that are kept as integers.
    """

    slope: float
    inter: float
    dtype: str = "float64"

    @property
    def is_cast(self) -> bool:
        """Whether the stored integers are floats of the source: values are the same, of type `dtype`."""
        return (self.slope, self.inter) == (1, 0) and np.dtype(self.dtype).kind == "f"

    def apply(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Scaled values, computed in `dtype`; exact where that is an integer type."""
        wide = np.dtype(self.dtype)
        scaled: npt.NDArray[Any] = stored.astype(wide)
        if self.is_cast:
            return scaled
        if wide.kind == "i":
            # integers wrap: the result is exact because `dtype` holds it, whatever the steps between
            scaled *= np.array(int(self.slope)).astype(wide)
            scaled += np.array(int(self.inter)).astype(wide)
        else:
            scaled *= self.slope
            scaled += self.inter
        return scaled


def scaled_dtype(stored: np.dtype[Any], slope: float, inter: float, low: float, high: float) -> str:
    """The type of `slope * stored + inter` for stored values from `low` to `high`.

    Integral slope and intercept: the smallest signed integer type that holds the scaled range (CT in HU
    stays int16). Otherwise float32 for stored types of up to 16 bits, float64 beyond.

    >>> scaled_dtype(np.dtype("u2"), 1.0, -1024.0, 0, 4095)
    'int16'
    """
    if stored.kind in "iu" and float(slope).is_integer() and float(inter).is_integer():
        ends = (int(slope) * int(low) + int(inter), int(slope) * int(high) + int(inter))
        for name in ("int8", "int16", "int32", "int64"):
            info = np.iinfo(name)
            if info.min <= min(ends) and max(ends) <= info.max:
                return name
    return "float32" if stored.itemsize <= 2 else "float64"


@dataclass(frozen=True)
class Label:
    """One value of a label volume: its name and its colour as RGBA, 0 to 255."""

    value: int
    name: str
    rgba: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class SourceInfo:
    """Where the voxels came from, in the terms needed to give them back unchanged.

    `format`: "nifti1", "nifti2", "nifti1-pair", "nifti2-pair", "array" or a later ingest's name.
    `byteorder`: "<" or ">" as in the source; voxels on disk are always little-endian.
    `exact`: export gives back the source's bytes. False after reorientation or de-identification.
    `file_axes`: the source's axes, fastest first ("x", "y", "z", "t", "c"), singletons included as "1".
    `extras`: names of the byte strings kept beside the voxels ("nifti": the source's header).
    """

    format: str = "array"
    byteorder: str = "<"
    exact: bool = False
    file_axes: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeMeta:
    """Everything about a volume that is neither voxel nor table column.

    `affine` maps voxel centre indices (x, y, z) to world coordinates, RAS+, in `space_unit` (mm unless the
    source says otherwise). `time_step` is in seconds. `window` is the (low, high) display range in the
    units that reads return. `original_affine` is kept when voxels were reoriented on ingest.
    """

    affine: Affine
    dims: tuple[str, ...]
    kind: Kind = "image"
    scaling: Scaling | None = None
    space_unit: str = "mm"
    time_unit: str | None = None
    time_step: float | None = None
    window: tuple[float, float] | None = None
    labels: tuple[Label, ...] = ()
    source: SourceInfo = SourceInfo()
    original_affine: Affine | None = None

    @property
    def side(self) -> float:
        """Millimetres of the unit that the affine is in."""
        return MM.get(self.space_unit, 1.0)

    def to_json(self) -> dict[str, Any]:
        """The value of `attributes.radiobject` of a volume."""
        return {
            "type": "volume",
            "format": FORMAT,
            "affine": self.affine.matrix.tolist(),
            "axcodes": "".join(self.affine.axcodes),
            "dims": list(self.dims),
            "kind": self.kind,
            "scaling": None
            if self.scaling is None
            else {"slope": self.scaling.slope, "inter": self.scaling.inter, "dtype": self.scaling.dtype},
            "space_unit": self.space_unit,
            "time_unit": self.time_unit,
            "time_step": self.time_step,
            "window": None if self.window is None else list(self.window),
            "labels": [
                {"value": x.value, "name": x.name, "rgba": None if x.rgba is None else list(x.rgba)}
                for x in self.labels
            ],
            "source": {
                "format": self.source.format,
                "byteorder": self.source.byteorder,
                "exact": self.source.exact,
                "file_axes": list(self.source.file_axes),
                "extras": list(self.source.extras),
            },
            "original_affine": None if self.original_affine is None else self.original_affine.matrix.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> VolumeMeta:
        """Read back `to_json`. `where` names the volume in errors."""
        try:
            if data["type"] != "volume" or str(data["format"]).split(".")[0] != FORMAT.split(".")[0]:
                raise FormatError(
                    where,
                    expected=f"a volume of format {FORMAT}",
                    got=f"{data['type']} {data['format']}",
                    hint="A newer radiobject may read it.",
                )
            scaling, source, window, before = (
                data[k] for k in ("scaling", "source", "window", "original_affine")
            )
            return cls(
                affine=Affine(data["affine"]),
                dims=tuple(map(text, listed(data["dims"]))),
                kind="label" if one_of(data["kind"], "image", "label") == "label" else "image",
                scaling=None if scaling is None else _scaling(scaling),
                space_unit=one_of(data["space_unit"], "mm", *MM, "unknown"),
                time_unit=None if (unit := data["time_unit"]) is None else text(unit),
                time_step=None if (step := data["time_step"]) is None else number(step),
                window=None if window is None else _window(window),
                labels=tuple(map(_label, listed(data["labels"]))),
                source=SourceInfo(
                    text(source["format"]),
                    one_of(source["byteorder"], "<", ">"),
                    bool(source["exact"]),
                    tuple(map(text, listed(source["file_axes"]))),
                    tuple(map(text, listed(source["extras"]))),
                ),
                original_affine=None if before is None else Affine(before),
            )
        except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
            if isinstance(error, FormatError | GeometryError):
                raise
            raise FormatError(
                f"attributes.radiobject of {where}", expected="our volume keys", got=repr(error)
            ) from error


def _scaling(data: Any) -> Scaling:
    """Of a type that scaled reads return: a signed integer that holds whole numbers, or a float."""
    dtype = one_of(data["dtype"], "int8", "int16", "int32", "int64", "float32", "float64")
    made = Scaling(number(data["slope"]), number(data["inter"]), dtype)
    whole = all(v.is_integer() and abs(v) < 2**63 for v in (made.slope, made.inter))
    if dtype.startswith("int") and not whole:
        raise ValueError(f"{made.dtype} of {made.slope} * stored + {made.inter}")
    return made


def _window(data: Any) -> tuple[float, float]:
    low, high = map(number, listed(data))
    return low, high


def _label(data: Any) -> Label:
    value, rgba = data["value"], data["rgba"]
    if type(value) is not int or not -(2**63) <= value < 2**64:
        raise TypeError(f"a label's value that is no 64-bit number: {value!r:.60}")
    if rgba is not None:
        red, green, blue, alpha = (count(v) for v in listed(rgba))
        rgba = red, green, blue, alpha
        if max(rgba) > 255:
            raise ValueError(f"a colour of {rgba}")
    return Label(value, text(data["name"]), rgba)


def require_dims(meta: VolumeMeta, dims: tuple[str, ...], where: str) -> None:
    """Refuse (`FormatError`) a volume whose arrays have other axes than it says."""
    if meta.dims != dims:
        raise FormatError(f"axes of {where}", expected=f"those of its arrays, {dims}", got=str(meta.dims))


def row_text(meta: VolumeMeta) -> str:
    """The meta as the obs table keeps it: without the affine, which has a column of its own.

    Volumes of one collection mostly share this text, so that Parquet stores and we parse it once.
    """
    shared = {k: v for k, v in meta.to_json().items() if k not in ("affine", "axcodes")}
    return json.dumps(shared, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def row_meta(text: str) -> VolumeMeta:
    """The inverse of `row_text`, with the identity where the affine belongs."""
    try:
        shared = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError("column _volume", expected="JSON", got=str(error)) from error
    if not isinstance(shared, dict):
        raise FormatError("column _volume", expected="a JSON object", got=type(shared).__name__)
    return VolumeMeta.from_json({**shared, "affine": np.eye(4)}, "column _volume")
