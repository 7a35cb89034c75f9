"""Views: they keep the study's order, narrow its collections, intersect when chained, and refuse changes."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import Index, RadiObject, Volume, VolumeCollection, measure
from radiobject.errors import (
    ConfigError,
    CorruptObjectError,
    SelectionError,
    SnapshotExpiredError,
    StudyNotFoundError,
    UnknownIdError,
    ViewError,
)

IN_PLACE = True

SUBJECTS = ["sub-03", "sub-01", "sub-02", "sub-10", "sub-7"]
SESSIONS = {"sub-01": ["pre", "post"], "sub-10": ["pre"]}


def voxel(subject: str, collection: str, visit: int = 0) -> int:
    """What every voxel of that volume holds."""
    return int(subject.removeprefix("sub-")) + 50 * (collection == "seg") + 20 * visit


def cohort(place: str, backend: str | None = None) -> RadiObject:
    """Five subjects in no order; sub-01 has two T1w visits, sub-7 no seg, sub-02 no images at all."""
    images = []
    rows = {"obs_id": [], "visit": [], "age": []}
    for subject in SUBJECTS:
        for visit in range(2 if subject == "sub-01" else 1):
            if subject != "sub-02":
                images.append(((np.full((4, 3, 2), voxel(subject, "T1w", visit), "i2"), np.eye(4)), subject))
                rows["obs_id"].append(f"{subject}_T1w" + (f"_acq-{visit}" if visit else ""))
                rows["visit"].append(("pre", "post")[visit] if subject in SESSIONS else None)
                rows["age"].append(30 + visit)
    masks = [
        ((np.full((4, 3, 2), voxel(s, "seg"), "u1"), np.eye(4)), s) for s in ("sub-10", "sub-01", "sub-03")
    ]
    meta = pd.DataFrame(
        {
            "obs_subject_id": SUBJECTS,
            "dx": ["AD", "control", "AD", "control", None],
            "site": pd.array([1, 2, 1, None, 2], dtype="Int64"),
        }
    )
    return RadiObject.from_niftis(
        place, {"T1w": images, "seg": masks}, meta, obs={"T1w": pd.DataFrame(rows)}, backend=backend
    )


@pytest.fixture(scope="module")
def radi(everywhere: None, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    return cohort(str(tmp_path_factory.mktemp("views") / "study"))


def check_consistent(part: RadiObject) -> None:
    """Index, tables, collections and voxels of a view say the same, row for row."""
    subjects = part.obs_subject_ids
    assert subjects == list(part.index) == part.obs_meta.read()["obs_subject_id"].to_list()
    assert len(part) == len(subjects) == len(part.obs_meta)
    for name in part:
        collection = part.collection(name)
        frame = collection.obs.read()
        assert collection.obs_ids == list(collection.index) == frame["obs_id"].to_list()
        assert collection.obs_subject_ids == frame["obs_subject_id"].to_list()
        assert len(collection) == len(frame)
        assert set(collection.obs_subject_ids) <= set(subjects)
        for position, vol in enumerate(collection):
            assert vol.obs_id == collection.index.get_key(position) == collection.iloc[position].obs_id
            assert collection.index.get_index(vol.obs_id) == position
            assert vol.obs_subject_id == frame["obs_subject_id"][position] == vol.metadata["obs_subject_id"]
            assert vol.obs_id == vol.metadata["obs_id"]
            visit = vol.obs_id.endswith("_acq-1")
            assert set(np.unique(vol[...])) == {voxel(vol.obs_subject_id, name, visit)}
            assert part.get_volume(vol.obs_id).obs_id == vol.obs_id
    assert part.all_obs_ids == [i for name in part for i in part.collection(name).obs_ids]


def test_input_order_is_kept_and_ids_find_their_voxels(backend) -> None:
    made = cohort(backend.uri(), backend.backend)
    for radi in (made, RadiObject(backend.uri()), pickle.loads(pickle.dumps(made))):
        assert radi.obs_subject_ids == SUBJECTS
        assert radi.T1w.obs_ids == ["sub-03_T1w", "sub-01_T1w", "sub-01_T1w_acq-1", "sub-10_T1w", "sub-7_T1w"]
        assert radi.seg.obs_ids == ["sub-10_seg", "sub-01_seg", "sub-03_seg"]
        check_consistent(radi)
        assert radi.loc["sub-7"].T1w.iloc[0][0, 0, 0] == 7
        assert radi["sub-10"].seg.loc["sub-10_seg"][0, 0, 0] == 60
        assert radi.T1w["sub-01_T1w_acq-1"][0, 0, 0] == 21


def test_subject_selections_are_views_in_study_order(radi) -> None:
    for part, expected in (
        (radi.iloc[1], ["sub-01"]),
        (radi.iloc[np.int64(-1)], ["sub-7"]),
        (radi.iloc[[2, 0]], ["sub-03", "sub-02"]),
        (radi.iloc[[0, 0]], ["sub-03"]),
        (radi.iloc[::-2], ["sub-03", "sub-02", "sub-7"]),
        (radi.iloc[[]], []),
        (radi.iloc[[True, False, False, True, False]], ["sub-03", "sub-10"]),
        (radi.loc["sub-02"], ["sub-02"]),
        (radi.loc[["sub-7", "sub-03"]], ["sub-03", "sub-7"]),
        (radi.loc[Index(["sub-7"]) | Index(["sub-03"])], ["sub-03", "sub-7"]),
        (radi["sub-10"], ["sub-10"]),
        (radi.head(2), ["sub-03", "sub-01"]),
        (radi.tail(2), ["sub-10", "sub-7"]),
        (radi.head(0), []),
        (radi.tail(99), SUBJECTS),
        (radi.sel(subject="sub-01"), ["sub-01"]),
        (radi.sel(subject=["sub-10", "sub-03"]), ["sub-03", "sub-10"]),
        (radi.sel(dx="AD"), ["sub-03", "sub-02"]),
        (radi.sel(dx=["AD", None]), ["sub-03", "sub-02", "sub-7"]),
        (radi.sel(dx="control", site=2), ["sub-01"]),
        (radi.sel(site=None), ["sub-10"]),
        (radi.sel(subject=["sub-03", "sub-01"], dx="AD"), ["sub-03"]),
    ):
        assert part.is_view
        assert part.uri is None
        assert part.obs_subject_ids == expected
        check_consistent(part)


def test_collection_selections_are_volumes_or_views_in_study_order(radi) -> None:
    t1w = radi.T1w
    assert isinstance(t1w.iloc[0], Volume)
    assert isinstance(t1w.loc["sub-7_T1w"], Volume)
    assert isinstance(t1w.sel(subject="sub-7"), Volume)
    for part, expected in (
        (t1w.iloc[[4, 0]], ["sub-03_T1w", "sub-7_T1w"]),
        (t1w.iloc[1:3], ["sub-01_T1w", "sub-01_T1w_acq-1"]),
        (t1w.iloc[[]], []),
        (t1w.iloc[t1w.obs["visit"] == "pre"], ["sub-01_T1w", "sub-10_T1w"]),
        (t1w.loc[["sub-7_T1w"]], ["sub-7_T1w"]),
        (t1w.sel(subject="sub-01"), ["sub-01_T1w", "sub-01_T1w_acq-1"]),
        (t1w.sel(subject=["sub-7", "unknown", "sub-03"]), ["sub-03_T1w", "sub-7_T1w"]),
        (t1w.sel(visit=["pre", "post"]), ["sub-01_T1w", "sub-01_T1w_acq-1", "sub-10_T1w"]),
        (t1w.sel(visit=None), ["sub-03_T1w", "sub-7_T1w"]),
        (t1w.sel(visit="never"), []),
        (t1w.head(1), ["sub-03_T1w"]),
    ):
        assert isinstance(part, VolumeCollection)
        assert part.is_view
        assert part.uri is None
        assert part.obs_ids == expected
        assert [v.obs_id for v in part] == expected
    assert t1w.sel(subject="sub-01", visit="post").obs_id == "sub-01_T1w_acq-1"
    assert not t1w.is_view
    assert t1w.uri is not None


def test_chained_views_intersect(radi) -> None:
    assert radi.iloc[1:].iloc[:2].obs_subject_ids == ["sub-01", "sub-02"]
    assert radi.loc[["sub-03", "sub-10"]].sel(dx="AD").obs_subject_ids == ["sub-03"]
    assert radi.sel(dx="AD").sel(dx="control").obs_subject_ids == []
    assert radi.sel(visit="pre").sel(visit="post").T1w.obs_ids == []
    assert radi.sel(visit="pre").loc[["sub-01"]].T1w.obs_ids == ["sub-01_T1w"]
    assert radi.select_collections(["T1w"]).select_collections(["seg"]).collection_names == ()
    assert radi.T1w.iloc[1:4].loc[["sub-10_T1w"]].obs_ids == ["sub-10_T1w"]
    assert radi.T1w.iloc[1:4].iloc[[-1, 0]].obs_ids == ["sub-01_T1w", "sub-10_T1w"]
    with pytest.raises(UnknownIdError):
        radi.T1w.iloc[1:4].loc["sub-03_T1w"]
    with pytest.raises(UnknownIdError):
        radi.iloc[1:].loc["sub-03"]


def test_random_chains_agree_with_lists(radi) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=3))
    def check(steps: list[list[int]]) -> None:
        part, expected = radi, list(SUBJECTS)
        for step in steps:
            keep = sorted({i % len(expected) for i in step}) if expected else []
            part, expected = part.iloc[keep], [expected[i] for i in keep]
        assert part.obs_subject_ids == expected
        for name in part:
            whole = zip(radi.collection(name).obs_ids, radi.collection(name).obs_subject_ids, strict=True)
            assert part.collection(name).obs_ids == [i for i, s in whole if s in expected]

    check()


def test_values_of_obs_narrow_the_collections_that_have_them(radi) -> None:
    part = radi.sel(visit="pre", age=30)
    assert part.T1w.obs_ids == ["sub-01_T1w", "sub-10_T1w"]
    # seg has no visits at all: it is narrowed by the subjects alone
    assert part.seg.obs_ids == ["sub-10_seg", "sub-01_seg", "sub-03_seg"]
    assert radi.iloc[:2].sel(visit="post").seg.obs_ids == ["sub-01_seg", "sub-03_seg"]
    with pytest.raises(UnknownIdError, match=r"session.*has values"):
        radi.sel(session="pre")


def test_selected_collections(radi) -> None:
    part = radi.select_collections(["seg"])
    assert (list(part), part.n_collections) == (["seg"], 1)
    with pytest.raises(AttributeError, match="T1w"):
        part.T1w  # noqa: B018
    with pytest.raises(UnknownIdError):
        part.get_volume("sub-03_T1w")
    with pytest.raises(UnknownIdError, match="one of"):
        radi.select_collections(["flair"])


def test_get_volume_finds_ids_in_any_collection_of_the_view(radi) -> None:
    assert radi.get_volume("sub-10_seg")[0, 0, 0] == 60
    with pytest.raises(UnknownIdError, match="sub-9"):
        radi.get_volume("sub-9_T1w")
    with pytest.raises(UnknownIdError):
        radi.loc["sub-03"].get_volume("sub-10_seg")


def test_subjects_and_groups(radi) -> None:
    assert list(radi.T1w.subjects) == ["sub-03", "sub-01", "sub-10", "sub-7"]
    groups = {subject: group.obs_ids for subject, group in radi.T1w.groupby_subject()}
    assert groups["sub-01"] == ["sub-01_T1w", "sub-01_T1w_acq-1"]
    assert [i for ids in groups.values() for i in ids] == radi.T1w.obs_ids


def test_names_attributes_and_errors(radi) -> None:
    assert list(radi) == ["T1w", "seg"]
    assert {"T1w", "seg", "iloc"} <= set(dir(radi))
    assert radi.seg.kind == "label"
    assert radi.T1w.kind == "image"
    assert not hasattr(radi, "flair")
    with pytest.raises(KeyError):
        radi.collection("flair")
    for wrong, kind in (
        (lambda: radi.iloc[5], IndexError),
        (lambda: radi.T1w.iloc[-6], IndexError),
        (lambda: radi.loc["sub-3"], KeyError),
        (lambda: radi.loc[["sub-03", "x"]], KeyError),
        (lambda: radi.iloc["sub-03"], TypeError),
        (lambda: radi.loc[0], TypeError),
        (lambda: radi.iloc[[True]], ValueError),
        (lambda: radi.T1w.sel(subject="sub-99"), KeyError),
        (lambda: radi.sel(subject=["sub-99"]), KeyError),
        (lambda: radi.sel(nothing=1), KeyError),
        (lambda: radi.T1w.sel(_path="x"), KeyError),
        (lambda: radi.T1w.sel(nothing=1), KeyError),
    ):
        with pytest.raises(kind):
            wrong()


def test_a_value_of_another_type_says_which_is_wanted(radi) -> None:
    for wrong in (lambda: radi.sel(dx=1), lambda: radi.T1w.sel(run="first"), lambda: radi.sel(site="1")):
        with pytest.raises(SelectionError, match="values of type"):
            wrong()


def test_shape_of_views_of_mixed_shapes(study) -> None:
    radi = study(
        {"a": {f"s{n}": np.zeros((3, 3, n), "u1") for n in (2, 2, 5)} | {"t": np.zeros((3, 3, 5), "u1")}}
    )
    assert (radi.a.shape, radi.a.is_uniform) == (None, False)
    assert radi.loc[["s5", "t"]].a.shape == (3, 3, 5)
    assert radi.a.iloc[:2].shape is None
    assert radi.a.iloc[[]].shape is None
    assert study().T1w.shape == (6, 5, 4)


def test_views_cost_no_voxels_and_few_requests(radi) -> None:
    fresh = RadiObject(radi.uri)
    fresh.loc["sub-01"].T1w.iloc[0]
    with measure() as cost:
        vol = fresh.iloc[1:].sel(subject=["sub-10"]).T1w.iloc[0]
    assert vol.obs_id == "sub-10_T1w"
    assert (cost["requests"], cost["chunks_decoded"]) == (0, 0)


def test_views_refuse_changes(radi) -> None:
    view = radi.iloc[:2]
    source = {"T1w": [((np.zeros((2, 2, 2), "u1"), np.eye(4)), "sub-03")]}
    for change in (
        lambda: view.append(source),
        lambda: view.delete(subjects="sub-03"),
        lambda: view.tag("x"),
        lambda: radi.select_collections(["T1w"]).append(source),
        lambda: radi.sel(visit="pre").delete(collections="T1w"),
    ):
        with pytest.raises(ViewError, match="the whole study") as caught:
            change()
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
    assert RadiObject(radi.uri).version == 1


def test_views_pickle(radi) -> None:
    part = pickle.loads(pickle.dumps(radi.sel(visit="pre").loc[["sub-10", "sub-01"]]))
    assert part.is_view
    assert part.T1w.obs_ids == ["sub-01_T1w", "sub-10_T1w"]
    again = pickle.loads(pickle.dumps(radi.T1w.iloc[2:4]))
    assert [v.obs_id for v in again] == ["sub-01_T1w_acq-1", "sub-10_T1w"]


def test_representations_name_what_they_are(radi) -> None:
    assert "5 subjects" in repr(radi)
    assert "view of" in repr(radi.iloc[:1])
    assert "5 image volumes, 4x3x2" in repr(radi.T1w)
    assert "3 label volumes" in repr(radi.seg)
    assert "mixed shapes" not in repr(radi.T1w)
    assert "<table" in radi.obs_meta._repr_html_()
    assert "sub-10" in repr(radi.obs_meta)


def test_versions_and_pins(study) -> None:
    radi = study()
    uri = radi.uri
    radi.append(
        {"T1w": [((np.zeros((2, 2, 2), "i2"), np.eye(4)), "sub-09")]},
        {"obs_subject_id": ["sub-09"]},
        message="one more",
    )
    radi.tag("release")
    radi.delete(subjects="sub-03")
    said = radi.versions()
    assert [v["version"] for v in said] == [1, 2, 3]
    assert [v["operation"] for v in said] == ["create", "append", "delete"]
    assert said[1]["message"] == "one more"
    for opened in (
        RadiObject(uri, version=2),
        RadiObject(f"{uri}@2"),
        RadiObject(f"{uri}@2#sha256:{said[1]['sha256'][:12]}"),
        RadiObject(uri, version="release"),
    ):
        assert opened.version == 2
        assert opened.obs_subject_ids == ["sub-03", "sub-01", "sub-02", "sub-09"]
    assert RadiObject(f"{uri}@3").obs_subject_ids == ["sub-01", "sub-02", "sub-09"]
    with pytest.raises(CorruptObjectError, match="expected commit"):
        RadiObject(f"{uri}@1#sha256:{said[1]['sha256'][:12]}")
    with pytest.raises(ConfigError, match="version 2"):
        RadiObject(f"{uri}@2", version=3)
    for missing in (9, 0):
        with pytest.raises((StudyNotFoundError, SnapshotExpiredError, UnknownIdError)):
            RadiObject(uri, version=missing)
    with pytest.raises(UnknownIdError, match="release"):
        RadiObject(uri, version="nightly")
