"""VolumeMeta <-> OME-Zarr 0.5 attributes. Pure functions; nothing here reads or writes a store.

What stands in `attributes.ome` is for the world's viewers; our own readers use `attributes.radiobject`. A
coordinate along an array axis is `scale * index + translation` and rises in the direction of that axis'
`orientation` (RFC-4). OME-Zarr 0.5 knows no rotation: of an oblique volume, scale is exact, translation is
the nearest world coordinate, and `orientation` is left out.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from radiobject.backends.base import DISK_AXES
from radiobject.errors import FormatError
from radiobject.format.meta import Label, SourceInfo, VolumeMeta
from radiobject.geometry.affine import Affine

__all__ = ["OME_VERSION", "OmeAxis", "default_rgba", "ome_attributes", "ome_axes", "read_ome"]

OME_VERSION = "0.5"

MAX_OBLIQUITY = 0.1
"""Degrees between array and world axes up to which `orientation` is written."""

_SPATIAL = ("x", "y", "z")
_TYPES = {"t": ("time",), "c": ("channel", "custom"), "z": ("space",), "y": ("space",), "x": ("space",)}
_ORIENTATIONS = {
    "R": "left-to-right", "L": "right-to-left",
    "A": "posterior-to-anterior", "P": "anterior-to-posterior",
    "S": "inferior-to-superior", "I": "superior-to-inferior",
}  # fmt: skip
_CODES = {words: code for code, words in _ORIENTATIONS.items()}
_SPACE_UNITS = {
    "mm": "millimeter", "millimeter": "millimeter",
    "um": "micrometer", "micron": "micrometer", "micrometer": "micrometer",
    "m": "meter", "meter": "meter",
}  # fmt: skip
_MILLIMETERS = {
    "meter": 1e3, "decimeter": 1e2, "centimeter": 10.0, "millimeter": 1.0, "micrometer": 1e-3,
    "nanometer": 1e-6, "inch": 25.4,
}  # fmt: skip
_SECONDS = {
    "hour": 3600.0, "minute": 60.0, "second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6,
    "nanosecond": 1e-9,
}  # fmt: skip
_NO_TIME = ("hz", "ppm", "rads")
"""NIfTI's units of a fourth axis that are no time."""


def ome_attributes(
    meta: VolumeMeta,
    name: str,
    level_scales: Sequence[tuple[str, Sequence[float]]] = (("0", (1, 1, 1)),),
    data_range: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
    integer: bool = True,
    channels: int = 1,
) -> dict[str, Any]:
    """The value of `attributes.ome` of one volume, without its "radiobject" neighbour.

    `level_scales` gives for each level, finest first, its path and by which factors its voxels are larger
    along x, y, z (levels are means or modes over whole blocks, so centres shift by half the difference).
    `data_range` is (min, max) of the voxels and `window` the display range, both in the units that reads
    return; one stands in for the other, and without both no `omero` is written. `integer` says whether the
    stored dtype is one; `channels` is the length of axis c.

    Raises `FormatError` for a label volume whose dtype is not integer or whose label values repeat.

    >>> meta = VolumeMeta(Affine.from_spacing((1, 1, 2), origin=(-90, 0, 5)), ("z", "y", "x"))
    >>> image = ome_attributes(meta, "sub-01_T1w", data_range=(0, 900))["multiscales"][0]
    >>> image["axes"][0]["orientation"]["value"]
    'inferior-to-superior'
    >>> image["datasets"][0]["coordinateTransformations"][1]
    {'type': 'translation', 'translation': [5.0, 0.0, -90.0]}
    """
    dims = tuple(d for d in DISK_AXES if d in meta.dims)
    method = "mode" if meta.kind == "label" else "mean"
    ome: dict[str, Any] = {
        "version": OME_VERSION,
        "multiscales": [
            {
                "name": name,
                "type": method,
                "metadata": {
                    "method": "radiobject",
                    "description": f"each level is the {method} over blocks",
                },
                "axes": [_axis(meta, d) for d in dims],
                "datasets": [_dataset(meta, dims, path, factors) for path, factors in level_scales],
            }
        ],
    }
    if meta.kind == "label":
        if not integer:
            raise FormatError(f"label volume {name}", expected="an integer dtype", got="floating point")
        ome["image-label"] = _image_label(meta, name)
        return ome
    full, shown = data_range or window, window or data_range
    if full is not None and shown is not None and all(math.isfinite(v) for v in (*full, *shown)):
        ome["omero"] = _omero(name, full, shown, channels)
    return ome


def default_rgba(value: int) -> tuple[int, int, int, int]:
    """The colour of a label without one: always the same for a value, far apart for neighbours; 0 is clear.

    >>> default_rgba(0), default_rgba(1)
    ((0, 0, 0, 0), (46, 207, 230, 255))
    """
    if value == 0:
        return 0, 0, 0, 0
    # Steps of the golden angle never come back to a hue; three strengths part hues that come close.
    # The first is cyan and the second amber: eyes that do not tell red from green tell these apart.
    turn = 0.52 + (value - 1) * 0.618033988749895
    strength = (0.9, 0.65, 1.0)[(value - 1) // 8 % 3]
    red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(turn % 1.0, 0.8, strength))
    return red, green, blue, 255


def _axis(meta: VolumeMeta, dim: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"name": dim, "type": _TYPES[dim][0]}
    if dim == "t" and meta.time_step is not None and meta.time_unit not in _NO_TIME:
        axis["unit"] = "second"
    if dim in _SPATIAL:
        if meta.space_unit in _SPACE_UNITS:
            axis["unit"] = _SPACE_UNITS[meta.space_unit]
        if meta.affine.obliquity <= MAX_OBLIQUITY:
            code = meta.affine.axcodes[_SPATIAL.index(dim)]
            axis["orientation"] = {"type": "anatomical", "value": _ORIENTATIONS[code]}
    return axis


def _dataset(meta: VolumeMeta, dims: tuple[str, ...], path: str, factors: Sequence[float]) -> dict[str, Any]:
    affine = meta.affine
    step = meta.time_step
    scale, translation = [], []
    for dim in dims:
        if dim in _SPATIAL:
            a = _SPATIAL.index(dim)
            fine = affine.spacing[a]
            coarse = fine * float(factors[a])
            scale.append(coarse)
            # Adding zero turns -0.0 into 0.0.
            translation.append(
                affine.signs[a] * affine.translation[affine.world_axes[a]] + (coarse - fine) / 2 + 0.0
            )
        else:
            usable = dim == "t" and step is not None and math.isfinite(step) and step > 0
            scale.append(float(step) if usable and step is not None else 1.0)
            translation.append(0.0)
    return {
        "path": path,
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": translation},
        ],
    }


def _omero(name: str, full: tuple[float, float], shown: tuple[float, float], channels: int) -> dict[str, Any]:
    window = {
        "min": float(full[0]), "max": float(full[1]), "start": float(shown[0]), "end": float(shown[1]),
    }  # fmt: skip
    labels = [name] if channels == 1 else [f"{name} {i}" for i in range(channels)]
    return {
        "name": name,
        "channels": [
            {"label": label, "active": i == 0, "color": "FFFFFF", "window": dict(window)}
            for i, label in enumerate(labels)
        ],
        "rdefs": {"model": "greyscale", "defaultT": 0},
    }


def _image_label(meta: VolumeMeta, name: str) -> dict[str, Any]:
    values = [x.value for x in meta.labels]
    if len(set(values)) != len(values):
        raise FormatError(f"labels of {name}", expected="each value once", got=str(sorted(values)))
    if not values:
        return {"version": OME_VERSION}
    return {
        "version": OME_VERSION,
        "colors": [
            {"label-value": x.value, "rgba": list(x.rgba or default_rgba(x.value))} for x in meta.labels
        ],
        "properties": [{"label-value": x.value, "name": x.name} for x in meta.labels],
    }


class OmeAxis(NamedTuple):
    """One axis: name, type ("space", "time", "channel"), and where the finest level's voxels lie on it."""

    name: str
    type: str | None
    scale: float
    translation: float


def ome_axes(attrs: Mapping[str, Any], where: str) -> tuple[OmeAxis, ...]:
    """The axes of an image in disk order, in its own units: what viewers go by that know no other metadata.

    >>> meta = VolumeMeta(Affine.from_spacing((1, 1, 2), origin=(-90, 0, 5)), ("z", "y", "x"))
    >>> ome_axes({"ome": ome_attributes(meta, "sub-01_T1w")}, "sub-01_T1w")[0]
    OmeAxis(name='z', type='space', scale=2.0, translation=5.0)
    """
    _, image = _image(attrs, where)
    with _understood(where):
        axes = [dict(axis) for axis in _items(image, "axes", where)]
        scale, offset = _placement(image, len(_dims(axes, where)), where)
        return tuple(
            OmeAxis(a["name"], a.get("type"), *at) for a, *at in zip(axes, scale, offset, strict=True)
        )


def read_ome(attrs: Mapping[str, Any], where: str, level: int = 0) -> VolumeMeta:
    """The best reading of a level of a foreign OME-Zarr 0.5 image: `attrs` are its group's attributes.

    Lengths become mm (space_unit "unknown" without a unit), times seconds. Axes without `orientation` are
    taken to run to R, A and S. Only the axes a subset of t, c, z, y, x that ends in z, y, x, and only
    positive scales and translations, are accepted; anything else is `FormatError`.
    """
    ome, image = _image(attrs, where)
    with _understood(where):
        axes = [dict(axis) for axis in _items(image, "axes", where)]
        dims = _dims(axes, where)
        scale, offset = _placement(image, len(dims), where, level)
        units = [axis.get("unit") for axis in axes[-3:]]
        known = units != [None] * 3
        to_mm = [_factor(_MILLIMETERS, unit, where) for unit in units] if known else [1.0] * 3
        directions = _directions(axes[-3:], where)
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        for a in range(3):
            i = -1 - a  # x, y, z stand last on disk, in reverse
            world, sign = directions[i]
            matrix[world, a] = sign * scale[i] * to_mm[i]
            matrix[world, 3] = sign * offset[i] * to_mm[i] + 0.0
        time = axes[0].get("unit") if dims[0] == "t" else None
        return VolumeMeta(
            affine=Affine(matrix),
            dims=dims,
            kind="label" if "image-label" in ome else "image",
            space_unit="mm" if known else "unknown",
            time_unit=None if time is None else "s",
            time_step=None if time is None else scale[0] * _factor(_SECONDS, time, where),
            window=_window(ome),
            labels=_labels(ome, where),
            source=SourceInfo("ome-zarr"),
        )


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """What foreign metadata makes of our reading of it becomes `FormatError`."""
    try:
        yield
    except FormatError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise FormatError(
            f"attributes.ome of {where}", expected=f"an OME-Zarr {OME_VERSION} image", got=repr(error)
        ) from error


def _image(attrs: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    ome = attrs.get("ome")
    version = ome.get("version") if isinstance(ome, Mapping) else None
    if not isinstance(ome, Mapping) or not (
        isinstance(version, str) and (version == OME_VERSION or version.startswith(OME_VERSION + "."))
    ):
        raise FormatError(
            f"attributes of {where}", expected=f"ome.version {OME_VERSION}", got=repr(version),
            hint="OME-Zarr 0.4 (Zarr v2) and 0.6 are not read.",
        )  # fmt: skip
    image = _items(ome, "multiscales", where)[0]
    if not isinstance(image, Mapping):
        raise FormatError(f"multiscales of {where}", expected="objects", got=type(image).__name__)
    return ome, image


def _items(owner: Mapping[str, Any], key: str, where: str) -> list[Any]:
    items = owner.get(key)
    if not isinstance(items, list) or not items:
        raise FormatError(f"{key} of {where}", expected="a list that is not empty", got=repr(items)[:80])
    return items


def _dims(axes: list[dict[str, Any]], where: str) -> tuple[str, ...]:
    names = tuple(axis["name"] for axis in axes)
    if names != tuple(d for d in DISK_AXES if d in names) or names[-3:] != ("z", "y", "x"):
        raise FormatError(
            f"axes of {where}", expected="a subset of t, c, z, y, x ending in z, y, x", got=str(names)
        )
    for axis in axes:
        allowed = (*_TYPES[axis["name"]], None)
        if axis.get("type") not in allowed:
            raise FormatError(
                f"axis {axis['name']} of {where}", expected=f"type {allowed[0]}", got=repr(axis["type"])
            )
    return names


def _placement(
    image: Mapping[str, Any], ndim: int, where: str, level: int = 0
) -> tuple[list[float], list[float]]:
    """Scale and translation of a level: its own transformations, then the whole image's."""
    scale, offset = [1.0] * ndim, [0.0] * ndim
    dataset = _items(image, "datasets", where)[level]
    steps = [*dataset["coordinateTransformations"], *image.get("coordinateTransformations", [])]
    for step in steps:
        kind = step.get("type")
        numbers = step.get(kind) if kind in ("scale", "translation") else None
        fits = isinstance(numbers, list) and len(numbers) == ndim and all(_is_number(v) for v in numbers)
        if not fits or numbers is None or (kind == "scale" and min(numbers) <= 0):
            raise FormatError(
                f"coordinateTransformations of {where}",
                expected=f"scale (positive) and translation of {ndim} numbers", got=repr(step)[:200],
            )  # fmt: skip
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, numbers, strict=True)]
            offset = [a * b for a, b in zip(offset, numbers, strict=True)]
        else:
            offset = [a + b for a, b in zip(offset, numbers, strict=True)]
    return scale, offset


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _factor(table: Mapping[str, float], unit: str | None, where: str) -> float:
    if unit is None or unit not in table:
        raise FormatError(
            f"unit of an axis of {where}", expected=f"one of {', '.join(table)}", got=repr(unit)
        )
    return table[unit]


def _directions(axes: list[dict[str, Any]], where: str) -> list[tuple[int, int]]:
    """(world axis, sign) of the axes z, y, x; RAS when none has an orientation."""
    given = [axis.get("orientation") for axis in axes]
    if given == [None] * 3:
        return [(2, 1), (1, 1), (0, 1)]
    words = [x.get("value") if isinstance(x, Mapping) else x for x in given]
    codes = [_CODES.get(x, "") if isinstance(x, str) else "" for x in words]
    found = [next((w for w, pair in enumerate(("RL", "AP", "SI")) if c and c in pair), -1) for c in codes]
    if sorted(found) != [0, 1, 2]:
        raise FormatError(
            f"orientation of the axes of {where}", expected="each of R/L, A/P and S/I once", got=str(words)
        )
    return [(w, 1 if c in "RAS" else -1) for w, c in zip(found, codes, strict=True)]


def _window(ome: Mapping[str, Any]) -> tuple[float, float] | None:
    """Display range of the first channel, in stored values; a broken one costs nothing but the hint."""
    channels = ome.get("omero", {}).get("channels") or [{}]
    window = channels[0].get("window") or {}
    start, end = window.get("start"), window.get("end")
    return (float(start), float(end)) if _is_number(start) and _is_number(end) else None


def _labels(ome: Mapping[str, Any], where: str) -> tuple[Label, ...]:
    entry = ome.get("image-label", {})
    colors = {x["label-value"]: x.get("rgba") for x in entry.get("colors", [])}
    names = {x["label-value"]: x.get("name") for x in entry.get("properties", [])}
    labels = []
    for value in {**colors, **names}:
        rgba = colors.get(value)
        sound = rgba is None or (len(rgba) == 4 and all(isinstance(v, int) and 0 <= v <= 255 for v in rgba))
        if not isinstance(value, int) or not sound:
            raise FormatError(
                f"image-label of {where}",
                expected="integer values, rgba of 0 to 255",
                got=f"{value!r}: {rgba!r}",
            )
        name = str(value) if names.get(value) is None else str(names[value])
        labels.append(Label(value, name, None if rgba is None else tuple(rgba)))
    return tuple(labels)
