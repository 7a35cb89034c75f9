"""Affines keep voxels where they are in the world."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine

CODES = [
    "".join(letters)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*order)
]
SPACING = st.tuples(*[st.floats(0.2, 8)] * 3)
ORIGIN = st.tuples(*[st.floats(-300, 300)] * 3)
SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


def turned(
    angles: tuple[float, float, float], spacing: tuple[float, ...], origin: tuple[float, ...]
) -> Affine:
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(4)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    matrix[:3, :3] *= spacing
    matrix[:3, 3] = origin
    return Affine(matrix)


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """Obliques of any turn, some with a left-handed grid, some sheared."""
    angles = draw(st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
    matrix = turned(angles, draw(SPACING), draw(ORIGIN)).matrix.copy()
    matrix[:, 0] *= draw(st.sampled_from([1, -1]))
    matrix[:3, 2] += draw(st.floats(-0.3, 0.3)) * matrix[:3, 1] / np.linalg.norm(matrix[:3, 1])
    return Affine(matrix)


def aligned(codes: str, spacing: tuple[float, ...] = (1.0, 2.0, 3.0)) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for axis, code in enumerate(codes):
        matrix[["LR", "PA", "IS"].index(next(p for p in ("LR", "PA", "IS") if code in p)), axis] = (
            spacing[axis] if code in "RAS" else -spacing[axis]
        )
    matrix[:3, 3] = -90.5, 126.25, -72
    return Affine(matrix)


def decided(matrix: npt.NDArray[np.float64]) -> bool:
    """No two directions so close that a rounding error would choose between them."""
    unit = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(unit)
    found = np.sort(np.abs(left @ right).ravel())
    return bool((np.diff(found[found > 1e-6]) > 1e-6).all())


@given(affines())
def test_axcodes_are_those_of_nibabel(affine: Affine) -> None:
    assume(decided(affine.matrix))
    assert affine.axcodes == nib.aff2axcodes(affine.matrix)
    assert sorted(affine.world_axes) == [0, 1, 2]


def test_axcodes_of_a_thousand_random_obliques_are_those_of_nibabel() -> None:
    rng = np.random.default_rng(7)
    for _ in range(1000):
        matrix = np.eye(4)
        matrix[:3, :3] = rng.normal(size=(3, 3)) * rng.uniform(0.3, 5, 3)
        assert Affine(matrix).axcodes == nib.aff2axcodes(matrix)


@pytest.mark.parametrize("codes", CODES)
def test_aligned_axes_are_read_and_exact(codes: str) -> None:
    affine = aligned(codes)
    assert "".join(affine.axcodes) == codes
    assert affine.spacing == (1.0, 2.0, 3.0)
    assert affine.obliquity == affine.shear == 0
    assert [s > 0 for s in affine.signs] == [c in "RAS" for c in codes]


@given(affines(), st.sampled_from(CODES), SHAPES, st.data())
def test_reorientation_keeps_voxels_at_their_world_place(
    affine: Affine, target: str, shape: tuple[int, int, int], data: st.DataObject
) -> None:
    array = np.arange(math.prod(shape) * 2).reshape(*shape, 2)
    turn = affine.reorientation(target, shape)
    result = turn.apply(array)
    assert np.shares_memory(result, array)
    assert "".join(turn.affine.axcodes) == target
    index = data.draw(st.tuples(*[st.integers(0, n - 1) for n in result.shape[:3]]))
    source = np.argwhere(array[..., 0] == result[index][0])[0]
    assert (result[index] == array[tuple(source)]).all()
    np.testing.assert_allclose(turn.affine.apply(index), affine.apply(source), rtol=0, atol=1e-10)


@given(affines(), st.sampled_from(CODES), SHAPES)
def test_reorientation_there_and_back_is_exact(
    affine: Affine, target: str, shape: tuple[int, int, int]
) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    turn = affine.reorientation(target, shape)
    there = turn.apply(array)
    back = turn.affine.reorientation(affine.axcodes, there.shape)
    np.testing.assert_array_equal(back.apply(there), array)
    # Directions are copied bit by bit; the translation is a float sum, there and back.
    assert (back.affine.matrix[:3, :3] == affine.matrix[:3, :3]).all()
    assert back.affine.almost_equal(affine, atol=1e-12 * 300)


@pytest.mark.parametrize(("codes", "target"), list(itertools.product(("LPS", "RAS", "PIR"), CODES)))
def test_aligned_reorientation_is_bit_exact(codes: str, target: str) -> None:
    affine = aligned(codes, (0.75, 1.25, 2.5))
    turn = affine.reorientation(target, (100, 90, 80))
    shape = [(100, 90, 80)[a] for a in turn.perm]
    back = turn.affine.reorientation(codes, shape).affine
    assert back == affine
    assert not np.signbit(turn.affine.matrix[turn.affine.matrix == 0]).any()


@pytest.mark.parametrize(
    "angles", [(45, 0, 0), (0, -45, 0), (0, 0, 135), (0, 45, 45), (45, 0, -45), (135, 45, 0)]
)
def test_a_tie_gives_the_codes_that_were_asked_for(angles: tuple[float, float, float]) -> None:
    x, y, z = map(math.radians, angles)
    # Spacings that leave other rounding errors in each column, which must not choose between the codes.
    for spacing in ((1, 1, 3), (0.7, 1.3, 3.1)):
        affine = turned((x, y, z), spacing, (5, 6, 7))
        for target in CODES:
            assert "".join(affine.reorientation(target, (4, 5, 6)).affine.axcodes) == target


@given(affines(), st.data())
def test_crop_matches_slicing(affine: Affine, data: st.DataObject) -> None:
    shape = (7, 8, 9)
    start = data.draw(st.tuples(*[st.integers(0, n - 1) for n in shape]))
    step = data.draw(st.tuples(*[st.integers(-3, 3).filter(bool)] * 3))
    where = np.stack(np.indices(shape), axis=-1)
    kept = where[tuple(slice(a, None, s) for a, s in zip(start, step, strict=True))]
    index = np.stack(np.indices(kept.shape[:3]), axis=-1)
    np.testing.assert_allclose(affine.crop(start, step).apply(index), affine.apply(kept), rtol=0, atol=1e-10)


@given(affines(), ORIGIN)
def test_inverse_returns_to_the_voxel(affine: Affine, point: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(affine.inverse().apply(affine.apply(point)), point, atol=1e-7)
    assert (affine @ affine.inverse()).almost_equal(Affine.identity(), atol=1e-9)


def test_composition_applies_the_right_one_first() -> None:
    shift, scale = Affine.from_spacing((1, 1, 1), (10, 0, 0)), Affine.from_spacing((2, 3, 4))
    assert (shift @ scale).apply([1, 1, 1]).tolist() == [12, 3, 4]
    assert (scale @ shift).apply([1, 1, 1]).tolist() == [22, 3, 4]
    assert shift @ scale == shift.compose(scale)


@pytest.mark.parametrize("degrees", [0.001, 5.0, 30.0, 44.0])
def test_obliquity_is_the_angle_of_the_turn(degrees: float) -> None:
    affine = turned((0, 0, math.radians(degrees)), (1, 2, 3), (0, 0, 0))
    assert affine.obliquity == pytest.approx(degrees, rel=1e-9)
    assert affine.shear == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(
        affine.obliquity, np.rad2deg(nib.affines.obliquity(affine.matrix)).max(), atol=1e-6
    )


def test_shear_is_the_tilt_of_a_gantry() -> None:
    matrix = np.eye(4)
    matrix[:3, 2] = 0, math.tan(math.radians(12)) * 5, 5
    assert Affine(matrix).shear == pytest.approx(12)
    assert Affine(matrix).obliquity == pytest.approx(12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"shape \(4, 4\), got \(3, 3\)"),
        (np.diag([1, np.nan, 1, 1]), "finite"),
        (np.diag([1, np.inf, 1, 1]), "finite"),
        (np.diag([1, 1, 1, 2]), "last row"),
        (np.diag([1, 0, 1, 1]), "spacing above zero"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "independent"),
        ("RAS", "4x4 numbers"),
        ([[1, 2], [3]], "4x4 numbers"),
    ],
)
def test_a_matrix_that_describes_no_space_is_refused(matrix: npt.ArrayLike, message: str) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        Affine(matrix)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)


def test_small_voxels_are_not_flat() -> None:
    assert Affine.from_spacing((1e-5, 1e-5, 1e-5)).spacing == (1e-5, 1e-5, 1e-5)


@pytest.mark.parametrize("target", ["RAX", "RRS", "RLS", "RA", "RASR", "ras", ""])
def test_codes_that_name_no_axes_are_refused(target: str) -> None:
    with pytest.raises(GeometryError, match="axis codes"):
        Affine.identity().reorientation(target, (1, 2, 3))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(GeometryError, match="spacing"):
        Affine.from_spacing((1, -1, 1))
    with pytest.raises(GeometryError, match="crop"):
        Affine.identity().crop((0, 0, 0), (1, 0, 1))
    with pytest.raises(GeometryError, match=r"\(\.\.\., 3\)"):
        Affine.identity().apply([1, 2])
    with pytest.raises(GeometryError, match="three axes"):
        Affine.identity().reorientation("LPS", (1, 2))
    with pytest.raises(GeometryError, match="three axes"):
        Affine.identity().reorientation("LPS", (1, 2, 3)).apply(np.zeros((2, 2)))


def test_affines_are_values() -> None:
    given_in = np.diag([1.0, 2.0, 3.0, 1.0])
    affine = Affine(given_in)
    given_in[0, 0] = 9
    assert affine == Affine.from_spacing((1, 2, 3))
    assert affine != Affine.from_spacing((1, 2, 3 + 1e-12))
    assert affine != "RAS"
    assert len({affine, Affine.from_spacing((1, 2, 3)), Affine.identity()}) == 2
    negative_zero = affine.matrix.copy()
    negative_zero[0, 1] = -0.0
    assert hash(Affine(negative_zero)) == hash(affine)
    assert Affine(negative_zero) == affine
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        affine.matrix = given_in  # type: ignore[misc]
    assert eval(repr(affine), {"Affine": Affine}) == affine


def test_a_pickle_stays_equal_and_read_only() -> None:
    affine = aligned("LPS")
    affine.axcodes  # noqa: B018 - fills the cache that must not travel
    copy = pickle.loads(pickle.dumps(affine))
    assert copy == affine
    assert not copy.matrix.flags.writeable
    assert len(pickle.dumps(affine)) < 500


def test_almost_equal_looks_at_every_entry() -> None:
    affine = Affine.identity()
    assert affine.almost_equal(affine.crop((0, 0, 0)))
    assert affine.almost_equal(Affine.from_spacing((1, 1, 1.0009)))
    assert not affine.almost_equal(Affine.from_spacing((1, 1, 1), (0, 0.002, 0)))
