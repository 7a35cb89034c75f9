"""Floats that are stored as integers: batches and xarray give floats, a cache holds the integers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from radiobject import RadiObject, WriteConfig
from radiobject.ml import PatchPlan, RadiLoader, SampleSpec, Scratch, Uniform
from radiobject.ml.cohort import Cohort
from radiobject.ml.lazy_tensor import LazyTensor, VolumeVoxels

SHAPE = (20, 18, 16)
VOXELS = np.random.default_rng(0).integers(-9, 900, (2, *SHAPE)).astype("f4")


@pytest.fixture
def studies(tmp_path: Path) -> list[RadiObject]:
    """The same images stored as int16 and as float32."""
    images = {"T1w": [((voxels, np.eye(4)), f"sub-{n}") for n, voxels in enumerate(VOXELS)]}
    return [
        RadiObject.from_niftis(
            tmp_path / f"study-{on}", images, write=WriteConfig(store_integers=on), progress=False
        )
        for on in (True, False)
    ]


def planned(radi: RadiObject, dtype: Literal["native", "float32"]) -> PatchPlan:
    spec = SampleSpec("T1w", patch_size=8, dtype=dtype)
    return PatchPlan(spec, Cohort.of(spec, radi), Uniform(3))


@pytest.mark.parametrize("dtype", ["native", "float32"])
@pytest.mark.parametrize("cached", [False, True])
def test_batches_are_the_same_floats(
    studies: list[RadiObject], tmp_path: Path, dtype: Literal["native", "float32"], cached: bool
) -> None:
    found = []
    for number, radi in enumerate(studies):
        cache = Scratch(tmp_path / f"scratch-{number}") if cached else None
        loader = RadiLoader(planned(radi, dtype), batch_size=2, cache=cache)
        found.append([batch["image"] for _ in range(2) for batch in loader])
    for integers, floats in zip(*found, strict=True):
        assert integers.dtype == floats.dtype == torch.float32
        assert torch.equal(integers, floats)


def test_a_cache_holds_the_integers(studies: list[RadiObject], tmp_path: Path) -> None:
    sizes = []
    for number, radi in enumerate(studies):
        place = tmp_path / f"scratch-{number}"
        loader = RadiLoader(planned(radi, "native"), batch_size=2, cache=Scratch(place))
        assert sum(len(batch["image"]) for batch in loader) == 6
        sizes.append(sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))
    assert sizes[0] < 0.7 * sizes[1]


def test_lazy_tensors_and_data_arrays_are_floats(studies: list[RadiObject]) -> None:
    for radi in studies:
        assert radi.T1w.iloc[0].stored_dtype == (np.int16 if radi is studies[0] else np.float32)
        tensor = LazyTensor(VolumeVoxels([radi.T1w.iloc[0]]))
        assert tensor.dtype == torch.float32
        assert np.array_equal(tensor.read().numpy()[0], VOXELS[0])
        for array in (radi.T1w.to_xarray(), radi.T1w.iloc[0].to_xarray().expand_dims("obs_id")):
            assert array.dtype == np.float32
            assert np.array_equal(array[0, 2:5].to_numpy(), VOXELS[0, 2:5])
