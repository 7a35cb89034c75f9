"""Partners of several collections as one Dataset, a few subjects as a DataTree."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from lazy.grids import OBLIQUE
from radiobject import RadiObject, measure
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    MissingDependencyError,
    SelectionError,
    UnknownIdError,
)

SHAPE = (6, 5, 4)
META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "dx": ["AD", "CN", "AD"], "T1w": [1, 2, 3]}


@pytest.fixture
def radi(study) -> RadiObject:
    """T1w holds the subject's number, seg ten more."""
    return study(None, META)


@pytest.fixture
def sessions(study) -> RadiObject:
    """Two sessions of one subject, stored in another order in seg; one subject without seg."""
    radi = study({"T1w": {"a": [full(1), full(2)], "b": full(3)}, "seg": {"a": [full(12), full(11)]}})
    radi.T1w.obs.update({"obs_id": ["a_T1w", "a_T1w_acq-1", "b_T1w"], "session": ["pre", "post", "pre"]})
    radi.seg.obs.update({"obs_id": ["a_seg", "a_seg_acq-1"], "session": ["post", "pre"]})
    return radi


def full(value: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    return np.full(shape, value, "i2"), OBLIQUE


def values(ds: Any, name: str) -> list[int]:
    return ds[name].max(["x", "y", "z"]).to_numpy().tolist()


@pytest.mark.parametrize("chunks", [None, "volume", {}])
def test_partners_share_a_row(radi: RadiObject, chunks: Any) -> None:
    ds = radi.to_xarray(["T1w", "seg"], chunks=chunks)
    assert list(ds.data_vars) == ["T1w", "seg"]
    assert ds.T1w.dims == ds.seg.dims == ("obs_subject_id", "x", "y", "z")
    assert ds.obs_subject_id.to_numpy().tolist() == ["sub-03", "sub-01", "sub-02"]
    assert (values(ds, "T1w"), values(ds, "seg")) == ([3, 1, 2], [13, 11, 12])
    assert ds.seg_obs_id.sel(obs_subject_id="sub-01").item() == "sub-01_seg"
    assert ds.obs_T1w.to_numpy().tolist() == [1, 2, 3]  # a column called as a collection
    means = ds.T1w.groupby("dx").mean(...)
    assert means.sel(dx="AD") == 2.5
    assert (ds.T1w.radi.affine == np.eye(4)).all()


def test_all_collections_or_one_are_datasets_too(radi: RadiObject) -> None:
    assert list(radi.to_xarray().data_vars) == ["T1w", "seg"]
    one = radi.to_xarray("seg", columns=["dx"])
    assert values(one, "seg") == [13, 11, 12]
    assert set(one.coords) >= {"obs_subject_id", "seg_obs_id", "dx", "x", "y", "z"}
    assert "obs_T1w" not in one.coords


def test_it_opens_no_volume_and_reads_each_table_once(radi: RadiObject) -> None:
    with measure() as m:
        ds = radi.to_xarray(["T1w", "seg"])
    assert m["volumes_opened"] == m["lazy_reads"] == 0
    assert [m[f"table_reads:{t}"] for t in ("T1w/obs", "seg/obs", "obs_meta")] == [1, 1, 1]
    with measure() as m:
        ds.isel(obs_subject_id=1).seg.load()
    assert (m["volumes_opened"], m["lazy_reads"]) == (1, 1)


def test_sessions_tell_partners_apart_and_subjects_repeat(sessions: RadiObject) -> None:
    with pytest.raises(AlignmentError, match=r"none for 1: \['b_T1w'\]"):
        sessions.to_xarray(["T1w", "seg"])
    ds = sessions.to_xarray(["T1w", "seg"], missing="drop")
    assert ds.obs_subject_id.to_numpy().tolist() == ["a", "a"]
    assert ds.session.to_numpy().tolist() == ["pre", "post"]
    assert (values(ds, "T1w"), values(ds, "seg")) == ([1, 2], [11, 12])
    assert ds.seg_obs_id.to_numpy().tolist() == ["a_seg_acq-1", "a_seg"]
    assert ds.sel(obs_subject_id="a").sizes["obs_subject_id"] == 2
    assert values(ds.where(ds.session == "post", drop=True), "seg") == [12]
    with pytest.raises(AlignmentError, match="several: a_T1w"):
        sessions.to_xarray(["T1w", "seg"], on=[], missing="drop")
    assert sessions.to_xarray("T1w").session.to_numpy().tolist() == ["pre", "post", "pre"]
    pre = sessions.sel(session="pre").to_xarray(["T1w", "seg"], missing="drop")
    assert (values(pre, "T1w"), values(pre, "seg")) == ([1], [11])


def test_three_collections_keep_the_rows_that_all_have(study) -> None:
    images = {"a": {s: full(n) for n, s in enumerate("pqr")}, "d": {"q": full(21)}}
    radi = study(images | {"b": {s: full(n + 10) for n, s in enumerate("rqp")}})
    ds = radi.to_xarray(["a", "b", "d"], missing="drop")
    assert [values(ds, name) for name in "abd"] == [[1], [11], [21]]
    assert values(radi.loc[["p", "q"]].to_xarray(["a", "b"]), "b") == [12, 11]


def test_all_variables_lie_on_one_grid(study) -> None:
    moved = OBLIQUE.copy()
    moved[2, 3] += 4
    coarse = np.full((3, 5, 4), 7, "i2"), OBLIQUE @ np.diag([2, 1, 1, 1.0])
    images = {"image": {"p": full(1), "q": (full(2)[0], moved)}, "dose": {"p": coarse, "q": full(8)}}
    radi = study(images | {"mask": {"p": full(11), "q": (full(12)[0], moved)}})
    with pytest.raises(AlignmentError, match=r"'image' and 'mask': .*2 of 4 volumes.*: q_image, q_mask"):
        radi.to_xarray(["image", "mask"])
    ds = radi.to_xarray(["image", "mask"], grid="index")
    assert (ds.mask.radi.affine == [OBLIQUE, moved]).all()
    assert (ds.isel(obs_subject_id=1).image.radi.affine == moved).all()
    with pytest.raises(AlignmentError, match="one shape along x, y, z"):
        radi.to_xarray(["image", "dose"], grid="index")
    same = radi.to_xarray(["image", "dose"], grid=radi.image.iloc[0], order=0)
    assert same.dose.shape == same.image.shape == (2, *SHAPE)
    assert values(same, "dose") == [7, 8]
    assert (same.dose.radi.affine == OBLIQUE).all()
    shapes = study({"image": {"p": full(1)}, "dose": {"p": coarse}})
    with pytest.raises(AlignmentError, match=r"1 of 2 volumes on others \(of another shape\): p_dose"):
        shapes.to_xarray(grid="index")
    crossed = study({"image": {"p": full(1), "q": full(2)}, "mask": {"p": full(1), "q": (full(2)[0], moved)}})
    with pytest.raises(AlignmentError, match=r"'q_image' and 'q_mask': expected one grid .* 4 mm apart"):
        crossed.to_xarray(grid="index")


def test_images_without_and_with_time_share_space(study) -> None:
    bold = np.zeros((*SHAPE, 3), "i2"), OBLIQUE
    radi = study({"T1w": {"p": full(1)}, "bold": {"p": bold}}, axis4="time")
    ds = radi.to_xarray()
    assert ds.bold.dims == ("obs_subject_id", "x", "y", "z", "t")
    longer = study({"a": {"p": bold}, "b": {"p": (np.zeros((*SHAPE, 4), "i2"), OBLIQUE)}}, axis4="time")
    with pytest.raises(AlignmentError, match="3 time points in 'a', 4 time points in 'b'"):
        longer.to_xarray()


def test_what_is_no_dataset_is_refused(study, radi: RadiObject) -> None:
    for wrong in ([], ["T1w", "T1w"]):
        with pytest.raises(SelectionError, match="collections, each once"):
            radi.to_xarray(wrong)
    with pytest.raises(UnknownIdError, match="collection 'PET'"):
        radi.to_xarray(["T1w", "PET"])
    with pytest.raises(ConfigError, match="on=: expected several collections, got 'T1w'"):
        radi.to_xarray("T1w", on=["session"])
    with pytest.raises(UnknownIdError, match="nobody"):
        radi.to_xarray(["T1w"], columns=["nobody"])
    named = study({"x": {"p": full(1)}})
    with pytest.raises(SelectionError, match=r"collection 'x' as a variable.*rename_collection"):
        named.to_xarray()
    assert named.x.to_xarray().name == "x"


def test_a_tree_has_a_node_a_volume(sessions: RadiObject) -> None:
    sessions.obs_meta.add_column("age", values={"a": 41, "b": None})
    with measure() as m:
        tree = sessions.to_datatree()
    assert m["volumes_opened"] == 0
    assert set(tree.groups) == {
        "/", "/a", "/b", "/a/a_T1w", "/a/a_T1w_acq-1", "/a/a_seg", "/a/a_seg_acq-1", "/b/b_T1w",
    }  # fmt: skip
    assert tree.attrs == {"uri": sessions.uri, "version": sessions.version}
    assert tree["a"].attrs == {"obs_subject_id": "a", "age": 41}
    assert tree["b"].attrs == {"obs_subject_id": "b"}
    node = tree["a/a_seg"]
    assert node.attrs == {"session": "post"}
    assert int(node["seg"].max()) == 12
    assert (node["seg"].radi.affine == OBLIQUE).all()
    assert sessions.to_datatree(chunks="volume")["b/b_T1w"]["T1w"].chunks is not None


def test_a_tree_of_many_volumes_is_refused(radi: RadiObject) -> None:
    with pytest.raises(SelectionError, match=r"at most 5 volumes, got 6.*radi.loc\[ids\], or raise limit="):
        radi.to_datatree(limit=5)
    view = radi.loc["sub-01"].to_datatree(limit=5)
    assert set(view.groups) == {"/", "/sub-01", "/sub-01/sub-01_T1w", "/sub-01/sub-01_seg"}


def test_ids_with_slashes_are_one_node(study) -> None:
    tree = study({"T1w": {"site/1": full(1)}}).to_datatree()
    assert set(tree.groups) == {"/", "/site~2F1", "/site~2F1/site~2F1_T1w"}


def test_ids_that_look_alike_when_escaped_have_nodes_of_their_own(study) -> None:
    ids = ["a/b", "a~2Fb", "..", "."]
    tree = study({"T1w": {subject: full(n) for n, subject in enumerate(ids)}}).to_datatree()
    found = {n.path: int(n["T1w"].max()) for n in tree.leaves}
    assert sorted(found.values()) == [0, 1, 2, 3]


def test_without_xarray_every_door_names_the_package(radi: RadiObject, monkeypatch) -> None:
    for name in [n for n in sys.modules if n.startswith("radiobject.lazy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xarray", None)
    for door in (radi.to_xarray, radi.to_datatree, radi.T1w.to_xarray):
        with pytest.raises(MissingDependencyError, match=r'pip install "radiobject-zarr\[xarray\]"'):
            door()
