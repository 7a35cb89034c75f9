"""A voxel has one coordinate, whichever part of its grid it is reached through."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from radiobject.geometry.affine import Affine
from radiobject.geometry.coordinates import GridAxes

SIZE = 60


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """Any spacing, rotation, flips, order of axes and origin."""
    angles = draw(st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ one
    spacing = draw(st.lists(st.floats(0.05, 9), min_size=3, max_size=3))
    signs = draw(st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3))
    matrix = np.eye(4)
    matrix[:3, :3] = (turn * np.array(spacing) * signs)[:, draw(st.permutations(range(3)))]
    matrix[:3, 3] = draw(st.lists(st.floats(-300, 300), min_size=3, max_size=3))
    return Affine(matrix)


@given(affines(), st.tuples(*[st.integers(0, 30)] * 3))
def test_a_crop_keeps_the_coordinates_of_its_voxels(affine: Affine, start: tuple[int, int, int]) -> None:
    whole, part = GridAxes.of(affine), GridAxes.of(affine.crop(start))
    for axis in range(3):
        np.testing.assert_array_equal(part.line(axis, 20), whole.line(axis, SIZE)[start[axis] :][:20])


@given(affines(), st.sampled_from(["RAS", "LPS", "PIR", "SAL"]))
def test_a_turned_grid_keeps_the_coordinates_of_its_voxels(affine: Affine, codes: str) -> None:
    turn = affine.reorientation(codes, (SIZE,) * 3)
    whole, turned = GridAxes.of(affine), GridAxes.of(turn.affine)
    for axis in range(3):
        line = whole.line(turn.perm[axis], SIZE)
        np.testing.assert_array_equal(turned.line(axis, SIZE), line[::-1] if turn.flips[axis] else line)


@given(affines())
def test_coordinates_are_where_the_voxels_are(affine: Affine) -> None:
    axes = GridAxes.of(affine)
    corner = [axes.line(axis, SIZE)[-1] for axis in range(3)]
    found = axes.direction @ corner
    np.testing.assert_allclose(found, affine.apply([SIZE - 1] * 3), atol=1e-6 * max(affine.spacing))
