"""Random changes: one transaction gives what the same changes give one commit each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject
from radiobject.format.commit import Change

EXAMPLES = max(4, int(os.environ.get("RADIOBJECT_EXAMPLES", "20")) // 5)
"""On each of five engines."""
_places = itertools.count()


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((2, 2, 2), value, "i2"), np.eye(4)


def nth(names: Any, n: int) -> Any:
    return list(names)[n % len(names)] if len(names) else None


def collection_of(radi: RadiObject, n: int) -> Any:
    name = nth(radi.collection_names, n)
    return None if name is None else radi.collection(name)


def append(radi: RadiObject, n: int) -> None:
    subject = f"s{n}" if n % 3 else nth(radi.obs_subject_ids, n) or "s0"
    name = nth([*radi.collection_names, "T1w", "T2w"], n // 3)
    elsewhere = [i for c in radi.collection_names if c != name for i in radi.collection(c).obs_ids]
    if f"{subject}_{name}" in elsewhere:
        return  # a collection that was renamed holds that id
    meta = None if subject in radi.obs_subject_ids else {"obs_subject_id": [subject]}
    radi.append({name: [(scan(n), subject)]}, meta, on_conflict=nth(["skip", "replace"], n))


def delete_subject(radi: RadiObject, n: int) -> None:
    if len(radi) > 1:
        radi.delete(subjects=nth(radi.obs_subject_ids, n))


def delete_volume(radi: RadiObject, n: int) -> None:
    if radi.all_obs_ids:
        radi.delete(obs_ids=nth(radi.all_obs_ids, n))


def delete_collection(radi: RadiObject, n: int) -> None:
    if radi.n_collections > 1:
        radi.delete(collections=nth(radi.collection_names, n))


def rename(radi: RadiObject, n: int) -> None:
    new = nth(["T1w", "T2w", "other"], n)
    if radi.n_collections and new not in radi.collection_names:
        radi.rename_collection(nth(radi.collection_names, n // 3), new)


def update(radi: RadiObject, n: int) -> None:
    columns = [c for c in radi.obs_meta.columns if c.startswith("n")]
    subjects = {f"u{n}", *([nth(radi.obs_subject_ids, n)] if len(radi) else [])}
    if columns:
        radi.obs_meta.update({"obs_subject_id": sorted(subjects), nth(columns, n): [n] * len(subjects)})


def update_volumes(radi: RadiObject, n: int) -> None:
    part = collection_of(radi, n)
    if part is not None and len(part):
        part.obs.update({"obs_id": [nth(part.obs_ids, n)], "run": [n], "session": [str(n)]})


def add_column(radi: RadiObject, n: int) -> None:
    table = radi.obs_meta if n % 2 or not radi.n_collections else collection_of(radi, n).obs
    if f"n{n % 4}" not in table.columns:
        table.add_column(f"n{n % 4}", nth(["Int64", "float64"], n), fill=nth([None, n], n // 2))


def drop_column(radi: RadiObject, n: int) -> None:
    table = radi.obs_meta if n % 2 or not radi.n_collections else collection_of(radi, n).obs
    if f"n{n % 4}" in table.columns:
        table.drop_column(f"n{n % 4}")


def split(radi: RadiObject, n: int) -> None:
    if len(radi) > 1 and "split" not in radi.obs_meta.columns:
        radi.split(2, seed=n)


CHANGES: list[Callable[[RadiObject, int], None]] = [
    append, delete_subject, delete_volume, delete_collection, rename, update, update_volumes, add_column,
    drop_column, split,
]  # fmt: skip


def content(radi: RadiObject) -> dict[str, Any]:
    """All that a version says, but for where its volumes lie and when they were written."""
    found: dict[str, Any] = {"obs_meta": radi.obs_meta.to_arrow()}
    found["ledger"] = radi.ledger.to_arrow(["obs_id", "collection", "outcome"]).to_pylist()
    for name in radi:
        part = radi.collection(name)
        found[name] = (part.kind, part.shape, part.obs.to_arrow(), [int(v[0, 0, 0]) for v in part])
    return found


def check(place: Callable[[str], str], backend: str, changes: list[tuple[Any, int]]) -> None:
    """Make the changes in one study one by one, in its copy in one transaction, and compare."""
    number = next(_places)
    images = {"T1w": [(scan(1), "s1"), (scan(2), "s2")], "seg": [(scan(3), "s1")]}
    meta = {"obs_subject_id": ["s2", "s1"], "n0": [1, 2]}
    single = RadiObject.from_niftis(place(f"single-{number}"), images, meta, backend=backend)
    whole = single.write(place(f"whole-{number}"), backend=backend)
    whole.append({"seg": [(scan(4), "s2")]})
    single.append({"seg": [(scan(4), "s2")]})
    start = (single.version, whole.version)
    made = []
    for change, n in changes:
        before = single.version
        change(single, n)
        if single.version > before:
            made.append(single._study.snapshot.commit.change)
    with whole.transaction() as t:
        for change, n in changes:
            change(t, n)
    assert whole.version - start[1] == (1 if single.version > start[0] else 0)
    one, other = content(single), content(RadiObject(whole.uri))
    assert list(one) == list(other)
    assert one == other
    if made:
        assert whole._study.snapshot.commit.change == reduce(Change.then, made, Change())
    assert whole.validate("full").ok


def test_a_transaction_is_its_changes_one_after_the_other(backend) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 30)), min_size=1, max_size=8))
    def test(changes: list[tuple[Any, int]]) -> None:
        check(backend.uri, backend.backend, changes)

    test()


State = dict[str, int]


@pytest.mark.no_backend(reason="sets of ids")
@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4), min_size=2, max_size=6)
)
def test_changes_one_after_the_other_say_what_is_different_at_the_end(states: list[State]) -> None:
    def between(old: State, new: State) -> Change:
        return Change(
            volumes_added=frozenset(new.keys() - old.keys()),
            volumes_replaced=frozenset(k for k in new.keys() & old.keys() if new[k] != old[k]),
            volumes_removed=frozenset(old.keys() - new.keys()),
        )

    steps = [between(a, b) for a, b in itertools.pairwise(states)]
    together, whole = reduce(Change.then, steps), between(states[0], states[-1])
    assert together.volumes_added == whole.volumes_added
    assert together.volumes_removed == whole.volumes_removed
    # what was changed and changed back, or went and came back the same, was touched all the same
    assert whole.volumes_replaced <= together.volumes_replaced <= states[0].keys() & states[-1].keys()
