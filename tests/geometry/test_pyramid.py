"""Which axes levels halve, and where their voxels lie."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import FormatError
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box
from radiobject.geometry.pyramid import (
    coarse_affine,
    coarse_range,
    coarse_shape,
    factors_of,
    fine_box,
    level_factors,
    sampling_factors,
)

SHAPES = st.tuples(*[st.integers(1, 600)] * 3)
SPACINGS = st.tuples(*[st.floats(0.1, 10)] * 3)
OBLIQUE = Affine([[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("spacing", "factors"),
    [
        ((1, 1, 1), [(2, 2, 2), (4, 4, 4), (8, 8, 8)]),
        ((0.5, 0.5, 5), [(2, 2, 1), (4, 4, 1), (8, 8, 1), (16, 16, 2)]),
        ((0.7, 0.7, 1), [(2, 2, 1), (4, 4, 2)]),
        ((5, 0.5, 0.5), [(1, 2, 2)]),
        ((0.49999, 0.5, 0.50001), [(2, 2, 2)]),
    ],
)
def test_the_finest_axes_are_halved_until_voxels_are_cubes(spacing: Any, factors: list[Any]) -> None:
    assert list(itertools.islice(level_factors((512, 512, 512), spacing), len(factors))) == factors


def test_an_axis_of_one_voxel_is_left_alone_and_holds_nothing_up() -> None:
    assert list(level_factors((1, 3, 8), (0.1, 1, 1))) == [(1, 2, 2), (1, 4, 4), (1, 4, 8)]
    assert list(level_factors((1, 1, 1), (1, 1, 1))) == []


@settings(deadline=None)
@given(SHAPES, SPACINGS)
def test_levels_go_down_to_one_voxel_by_factors_of_two(shape: Any, spacing: Any) -> None:
    before = (1, 1, 1)
    for factors in level_factors(shape, spacing):
        grown = [b / a for a, b in zip(before, factors, strict=True)]
        assert set(grown) <= {1, 2}
        assert 2 in grown
        # a shape says by which factors it was made
        assert factors_of(shape, coarse_shape(shape, factors), "level") == factors
        # once the voxels are cubes, within sqrt(2), they stay so
        long = [s * f for n, s, f in zip(shape, spacing, before, strict=True) if n > f]
        after = [s * f for n, s, f in zip(shape, spacing, factors, strict=True) if n > f]
        if len(after) == len(long) and max(long) < 1.4142 * min(long):
            assert max(after) < 1.4143 * min(after)
        before = factors
    assert coarse_shape(shape, before) == (1, 1, 1)


@pytest.mark.parametrize("coarse", [(0, 5, 5), (6, 5, 5), (4, 5, 5), (11, 5, 5), (20, 5, 5)])
def test_a_shape_that_no_halving_gives_is_refused(coarse: Any) -> None:
    with pytest.raises(FormatError, match="level 1"):
        factors_of((10, 10, 10), coarse, "level 1")


@settings(deadline=None)
@given(st.tuples(*[st.sampled_from((1, 2, 4, 8))] * 3), st.tuples(*[st.integers(0, 20)] * 3))
def test_a_voxel_lies_in_the_middle_of_its_block(factors: Any, index: Any) -> None:
    fine = np.array(
        list(itertools.product(*(range(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))))
    )
    middle = OBLIQUE.apply(fine).mean(axis=0)
    np.testing.assert_allclose(coarse_affine(OBLIQUE, factors).apply(index), middle, atol=1e-9)


def test_a_level_may_begin_elsewhere() -> None:
    # stride subsampling, as other programs do it: the first voxel is the first voxel
    affine = coarse_affine(OBLIQUE, (2, 2, 2), (0, 0, 0))
    assert affine.translation == OBLIQUE.translation
    np.testing.assert_allclose(affine.spacing, np.multiply(OBLIQUE.spacing, 2))


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from((1, 2, 4, 8)), st.data())
def test_a_range_becomes_the_blocks_that_it_touches(n: int, factor: int, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))))
    step = data.draw(st.sampled_from((1, 2, 3)))
    fine = range(start, max(stop, start + 1), step)
    if data.draw(st.booleans()):
        fine = fine[::-1]
    found = coarse_range(fine, factor, (factor - 1) / 2, -(-n // factor))
    blocks = [i // factor for i in fine]
    assert list(found) == list(
        range(min(blocks), max(blocks) + 1) if fine.step > 0 else range(max(blocks), min(blocks) - 1, -1)
    )


def test_a_range_beyond_a_shorter_level_takes_its_last_voxel() -> None:
    # some programs drop the rest of an odd length
    assert list(coarse_range(range(8, 9), 2, 0.5, 4)) == [3]


def test_a_box_stands_for_what_is_inside_the_volume() -> None:
    assert fine_box(Box((0, 1, 2), (1, 2, 3)), (1, 2, 4), (3, 3, 9)) == Box((0, 2, 8), (1, 3, 9))


@settings(deadline=None)
@given(SHAPES, SPACINGS, st.tuples(*[st.floats(0.2, 40)] * 3))
def test_blocks_for_sampling_are_no_wider_than_a_step_and_not_much_smaller(
    shape: Any, spacing: Any, steps: Any
) -> None:
    factors = sampling_factors(shape, spacing, steps)
    for f, n, step in zip(factors, shape, steps, strict=True):
        assert f <= max(step * 1.00001, 1)
        assert f >= n or step / f <= 2**1.5 * 1.00001


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 5), (0.7, 0.7, 1), (0.8, 1, 2), (1, 1.3, 1.6)])
@settings(deadline=None)
@given(st.floats(0.2, 30))
def test_samples_of_cubes_are_taken_of_a_level(spacing: Any, wanted: float) -> None:
    shape = (512, 512, 512)
    factors = sampling_factors(shape, spacing, [wanted / s for s in spacing])
    assert factors in [(1, 1, 1), *level_factors(shape, spacing)]
