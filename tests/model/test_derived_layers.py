"""Collections added to a study: derived layers that go on, copies, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import AlignmentError, DuplicateIdError, SelectionError, TransformError, ViewError
from radiobject.format import catalog
from radiobject.model.provenance import function_identity, function_name

META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55]}
FACTOR = 2


@pytest.fixture
def radi(study) -> RadiObject:
    return study(None, META)


def double(volume, row):
    return volume * FACTOR


def counted(called: list[str]):
    # a list is part of what the function closes over, and it changes: the identity must not
    def fn(volume, row):
        log(row.name)
        return volume * 2

    log = Log(called)
    return fn


class Log:
    def __init__(self, to: list[str]) -> None:
        self._to = to

    def __call__(self, name: str) -> None:
        self._to.append(name)

    def __getattr__(self, name: str) -> str:  # what it holds is no part of what it is
        raise AttributeError(name)

    __slots__ = ("_to",)


def test_a_derived_layer_is_a_collection_of_the_study_that_knows_its_parents(radi) -> None:
    assert radi.add_collection("double", radi.T1w.lazy().map(double)) is radi
    assert radi.version == 2
    assert radi.double.obs_ids == ["sub-03_double", "sub-01_double", "sub-02_double"]
    assert [int(v[0, 0, 0]) for v in radi.double] == [6, 2, 4]
    rows = radi.double.obs.read()
    assert rows["parent_obs_id"].tolist() == radi.T1w.obs_ids
    assert rows["parent_version"].tolist() == [1, 1, 1]
    assert rows["parent_function"].unique().tolist() == [function_identity(double)]
    assert radi.pairs("T1w", "double")["double"].tolist() == radi.double.obs_ids
    assert radi.versions()[-1]["operation"] == "derive"
    assert radi.validate("full").ok


def test_again_after_an_append_it_computes_only_what_is_new(radi) -> None:
    called: list[str] = []
    fn = counted(called)
    radi.add_collection("double", radi.T1w.lazy().map(fn))
    version = radi.version
    radi.add_collection("double", radi.T1w.lazy().map(fn))
    assert radi.version == version  # nothing new, no version
    radi.append({"T1w": [((np.full((6, 5, 4), 9, "i2"), np.eye(4)), "new")]}, {"obs_subject_id": ["new"]})
    called.clear()
    with measure() as m:
        radi.add_collection("double", radi.T1w.lazy().map(fn))
    assert called == ["new_T1w"]
    assert m["chunks_decoded"] == 1
    assert radi.double.obs_ids[-1] == "new_double"
    assert radi.double.obs.read()["parent_version"].tolist() == [1, 1, 1, version + 1]


def test_a_replaced_parent_is_computed_anew(radi) -> None:
    radi.add_collection("double", radi.T1w.lazy().map(double))
    replaced = {"T1w": [((np.full((6, 5, 4), 50, "i2"), np.eye(4)), "sub-01")]}
    radi.append(replaced, on_conflict="replace")
    radi.add_collection("double", radi.T1w.lazy().map(double))
    assert [int(v[0, 0, 0]) for v in radi.double] == [6, 100, 4]
    assert radi.validate("full").ok


def test_another_function_makes_everything_anew(radi) -> None:
    radi.add_collection("double", radi.T1w.lazy().map(double))
    radi.add_collection("double", radi.T1w.lazy().map(lambda v, row: v * 3))
    assert [int(v[0, 0, 0]) for v in radi.double] == [9, 3, 6]


def test_functions_are_told_apart_by_what_they_do(monkeypatch) -> None:
    def made(n):
        return lambda v, row: v * n

    assert function_identity(made(2)) == function_identity(made(2))
    assert function_identity(made(2)) != function_identity(made(3))
    assert function_identity(functools.partial(pow, 2)) != function_identity(functools.partial(pow, 3))
    before = function_identity(double)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert function_identity(double) != before
    assert function_name(np.log) == "numpy.log"
    assert function_name(functools.partial(double, 1)).startswith("partial(")

    def calls_itself(v, row):
        return calls_itself(v, row)

    assert function_identity(calls_itself) == function_identity(calls_itself)


def test_an_interrupted_layer_is_completed(radi, tmp_path: Path) -> None:
    called: list[str] = []

    def fails_at_the_last(volume, row):
        if row["age"] == 55 and not (tmp_path / "mended").exists():
            raise ValueError("disk full")
        (tmp_path / f"called-{row.name}").touch()
        return volume * 2

    with pytest.raises(TransformError, match="disk full"):
        radi.add_collection("double", radi.T1w.lazy().map(fails_at_the_last), executor="serial")
    catalog._snapshots.clear()
    assert RadiObject(radi.uri).collection_names == ("T1w", "seg")
    (tmp_path / "mended").touch()
    for file in tmp_path.glob("called-*"):
        file.unlink()
    radi.add_collection("double", radi.T1w.lazy().map(fails_at_the_last), resume=True)
    assert [f.name for f in tmp_path.glob("called-*")] == ["called-sub-02_T1w"]
    assert [int(v[0, 0, 0]) for v in radi.double] == [6, 2, 4]
    assert radi.validate("full").ok
    assert not called


def test_what_functions_add_survives_a_resume_with_its_type(radi, tmp_path: Path) -> None:
    import datetime

    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

    def add(volume, row):
        if row["age"] == 55 and not (tmp_path / "mended").exists():
            raise ValueError("not yet")
        return volume, {
            "when": when,
            "raw": b"\x00\xff",
            "box": [1, 2],
            "took": datetime.timedelta(seconds=2),
        }

    with pytest.raises(TransformError):
        radi.add_collection("more", radi.T1w.lazy().map(add), executor="serial")
    (tmp_path / "mended").touch()
    radi.add_collection("more", radi.T1w.lazy().map(add), resume=True)
    rows = radi.more.obs.to_arrow(["when", "raw", "box", "took"]).to_pylist()
    assert (
        rows == [{"when": when, "raw": b"\x00\xff", "box": [1, 2], "took": datetime.timedelta(seconds=2)}] * 3
    )


def test_a_layer_from_a_view_and_more_of_it_later(radi) -> None:
    radi.add_collection("double", radi.T1w.lazy().filter("age > 50").map(double))
    assert radi.double.obs_ids == ["sub-03_double", "sub-02_double"]
    radi.add_collection("double", radi.T1w.lazy().map(double))
    assert sorted(radi.double.obs_ids) == ["sub-01_double", "sub-02_double", "sub-03_double"]


def test_results_of_an_eager_map_become_a_layer(radi) -> None:
    radi.add_collection("double", radi.T1w.map(double))
    assert [int(v[0, 0, 0]) for v in radi.double] == [6, 2, 4]


def test_a_collection_of_another_study_comes_with_its_new_subjects(study, tmp_path: Path) -> None:
    radi = study({"T1w": {"a": np.full((3, 3, 3), 1, "i2")}}, {"obs_subject_id": ["a"], "age": [1]})
    other = study(
        {"CT": {"a": np.full((3, 3, 3), 7, "i2"), "b": np.full((3, 3, 3), 8, "i2")}},
        {"obs_subject_id": ["a", "b"], "age": [1, 2], "site": ["x", "y"]},
        uri=tmp_path / "other",
    )
    radi.add_collection("CT", other.CT)
    assert radi.CT.obs_ids == ["a_CT", "b_CT"]
    assert [int(v[0, 0, 0]) for v in radi.CT] == [7, 8]
    assert radi.obs_meta.read()[["obs_subject_id", "age"]].values.tolist() == [["a", 1], ["b", 2]]
    by_uri = study({"T1w": {"a": np.full((3, 3, 3), 1, "i2")}})
    assert by_uri.add_collection("CT", str(tmp_path / "other")).CT.obs_ids == ["a_CT", "b_CT"]
    assert radi.validate("full").ok


def test_a_view_of_the_same_study_is_copied_under_new_ids(radi) -> None:
    radi.add_collection("young", radi.T1w.filter("age < 60"))
    assert radi.young.obs_ids == ["sub-01_young", "sub-02_young"]
    assert [int(v[0, 0, 0]) for v in radi.young] == [1, 2]
    assert radi.validate("full").ok


def test_what_is_taken_is_refused(radi, study, tmp_path: Path) -> None:
    with pytest.raises(DuplicateIdError, match="'seg'"):
        radi.add_collection("seg", radi.T1w.lazy().map(double))
    with pytest.raises(DuplicateIdError, match="'T1w'"):
        radi.add_collection("T1w", radi.seg)
    other = study(uri=tmp_path / "other")
    with pytest.raises(DuplicateIdError, match="sub-01_T1w"):
        radi.add_collection("again", other.T1w)
    radi.add_collection("double", radi.T1w.lazy().map(double))
    with pytest.raises(AlignmentError, match="kind"):
        radi.add_collection("double", radi.T1w.lazy().map(double), kind="label")
    with pytest.raises(SelectionError, match="VolumeCollection"):
        radi.add_collection("odd", 7)  # type: ignore[arg-type]
    with pytest.raises(ViewError):
        radi.head(1).add_collection("x", radi.T1w)


def test_a_failed_layer_leaves_the_study_as_it_was(radi) -> None:
    with pytest.raises(TransformError):
        radi.add_collection("broken", radi.T1w.lazy().map(lambda v, row: 1 / 0))
    catalog._snapshots.clear()
    again = RadiObject(radi.uri)
    assert again.version == radi.version == 1
    assert again.validate("full").ok


def test_a_query_over_a_study_selects_and_maps_by_collection(radi, tmp_path: Path) -> None:
    query = (
        radi.lazy()
        .filter("age > 50")
        .filter_collection("seg", "obs_subject_id == 'sub-02'")
        .map(double, "T1w")
    )
    assert query.count() == (2, 3)
    assert query.to_obs_meta()["obs_subject_id"].tolist() == ["sub-03", "sub-02"]
    assert [v.obs_id for v in query.iter_volumes()] == ["sub-03_T1w", "sub-02_T1w", "sub-02_seg"]
    assert [b.obs_ids for b in query.iter_batches(2, "T1w")] == [["sub-03_T1w", "sub-02_T1w"]]
    made = query.write(tmp_path / "out")
    assert made.version == 1
    assert made.obs_subject_ids == ["sub-03", "sub-02"]
    assert [int(v[0, 0, 0]) for v in made.T1w] == [6, 4]
    assert [int(v[0, 0, 0]) for v in made.seg] == [12]
    assert made.validate("full").ok
    assert "double" in repr(query)
    chained = radi.lazy().head(2).tail(1).select_collections(["T1w"])
    assert chained.write(tmp_path / "plain").T1w.obs_ids == ["sub-01_T1w"]
    assert radi.lazy().filter_subjects(["sub-01", "nobody"]).count() == (1, 2)
    assert radi.lazy().sample(2, seed=1).count() == radi.lazy().sample(2, seed=1).count()
    assert radi.lazy().iloc(0).count() == radi.lazy().loc("sub-03").count() == (1, 2)
