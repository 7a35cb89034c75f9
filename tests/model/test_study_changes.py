"""Renaming, restoring, splitting and copying studies; partners and summaries of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import (
    AlignmentError,
    ConflictError,
    CorruptObjectError,
    MetadataError,
    StudyExistsError,
    UnknownIdError,
    ViewError,
)


def scan(value: int, shape: tuple[int, int, int] = (6, 5, 4)) -> tuple[np.ndarray, np.ndarray]:
    return np.full(shape, value, dtype=np.int16), np.diag([1.0, 2.0, 3.0, 1.0])


META = pd.DataFrame({"obs_subject_id": ["a", "b", "c"], "age": [30, 40, 50], "dx": ["x", "y", "x"]})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    place = str(tmp_path / "study")
    images = {
        "T1w": [(scan(1), "a"), (scan(2), "b"), (scan(3), "c")],
        "seg": [(scan(11), "a"), (scan(12), "b")],
    }
    RadiObject.from_niftis(place, images, META)
    return place


def values(radi: RadiObject) -> dict[str, int]:
    return {v.obs_id: int(v[0, 0, 0]) for n in radi for v in radi.collection(n)}


ALL = {"a_T1w": 1, "b_T1w": 2, "c_T1w": 3, "a_seg": 11, "b_seg": 12}


def test_a_renamed_collection_opens_and_takes_more(uri: str) -> None:
    radi = RadiObject(uri).rename_collection("T1w", "T1")
    assert radi.collection_names == ("T1", "seg")
    assert values(radi) == values(RadiObject(uri)) == ALL
    radi.append({"T1": [(scan(9), "c")]}, on_conflict="error")
    assert values(RadiObject(uri))["c_T1"] == 9
    assert RadiObject(uri).validate("full").ok
    with pytest.raises(UnknownIdError, match="rename"):
        radi.rename_collection("seg", "T1")
    with pytest.raises(UnknownIdError, match="rename 'nose'"):
        radi.rename_collection("nose", "eye")


def test_restore_brings_back_what_was_and_keeps_what_came(uri: str) -> None:
    radi = RadiObject(uri)
    radi.tag("good")
    radi.append({"T1w": [(scan(99), "a")]}, on_conflict="replace").delete(subjects="b")
    assert values(radi)["a_T1w"] == 99
    radi.restore("good")
    assert (radi.version, values(radi)) == (4, ALL)
    assert values(RadiObject(uri, version=2))["a_T1w"] == 99
    assert len(radi.ledger) == 6
    assert RadiObject(uri).validate("full").ok


def test_a_commit_in_between_stops_a_restore(uri: str) -> None:
    radi = RadiObject(uri)
    RadiObject(uri).delete(obs_ids="c_T1w")
    with pytest.raises(ConflictError, match="came first"):
        radi.restore(1)


def test_split_writes_one_column_that_views_can_use(uri: str) -> None:
    radi = RadiObject(uri).split({"train": 2 / 3, "test": 1 / 3}, seed=1)
    parts = radi.obs_meta.read(["obs_subject_id", "split"])
    assert sorted(parts["split"]) == ["test", "train", "train"]
    assert len(radi.sel(split="train").T1w) == 2
    again = RadiObject(uri, version=1)
    assert "split" not in again.obs_meta.columns
    folds = RadiObject(uri).split(3, column="fold").obs_meta.read()["fold"]
    assert sorted(folds) == ["0", "1", "2"]


def test_views_refuse_changes(uri: str) -> None:
    view = RadiObject(uri).loc[["a"]]
    for change in (
        lambda: view.rename_collection("T1w", "x"),
        lambda: view.restore(1),
        lambda: view.split(2),
    ):
        with pytest.raises(ViewError, match="whole study"):
            change()


@pytest.mark.parametrize("target", [None, "memory", "zarr", "tiledb"])
def test_a_written_study_has_everything_but_the_history(
    uri: str, tmp_path: Path, target: str | None, nibabel_data: Path
) -> None:
    radi = RadiObject(uri).append({"real": [(str(nibabel_data / "anatomical.nii"), "a")]})
    place = f"memory://{tmp_path.name}/copy" if target == "memory" else str(tmp_path / "copy")
    copy = radi.write(place, backend=target)
    assert (copy.version, values(copy)) == (1, values(radi))
    for name in radi:
        left, right = (r.collection(name).obs.to_arrow().to_pylist() for r in (radi, copy))
        assert left == right
        assert radi.collection(name).kind == copy.collection(name).kind
    assert copy.obs_meta.to_arrow().equals(radi.obs_meta.to_arrow())
    copy.real.iloc[0].to_nifti(tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == (nibabel_data / "anatomical.nii").read_bytes()
    assert RadiObject(place).validate("full").ok


def test_copies_within_a_backend_decode_nothing(uri: str, tmp_path: Path) -> None:
    with measure() as m:
        RadiObject(uri).write(str(tmp_path / "copy"))
    assert m["chunks_decoded"] == 0


@pytest.mark.gap("memory", reason="stores no bytes to compare", raises=AssertionError)
def test_there_and_back_between_backends_is_the_same_bytes(uri: str, voxel_objects, tmp_path: Path) -> None:
    radi = RadiObject(uri)
    back = radi.write(f"memory://{tmp_path.name}/m", backend="memory").write(str(tmp_path / "back"))
    before, after = (
        {obs_id: list(held.values()) for obs_id, held in voxel_objects(r).items()} for r in (radi, back)
    )
    assert before == after
    assert all(before.values())


def test_a_written_view_holds_its_subjects_and_their_volumes_only(uri: str, tmp_path: Path) -> None:
    copy = RadiObject(uri).loc[["b", "c"]].write(str(tmp_path / "copy"))
    assert copy.obs_subject_ids == ["b", "c"]
    assert values(copy) == {"b_T1w": 2, "c_T1w": 3, "b_seg": 12}
    one = RadiObject(uri).seg.head(1).write(str(tmp_path / "one"))
    assert (one.name, one.obs_ids) == ("seg", ["a_seg"])
    assert RadiObject(str(tmp_path / "one")).obs_subject_ids == ["a"]


@pytest.mark.gap("memory", reason="no file to damage", raises=StopIteration)
def test_a_damaged_source_is_not_copied(uri: str, voxel_objects, tmp_path: Path) -> None:
    file = Path(uri, next(iter(voxel_objects(RadiObject(uri))["a_T1w"])))
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CorruptObjectError, match=file.name):
        RadiObject(uri).write(str(tmp_path / "copy"))
    with pytest.raises(FileNotFoundError):
        RadiObject(str(tmp_path / "copy"))
    with pytest.raises(StudyExistsError):
        RadiObject(uri).write(uri)


def test_collections_of_several_studies_become_one(uri: str, tmp_path: Path) -> None:
    other = RadiObject.from_niftis(
        str(tmp_path / "other"),
        {"T2w": [(scan(21), "b"), (scan(24), "d")]},
        pd.DataFrame({"obs_subject_id": ["b", "d"], "age": [40, 60], "site": ["u", "v"]}),
    )
    made = RadiObject.from_collections(
        str(tmp_path / "made"), {"T1": RadiObject(uri).T1w.head(2), "T2w": other.T2w}
    )
    assert values(made) == {"a_T1w": 1, "b_T1w": 2, "b_T2w": 21, "d_T2w": 24}
    frame = made.obs_meta.read().set_index("obs_subject_id")
    assert frame.loc["b", ["age", "dx", "site"]].tolist() == [40, "y", "u"]
    clash = RadiObject.from_niftis(
        str(tmp_path / "clash"),
        {"T2w": [(scan(21), "b")]},
        pd.DataFrame({"obs_subject_id": ["b"], "age": [41]}),
    )
    with pytest.raises(MetadataError, match="subject 'b' column 'age'"):
        RadiObject.from_collections(str(tmp_path / "x"), {"T1": RadiObject(uri).T1w, "T2w": clash.T2w})


def test_partners_of_a_study(uri: str) -> None:
    radi = RadiObject(uri)
    with pytest.raises(AlignmentError, match="c_T1w"):
        radi.pairs("T1w", "seg")
    assert radi.pairs("T1w", "seg", missing="drop")["seg"].tolist() == ["a_seg", "b_seg"]
    both = radi.having("T1w", "seg")
    assert both.obs_subject_ids == ["a", "b"]
    assert both.pairs("T1w", "seg")["obs_subject_id"].tolist() == ["a", "b"]


def test_same_grid_and_summaries_read_no_voxel(uri: str) -> None:
    radi = RadiObject(uri)
    with measure() as m:
        assert radi.T1w.same_grid
        described = radi.describe()
        page = radi._repr_html_()
    assert m["chunks_decoded"] == 0
    assert described.loc["T1w", ["kind", "volumes", "subjects"]].tolist() == ["image", 3, 3]
    assert described.loc["seg", "shape"] == (6, 5, 4)
    assert "3 subjects" in page
    assert "<table" in page


@pytest.mark.parametrize("pick", [lambda r: r, lambda r: r.T1w], ids=["study", "collection"])
def test_samples_repeat_with_their_seed_and_keep_order(uri: str, pick: Callable[[RadiObject], Any]) -> None:
    thing = pick(RadiObject(uri))
    one, two = thing.sample(2, seed=3), thing.sample(2, seed=3)
    assert list(one.index) == list(two.index)
    assert list(one.index) == [i for i in thing.index if i in one.index]
    assert len(thing.sample(99)) == len(thing)
    assert list(thing.tail(1).index) == [thing.index[2]]


def test_a_deleted_subject_does_not_come_back_by_an_older_handle(study) -> None:
    radi = study()
    radi.split({"a": 0.5, "b": 0.5})
    older = RadiObject(radi.uri)
    radi.delete(subjects="sub-01")
    with pytest.raises(ConflictError, match="sub-01"):
        older.split({"a": 0.5, "b": 0.5})
    assert RadiObject(radi.uri).obs_subject_ids == ["sub-03", "sub-02"]


@pytest.mark.parametrize("name", ["", "_x", 5])
def test_a_collection_is_not_renamed_to_what_is_no_name(study, name) -> None:
    with pytest.raises(MetadataError, match="collection names"):
        study().rename_collection("T1w", name)
