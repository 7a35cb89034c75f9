"""Index: the algebra of sets, in the order of the left side; positions and ids are each other's inverse."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject import Index, align
from radiobject.errors import DuplicateIdError, IndexingError, SelectionError, UnknownIdError
from radiobject.model.index import select_labels, select_positions

pytestmark = pytest.mark.no_backend(reason="ids alone")

IDS = st.lists(st.sampled_from([f"sub-{i:02d}" for i in range(12)] + ["ä", "A", "a"]), unique=True)


@given(IDS, IDS)
def test_algebra_is_that_of_sets_in_left_order(left: list[str], right: list[str]) -> None:
    a, b = Index(left), Index(right)
    for made, expected in (
        (a & b, set(left) & set(right)),
        (a - b, set(left) - set(right)),
        (a | b, set(left) | set(right)),
        (a ^ b, set(left) ^ set(right)),
    ):
        assert set(made) == expected
        assert len(made) == len(expected)
        order = [*left, *right]
        assert made.to_list() == sorted(expected, key=order.index)
    assert (a <= b) == (set(left) <= set(right))
    assert (a >= b) == (set(left) >= set(right))
    assert a.is_aligned(b) == (left == right) == (a == b)


@given(st.lists(IDS, min_size=1, max_size=4))
def test_align_keeps_what_all_hold_in_the_order_of_the_first(lists: list[list[str]]) -> None:
    common = set.intersection(*map(set, lists))
    assert list(align(*map(Index, lists))) == [i for i in lists[0] if i in common]


@given(IDS)
def test_positions_and_ids_are_inverse(ids: list[str]) -> None:
    index = Index(ids)
    for position, name in enumerate(ids):
        assert index.get_index(name) == position
        assert index.get_key(position) == index[position] == name
        assert name in index
    assert (len(index), list(index)) == (len(ids), ids)
    assert pickle.loads(pickle.dumps(index)) == index


@given(IDS, st.data())
def test_take_and_mask_are_lists(ids: list[str], data: st.DataObject) -> None:
    index = Index(ids)
    picked = data.draw(st.lists(st.sampled_from(range(len(ids))), unique=True)) if ids else []
    assert index.take(picked).to_list() == [ids[i] for i in picked]
    mask = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    assert index.mask(np.array(mask, bool)).to_list() == [
        i for i, keep in zip(ids, mask, strict=True) if keep
    ]


def test_lookups_agree_before_and_after_the_map_is_built() -> None:
    index = Index([f"s{i}" for i in range(50)])
    for _ in range(20):
        assert index.get_index("s37") == 37
        with pytest.raises(UnknownIdError):
            index.get_index("s50")


def test_an_index_does_not_change_with_the_list_it_was_made_from() -> None:
    ids = ["a", "b"]
    index = Index(ids)
    ids.append("c")
    index.to_list().append("d")
    assert list(index) == ["a", "b"]


def test_unknown_ids_name_their_neighbours() -> None:
    with pytest.raises(UnknownIdError, match=r"Did you mean .*sub-01") as caught:
        Index(["sub-01", "sub-12"], "obs_subject_id").get_index("sub-1")
    assert "obs_subject_id 'sub-1'" in str(caught.value)
    assert isinstance(caught.value, KeyError)


def test_ids_that_occur_twice_are_refused() -> None:
    with pytest.raises(DuplicateIdError, match="'b'"):
        Index(["a", "b", "b"])


def test_equality_needs_the_same_name_and_order() -> None:
    assert Index(["a", "b"]) == Index(["a", "b"])
    assert hash(Index(["a", "b"])) == hash(Index(["a", "b"]))
    assert Index(["a", "b"]) != Index(["b", "a"])
    assert Index(["a"], "obs_subject_id") != Index(["a"])


def test_errors_of_an_index_are_ours() -> None:
    with pytest.raises(IndexingError, match="-2 to 1"):
        Index(["a", "b"]).get_key(2)
    with pytest.raises(SelectionError, match="2 values"):
        Index(["a", "b"]).mask([True])
    with pytest.raises(SelectionError, match="at least one"):
        align()


@given(st.integers(0, 9), st.data())
def test_positions_are_sorted_unique_and_in_range(length: int, data: st.DataObject) -> None:
    bound = st.none() | st.integers(-12, 12)
    key = data.draw(st.builds(slice, bound, bound, st.none() | st.integers(-3, 3).filter(bool)))
    expected = sorted(range(length)[key])
    assert select_positions(key, length, "iloc").tolist() == expected
    if length:
        wanted = data.draw(st.lists(st.integers(-length, length - 1)))
        for form in (
            wanted,
            tuple(wanted),
            np.array(wanted, dtype=np.int32),
            pd.Series(wanted, dtype="int64"),
        ):
            assert select_positions(form, length, "iloc").tolist() == sorted({i % length for i in wanted})
    mask = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    found = select_positions(np.array(mask, bool), length, "iloc")
    assert found.tolist() == [i for i, keep in enumerate(mask) if keep]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (3, IndexError),
        (-4, IndexError),
        ([0, 3], IndexError),
        (np.array([-4]), IndexError),
        (1.0, TypeError),
        ("a", TypeError),
        (True, TypeError),
        (None, TypeError),
        ([True, False], ValueError),
        ([[0, 1]], TypeError),
        (["a"], TypeError),
        ([0.5], TypeError),
    ],
)
def test_positions_that_pick_nothing_raise_the_builtin_that_is_expected(key, kind) -> None:
    with pytest.raises(kind) as caught:
        select_positions(key, 3, "T1w.iloc")
    assert isinstance(caught.value, IndexingError | SelectionError)
    assert "T1w.iloc" in str(caught.value)


def test_labels() -> None:
    index = Index(["c", "a", "b"])
    assert select_labels("a", index, "loc") == 1
    for form in (["b", "c", "b"], ("b", "c"), np.array(["b", "c"]), pd.Series(["b", "c"]), Index(["b", "c"])):
        assert select_labels(form, index, "loc").tolist() == [0, 2]
    assert select_labels([], index, "loc").tolist() == []
    for key in (1, 1.5, [1], slice("a", "b"), None):
        with pytest.raises(SelectionError):
            select_labels(key, index, "loc")
    with pytest.raises(UnknownIdError):
        select_labels(["a", "x"], index, "loc")
