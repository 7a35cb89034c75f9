"""Differences of versions: `diff` says what a random list of changes did, and reads only what differs."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, measure
from radiobject.format import catalog
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.difference import difference
from radiobject.format.transaction import Transaction, create_study
from radiobject.location import Location
from radiobject.storage import Storage


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, 3, 2), value, dtype=np.uint8), np.eye(4)


@dataclass
class Model:
    """A study as dictionaries: subjects, and by folder of the collection its name and its volumes."""

    subjects: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, dict[str, tuple[str, int, Any]]] = field(default_factory=dict)
    """obs_id to subject, number of the write, value of the column "score"."""

    def path(self, name: str) -> str:
        return next(path for path, held in self.names.items() if held == name)


def expected(old: Model, new: Model) -> dict[str, Any]:
    """The difference of two models, as a set of rows (kind, change, collection, name)."""
    rows = set()
    for path, name in new.names.items():
        rows |= {("collection", "added", name, name)} if path not in old.names else set()
        if path in old.names and old.names[path] != name:
            rows.add(("collection", "renamed", name, name))
    rows |= {("collection", "removed", n, n) for p, n in old.names.items() if p not in new.names}
    rows |= {("subject", "added", "", s) for s in new.subjects.keys() - old.subjects.keys()}
    rows |= {("subject", "removed", "", s) for s in old.subjects.keys() - new.subjects.keys()}
    common = old.columns.keys() & new.columns.keys()
    for subject in old.subjects.keys() & new.subjects.keys():
        one, two = old.subjects[subject], new.subjects[subject]
        if any(one.get(c) != two.get(c) for c in common):
            rows.add(("subject", "changed", "", subject))
    rows |= {("column", "added", "", c) for c in new.columns.keys() - old.columns.keys()}
    rows |= {("column", "dropped", "", c) for c in old.columns.keys() - new.columns.keys()}
    for path in old.names.keys() | new.names.keys():
        name = new.names.get(path, old.names.get(path, ""))
        one, two = old.volumes.get(path, {}), new.volumes.get(path, {})
        rows |= {("volume", "added", name, i) for i in two.keys() - one.keys()}
        rows |= {("volume", "removed", name, i) for i in one.keys() - two.keys()}
        for obs_id in one.keys() & two.keys():
            if one[obs_id][1] != two[obs_id][1]:
                rows.add(("volume", "replaced", name, obs_id))
            if one[obs_id][2] != two[obs_id][2]:
                rows.add(("volume", "changed", name, obs_id))
    return {"rows": rows}


CHANGES = (
    "add",
    "replace",
    "volume",
    "subject",
    "value",
    "score",
    "column",
    "drop",
    "rename",
    "remove",
    "fold",
)


def play(radi: RadiObject, model: Model, change: str, draw: Any, count: int) -> None:
    """One change of the study, and the same of the model; nothing where there is nothing to change."""
    names = sorted(model.names.values())
    rows = sorted((p, i) for p, held in model.volumes.items() for i in held)
    if change == "add":
        subject, name = (
            draw(st.sampled_from(["a", "b", "c", "d"])),
            draw(st.sampled_from(["T1w", "seg", "CT"])),
        )
        obs_id = f"{subject}_{count}"
        fresh = subject not in model.subjects
        radi.append(
            {name: [(scan(count), subject, obs_id)]}, {"obs_subject_id": [subject]} if fresh else None
        )
        model.subjects.setdefault(subject, {})
        path = radi._study.entry(name).path
        model.names[path] = name
        model.volumes.setdefault(path, {})[obs_id] = (subject, count, None)
    elif change == "replace" and rows:
        path, obs_id = draw(st.sampled_from(rows))
        subject, _, score = model.volumes[path][obs_id]
        source = [(scan(count), subject, obs_id)]
        radi.append({model.names[path]: source}, on_conflict="replace")
        model.volumes[path][obs_id] = (subject, count, score)
    elif change == "volume" and rows:
        path, obs_id = draw(st.sampled_from(rows))
        radi.delete(obs_ids=obs_id)
        del model.volumes[path][obs_id]
    elif change == "subject" and len(model.subjects) > 1:
        gone = draw(st.sampled_from(sorted(model.subjects)))
        radi.delete(subjects=gone)
        del model.subjects[gone]
        for held in model.volumes.values():
            for obs_id in [i for i, row in held.items() if row[0] == gone]:
                del held[obs_id]
    elif change == "value" and model.columns:
        subject, column = (
            draw(st.sampled_from(sorted(model.subjects))),
            draw(st.sampled_from(sorted(model.columns))),
        )
        value = draw(st.sampled_from([None, 1, 2]))
        radi.obs_meta.update(pa.table({"obs_subject_id": [subject], column: pa.array([value], pa.int64())}))
        model.subjects[subject][column] = value
    elif change == "score" and rows:
        path, obs_id = draw(st.sampled_from(rows))
        value = draw(st.sampled_from([1, 2]))
        obs = radi.collection(model.names[path]).obs
        if "score" not in obs.columns:
            obs.add_column("score", "int64", values={obs_id: value})
        else:
            obs.update({"obs_id": [obs_id], "score": [value]})
        subject, number, _ = model.volumes[path][obs_id]
        model.volumes[path][obs_id] = (subject, number, value)
    elif change == "column":
        column = f"c{count}"
        radi.obs_meta.add_column(column, "int64", fill=count)
        model.columns[column] = "int64"
        for values in model.subjects.values():
            values[column] = count
    elif change == "drop" and model.columns:
        column = draw(st.sampled_from(sorted(model.columns)))
        radi.obs_meta.drop_column(column)
        del model.columns[column]
        for values in model.subjects.values():
            values.pop(column, None)
    elif change == "rename" and names:
        old = draw(st.sampled_from(names))
        radi.rename_collection(old, f"n{count}")
        model.names[model.path(old)] = f"n{count}"
    elif change == "remove" and len(names) > 1:
        path = model.path(draw(st.sampled_from(names)))
        radi.delete(collections=model.names[path])
        del model.names[path]
        model.volumes.pop(path, None)
    elif change == "fold":
        base = radi._study.snapshot
        made = Transaction(base.storage, base, "compact").commit(Edit(compact=True))
        radi._show(radi._study.after(made))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_random_list_of_changes_is_what_diff_says(data: st.DataObject) -> None:
    radi = RadiObject.from_niftis(f"memory://{uuid.uuid4().hex}", {"T1w": [(scan(1), "a", "a_first")]})
    path = radi._study.entry("T1w").path
    model = Model({"a": {}}, {}, {path: "T1w"}, {path: {"a_first": ("a", -1, None)}})
    states = {1: copy.deepcopy(model)}
    for count, change in enumerate(data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=8))):
        play(radi, model, change, data.draw, count)
        states[radi.version] = copy.deepcopy(model)
    first, last = (data.draw(st.sampled_from(sorted(states))) for _ in range(2))
    found = radi.diff(first, last)
    rows = expected(states[first], states[last])["rows"]
    frame = found.to_pandas()
    # the volume table's own column comes and goes with the collections: the model does not follow it
    frame = frame[~((frame["kind"] == "column") & (frame["name"] == "score"))]
    said = {tuple(row) for row in frame[["kind", "change", "collection", "name"]].to_numpy().tolist()}
    # a column that one of the versions lacks changes no row; which parts have it, the model does not follow
    shown = {v: RadiObject(f"{radi.uri}@{v}") for v in (first, last)}
    for row in [r for r in rows if r[:2] == ("volume", "changed")]:
        names = (states[first].names[states[last].path(row[2])], row[2])
        both = zip((first, last), names, strict=True)
        if not all("score" in shown[v].collection(name).obs.columns for v, name in both):
            rows.remove(row)
    assert rows == said
    assert bool(found) == bool(len(found.to_pandas()))


def test_a_collection_that_takes_the_name_of_one_that_is_gone_keeps_its_own_difference() -> None:
    radi = RadiObject.from_niftis(f"memory://{uuid.uuid4().hex}", {"T1w": [(scan(1), "a", "first")]})
    radi.append({"T1w": [(scan(2), "a", "first")]}, on_conflict="replace")
    radi.rename_collection("T1w", "before")
    radi.append({"T1w": [(scan(3), "a", "second")]})
    back = radi.diff(radi.version, 1).collections["T1w"]
    assert (back.replaced, back.removed) == (("first",), ("second",))


@pytest.fixture
def local(tmp_path: Path) -> str:
    place = str(tmp_path / "study")
    meta = pd.DataFrame({"obs_subject_id": ["a", "b"], "age": [1, 2]})
    RadiObject.from_niftis(place, {"T1w": [(scan(1), "a"), (scan(2), "b")]}, meta)
    return place


def reads(call: Any) -> dict[str, int]:
    catalog._snapshots.clear()
    with measure() as m:
        call()
    return {name: n for name, n in m.counts.items() if name.startswith("table_reads") or name == "door_read"}


def test_parts_that_both_versions_have_are_not_read(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    radi = RadiObject(local)
    for subject in "cde":
        radi.append({"T1w": [(scan(3), subject)]}, {"obs_subject_id": [subject], "age": [3]})
    base = {part.path for part in radi._study.snapshot.commit.parts()}
    radi.obs_meta.update({"obs_subject_id": ["d"], "age": [4]})
    fresh = {part.path for part in radi._study.snapshot.commit.parts()} - base
    assert len(fresh) == 1
    real, opened = Storage.read_range, set[str]()

    def counted(self: Storage, key: str, *rest: Any) -> bytes:
        opened.add(key)
        return real(self, key, *rest)

    catalog._snapshots.clear()
    radi = RadiObject(local)
    monkeypatch.setattr(Storage, "read_range", counted)
    found = radi.diff(4)
    assert found.subjects.changed == {"d": ("age",)}
    assert len(opened) == 2  # the part with d's row, as it was and as it is
    assert opened & base
    assert fresh <= opened


def test_versions_with_equal_tables_cost_two_commits(local: str) -> None:
    radi = RadiObject(local)
    radi.rename_collection("T1w", "t1")
    assert radi.diff(1).collections_renamed == {"T1w": "t1"}
    assert not any(name.startswith("table_reads") for name in reads(lambda: RadiObject(local).diff(1)))


def test_no_voxel_is_read(local: str) -> None:
    radi = RadiObject(local)
    radi.append({"T1w": [(scan(9), "a")]}, on_conflict="replace")
    with measure() as m:
        found = radi.diff(1)
    assert found.collections["T1w"].replaced == ("a_T1w",)
    assert (m["chunks_decoded"], m["volumes_opened"]) == (0, 0)


def test_columns_that_change_their_type_and_values_of_every_type(local: str) -> None:
    radi = RadiObject(local)
    frame = pd.DataFrame(
        {
            "obs_subject_id": ["a", "b"],
            "nan": [np.nan, 1.5],
            "word": pd.Categorical(["x", "y"]),
            "when": pd.to_datetime(["2020-01-01", None]),
            "many": [[1, 2], [3]],
        }
    )
    for name in ("nan", "word", "when", "many"):
        radi.obs_meta.add_column(name, values=frame.set_index("obs_subject_id")[name].to_dict())
    before = radi.version
    radi.obs_meta.update({"obs_subject_id": ["b"], "many": [[3, 4]]})
    radi.append({"T1w": [(scan(3), "c")]}, pd.DataFrame({"obs_subject_id": ["c"], "age": [2.5]}))
    found = radi.diff(before)
    assert found.subjects.changed == {"b": ("many",)}
    assert found.subjects.columns_retyped == {"age": ("int64", "double")}
    assert list(found.subjects.columns_added) == []
    added = radi.diff(1).subjects
    assert sorted(added.columns_added) == ["many", "nan", "when", "word"]
    assert added.changed == {}  # a column that is new changes no row
    backwards = radi.diff(radi.version, 1).subjects
    assert sorted(backwards.columns_dropped) == ["many", "nan", "when", "word"]
    assert backwards.removed == ("c",)


def test_a_difference_reads_at_a_glance(local: str) -> None:
    radi = RadiObject(local)
    radi.append({"seg": [(scan(1), "a")]})
    radi.obs_meta.update({"obs_subject_id": ["b"], "age": [50]})
    assert repr(radi.diff(1)) == (
        f"<diff of {local}, version 1 to 3:\n"
        "  collections: + seg\n"
        "  subjects: 1 changed in age (b)\n"
        "  seg: +1 volumes (a_seg)>"
    )
    assert repr(radi.diff(3)) == f"<diff of {local}, version 3 to 3: nothing changed>"
    assert radi.diff(1).to_json() == {
        "uri": local, "old": 1, "new": 3, "collections": {"added": ["seg"]},
        "subjects": {"changed": {"b": ["age"]}}, "volumes": {"seg": {"added": ["a_seg"]}},
    }  # fmt: skip


def test_a_hundred_thousand_rows_are_compared_by_columns(tmp_path: Path) -> None:
    n = 100_000
    storage = Storage(Location(str(tmp_path / "many")))
    create_study(storage)
    rows = pa.table({"obs_subject_id": [f"s{i:06d}" for i in range(n)], "age": range(n), "site": ["Ulm"] * n})
    first = Transaction(storage, None, "create").commit(Edit(subjects=rows))
    changed = rows.set_column(1, "age", pa.array([i + (i % 1000 == 0) for i in range(n)]))
    Transaction(storage, first, "update").commit(Edit(subjects=changed, update_subjects=True))
    catalog._snapshots.clear()
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    with measure() as m:
        found = difference(Catalog(storage).snapshot(1), Catalog(storage).latest())
    assert len(found.subjects.changed) == n // 1000
    assert m["table_reads:obs_meta"] == 6  # three columns of two parts, each once
    assert pa.total_allocated_bytes() - before < 64e6
