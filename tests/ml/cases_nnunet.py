"""What nnU-Net makes of our dataset; `test_nnunet.py` runs this file where nnU-Net is installed."""

from __future__ import annotations

import doctest
import json
import pickle
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.label_handling.label_handling import LabelManager

import radiobject.ml.nnunet
from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import ConfigError, UnknownIdError
from radiobject.examples import study
from radiobject.ml import SampleSpec
from radiobject.ml.nnunet import RadiNnUNetDataset
from tests.ml.ground import SHAPES, decoded, make_study

PATCH = (4, 5, 6)
LABELS = LabelManager({"background": 0, "corner": 1, "nothing": 2, "point": 3}, None)
PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/nnunet.md"


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """In chunks that are smaller than the patches, so that what is read can be told from all of a volume."""
    return make_study(tmp_path_factory.mktemp("nnunet"), write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4))))


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    """nnU-Net draws from NumPy's generator of the process."""
    kept = np.random.get_state()
    np.random.seed(1)
    yield
    np.random.set_state(kept)


def loader(dataset: Any, patch: tuple[int, ...] = PATCH, share: float = 0.0, size: int = 3) -> Any:
    return nnUNetDataLoader(dataset, size, patch, patch, LABELS, oversample_foreground_percent=share)


def crop(radi: RadiObject, name: str, case: str, start: list[int], patch: tuple[int, ...], pad: int) -> Any:
    """A box z, y, x of a volume, read as a whole and cut by NumPy."""
    whole = radi.collection(name).loc[case.replace("CT", name)].to_numpy().T
    padded = np.pad(whole.astype("i4"), [(p, p) for p in patch], constant_values=pad)
    return padded[tuple(slice(a + p, a + 2 * p) for a, p in zip(start, patch, strict=True))]


@pytest.mark.parametrize("dtype", ["float32", "native"])
def test_batches_are_the_crops_of_the_volumes(coded: RadiObject, dtype: Any) -> None:
    spec = SampleSpec(["CT", "PET"], "seg", dtype=dtype)
    seen = set()
    batches = loader(RadiNnUNetDataset.over(coded, spec)())
    for _ in range(12):
        batch = next(batches)
        assert batch["data"].shape == (3, 2, *PATCH)
        assert (batch["data"].dtype, batch["target"].dtype) == (torch.float32, torch.int16)
        images, masks = batch["data"].numpy(), batch["target"].numpy()
        for case, data, seg in zip(batch["keys"], images, masks, strict=True):
            x, y, z = decoded(data[0, 0, 0, 0])
            start = [z, y, x]
            seen.add((case, *start))
            for channel, name in enumerate(("CT", "PET")):
                np.testing.assert_array_equal(data[channel], crop(coded, name, case, start, PATCH, 0))
            np.testing.assert_array_equal(seg[0], crop(coded, "seg", case, start, PATCH, -1))
    assert len(seen) > 20


def test_a_patch_larger_than_its_volume_is_padded_as_nnunet_pads(coded: RadiObject) -> None:
    dataset = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"))(identifiers=["c_CT"])
    patch = (16, 13, 11)  # of 12, 9, 7: two voxels more at every side
    batch = next(loader(dataset, patch, size=1))
    assert SHAPES["c"] == (7, 9, 12)
    np.testing.assert_array_equal(batch["data"][0, 0], crop(coded, "CT", "c_CT", [-2, -2, -2], patch, 0))
    np.testing.assert_array_equal(batch["target"][0, 0], crop(coded, "seg", "c_CT", [-2, -2, -2], patch, -1))


def test_forced_patches_have_foreground_and_every_class_in_turn(coded: RadiObject) -> None:
    batches = loader(RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"))(), share=1 / 3)
    classes: Counter[int] = Counter()
    for _ in range(200):
        found = np.unique(next(batches)["target"][-1, 0].numpy())
        classes.update(found.tolist())
        assert found[-1] > 0
    # class 3 is one voxel of a volume, class 1 is 36; no patch holds both
    assert classes[1] + classes[3] == 200
    assert 0.4 < classes[3] / 200 < 0.6


def test_regions_are_asked_for_as_nnunet_names_them(coded: RadiObject) -> None:
    spec = SampleSpec("CT", "seg")
    dataset = RadiNnUNetDataset.over(coded, spec, classes=[(1, 3), 3, 2])()
    places = dataset.load_case("a_CT")[3]["class_locations"]
    mask = coded.seg.loc["a_seg"].to_numpy().T[None]
    assert {value: len(voxels) for value, voxels in places.items()} == {(1, 3): 37, 3: 1, 2: 0}
    every = np.asarray(places[1, 3])
    np.testing.assert_array_equal(every[np.lexsort(every.T[::-1])], np.argwhere(mask > 0))
    np.testing.assert_array_equal(places[3][0], [0, 3, 2, 1])
    assert next(loader(dataset, share=1.0))["data"].shape == (3, 1, *PATCH)


def test_only_the_patches_are_read_and_no_mask_for_the_foreground(coded: RadiObject) -> None:
    dataset = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg", dtype="native"))()
    with measure() as opening:
        for case in dataset.identifiers:
            dataset.load_case(case)
    assert (opening["bytes_used"], opening["chunks_decoded"]) == (0, 0)
    batches = loader(dataset, share=1.0)
    with measure() as cost:
        keys = Counter(case for _ in range(10) for case in next(batches)["keys"])
    assert keys.total() == 30
    # int32 images and uint8 masks, and of each exactly the box that lies in the volume
    assert cost["bytes_used"] <= 30 * np.prod(PATCH) * 5
    assert cost["bytes_used"] > 0.8 * 30 * np.prod(PATCH) * 5


def test_values_are_those_of_the_study_or_what_normalize_makes_of_them(coded: RadiObject) -> None:
    spec = SampleSpec(["CT", "PET"], "seg")
    calls = []

    def normalize(block: Any, case: str) -> Any:
        calls.append((block.shape, case))
        return block / 2

    data = RadiNnUNetDataset.over(coded, spec, normalize=normalize)().load_case("b_CT")[0]
    plain = RadiNnUNetDataset.over(coded, spec)().load_case("b_CT")[0]
    assert data.shape == plain.shape == (2, 8, 14, 10)
    np.testing.assert_array_equal(data[1:, 2:4, ..., 5], plain[...][1:, 2:4, :, 5] / 2)
    assert calls == [((2, 2, 14, 1), "b_CT")]
    assert (plain.dtype, plain[...].dtype, data[...].dtype) == (np.float32,) * 3
    np.testing.assert_array_equal(np.asarray(plain)[0], coded.CT.loc["b_CT"].to_numpy().T)
    with measure() as cost:
        pet = plain[1:, 3]
    np.testing.assert_array_equal(pet[0], coded.PET.loc["b_PET"].to_numpy().T[3])
    assert cost["bytes_used"] == pet[0].size * 4


def test_frames_of_a_volume_are_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans, mask = rng.integers(0, 99, (5, 6, 7, 3), "i2"), rng.integers(0, 2, (5, 6, 7), "u1")
    images = {
        "MR": [((scans, np.eye(4)), "a")],
        "T1w": [((scans[..., 0], np.eye(4)), "a")],
        "seg": [((mask, np.eye(4)), "a")],
    }
    radi = RadiObject.from_niftis(tmp_path / "study", images, labels=["seg"], axis4="channel")
    dataset = RadiNnUNetDataset.over(radi, SampleSpec(["T1w", "MR"], "seg", dtype="native"))()
    data = dataset.load_case("a_T1w")[0]
    expected = np.stack([scans[..., n].T for n in (0, 0, 1, 2)])
    np.testing.assert_array_equal(data[:], expected)
    for index in ((slice(2, 4), 3), (slice(0, 2), slice(2, 5), ..., slice(1, 3)), (-1, ..., 0), [3, 0]):
        np.testing.assert_array_equal(data[index], expected[index])


def test_a_dataset_on_a_grid_of_its_own_has_its_foreground_there(coded: RadiObject) -> None:
    dataset = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg", axcodes="LPS"))()
    for case in dataset.identifiers:
        _, seg, _, properties = dataset.load_case(case)
        mask = np.asarray(seg)
        for value, places in properties["class_locations"].items():
            assert (mask[tuple(np.asarray(places).T)] == value).all()


def test_what_nnunet_writes_lies_where_the_volume_lies(coded: RadiObject, tmp_path: Path) -> None:
    dataset = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"))()
    for case in dataset.identifiers:
        _, seg, _, properties = dataset.load_case(case)
        file = tmp_path / f"{case}.nii.gz"
        SimpleITKIO().write_seg(seg[0], str(file), properties)
        back = RadiObject.from_niftis(tmp_path / case, {"seg": [(file, case)]}, labels=["seg"]).seg.iloc[0]
        mask = coded.seg.loc[case.replace("CT", "seg")]
        np.testing.assert_array_equal(back.to_numpy(), mask.to_numpy())
        np.testing.assert_allclose(back.affine, mask.affine, atol=1e-5)
        np.testing.assert_allclose(properties["spacing"], mask.spacing[::-1])


def test_worker_processes_give_the_same_kind_of_batches(coded: RadiObject) -> None:
    dataset = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"))()
    next(loader(dataset))  # this process has read before it forks
    workers = NonDetMultiThreadedAugmenter(loader(dataset), None, 2, 2, seeds=[1, 2])
    try:
        for _ in range(6):
            batch = next(workers)
            for case, data in zip(batch["keys"], batch["data"].numpy(), strict=True):
                x, y, z = decoded(data[0, 0, 0, 0])
                np.testing.assert_array_equal(data[0], crop(coded, "CT", case, [z, y, x], PATCH, 0))
    finally:
        workers._finish()


def test_a_dataset_pickles_with_its_cases(coded: RadiObject) -> None:
    made = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"), classes=[3])
    dataset = made(identifiers=["d_CT", "a_CT"])
    again = pickle.loads(pickle.dumps(dataset))
    assert again.identifiers == ["a_CT", "d_CT"]
    np.testing.assert_array_equal(again.load_case("d_CT")[0][:], dataset.load_case("d_CT")[0][:])
    assert list(again.load_case("d_CT")[3]["class_locations"]) == [3]


def test_what_does_not_fit_is_refused(coded: RadiObject) -> None:
    for spec, words in (
        (SampleSpec("CT", "seg", patch_size=4), "its own patch size"),
        (SampleSpec("CT", "seg", plane="axial"), "its own patch size"),
        (SampleSpec("CT"), "one mask"),
        (SampleSpec({"ct": "CT", "pet": "PET"}, "seg"), "one key of images"),
    ):
        with pytest.raises(ConfigError, match=words):
            RadiNnUNetDataset.over(coded, spec)
    made = RadiNnUNetDataset.over(coded, SampleSpec("CT", "seg"))
    with pytest.raises(UnknownIdError, match="z_CT"):
        made(identifiers=["a_CT", "z_CT"])
    with pytest.raises(ConfigError, match="cascades"):
        made(folder_with_segs_from_previous_stage="previous")
    with pytest.raises(ConfigError, match=r"RadiNnUNetDataset\.over"):
        RadiNnUNetDataset()
    with pytest.raises(ConfigError, match="from_niftis"):
        made.save_case(None, None, {}, "case")
    spec = SampleSpec("CT", "seg")
    shorter = RadiNnUNetDataset.over(coded, spec, normalize=lambda block, case: block[:, 1:])
    with pytest.raises(ConfigError, match="normalize="):
        shorter().load_case("a_CT")[0][:]


FINGERPRINT = {
    "spacings": [[4.0, 4.0, 4.0]] * 3,
    "shapes_after_crop": [[47, 58, 49]] * 3,
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 500.0, "median": 500.0, "std": 100.0, "min": 1.0, "max": 900.0,
              "percentile_00_5": 100.0, "percentile_99_5": 800.0}
    },
    "median_relative_size_after_cropping": 1.0,
}  # fmt: skip
"""What nnU-Net would find out about three of our heads, were it to read them."""


@pytest.mark.slow
def test_the_trainer_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("nnUNet_compile", "f")
    (block,) = re.findall(r"```python\n([^`]*class nnUNetTrainerStudy[^`]*)```", PAGE.read_text())
    (tmp_path / "nnUNetTrainerStudy.py").write_text(block)
    radi = study(n=2, uri=tmp_path / "heads")
    raw = tmp_path / "raw/Dataset001_Heads"
    for folder, name in (("imagesTr", "T1w"), ("labelsTr", "seg")):
        (raw / folder).mkdir(parents=True)
        for volume in radi.collection(name):
            suffix = "_0000" if name == "T1w" else ""
            volume.to_nifti(raw / folder / f"{volume.obs_id}{suffix}.nii.gz")
    (raw / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "MR"}, "labels": {"background": 0, "grey": 1, "white": 2},
        "numTraining": len(radi.T1w), "file_ending": ".nii.gz",
    }))  # fmt: skip
    made = tmp_path / "preprocessed/Dataset001_Heads"
    made.mkdir(parents=True)
    (made / "dataset_fingerprint.json").write_text(json.dumps(FINGERPRINT))
    plan_experiments([1])
    # nnU-Net's own search for trainers imports all of them, and one needs a torchvision that fits this torch
    plans, dataset = (json.loads((made / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
    kind = runpy.run_path(str(tmp_path / "nnUNetTrainerStudy.py"))["nnUNetTrainerStudy"]
    plans["continue_training"] = False
    trainer = kind(plans, "3d_fullres", "all", dataset, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
    trainer.run_training()
    assert issubclass(trainer.dataset_class, RadiNnUNetDataset)
    assert sorted(trainer.dataset_class.get_identifiers()) == sorted(radi.T1w.obs_ids)
    assert np.isfinite(trainer.logger.local_logger.my_fantastic_logging["train_losses"]).all()
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()


def test_the_examples_of_the_module_run() -> None:
    result = doctest.testmod(radiobject.ml.nnunet, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (result.failed, result.attempted > 0) == (0, True)
