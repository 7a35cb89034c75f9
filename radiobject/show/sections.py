"""Sections: the three anatomical planes of a volume through one point, as a screen shows them.

There are two ways to cut an oblique volume. `planes="scan"` cuts along the array axes nearest to anatomy:
what was measured, nothing interpolated. Letters beside such a plane name a second direction where an axis
leans ("AS"), as DICOM's Patient Orientation does. `planes="world"` cuts along the axes of the world, and
interpolates. Without obliquity both are the same.

Whatever else is laid on a section (labels, a second image) is interpolated at its pixels by affine.
Volumes are in mm here: `units.in_mm` makes them so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, GeometryError, IndexingError, SelectionError
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box
from radiobject.geometry.planes import PLANES, Plane
from radiobject.geometry.resample import Grid, GridMap
from radiobject.show.units import decimals

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = [
    "Letters",
    "Planes",
    "Section",
    "checked_point",
    "facts_of",
    "frame_of",
    "lean_of",
    "moment_of",
    "point_of",
    "reaches",
    "screen_letters",
    "sections",
]

Planes = Literal["scan", "world"]
"""How an oblique volume is cut: as it was scanned, or along the axes of the world."""

Letters = tuple[str, str, str, str]
"""What lies to the left, right, top and bottom of a picture: R, L, A, P, S, I, or two or three of them."""

Point = tuple[float, float, float]

_SCREEN = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Of an array whose axes run to L, P and I: the axis along the columns, down the rows, and the one cut."""

_CODES = (("L", "R"), ("P", "A"), ("I", "S"))

_LEAN = 0.1
"""Direction cosine (about 6 degrees) from which a letter is added for a second direction."""

_STRAIGHT = 1e-3
"""Degrees of obliquity below which the array axes are those of the world."""

_MOST_VOXELS = 2**21
"""Of a volume that a section crosses at an angle, so many are read at a time: a cube of 128."""

_MOST_PIXELS = 1024
"""A section along the axes of the world has at most this many pixels a side."""


@dataclass(frozen=True, eq=False)
class Section:
    """One plane as a grid of screen pixels: rows from top to bottom, columns from left to right.

    `shape` is (rows, columns). `affine` maps (column, row, 0) at pixel centres to RAS+ mm. `cross` is where
    the point lies, as (column, row); it may lie between pixels.
    """

    plane: Plane
    shape: tuple[int, int]
    affine: Affine
    cross: tuple[float, float]

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance in mm between rows, and between columns."""
        column, row, _ = self.affine.spacing
        return row, column

    @property
    def letters(self) -> Letters:
        """What lies to the left, right, top and bottom."""
        return screen_letters(self.affine)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, top and bottom edge in mm from the point, to the right and down."""
        (row_mm, column_mm), (rows, columns), (column, row) = self.spacing, self.shape, self.cross
        return (
            (-0.5 - column) * column_mm,
            (columns - 0.5 - column) * column_mm,
            (-0.5 - row) * row_mm,
            (rows - 0.5 - row) * row_mm,
        )

    def read(self, volume: Volume) -> npt.NDArray[Any]:
        """The values of a 3D volume at the pixels, (rows, columns).

        Images are linear between voxels, as floats, NaN outside; labels are of the nearest voxel, 0 outside.
        Reads the chunks of the plane where the volume's axes are those of the section; else those of small
        boxes along it.
        """
        rows, columns = self.shape
        fill = 0 if volume.meta.kind == "label" else np.nan
        shown = volume.resample(like=((columns, rows, 1), self.affine), fill=fill)
        plan = GridMap.between(volume.meta.affine, volume.shape, self.affine, (columns, rows, 1), 0)
        found = np.empty(self.shape, shown.dtype)
        for tile in _tiles(plan, Box((0, 0, 0), (columns, rows, 1))):
            column, row, _ = tile.slices
            found[row, column] = shown[column, row, 0].T
        return found


def sections(
    volume: Volume, at: Sequence[float] | None = None, planes: Planes = "scan"
) -> tuple[Section, Section, Section]:
    """The axial, coronal and sagittal section of a 3D volume through the world point `at` (mm, RAS+).

    No voxel is read. `at` is `point_of` unless given. Raises `IndexingError` when it lies outside.

    >>> import numpy as np
    >>> from radiobject import Volume
    >>> axial, *_ = sections(Volume.from_numpy(np.zeros((9, 9, 5), "i2"), np.diag([1, 1, 3, 1])), (2, 8, 6))
    >>> axial.shape, axial.spacing, axial.letters, axial.cross
    ((9, 9), (1.0, 1.0), ('R', 'L', 'A', 'P'), (6.0, 0.0))
    """
    if planes not in ("scan", "world"):
        raise ConfigError("planes=", expected="'scan' or 'world'", got=repr(planes))
    point = point_of(volume, at)
    scanned = planes == "scan" or volume.obliquity < _STRAIGHT
    shape, affine = _as_scanned(volume) if scanned else _along_the_world(volume)
    place = affine.inverse().apply(point)
    found = []
    for plane in PLANES:
        column, row, cut = _SCREEN[plane]
        start = np.zeros(3)
        # what was scanned are whole voxels; a plane of the world goes through the point itself
        start[cut] = _nearest(place, shape)[cut] if scanned else place[cut]
        matrix = affine.matrix[:, [column, row, cut, 3]].copy()
        matrix[:3, 3] = affine.apply(start)
        size, cross = (shape[row], shape[column]), (float(place[column]), float(place[row]))
        found.append(Section(plane, size, Affine(matrix), cross))
    axial, coronal, sagittal = found
    return axial, coronal, sagittal


def point_of(volume: Volume, at: Sequence[float] | None = None) -> Point:
    """`at` checked; else the centre of the voxel in the middle of what is not background, in mm, RAS+.

    Where the tables do not say what is background, it is the middle of the volume. Raises `GeometryError` for
    what is no point, `IndexingError` for one that lies outside the volume.
    """
    affine = volume.meta.affine
    if at is None:
        middle = affine.apply([(n - 1) / 2 for n in volume.shape[:3]])
        box, matrix = (volume.metadata.get(name) for name in ("nonzero_box", "affine"))
        if box is not None and matrix is not None:  # of the stored volume, which may lie otherwise
            stored = Affine(np.reshape(matrix, (4, 4)))
            wanted = stored.apply((np.array(box[:3]) + box[3:] - 1) / 2)
            middle = wanted if reaches(volume, wanted) else middle
        turned = affine.reorientation("RAS", volume.shape).affine
        x, y, z = turned.apply(np.floor(turned.inverse().apply(middle) + 0.5 - 1e-6)).tolist()
        return x, y, z
    point = checked_point(at)
    if not reaches(volume, point):
        low, high = _reach(volume)
        n = decimals(volume.spacing)
        span = " by ".join(f"{a:.{n}f} to {b:.{n}f}" for a, b in zip(low, high, strict=True))
        raise IndexingError(
            f"at= of {volume.obs_id or 'volume'}",
            expected=f"a point inside it, within {span} mm",
            got=f"{at}",
        )
    return point


def checked_point(at: Sequence[float]) -> Point:
    """Three numbers; `GeometryError` for anything else."""
    try:
        x, y, z = (float(v) for v in at)
    except (TypeError, ValueError) as error:
        raise GeometryError("at=", expected="three numbers in mm, RAS+", got=repr(at)) from error
    return x, y, z


def reaches(volume: Volume, point: Sequence[float] | npt.NDArray[np.float64]) -> bool:
    """Whether a world point (mm, RAS+) lies in a voxel of the volume."""
    if not np.isfinite(point).all():
        return False
    place = volume.meta.affine.inverse().apply(point)
    return bool(((place >= -0.5 - 1e-6) & (place <= np.array(volume.shape[:3]) - 0.5 + 1e-6)).all())


def frame_of(volume: Volume, t: int | None = None, c: int | None = None) -> Volume:
    """The lazy 3D volume of one time point and channel, the first ones unless said.

    Raises `SelectionError` for an axis that the volume does not have, `IndexingError` outside it.
    """
    given = {"t": t, "c": c}
    for axis, index in given.items():
        if index is not None and axis not in volume.axes:
            raise SelectionError(
                f"{axis}= of {volume.obs_id or 'volume'}", expected=f"axes {volume.axes}", got=repr(index)
            )
    return volume.slicer[(..., *(given[axis] or 0 for axis in volume.axes[3:]))]


def moment_of(overlay: Volume, volume: Volume, t: int | None) -> tuple[int | None, str]:
    """The overlay's time point beside `t` of the volume, and what a viewer must know of it.

    It is the same one where both have equally many, else the overlay's first.
    """
    mine, below = (dict(zip(v.axes, v.shape, strict=True)).get("t") for v in (overlay, volume))
    if mine is not None and mine == below:
        return t, ""
    return None, "" if mine in (None, 1) else f"overlay: t 0 of {mine}"


def screen_letters(affine: Affine) -> Letters:
    """What lies to the left, right, top and bottom of a picture whose columns and rows are the first axes.

    >>> import numpy as np
    >>> turn = np.array([[0, 0, 1], [-0.94, 0.34, 0], [-0.34, -0.94, 0]])
    >>> screen_letters(Affine(np.block([[turn, np.zeros((3, 1))], [np.zeros(3), 1]])))
    ('AS', 'PI', 'SP', 'IA')
    """
    columns, rows = (affine.matrix[:3, axis] / affine.spacing[axis] for axis in (0, 1))
    return _lettered(-columns), _lettered(columns), _lettered(-rows), _lettered(rows)


def lean_of(affine: Affine) -> str:
    """What a viewer must know of axes that are not those of the world: "oblique 9.4°", or nothing."""
    words = []
    if affine.obliquity > 0.05:
        words.append(f"oblique {affine.obliquity:.1f}°")
    if affine.shear > 0.05:
        words.append(f"sheared {affine.shear:.1f}°")
    return ", ".join(words)


def facts_of(volume: Volume, frame: Volume, t: int | None, c: int) -> list[str]:
    """Size, spacing and orientation of a volume for people, and which part `frame` is; t None means all."""
    sizes = dict(zip(volume.axes, volume.shape, strict=True))
    size, spacing = " x ".join(map(str, frame.shape)), " x ".join(f"{s:.3g}" for s in frame.spacing)
    lies = ", ".join(word for word in ("".join(frame.axcodes), lean_of(frame.meta.affine)) if word)
    facts = [f"{size} voxels of {spacing} mm, {lies}"]
    if "t" in sizes:
        facts.append(f"{sizes['t']} time points" if t is None else f"t {t % sizes['t']} of {sizes['t']}")
    if "c" in sizes:
        facts.append(f"c {c % sizes['c']} of {sizes['c']}")
    return facts


def _lettered(direction: npt.NDArray[np.float64]) -> str:
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return "".join(
        _CODES[axis][int(direction[axis] > 0)]
        for number, axis in enumerate(order)
        if not number or abs(direction[axis]) > _LEAN
    )


def _tiles(plan: GridMap, tile: Box) -> Iterator[Box]:
    """The pixels of a section in parts, halved until each needs a small box of voxels only.

    The box around a plane at an angle is a good part of a volume, the boxes around its parts are not.
    """
    if plan.source_box(tile).size <= _MOST_VOXELS or tile.size == 1:
        yield tile
        return
    axis = int(np.argmax(tile.shape))
    middle = (tile.start[axis] + tile.stop[axis]) // 2
    for start, stop in ((tile.start[axis], middle), (middle, tile.stop[axis])):
        yield from _tiles(plan, Box(_with(tile.start, axis, start), _with(tile.stop, axis, stop)))


def _with(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])


def _as_scanned(volume: Volume) -> Grid:
    """The volume's own grid, its axes turned to L, P, I."""
    turn = volume.meta.affine.reorientation("LPI", volume.shape)
    x, y, z = (volume.shape[axis] for axis in turn.perm)
    return (x, y, z), turn.affine


def _along_the_world(volume: Volume) -> Grid:
    """The smallest grid along the axes of the world around the volume, its axes running to L, P, I."""
    low, high = _reach(volume)
    size = high - low
    step = max(min(volume.spacing), float(size.max()) / _MOST_PIXELS)
    x, y, z = np.ceil(size / step - 1e-6).clip(1).astype(int).tolist()
    matrix = np.diag([-step, -step, -step, 1.0])
    matrix[:3, 3] = (low + high) / 2 + step * (np.array([x, y, z]) - 1) / 2
    return (x, y, z), Affine(matrix)


def _reach(volume: Volume) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The least and greatest world coordinates of the volume, from voxel edge to voxel edge."""
    ends = [(-0.5, n - 0.5) for n in volume.shape[:3]]
    corners = volume.meta.affine.apply(list(itertools.product(*ends)))
    return corners.min(axis=0), corners.max(axis=0)


def _nearest(place: npt.NDArray[np.float64], shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Half way between two voxels, it is the one further to R, A or S, whichever way the array runs."""
    nearest: npt.NDArray[np.float64] = np.clip(np.ceil(place - 0.5 - 1e-6), 0, np.array(shape) - 1)
    return nearest
