"""Volume: a lazy handle on one scan. Axes are x, y, z[, t][, c]; voxels are read when indexed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Protocol, SupportsIndex

import numpy as np
import numpy.typing as npt

from radiobject import measuring
from radiobject.backends.base import VolumeHandle
from radiobject.errors import IndexingError, MissingObjectError, RadiObjectError, SelectionError
from radiobject.format.layout import box_to_disk, python_axes, to_disk, to_python
from radiobject.format.meta import VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box, normalise
from radiobject.geometry.planes import Plane, plane_axis, to_display

__all__ = ["Row", "Volume"]


class Row(Protocol):
    """The volume's place in a study: its row of obs, and what a missing object means there."""

    def values(self) -> dict[str, Any]: ...

    def explain(self, error: MissingObjectError) -> RadiObjectError: ...


class Volume:
    """One volume of a study, opened without reading it.

    Indexing is NumPy's, in voxels, axes x, y, z[, t][, c], and reads only the chunks it needs. Values are
    scaled as the source says (`raw=True` in `to_numpy` gives stored ones); labels never are. The result
    owns its memory. `affine` maps voxel centres to RAS+ millimetres.

    Raises `IndexingError` outside the volume, `IntegrityError` for missing or changed bytes.
    """

    __slots__ = (
        "_affine",
        "_dropped",
        "_handle",
        "_meta",
        "_ranges",
        "_row",
        "_shape",
        "obs_id",
        "obs_subject_id",
    )

    def __init__(
        self,
        handle: VolumeHandle,
        meta: VolumeMeta,
        affine: Affine | None = None,
        *,
        obs_id: str = "",
        obs_subject_id: str = "",
        row: Row | None = None,
    ) -> None:
        self._handle, self._meta = handle, meta
        self._affine = meta.affine if affine is None else affine
        self.obs_id, self.obs_subject_id = obs_id, obs_subject_id
        self._row = row
        self._ranges: tuple[range, ...] | None = None
        self._dropped: frozenset[int] = frozenset()
        self._shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z[, t][, c]."""
        if self._shape is None:
            if self._ranges is None:
                spec = self._handle.spec
                sizes = dict(zip(spec.dims, spec.shape, strict=True))
                self._shape = tuple(sizes[a] for a in python_axes(spec.dims))
            else:
                self._shape = tuple(len(r) for i, r in enumerate(self._ranges) if i not in self._dropped)
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: a subset of x, y, z, t, c."""
        return tuple(a for i, a in enumerate(python_axes(self._meta.dims)) if i not in self._dropped)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return self._handle.spec.dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that reads return."""
        scaling = self._scaling
        return self.stored_dtype if scaling is None else np.dtype(scaling.dtype)

    @property
    def _scaling(self) -> Any:
        return None if self._meta.kind == "label" else self._meta.scaling

    @property
    def meta(self) -> VolumeMeta:
        """Everything the volume says about itself besides voxels and table columns."""
        dims = tuple(d for d in self._meta.dims if d in self.axes)
        exact = self._meta.source.exact and self._ranges is None
        return replace(
            self._meta, affine=self._cropped(), dims=dims, source=replace(self._meta.source, exact=exact)
        )

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4 float64, voxel centre (x, y, z) to RAS+ millimetres; a copy."""
        return self._cropped().matrix.copy()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along x, y, z, in mm."""
        return self._cropped().spacing

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """Anatomical direction nearest to each array axis, such as ('R', 'A', 'S')."""
        return self._cropped().axcodes

    @property
    def obliquity(self) -> float:
        """Largest angle between an array axis and its nearest anatomical axis, in degrees."""
        return self._cropped().obliquity

    @property
    def metadata(self) -> dict[str, Any]:
        """The volume's obs row, without the engine's columns; empty for a volume opened by URL."""
        return {} if self._row is None else self._row.values()

    @property
    def array(self) -> Any:
        """The engine's own object (a tensorstore.TensorStore, a zarr.Array), in disk axis order."""
        return self._handle.native()

    def _cropped(self) -> Affine:
        if self._ranges is None:
            return self._affine
        spatial = self._ranges[:3]
        return self._affine.crop([r.start for r in spatial], [r.step for r in spatial])

    def __getitem__(self, key: Any) -> Any:
        return self._read(key, self._scaling)

    def _read(self, key: Any, scaling: Any) -> Any:
        box, rest = normalise(key, self.shape)
        steps = None
        if self._ranges is not None:
            box, steps = self._to_base(box)
        dims = self._meta.dims
        # up to four axes, disk order is user order reversed, and needs no bookkeeping
        plain = len(dims) < 5
        try:
            block = self._handle.read(
                Box(box.start[::-1], box.stop[::-1]) if plain else box_to_disk(box, dims)
            )
        except MissingObjectError as error:
            if self._row is None:
                raise
            raise self._row.explain(error) from error
        if scaling is not None:
            block = scaling.apply(block)
        found = block.T if plain else to_python(block, dims)
        if steps is not None:
            found = found[steps]
        if rest is not None:
            found = found[rest]
        if measuring.active():
            measuring.add("bytes_used", found.nbytes)
        return found

    def _to_base(self, box: Box) -> tuple[Box, tuple[slice | int, ...]]:
        """A box in this (sliced) volume as a box in the stored one, and what to do to the block."""
        assert self._ranges is not None
        start, stop, steps = [], [], list[slice | int]()
        visible = iter(zip(box.start, box.stop, strict=True))
        for axis, whole in enumerate(self._ranges):
            if axis in self._dropped:
                start.append(whole[0])
                stop.append(whole[0] + 1)
                steps.append(0)
                continue
            a, b = next(visible)
            part = whole[a:b]
            low, high = (min(part[0], part[-1]), max(part[0], part[-1]) + 1) if len(part) else (0, 0)
            start.append(low)
            stop.append(high)
            steps.append(slice(None, None, whole.step))
        return Box(tuple(start), tuple(stop)), tuple(steps)

    def to_numpy(self, *, raw: bool = False) -> npt.NDArray[Any]:
        """The whole volume; `raw=True` gives the stored values, without slope and intercept."""
        found: npt.NDArray[Any] = self._read((), None if raw else self._scaling)
        return found

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise SelectionError(
                f"{self!r}", expected="copy=None or True", got="copy=False: reads make new memory"
            )
        return self.to_numpy() if dtype is None else self.to_numpy().astype(dtype, copy=False)

    @property
    def slicer(self) -> _Slicer:
        """`vol.slicer[10:60, :, ::2]`: a lazy Volume of that region with the right affine.

        Spatial axes take slices (a step of either sign); t and c take ints too.
        """
        return _Slicer(self)

    def _sliced(self, key: Any) -> Volume:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys = keys[:at] + (slice(None),) * (self.ndim - len(keys) + 1) + keys[at + 1 :]
        if len(keys) > self.ndim:
            raise IndexingError(
                f"slicer of {self.obs_id or 'volume'}", expected=f"{self.ndim} axes", got=str(len(keys))
            )
        keys += (slice(None),) * (self.ndim - len(keys))
        base = self._ranges or tuple(range(n) for n in self.shape)
        ranges, dropped = list(base), set(self._dropped)
        visible = [i for i in range(len(base)) if i not in self._dropped]
        for axis, item in zip(visible, keys, strict=True):
            if isinstance(item, slice):
                ranges[axis] = base[axis][item]
                if not len(ranges[axis]):
                    raise IndexingError(
                        f"slicer along axis {axis}", expected="at least one voxel", got=repr(item)
                    )
            elif isinstance(item, SupportsIndex) and axis >= 3:
                try:
                    index = base[axis][item]
                except IndexError:
                    raise IndexingError(
                        f"slicer along axis {axis}", expected=f"0 to {len(base[axis]) - 1}", got=repr(item)
                    ) from None
                ranges[axis] = range(index, index + 1)
                dropped.add(axis)
            else:
                raise SelectionError(
                    f"slicer along axis {axis}",
                    expected="a slice (x, y and z stay axes)",
                    got=repr(item),
                    hint="Use vol[...] or vol.plane(...) for an array.",
                )
        made = Volume(
            self._handle,
            self._meta,
            self._affine,
            obs_id=self.obs_id,
            obs_subject_id=self.obs_subject_id,
            row=self._row,
        )
        made._ranges, made._dropped = tuple(ranges), frozenset(dropped)
        return made

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

        `mm` picks by world coordinate instead; neither gives the middle. `display=True` turns the plane for
        a screen: anterior up, the patient's left on the right.
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
        axis = plane_axis(affine, plane)
        if index is not None and mm is not None:
            raise SelectionError(plane, expected="an index or mm=", got="both")
        if mm is not None:
            index = self._at_mm(affine, axis, mm)
        elif index is None:
            index = self.shape[axis] // 2
        found = self.plane(axis, index, t=t, c=c)
        return to_display(found, affine, plane) if display else found

    def _at_mm(self, affine: Affine, axis: int, mm: float) -> int:
        """The index along `axis` whose plane, at the volume's centre, is nearest to a world coordinate."""
        world = affine.world_axes[axis]
        centre = [(n - 1) / 2 for n in self.shape[:3]]
        centre[axis] = 0.0
        zero = float(affine.apply(centre)[world])
        step = float(affine.matrix[world, axis])
        index = round((mm - zero) / step)
        if not 0 <= index < self.shape[axis]:
            ends = sorted((zero, zero + step * (self.shape[axis] - 1)))
            raise IndexingError(f"mm={mm}", expected=f"{ends[0]:.1f} to {ends[1]:.1f} mm", got=f"{mm}")
        return index

    def extra(self, name: str) -> bytes | None:
        """Bytes kept beside the voxels ("nifti" is the source's header), None when there are none."""
        return self._handle.extra(name) if name in self._meta.source.extras else None

    def to_nibabel(self) -> Any:
        """A `nibabel.Nifti1Image` (or Nifti2) with the values that reads return, affine and codes."""
        from radiobject.export.nifti import to_nibabel_image

        return to_nibabel_image(self.meta, self.to_numpy(), self.extra("nifti"))

    def to_nifti(self, path: str | os.PathLike[str]) -> None:
        """Write .nii, .nii.gz or a .hdr/.img pair.

        What came from NIfTI unchanged goes back byte for byte: stored integers, slope, both transforms and
        their codes, every header field and extension.
        """
        from radiobject.export.nifti import nifti_bytes, write_nifti

        meta, dims = self.meta, tuple(d for d in self._meta.dims if d in self.axes)
        stored = to_disk(self.to_numpy(raw=True), dims)
        beside = {name: self.extra(f"nifti_{name}") or b"" for name in ("lead", "tail")}
        write_nifti(path, nifti_bytes(meta, stored, self.extra("nifti"), **beside))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        spacing = "x".join(f"{s:.3g}" for s in self.spacing)
        name = f" {self.obs_id}" if self.obs_id else ""
        return f"<Volume{name} {size} {self.dtype} {spacing} mm {''.join(self.axcodes)}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class _Slicer:
    __slots__ = ("_volume",)

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def __getitem__(self, key: Any) -> Volume:
        return self._volume._sliced(key)
