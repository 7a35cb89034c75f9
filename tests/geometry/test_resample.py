"""Resampling: the formula, the source box that it needs, and that a part of a grid has the whole's values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import ConfigError, GeometryError
from radiobject.geometry.affine import Affine
from radiobject.geometry.box import Box
from radiobject.geometry.resample import ORDERS, GridMap, grid_around, grid_spaced, resampled_dtype

OBLIQUE = Affine(
    np.array([[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0.0, 0.0, 0.0, 1.0]])
)


def keys(s: float) -> float:
    """Keys' cubic convolution kernel, a = -1/2, as in his paper."""
    s = abs(s)
    if s < 1:
        return 1.5 * s**3 - 2.5 * s**2 + 1
    return -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2 if s < 2 else 0.0


def reference(array: np.ndarray, at: np.ndarray, order: int) -> float:
    """The value at one source coordinate, voxel by voxel."""
    at = np.clip(at, 0, np.array(array.shape) - 1)
    if order == 0:
        return float(array[tuple(np.ceil(at - 0.5).astype(int))])
    total = 0.0
    reach = (0, 1) if order == 1 else (-1, 0, 1, 2)
    for offset in itertools.product(reach, repeat=3):
        place = np.floor(at).astype(int) + offset
        apart = at - place
        weight = np.prod([max(1 - abs(d), 0) if order == 1 else keys(d) for d in apart])
        total += weight * float(array[tuple(np.clip(place, 0, np.array(array.shape) - 1))])
    return total


def whole(plan: GridMap, array: np.ndarray, fill: float = 0) -> np.ndarray:
    return plan.apply(array, Box.whole(array.shape[-3:]), Box.whole(plan.target), fill)


def part(plan: GridMap, array: np.ndarray, box: Box, fill: float = 0) -> np.ndarray:
    """From no other source voxels than those of the source box."""
    needed = plan.source_box(box)
    return plan.apply(array[(..., *needed.slices)].copy(), needed, box, fill)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """Axes near those of the world, or along them; any spacing from 0.5 to 4 mm; permuted and flipped."""
    number = st.floats(-0.4, 0.4)
    turn = np.eye(3) + (np.array(draw(st.tuples(*[number] * 9))).reshape(3, 3) if draw(st.booleans()) else 0)
    turn = turn[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    matrix = np.eye(4)
    matrix[:3, :3] = turn * draw(st.tuples(*[st.floats(0.5, 4)] * 3))
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-5, 5)] * 3))
    return Affine(matrix)


shapes = st.tuples(*[st.integers(1, 9)] * 3)


@st.composite
def maps(draw: st.DrawFn) -> GridMap:
    source, target = draw(affines()), draw(affines())
    return GridMap.between(source, draw(shapes), target, draw(shapes), draw(st.sampled_from(ORDERS)))


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


@settings(max_examples=150, deadline=None)
@given(maps(), st.data())
def test_a_part_has_the_values_of_the_whole_to_the_bit(plan: GridMap, data: st.DataObject) -> None:
    array = np.random.default_rng(0).normal(size=(2, *plan.source)).astype("f4")
    box = data.draw(boxes(plan.target))
    np.testing.assert_array_equal(part(plan, array, box, -7), whole(plan, array, -7)[(..., *box.slices)])


@settings(max_examples=60, deadline=None)
@given(maps())
def test_values_are_those_of_the_formula(plan: GridMap) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, plan.source).astype("i2")
    found = whole(plan, array, fill=99)
    for index in np.ndindex(*plan.target):
        at = plan.matrix @ index + plan.offset
        edge = np.minimum(np.abs(at + 0.5), np.abs(at - (np.array(plan.source) - 0.5))).min()
        tie = np.abs(at % 1 - 0.5).min()
        if edge < 1e-5 or (plan.order == 0 and tie < 1e-5):
            continue  # the reference has no rule against noise
        inside = ((at > -0.5) & (at < np.array(plan.source) - 0.5)).all()
        expected = reference(array, at, plan.order) if inside else 99
        assert found[index] == pytest.approx(expected, abs=0.1)  # f4, and snapping to 1e-6 of a voxel


@pytest.mark.parametrize("order", ORDERS)
def test_a_large_grid_is_computed_in_steps_that_do_not_show(order: int) -> None:
    array = np.random.default_rng(4).normal(size=(30, 30, 30)).astype("f4")
    step = np.array([[0.5, 0.1, 0, 0], [0, 0.5, 0, 0], [0, 0.1, 0.5, 0], [0, 0, 0, 1]])
    plan = GridMap.between(OBLIQUE, array.shape, Affine(OBLIQUE.matrix @ step), (60, 50, 61), order)
    assert plan.parallel is None
    for box in (Box((0, 0, 0), (7, 50, 61)), Box((20, 13, 13), (24, 17, 18))):
        np.testing.assert_array_equal(part(plan, array, box), whole(plan, array)[box.slices])


@pytest.mark.parametrize("order", [1, 3])
def test_a_voxel_without_weight_is_neither_read_nor_counted(order: int) -> None:
    plan = GridMap(np.diag([0.5, 1, 1]), np.zeros(3), (9, 1, 1), (17, 1, 1), order)
    assert plan.source_box(Box((8, 0, 0), (9, 1, 1))) == Box((4, 0, 0), (5, 1, 1))
    if order == 1:
        assert plan.source_box(Box((6, 0, 0), (9, 1, 1))) == Box((3, 0, 0), (5, 1, 1))
    line = np.zeros((9, 1, 1))
    line[4] = np.inf
    found = whole(plan, line).ravel()
    assert found[8] == np.inf
    assert (found[[0, 2, 4, 6, 10, 12, 14, 16]] == 0).all()


def test_order_1_is_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    array = np.random.default_rng(2).normal(size=(12, 11, 10))
    target = Affine(
        OBLIQUE.matrix @ np.array([[0.4, 0.1, 0, 2], [0, 0.5, 0.1, 3], [0, 0, 0.6, 1.5], [0, 0, 0, 1]])
    )
    plan = GridMap.between(OBLIQUE, array.shape, target, (14, 12, 11), 1)
    expected = ndimage.affine_transform(
        array, plan.matrix, plan.offset, output_shape=plan.target, order=1, mode="nearest"
    )
    found = whole(plan, array, fill=np.nan)
    assert np.isfinite(found).mean() > 0.9
    np.testing.assert_allclose(found[np.isfinite(found)], expected[np.isfinite(found)], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(affines(), affines(), st.sampled_from([1, 3]))
def test_linear_fields_are_exact_in_the_interior(source: Affine, target: Affine, order: int) -> None:
    shape, into = (8, 9, 10), (6, 6, 6)

    def field(affine: Affine, shape: tuple[int, ...]) -> np.ndarray:
        return affine.apply(np.moveaxis(np.indices(shape), 0, -1)) @ [1.0, -2.0, 0.5] + 3.0

    plan = GridMap.between(source, shape, target, into, order)
    at = np.moveaxis(np.indices(into), 0, -1) @ plan.matrix.T + plan.offset
    margin = 0 if order == 1 else 1
    interior = ((at >= margin) & (at <= np.array(shape) - 1 - margin)).all(axis=-1)
    found = whole(plan, field(source, shape))
    np.testing.assert_allclose(found[interior], field(target, into)[interior], atol=1e-4)


def test_order_3_reproduces_quadratic_fields() -> None:
    x, y, z = np.indices((9, 9, 9)).astype(float)
    plan = GridMap(np.eye(3) * 0.3, np.array([3.1, 3.2, 3.3]), (9, 9, 9), (5, 5, 5), 3)
    i, j, k = np.indices((5, 5, 5)) * 0.3 + np.array([3.1, 3.2, 3.3])[:, None, None, None]
    np.testing.assert_allclose(whole(plan, x**2 - y**2 + z * x), i**2 - j**2 + k * i, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_grid_is_exact_with_every_value(order: int) -> None:
    array = np.random.default_rng(3).normal(size=(5, 6, 7)).astype("f4")
    array[1, 2, 3], array[2, 2, 2] = np.nan, np.inf
    for affine in (OBLIQUE, Affine(OBLIQUE.matrix.copy() + 0.0)):
        plan = GridMap.between(OBLIQUE, array.shape, affine, array.shape, order)
        np.testing.assert_array_equal(whole(plan, array), array)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axcodes", ["RAS", "PIR", "SLA"])
def test_a_turned_grid_is_the_turned_array(order: int, axcodes: str) -> None:
    array = np.arange(5 * 6 * 7, dtype="i2").reshape(5, 6, 7)
    turn = OBLIQUE.reorientation(axcodes, array.shape)
    expected = turn.apply(array)
    plan = GridMap.between(OBLIQUE, array.shape, turn.affine, expected.shape, order)
    assert plan.parallel is not None
    np.testing.assert_array_equal(whole(plan, array), expected)
    # not one voxel more than the same voxels
    assert plan.source_box(Box((1, 1, 1), (3, 3, 3))).size == 8


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_what_is_not_a_number_spreads_to_its_neighbours_only(angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    array = np.zeros((9, 9, 9), "f4")
    array[4, 4, 4] = np.nan
    plan = GridMap(turn, np.array([1.0, 0.5, 0.0]), (9, 9, 9), (8, 8, 9), 1)
    bad = ~np.isfinite(whole(plan, array, 0))
    at = np.moveaxis(np.indices((8, 8, 9)), 0, -1) @ turn.T + plan.offset
    np.testing.assert_array_equal(bad, (np.abs(at - 4) < 1 - 1e-6).all(axis=-1))


def test_a_voxel_reaches_half_a_spacing_beyond_its_centre() -> None:
    line = np.array([10.0, 20.0]).reshape(2, 1, 1)
    plan = GridMap(np.diag([0.25, 1, 1]), np.array([-0.75, 0, 0]), (2, 1, 1), (11, 1, 1), 1)
    found = whole(plan, line, fill=-1)[:, 0, 0]
    assert found.tolist() == [-1, 10, 10, 10, 12.5, 15, 17.5, 20, 20, 20, -1]


def test_half_way_is_the_voxel_of_lower_index() -> None:
    line = np.arange(6, dtype="u1").reshape(6, 1, 1)
    for noise in (-1e-9, 0, 1e-9):
        plan = GridMap(np.diag([2.0, 1, 1]), np.array([0.5 + noise, 0, 0]), (6, 1, 1), (3, 1, 1), 0)
        assert whole(plan, line).ravel().tolist() == [0, 2, 4]


def test_nothing_is_needed_from_outside() -> None:
    far = Affine(OBLIQUE.matrix + np.array([[0, 0, 0, 500.0]] * 3 + [[0, 0, 0, 0]]))
    for target in (far, Affine.from_spacing((1, 1, 1), (900, 0, 0))):
        plan = GridMap.between(OBLIQUE, (5, 6, 7), target, (3, 3, 3), 1)
        assert plan.source_box(Box.whole((3, 3, 3))).size == 0
        assert (part(plan, np.ones((5, 6, 7)), Box.whole((3, 3, 3)), 4) == 4).all()


@settings(max_examples=60, deadline=None)
@given(affines(), shapes, st.tuples(*[st.floats(0.3, 6)] * 3))
def test_another_spacing_keeps_centre_and_covers_the_field_of_view(affine, shape, spacing) -> None:
    into, made = grid_spaced(affine, shape, spacing)
    np.testing.assert_allclose(made.spacing, spacing)
    middle = made.apply((np.array(into) - 1) / 2)
    np.testing.assert_allclose(middle, affine.apply((np.array(shape) - 1) / 2), atol=1e-9)
    extent, before = np.array(into) * spacing, np.array(shape) * affine.spacing
    assert (extent >= before - 1e-4).all()
    assert (extent < before + np.maximum(spacing, 1e-4)).all()
    # no centre of the new grid lies outside the old one
    plan = GridMap.between(affine, shape, made, into, 1)
    assert not (whole(plan, np.zeros(shape), fill=1)).any()


def test_the_same_spacing_is_the_same_grid() -> None:
    assert grid_spaced(OBLIQUE, (5, 6, 7), OBLIQUE.spacing) == ((5, 6, 7), OBLIQUE)
    for spacing in (4.0, 0.1, 0.7421875, 1 / 3):
        for noise in (-1, 1):
            near = float(np.nextafter(np.float32(spacing), np.float32(noise * np.inf)))
            assert grid_spaced(Affine.from_spacing((near,) * 3), (49, 512, 2000), spacing)[0] == (
                49,
                512,
                2000,
            )


def test_a_grid_around_a_point_has_its_centre_there() -> None:
    shape, affine = grid_around(OBLIQUE, (3, 4, 5), (20, 10.9, 1), 2.0)
    assert shape == (10, 5, 1)
    np.testing.assert_allclose(affine.apply((np.array(shape) - 1) / 2), (3, 4, 5))
    np.testing.assert_allclose(affine.spacing, 2.0)


def test_types() -> None:
    kept = {name: resampled_dtype(np.dtype(name), 0).name for name in ("uint8", "int64", "float64")}
    assert kept == {name: name for name in kept}
    into = {
        n: resampled_dtype(np.dtype(n), 1).name for n in ("int16", "uint16", "float32", "int32", "float64")
    }
    assert into == {"int16": "float32", "uint16": "float32", "float32": "float32", "int32": "float64",
                    "float64": "float64"}  # fmt: skip


@pytest.mark.parametrize("order", [2, -1, 1.5, "linear", None])
def test_other_orders_are_refused(order) -> None:
    with pytest.raises(ConfigError, match="0, 1 or 3"):
        GridMap.between(OBLIQUE, (2, 2, 2), OBLIQUE, (2, 2, 2), order)


@pytest.mark.parametrize("spacing", [0, -1.0, (1, 2), "fine", (1, 1, np.nan), (1, 1, np.inf)])
def test_spacings_that_are_none_are_refused(spacing) -> None:
    with pytest.raises(GeometryError, match="spacing"):
        grid_spaced(OBLIQUE, (5, 6, 7), spacing)
    with pytest.raises(GeometryError, match="size"):
        grid_around(OBLIQUE, (0, 0, 0), spacing)
