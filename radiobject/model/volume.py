"""Volume: a lazy handle on one scan. Axes are x, y, z[, t][, c]; voxels are read when indexed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import VolumeHandle
from radiobject.errors import MissingObjectError, RadiObjectError, SelectionError
from radiobject.format.layout import box_to_disk, python_axes, to_disk, to_python
from radiobject.format.meta import VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box, normalise
from radiobject.geometry.planes import Plane, to_display
from radiobject.model.anatomy import plane_index
from radiobject.model.slicing import Region

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

    __slots__ = ("_affine", "_handle", "_meta", "_region", "_row", "_shape",
                 "obs_id", "obs_subject_id")  # fmt: skip

    def __init__(
        self,
        handle: VolumeHandle,
        meta: VolumeMeta,
        affine: Affine | Sequence[float] | None = None,
        *,
        obs_id: str = "",
        obs_subject_id: str = "",
        row: Row | None = None,
    ) -> None:
        self._handle, self._meta = handle, meta
        # 16 numbers become an Affine when first asked for: checking them costs as much as opening the array
        self._affine: Affine | Sequence[float] = meta.affine if affine is None else affine
        self.obs_id, self.obs_subject_id = obs_id, obs_subject_id
        self._row = row
        self._region: Region | None = None
        self._shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z[, t][, c]."""
        if self._shape is None:
            if self._region is None:
                spec = self._handle.spec
                sizes = dict(zip(spec.dims, spec.shape, strict=True))
                self._shape = tuple(sizes[a] for a in python_axes(spec.dims))
            else:
                self._shape = self._region.shape
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: a subset of x, y, z, t, c."""
        names = python_axes(self._meta.dims)
        return names if self._region is None else self._region.kept(names)

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
        meta, region = self._meta, self._region
        if region is None:
            return replace(meta, affine=self._cropped())
        axes, step = self.axes, meta.time_step
        if step is not None:
            step = step * abs(region.ranges[3].step) if "t" in axes else None
        return replace(
            meta,
            affine=self._cropped(),
            dims=tuple(d for d in meta.dims if d in axes),
            time_step=step,
            source=replace(meta.source, exact=False),
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
        if not isinstance(self._affine, Affine):
            self._affine = Affine(np.array([self._affine[i : i + 4] for i in (0, 4, 8, 12)]))
        return self._affine if self._region is None else self._region.affine(self._affine)

    def __getitem__(self, key: Any) -> Any:
        return self._read(key, self._scaling)

    def _read(self, key: Any, scaling: Any) -> Any:
        box, rest = normalise(key, self.shape)
        steps = None
        if self._region is not None:
            box, steps = self._region.to_stored(box)
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
        if found.size < block.size and found.base is not None:
            # a sparse part of the block must not keep all of it in memory
            found = found.copy(order="K")
        return found

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
        base = self._region or Region.whole(self.shape)
        region = base.sliced(key, self.obs_id or "volume")
        made = Volume(
            self._handle,
            self._meta,
            self._affine,
            obs_id=self.obs_id,
            obs_subject_id=self.obs_subject_id,
            row=self._row,
        )
        made._region = region
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
        axis, at = plane_index(affine, self.shape, plane, index, mm)
        found = self.plane(axis, at, t=t, c=c)
        return to_display(found, affine, plane) if display else found

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

        meta = self.meta
        stored = to_disk(self.to_numpy(raw=True), meta.dims)
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
    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def __getitem__(self, key: Any) -> Volume:
        return self._volume._sliced(key)
