"""Partners by subject and session, one grid or not, and splits in which no subject leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject.errors import AlignmentError, ConfigError, UnknownIdError
from radiobject.format.meta import VolumeMeta, row_text
from radiobject.geometry.affine import Affine
from radiobject.model.partners import match, same_grid, split_subjects

pytestmark = pytest.mark.no_backend(reason="tables and numbers alone")

NAMES = ("T1w", "seg")


def rows(*entries: tuple[str, str, str | None], run: int | None = None) -> pa.Table:
    return pa.table(
        {
            "obs_subject_id": [s for s, _, _ in entries],
            "obs_id": [i for _, i, _ in entries],
            "session": pa.array([x for _, _, x in entries], pa.string()),
            "run": pa.array([run] * len(entries), pa.int64()),
        }
    )


def test_partners_have_the_same_subject_and_session() -> None:
    left = rows(("a", "a1", "pre"), ("a", "a2", "post"), ("b", "b1", "pre"))
    right = rows(("b", "y1", "pre"), ("a", "x2", "post"), ("a", "x1", "pre"))
    found = match(left, right, NAMES)
    assert found[["T1w", "seg"]].values.tolist() == [["a1", "x1"], ["a2", "x2"], ["b1", "y1"]]
    assert list(found.columns) == ["obs_subject_id", "session", "T1w", "seg"]


def test_a_column_that_one_side_does_not_use_is_not_compared() -> None:
    left = rows(("a", "a1", "pre"), ("b", "b1", "pre"))
    right = rows(("a", "x", None), ("b", "y", None), run=1)
    assert match(left, right, NAMES)["seg"].tolist() == ["x", "y"]


def test_missing_partners_are_listed_or_dropped() -> None:
    left, right = rows(("a", "a1", None), ("b", "b1", None)), rows(("a", "x", None))
    with pytest.raises(AlignmentError, match="b1"):
        match(left, right, NAMES)
    assert match(left, right, NAMES, missing="drop")["T1w"].tolist() == ["a1"]


def test_ambiguous_partners_are_listed_in_both_directions() -> None:
    one, two = rows(("a", "a1", None)), rows(("a", "x", None), ("a", "y", None))
    with pytest.raises(AlignmentError, match=r"a1 -> \['x', 'y'\]"):
        match(one, two, NAMES)
    with pytest.raises(AlignmentError, match=r"y -> \['a1'\]"):
        match(two, one, NAMES)


def test_on_overrides_and_must_exist() -> None:
    left, right = rows(("a", "a1", "pre")), rows(("a", "x", "post"))
    assert match(left, right, NAMES, on=[])["seg"].tolist() == ["x"]
    with pytest.raises(UnknownIdError, match="site"):
        match(left, right, NAMES, on=["site"])


KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from(["pre", "post", None]), st.sampled_from([1, 2, None]))


def plain_loop(left: list[Any], right: list[Any]) -> tuple[list[Any], list[int], list[int]]:
    """Pairs, volumes without a partner, and volumes with several or that share one."""
    pairs, alone, several, seen = [], [], [], set()
    for n, key in enumerate(left):
        found = [m for m, other in enumerate(right) if other == key]
        if not found:
            alone.append(n)
        elif len(found) > 1 or key in seen:
            several.append(n)
        else:
            pairs.append((*key, f"l{n}", f"r{found[0]}"))
        seen.add(key)
    return pairs, alone, several


@given(st.lists(KEYS, max_size=6), st.lists(KEYS, max_size=6), st.booleans())
def test_partners_are_those_that_a_plain_loop_finds(left: Any, right: Any, coded: bool) -> None:
    def table(keys: list[Any], side: str) -> pa.Table:
        subjects, sessions, runs = ([k[i] for k in keys] for i in range(3))
        text = pa.array(sessions, pa.string())
        return pa.table(
            {
                "obs_subject_id": pa.array(subjects, pa.string()),
                "session": text.dictionary_encode() if coded and side == "l" else text,
                "run": pa.array(runs, pa.int64() if side == "l" else pa.float64()),
                "obs_id": pa.array([f"{side}{n}" for n in range(len(keys))], pa.string()),
            }
        )

    pairs, alone, several = plain_loop(left, right)
    tables = table(left, "l"), table(right, "r")
    if several:
        with pytest.raises(AlignmentError, match=f"several: l{several[0]} -> "):
            match(*tables, NAMES, on=["session", "run"], missing="drop")
        return
    if alone:
        with pytest.raises(AlignmentError, match=f"none for {len(alone)}: "):
            match(*tables, NAMES, on=["session", "run"])
    found = match(*tables, NAMES, on=["session", "run"], missing="drop")
    assert found.astype(object).where(found.notna(), None).values.tolist() == [list(p) for p in pairs]


def test_columns_that_cannot_be_compared_are_said() -> None:
    left, right = rows(("a", "a1", "pre")), rows(("a", "x", "pre"))
    wrong = right.set_column(2, "session", pa.array([1]))
    with pytest.raises(AlignmentError, match=r"column 'session' of 'T1w' and 'seg'.*string and int64"):
        match(left, wrong, NAMES)


def grid(*affines: np.ndarray, shape: tuple[int, int, int] = (100, 100, 100)) -> pa.Table:
    sizes: dict[str, Any] = {f"dim_{a}": [n] * len(affines) for a, n in zip("xyz", shape, strict=True)}
    said = [row_text(VolumeMeta(Affine(a), ("z", "y", "x"))) for a in affines]
    return pa.table({**sizes, "affine": [a.ravel().tolist() for a in affines], "_volume": said})


def test_one_grid_is_judged_at_the_corners() -> None:
    near, far = np.eye(4), np.eye(4)
    near[0, 3] += 5e-4
    far[0, 0] += 5e-5  # a thousandth of a voxel, a hundred voxels away
    assert same_grid(grid(np.eye(4), near))
    assert not same_grid(grid(np.eye(4), far))
    assert not same_grid(pa.concat_tables([grid(np.eye(4)), grid(np.eye(4), shape=(100, 100, 99))]))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.sampled_from([{"train": 0.7, "val": 0.15, "test": 0.15}, {"a": 0.5, "b": 0.5}, 5]),
    st.integers(0, 3),
    st.randoms(),
)
def test_a_split_is_complete_proportional_and_independent_of_order(
    strata: list[int], parts: Any, seed: int, random: Any
) -> None:
    subjects = [f"s{n:03d}" for n in range(len(strata))]
    result = split_subjects(subjects, parts, strata, seed)
    weights = parts if isinstance(parts, dict) else {str(n): 1 / parts for n in range(parts)}
    for name, weight in weights.items():
        assert abs((result == name).sum() - weight * len(subjects)) < 2 + len(set(strata))
        for stratum in set(strata):
            chosen = [r for r, s in zip(result, strata, strict=True) if s == stratum]
            assert abs(chosen.count(name) - weight * len(chosen)) < 2.5
    order = list(range(len(subjects)))
    random.shuffle(order)
    again = split_subjects([subjects[i] for i in order], parts, [strata[i] for i in order], seed)
    assert [again[order.index(i)] for i in range(len(order))] == result.tolist()


def test_fractions_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        split_subjects(["a"], {"train": 0.5, "test": 0.4})
    with pytest.raises(ConfigError, match="at least 2"):
        split_subjects(["a"], 1)
