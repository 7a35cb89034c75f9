"""Foreground by index: no mask is read, and patches lie as if it were."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare

from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import ConfigError, CorruptObjectError
from radiobject.ml import foreground as indexing
from radiobject.ml.cohort import Cohort
from radiobject.ml.draws import Draws
from radiobject.ml.foreground import centres, holding, voxels_of
from radiobject.ml.plan import PatchPlan
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Foreground, Grid, Uniform
from radiobject.ml.spec import SampleSpec
from tests.conftest import as_sources
from tests.ml.ground import SHAPES, affine_of, make_study, mask_of


@pytest.fixture
def cohort(coded_study: RadiObject) -> Cohort:
    return Cohort.of(SampleSpec("CT", "seg", patch_size=3), coded_study)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    return make_study(tmp_path_factory.mktemp("plain"), write=WriteConfig(foreground_index=False))


def places(plan: PatchPlan, epochs: int = 2) -> list[Any]:
    found = []
    for epoch in range(epochs):
        plan.set_epoch(epoch)
        found += [(r.sample, r.start, r.seed) for r in plan]
    return found


def test_no_mask_is_read_and_each_index_once(cohort: Cohort) -> None:
    plan = PatchPlan(cohort.spec, cohort, Foreground(1.0, per_volume=3))
    with measure() as cost:
        places(plan)
    assert (cost["volumes_opened"], cost["bytes_decoded"], cost["bytes_used"]) == (0, 0, 0)
    assert cost["indexes_opened"] == 4
    assert 0 < cost["bytes_read"] < 100_000


def test_masks_without_an_index_are_read_once(without: RadiObject) -> None:
    cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=3), without)
    plan = PatchPlan(cohort.spec, cohort, Foreground(1.0, per_volume=3))
    with measure() as cost:
        places(plan)
    assert (cost["volumes_opened"], cost["indexes_opened"]) == (4, 0)


def test_patches_lie_where_the_voxels_would_put_them(coded_study: RadiObject, without: RadiObject) -> None:
    spec = SampleSpec("CT", "seg", patch_size=3)
    sampling = Foreground(0.5, {1: 1.0, 3: 2.0}, per_volume=20)
    by_index = places(PatchPlan(spec, coded_study, sampling, seed=4))
    assert places(PatchPlan(spec, without, sampling, seed=4)) == by_index
    voxels = Foreground(0.5, {1: 1.0, 3: 2.0}, per_volume=20, index=False)
    plan = PatchPlan(spec, coded_study, voxels, seed=4)
    with measure() as cost:
        assert places(plan) == by_index
    assert (cost["volumes_opened"], cost["indexes_opened"]) == (4, 0)


@pytest.mark.parametrize("axcodes", [None, "RAS", "LPI", "SAR"])
def test_turned_volumes_are_hit_exactly(coded_study: RadiObject, axcodes: str | None) -> None:
    cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=1, axcodes=axcodes), coded_study)
    plan = PatchPlan(cohort.spec, cohort, Foreground(1.0, [3], per_volume=2))
    assert {int(read_sample(cohort, r)["label"].item()) for r in plan} == {3}
    for sample in range(len(cohort)):
        found = voxels_of(cohort, None, sample)
        whole = cohort.volume(sample, 1).to_numpy()
        for value, at in zip(found.values.tolist(), found.places, strict=True):
            assert sorted(at.tolist()) == np.flatnonzero(whole.T.reshape(-1) == value).tolist()


@pytest.mark.parametrize("spacing", [0.7, 1.0, (0.5, 1.5, 2.0)])
def test_resampled_volumes_are_hit_within_a_voxel(coded_study: RadiObject, spacing: Any) -> None:
    spec = SampleSpec("CT", "seg", patch_size=5, spacing=spacing)
    cohort = Cohort.of(spec, coded_study)
    plan = PatchPlan(spec, cohort, Foreground(1.0, [1], per_volume=8))
    hits = [bool((read_sample(cohort, r)["label"] == 1).any()) for r in plan]
    assert all(hits)
    samples = np.repeat(np.arange(4), 10)
    found, at = centres(cohort, None, [3], samples, Draws(1))
    assert found.all()
    for sample, voxel in zip(samples.tolist(), at, strict=True):
        name = list(SHAPES)[sample]
        target = (affine_of(list(SHAPES).index(name)) @ (1, 2, 3, 1))[:3]
        mm = cohort.affines[sample][:3, :3] @ voxel + cohort.affines[sample][:3, 3]
        reach = cohort.affines[sample][:3, :3] @ np.full(3, 0.5)
        assert np.linalg.norm(mm - target) <= np.abs(reach).sum() + 1e-6


def test_a_class_that_lies_outside_of_the_grid_is_passed_over(tmp_path: Path) -> None:
    far = np.zeros((12, 6, 6), "u1")
    far[1, 1, 1], far[11, 5, 5] = 1, 2
    images = {"CT": {"a": (np.zeros((6, 6, 6), "i2"), np.eye(4))}, "seg": {"a": (far, np.eye(4))}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=["seg"], progress=False)
    cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=1, grid="first"), radi)
    found, at = centres(cohort, None, None, np.zeros(20, np.int64), Draws(0))
    assert found.all()
    assert {tuple(v) for v in at.tolist()} == {(1, 1, 1)}
    assert not centres(cohort, None, [2], np.zeros(3, np.int64), Draws(0))[0].any()
    assert voxels_of(cohort, None, 0).values.tolist() == [0, 1]
    near = np.zeros(far.shape, "u1")
    near[2, 2, 2] = 2
    more = {"near": [((near, np.eye(4)), "a")]}
    radi.append(more, labels=["near"], progress=False)
    spec = SampleSpec("CT", {"label": ["seg", "near"]}, patch_size=1, grid="first")
    found, at = centres(Cohort.of(spec, radi), None, [2], np.zeros(20, np.int64), Draws(0))
    assert found.all()
    assert {tuple(v) for v in at.tolist()} == {(2, 2, 2)}


def test_voxels_on_the_grid_are_equally_likely_wherever_the_others_lie(tmp_path: Path) -> None:
    mask = np.zeros((12, 6, 6), "u1")
    mask[3:, 2, 2] = 1
    images = {"CT": {"a": (np.zeros((6, 6, 6), "i2"), np.eye(4))}, "seg": {"a": (mask, np.eye(4))}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=["seg"], progress=False)
    cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=1, grid="first"), radi)
    _, at = centres(cohort, None, None, np.zeros(3000, np.int64), Draws(0))
    seen = Counter(at[:, 0].tolist())
    assert set(seen) == {3, 4, 5}
    assert chisquare(list(seen.values())).pvalue > 1e-3


def test_a_turned_mask_costs_a_draw_about_as_much_as_any_other(tmp_path: Path) -> None:
    mask = np.ones((40, 40, 40), "u1")
    images = {"CT": {"a": (np.zeros(mask.shape, "i2"), np.eye(4))}, "seg": {"a": (mask, np.eye(4))}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=["seg"], progress=False)
    seconds = {}
    for axcodes in (None, "LPS"):
        cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=1, axcodes=axcodes), radi)
        rounds = []
        for _ in range(4):
            begun = time.perf_counter()
            centres(cohort, None, None, np.zeros(500, np.int64), Draws(0))
            rounds.append(time.perf_counter() - begun)
        seconds[axcodes] = min(rounds)
    assert seconds["LPS"] < 8 * seconds[None]


def test_patches_larger_than_the_volume_lie_around_it_as_uniform_ones_do(coded_study: RadiObject) -> None:
    spec = SampleSpec("CT", "seg", patch_size=41)
    starts = [
        [request.start for request in PatchPlan(spec, coded_study, sampling, shuffle=False)]
        for sampling in (Uniform(), Foreground(1.0))
    ]
    assert starts[0] == starts[1]
    assert min(min(start) for start in starts[0]) < 0


def test_places_do_not_hang_on_what_was_planned_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.ones((20, 20, 20), "u1")
    images = {"CT": {"a": (np.zeros(mask.shape, "i2"), None)}, "seg": {"a": (mask, None)}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=["seg"], progress=False)
    spec, sampling = SampleSpec("CT", "seg", patch_size=1), Foreground(1.0, per_volume=50)
    expected = places(PatchPlan(spec, radi, sampling))
    monkeypatch.setattr(indexing, "_ALL", 4000)  # fewer places are kept of masks that are read
    cohort = Cohort.of(spec, radi)
    assert places(PatchPlan(spec, cohort, Foreground(1.0, per_volume=50, index=False))) != expected
    assert places(PatchPlan(spec, cohort, sampling)) == expected


def test_indexes_that_there_is_room_for_stay(
    coded_study: RadiObject, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [cohort.indexes.of(cohort, sample, 1, stored=True).nbytes for sample in range(4)]
    monkeypatch.setattr(indexing, "_ALL", sum(sizes) - 1)
    monkeypatch.setattr(indexing, "_READERS", 1)
    plan = PatchPlan(cohort.spec, coded_study, Foreground(1.0))
    opened = []
    for epoch in range(3):
        plan.set_epoch(epoch)
        with measure() as cost:
            len(plan)
        opened.append(cost["indexes_opened"])
    assert opened == [4, 1, 1]


@pytest.mark.parametrize(
    "classes",
    [2, [], ["1"], [1.5], [np.inf], {}, {"1": 1}, {1.5: 1}, {1: -1, 2: 2}, {1: np.nan}, {1: 0}, {1: "x"}],
)
def test_classes_that_no_mask_can_have_are_refused(classes: Any) -> None:
    with pytest.raises(ConfigError, match=r"Foreground\(classes=\)"):
        Foreground(0.5, classes)


def test_classes_are_taken_as_numpy_has_them() -> None:
    assert Foreground(0.5, np.array([1, 3])) == Foreground(0.5, [1, 3]) == Foreground(0.5, (1.0, 3.0))  # type: ignore[arg-type]
    assert Foreground(0.5, {np.uint8(2): 1}) == Foreground(0.5, {2: 1.0})
    with pytest.raises(ConfigError, match=r"Grid\(containing=\)"):
        Grid(containing=[1.5])  # type: ignore[list-item]


def test_several_masks_of_one_key_count_by_their_voxels(tmp_path: Path) -> None:
    def part(rows: slice) -> npt.NDArray[np.uint8]:
        made = np.zeros((10, 10, 10), "u1")
        made[rows, 3, 3:6] = 1
        return made

    images = {"CT": {"a": (np.zeros((10, 10, 10), "i2"), None)}}
    images |= {"one": {"a": (part(slice(0, 1)), None)}, "two": {"a": (part(slice(1, 10)), None)}}
    labels = ["one", "two"]
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=labels, progress=False)
    cohort = Cohort.of(SampleSpec("CT", {"label": labels}, patch_size=1), radi)
    _, at = centres(cohort, None, None, np.zeros(2000, np.int64), Draws(0))
    share = np.mean(at[:, 0] == 0)
    assert 0.07 < share < 0.13
    assert Counter(at[:, 1].tolist()) == {3: 2000}
    assert [len(p) for p in voxels_of(cohort, "label", 0).places] == [1970, 30]


def test_classes_of_any_size_come_as_often_as_asked(tmp_path: Path) -> None:
    mask = np.zeros((40, 40, 40), "u1")
    mask[:20], mask[30:33, 30:33, 30:33], mask[35, 5, 5] = 1, 2, 5
    images = {"CT": {"a": (np.zeros(mask.shape, "i2"), None)}, "seg": {"a": (mask, None)}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=["seg"], progress=False)
    spec = SampleSpec("CT", "seg", patch_size=1)
    plan = PatchPlan(spec, radi, Foreground(0.6, {1: 1, 2: 1, 5: 2}, per_volume=3000), seed=3)
    with measure() as cost:
        starts = [request.start for request in plan]
    assert cost["volumes_opened"] == 0
    values = Counter(int(mask[start]) for start in starts)
    # the other 40 % are uniform: half of these in class 1
    for value, share in ((1, 0.15 + 0.2), (2, 0.15), (5, 0.3)):
        assert values[value] / 3000 == pytest.approx(share, abs=0.03)


def test_a_damaged_index_stops_the_plan_unless_masks_are_read(tmp_path: Path) -> None:
    radi = make_study(tmp_path)
    path = next((Path(radi.uri) / "indexes" / "seg").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    spec = SampleSpec("CT", "seg", patch_size=3)
    with pytest.raises(CorruptObjectError, match="rebuild=True"):
        len(PatchPlan(spec, radi, Foreground(1.0)))
    assert len(PatchPlan(spec, radi, Foreground(1.0, index=False))) == 4


def test_images_serve_as_masks_where_they_hold_integers(tmp_path: Path) -> None:
    soft = np.zeros((6, 6, 6), "f4")
    soft[2, 3, 4] = 1
    images = {"CT": {"a": (np.zeros((6, 6, 6), "i2"), None)}, "part": {"a": (soft, None)}}
    radi = RadiObject.from_niftis(tmp_path / "s", as_sources(images), labels=[], progress=False)
    cohort = Cohort.of(SampleSpec("CT", "part", patch_size=1), radi)
    assert centres(cohort, None, [1], np.zeros(1, np.int64), Draws(0))[1].tolist() == [[2, 3, 4]]
    soft[0, 0, 0] = 0.5
    radi.append({"part": [((soft, None), "a")]}, on_conflict="replace", progress=False)
    with pytest.raises(ConfigError, match="integers"):
        centres(Cohort.of(cohort.spec, radi), None, [1], np.zeros(1, np.int64), Draws(0))


def test_indexes_stay_behind_when_a_cohort_travels(cohort: Cohort) -> None:
    before = pickle.dumps(cohort)
    expected = voxels_of(cohort, "label", 1)
    assert pickle.dumps(cohort) == before
    other = pickle.loads(before)
    found = voxels_of(other, "label", 1)
    assert found.values.tolist() == expected.values.tolist() == [0, 1, 3]
    assert np.unravel_index(found.places[2][0], SHAPES["b"][::-1]) == (3, 2, 1)
    assert int(mask_of(SHAPES["b"])[1, 2, 3]) == 3


@pytest.mark.parametrize("options", [{}, {"axcodes": "LSA"}, {"spacing": 0.8}])
def test_a_grid_leaves_out_patches_without_a_class_and_no_other(tmp_path: Path, options: Any) -> None:
    radi = make_study(tmp_path, write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 8, 8))))
    spec = SampleSpec("CT", "seg", patch_size=3, **options)
    whole = PatchPlan(spec, radi, Grid(1), shuffle=False)
    some = PatchPlan(spec, radi, Grid(1, containing=[3]), shuffle=False)
    with measure() as cost:
        kept = {(r.sample, r.start) for r in some}
    assert cost["volumes_opened"] == 0
    hold = {(r.sample, r.start) for r in whole if (read_sample(whole.cohort, r)["label"] == 3).any()}
    assert hold <= kept < {(r.sample, r.start) for r in whole}
    assert len(kept) <= len(whole) / 2
    assert len(PatchPlan(spec, radi, Grid(1, containing=[77]), shuffle=False)) == 0
    with pytest.raises(ConfigError, match="masks="):
        len(PatchPlan(SampleSpec("CT", patch_size=3), radi, Grid(containing=[3])))


@pytest.mark.parametrize("spacing", [None, 0.25, 0.4, 3.0, (0.3, 1.0, 2.0)])
def test_no_voxel_of_a_class_is_left_out(tmp_path: Path, spacing: Any) -> None:
    radi = make_study(tmp_path, write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 8, 8))))
    cohort = Cohort.of(SampleSpec("CT", "seg", patch_size=1, spacing=spacing), radi)
    for sample in range(len(cohort)):
        whole = cohort.volume(sample, 1).to_numpy()
        for value in np.unique(whole).tolist():
            kept = holding(cohort, None, [value], sample, np.argwhere(whole == value), np.ones(3, np.int64))
            assert kept.all()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of every fork of a process with threads
@pytest.mark.filterwarnings("ignore:TileDB is a multithreading library:UserWarning")  # likewise
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(cohort: Cohort) -> None:
    with cohort.indexes._lock:  # as a thread that is reading an index holds it
        context = multiprocessing.get_context("fork")
        child = context.Process(target=voxels_of, args=(cohort, None, 0), daemon=True)
        child.start()
    child.join(30)
    assert child.exitcode == 0
