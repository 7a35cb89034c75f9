"""A box and its remainder select what NumPy selects, and nothing else is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiobject.errors import IndexingError, SelectionError
from radiobject.geometry.box import Box, normalise

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)


def check(key: Any, shape: tuple[int, ...]) -> tuple[Box, Any]:
    """Compare with NumPy and return what normalise returned."""
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    expected = array[key]
    box, rest = normalise(key, shape)
    assert len(box.start) == len(box.stop) == len(shape)
    assert all(0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True))
    assert all(type(n) is int for n in (*box.start, *box.stop))
    block = array[box.slices].copy()
    got = block if rest is None else block[rest]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)
    # Tight: a face of the box that holds no selected voxel would be read for nothing.
    if expected.size:
        where = np.unravel_index(expected.ravel(), shape)
        assert tuple(int(w.min()) for w in where) == box.start
        assert tuple(int(w.max()) + 1 for w in where) == box.stop
    return box, rest


def integers_of(n: int) -> st.SearchStrategy[Any]:
    plain = st.integers(-n, n - 1)
    return plain | plain.map(np.int16) | plain.map(lambda i: np.array(i))


def slices_of(n: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-n - 3, n + 3)
    step = st.none() | st.integers(-4, 4).filter(bool)
    return st.builds(slice, bound, bound, step)


@st.composite
def keys(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    """Any mixture of kinds that NumPy accepts for the shape, and the shape."""
    shape = draw(SHAPES)
    length = draw(st.integers(0, 4))  # shared, so that index arrays and masks broadcast
    key: list[Any] = []
    axis = 0
    stop_at = draw(st.integers(0, len(shape)))
    ellipsis_left = True
    while axis < stop_at:
        n = shape[axis]
        kinds = ["slice", "none", "mask"]
        if n:
            kinds += ["int", "array", "column"]
        if ellipsis_left:
            kinds.append("ellipsis")
        kind = draw(st.sampled_from(kinds))
        if kind == "slice":
            key.append(draw(slices_of(n)))
        elif kind == "int":
            key.append(draw(integers_of(n)))
        elif kind in ("array", "column"):
            size = (length,) if kind == "array" else (2, 1)
            values = draw(hnp.arrays(np.int64, size, elements=st.integers(-n, n - 1)))
            dtype = draw(st.sampled_from([np.int8, np.int64, None]))
            key.append(values.tolist() if dtype is None else values.astype(dtype))
        elif kind == "mask":
            wide = draw(st.integers(1, stop_at - axis))
            picked = np.zeros(shape[axis : axis + wide], bool)
            picked.ravel()[draw(st.permutations(range(picked.size)))[:length]] = True
            key.append(picked if wide > 1 or draw(st.booleans()) or not n else picked.tolist())
            axis += wide - 1
        elif kind == "ellipsis":
            ellipsis_left = False
            key.append(Ellipsis)
            # It covers some axes; the items that follow take the rest, to the last one.
            stop_at = len(shape)
            axis = draw(st.integers(axis, stop_at))
            continue
        else:
            key.append(None)
            continue
        axis += 1
    alone = len(key) == 1 and draw(st.booleans())
    return (key[0] if alone else tuple(key)), shape


@given(keys())
def test_any_key_selects_what_numpy_selects(case: tuple[Any, tuple[int, ...]]) -> None:
    key, shape = case
    array = np.empty(shape)
    try:
        array[key]
    except IndexError:
        with pytest.raises((IndexingError, SelectionError)):
            normalise(key, shape)
    else:
        check(key, shape)


@given(st.data())
def test_ints_and_unit_slices_leave_only_dropped_axes(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=5, max_side=6))
    unit = [slices_of(n).map(lambda s: slice(s.start, s.stop)) | st.integers(-n, n - 1) for n in shape]
    key = data.draw(st.tuples(*unit))[: data.draw(st.integers(0, len(shape)))]
    _, rest = check(key, shape)
    dropped = tuple(0 if isinstance(item, int) else slice(None) for item in key)
    assert rest == (dropped if 0 in dropped else None)


@pytest.mark.parametrize(
    "key",
    [
        ([0, 1], Ellipsis, [1, 2]),
        (slice(None), [0, 1], Ellipsis, [1, 2]),  # an Ellipsis of no axes still parts index arrays
        ([0, 1], None, [1, 2], [0, 0]),
        (0, slice(None), [1, 2]),
        (slice(None), 0, [1, 2]),
        (np.array(1), np.array([[0], [1]])),
        np.zeros((3, 4, 5), bool),
        ([], slice(None), 2),
        (range(2), slice(None, None, -1)),
        np.array([2, 0], np.uint64),
        (),
        (1, 2, 3),
        (1, 2, 3, Ellipsis),
        (slice(10, 2), slice(-1, 0, 2)),
        (slice(np.int64(1), np.int64(3)),),
    ],
)
def test_corner_keys(key: Any) -> None:
    check(key, (3, 4, 5))


@pytest.mark.parametrize(
    "key", [slice(None), Ellipsis, (slice(1, 3), Ellipsis), slice(0, 3, 1), slice(2, 3, 5)]
)
def test_a_key_that_is_a_box_needs_no_remainder(key: Any) -> None:
    assert check(key, (3, 4, 5))[1] is None


def test_empty_selections_read_nothing() -> None:
    for key in (slice(2, 2), slice(9, 1), slice(0, 3, -1), [], np.zeros(3, bool), np.zeros((3, 4), bool)):
        box, _ = check(key, (3, 4, 5))
        assert box.size == 0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((0, 4), r"axis 1 of shape \(3, 4, 5\): expected -4 to 3, got 4"),
        ((0, -5), r"axis 1 of shape \(3, 4, 5\): expected -4 to 3, got -5"),
        ((Ellipsis, np.int64(5)), r"axis 2 .* got 5"),
        (([0, 3],), r"axis 0 .* got 3"),
        (([0, -4],), r"axis 0 .* got -4"),
        ((np.array([2**64 - 1], np.uint64),), "axis 0 .* got 18446744073709551615"),
        ((0, 0, 0, 0), r"at most 3 axes for an array of shape \(3, 4, 5\), got 4"),
        ((np.ones((3, 4), bool), 0, 0), "at most 3 axes .* got 4"),
        ((Ellipsis, Ellipsis), "one Ellipsis"),
    ],
)
def test_indices_outside_the_array_name_axis_and_shape(key: Any, message: str) -> None:
    with pytest.raises(IndexingError, match=message) as caught:
        normalise(key, (3, 4, 5))
    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    "key",
    [
        1.0,
        "x",
        True,
        np.True_,
        np.array(True),
        np.array(1.0),
        np.array([1.0]),
        np.array([]),
        ["a"],
        [[1], [1, 2]],
        {"x": 1},
        slice(0.5, 2),
        slice("a", None),
        slice(None, None, 0),
        [True, False],
        np.ones((3, 5), bool),
        ([0, 1], [0, 1, 2]),
    ],
    ids=repr,
)
def test_what_selects_nothing_is_refused(key: Any) -> None:
    with pytest.raises(SelectionError):
        normalise(key, (3, 4, 5))


def test_index_arrays_handed_in_are_not_changed() -> None:
    index = np.array([-1, 2, 1])
    normalise((index,), (3, 4, 5))
    assert index.tolist() == [-1, 2, 1]


BOXES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted), min_size=3, max_size=3).map(
    lambda pairs: Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
)


def painted(box: Box) -> np.ndarray[Any, Any]:
    canvas = np.zeros((9, 9, 9), bool)
    canvas[box.slices] = True
    return canvas


@given(BOXES, BOXES)
def test_intersection_is_the_common_region(one: Box, other: Box) -> None:
    both = one.intersect(other)
    assert (painted(both) == (painted(one) & painted(other))).all()
    assert all(a <= b for a, b in zip(both.start, both.stop, strict=True))
    assert both.size == painted(both).sum()


@given(BOXES, BOXES)
def test_a_box_contains_what_lies_in_it(one: Box, other: Box) -> None:
    inside = one.contains(other)
    if other.size:
        assert inside == (not (painted(other) & ~painted(one)).any())
    assert one.contains(one)
    assert one.contains(one.intersect(other)) or not one.intersect(other).size


@given(BOXES, st.tuples(*[st.integers(-5, 5)] * 3))
def test_shift_moves_and_returns(box: Box, offset: tuple[int, int, int]) -> None:
    moved = box.shift(offset)
    assert moved.shape == box.shape
    assert tuple(b - a for a, b in zip(box.start, moved.start, strict=True)) == offset
    assert moved.shift([-d for d in offset]) == box


def test_whole_is_the_array() -> None:
    box = Box.whole((3, 4, 5))
    assert (box.start, box.stop, box.shape, box.ndim, box.size) == ((0, 0, 0), (3, 4, 5), (3, 4, 5), 3, 60)
