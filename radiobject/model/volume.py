"""Volume: a lazy handle on one scan. Axes are x, y, z[, t][, c]; voxels are read when indexed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from radiobject.config import SliceOrientation, WriteConfig, current
from radiobject.errors import ConfigError, SelectionError, SourceUnsupportedError
from radiobject.format.meta import Kind
from radiobject.geometry.planes import Plane, to_display
from radiobject.geometry.resample import Grid, grid_around, grid_spaced
from radiobject.location import Location
from radiobject.model.anatomy import plane_index
from radiobject.model.context import context_for
from radiobject.model.doors import VolumeDoors
from radiobject.model.held import HeldHandle
from radiobject.model.levels import LevelHandle
from radiobject.model.orientation import OrientationInfo, chunk_orientation, orientation_of
from radiobject.model.resampling import ResampledHandle, grid_like, settled_order
from radiobject.model.single import Place, free_place, open_single, write_single
from radiobject.model.slicing import Region
from radiobject.model.summary import (
    Histogram,
    checked_percentiles,
    histogram_of,
    statistics_of,
    stored_histogram,
    stored_statistics,
)
from radiobject.moved import Moved, known_as
from radiobject.writing.loaded import (
    Axis4,
    Loaded,
    Reorient,
    from_array,
    oriented,
    refuse_float_labels,
    with_scaled_dtype,
)
from radiobject.writing.objects import is_nifti_name, is_object

__all__ = ["Volume"]


class Volume(VolumeDoors):
    """One volume: `Volume(uri)` opens one by its URL, read-only; those of a study come from its collections.

    Opening reads metadata, no voxel. Indexing is NumPy's, in voxels, axes x, y, z[, t][, c], and reads only
    the chunks it needs. Values are scaled as the source says (`raw=True` in `to_numpy` gives stored ones);
    labels never are. The result owns its memory. `affine` maps voxel centres to the world, RAS+, in
    millimetres unless `meta.space_unit` says "um" or "m", as some sources do; `spacing` too. `ctx` is that of
    `RadiObject`, here and where one is written, and so is `source_root`.

    Raises `IndexingError` outside the volume, `IntegrityError` for missing or changed bytes.
    """

    __slots__ = ()

    create = Moved("Volume.from_numpy(np.zeros(shape), uri=uri) writes one; stored voxels do not change")
    set_obs_id = Moved("An id is given when a volume is written, as images={name: [(volume, subject)]}")

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: Any = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> None:
        self._set(*open_single(uri, storage_options, ctx, source_root))

    @classmethod
    @known_as(data="array")
    def from_numpy(
        cls,
        array: Any,
        affine: Any = None,
        uri: Any = None,
        *,
        axis4: Axis4 = "auto",
        time_step: float | None = None,
        kind: Kind = "image",
        write: WriteConfig | None = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
    ) -> Volume:
        """A volume of an array (x, y, z[, t][, c]): a copy in memory, or written to a free `uri`.

        `affine` is 4x4, voxel centres to RAS+ mm; None means voxels of 1 mm. `time_step` is in seconds and
        makes a fourth axis time. `from_numpy(uri, array)` is taken too. Raises from the `SourceError` branch,
        and `StudyExistsError` for a `uri` that is taken.

        >>> import numpy as np
        >>> Volume.from_numpy(np.zeros((4, 5, 6), "i2"), np.diag([2.0, 2.0, 3.0, 1.0]))
        <Volume 4x5x6 int16 2x2x3 mm RAS>
        """
        if isinstance(array, str | os.PathLike):  # the order that the TileDB-based package has
            array, affine, uri = affine, uri, array
        if is_object(array):  # np.asarray would forget where its voxels lie
            raise SourceUnsupportedError(
                "Volume.from_numpy",
                expected="an array",
                got=type(array).__name__,
                hint="Pass its array and its affine.",
            )
        place = _place(uri, storage_options, ctx)
        unit = None if time_step is None else "s"
        loaded = from_array(np.asanyarray(array), affine, "Volume.from_numpy", axis4, time_step, unit)
        return cls._kept(loaded, kind, place, write or current().write)

    @classmethod
    @known_as(nifti_path="source")
    def from_nifti(
        cls,
        source: Any,
        uri: Any = None,
        *,
        axis4: Axis4 = "auto",
        kind: Kind = "image",
        reorient: Reorient = None,
        write: WriteConfig | None = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
    ) -> Volume:
        """A volume of a NIfTI file, URL or nibabel image: in memory, or written to a free `uri`.

        Nothing is lost: `to_nifti` gives the file back. `reorient` is that of `RadiObject.from_niftis`.
        `from_nifti(uri, source)` is taken too. Raises from the `SourceError` branch, and `StudyExistsError`
        for a `uri` that is taken.
        """
        from radiobject.ingest.loading import load

        if uri is not None and (not isinstance(uri, str | os.PathLike) or is_nifti_name(uri)):
            source, uri = uri, source  # the order that the TileDB-based package has
        place = _place(uri, storage_options, ctx)
        settings = oriented(write or current().write, reorient)
        named = isinstance(source, str | os.PathLike)
        near = Location(source if uri is None else uri, storage_options) if named else None
        name = os.fspath(source) if named else type(source).__name__
        loaded = load(source, name, kind, axis4=axis4, orientation=settings.orientation, near=near)
        return cls._kept(loaded, kind, place, settings)

    @classmethod
    def from_dicom(
        cls,
        source: str | os.PathLike[str],
        uri: Any = None,
        *,
        part: str | None = None,
        irregular: Literal["error", "keep"] = "error",
        kind: Kind = "image",
        reorient: Reorient = None,
        write: WriteConfig | None = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
    ) -> Volume:
        """The one volume in a folder of DICOM files, a glob or a file: in memory, or written to a free `uri`.

        Of several, the one whose name (`series 3 m (...)`, listed in the error) has `part` in it. Of the
        headers only geometry, scaling and display range are kept. `irregular` and `reorient` are those of
        `RadiObject.from_dicoms`. `from_dicom(uri, source)` is taken too, where `source` is there and `uri`
        is not. Raises from the `SourceError` branch, and `StudyExistsError` for a `uri` that is taken.
        """
        from radiobject.ingest.dicom.one import only_volume
        from radiobject.ingest.loading import load

        if uri is not None and not os.path.exists(source) and os.path.exists(uri):
            source, uri = uri, source  # the order that the TileDB-based package has
        place = _place(uri, storage_options, ctx)
        settings = oriented(write or current().write, reorient)
        item = only_volume(source, part, irregular)
        return cls._kept(load(item, item.name, kind, orientation=settings.orientation), kind, place, settings)

    @classmethod
    def _kept(cls, loaded: Loaded, kind: Kind, place: Place | None, write: WriteConfig) -> Volume:
        """The volume of what is in memory, there or at its own URL."""
        if kind not in ("image", "label"):
            raise ConfigError("kind=", expected="'image' or 'label'", got=repr(kind))
        loaded = replace(loaded, meta=replace(loaded.meta, kind=kind))
        refuse_float_labels(loaded.meta, loaded.voxels.dtype, "label volume")
        if place is not None:
            return cls._of(*write_single(loaded, place, write))
        return cls._of(HeldHandle.of(loaded), with_scaled_dtype(loaded))

    @property
    def orientation_info(self) -> OrientationInfo:
        """Axis codes and affine, and what in the source says so; of NIfTI sources one read of the header."""
        return orientation_of(self.meta, self._stored_affine, self.extra("nifti"))

    @property
    def tile_orientation(self) -> SliceOrientation | None:
        """Which planes the stored chunks serve best, in this volume's array axes; None when none is."""
        spec, order = self._handle.spec, (0, 1, 2) if self._region is None else self._region.order
        if isinstance(self._handle, ResampledHandle):
            return None
        chunks, shape = spec.chunks[:-4:-1], spec.shape[:-4:-1]
        return chunk_orientation([chunks[a] for a in order], [shape[a] for a in order])

    def reorient(self, axcodes: str | Sequence[str]) -> Volume:
        """A lazy Volume with its axes permuted and flipped to codes such as "RAS"; `GeometryError` else.

        No voxel is changed or read, and each keeps its place in the world; oblique axes stay oblique.
        """
        turn = self._cropped().reorientation(axcodes, self.shape)
        if turn.perm == (0, 1, 2) and not any(turn.flips):
            return self
        return self._derived(region=(self._region or Region.whole(self.shape)).reoriented(turn))

    def resample(self, spacing: float | Sequence[float] | None = None, *, like: Any = None,
                 order: int | None = None, fill: float = 0, antialias: bool = False) -> Volume:  # fmt: skip
        """A lazy Volume on another grid; what is read of it reads the source box and margin that it needs.

        `spacing` (one number or three, in the unit of `Volume.spacing`) keeps axes, centre and field of view.
        `like` is a Volume or a pair (shape, affine). `order` 0 is nearest and keeps the dtype, 1 linear, 3
        cubic; the default is 1 for images, giving floats, and 0, the only one, for labels. `fill` stands
        outside the source. Each time point and channel goes by itself.

        A coarser grid takes samples of single voxels. With `antialias=True` it takes them of means over
        blocks of 2, 4, 8 ... voxels along each axis (of labels: the most frequent values), no wider than its
        own voxels. Blocks that a `level` has are read, others are computed; the values are the same.

        Raises `GeometryError` for no grid, `ConfigError` for an order or fill that does not fit.
        """
        if (spacing is None) == (like is None):
            raise SelectionError("resample", expected="either spacing= or like=", got=f"{spacing}, {like}")
        if spacing is None:
            grid = grid_like(like, self.meta.space_unit)
        else:
            grid = grid_spaced(self._cropped(), self.shape, spacing)
        return self._resampled(grid, order, fill, antialias)

    def _resampled(self, grid: Grid, order: int | None, fill: float, antialias: bool) -> Volume:
        meta = self.meta
        settled = settled_order(order, meta.kind, self.obs_id or "volume")
        source = replace(meta.source, exact=False)
        meta = replace(meta, affine=grid[1], scaling=None, source=source)
        sampled = self._averaged(grid[1]) if antialias else self
        return self._derived(ResampledHandle.make(sampled, grid, settled, fill), meta)

    def read_mm(self, center: Sequence[float], size: float | Sequence[float],
                spacing: float | Sequence[float] | None = None, axcodes: str | Sequence[str] | None = None,
                *, order: int | None = None, fill: float = 0,
                antialias: bool = False) -> npt.NDArray[Any]:  # fmt: skip
        """The array of a region `size` mm wide around world `center` (mm, RAS+); `fill` outside the volume.

        Its axes are the volume's, turned to `axcodes` when given; `size` and `spacing` (mm; default: the
        volume's) follow them, and `size` is rounded to whole voxels. All are mm, whatever unit the affine is
        in. Reads the box and margin that it needs; the values are those of `reorient` and `resample` (also
        with `antialias`) at the same points.
        """
        # of the turned volume, so that half way between voxels is settled as there
        turned = self if axcodes is None else self.reorient(axcodes)
        side = self._meta.side
        shape, in_mm = grid_around(turned._cropped().scaled(side), center, size, spacing)
        grid = shape, in_mm.scaled(1 / side)
        found: npt.NDArray[Any] = turned._resampled(grid, order, fill, antialias)[...]
        return found

    def _row_of_all(self) -> dict[str, Any]:
        """The obs row where its statistics are those of this volume: it shows every stored voxel."""
        stored = not isinstance(self._handle, ResampledHandle | LevelHandle)
        whole = self._region is None or self._region.is_all_of(self._stored_shape)
        return self.metadata if stored and whole else {}

    def get_statistics(self, percentiles: Sequence[float] | None = None) -> dict[str, float]:
        """mean, std, min, max, median and `p<q>` for each of `percentiles` (0 to 100; nearest rank).

        In units that reads return, of finite voxels; NaN if there are none. Those of a whole stored volume
        come from the tables (percentiles 0.5, 1, 50, 99, 99.5) and read no voxel; all else reads all voxels.
        """
        wanted = checked_percentiles(percentiles)
        return stored_statistics(self._row_of_all(), wanted) or statistics_of(self.to_numpy(), wanted)

    def compute_histogram(self, bins: int = 256, value_range: tuple[float, float] | None = None) -> Histogram:
        """Counts (bins, int64) and edges (bins + 1, float64) of finite voxels, as `np.histogram`.

        256 bins over the whole range of a whole stored volume come from the tables and read no voxel.
        """
        found = stored_histogram(self._row_of_all(), bins) if value_range is None else None
        return histogram_of(self.to_numpy(), bins, value_range) if found is None else found

    def slice(
        self,
        x: int | slice | None = None,
        y: int | slice | None = None,
        z: int | slice | None = None,
        t: int | slice | None = None,
        c: int | slice | None = None,
    ) -> npt.NDArray[Any]:
        """An array by axis name; what is not named is taken whole.

        `vol.slice(z=80)` is an (x, y) plane, `vol.slice(x=slice(10, 60), t=0)` an (x, y, z) block.
        """
        given = {"x": x, "y": y, "z": z, "t": t, "c": c}
        if unknown := [a for a, v in given.items() if v is not None and a not in self.axes]:
            raise SelectionError(f"slice along {unknown}", expected=f"axes {self.axes}", got=str(unknown))
        key = tuple(slice(None) if given[a] is None else given[a] for a in self.axes)
        found: npt.NDArray[Any] = self[key]
        return found

    def plane(self, axis: int, index: int, *, t: int | None = None, c: int | None = None) -> npt.NDArray[Any]:
        """The raw array plane at `index` of array axis 0, 1 or 2, whatever its anatomy."""
        if axis not in (0, 1, 2):
            raise SelectionError("plane(axis)", expected="0 (x), 1 (y) or 2 (z)", got=repr(axis))
        named: dict[str, Any] = {"t": t, "c": c, "xyz"[axis]: index}
        for extra in ("t", "c"):
            if (named[extra] is None) == (extra in self.axes):
                raise SelectionError(
                    f"plane of {self.obs_id or 'volume'} with axes {self.axes}",
                    expected=f"{extra}= {'given' if extra in self.axes else 'left out'}",
                    got=repr(named[extra]),
                )
        return self.slice(**{a: i for a, i in named.items() if i is not None})

    def axial(self, z: int | None = None, *, mm: float | None = None, t: int | None = None,
              c: int | None = None, display: bool = False) -> npt.NDArray[Any]:  # fmt: skip
        """The plane across the body: `z` counts along the array axis nearest to inferior-superior.

        `mm` picks by world coordinate instead; neither gives the middle. `display=True` turns the plane
        for a screen: anterior up, the patient's left on the right.
        """
        return self._anatomical("axial", z, mm, t, c, display=display)

    def coronal(self, y: int | None = None, *, mm: float | None = None, t: int | None = None,
                c: int | None = None, display: bool = False) -> npt.NDArray[Any]:  # fmt: skip
        """The plane seen from the front: `y` counts along the array axis nearest to anterior-posterior."""
        return self._anatomical("coronal", y, mm, t, c, display=display)

    def sagittal(self, x: int | None = None, *, mm: float | None = None, t: int | None = None,
                 c: int | None = None, display: bool = False) -> npt.NDArray[Any]:  # fmt: skip
        """The plane seen from the side: `x` counts along the array axis nearest to left-right."""
        return self._anatomical("sagittal", x, mm, t, c, display=display)

    def _anatomical(
        self,
        plane: Plane,
        index: int | None,
        mm: float | None,
        t: int | None,
        c: int | None,
        *,
        display: bool,
    ) -> npt.NDArray[Any]:
        affine = self._cropped()
        axis, at = plane_index(affine.scaled(self._meta.side), self.shape, plane, index, mm)
        found = self.plane(axis, at, t=t, c=c)
        return to_display(found, affine, plane) if display else found

    axial_slice, coronal_slice, sagittal_slice = axial, coronal, sagittal

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        name = f" {self.obs_id}" if self.obs_id else ""
        unit = self._meta.space_unit
        return f"<Volume{name} {size} {self.dtype} {spacing} {unit} {''.join(self.axcodes)}>"


def _place(uri: Any, storage_options: Mapping[str, Any] | None, ctx: Any) -> Place | None:
    """Where a volume is to be written; None for one that stays in memory."""
    if uri is not None:
        return free_place(uri, storage_options, ctx)
    context_for(ctx, "a volume in memory", ["memory"])
    return None
