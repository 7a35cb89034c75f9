"""LazyTensor: a tensor (C, X, Y, Z) over stored volumes, whose voxels are read when something needs them.

Libraries that cut patches out of tensors (TorchIO's samplers) index them and copy the part. On this tensor
that reads the part and nothing else; every other operation finds all voxels, in memory from then on.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_map

from radiobject.errors import AlignmentError, ConfigError
from radiobject.geometry.box import Box
from radiobject.geometry.corners import corners, grid_tolerance
from radiobject.ml.blocks import read_frames, refuse_wrapped
from radiobject.ml.cohort import Cohort
from radiobject.ml.foreground import Indexes
from radiobject.model.volume import Volume

__all__ = [
    "LazyTensor",
    "SampleVoxels",
    "VolumeVoxels",
    "VoxelSource",
    "refuse_other_grids",
    "tensor_dtype",
]

_SIGNED = {"u2": "i4", "u4": "i8", "u8": "i8", "b1": "u1"}
"""What most of torch does not take, and what holds its values; TorchIO widens the same types."""


class VoxelSource(Protocol):
    """Where a `LazyTensor` reads: its shape (C, X, Y, Z), its type, and any box of it. Cheap to pickle."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The voxels of a box (x, y, z) as (C, Z, Y, X), in memory of their own."""
        ...


class VolumeVoxels:
    """Volumes on one grid, one after another as channels; time points and channels of a volume count too.

    `dtype` None is the type that reads return, in the next type that torch computes with. Raises
    `AlignmentError` for volumes of other shapes or places than the first's, `ConfigError` for none.
    """

    def __init__(self, volumes: Sequence[Volume], dtype: npt.DTypeLike | None = None) -> None:
        self.volumes = tuple(volumes)
        if not self.volumes:
            raise ConfigError("volumes of an image", expected="at least one", got="none")
        refuse_other_grids(self.volumes)
        found = np.result_type(*(v.dtype for v in self.volumes)) if dtype is None else dtype
        self.dtype = tensor_dtype(found)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, and voxels x, y, z."""
        x, y, z = self.volumes[0].shape[:3]
        return sum(int(np.prod(v.shape[3:])) for v in self.volumes), x, y, z

    def read(self, box: Box) -> npt.NDArray[Any]:
        """See `VoxelSource.read`."""
        return _read(self.volumes, box, self.dtype)


class SampleVoxels:
    """One key of one sample of a cohort. It pickles with the places and numbers of that sample alone."""

    def __init__(self, cohort: Cohort, sample: int, key: str) -> None:
        self.cohort, self.sample, self.key = cohort, sample, key
        self.dtype = tensor_dtype(cohort.dtypes[key])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, and voxels x, y, z of the sample's grid."""
        x, y, z = self.cohort.shapes[self.sample].tolist()
        return self.cohort.channels(self.key), x, y, z

    def read(self, box: Box) -> npt.NDArray[Any]:
        """See `VoxelSource.read`."""
        streams = [n for n, stream in enumerate(self.cohort.streams) if stream.key == self.key]
        return _read([self.cohort.volume(self.sample, n) for n in streams], box, self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        cohort, mine = self.cohort, slice(self.sample, self.sample + 1)
        alone = replace(
            cohort, positions=cohort.positions[mine], obs_ids=cohort.obs_ids[mine],
            obs_subject_ids=cohort.obs_subject_ids[mine], shapes=cohort.shapes[mine],
            affines=cohort.affines[mine], regrid=cohort.regrid[mine], targets={},
            indexes=Indexes(), _volumes=OrderedDict(),
        )  # fmt: skip
        return SampleVoxels, (alone, 0, self.key)


class LazyTensor(torch.Tensor):
    """A tensor whose voxels lie in a `VoxelSource`; shape, dtype and slices of it read none.

    A copy of a slice reads that slice. What computes with the whole tensor, changes it or needs a view of its
    memory reads all of it, once: `read` is then that tensor. `numpy()` of a slice is a copy. Changing its
    shape or memory in place (`unsqueeze_`, `set_`, `.data = `) raises `ConfigError`; `clone` can do it.

    >>> import radiobject.examples
    >>> source = VolumeVoxels([radiobject.examples.study(3).T1w.iloc[0]])
    >>> lazy = LazyTensor(source)
    >>> lazy.shape, lazy[:, 10:20, :, :4].clone().shape
    (torch.Size([1, 49, 58, 47]), torch.Size([1, 10, 58, 4]))
    """

    source: VoxelSource
    box: Box
    _memory: _Memory

    # operators are met below Python, in __torch_dispatch__: there is one road to the voxels
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(
        cls, source: VoxelSource, box: Box | None = None, memory: _Memory | None = None
    ) -> LazyTensor:
        channels, *spatial = source.shape
        box = Box.whole(spatial) if box is None else box
        x, y, z = box.shape
        made: LazyTensor = torch.Tensor._make_wrapper_subclass(
            cls, (channels, x, y, z), strides=(x * y * z, 1, x, x * y),
            dtype=torch.from_numpy(np.empty(0, source.dtype)).dtype,
        )  # fmt: skip
        made.source, made.box = source, box
        made._memory = _Memory() if memory is None else memory
        # its own pointer is null: whoever takes it past Python, such as to_dlpack, gets an error
        torch._C._set_throw_on_mutable_data_ptr(made)
        return made

    def __init__(self, source: VoxelSource, box: Box | None = None, memory: _Memory | None = None) -> None:
        """`box` is the part shown, x, y, z; tensors on one `memory` share what was read."""

    @property
    def untouched(self) -> bool:
        """Whether nothing has needed all voxels yet: they are those that are stored."""
        return self._memory.whole is None

    def read(self, *, shared: bool = True) -> torch.Tensor:
        """The voxels as an ordinary tensor; `shared` in the memory of the whole, else possibly a copy."""
        whole = self._memory.whole
        if whole is None and (shared or self.box == Box.whole(self.source.shape[1:])):
            whole = self._memory.whole = _tensor(self.source, Box.whole(self.source.shape[1:]))
        if whole is None:
            return _tensor(self.source, self.box)
        return whole[(slice(None), *self.box.slices)]

    def numpy(self, *, force: bool = False) -> npt.NDArray[Any]:
        """The voxels as an array (C, X, Y, Z)."""
        return self.read(shared=False).numpy(force=force)

    def tolist(self) -> list[Any]:
        """The voxels as nested lists."""
        found: list[Any] = self.read(shared=False).tolist()
        return found

    # what takes the memory without an operator that __torch_dispatch__ would meet:

    @property
    def data(self) -> torch.Tensor:
        """The same voxels, without a gradient."""
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        raise _refused(".data =")

    def data_ptr(self) -> int:
        """The address of the voxels, in memory from now on."""
        return self.read().data_ptr()

    def __dlpack__(self, **options: Any) -> Any:
        return self.read().__dlpack__(**options)

    def share_memory_(self) -> LazyTensor:
        """Read the voxels and move them to shared memory."""
        self.read().share_memory_()  # type: ignore[no-untyped-call]
        return self

    def is_shared(self) -> bool:
        """Whether the voxels are in shared memory."""
        return not self.untouched and bool(self.read().is_shared())  # type: ignore[no-untyped-call]

    def apply_(self, function: Callable[[Any], Any]) -> LazyTensor:
        """Put what a function makes of each voxel in its place."""
        self.read().apply_(function)
        return self

    def map_(self, other: torch.Tensor, function: Callable[[Any, Any], Any]) -> LazyTensor:
        """Put what a function makes of each voxel and another one in its place."""
        self.read().map_(other.read() if isinstance(other, LazyTensor) else other, function)
        return self

    def __repr__(self) -> str:  # type: ignore[override]
        state = "not read" if self.untouched else "in memory"
        return f"LazyTensor(shape={tuple(self.shape)}, dtype={self.dtype}, {state})"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        return LazyTensor(self.source, self.box) if self.untouched else self.read().clone()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if self.untouched:
            return LazyTensor, (self.source, self.box)
        return _itself, (self.read(),)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.inplace_view in func.tags and func is not torch.ops.aten.detach_.default:
            raise _refused(func.__name__)
        schema = func._schema
        # a view of a part that was read for itself would not show what is written to the whole
        shared = schema.is_mutable or any(r.alias_info is not None for r in schema.returns)
        # nor may a view be made in inference mode of a tensor that was made outside of it
        with torch.inference_mode(torch.is_inference_mode_enabled() and not shared):
            return cls._done(func, args, kwargs or {}, shared=shared)

    @classmethod
    def _done(cls, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, shared: bool) -> Any:
        first = args[0] if args else None
        if isinstance(first, LazyTensor) and first.untouched:
            if func is torch.ops.aten.slice.Tensor:
                part = _sliced(first.box, *args[1:], **kwargs)
                if part is not None:
                    return LazyTensor(first.source, part, first._memory)
            elif func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
                return LazyTensor(first.source, first.box, first._memory)
            elif func is torch.ops.aten.clone.default:
                order = kwargs.get("memory_format") or torch.preserve_format
                found = _tensor(first.source, first.box)
                return found if order is torch.preserve_format else found.contiguous(memory_format=order)

        def real(value: Any) -> Any:
            return value.read(shared=shared) if isinstance(value, LazyTensor) else value

        return func(*tree_map(real, args), **tree_map(real, dict(kwargs)))


class _Memory:
    """What a tensor and its slices have read of the whole."""

    __slots__ = ("whole",)

    def __init__(self) -> None:
        self.whole: torch.Tensor | None = None


def tensor_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The type as which voxels of a type become a tensor: bool as uint8, wide unsigned ints as signed ones.

    >>> tensor_dtype("uint16"), tensor_dtype("bool"), tensor_dtype("int16")
    (dtype('int32'), dtype('uint8'), dtype('int16'))
    """
    found = np.dtype(dtype)
    return np.dtype(_SIGNED.get(found.str[1:], found))


def refuse_other_grids(volumes: Sequence[Volume]) -> None:
    """Raise `AlignmentError` for volumes as channels that lie on another grid than the first."""
    first = volumes[0]
    for other in volumes[1:]:
        units = [v.meta.space_unit for v in (first, other)]
        side = first.meta.side
        if side != other.meta.side:
            raise AlignmentError(
                f"{other.obs_id or 'a volume'} as a channel beside {first.obs_id or 'another'}",
                expected=f"an affine in {units[0]}, as the first has it", got=f"one in {units[1]}",
                hint="Mend the unit in the header of one of them, and ingest it again.",
            )  # fmt: skip
        ours, theirs = (corners(v.shape[:3], v.affine, side) for v in (first, other))
        apart, near = np.abs(theirs - ours).max(), grid_tolerance(first.affine, side)[0]
        if other.shape[:3] != first.shape[:3] or apart > near:
            raise AlignmentError(
                f"{other.obs_id or 'a volume'} as a channel beside {first.obs_id or 'another'}",
                expected=f"{first.shape[:3]} voxels, corners in the same places",
                got=f"{other.shape[:3]}, up to {apart:.3g} mm apart",
                hint="Pass volume.resample(like=first).",
            )


def _read(volumes: Sequence[Volume], box: Box, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    frames = [read_frames(volume, box) for volume in volumes]
    if len(frames) == 1 and frames[0].dtype == dtype and frames[0].flags.writeable:
        return frames[0]
    made = np.empty((sum(len(block) for block in frames), *box.shape[::-1]), dtype)
    begin = 0
    for block in frames:
        refuse_wrapped(block, dtype)
        np.copyto(made[begin : begin + len(block)], block, casting="same_kind")
        begin += len(block)
    return made


def _tensor(source: VoxelSource, box: Box) -> torch.Tensor:
    """The voxels of a box (C, X, Y, Z), in the order in which they lie on disk: strides say so."""
    shape = (source.shape[0], *box.shape[::-1])
    # torch.compile would trace all that reads: nothing in it is for it
    read = source.read
    if "torch._dynamo" in sys.modules:
        read = torch.compiler.disable(read)  # type: ignore[no-untyped-call]
    voxels = read(box) if box.size else np.empty(shape, source.dtype)
    with torch.inference_mode(False):  # noqa: FBT003  # torch.compile takes no keyword here
        return torch.from_numpy(voxels).permute(0, 3, 2, 1)


def _sliced(box: Box, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Box | None:
    """The box that a slice along a tensor's axis leaves; None where it is none (channels, steps)."""
    axis = dim % 4 - 1
    if axis < 0 or step != 1:
        return None
    size = box.shape[axis]
    low, high, _ = slice(start, end).indices(size)
    starts, stops = list(box.start), list(box.stop)
    starts[axis], stops[axis] = box.start[axis] + low, box.start[axis] + max(low, high)
    return Box(tuple(starts), tuple(stops))


def _refused(what: str) -> ConfigError:
    return ConfigError(
        f"{what} of a LazyTensor", expected="its shape and memory to stay", got="a change in place",
        hint="Do it to tensor.clone().",
    )  # fmt: skip


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
