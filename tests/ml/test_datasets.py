"""Datasets: how much of a volume a sample is, labels, transforms, and torch's own DataLoader."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from radiobject import RadiObject, measure
from radiobject.errors import ConfigError, IndexingError, MetadataError, TransformError, UnknownIdError
from radiobject.ml import DatasetConfig, LoadingMode, SampleSpec, SegmentationDataset, VolumeCollectionDataset
from radiobject.ml.batches import Collate
from radiobject.ml.transforms import Compose
from tests.ml.ground import SHAPES, coded

PATCH = DatasetConfig(LoadingMode.PATCH, (4, 4, 4), patches_per_volume=3)


def test_a_sample_is_a_volume_a_patch_or_a_slice(coded_study: RadiObject) -> None:
    whole = VolumeCollectionDataset(coded_study.CT)
    patches = VolumeCollectionDataset(coded_study.CT, PATCH)
    slices = VolumeCollectionDataset(coded_study.CT, DatasetConfig("slice_2d"))
    assert (len(whole), len(patches)) == (4, 12)
    assert torch.equal(whole[0]["image"][0], torch.from_numpy(coded(SHAPES["a"])).float())
    assert patches[5]["image"].shape == (1, 4, 4, 4)
    assert slices[0]["image"].ndim == 3
    assert (whole.collection_names, whole.n_channels, whole.volume_shape) == (["CT"], 1, None)


def test_several_collections_become_channels(coded_study: RadiObject) -> None:
    for source, options in (
        ([coded_study.CT, coded_study.PET], {}),
        (coded_study, {}),
        (coded_study, {"modalities": ["CT", "PET"]}),
    ):
        dataset = VolumeCollectionDataset(source, PATCH, **options)
        assert (dataset.collection_names, dataset.n_channels) == (["CT", "PET"], 2)
        image = dataset[0]["image"]
        assert torch.equal(image[0], -image[1])
    assert VolumeCollectionDataset(coded_study, PATCH, modalities=["PET"]).collection_names == ["PET"]


def test_collections_of_two_studies_may_have_one_name(coded_study: RadiObject, tmp_path: Any) -> None:
    other = coded_study.write(tmp_path / "other")
    dataset = VolumeCollectionDataset([coded_study.CT, other.CT], PATCH)
    assert dataset.collection_names == ["CT", "CT_2"]
    assert torch.equal(*dataset[3]["image"])


def test_views_narrow_the_samples(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionDataset(coded_study.filter("age > 45").CT, labels="age")
    assert [dataset[n]["label"].item() for n in range(3)] == [50, 60, 70]
    assert dataset[-1]["obs_id"] == "d_CT"


@pytest.mark.parametrize(
    "labels",
    [
        "age",
        {"a": 40, "b": 50, "c": 60, "d": 70, "e": 1},
        {f"{s}_CT": age for s, age in zip("abcd", (40, 50, 60, 70), strict=True)},
        pd.DataFrame({"obs_id": [f"{s}_CT" for s in "dcba"], "grade": [70, 60, 50, 40]}),
        pd.DataFrame({"obs_subject_id": list("dcba"), "grade": [70, 60, 50, 40]}),
        pd.DataFrame({"grade": [40, 50, 60, 70]}, index=list("abcd")),
        pd.Series([40, 50, 60, 70], index=list("abcd")),
        lambda obs_id: 40 + 10 * "abcd".index(obs_id[0]),
    ],
    ids=["column", "subjects", "volumes", "table", "subject table", "index", "series", "function"],
)
def test_labels_come_from_anything_that_has_them(coded_study: RadiObject, labels: Any) -> None:
    dataset = VolumeCollectionDataset(coded_study.CT, labels=labels)
    assert [int(dataset[n]["label"]) for n in range(4)] == [40, 50, 60, 70]


def test_labels_may_be_texts_or_arrays(coded_study: RadiObject) -> None:
    texts = VolumeCollectionDataset(coded_study.CT, PATCH, labels="dx")
    arrays = VolumeCollectionDataset(coded_study.CT, PATCH, labels=lambda obs_id: np.arange(3))
    collate = Collate(texts.plan.spec)
    assert collate([texts[0], texts[4]])["label"] == ["ill", "well"]
    assert collate([arrays[0], arrays[4]])["label"].shape == (2, 3)


def test_volumes_without_a_label_are_named(coded_study: RadiObject) -> None:
    for labels, what in (
        ({"a": 1, "b": 2}, "c_CT, d_CT"),
        (pd.Series([1.0, None, 2.0, 3.0], index=list("abcd")), "b_CT"),
        (lambda obs_id: None, "4 of 4"),
        (pd.DataFrame({"obs_id": ["a_CT"]}), "beside the ids"),
        (pd.Series([1, 2], index=["a", "a"]), "each id once, got a"),
        (lambda obs_id: np.zeros(2 if obs_id == "a_CT" else 3), "one shape"),
    ):
        with pytest.raises(MetadataError, match=what):
            VolumeCollectionDataset(coded_study.CT, labels=labels)
    with pytest.raises(UnknownIdError, match="grade"):
        VolumeCollectionDataset(coded_study.CT, labels="grade")
    with pytest.raises(ConfigError, match="labels="):
        VolumeCollectionDataset(coded_study.CT, labels=3)  # type: ignore[arg-type]


def test_images_and_masks_are_cut_at_one_place(coded_study: RadiObject) -> None:
    dataset = SegmentationDataset(coded_study.CT, coded_study.seg, PATCH, foreground_sampling=True)
    assert (dataset.n_volumes, dataset.volume_shape) == (4, None)
    for n in range(len(dataset)):
        sample = dataset[n]
        x, y, z = sample["start"].tolist()
        mask = coded_study.seg.loc[sample["obs_id"].replace("CT", "seg")][x : x + 4, y : y + 4, z : z + 4]
        assert np.array_equal(sample["label"][0], mask)
        assert mask.any()
    named = SegmentationDataset(coded_study.CT, coded_study.seg, PATCH, keys=("ct", "mask"))[0]
    assert {"ct", "mask"} <= set(named)


def test_transforms_are_called_in_turn_on_the_whole_sample(coded_study: RadiObject) -> None:
    def note(name: str) -> Any:
        return lambda sample: {**sample, "seen": [*sample.get("seen", []), name]}

    dataset = SegmentationDataset(
        coded_study.CT, coded_study.seg, PATCH, note("image"), note("spatial"), transform=note("last")
    )
    assert dataset[0]["seen"] == ["spatial", "image", "last"]


def test_random_numbers_of_a_transform_follow_from_the_sample(coded_study: RadiObject) -> None:
    class Own:
        def set_random_state(self, seed: int) -> None:
            self.random = np.random.RandomState(seed)

        def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
            return {**sample, "own": self.random.rand()}

    def draw(sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "drawn": (random.random(), float(np.random.rand()), float(torch.rand(1)))}

    dataset = VolumeCollectionDataset(coded_study.CT, PATCH, transform=Compose([draw, Own()]))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = [(s["drawn"], s["own"]) for s in (dataset[n] for n in range(12))]
    again = [(s["drawn"], s["own"]) for s in (dataset[n] for n in reversed(range(12)))][::-1]
    assert first == again
    assert len(set(first)) == 12
    # nobody else's random numbers change
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_failing_transform_is_named_with_its_volume(coded_study: RadiObject) -> None:
    for transform, what in (
        (lambda sample: sample["no"], "KeyError"),
        (lambda sample: None, "expected a dict"),
    ):
        dataset = VolumeCollectionDataset(coded_study.CT, PATCH, transform=transform)
        with pytest.raises(TransformError, match=f"b_CT.*{what}") as caught:
            dataset[4]
        assert caught.value.obs_ids == ("b_CT",)


def test_epochs_of_a_dataset_differ(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionDataset(coded_study.CT, PATCH)
    first = [dataset[n]["start"].tolist() for n in range(12)]
    dataset.set_epoch(1)
    assert [dataset[n]["start"].tolist() for n in range(12)] != first
    dataset.set_epoch(0)
    assert [dataset[n]["start"].tolist() for n in range(12)] == first


def test_torchs_own_loader_takes_a_dataset(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionDataset(coded_study.CT, PATCH, labels="age")
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    assert (batch["image"].shape, batch["label"].tolist()) == ((5, 1, 4, 4, 4), [40, 40, 40, 50, 50])
    assert batch["obs_id"][3] == "b_CT"


def test_a_dataset_pickles_small_and_opens_nothing_before_a_sample_is_read(coded_study: RadiObject) -> None:
    with measure() as cost:
        dataset = VolumeCollectionDataset(RadiObject(coded_study.uri).CT, PATCH, labels="age")
        text = pickle.dumps(dataset)
        again = pickle.loads(text)
    assert (cost["volumes_opened"], cost["chunks_decoded"]) == (0, 0)
    assert len(text) < 20_000
    assert torch.equal(again[5]["image"], dataset[5]["image"])


def test_configurations_that_say_nothing_are_refused(coded_study: RadiObject) -> None:
    for options in (
        {"loading_mode": "patch"},
        {"patch_size": (4, 4, 4)},
        {"loading_mode": "half"},
        {"patches_per_volume": 0},
        {"loading_mode": "slice_2d", "slice_orientation": "isotropic"},
    ):
        with pytest.raises(ConfigError, match="DatasetConfig"):
            DatasetConfig(**options)
    for source in (3, [], coded_study.CT.lazy()):
        with pytest.raises(ConfigError, match="collections"):
            VolumeCollectionDataset(source)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="modalities"):
        VolumeCollectionDataset(coded_study.CT, modalities=["MR"])
    dataset = VolumeCollectionDataset(coded_study.CT)
    with pytest.raises(IndexingError):
        dataset[4]
    with pytest.raises(ConfigError, match="Request"):
        dataset["a"]  # type: ignore[index]


def test_patches_that_a_transform_made_unequal_are_refused(coded_study: RadiObject) -> None:
    collate = Collate(SampleSpec("CT", patch_size=4))
    with pytest.raises(ConfigError, match="one shape"):
        collate([{"image": torch.zeros(1, 4, 4, 4)}, {"image": torch.zeros(1, 4, 4, 3)}])


def test_monais_transforms_draw_alike_and_batches_are_plain_tensors(coded_study: RadiObject) -> None:
    transforms = pytest.importorskip("monai.transforms")
    flip = transforms.RandFlipd(keys=["image", "label"], prob=0.5, spatial_axis=[0, 1, 2])
    noise = transforms.RandGaussianNoised(keys="image", prob=1.0)
    both = coded_study.CT, coded_study.seg, PATCH
    plain = SegmentationDataset(*both, foreground_sampling=True)
    dataset = SegmentationDataset(
        *both, foreground_sampling=True, transform=transforms.Compose([flip, noise])
    )
    collate = Collate(plain.plan.spec)
    first, again, unchanged = (collate([of[n] for n in range(12)]) for of in (dataset, dataset, plain))
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert (type(first["image"]), type(first["label"])) == (torch.Tensor, torch.Tensor)
    flipped = [not torch.equal(a, b) for a, b in zip(first["label"], unchanged["label"], strict=True)]
    assert 0 < sum(flipped) < 12
