"""Layers: volumes as Neuroglancer sees them, in one world: x, y, z in mm (RAS+), t in seconds.

Neuroglancer knows no voxel centres: voxel i of a source fills its coordinates from i to i + 1. Those of an
OME-Zarr image it moves, so that the centre lies at `i + translation / scale`; in an array that this process
hands to it, the centre lies at `i + 1/2`. `world_transform` takes either to where our affine puts the centre.
Volumes are in mm here: `units.in_mm` makes them so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import neuroglancer
import numpy as np
import numpy.typing as npt
from tornado.web import HTTPError

from radiobject.backends.zarr.volume import ZarrHandle
from radiobject.errors import RadiObjectError
from radiobject.format.ome import ome_axes, read_ome
from radiobject.show.appearance import Rgba, label_colours, labels_of, window_of
from radiobject.show.viewer.files import VolumeFiles

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = [
    "WORLD",
    "Axis",
    "Source",
    "label_document",
    "layer_of",
    "seconds_of",
    "source_of",
    "space_of",
    "world_transform",
]

_log = logging.getLogger(__name__)

WORLD = dict.fromkeys("xyz", (1.0, "mm"))
"""The dimensions that all layers share, with their scale and unit."""

_DRAWN = {
    "image": {"u1", "i1", "u2", "i2", "u4", "i4", "f4"},
    "label": {"u1", "i1", "u2", "i2", "u4", "i4", "u8"},
}
"""Element types that the page can draw, by kind of volume."""

_LISTED = 255
"""Labels without a name are listed up to this value."""


@dataclass(frozen=True)
class Axis:
    """An axis of a source: its name there, which of x, y, z, t, c it is, and where voxel 0 has its centre."""

    name: str
    letter: str
    centre: float


@dataclass(frozen=True)
class Source:
    """How the voxels of a volume come to the browser.

    With `files` it reads them itself: of a stored OME-Zarr volume, all of it, of a type that the page can
    draw. Without, this process reads the boxes that the browser asks for: of volumes on other backends or in
    memory, those sliced, turned or resampled, and of 64-bit types. `attrs` are the stored volume's own.
    """

    volume: Volume
    axes: tuple[Axis, ...]
    files: VolumeFiles | None
    attrs: Mapping[str, Any]


def source_of(volume: Volume) -> Source:
    """How a volume can be shown. Reads its metadata, no voxel."""
    handle = volume._handle
    whole = volume.uri is not None  # no part of a stored volume, and nothing computed from it
    if whole and isinstance(handle, ZarrHandle) and volume.stored_dtype.str[1:] in _DRAWN[volume.meta.kind]:
        attrs = handle.attrs
        axes = tuple(
            Axis(f"{a.name}'" if a.type == "channel" else a.name, a.name, a.translation / a.scale)
            for a in ome_axes(attrs, handle.uri)
        )
        return Source(volume, axes, VolumeFiles(*handle.place, handle.levels), attrs)
    return Source(volume, tuple(Axis(a, a, 0.5) for a in volume.axes), None, {})


def world_transform(volume: Volume, axes: Sequence[Axis]) -> neuroglancer.CoordinateSpaceTransform:
    """The transform from a source's coordinates, with `axes` in its order, to the world.

    The matrix takes lengths to lengths, so that its columns are direction cosines; its last column is in
    units of the world's dimensions (mm). Time without a step, and channels, stay dimensions of the layer:
    such names end in an apostrophe.
    """
    affine, spacing, step = volume.affine, volume.spacing, seconds_of(volume)
    places = {axis.letter: place for place, axis in enumerate(axes)}
    matrix = np.zeros((len(axes), len(axes) + 1))
    matrix[:3, -1] = affine[:3, 3]
    for column, letter in enumerate("xyz"):
        matrix[:3, places[letter]] = affine[:3, column] / spacing[column]
        matrix[:3, -1] -= affine[:3, column] * axes[places[letter]].centre
    inputs = {letter: (s, "mm") for letter, s in zip("xyz", spacing, strict=True)}
    inputs |= {"t": (1.0, "") if step is None else (step, "s"), "c": (1.0, "")}
    outputs = dict(WORLD)
    for row, letter in enumerate((a.letter for a in axes if a.letter in "tc"), start=3):
        matrix[row, places[letter]], matrix[row, -1] = 1, -axes[places[letter]].centre
        outputs["t" if letter == "t" and step is not None else f"{letter}'"] = inputs[letter]
    return neuroglancer.CoordinateSpaceTransform(
        input_dimensions=space_of({axis.name: inputs[axis.letter] for axis in axes}),
        output_dimensions=space_of(outputs),
        matrix=matrix,
    )


def seconds_of(volume: Volume) -> float | None:
    """Time from one volume of a series to the next; None without an axis t, or when it is not known."""
    step = volume.meta.time_step if "t" in volume.axes else None
    return step if step and volume.meta.time_unit not in ("hz", "ppm", "rads") else None


def space_of(dimensions: Mapping[str, tuple[float, str]]) -> neuroglancer.CoordinateSpace:
    """Dimensions in order, each with its scale and unit."""
    scales, units = zip(*dimensions.values(), strict=True)
    return neuroglancer.CoordinateSpace(names=list(dimensions), scales=list(scales), units=list(units))


def layer_of(source: Source, url: str) -> neuroglancer.Layer:
    """The layer of a volume. `url` is the folder that its files and its `label_document` are served in."""
    volume = source.volume
    label = volume.meta.kind == "label"
    transform = world_transform(volume, source.axes)
    if source.files is not None:
        data = neuroglancer.LayerDataSource(url=f"{url}|zarr3:", transform=transform)
    else:
        local = neuroglancer.LocalVolume(
            _Boxes(volume), transform.input_dimensions, "segmentation" if label else "image"
        )
        # a surface would be made of all voxels, and of stored volumes there is none either
        data = neuroglancer.LayerDataSource(url=local, transform=transform, subsources={"meshes": False})
    layer = _label_layer(volume, data, url) if label else _image_layer(source, data)
    own = [name for name in transform.output_dimensions.names if name.endswith("'")]
    if own:  # from its first time point and channel on; Neuroglancer would begin in the middle
        layer.local_dimensions = space_of(dict.fromkeys(own, (1.0, "")))
        layer.local_position = [0] * len(own)
    return layer


def _image_layer(source: Source, data: neuroglancer.LayerDataSource) -> neuroglancer.ImageLayer:
    controls = {"normalized": {"range": list(_range(source))}}
    return neuroglancer.ImageLayer(source=data, shader_controls=controls, opacity=1, tab="rendering")


def _label_layer(
    volume: Volume, data: neuroglancer.LayerDataSource, url: str
) -> neuroglancer.SegmentationLayer:
    names = _names(volume)
    return neuroglancer.SegmentationLayer(
        source=[data, neuroglancer.LayerDataSource(url=f"{url}labels/|neuroglancer-precomputed:")],
        segments=list(names) if _all_listed(volume) else [],  # none selected shows every one
        segment_colors={value: "#" + bytes(rgba[:3]).hex() for value, (_, rgba) in names.items()},
        selected_alpha=0.4,
        tab="segments",
    )


def label_document(volume: Volume) -> bytes:
    """Names of labels as Neuroglancer's segment properties: `info` in the folder `labels/`."""
    names = _names(volume)
    column = {"id": "label", "type": "label", "values": [name for name, _ in names.values()]}
    inline = {"ids": [str(value) for value in names], "properties": [column]}
    return json.dumps({"@type": "neuroglancer_segment_properties", "inline": inline}).encode()


class _Boxes:
    """A volume as the array that Neuroglancer's server takes boxes of."""

    def __init__(self, volume: Volume) -> None:
        self._volume, self.shape, self.dtype = volume, volume.shape, volume.dtype
        if volume.dtype.str[1:] not in _DRAWN[volume.meta.kind]:
            self.dtype = np.dtype("u8" if volume.meta.kind == "label" else "f4")

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        try:
            found: npt.NDArray[Any] = self._volume[key]
        except RadiObjectError as error:
            _log.warning("the viewer got no voxels: %s", error)
            raise HTTPError(502) from error
        return found.astype(self.dtype, copy=False)


def _names(volume: Volume) -> dict[int, tuple[str, Rgba]]:
    """Name and colour of each label: of those that have a name, and of all where the largest is small."""
    values = set(label_colours(volume))
    if _all_listed(volume):
        values.update(range(1, int(volume.metadata["intensity_max"]) + 1))
    # Neuroglancer's ids have no sign
    return labels_of(volume, sorted(value for value in values if value > 0))


def _all_listed(volume: Volume) -> bool:
    """Whether `_names` has every label that occurs, by what the row of the whole volume says."""
    largest = volume.metadata.get("intensity_max")
    return largest is not None and largest <= _LISTED


def _range(source: Source) -> tuple[float, float]:
    """What is drawn black and white, in the values that the browser reads: the stored ones of its files."""
    low, high = _window(source)
    scaling, dtype = source.volume.meta.scaling, source.volume.stored_dtype
    if source.files is None:
        return low, high
    if scaling is not None:
        low, high = ((value - scaling.inter) / scaling.slope for value in (low, high))
    if dtype.kind == "f":
        return low, high
    info = np.iinfo(dtype)
    low, high = (min(max(round(value), info.min), info.max) for value in (low, high))
    return (low, high) if low != high else (high - 1, high) if high > info.min else (low, low + 1)


def _window(source: Source) -> tuple[float, float]:
    """As `window_of`; of a volume without a row what viewers go by, so that no voxel is read."""
    volume, scaling = source.volume, source.volume.meta.scaling
    if source.files is None or volume.metadata or volume.meta.window is not None:
        return window_of(volume)
    stored = read_ome(source.attrs, str(volume.uri)).window
    if stored is None or scaling is None:
        return stored or window_of(volume)
    low, high = sorted(scaling.slope * value + scaling.inter for value in stored)
    return low, high
