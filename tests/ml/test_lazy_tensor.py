"""A lazy tensor is the tensor of its voxels, whatever is done with it, and reads what that needs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, Volume, measure
from radiobject.errors import AlignmentError, ConfigError
from radiobject.ml.cohort import Cohort
from radiobject.ml.lazy_tensor import LazyTensor, SampleVoxels, VolumeVoxels
from radiobject.ml.spec import SampleSpec
from tests.ml.ground import SHAPES, coded, mask_of

SHAPE = SHAPES["a"]
VALUES = torch.from_numpy(coded(SHAPE).astype("f4"))[None]


@pytest.fixture
def lazy(coded_study: RadiObject) -> LazyTensor:
    """A volume of `coded` values as float32."""
    return LazyTensor(VolumeVoxels([coded_study.CT.iloc[0]], "f4"))


def spans(size: int) -> st.SearchStrategy[slice]:
    ends = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, ends, ends)


@settings(deadline=None)
@given(first=st.tuples(*map(spans, SHAPE)), second=st.tuples(*map(spans, SHAPE)))
def test_a_copy_of_slices_of_slices_reads_that_part_alone(
    coded_study: RadiObject, first: tuple[slice, ...], second: tuple[slice, ...]
) -> None:
    lazy = LazyTensor(VolumeVoxels([coded_study.CT.iloc[0]]))
    wanted = coded(SHAPE)[first][second]
    with measure() as cost:
        part = lazy[(slice(None), *first)][(slice(None), *second)]
        assert part.shape == (1, *wanted.shape)
        assert cost["bytes_used"] == 0
        found = part.clone()
    assert (type(found), found.dtype) == (torch.Tensor, torch.int32)
    assert np.array_equal(found[0], wanted)
    assert cost["bytes_used"] == wanted.nbytes
    assert lazy.untouched


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "reduction": lambda t: t.mean(),
    "comparison": lambda t: t > 500,
    "arithmetic": lambda t: 1 - t * 2,
    "function": lambda t: torch.quantile(t, 0.5),
    "stack": lambda t: torch.stack([t, t]),
    "cat": lambda t: torch.cat([t, t + 1], dim=1),
    "one voxel": lambda t: t[0, 3, 4, 5].item(),
    "mask": lambda t: t[t > 500],
    "plane": lambda t: t[..., 2],
    "channels": lambda t: t[0:1, 2:5],
    "no channels": lambda t: t[:0],
    "steps": lambda t: t[:, ::2, 1:9:3],
    "view": lambda t: t.permute(0, 3, 2, 1).reshape(-1),
    "type": lambda t: t.to(torch.int16),
    "part of a part": lambda t: t[:, 2:9][:, :, 1:4].flip(1),
    "array": lambda t: torch.from_numpy(t.numpy()),
    "array of a part": lambda t: torch.from_numpy(np.asarray(t[:, 1:3])),
    "list": lambda t: t[:, 1:3, 1:3].tolist(),
    "detached": lambda t: t.detach()[:, 1:3].clone(),
    "written to": lambda t: t.add_(1),
    "exchanged": lambda t: torch.from_dlpack(t[:, 1:3]),
    "exchanged with numpy": lambda t: torch.from_numpy(np.from_dlpack(t)),
    "shared memory": lambda t: t.share_memory_(),
    "a function of each voxel": lambda t: t.apply_(lambda value: value + 1),
    "a function of two voxels": lambda t: t.map_(VALUES, lambda one, other: one - other),
    "data": lambda t: t.data[:, 1:3] + 1,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_what_the_voxels_give(lazy: LazyTensor, name: str) -> None:
    found, wanted = OPERATIONS[name](lazy), OPERATIONS[name](VALUES.clone())
    assert found == wanted if not isinstance(wanted, torch.Tensor) else torch.equal(found, wanted)


def test_what_is_written_to_a_part_stands_in_the_whole(lazy: LazyTensor) -> None:
    wanted = VALUES.clone()
    part = lazy[:, 4:6]
    for tensor in (lazy, wanted):
        tensor[:, :3, 2:] = -1
        tensor[tensor > 40_000] = 0
        tensor[..., 1].mul_(2)
        tensor[:, 5:8].permute(3, 2, 1, 0)[0].fill_(7)
        tensor.numpy()[0, 0, 0, 0] = 5
    assert torch.equal(lazy.read(), wanted)
    assert torch.equal(part.clone(), wanted[:, 4:6])


def test_its_memory_is_that_of_the_voxels(lazy: LazyTensor) -> None:
    assert not lazy.is_shared()
    assert lazy.untouched
    assert lazy.data_ptr() == lazy.read().data_ptr()
    assert lazy.share_memory_().is_shared()
    np.from_dlpack(lazy)[0, 0, 0, 0] = 5
    assert lazy[0, 0, 0, 0] == 5
    with pytest.raises(RuntimeError, match="data pointer"):
        torch.utils.dlpack.to_dlpack(LazyTensor(lazy.source))


def test_its_shape_and_memory_are_not_changed_in_place(lazy: LazyTensor) -> None:
    def assign(tensor: torch.Tensor) -> None:
        tensor.data = VALUES

    for change in (assign, lambda t: t.unsqueeze_(0), lambda t: t.transpose_(1, 2), lambda t: t.set_(VALUES)):
        with pytest.raises(ConfigError, match="in place"):
            change(lazy)
    assert lazy.detach_() is lazy
    assert lazy.untouched


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_works_where_nothing_is_to_be_learned(lazy: LazyTensor, mode: Any) -> None:
    with mode():
        assert torch.equal(lazy[:, 2:5, 1:].clone(), VALUES[:, 2:5, 1:])
        assert torch.equal(LazyTensor(lazy.source)[..., :3] * 2, VALUES[..., :3] * 2)
        assert torch.equal(lazy.permute(0, 3, 2, 1), VALUES.permute(0, 3, 2, 1))


def test_gradients_flow_through_its_voxels(lazy: LazyTensor) -> None:
    weight = torch.ones(1, requires_grad=True)
    (lazy[:, 1:3] * weight).sum().backward()
    assert weight.grad == VALUES[:, 1:3].sum()


@pytest.mark.filterwarnings("ignore:Dynamo does not know")
def test_a_compiled_function_takes_it(lazy: LazyTensor) -> None:
    compiled = torch.compile(lambda voxels: voxels * 2, backend="eager")
    assert torch.equal(compiled(lazy), VALUES * 2)


def test_the_whole_is_read_once_and_its_shape_never(lazy: LazyTensor) -> None:
    with measure() as cost:
        assert (lazy.shape, lazy.dtype, len(lazy), lazy.ndim) == ((1, *SHAPE), torch.float32, 1, 4)
        assert (lazy.numel(), lazy.element_size(), lazy.is_floating_point()) == (VALUES.numel(), 4, True)
        assert "not read" in repr(lazy)
        assert lazy.float() is lazy
    assert (cost["volumes_opened"], cost["bytes_used"]) == (0, 0)
    with measure() as cost:
        for _ in range(3):
            lazy.mean()
            lazy[:, 2:].numpy()
    assert cost["bytes_used"] == VALUES.nbytes
    assert "in memory" in repr(lazy)


def test_copies_are_cheap_until_something_was_written(lazy: LazyTensor) -> None:
    with measure() as cost:
        copied = copy.deepcopy(lazy)
    assert cost["bytes_used"] == 0
    copied.zero_()
    assert lazy.untouched
    again = copy.deepcopy(copied)
    again.fill_(1)
    assert (copied.max(), again.min(), lazy.max()) == (0, 1, VALUES.max())


def test_it_pickles_as_a_place_until_it_has_been_read(coded_study: RadiObject, lazy: LazyTensor) -> None:
    cohort = Cohort.of(SampleSpec("CT", "seg"), coded_study)
    sample = LazyTensor(SampleVoxels(cohort, 2, "label"))
    for tensor in (lazy[:, 3:], sample):
        with measure() as cost:
            text = pickle.dumps(tensor)
        assert (len(text) < 5000, cost["bytes_used"]) == (True, 0)
        again = pickle.loads(text)
        assert again.untouched
        assert torch.equal(again.clone(), tensor.clone())
    lazy.mul_(2)
    assert torch.equal(pickle.loads(pickle.dumps(lazy)), VALUES * 2)


def test_a_copied_source_is_of_the_same_sample(coded_study: RadiObject) -> None:
    cohort = Cohort.of(SampleSpec("CT", "seg"), coded_study)
    first, third = (LazyTensor(SampleVoxels(cohort, n, "image")) for n in (0, 2))
    assert torch.equal(first.clone(), VALUES)
    assert torch.equal(LazyTensor(copy.copy(third.source)).clone(), third.clone())


def test_frames_and_volumes_are_channels_of_types_that_torch_takes(coded_study: RadiObject) -> None:
    ct, pet = coded_study.CT.iloc[0], coded_study.PET.iloc[0]
    both = LazyTensor(VolumeVoxels([ct, pet], "f4"))
    assert torch.equal(both[:, 2:5, :, 1:].clone(), torch.cat([VALUES, -VALUES])[:, 2:5, :, 1:])
    frames = np.random.default_rng(0).integers(0, 9, (4, 5, 6, 3))
    for dtype, wanted in (("u2", torch.int32), ("u4", torch.int64), ("u1", torch.uint8), ("i2", torch.int16)):
        volume = Volume.from_numpy(frames.astype(dtype), axis4="time")
        lazy = LazyTensor(VolumeVoxels([volume]))
        assert (lazy.shape, lazy.dtype) == ((3, 4, 5, 6), wanted)
        assert np.array_equal(lazy[:, 1:3].clone(), frames[1:3].transpose(3, 0, 1, 2))
    mask = LazyTensor(SampleVoxels(Cohort.of(SampleSpec("CT", "seg"), coded_study), 1, "label"))
    assert (mask.dtype, np.array_equal(mask[0], mask_of(SHAPES["b"]))) == (torch.uint8, True)


def test_channels_must_lie_on_one_grid(coded_study: RadiObject) -> None:
    first, other = coded_study.CT.iloc[0], coded_study.CT.iloc[1]
    moved = Volume.from_numpy(first.to_numpy(), first.affine + np.diag([0, 0, 0.1, 0]))
    for wrong, what in ((other, r"\(10, 14, 8\)"), (moved, "0.8 mm apart")):
        with pytest.raises(AlignmentError, match=what):
            VolumeVoxels([first, wrong])
    with pytest.raises(ConfigError, match="at least one"):
        VolumeVoxels([])
