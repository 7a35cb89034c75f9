"""Tables that several writers change: what both want is kept, what only one can have is a conflict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.errors import ConflictError, MetadataError

SCAN = (np.zeros((3, 3, 3), "i2"), np.eye(4))


@pytest.fixture
def radi(study) -> RadiObject:
    ids = ["sub-03", "sub-01", "sub-02"]
    meta = pd.DataFrame(
        {
            "obs_subject_id": ids,
            "age": [41, 2**53 + 1, 20],
            "site": ["a", "b", None],
            "bmi": [21.5, 30.25, None],
        }
    )
    return study({"T1w": {i: np.full((3, 3, 3), n, "i2") for n, i in enumerate(ids)}}, meta)


def later(radi: RadiObject) -> RadiObject:
    """Another writer's handle on the newest version."""
    return RadiObject(radi.uri)


def row(radi: RadiObject, subject: str) -> dict[str, Any]:
    return next(r for r in radi.obs_meta.to_arrow().to_pylist() if r["obs_subject_id"] == subject)


def test_an_append_that_would_make_a_column_unreadable_is_refused(radi) -> None:
    with pytest.raises(MetadataError, match="9007199254740993"):
        radi.append({"T1w": [(SCAN, "new")]}, {"obs_subject_id": ["new"], "age": [0.5]})
    assert row(later(radi), "sub-01")["age"] == 2**53 + 1


def test_two_writers_of_different_rows_both_win(radi) -> None:
    one, two = later(radi), later(radi)
    frame = two.obs_meta.read()
    one.obs_meta.update({"obs_subject_id": ["sub-01"], "site": ["one"]})
    frame.loc[0, "site"] = "two"
    two.obs_meta.update(frame)
    assert later(radi).obs_meta["site"].to_list()[:2] == ["two", "one"]


def test_two_writers_of_one_row_conflict_even_in_different_columns(radi) -> None:
    one, two = later(radi), later(radi)
    one.obs_meta.update({"obs_subject_id": ["sub-01"], "site": ["one"]})
    with pytest.raises(ConflictError, match=r"'sub-01'.*version 2 \(update"):
        two.obs_meta.update({"obs_subject_id": ["sub-01"], "bmi": [1.0]})
    one.T1w.obs.update({"obs_id": ["sub-01_T1w"], "run": [1]})
    with pytest.raises(ConflictError, match=r"'sub-01_T1w'.*version 3 \(update"):
        two.T1w.obs.update({"obs_id": ["sub-01_T1w"], "session": ["a"]})
    assert row(later(radi), "sub-01")["bmi"] == 30.25


def test_two_writers_of_one_new_subject_conflict_unless_they_say_the_same(radi) -> None:
    one, two, three = later(radi), later(radi), later(radi)
    one.obs_meta.update({"obs_subject_id": ["new"], "site": ["one"]})
    with pytest.raises(ConflictError, match=r"'new'.*[Vv]ersion 2 \(update"):
        two.obs_meta.update({"obs_subject_id": ["new"], "site": ["two"]})
    three.obs_meta.update({"obs_subject_id": ["new", "newer"], "site": ["one", "three"]})
    assert later(radi).obs_meta["site"].to_list()[3:] == ["one", "three"]


def test_a_column_and_an_append_meet(radi) -> None:
    one, two = later(radi), later(radi)
    one.append({"T1w": [(SCAN, "new")]}, {"obs_subject_id": ["new"]})
    two.obs_meta.add_column("arm", fill="a", values={"sub-01": "b"})
    assert later(radi).obs_meta["arm"].to_list() == ["a", "b", "a", "a"]
    three = RadiObject(radi.uri, version=2)
    three.append({"T1w": [(SCAN, "newest")]}, {"obs_subject_id": ["newest"]})
    assert later(radi).obs_meta["arm"].fillna("-").to_list() == ["a", "b", "a", "a", "-"]


def test_a_column_that_an_append_brought_meanwhile_is_a_conflict(radi) -> None:
    one, two = later(radi), later(radi)
    one.append({"T1w": [(SCAN, "new")]}, {"obs_subject_id": ["new"], "arm": ["a"]})
    with pytest.raises(ConflictError, match=r"'arm'.*exists.*Version 2 \(append"):
        two.obs_meta.add_column("arm", "str")
    one.append(
        {"T1w": [(SCAN, "sub-09")]},
        {"obs_subject_id": ["sub-09"]},
        obs={"T1w": {"obs_subject_id": ["sub-09"], "qc": [1]}},
    )
    with pytest.raises(ConflictError, match=r"'qc'.*exists.*Version 3 \(append"):
        two.T1w.obs.add_column("qc", "Int64")


@pytest.mark.parametrize("second", ["add_column", "drop_column", "update"])
def test_a_change_of_columns_conflicts_with_a_change_of_their_rows(radi, second) -> None:
    one, two = later(radi), later(radi)
    one.obs_meta.add_column("note", "str")
    change = {
        "add_column": lambda: two.obs_meta.add_column("note", "Int64"),
        "drop_column": lambda: two.obs_meta.drop_column("age"),
        "update": lambda: two.obs_meta.update({"obs_subject_id": ["sub-01"], "bmi": [1.0]}),
    }[second]
    with pytest.raises(ConflictError, match=r"version 2 \(add_column"):
        change()
    assert later(radi).version == 2
