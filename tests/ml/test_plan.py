"""PatchPlan: an epoch is a pure function of its settings, dealt and resumed without loss."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject
from radiobject.errors import ConfigError, IndexingError
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan
from radiobject.ml.sampling import Foreground, Grid, Sampling, Uniform, Weighted
from radiobject.ml.spec import SampleSpec

SAMPLINGS: list[Sampling] = [
    Uniform(5),
    Grid(overlap=(1, 0, 2)),
    Weighted("age", 17),
    Foreground(0.5, per_volume=6),
]
PLANS: dict[str, Any] = {
    "sampling": st.integers(0, len(SAMPLINGS) - 1),
    "seed": st.integers(0, 2**40),
    "locality": st.integers(1, 6),
    "epoch": st.integers(0, 5),
}


@pytest.fixture(scope="module")
def cohort(coded_study: RadiObject) -> Cohort:
    return Cohort.of(SampleSpec("CT", "seg", patch_size=(4, 3, 5)), coded_study)


def plan_of(cohort: Cohort, sampling: int, seed: int, locality: int, epoch: int) -> PatchPlan:
    plan = PatchPlan(cohort.spec, cohort, SAMPLINGS[sampling], seed=seed, locality=locality)
    plan.set_epoch(epoch)
    return plan


@settings(max_examples=60, deadline=None)
@given(**PLANS)
def test_equal_plans_decide_alike_in_other_processes_too(cohort: Cohort, **of: int) -> None:
    plan = plan_of(cohort, **of)
    requests = list(plan)
    assert requests == list(plan_of(cohort, **of))
    assert requests == list(pickle.loads(pickle.dumps(plan)))
    assert len(requests) == len(plan) == len({r.number for r in requests})


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), **PLANS)
def test_a_batch_is_known_from_its_number(cohort: Cohort, size: int, **of: int) -> None:
    plan = plan_of(cohort, **of)
    steps = -(-len(plan) // size)
    assert [r for step in range(steps) for r in plan.batch(step, size)] == list(plan)
    assert plan.batch(steps, size) == []


@settings(max_examples=80, deadline=None)
@given(world=st.integers(1, 7), even=st.sampled_from(["pad", "drop", "none"]), **PLANS)
def test_ranks_share_an_epoch_without_overlap(cohort: Cohort, world: int, even: Any, **of: int) -> None:
    plan = plan_of(cohort, **of)
    parts = [list(plan.shard(rank, world, even)) for rank in range(world)]
    whole, dealt = set(plan), Counter(r for part in parts for r in part)
    assert set(dealt) <= whole
    if even != "none":
        assert len({len(part) for part in parts}) == 1
    if even != "drop":
        assert set(dealt) == whole
    if even != "pad":
        assert not dealt or max(dealt.values()) == 1
    for part, other in ((a, b) for n, a in enumerate(parts) for b in parts[:n]):
        shared = {r.visit for r in part} & {r.visit for r in other}
        assert not shared or (even == "pad" and len({r.visit for r in plan}) < world)


@settings(max_examples=60, deadline=None)
@given(taken=st.integers(0, 40), world=st.integers(1, 2), **PLANS)
def test_a_saved_plan_goes_on_where_it_stood(cohort: Cohort, taken: int, world: int, **of: int) -> None:
    plan = plan_of(cohort, **of).shard(0, world)
    epoch = plan.epoch
    plan.begin()
    expected = list(plan)
    taken = min(taken, len(expected))
    plan.advance(taken)
    again = plan_of(cohort, **{**of, "epoch": 0}).shard(0, world)
    again.load_state_dict(plan.state_dict())
    again.begin()
    if taken < len(expected):
        assert (again.epoch, list(again)) == (epoch, expected[taken:])
    else:
        plan.set_epoch(epoch + 1)
        assert (again.epoch, list(again)) == (epoch + 1, list(plan))


def test_a_pass_goes_to_the_next_epoch_unless_told_which(cohort: Cohort) -> None:
    plan = PatchPlan(cohort.spec, cohort, Uniform(3))
    epochs = []
    for chosen in (None, None, 1, None, 7):
        if chosen is not None:
            plan.set_epoch(chosen)
        plan.begin()
        plan.advance(2)
        epochs.append((plan.epoch, plan.position))
    assert epochs == [(0, 2), (1, 2), (1, 2), (2, 2), (7, 2)]


def test_the_epoch_that_a_state_names_is_not_begun_anew(cohort: Cohort) -> None:
    plan = PatchPlan(cohort.spec, cohort, Uniform(3))
    plan.set_epoch(4)
    plan.begin()
    plan.advance(5)
    again = PatchPlan(cohort.spec, cohort, Uniform(3))
    again.load_state_dict(plan.state_dict())
    again.set_epoch(4)
    again.begin()
    assert (again.epoch, again.position) == (4, 5)


def test_epochs_and_seeds_differ(cohort: Cohort) -> None:
    seen = set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        plan = plan_of(cohort, 0, seed, 1, epoch)
        seen.add(tuple((r.sample, r.start) for r in plan))
        assert len({r.seed for r in plan}) == len(plan)
        assert all(0 <= r.seed < 2**63 for r in plan)
    assert len(seen) == 4


def test_repeat_makes_all_epochs_one(cohort: Cohort) -> None:
    plan = PatchPlan(cohort.spec, cohort, Uniform(3), shuffle=False, repeat=True)
    first = list(plan)
    plan.set_epoch(3)
    assert list(plan) == first
    assert [r.sample for r in first] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_patches_of_a_visit_are_spread_over_a_window(cohort: Cohort) -> None:
    plan = PatchPlan(cohort.spec, cohort, Uniform(64), locality=8, window=4)
    places: dict[int, list[int]] = {}
    for place, request in enumerate(plan):
        places.setdefault(request.visit, []).append(place)
    assert all(len(found) == 8 for found in places.values())
    spreads = [max(found) - min(found) for found in places.values()]
    assert max(spreads) < 2 * 4 * 8
    assert np.mean(spreads) > 8


def test_a_state_of_another_plan_is_refused(cohort: Cohort) -> None:
    state = PatchPlan(cohort.spec, cohort, Uniform(3)).state_dict()
    for other in (
        PatchPlan(cohort.spec, cohort, Uniform(4)),
        PatchPlan(cohort.spec, cohort, Uniform(3), seed=1),
        PatchPlan(cohort.spec, cohort, Uniform(3)).shard(0, 2),
    ):
        with pytest.raises(ConfigError, match="another plan"):
            other.load_state_dict(state)
    with pytest.raises(ConfigError, match="another plan"):
        PatchPlan(cohort.spec, cohort).load_state_dict({"epoch": 1})


def test_what_makes_no_plan_is_refused(cohort: Cohort) -> None:
    for options in ({"locality": 0}, {"window": True}, {"seed": -1}, {"seed": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            PatchPlan(cohort.spec, cohort, **options)
    plan = PatchPlan(cohort.spec, cohort)
    with pytest.raises(ConfigError, match="rank"):
        plan.shard(2, 2)
    with pytest.raises(ConfigError, match="even"):
        plan.shard(0, 2, "some")  # type: ignore[arg-type]
    with pytest.raises(IndexingError):
        plan[len(plan)]
    with pytest.raises(ConfigError, match="set_epoch"):
        plan.set_epoch(-1)
