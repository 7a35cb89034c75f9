"""Block means and modes against a slow reference with exact arithmetic, for every type and odd lengths."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiobject.backends.base import DTYPES
from radiobject.geometry import blocks
from radiobject.geometry.blocks import block_means, block_modes

INTEGERS = [d for d in DTYPES if d[0] in "iu"]
SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
BLOCKS = st.tuples(*[st.sampled_from((1, 2, 3, 4))] * 3)


def blocks_of(fine: np.ndarray, block: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], list[Any]]]:
    """(index of the block, its values as Python numbers), one after the other."""
    counts = [-(-n // b) for n, b in zip(fine.shape, block, strict=True)]
    for index in itertools.product(*map(range, counts)):
        here = tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, block, strict=True))
        yield index, fine[here].ravel().tolist()


def reference(fine: np.ndarray, block: tuple[int, ...], of_block: Callable[[list[Any]], Any]) -> np.ndarray:
    out = np.empty([-(-n // b) for n, b in zip(fine.shape, block, strict=True)], fine.dtype)
    for index, values in blocks_of(fine, block):
        out[index] = of_block(values)
    return out


def exact_mean(values: list[int]) -> int:
    return round(Fraction(sum(values), len(values)))  # half to even


def mode(values: list[int]) -> int:
    found = Counter(values)
    most = max(found.values())
    return min((v for v, n in found.items() if n == most), key=lambda v: (v == 0, v))


def integers(few: bool = False) -> st.SearchStrategy[np.ndarray]:
    """Arrays of every integer type; the ends of the range come often."""

    def of(dtype: str) -> st.SearchStrategy[np.ndarray]:
        info = np.iinfo(dtype)
        ends = st.sampled_from([info.min, info.min + 1, 0, 1, info.max - 1, info.max])
        elements = ends if few else ends | st.integers(info.min, info.max)
        return hnp.arrays(dtype, SHAPES, elements=elements)

    return st.sampled_from(INTEGERS).flatmap(of)


@settings(deadline=None)
@given(integers(), BLOCKS)
def test_means_of_integers_are_exact(fine: np.ndarray, block: tuple[int, ...]) -> None:
    found = block_means(fine, block)
    assert found.dtype == fine.dtype
    np.testing.assert_array_equal(found, reference(fine, block, exact_mean))


@settings(deadline=None)
@given(integers(few=True), BLOCKS)
def test_modes_are_the_most_frequent_values(fine: np.ndarray, block: tuple[int, ...]) -> None:
    found = block_modes(fine, block)
    assert found.dtype == fine.dtype
    np.testing.assert_array_equal(found, reference(fine, block, mode))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@settings(deadline=None)
@given(st.data(), BLOCKS)
def test_means_of_floats_leave_nan_out(dtype: str, data: st.DataObject, block: tuple[int, ...]) -> None:
    elements = st.floats(width=8 * int(dtype[1]), allow_infinity=False, allow_subnormal=False)
    fine = data.draw(hnp.arrays(dtype, SHAPES, elements=elements))
    found = block_means(fine, block)
    assert found.dtype == dtype
    for index, values in blocks_of(fine, block):
        finite = [Fraction(v) for v in values if v == v]
        if not finite:
            assert np.isnan(found[index])
            continue
        mean, largest = sum(finite) / len(finite), max(map(abs, finite))
        # what cancels out leaves the error of its largest part
        allowed = largest * Fraction(float(np.finfo(dtype).eps)) * 64
        assert abs(Fraction(float(found[index])) - mean) <= allowed


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_infinity_stays_and_the_largest_numbers_do_not_become_it(dtype: str) -> None:
    top = np.finfo(dtype).max
    fine = np.array([top, top, np.inf, 1, -np.inf, np.inf, np.nan, np.nan], dtype).reshape(1, 1, 8)
    found = block_means(fine, (1, 1, 2))[0, 0]
    assert found[:2].tolist() == [top, np.inf]
    assert np.isnan(found[2:]).all()


@settings(deadline=None)
@given(st.sampled_from(DTYPES), st.floats(-100, 100, allow_subnormal=False), SHAPES, BLOCKS)
def test_a_constant_stays_what_it_is(dtype: str, value: float, shape: Any, block: Any) -> None:
    fine = np.full(shape, np.float64(abs(value) if dtype[0] == "u" else value)).astype(dtype)
    found = block_means(fine, block)
    np.testing.assert_allclose(found, np.full(found.shape, fine.flat[0]), rtol=4 * np.finfo("f8").eps)


def test_axes_before_the_last_three_are_carried_along() -> None:
    fine = np.random.default_rng(0).integers(0, 5, (3, 2, 5, 6, 7)).astype("u1")
    for function in (block_means, block_modes):
        found = function(fine, (2, 2, 4))
        assert found.shape == (3, 2, 3, 3, 2)
        for t, c in np.ndindex(3, 2):
            np.testing.assert_array_equal(found[t, c], function(fine[t, c], (2, 2, 4)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.sampled_from(["i2", "f4", "f8", "u8"]), BLOCKS)
def test_a_block_does_not_depend_on_what_is_looked_at_with_it(slab: int, dtype: str, block: Any) -> None:
    rng = np.random.default_rng(slab)
    fine = (rng.normal(size=(9, 6, 7)) * 1000).astype(dtype)
    if fine.dtype.kind == "f":
        fine[4, 2, 2], fine[5, 5, 5] = np.nan, np.finfo(dtype).max
    kept, blocks._SLAB = blocks._SLAB, slab
    try:
        found = block_means(fine[::-1, :, ::-1], block)
    finally:
        blocks._SLAB = kept
    # not contiguous, read-only, and in one go
    np.testing.assert_array_equal(found, block_means(np.ascontiguousarray(fine[::-1, :, ::-1]), block))


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
@pytest.mark.parametrize("more", [0, 1])
def test_huge_blocks_are_exact_too(dtype: str, more: int) -> None:
    # one voxel decides on which side of half an integer the mean lies: float64 cannot tell for 32 bits
    top = np.iinfo(dtype).max
    fine = np.full((129, 129, 127), top - 1, dtype)
    fine.ravel()[: fine.size // 2 + more] += 1
    assert block_means(fine, fine.shape).item() == top - 1 + more


def test_the_source_is_not_changed() -> None:
    fine = np.arange(64, dtype="f8").reshape(4, 4, 4)
    fine[0, 0, 0] = np.nan
    kept = fine.copy()
    fine.flags.writeable = False
    block_means(fine, (1, 1, 1))
    block_means(fine, (2, 2, 2))
    labels = np.arange(64, dtype="u1").reshape(4, 4, 4) % 3
    labels.flags.writeable = False
    block_modes(labels, (1, 2, 2))
    np.testing.assert_array_equal(fine, kept)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "u8"])
@pytest.mark.parametrize("function", [block_means, block_modes])
def test_only_a_slab_of_the_source_is_copied(dtype: str, function: Callable[..., np.ndarray]) -> None:
    if np.dtype(dtype).kind == "f" and function is block_modes:
        pytest.skip("labels are integers")
    fine = np.random.default_rng(0).integers(0, 200, (256, 128, 128)).astype(dtype)
    peaks = []
    for planes in (64, 256):
        tracemalloc.start()
        out = function(fine[:planes], (2, 2, 2))
        peaks.append(tracemalloc.get_traced_memory()[1] - out.nbytes)
        tracemalloc.stop()
    # beside the result, four slabs need as much as one
    assert peaks[1] < peaks[0] * 1.1
