"""Voxels: the lazy array beneath a Volume. Which voxels, where they lie in the world, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from radiobject.backends.base import VolumeHandle
from radiobject.errors import MissingObjectError, RadiObjectError, SelectionError
from radiobject.format.layout import box_to_disk, python_axes, to_python
from radiobject.format.meta import VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box, normalise
from radiobject.model.slicing import Region

__all__ = ["Row", "Slicer", "Voxels"]

V = TypeVar("V", bound="Voxels")


class Row(Protocol):
    """The volume's place in a study: its row of obs, and what a missing object means there."""

    def values(self) -> dict[str, Any]: ...

    def explain(self, error: MissingObjectError) -> RadiObjectError: ...


class Voxels:
    """A handle on stored or computed voxels, the part of them that is shown, and what they say of themselves.

    `Volume` has the contract; this is its half that reads.
    """

    __slots__ = ("_affine", "_handle", "_meta", "_region", "_row", "_shape",
                 "obs_id", "obs_subject_id")  # fmt: skip

    def _set(
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

    @classmethod
    def _of(
        cls,
        handle: VolumeHandle,
        meta: VolumeMeta,
        affine: Affine | Sequence[float] | None = None,
        *,
        obs_id: str = "",
        obs_subject_id: str = "",
        row: Row | None = None,
    ) -> Self:
        """The volume on a handle; without `affine` the one of `meta` holds."""
        made = cls.__new__(cls)
        made._set(handle, meta, affine, obs_id=obs_id, obs_subject_id=obs_subject_id, row=row)
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z[, t][, c]."""
        if self._shape is None:
            self._shape = self._stored_shape if self._region is None else self._region.shape
        return self._shape

    @property
    def _stored_shape(self) -> tuple[int, ...]:
        spec = self._handle.spec
        sizes = dict(zip(spec.dims, spec.shape, strict=True))
        return tuple(sizes[a] for a in python_axes(spec.dims))

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
        """4x4 float64, voxel centre (x, y, z) to the world, RAS+, in mm (or `meta.space_unit`); a copy."""
        return self._cropped().matrix.copy()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along x, y, z, in mm (or `meta.space_unit`)."""
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
    def uri(self) -> str | None:
        """URL that `Volume(uri)` opens; None for what is in memory, computed or a part of a stored volume."""
        # no promise of the seam: a backend whose volumes have no URL of their own names none
        return getattr(self._handle, "uri", None) if self._region is None else None

    @property
    def array(self) -> Any:
        """The engine's own object (a tensorstore.TensorStore, a zarr.Array), in disk axis order.

        Of a volume that stays in its files it is a read-only copy of all voxels, a NumPy array.
        """
        return self._handle.native()

    @property
    def _stored_affine(self) -> Affine:
        if not isinstance(self._affine, Affine):
            self._affine = Affine([self._affine[i : i + 4] for i in (0, 4, 8, 12)])  # type: ignore[arg-type]
        return self._affine

    def _cropped(self) -> Affine:
        stored = self._stored_affine
        return stored if self._region is None else self._region.affine(stored)

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
            told = error if self._row is None else self._row.explain(error)
            try:
                if told is error:
                    raise  # not from itself
                raise told from error
            finally:
                del told  # an error whose frames name it would keep them, and what their callers hold
        if scaling is not None:
            block = scaling.apply(block)
        found = block.T if plain else to_python(block, dims)
        if steps is not None and self._region is not None:
            found = self._region.shown(found[steps])
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
    def slicer(self) -> Slicer[Self]:
        """`vol.slicer[10:60, :, ::2]`: a lazy Volume of that region with the right affine.

        Spatial axes take slices (a step of either sign); t and c take ints too.
        """
        return Slicer(self)

    def _sliced(self, key: Any) -> Self:
        base = self._region or Region.whole(self.shape)
        return self._derived(region=base.sliced(key, self.obs_id or "volume"))

    def _derived(self, handle: VolumeHandle | None = None, meta: VolumeMeta | None = None,
                 region: Region | None = None) -> Self:  # fmt: skip
        """The same volume of the study, seen otherwise; a `meta` comes with its affine."""
        made = type(self)._of(
            handle or self._handle,
            meta or self._meta,
            self._affine if meta is None else None,
            obs_id=self.obs_id,
            obs_subject_id=self.obs_subject_id,
            row=self._row,
        )
        made._region = region
        return made

    def _renamed(self, obs_id: str, obs_subject_id: str, row: Row | None) -> Self:
        """The same voxels under these names, with that row."""
        made = type(self)._of(
            self._handle, self._meta, self._affine, obs_id=obs_id, obs_subject_id=obs_subject_id, row=row
        )
        made._region = self._region
        return made

    def extra(self, name: str) -> bytes | None:
        """Bytes kept beside the voxels ("nifti" is the source's header), None when there are none."""
        if name not in self._meta.source.extras:
            return None
        # whether a compressed file has bytes behind its voxels is known when it is decoded
        return self._handle.extra(name) or None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Voxels.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Slicer(Generic[V]):
    """`vol.slicer[key]`."""

    def __init__(self, volume: V) -> None:
        self._volume = volume

    def __getitem__(self, key: Any) -> V:
        return self._volume._sliced(key)
