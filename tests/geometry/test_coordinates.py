"""Coordinates split an affine and give it back, to the bit where they are those of the grid's own voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lazy.grids import OBLIQUE, affines, slices

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine
from radiobject.geometry.coordinates import GridAxes, affine_at, matrix_of, matrix_text

SHAPE = (9, 7, 5)


def lines_of(axes: GridAxes) -> dict[str, np.ndarray]:
    return {name: axes.line(number, n) for number, (name, n) in enumerate(zip("xyz", SHAPE, strict=True))}


@given(affines())
def test_direction_times_coordinates_is_the_world(matrix: np.ndarray) -> None:
    affine = Affine(matrix)
    axes = GridAxes.of(affine)
    assert np.allclose(np.linalg.norm(axes.direction, axis=0), 1)
    lines = lines_of(axes)
    for voxel in np.ndindex(2, 2, 2):
        place = axes.direction @ [lines[a][i] for a, i in zip("xyz", voxel, strict=True)]
        assert np.abs(place - affine.apply(voxel)).max() < 1e-7  # coordinates are rounded to 1e-8 of a step


@given(st.permutations(range(3)), st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3))
def test_along_the_axes_coordinates_are_the_worlds_own(order: list[int], signs: list[int]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * signs * [1.5, 2.0, 0.7]
    affine[:3, 3] = 10.1, -20.2, 30.3
    axes = GridAxes.of(Affine(affine))
    assert set(axes.direction.ravel()) == {0.0, 1.0}  # the way that voxels are stored does not show
    for axis, world in enumerate(order):
        assert axes.line(axis, 4)[0] == affine[world, 3]
        assert axes.line(axis, 4)[3] == pytest.approx(affine[world, 3] + 3 * affine[world, axis])


@given(affines(), st.tuples(*[slices(n) for n in SHAPE]), st.booleans())
def test_a_slice_of_the_coordinates_tells_the_affine_of_the_slice(
    matrix: np.ndarray, key: tuple[slice, ...], with_stored: bool
) -> None:
    affine = Affine(matrix)
    axes = GridAxes.of(affine)
    left = {name: line[s] for (name, line), s in zip(lines_of(axes).items(), key, strict=True)}
    ranges = [range(n)[s] for n, s in zip(SHAPE, key, strict=True)]
    # nothing tells how far apart the voxels of an axis were of which one is left
    steps = [r.step if len(r) > 1 else 1 for r in ranges]
    expected = affine.crop([r.start for r in ranges], steps)
    if with_stored:
        found = affine_at(left, affine, axes.direction, "a")
        assert (found.matrix == expected.matrix).all()
    elif min(map(len, ranges)) > 1:
        found = affine_at(left, None, axes.direction, "a")
        assert (
            np.abs(found.matrix - expected.matrix).max() < 1e-7
        )  # coordinates are rounded to 1e-8 of a step
    else:
        with pytest.raises(GeometryError, match=r"two voxels along .*the coordinate 'affine'.*thickness"):
            affine_at(left, None, axes.direction, "a")


@given(affines(), st.tuples(*[slices(n) for n in SHAPE]))
def test_without_directions_coordinates_are_voxels_of_the_grid(
    matrix: np.ndarray, key: tuple[slice, ...]
) -> None:
    affine = Affine(matrix)
    left = {a: np.arange(n)[s] for a, n, s in zip("xyz", SHAPE, key, strict=True)}
    ranges = [range(n)[s] for n, s in zip(SHAPE, key, strict=True)]
    expected = affine.crop([r.start for r in ranges], [r.step if len(r) > 1 else 1 for r in ranges])
    assert (affine_at(left, affine, None, "a").matrix == expected.matrix).all()


@given(affines())
def test_means_of_neighbours_and_points_between_voxels_have_an_affine_too(matrix: np.ndarray) -> None:
    affine = Affine(matrix)
    axes = GridAxes.of(affine)
    lines = lines_of(axes)
    lines["x"] = lines["x"][:8].reshape(4, 2).mean(axis=1)
    lines["y"] = np.linspace(lines["y"][1], lines["y"][4], 10)
    found = affine_at(lines, affine, axes.direction, "a").matrix
    assert (
        np.abs(found[:3, :3] - affine.matrix[:3, :3] * [2, 1 / 3, 1]).max() < 1e-7
    )  # coordinates are rounded to 1e-8 of a step
    assert (
        np.abs(found[:3, 3] - affine.apply((0.5, 1, 0))).max() < 1e-7
    )  # coordinates are rounded to 1e-8 of a step


def test_a_number_is_an_axis_of_one_voxel() -> None:
    affine = Affine(OBLIQUE)
    axes = GridAxes.of(affine)
    lines = lines_of(axes)
    one = affine_at({**lines, "z": lines["z"][3]}, affine, axes.direction, "a")
    assert (one.matrix == affine.crop((0, 0, 3)).matrix).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": [0.0, 1.0, 3.0]}, "'x' of a: expected even steps, got steps of .*scattered"),
        ({"y": [1.0, 1.0]}, "'y' of a: expected even steps"),
        ({"y": [1.0, np.nan]}, "'y' of a: expected finite numbers"),
        ({"z": []}, "'z' of a: expected finite numbers"),
        ({"z": ["a", "b"]}, "'z' of a: expected finite numbers"),
        ({"z": np.zeros((2, 2))}, r"'z' of a: .*shape \(2, 2\)"),
    ],
)
def test_coordinates_that_are_no_axis_are_refused(change: dict, words: str) -> None:
    axes = GridAxes.of(Affine(OBLIQUE))
    with pytest.raises(GeometryError, match=words):
        affine_at(lines_of(axes) | change, Affine(OBLIQUE), axes.direction, "a")


def test_what_is_missing_is_named() -> None:
    axes = GridAxes.of(Affine(OBLIQUE))
    lines = lines_of(axes)
    with pytest.raises(GeometryError, match=r"affine of a: .*'affine' or 'direction', got neither"):
        affine_at(lines, None, None, "a")
    del lines["y"]
    with pytest.raises(GeometryError, match=r"affine of a: .*none of \['y'\]"):
        affine_at(lines, Affine(OBLIQUE), axes.direction, "a")


@given(affines())
def test_text_keeps_every_bit(matrix: np.ndarray) -> None:
    assert matrix_of(matrix_text(matrix), 4, "a").tobytes() == matrix.tobytes()


@pytest.mark.parametrize(
    "text",
    ["", "nan", "[[1, 2], [3, 4]]", "[" * 100_000, '[["a"]]', "[[1e999,0,0],[0,1,0],[0,0,1]]", None, "{}"],
)
def test_text_that_is_no_matrix_is_refused(text: object) -> None:
    with pytest.raises(GeometryError, match=r"the affine: expected .*3x3"):
        matrix_of(text, 3, "the affine")
