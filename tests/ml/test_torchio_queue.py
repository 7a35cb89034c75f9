"""A stock Queue, its samplers and GridSampler read the patches that they cut, and no voxel more."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from scipy.stats import chisquare
from torch.utils.data import DistributedSampler

from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import ConfigError, UnknownIdError
from radiobject.ml import VolumeCollectionSubjectsDataset
from radiobject.ml.torchio import ForegroundSampler, TransformedSampler, label_map, scalar_image
from tests.ml.ground import SHAPES, decoded, make_study, mask_of

PATCH = (5, 4, 3)
VOXELS = int(np.prod(PATCH))
BYTES = 4 + 1
"""Of a voxel of the image (int32) and of the mask (uint8)."""


@pytest.fixture
def dataset(coded_study: RadiObject) -> VolumeCollectionSubjectsDataset:
    return VolumeCollectionSubjectsDataset([coded_study.CT, coded_study.seg])


def check(patch: Any) -> None:
    """Image and mask of a patch are those of its place in its volume."""
    name, start = patch["obs_id"][0], torch.as_tensor(patch[tio.LOCATION])[:3]
    where = decoded(patch["CT"][tio.DATA][0])
    assert np.array_equal(where[0, 0, 0], start)
    mask = mask_of(SHAPES[name])[tuple(slice(a, a + n) for a, n in zip(start.tolist(), PATCH, strict=True))]
    assert np.array_equal(patch["seg"][tio.DATA][0], mask)
    x, y, z = where.reshape(-1, 3).max(axis=0) - where.reshape(-1, 3).min(axis=0) + 1
    assert (x, y, z) == PATCH


@pytest.mark.parametrize(
    "sampler", [tio.UniformSampler(PATCH), ForegroundSampler(PATCH, "seg")], ids=["uniform", "foreground"]
)
def test_a_queue_reads_its_patches_and_nothing_else(
    dataset: VolumeCollectionSubjectsDataset, sampler: tio.data.PatchSampler
) -> None:
    for sample in range(4):
        next(sampler(dataset[sample], num_patches=1))  # what is known of the masks' foreground
    with measure() as cost:
        queue = tio.Queue(dataset, 7, 5, sampler)
        loader = tio.SubjectsLoader(queue, batch_size=4)
        assert len(loader) == 5
        assert (cost["bytes_used"], cost["volumes_opened"]) == (0, 0)
        batches = list(loader)
    patches = [{k: _one(v, n) for k, v in b.items()} for b in batches for n in range(len(b["obs_id"]))]
    assert Counter(patch["obs_id"] for patch in patches) == {f"{s}_CT": 5 for s in SHAPES}
    for patch in patches:
        check(patch)
    assert cost["bytes_used"] == 20 * VOXELS * BYTES


def _one(value: Any, n: int) -> Any:
    return {k: v[n] for k, v in value.items()} if isinstance(value, dict) else value[n]


def test_only_the_chunks_that_a_patch_touches_are_decoded(tmp_path: Any) -> None:
    radi = make_study(tmp_path, write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4))))
    subject = VolumeCollectionSubjectsDataset(radi.CT)[0]
    with measure() as cost:
        patch = subject[4:8, 4:8, 4:8]
        assert patch["CT"].data.shape == (1, 4, 4, 4)
    assert (cost["chunks_decoded"], cost["bytes_used"]) == (1, 256)


@pytest.mark.parametrize("overlap", [0, 2])
def test_grids_read_their_patches_and_put_the_volume_together_again(
    dataset: VolumeCollectionSubjectsDataset, overlap: int
) -> None:
    for number, shape in enumerate(SHAPES.values()):
        subject = dataset[number]
        with measure() as cost:
            grid = tio.GridSampler(subject, PATCH, 0 if overlap == 0 else (2, 2, 2))
            whole = tio.GridAggregator(grid)
            mask = tio.GridAggregator(grid, overlap_mode="average")
            assert cost["bytes_used"] == 0
            for batch in tio.SubjectsLoader(grid, batch_size=3):
                whole.add_batch(batch["CT"][tio.DATA], batch[tio.LOCATION])
                mask.add_batch(batch["seg"][tio.DATA].float(), batch[tio.LOCATION])
        assert cost["bytes_used"] == len(grid) * VOXELS * BYTES
        assert np.array_equal(decoded(whole.get_output_tensor()[0]), np.moveaxis(np.indices(shape), 0, -1))
        assert np.array_equal(mask.get_output_tensor()[0], mask_of(shape))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of every fork of a process with threads
@pytest.mark.filterwarnings("ignore:TileDB is a multithreading library:UserWarning")  # likewise
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_queue_works_with_workers_of_every_kind(
    dataset: VolumeCollectionSubjectsDataset, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """They make the subjects; the patches are read in this process."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        queue = tio.Queue(dataset, 8, 2, ForegroundSampler(PATCH), num_workers=1)
        found = [p for batch in tio.SubjectsLoader(queue, batch_size=8) for p in batch["CT"][tio.DATA]]
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert len(found) == 8
    for patch in found:
        where = decoded(patch[0]).reshape(-1, 3)
        assert tuple(where.max(axis=0) - where.min(axis=0) + 1) == PATCH


def test_each_rank_takes_the_subjects_of_its_sampler(dataset: VolumeCollectionSubjectsDataset) -> None:
    names = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True)
        queue = tio.Queue(
            dataset, 4, 2, tio.UniformSampler(PATCH), subject_sampler=sampler, shuffle_subjects=False
        )
        assert len(queue) == 4
        names += [name for batch in tio.SubjectsLoader(queue, batch_size=2) for name in batch["obs_id"]]
    assert Counter(names) == {f"{s}_CT": 2 for s in SHAPES}


def test_subjects_may_want_different_numbers_of_patches(coded_study: RadiObject) -> None:
    wanted = {"a": 1, "b": 4, "c": 2, "d": 1}
    dataset = VolumeCollectionSubjectsDataset(coded_study.CT, num_samples=wanted)
    queue = tio.Queue(dataset, 8, 99, tio.UniformSampler(PATCH))
    assert len(queue) == 8
    names = [name for batch in tio.SubjectsLoader(queue, batch_size=4) for name in batch["obs_id"]]
    assert Counter(names) == {f"{s}_CT": n for s, n in wanted.items()}
    for wrong in ({**wanted, "a": 0}, {**wanted, "a": 1.5}):
        with pytest.raises(ConfigError, match="num_samples= of a_CT"):
            VolumeCollectionSubjectsDataset(coded_study.CT, num_samples=wrong)


def test_patches_are_transformed_after_they_are_cut(dataset: VolumeCollectionSubjectsDataset) -> None:
    transform = tio.Compose([tio.RescaleIntensity((0, 1)), tio.RandomFlip((0, 1, 2))])
    sampler = TransformedSampler(tio.UniformSampler(PATCH), transform)
    queue = tio.Queue(dataset, 8, 2, sampler)
    with measure() as cost:
        (batch,) = tio.SubjectsLoader(queue, batch_size=8)
    assert cost["bytes_used"] == 8 * VOXELS * BYTES
    assert batch["CT"][tio.DATA].amax((1, 2, 3, 4)).tolist() == [1.0] * 8
    assert batch[tio.LOCATION].shape == (8, 6)


def centres_of(sampler: ForegroundSampler, subject: tio.Subject, count: int) -> Counter[tuple[int, ...]]:
    """Where in the volume the voxels lie that patches have in their middle."""
    patches = sampler(subject, num_patches=count)
    return Counter(tuple(map(int, patch[tio.LOCATION][:3] + torch.tensor(PATCH) // 2)) for patch in patches)


def test_classes_come_in_the_shares_asked_for_and_voxels_of_one_equally_often(
    dataset: VolumeCollectionSubjectsDataset,
) -> None:
    torch.manual_seed(3)
    subject, mask = dataset[1], mask_of(SHAPES["b"])
    found = centres_of(ForegroundSampler(PATCH, "seg", {0: 0, 1: 1, 3: 3}), subject, 2000)
    # class 3 is one voxel, (1, 2, 3), moved inwards along x; class 1 fills a corner of 4 x 3 x 3
    assert found[2, 2, 3] / 2000 == pytest.approx(0.75, abs=0.03)
    ones = np.argwhere(mask == 1)
    moved = Counter(map(tuple, np.clip(ones, np.array(PATCH) // 2, mask.shape - (np.array(PATCH) + 1) // 2)))
    assert set(found) - {(2, 2, 3)} == set(moved)
    shares = np.array([moved[at] for at in moved]) / len(ones)
    counts = np.array([found[at] for at in moved])
    assert chisquare(counts, shares * counts.sum()).pvalue > 1e-3


def test_without_probabilities_classes_are_equally_likely(dataset: VolumeCollectionSubjectsDataset) -> None:
    torch.manual_seed(4)
    found = centres_of(ForegroundSampler(PATCH), dataset[3], 1000)
    assert found[2, 2, 3] / 1000 == pytest.approx(0.5, abs=0.06)
    # a list names them; those that the mask lacks do not count
    assert set(centres_of(ForegroundSampler(PATCH, "seg", [3, 9]), dataset[3], 20)) == {(2, 2, 3)}


def test_a_subject_without_the_classes_gets_patches_anywhere(
    dataset: VolumeCollectionSubjectsDataset,
) -> None:
    found = centres_of(ForegroundSampler(PATCH, "seg", [9]), dataset[0], 300)
    assert len(found) > 100


@pytest.mark.parametrize("wrong", [{1: -1}, {1: 0, 2: 0}, [], {0.5: 1}])
def test_probabilities_that_find_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="classes"):
        ForegroundSampler(PATCH, "seg", wrong)


def test_the_sampler_draws_from_torchs_generator(dataset: VolumeCollectionSubjectsDataset) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(centres_of(ForegroundSampler(PATCH, "seg", [1]), dataset[0], 20))
    assert drawn[0] == drawn[1] != drawn[2]


def test_foreground_is_that_of_masks_as_they_are_stored(
    coded_study: RadiObject, dataset: VolumeCollectionSubjectsDataset
) -> None:
    flipped = tio.Flip(0)(dataset[0])
    alone = tio.Subject(CT=scalar_image(coded_study.CT.iloc[0]), seg=label_map(coded_study.seg.iloc[0]))
    changed = dataset[0]
    changed.seg.data[:, :3] = 1
    smaller = dataset[0]
    for image in (smaller.CT, smaller.seg):
        image.set_data(image.data[:, 2:])
    for subject in (flipped, alone, changed, smaller):
        with pytest.raises(ConfigError, match="as stored"):
            next(ForegroundSampler(PATCH)(subject))
    for name, subject in (("CT", dataset[0]), ("none", dataset[0]), (None, tio.Subject(CT=alone.CT))):
        with pytest.raises(UnknownIdError, match="LabelMap"):
            next(ForegroundSampler(PATCH, name)(subject))
    with pytest.raises(RuntimeError, match="cannot be larger"):
        ForegroundSampler(20)(dataset[0])


@pytest.mark.parametrize(
    "again", [lambda it: it, lambda it: pickle.loads(pickle.dumps(it))], ids=["", "pickled"]
)
def test_subjects_pickle_without_voxels_and_other_subjects(
    dataset: VolumeCollectionSubjectsDataset, again: Callable[[Any], Any]
) -> None:
    with measure() as cost:
        subject = again(again(dataset)[3])
        assert len(pickle.dumps(subject)) < 15_000
    assert cost["bytes_used"] == 0
    (patch,) = ForegroundSampler(PATCH, "seg", [3])(subject, num_patches=1)
    assert patch.seg.data[0, 1, 2, 1] == 3
