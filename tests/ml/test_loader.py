"""RadiLoader: the plan's batches, whatever the threads, and to the batch where the loop stands."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from radiobject import RadiObject, ReadConfig, configure, measure
from radiobject.errors import ConfigError, IntegrityError, TransformError
from radiobject.ml.batches import Collate
from radiobject.ml.buffers import BufferPool
from radiobject.ml.filling import Filling
from radiobject.ml.loader import RadiLoader
from radiobject.ml.plan import PatchPlan
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Grid, Sampling, Uniform
from radiobject.ml.spec import SampleSpec
from radiobject.ml.visits import Visit

SHAPES = [(40, 33, 21), (50, 41, 65), (36, 66, 36), (70, 44, 30)]
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def write(place: Path) -> RadiObject:
    """Four subjects of different sizes, with an int16 image and a mask; one is thinner than a patch of 24."""
    rng = np.random.default_rng(3)
    images: dict[str, list[Any]] = {"T1w": [], "seg": []}
    for number, shape in enumerate(SHAPES):
        voxels = rng.integers(0, 999, shape).astype(np.int16)
        images["T1w"].append(((voxels, AFFINE), f"sub-{number}"))
        images["seg"].append((((voxels % 3).astype(np.uint8), AFFINE), f"sub-{number}"))
    ages = {"obs_subject_id": [f"sub-{n}" for n in range(4)], "age": [30, 41, 52, 63]}
    return RadiObject.from_niftis(place, images, pd.DataFrame(ages), labels=["seg"], progress=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    return write(tmp_path_factory.mktemp("loader") / "study")


def plan(study: RadiObject, sampling: Sampling | None = None, locality: int = 1, **spec: Any) -> PatchPlan:
    settings = {"patch_size": 24, "pad": -1, **spec}
    described = SampleSpec("T1w", "seg", "age", **settings)
    return PatchPlan(described, study, sampling or Uniform(5), seed=1, locality=locality, window=2)


def expected(of: PatchPlan, size: int) -> list[dict[str, Any]]:
    """Batches put together sample by sample."""
    batches = []
    for first in range(0, len(of), size):
        requests = [of[n] for n in range(first, min(first + size, len(of)))]
        samples = [read_sample(of.cohort, request) for request in requests]
        for sample in samples:
            sample.update({key: torch.from_numpy(sample[key]) for key in of.cohort.dtypes})
        batches.append(Collate(of.spec)(samples))
    return batches


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype
        if isinstance(a[k], torch.Tensor)
        else a[k] == b[k]
        for k in a
    )


def all_same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("locality", [1, 4])
def test_batches_are_the_plans_whatever_the_threads(study: RadiObject, threads: int, locality: int) -> None:
    found = list(RadiLoader(plan(study, locality=locality), 3, threads=threads))
    assert all_same(found, expected(plan(study, locality=locality), 3))
    assert found[0]["image"].shape == (3, 1, 24, 24, 24)
    assert found[0]["image"].dtype == torch.float32
    assert found[0]["image"].stride()[2:] == (1, 24, 24 * 24)
    assert (found[0]["label"] >= 0).all()
    assert min(float(b["image"].min()) for b in found) == -1  # the thin volume is padded


@pytest.mark.parametrize("locality", [1, 4])
@pytest.mark.parametrize("spec", [{"patch_size": None}, {"patch_size": None, "plane": "coronal"}])
def test_whole_volumes_and_slices_are_padded_to_the_largest(
    study: RadiObject, spec: dict[str, Any], locality: int
) -> None:
    found = list(RadiLoader(plan(study, locality=locality, **spec), 2))
    assert all_same(found, expected(plan(study, locality=locality, **spec), 2))
    assert {tuple(s) for b in found for s in b["shape"].tolist()} >= {
        tuple(np.delete(shape, 1)) if "plane" in spec else shape for shape in SHAPES
    }


@pytest.mark.parametrize("locality", [1, 4])
@pytest.mark.parametrize("spec", [{"dtype": "native"}, {"spacing": 2.0}, {"axcodes": "LPS"}])
def test_native_and_resampled_batches(study: RadiObject, spec: dict[str, Any], locality: int) -> None:
    found = list(RadiLoader(plan(study, locality=locality, **spec), 4))
    assert all_same(found, expected(plan(study, locality=locality, **spec), 4))


def test_a_visit_is_decoded_once(study: RadiObject) -> None:
    def chunks(locality: int) -> int:
        with configure(read=ReadConfig(cache_bytes=0)), measure() as cost:
            for _ in RadiLoader(plan(study, Uniform(16), locality, patch_size=20), 4):
                pass
        return cost["chunks_decoded"]

    assert chunks(8) < chunks(1) / 2


def test_a_request_that_comes_twice_in_a_visit_is_there_twice(study: RadiObject) -> None:
    ranks = [plan(study, Uniform(3), locality=12).shard(n, 3) for n in range(3)]  # padded to equal lengths
    twice = [len(set(rank)) < len(rank) for rank in ranks]
    assert any(twice)
    for rank in ranks:
        assert all_same(list(RadiLoader(rank, 2)), expected(rank, 2))


def test_a_pass_that_ends_early_frees_its_batches_at_once(study: RadiObject) -> None:
    gc.collect()
    gc.disable()
    try:
        with RadiLoader(plan(study, Uniform(16), locality=8), 4) as loader:
            next(iter(loader))
        assert not [found for found in gc.get_objects() if type(found) in (Filling, Visit)]
    finally:
        gc.enable()


def test_epochs_differ_and_repeat(study: RadiObject) -> None:
    loader = RadiLoader(plan(study), 4)
    first, second = list(loader), list(loader)
    assert not torch.equal(first[0]["start"], second[0]["start"])
    loader.set_epoch(0)
    assert all_same(list(loader), first)


def test_the_last_batch_can_be_dropped(study: RadiObject) -> None:
    for drop, count in ((False, 3), (True, 2)):
        loader = RadiLoader(plan(study), 8, drop_last=drop)
        assert len(loader) == len(list(loader)) == count


@pytest.mark.parametrize("locality", [1, 4])
def test_it_resumes_after_the_batch_that_the_loop_got(study: RadiObject, locality: int) -> None:
    whole = list(RadiLoader(plan(study, locality=locality), 3))
    loader = RadiLoader(plan(study, locality=locality), 3, prefetch=4)
    batches = iter(loader)
    next(batches)
    next(batches)
    state = loader.state_dict()
    loader.close()
    again = RadiLoader(plan(study, locality=locality), 3)
    again.load_state_dict(state)
    again.set_epoch(state["epoch"])
    assert all_same(list(again), whole[2:])
    assert all_same(list(again), expected_second(study, locality))


def expected_second(study: RadiObject, locality: int) -> list[dict[str, Any]]:
    made = plan(study, locality=locality)
    made.set_epoch(1)
    return expected(made, 3)


@pytest.mark.parametrize("locality", [1, 4])
def test_transforms_follow_from_the_plan(study: RadiObject, locality: int) -> None:
    def noisy(sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "image": sample["image"] + torch.rand(1), "noise": float(np.random.rand())}

    plans = [plan(study, locality=locality) for _ in range(2)]
    runs = [list(RadiLoader(p, 4, transform=noisy, threads=n)) for p, n in zip(plans, (1, 3), strict=True)]
    assert all_same(*runs)
    assert len({float(n) for batch in runs[0] for n in batch["noise"]}) == 20


def test_a_collate_function_gets_the_samples(study: RadiObject) -> None:
    loader = RadiLoader(plan(study), 4, collate=lambda samples: {"obs_id": [s["obs_id"] for s in samples]})
    assert sum(len(batch["obs_id"]) for batch in loader) == 20


@pytest.mark.parametrize("locality", [1, 4])
def test_an_error_comes_with_its_batch_and_names_the_volume(tmp_path: Path, locality: int) -> None:
    radi = write(tmp_path / "study")
    (damaged,) = (tmp_path / "study" / "collections" / "T1w" / "sub-2_T1w").glob("*/0/c/0/0/0")
    damaged.write_bytes(damaged.read_bytes()[:-200])
    loader = RadiLoader(plan(radi, Grid(), locality), 1, prefetch=5)
    got: list[dict[str, Any]] = []
    with pytest.raises(IntegrityError) as caught:
        got.extend(loader)  # keeps what came before the error
    assert all(same(batch, expected_one(loader.plan, n)) for n, batch in enumerate(got))
    assert "sub-2_T1w" in caught.value.__notes__[0]
    assert loader.cohort.obs_ids[loader.plan[len(got)].sample] == "sub-2_T1w"


def expected_one(of: PatchPlan, number: int) -> dict[str, Any]:
    sample = read_sample(of.cohort, of[number])
    sample.update({key: torch.from_numpy(sample[key]) for key in of.cohort.dtypes})
    return Collate(of.spec)([sample])


def test_a_transform_that_fails_names_the_volume(study: RadiObject) -> None:
    def failing(sample: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError(sample["idx"])

    with pytest.raises(TransformError, match=r"transform of sub-\d_T1w: ZeroDivisionError"):
        list(RadiLoader(plan(study), 4, transform=failing))


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("RadiLoader")]


def left() -> list[threading.Thread]:
    for thread in readers():
        thread.join(60)
    return readers()


def test_threads_end_with_the_pass(study: RadiObject) -> None:
    with RadiLoader(plan(study), 2, threads=3) as loader:
        passing = iter(loader)
        next(passing)
        assert readers()
    assert not readers()
    gc.disable()
    try:
        for _ in RadiLoader(plan(study), 2, threads=3):
            break
        assert not left()
    finally:
        gc.enable()


def test_a_pass_that_is_dropped_does_not_wait_for_its_readers(study: RadiObject) -> None:
    # where garbage collection drops it, they may wait for a lock that this very thread holds
    held = threading.Event()

    def slow(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["idx"] != first:
            held.wait(60)
        return sample

    of = plan(study)
    first = of[0].sample
    passing: Any = iter(RadiLoader(of, 1, threads=1, prefetch=1, transform=slow))
    next(passing)
    del passing
    waiting = readers()
    held.set()
    assert waiting
    assert not left()


def test_memory_of_batches_is_used_again_only_when_nobody_holds_it() -> None:
    pool = BufferPool(2)
    array, tensor = pool.take((2, 1, 3, 4, 5), np.dtype("f4"))
    place, kept = array.ctypes.data, tensor[0, 0]
    assert tensor.shape == (2, 1, 5, 4, 3)
    del array, tensor
    assert pool.take((2, 1, 3, 4, 5), np.dtype("f4"))[0].ctypes.data != place
    view = kept.numpy()
    del kept
    gc.collect()
    assert pool.take((2, 1, 3, 4, 5), np.dtype("f4"))[0].ctypes.data != place
    del view
    gc.collect()
    assert place in {pool.take((2, 1, 3, 4, 5), np.dtype("f4"))[0].ctypes.data for _ in range(3)}


@pytest.mark.parametrize("locality", [1, 4])
def test_batches_that_are_kept_do_not_change(study: RadiObject, locality: int) -> None:
    kept, copies = [], []
    for batch in RadiLoader(plan(study, locality=locality), 2, prefetch=1):
        kept.append(batch["image"])
        copies.append(batch["image"].clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"prefetch": 0}, {"threads": -1}])
def test_settings_that_make_no_sense(study: RadiObject, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        RadiLoader(plan(study), **settings)


def test_a_transform_may_keep_the_voxels_alone(study: RadiObject) -> None:
    loader = RadiLoader(plan(study), 2, transform=lambda sample: {"image": sample["image"]})
    assert [list(batch) for batch in loader] == [["image"]] * len(loader)
    assert loader.report().samples == len(loader.plan)
