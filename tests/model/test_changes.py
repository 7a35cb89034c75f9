"""append, delete and tag: right voxels and tables afterwards, and older versions as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import (
    AlignmentError,
    DuplicateIdError,
    MetadataError,
    SelectionError,
    UnknownIdError,
)

START = {"sub-03": 3, "sub-01": 1, "sub-02": 2}


def scan(value: int, shape: tuple[int, ...] = (6, 5, 4)) -> tuple[np.ndarray, np.ndarray]:
    return np.full(shape, value, "i2"), np.eye(4)


def held(radi: RadiObject) -> dict[str, dict[str, int]]:
    """The value of every volume, by collection and id, in table order; each is checked to be constant."""
    found: dict[str, dict[str, int]] = {}
    for name in radi:
        found[name] = {}
        for vol in radi.collection(name):
            values = np.unique(vol[...])
            assert len(values) == 1
            assert vol.obs_id == radi.get_volume(vol.obs_id).obs_id
            assert radi.loc[vol.obs_subject_id].get_volume(vol.obs_id)[0, 0, 0] == values[0]
            found[name][vol.obs_id] = int(values[0])
    return found


def ids(collection: str, values: dict[str, int]) -> dict[str, int]:
    return {f"{s}_{collection}": v for s, v in values.items()}


@pytest.fixture
def radi(backend) -> RadiObject:
    images = {
        "T1w": [(scan(v), s) for s, v in START.items()],
        "seg": [(scan(v + 10), s) for s, v in START.items()],
    }
    meta = pd.DataFrame({"obs_subject_id": list(START), "age": [30, 10, 20]})
    return RadiObject.from_niftis(backend.uri(), images, meta, backend=backend.backend)


BEGUN = {"T1w": ids("T1w", START), "seg": ids("seg", {s: v + 10 for s, v in START.items()})}


def check(radi: RadiObject, backend: Any, expected: dict[str, dict[str, int]]) -> None:
    """This handle and a fresh one see `expected`; the study is whole; version 1 is as it was."""
    for one in (radi, RadiObject(backend.uri())):
        assert held(one) == expected
        assert [list(v) for v in held(one).values()] == [list(v) for v in expected.values()]
    assert radi.validate("full").ok
    first = RadiObject(backend.uri(), version=1)
    assert held(first) == BEGUN
    assert first.obs_subject_ids == list(START)


def test_append_adds_volumes_at_the_end_whatever_their_id(radi, backend) -> None:
    same = radi.append({"T1w": [(scan(7), "a-first")]}, {"obs_subject_id": ["a-first"], "age": [70]})
    assert same is radi
    assert radi.version == 2
    assert radi.obs_subject_ids == ["sub-03", "sub-01", "sub-02", "a-first"]
    assert radi.obs_meta["age"].to_list() == [30, 10, 20, 70]
    assert radi.loc["a-first"].T1w.iloc[0][0, 0, 0] == 7
    assert radi.loc["sub-01"].T1w.iloc[0][0, 0, 0] == 1
    check(radi, backend, {"T1w": {**BEGUN["T1w"], "a-first_T1w": 7}, "seg": BEGUN["seg"]})


def test_append_makes_new_collections_and_needs_no_row_for_known_subjects(radi, backend) -> None:
    radi.append({"flair": [(scan(9, (3, 3, 3)), "sub-01")]})
    assert radi.collection_names == ("T1w", "seg", "flair")
    assert radi.flair.shape == (3, 3, 3)
    check(radi, backend, {**BEGUN, "flair": {"sub-01_flair": 9}})


def test_append_keeps_kind_and_backend_of_the_study(study) -> None:
    radi = study({"tumour": {"a": np.ones((3, 3, 3), "u1")}}, labels={"tumour": {1: "core"}})
    radi.append({"tumour": [((np.ones((3, 3, 3), "u1"), np.eye(4)), "b")]}, {"obs_subject_id": ["b"]})
    assert radi.tumour.kind == "label"
    with pytest.raises(AlignmentError, match="kind"):
        study().append({"T1w": [(scan(1), "sub-01")]}, on_conflict="replace", labels=["T1w"])


def test_subjects_of_files_are_those_that_the_study_knows(study, tmp_path, make_nifti) -> None:
    radi = study({"T1w": {"P7_a": np.ones((3, 3, 3), "i2")}})
    path = tmp_path / "P7_a_flair.nii"
    path.write_bytes(make_nifti(np.full((3, 3, 3), 5, "i2")))
    other = tmp_path / "P7_a.nii"
    other.write_bytes(path.read_bytes())
    radi.append({"flair": [path], "t2": [other]})
    assert radi.loc["P7_a"].flair.iloc[0][0, 0, 0] == 5
    assert radi.t2.obs_subject_ids == ["P7_a"]


def test_append_without_a_row_for_a_new_subject_is_refused(radi, backend) -> None:
    with pytest.raises(MetadataError, match="sub-99"):
        radi.append({"T1w": [(scan(7), "sub-99")]})
    with pytest.raises(MetadataError, match="sub-99"):
        radi.append({"T1w": [(scan(7), "sub-99")]}, {"obs_subject_id": ["sub-98"], "age": [1]})
    assert radi.version == 1
    check(radi, backend, BEGUN)


def test_a_known_subject_with_other_values_is_refused(radi, backend) -> None:
    with pytest.raises(MetadataError, match="the values that the study holds"):
        radi.append({"flair": [(scan(7), "sub-01")]}, {"obs_subject_id": ["sub-01"], "age": [11]})
    check(radi, backend, BEGUN)
    radi.append({"flair": [(scan(7), "sub-01")]}, {"obs_subject_id": ["sub-01"], "age": [10]})
    check(radi, backend, {**BEGUN, "flair": {"sub-01_flair": 7}})


def test_an_id_that_is_held_is_an_error_by_default(radi, backend) -> None:
    with pytest.raises(DuplicateIdError, match="sub-01_T1w") as caught:
        radi.append({"T1w": [(scan(7), "sub-01")]})
    assert "on_conflict" in str(caught.value)
    check(radi, backend, BEGUN)


NEW = {"T1w": [(scan(2), "sub-02"), (scan(7), "sub-03"), (scan(9), "sub-09")]}
ROW = {"obs_subject_id": ["sub-09"], "age": [90]}


def test_on_conflict_skip_adds_only_what_is_new(radi, backend) -> None:
    radi.append(NEW, ROW, on_conflict="skip")
    check(radi, backend, {**BEGUN, "T1w": {**BEGUN["T1w"], "sub-09_T1w": 9}})


def test_on_conflict_replace_exchanges_in_place(radi, backend) -> None:
    radi.append(NEW, ROW, on_conflict="replace")
    check(radi, backend, {**BEGUN, "T1w": {**BEGUN["T1w"], "sub-03_T1w": 7, "sub-09_T1w": 9}})
    frame = radi.T1w.obs.read(["obs_id", "intensity_max"])
    assert frame["intensity_max"].to_list() == [7.0, 1.0, 2.0, 9.0]


def test_on_conflict_update_writes_only_changed_sources(radi, backend) -> None:
    with measure() as cost:
        radi.append(NEW, ROW, on_conflict="update")
    check(radi, backend, {**BEGUN, "T1w": {**BEGUN["T1w"], "sub-03_T1w": 7, "sub-09_T1w": 9}})
    ledger = RadiObject(backend.uri()).ledger.read()
    assert ledger["obs_id"].to_list()[6:] == ["sub-03_T1w", "sub-09_T1w"]
    assert cost["requests"] > 0


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
def test_nothing_new_makes_no_version(radi, backend, on_conflict) -> None:
    whole = {"T1w": [(scan(v), s) for s, v in START.items()]}
    meta = pd.DataFrame({"obs_subject_id": list(START), "age": [30, 10, 20]})
    radi.append(whole, meta, on_conflict=on_conflict)
    radi.append(whole, on_conflict=on_conflict)
    assert radi.version == RadiObject(backend.uri()).version == 1


def test_replacing_by_another_shape_updates_the_collection(radi) -> None:
    radi.append({"T1w": [(scan(5, (2, 2, 2)), "sub-01")]}, on_conflict="replace")
    assert radi.T1w.shape is None
    assert radi.loc["sub-01"].T1w.iloc[0].shape == (2, 2, 2)
    radi.append({"T1w": [(scan(1), "sub-01")]}, on_conflict="replace")
    assert radi.T1w.shape == (6, 5, 4)


def test_delete_subjects_takes_their_volumes(radi, backend) -> None:
    radi.delete(subjects="sub-01", message="withdrew")
    assert radi.obs_subject_ids == ["sub-03", "sub-02"]
    assert radi.obs_meta["age"].to_list() == [30, 20]
    left = {name: {i: v for i, v in of.items() if "sub-01" not in i} for name, of in BEGUN.items()}
    check(radi, backend, left)
    with pytest.raises(UnknownIdError):
        radi.loc["sub-01"]
    assert radi.versions()[-1]["message"] == "withdrew"


def test_delete_collections_and_volumes(radi, backend) -> None:
    radi.delete(collections=["seg"], obs_ids="sub-03_T1w")
    assert radi.collection_names == ("T1w",)
    assert radi.obs_subject_ids == list(START)
    assert radi.loc["sub-03"].T1w.obs_ids == []
    check(radi, backend, {"T1w": ids("T1w", {"sub-01": 1, "sub-02": 2})})


def test_what_was_deleted_may_come_again(radi, backend) -> None:
    radi.delete(subjects=["sub-01", "sub-02", "sub-03"])
    assert len(radi) == 0
    assert held(radi) == {"T1w": {}, "seg": {}}
    radi.append({"T1w": [(scan(8), "sub-01")]}, {"obs_subject_id": ["sub-01"], "age": [11]})
    check(radi, backend, {"T1w": {"sub-01_T1w": 8}, "seg": {}})


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({}, SelectionError),
        ({"subjects": "nobody"}, UnknownIdError),
        ({"collections": ["T1w", "flair"]}, UnknownIdError),
        ({"obs_ids": ["sub-01_T1w", "sub-01_t2"]}, UnknownIdError),
    ],
)
def test_delete_refuses_what_is_not_there(radi, backend, what, kind) -> None:
    with pytest.raises(kind):
        radi.delete(**what)
    assert radi.version == 1
    check(radi, backend, BEGUN)


def test_a_tag_is_a_name_for_one_version(radi, backend) -> None:
    radi.tag("baseline")
    radi.tag("baseline")
    radi.delete(subjects="sub-01")
    assert held(RadiObject(backend.uri(), version="baseline")) == BEGUN
    with pytest.raises(DuplicateIdError, match="version 1"):
        radi.tag("baseline")


def test_an_open_handle_does_not_see_what_others_change(radi, backend) -> None:
    other = RadiObject(backend.uri())
    other.delete(subjects="sub-03")
    other.append({"T1w": [(scan(6), "sub-01")]}, on_conflict="replace")
    assert held(radi) == BEGUN
    assert radi.version == 1


def test_many_appends_read_as_one_table(study) -> None:
    radi = study({"T1w": {"s00": np.zeros((2, 2, 2), "i2")}})
    for n in range(1, 6):
        radi.append({"T1w": [(scan(n, (2, 2, 2)), f"s{9 - n:02d}")]}, {"obs_subject_id": [f"s{9 - n:02d}"]})
    assert held(RadiObject(radi.uri))["T1w"] == {"s00_T1w": 0} | {f"s{9 - n:02d}_T1w": n for n in range(1, 6)}
    assert [radi.T1w.iloc[i][0, 0, 0] for i in (5, 2, 4, 0)] == [5, 2, 4, 0]


def test_a_replaced_volume_keeps_what_was_said_of_it(study) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["sub-01"], "quality": ["good"], "session": ["pre"]})
    radi = study(obs={"T1w": frame})
    radi.append({"T1w": [((np.full((6, 5, 4), 9, "i2"), np.eye(4)), "sub-01")]}, on_conflict="replace")
    row = (
        radi.T1w.obs.read(["obs_id", "quality", "session", "intensity_max"])
        .set_index("obs_id")
        .loc["sub-01_T1w"]
    )
    assert row.tolist() == ["good", "pre", 9.0]


def test_a_volume_that_replaces_a_derived_one_is_not_derived(study) -> None:
    radi = study()
    radi.add_collection("half", radi.T1w.lazy().map(lambda v, row: v // 2))
    radi.append({"half": [((np.full((6, 5, 4), 9, "i2"), np.eye(4)), "sub-01")]}, on_conflict="replace")
    rows = radi.half.obs.read(["obs_id", "parent_obs_id", "parent_function"]).set_index("obs_id")
    assert rows.loc["sub-01_half"].isna().all()
    assert rows.loc["sub-02_half", "parent_obs_id"] == "sub-02_T1w"
