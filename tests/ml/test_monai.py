"""MONAI's transforms on our samples: true affines, several samples of one, batches that come apart again."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, MetaTensor, decollate_batch, list_data_collate, pad_list_data_collate
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Flipd,
    Invertd,
    LabelToContour,
    MapTransform,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandRotate90d,
    Spacingd,
    SpatialCropd,
    ToNumpyd,
    ToTensord,
)

from radiobject import RadiObject
from radiobject.errors import ConfigError, TransformError
from radiobject.ml import Compose as OurCompose
from radiobject.ml import Foreground, PatchPlan, RadiLoader, SampleSpec, Uniform
from radiobject.ml.datasets import PlanDataset
from radiobject.ml.monai import MetaTensors, collate
from radiobject.ml.torch_loader import PlanLoader
from tests.ml.ground import decoded

BOTH = ["image", "label"]
WORLD = (("L", "R"), ("P", "A"), ("I", "S"))
PATCH = SampleSpec("CT", "seg", patch_size=(6, 5, 4))

turns = st.one_of(
    st.builds(lambda axes: Flipd(BOTH, axes), st.lists(st.integers(0, 2), min_size=1, unique=True)),
    st.builds(
        lambda axes: RandRotate90d(BOTH, prob=0.9, spatial_axes=tuple(axes)),
        st.permutations([0, 1, 2]).map(lambda order: order[:2]),
    ),
    st.sampled_from(["LPS", "SAR", "PIL"]).map(lambda codes: Orientationd(BOTH, codes, labels=WORLD)),
    st.builds(
        lambda start: SpatialCropd(BOTH, roi_start=start, roi_end=[n + 3 for n in start]),
        st.lists(st.integers(0, 2), min_size=3, max_size=3),
    ),
    st.just(RandFlipd(BOTH, prob=0.5, spatial_axis=[0, 2])),
)


def world_of(voxels: npt.NDArray[np.int64], affine: Any) -> npt.NDArray[np.float64]:
    """Voxels in a last axis as mm."""
    matrix = np.asarray(affine, dtype=np.float64)
    found: npt.NDArray[np.float64] = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    return found


def places(tensor: torch.Tensor) -> npt.NDArray[np.int64]:
    """The index of every voxel of (1, X, Y[, Z]) in a last axis; 0 along an axis that a slice has not."""
    index = np.moveaxis(np.indices(tensor.shape[1:]), 0, -1)
    return index if index.shape[-1] == 3 else np.concatenate([index, np.zeros_like(index[..., :1])], -1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 11), st.lists(turns, min_size=1, max_size=4))
def test_every_voxel_stays_where_it_is_in_the_world(
    coded_study: RadiObject, number: int, transforms: list[Any]
) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform(3))
    sample = PlanDataset(plan, Compose(transforms))[number]
    image, label = sample["image"], sample["label"]
    stored = coded_study.CT.loc[sample["obs_id"]].affine
    there = world_of(decoded(image[0].numpy()), stored)
    assert np.allclose(world_of(places(image), image.affine), there, atol=1e-6)
    assert torch.equal(image.affine, label.affine)
    assert np.array_equal(sample["affine"], image.affine.numpy())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.1, 1.6)])
def test_a_resampled_patch_has_its_values_where_they_were(
    coded_study: RadiObject, spacing: tuple[float, ...]
) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform(2))
    transform = Compose([Spacingd(BOTH, spacing, mode=("bilinear", "nearest")), Flipd(BOTH, 0)])
    for sample in map(PlanDataset(plan, transform).__getitem__, range(len(plan))):
        image = sample["image"]
        assert np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), spacing)
        stored = np.linalg.inv(coded_study.CT.loc[sample["obs_id"]].affine)
        # codes are linear in the voxels, and so is what lies between them
        source = world_of(world_of(places(image), image.affine), stored)
        start = sample["start"]
        inside = ((source >= start) & (source <= start + np.array(PATCH.patch_size) - 1)).all(axis=-1)
        assert inside.sum() > 8
        expected = source @ [1, 100, 10_000]
        assert np.abs(image[0].numpy() - expected)[inside].max() < 0.5


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axcodes", [None, "PIL"])
def test_every_pixel_of_a_slice_stays_where_it_is(
    coded_study: RadiObject, plane: Any, axcodes: str | None
) -> None:
    plan = PatchPlan(SampleSpec("CT", plane=plane, axcodes=axcodes), coded_study, shuffle=False)
    turn = Compose([Flipd("image", 1), RandRotate90d("image", prob=1), SpatialCropd("image", [1, 2], [5, 6])])
    plain, turned = PlanDataset(plan), PlanDataset(plan, turn)
    with RadiLoader(plan, batch_size=1) as loader:
        for number, batch in enumerate(loader):
            sample = plain[number]
            assert np.array_equal(batch["affine"][0], sample["affine"])
            stored = coded_study.CT.loc[sample["obs_id"]].affine
            for each, affine in (
                (sample["image"], sample["affine"]),
                (turned[number]["image"], turned[number]["image"].affine),
            ):
                there = world_of(decoded(each[0].numpy()), stored)
                assert np.allclose(world_of(places(each), affine), there, atol=1e-6)


def test_a_metatensor_says_what_monais_readers_say(coded_study: RadiObject) -> None:
    sample = MetaTensors()(PlanDataset(PatchPlan(PATCH, coded_study, Uniform()))[0])
    meta = sample["label"].meta
    assert sample["image"].affine.dtype == torch.float64
    assert meta["spatial_shape"].tolist() == [6, 5, 4]
    assert (meta["original_channel_dim"], meta["space"]) == (0, "RAS")
    assert meta["filename_or_obj"] == sample["obs_id"]
    assert EnsureChannelFirstd(BOTH)(sample)["image"].shape == (1, 6, 5, 4)
    with pytest.raises(ConfigError, match="keys="):
        MetaTensors("T1w")(sample)


def test_voxels_are_wrapped_and_not_copied(coded_study: RadiObject) -> None:
    sample = PlanDataset(PatchPlan(PATCH, coded_study, Uniform()))[0]
    assert MetaTensors()(sample)["image"].data_ptr() == sample["image"].data_ptr()
    batch = next(iter(RadiLoader(PatchPlan(PATCH, coded_study, Uniform()), batch_size=2)))
    assert MetaTensors()(batch)["label"].data_ptr() == batch["label"].data_ptr()


def test_one_sample_may_become_several(coded_study: RadiObject) -> None:
    crop = RandCropByPosNegLabeld(BOTH, "label", spatial_size=(4, 4, 4), pos=1, neg=0, num_samples=3)
    for transform in (crop, Compose([crop, RandFlipd(BOTH)]), OurCompose([crop, RandFlipd(BOTH)])):
        plan = PatchPlan(SampleSpec("CT", "seg"), coded_study, shuffle=False)
        with RadiLoader(plan, batch_size=2, transform=transform) as loader:
            batch = next(iter(loader))
        assert batch["image"].shape == (6, 1, 4, 4, 4)
        assert batch["obs_id"] == ["a_CT"] * 3 + ["b_CT"] * 3
        assert type(batch["image"]) is torch.Tensor
        for image, affine, obs_id in zip(batch["image"], batch["affine"], batch["obs_id"], strict=True):
            there = world_of(decoded(image[0].numpy()), coded_study.CT.loc[obs_id].affine)
            assert np.allclose(world_of(places(image), affine), there, atol=1e-6)
        assert len(np.unique(batch["affine"][:3], axis=0)) > 1


def test_batches_are_the_same_for_any_number_of_workers(coded_study: RadiObject) -> None:
    crop = RandCropByPosNegLabeld(BOTH, "label", spatial_size=(4, 4, 4), num_samples=2)
    transform = Compose([crop, RandFlipd(BOTH, prob=0.5), RandRotate90d(BOTH, prob=0.5)])
    made = {}
    for workers in (0, 2):
        plan = PatchPlan(SampleSpec("CT", "seg"), coded_study, seed=3)
        loader = PlanLoader(
            plan, 2, transform, collate=collate, num_workers=workers, persistent_workers=False
        )
        made[workers] = list(loader)
    plan = PatchPlan(SampleSpec("CT", "seg"), coded_study, seed=3)
    with RadiLoader(plan, 2, transform=transform, collate=collate) as loader:
        made["threads"] = list(loader)
    for key in BOTH:
        for others in zip(*made.values(), strict=True):
            first, *rest = (batch[key] for batch in others)
            assert all(torch.equal(first.as_tensor(), other.as_tensor()) for other in rest)
            assert all(torch.equal(first.affine, other.affine) for other in rest)
            assert all(other.is_batch for other in (first, *rest))


@pytest.mark.parametrize("together", [collate, list_data_collate, pad_list_data_collate])
def test_a_batch_comes_apart_and_goes_back(coded_study: RadiObject, together: Any) -> None:
    plan = PatchPlan(
        SampleSpec("CT", "seg", ["dx", "age"], patch_size=6), coded_study, Uniform(), shuffle=False
    )
    transform = Compose(
        [Flipd(BOTH, 1), RandRotate90d(BOTH, prob=1), Orientationd(BOTH, "LAS", labels=WORLD)]
    )
    plain = PlanDataset(plan)
    batch = together([PlanDataset(plan, transform)[n] for n in range(4)])
    assert (batch["image"].is_batch, tuple(batch["image"].affine.shape)) == (True, (4, 4, 4))
    assert batch["dx"] == ["ill", "well", "ill", "well"]
    for number, item in enumerate(decollate_batch(batch)):
        item["pred"] = item["image"].clone()
        back = Invertd("pred", transform, orig_keys="image", nearest_interp=False)(item)["pred"]
        before = plain[number]
        assert torch.allclose(back.as_tensor(), before["image"], atol=1e-2)
        assert np.allclose(back.affine, before["affine"])
        assert (item["obs_id"], item["dx"]) == (before["obs_id"], before["dx"])
        assert item["image"].meta["filename_or_obj"] == before["obs_id"]


def test_a_batch_keeps_the_memory_order_of_the_disk(coded_study: RadiObject) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform())
    batch = collate([MetaTensors()(PlanDataset(plan)[n]) for n in range(2)])
    assert batch["image"].as_tensor().permute(0, 1, 4, 3, 2).is_contiguous()


def test_a_batch_of_a_loader_becomes_metatensors_and_comes_apart(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT", "seg"), coded_study, shuffle=False)  # whole volumes, padded
    with RadiLoader(plan, batch_size=4) as loader:
        batch = MetaTensors()(next(iter(loader)))
    items = decollate_batch(batch)
    assert [item["obs_id"] for item in items] == ["a_CT", "b_CT", "c_CT", "d_CT"]
    for item in items:
        assert np.array_equal(item["image"].affine, coded_study.CT.loc[item["obs_id"]].affine)
        x, y, z = item["image"].meta["spatial_shape"].tolist()
        assert (x, y, z) == coded_study.CT.loc[item["obs_id"]].shape


def test_monais_own_loader_takes_our_dataset(coded_study: RadiObject) -> None:
    dataset = PlanDataset(PatchPlan(PATCH, coded_study, Uniform(2)), RandFlipd(BOTH, prob=0.5))
    again = pickle.loads(pickle.dumps(dataset))
    for batch in DataLoader(again, batch_size=4):
        assert isinstance(batch["image"], MetaTensor)
        assert batch["image"].affine.shape == (4, 4, 4)


def test_samples_without_metatensors_or_of_unequal_shapes_are_refused(coded_study: RadiObject) -> None:
    dataset = PlanDataset(PatchPlan(SampleSpec("CT", "seg"), coded_study))
    with pytest.raises(ConfigError, match="transform=MetaTensors"):
        collate([dataset[0]])
    samples = [MetaTensors()(dataset[n]) for n in (0, 1)]
    with pytest.raises(ConfigError, match="pad_list_data_collate"):
        collate(samples)
    assert pad_list_data_collate(samples)["image"].shape[0] == 2


def test_without_monai_it_says_how_to_get_it() -> None:
    code = """
import sys
sys.modules["monai"] = None
try:
    import radiobject.ml.monai
except ImportError as error:
    print(type(error).__name__, error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("MissingDependencyError")
    assert 'pip install "radiobject-zarr[ml,monai]"' in out


def test_lazy_transforms_are_carried_out(coded_study: RadiObject) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform())
    eager, lazy = (PlanDataset(plan, Flipd(BOTH, 1, lazy=late))[0] for late in (False, True))
    assert torch.equal(eager["image"].as_tensor(), lazy["image"].as_tensor())
    assert np.allclose(eager["affine"], lazy["affine"])
    assert not lazy["label"].pending_operations


@pytest.mark.parametrize(
    "last",
    [
        lambda keys: EnsureTyped(keys, track_meta=False),
        lambda keys: ToTensord(keys, track_meta=False),
        lambda keys: ToNumpyd(keys),
    ],
)
def test_a_place_that_nobody_knows_any_more_is_not_stated(coded_study: RadiObject, last: Any) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform(), shuffle=False)
    forget = Compose([Flipd(BOTH, 0), last(BOTH)])
    assert "affine" not in PlanDataset(plan, forget)[0]
    with RadiLoader(plan, batch_size=2, transform=forget) as loader:
        assert "affine" not in next(iter(loader))
    one = PlanDataset(plan, Compose([Flipd(BOTH, 0), last("image")]))[0]
    assert np.allclose(one["affine"], one["label"].affine)  # the mask still knows


def test_our_compose_mixes_functions_and_monai(coded_study: RadiObject) -> None:
    kinds: list[type] = []

    class Note(MapTransform):
        def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
            kinds.append(type(data["image"]))
            return data

    def look(sample: dict[str, Any]) -> dict[str, Any]:
        kinds.append(type(sample["image"]))
        return sample

    plan = PatchPlan(PATCH, coded_study, Foreground(1.0))
    sample = PlanDataset(plan, OurCompose([look, Note("image"), Flipd(BOTH, 0), look]))[0]
    assert kinds == [torch.Tensor, MetaTensor, MetaTensor]
    assert not np.array_equal(sample["affine"], PlanDataset(plan)[0]["affine"])


def test_our_compose_mixes_monai_and_torchio(coded_study: RadiObject) -> None:
    torchio = pytest.importorskip("torchio")
    plan = PatchPlan(PATCH, coded_study, Uniform(2))
    transform = OurCompose(
        [Flipd(BOTH, 1), torchio.Crop((1, 0, 0, 2, 0, 0)), torchio.ToCanonical(), Flipd(BOTH, 0)]
    )
    for sample in map(PlanDataset(plan, transform).__getitem__, range(len(plan))):
        there = world_of(decoded(sample["image"][0].numpy()), coded_study.CT.loc[sample["obs_id"]].affine)
        assert sorted(sample["image"].shape[1:]) == [3, 4, 5]
        for affine in (sample["affine"], sample["image"].affine, sample["label"].affine):
            assert np.allclose(world_of(places(sample["image"]), affine), there, atol=1e-6)


def test_a_transform_that_returns_no_sample_is_named_with_its_volume(coded_study: RadiObject) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform(), shuffle=False)
    with pytest.raises(TransformError, match=r"a_CT.*expected a dict"):
        PlanDataset(plan, OurCompose([lambda sample: [], Flipd(BOTH, 0)]))[0]
    with pytest.raises(TransformError, match="a_CT"):
        PlanDataset(plan, LabelToContour())[0]


def test_texts_and_dates_that_are_missing_go_through_monais_collate(coded_study: RadiObject) -> None:
    plan = PatchPlan(PATCH, coded_study, Uniform())
    plan.cohort.targets["site"] = np.array(["x", None, None, "y"], dtype=object)
    plan.cohort.targets["scanned"] = np.array(["2020-01-02", "NaT"] * 2, dtype="M8[ns]")
    batch = list_data_collate([PlanDataset(plan, Flipd(BOTH, 0))[n] for n in range(4)])
    assert sorted(batch["site"]) == ["", "", "x", "y"]
    assert sorted(batch["scanned"])[:2] == ["", ""]
