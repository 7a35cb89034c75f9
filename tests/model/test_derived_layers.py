"""Collections added to a study: derived layers that go on, copies, and what is refused."""

from __future__ import annotations

import datetime
import functools
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import (
    AlignmentError,
    ConflictError,
    DuplicateIdError,
    MetadataError,
    SelectionError,
    TransformError,
    ViewError,
)
from radiobject.format import catalog
from radiobject.model.provenance import function_identity, function_name

META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55]}
FACTOR = 2


@pytest.fixture
def radi(study) -> RadiObject:
    return study(None, META)


def double(volume, row):
    return volume * FACTOR


def counted(folder: Path):
    """Doubles, and leaves a file for each volume that it was called for."""

    def fn(volume, row):
        (folder / row.name).touch()
        return volume * 2

    return fn


def calls(folder: Path) -> list[str]:
    """The volumes of the calls since the last time."""
    found = sorted(folder.iterdir())
    for file in found:
        file.unlink()
    return [file.name for file in found]


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


def test_again_after_an_append_it_computes_only_what_is_new(radi, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    fn = counted(folder)
    radi.add_collection("double", radi.T1w.lazy().map(fn))
    version = radi.version
    radi.add_collection("double", radi.T1w.lazy().map(fn))
    assert radi.version == version  # nothing new, no version
    radi.append({"T1w": [(ramp(9), "new")]}, {"obs_subject_id": ["new"]})
    calls(folder)
    with measure() as m:
        radi.add_collection("double", radi.T1w.lazy().map(fn))
    assert calls(folder) == ["new_T1w"]
    assert m["bytes_used"] == 6 * 5 * 4 * 2
    assert radi.double.obs_ids[-1] == "new_double"
    assert radi.double.obs.read()["parent_version"].tolist() == [1, 1, 1, version + 1]


def ramp(value: int):
    return np.full((6, 5, 4), value, "i2"), np.eye(4)


def test_a_layer_goes_on_after_a_collection_was_renamed(radi, tmp_path: Path) -> None:
    radi.add_collection("double", radi.T1w.lazy().map(double))
    ids = radi.double.obs_ids
    radi.rename_collection("T1w", "anat").rename_collection("double", "twice")
    version = radi.version
    radi.add_collection("twice", radi.anat.lazy().map(double))
    assert (radi.version, radi.twice.obs_ids) == (version, ids)
    radi.append({"anat": [(ramp(9), "new")]}, {"obs_subject_id": ["new"]})
    radi.add_collection("twice", radi.anat.lazy().map(double))
    assert radi.twice.obs_ids == [*ids, "new_twice"]


def test_a_layer_has_one_source_that_is_not_itself(radi) -> None:
    radi.add_collection("double", radi.T1w.lazy().map(double))
    with pytest.raises(SelectionError, match="itself"):
        radi.add_collection("double", radi.double.lazy().map(double))
    with pytest.raises(DuplicateIdError, match="sub-03_double"):
        radi.add_collection("double", radi.seg.lazy().map(double), kind="image")


def test_a_query_of_an_older_version_is_refused(radi) -> None:
    query = radi.T1w.lazy().map(double)
    radi.append({"T1w": [(ramp(9), "new")]}, {"obs_subject_id": ["new"]})
    with pytest.raises(SelectionError, match=r"version 1.*this handle"):
        radi.add_collection("double", query)
    view = radi.T1w.head(1)
    radi.delete(subjects="sub-03")
    with pytest.raises(SelectionError, match="version 2"):
        radi.add_collection("copy", view)
    assert "sub-03" not in radi.obs_subject_ids


def test_a_parent_that_is_deleted_meanwhile_is_a_conflict(radi) -> None:
    other = RadiObject(radi.uri)
    radi.delete(obs_ids="sub-01_T1w")
    with pytest.raises(ConflictError, match="sub-01_T1w"):
        other.add_collection("double", other.T1w.lazy().map(double))


def test_two_layers_of_one_name_are_a_conflict(radi, study, tmp_path: Path) -> None:
    apart = study({"CT": {"a": np.full((3, 3, 3), 7, "i2")}}, uri=tmp_path / "apart")
    other = RadiObject(radi.uri)
    radi.add_collection("norm", radi.T1w.lazy().map(double))
    with pytest.raises(ConflictError, match="'norm'"):
        other.add_collection("norm", apart.CT)


def test_a_subject_that_two_studies_tell_apart_is_refused(radi, study, tmp_path: Path) -> None:
    apart = study(
        {"CT": {"sub-01": np.full((3, 3, 3), 7, "i2")}},
        {"obs_subject_id": ["sub-01"], "age": [41]}, uri=tmp_path / "apart",
    )  # fmt: skip
    for source in (apart.CT, apart.CT.lazy().map(double)):
        with pytest.raises(MetadataError, match="'sub-01' column 'age'"):
            radi.add_collection("CT", source)


def test_failures_of_another_run_are_not_listed(radi) -> None:
    def picky(volume, row):
        if row["age"] == 40:
            raise ValueError("no")
        return volume

    eager = radi.T1w.map(picky, errors="collect")
    radi.add_collection("picked", eager)
    assert radi.picked.obs_ids == ["sub-03_picked", "sub-02_picked"]
    query = radi.T1w.lazy().map(picky)
    list(query.iter_volumes(errors="collect"))
    radi.add_collection("again", query, errors="collect")
    assert len(query.failures) == 1
    assert radi.ledger.read(filter="collection == 'again'")["obs_id"].tolist() == ["sub-01_T1w"]
    whole = radi.lazy().map(picky, "T1w")
    assert len(list(whole.iter_volumes("T1w", errors="collect"))) == 2
    assert [f.obs_ids for f in whole.failures] == [("sub-01_T1w",)]


def test_a_name_that_ingest_takes_for_labels_makes_labels(radi) -> None:
    radi.add_collection("brain_mask", radi.T1w.lazy().map(lambda v, row: v > 1))
    assert radi.brain_mask.kind == "label"
    assert radi.add_collection("as_labels", radi.T1w.lazy(), kind="label").as_labels.kind == "label"


def test_scaled_values_become_labels_as_they_are_read(make_nifti, tmp_path: Path) -> None:
    fields = {"scl_slope": 2.0, "scl_inter": 5.0}
    (tmp_path / "ct.nii").write_bytes(make_nifti(np.ones((3, 3, 3), "i2"), fields=fields))
    radi = RadiObject.from_niftis(tmp_path / "study", {"CT": str(tmp_path / "ct.nii")})
    for form in ("numpy", "volume"):
        radi.add_collection(f"as_{form}", radi.CT.lazy().map(lambda v, row: v, format=form), kind="label")
        assert int(radi.collection(f"as_{form}").iloc[0][0, 0, 0]) == 7


def test_categories_keep_their_order_and_none_clears(study) -> None:
    grades = pd.Categorical(["low", "high", "mid"], categories=["low", "mid", "high"], ordered=True)
    frame = pd.DataFrame(
        {"obs_subject_id": ["sub-01", "sub-02", "sub-03"], "grade": grades, "note": ["a", "b", "c"]}
    )
    radi = study(None, META, obs={"T1w": frame})

    def said(volume, row):
        return volume, {"grade": "high", "note": None} if row["age"] == 40 else {}

    radi.add_collection("graded", radi.T1w.lazy().map(said))
    rows = radi.graded.obs.read(["grade", "note"])
    assert rows["grade"].cat.categories.tolist() == ["low", "mid", "high"]
    assert rows["grade"].cat.ordered
    assert rows["grade"].tolist() == ["mid", "high", "high"]
    assert rows["note"].isna().tolist() == [False, True, False]


def test_a_late_filter_that_keeps_nothing_new_makes_no_version(radi) -> None:
    query = radi.T1w.lazy().map(lambda v, row: (v, {"level": float(v.max())})).filter("level > 1.5")
    radi.add_collection("bright", query)
    version = radi.version
    query = radi.T1w.lazy().map(lambda v, row: (v, {"level": float(v.max())})).filter("level > 1.5")
    assert radi.add_collection("bright", query).version <= version + 1


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


def scaled(v):
    return v * FACTOR


def uses_a_function_in_a_comprehension(v, row):
    return np.stack([scaled(plane) for plane in v])


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, v, row):
        return v * self.factor


HELD = [
    (np.float32(2), np.float32(3)),
    (np.arange(3), np.arange(3) * 2),
    (slice(1), slice(2)),
    (Path("a"), Path("b")),
    (datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    (min, max),
    (np.add, np.subtract),
    ({1, 2}, {1, 3}),
    (Slotted(2), Slotted(3)),
    (functools.partial(scaled, v=1), functools.partial(scaled, v=2)),
]


@pytest.mark.no_backend(reason="functions alone")
@pytest.mark.parametrize(("one", "other"), HELD, ids=[type(a).__name__ for a, _ in HELD])
def test_functions_that_hold_different_things_are_different(one, other) -> None:
    def holding(value):
        return lambda v, row: v * value

    assert function_identity(holding(one)) == function_identity(holding(one))
    assert function_identity(holding(one)) != function_identity(holding(other))


@pytest.mark.no_backend(reason="functions alone")
def test_functions_are_told_apart_by_what_they_do(monkeypatch) -> None:
    one, other = (lambda v, row: v * 2), (lambda v, row: v * 3)
    assert function_identity(one) != function_identity(other)
    lines = [
        lambda v, row: v
        * 2,
        lambda v, row: v
        * 3,
    ]  # fmt: skip
    assert function_identity(lines[0]) != function_identity(lines[1])
    before = function_identity(double), function_identity(uses_a_function_in_a_comprehension)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert function_identity(double) != before[0]
    assert function_identity(uses_a_function_in_a_comprehension) != before[1]
    assert function_name(np.log) == "numpy.log"
    assert function_name(functools.partial(double, 1)) == f"partial({__name__}.double)"

    def calls_itself(v, row):
        return calls_itself(v, row)

    assert function_identity(calls_itself) == function_identity(calls_itself)


def test_a_function_that_cannot_be_told_from_another_wants_a_version(radi, tmp_path: Path) -> None:
    lock = threading.Lock()

    def guarded(volume, row):
        with lock:
            return volume * 2

    with pytest.raises(TransformError, match=r"guarded holds a _thread\.lock.*version="):
        radi.add_collection("double", radi.T1w.lazy().map(guarded))
    radi.add_collection("double", radi.T1w.lazy().map(guarded, version="1"))
    version = radi.version
    assert radi.add_collection("double", radi.T1w.lazy().map(guarded, version="1")).version == version
    assert radi.add_collection("double", radi.T1w.lazy().map(guarded, version="2")).version > version
    # a study of its own is written whole, whatever the function is
    assert len(radi.T1w.lazy().map(guarded).write(tmp_path / "out")) == 3


def test_an_interrupted_layer_is_completed(radi, tmp_path: Path) -> None:
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


def test_what_functions_add_survives_a_resume_with_its_type(radi, tmp_path: Path) -> None:
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
