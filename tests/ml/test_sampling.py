"""Where patches lie: uniform to the borders, near each other when asked for, on masks, on grids."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from radiobject import RadiObject
from radiobject.errors import ConfigError, MetadataError, UnknownIdError
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Foreground, Grid, Sampling, Uniform, Weighted
from radiobject.ml.spec import SampleSpec

PATCH = (10, 8, 7)


@pytest.fixture(scope="module")
def cohort(coded_study: RadiObject) -> Cohort:
    """The first one's volume has 4 x 4 x 3 places for a patch, the third one's is smaller than it."""
    return Cohort.of(SampleSpec("CT", "seg", patch_size=PATCH), coded_study)


@pytest.fixture
def small(coded_study: RadiObject) -> Cohort:
    return Cohort.of(SampleSpec("CT", "seg", patch_size=3), coded_study)


@pytest.mark.parametrize("locality", [1, 3, 8])
def test_every_place_is_equally_likely_the_borders_too(cohort: Cohort, locality: int) -> None:
    sampling = Uniform(locality)
    plan = PatchPlan(cohort.spec, cohort, sampling, seed=11, locality=locality)
    found: Counter[tuple[int, int, int]] = Counter()
    for epoch in range(3000):
        plan.set_epoch(epoch)
        # one of each visit: those of a visit are near each other, and do not count for themselves
        for request in {r.visit: r for r in plan if r.sample == 0}.values():
            found[request.start] += 1
    assert set(found) == set(np.ndindex(4, 4, 3))
    assert chisquare([found[at] for at in np.ndindex(4, 4, 3)]).pvalue > 1e-3


def test_a_volume_smaller_than_the_patch_lies_in_its_middle(cohort: Cohort) -> None:
    starts = {r.start for r in PatchPlan(cohort.spec, cohort, Uniform(4)) if r.sample == 2}
    assert {start[0] for start in starts} == {-2}  # 7 of 10
    assert {start[1] for start in starts} <= {0, 1}  # 9 of 8


def test_patches_of_a_visit_lie_near_each_other(coded_study: RadiObject) -> None:
    spec = SampleSpec("CT", patch_size=2)
    plan = PatchPlan(spec, coded_study, Uniform(800), locality=8, seed=3)
    near: dict[int, list[tuple[int, int, int]]] = {}
    for request in plan:
        near.setdefault(request.visit, []).append(request.start)
    assert max(np.ptp(np.array(starts), axis=0).max() for starts in near.values()) == 1
    assert {at for starts in near.values() for at in starts if starts} >= {(0, 0, 0), (5, 7, 10)}


def test_weights_say_how_often_a_volume_comes(cohort: Cohort) -> None:
    for weights in ("age", [40.0, 50.0, 60.0, 70.0]):
        plan = PatchPlan(cohort.spec, cohort, Weighted(weights, 6000), seed=2)
        counts = Counter(r.sample for r in plan)
        expected = np.array([40, 50, 60, 70]) / 220 * 6000
        assert chisquare([counts[n] for n in range(4)], expected).pvalue > 1e-3
    assert len(PatchPlan(cohort.spec, cohort, Weighted("age"), locality=3)) == 4
    assert {r.sample for r in PatchPlan(cohort.spec, cohort, Weighted([0, 0, 1, 0], 9))} == {2}


def test_weights_that_are_none_are_refused(cohort: Cohort) -> None:
    for weights, what in (([1, 2], "4 weights"), ([1, -1, 0, 0], "-1"), ([0, 0, 0, 0], "all 0")):
        with pytest.raises((ConfigError, MetadataError), match=what):
            len(PatchPlan(cohort.spec, cohort, Weighted(weights)))
    with pytest.raises(UnknownIdError, match="weight"):
        len(PatchPlan(cohort.spec, cohort, Weighted("weight")))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 15)] * 3), overlap=st.integers(0, 4), locality=st.integers(1, 5)
)  # fmt: skip
def test_a_grid_covers_every_voxel_with_the_overlap(
    coded_study: RadiObject, size: tuple[int, int, int], overlap: int, locality: int
) -> None:
    overlap = min(overlap, min(size) - 1)
    spec = SampleSpec("CT", patch_size=size)
    plan = PatchPlan(spec, coded_study, Grid(overlap), shuffle=False, locality=locality)
    found: dict[int, list[tuple[int, int, int]]] = {}
    visits: dict[int, set[int]] = {}
    for request in plan:
        found.setdefault(request.sample, []).append(request.start)
        visits.setdefault(request.visit, set()).add(request.sample)
    assert all(len(samples) == 1 for samples in visits.values())
    for sample, shape in enumerate(plan.cohort.shapes.tolist()):
        lines = [sorted({start[axis] for start in found[sample]}) for axis in range(3)]
        assert len(found[sample]) == len(set(found[sample])) == np.prod([len(line) for line in lines])
        for line, step, n in zip(lines, size, shape, strict=True):
            assert line[0] <= 0
            assert line[-1] + step >= n
            assert len(line) == 1 or (line[0], line[-1]) == (0, n - step)
            assert all(b - a <= step - overlap for a, b in pairwise(line))


def test_an_overlap_that_leaves_no_step_is_refused(cohort: Cohort) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        len(PatchPlan(cohort.spec, cohort, Grid(overlap=(0, 8, 0))))


def test_an_epoch_has_every_slice_in_visits_of_neighbours(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT", plane="axial"), coded_study, locality=4)
    cuts, shapes = plan.cohort.cuts, plan.cohort.shapes
    assert len(set(cuts.tolist())) > 1
    slices = {(r.sample, r.start[int(cuts[r.sample])]) for r in plan}
    assert slices == {(n, i) for n in range(4) for i in range(shapes[n][cuts[n]])}
    assert len(plan) == len(slices)
    near: dict[int, list[int]] = {}
    for request in plan:
        near.setdefault(request.visit, []).append(request.start[int(cuts[request.sample])])
    assert all(max(found) - min(found) == len(found) - 1 < 4 for found in near.values())


def test_slices_can_be_drawn_too(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT", plane="sagittal"), coded_study, Uniform(3))
    assert len(plan) == 12
    assert len({r.start for r in plan}) > 4


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_share_of_patches_is_centred_on_the_mask(small: Cohort, fraction: float) -> None:
    plan = PatchPlan(small.spec, small, Foreground(fraction, per_volume=100), seed=5)
    centred = 0
    for request in plan:
        assert min(request.start) >= 0
        centred += bool(read_sample(small, request)["label"][0, 1, 1, 1])
    # of the others, a few are by chance
    assert fraction - 0.01 <= centred / len(plan) <= fraction + 0.06


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, 0.5),
        ([3], 1.0),
        ([1], 0.0),
        ({1: 3.0, 3: 1.0}, 0.25),
        ([1, 3, 9], 0.5),
    ],
)
def test_classes_are_drawn_by_weight_whatever_their_size(
    small: Cohort, classes: object, expected: float
) -> None:
    sampling = Foreground(1.0, classes, per_volume=250)  # type: ignore[arg-type]
    plan = PatchPlan(small.spec, small, sampling, seed=1)
    # class 3 is the voxel 1, 2, 3, the centre of one patch alone; class 1 lies elsewhere
    threes = np.mean([request.start == (0, 1, 2) for request in plan])
    assert threes == pytest.approx(expected, abs=0.06)


def test_voxels_of_a_class_are_equally_likely(small: Cohort) -> None:
    plan = PatchPlan(small.spec, small, Foreground(1.0, [1], per_volume=4000), seed=8)
    starts = Counter(r.start for r in plan if r.sample == 0)
    # 4 x 3 x 3 voxels in the corner; patches that would leave the volume are moved inwards, together
    room = np.array([10, 8, 6])
    voxels = np.array([13, 11, 9]) - np.array([4, 3, 3]) + np.array(list(np.ndindex(4, 3, 3)))
    expected = Counter(tuple(at) for at in np.clip(voxels - 1, 0, room).tolist())
    assert set(starts) == set(expected)
    share = [starts[at] for at in expected], [expected[at] / 36 * 4000 for at in expected]
    assert chisquare(*share).pvalue > 1e-3


def test_a_volume_without_the_class_gets_uniform_patches(small: Cohort) -> None:
    plan = PatchPlan(small.spec, small, Foreground(1.0, [77], per_volume=5), seed=1)
    assert len({r.start for r in plan}) > 10
    plain: Sampling = Foreground(0.0, per_volume=5)
    assert {r.start for r in plan} == {r.start for r in PatchPlan(small.spec, small, plain, seed=1)}


def test_foreground_without_a_mask_is_refused(coded_study: RadiObject, small: Cohort) -> None:
    with pytest.raises(ConfigError, match="masks="):
        len(PatchPlan(SampleSpec("CT", patch_size=3), coded_study, Foreground()))
    with pytest.raises(ConfigError, match="'liver'"):
        len(PatchPlan(small.spec, small, Foreground(key="liver")))
    for options in ({"fraction": 1.5}, {"per_volume": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Foreground(**options)
