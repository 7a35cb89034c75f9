"""Collections made of files, and of volumes that are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import (
    RadiObject,
    Volume,
    VolumeCollection,
)
from radiobject.errors import (
    AlignmentError,
    DuplicateIdError,
    GeometryError,
    MetadataError,
    StudyNotFoundError,
    WriterError,
)

AFFINE = np.diag([2.0, 2.5, 3.0, 1.0])


def block(value: int = 1, shape: tuple[int, ...] = (5, 4, 3), dtype: str = "i2") -> np.ndarray:
    return np.full(shape, value, dtype)


def subjects(*ids: str, **columns) -> pd.DataFrame:
    return pd.DataFrame({"obs_subject_id": list(ids), **columns})


def refuses_to_open(uri) -> bool:
    with pytest.raises(StudyNotFoundError):
        RadiObject(uri)
    return True


def test_volumes_at_hand_become_a_collection(study, tmp_path) -> None:
    images = {"T1w": [((block(n), AFFINE), f"sub-{n}") for n in (1, 2)]}
    frame = pd.DataFrame({"obs_id": ["sub-1_T1w", "sub-2_T1w"], "session": ["pre", "post"], "run": [1, 2]})
    source = RadiObject.from_niftis(tmp_path / "source", images, obs={"T1w": frame}).T1w
    held = Volume.from_numpy(block(3, dtype="u1"), kind="label")
    made = VolumeCollection.from_volumes(
        tmp_path / "a", [("first", source.iloc[1]), ("second", source.iloc[0].slicer[1:]), ("third", held)]
    )
    assert (made.name, made.kind, made.obs_ids) == ("volume", "image", ["first", "second", "third"])
    rows = made.obs.read(["obs_subject_id", "session", "run"])
    assert rows["obs_subject_id"].tolist() == ["sub-2", "sub-1", "third"]
    assert rows["session"].tolist()[:2] == ["post", "pre"]
    assert made.iloc[1].shape == (4, 4, 3)
    np.testing.assert_array_equal(made.iloc[1].affine, source.iloc[0].slicer[1:].affine)
    again = VolumeCollection.from_volumes(
        tmp_path / "b",
        source,
        pd.DataFrame({"obs_id": ["sub-2_T1w"], "obs_subject_id": ["P2"], "age": pd.array([61], "Int16")}),
        name="T1w",
    )
    assert (again.obs_ids, again.obs_subject_ids) == (source.obs_ids, ["sub-1", "P2"])
    assert str(again.obs.to_arrow(["age"]).schema.field("age").type) == "int16"
    assert VolumeCollection.from_volumes(tmp_path / "c", [held], name="x").kind == "label"


def test_what_cannot_become_a_collection_says_why(tmp_path) -> None:
    held = Volume.from_numpy(block())
    for volumes, obs, error, match in (
        ([("a", block())], None, MetadataError, r"volumes\[0\]"),
        ([(7, held)], None, MetadataError, r"volumes\[0\]"),
        ([("a", held), ("a", held)], None, DuplicateIdError, "'a'"),
        ([("a", held)], pd.DataFrame({"obs_id": ["b"]}), MetadataError, r"\['b'\]"),
        ([], None, WriterError, "at least one"),
    ):
        with pytest.raises(error, match=match):
            VolumeCollection.from_volumes(tmp_path / "study", volumes, obs)
    assert refuses_to_open(tmp_path / "study")


@pytest.fixture
def files(tmp_path: Path, make_nifti) -> list[tuple[Path, str]]:
    """Two scans of one shape."""
    folder = tmp_path / "nifti"
    folder.mkdir()
    for n in (1, 2):
        (folder / f"sub-{n}_T1w.nii").write_bytes(make_nifti(block(n), affine=np.diag([-2.0, 2, 2, 1])))
    return [(folder / f"sub-{n}_T1w.nii", f"sub-{n}") for n in (1, 2)]


def test_files_become_a_collection(files, tmp_path) -> None:
    made = VolumeCollection.from_niftis(tmp_path / "a", files)
    assert (made.name, made.obs_ids, made.shape) == ("volume", ["sub-1_volume", "sub-2_volume"], (5, 4, 3))
    assert made.iloc[0].axcodes == ("L", "A", "S")
    for n, niftis in enumerate((files[0][0].parent, f"{files[0][0].parent}/*.nii", [f for f, _ in files])):
        made = VolumeCollection.from_images(tmp_path / f"b{n}", niftis, name="T1w", reorient=True)
        assert (made.obs_ids, made.iloc[1].axcodes) == (["sub-1_T1w", "sub-2_T1w"], ("R", "A", "S"))
    with pytest.raises(GeometryError, match="RAX"):
        VolumeCollection.from_niftis(tmp_path / "c", files, reorient="RAX")
    people = subjects("sub-1", "sub-2", age=[1, 2])
    made = VolumeCollection.from_niftis(tmp_path / "d", files, name="seg", obs_meta=people, progress=False)
    assert (made.kind, made.filter("age > 1").obs_ids) == ("label", ["sub-2_seg"])
    assert VolumeCollection.from_niftis(tmp_path / "e", files, name="seg", kind="image").kind == "image"
    named = VolumeCollection.from_niftis(
        tmp_path / "f", files, kind="label", labels={"volume": {1: "tumour"}}
    )
    assert named.iloc[0].meta.labels[0].name == "tumour"


def test_files_of_several_shapes_are_refused_unless_allowed(files, tmp_path, make_nifti) -> None:
    files[1][0].write_bytes(make_nifti(block(2, (5, 4, 2))))
    with pytest.raises(AlignmentError, match=r"\(5, 4, 3\) \(sub-1_volume\), \(5, 4, 2\) \(sub-2_volume\)"):
        VolumeCollection.from_niftis(tmp_path / "study", files)
    assert refuses_to_open(tmp_path / "study")
    made = VolumeCollection.from_niftis(tmp_path / "study", files, validate_dimensions=False)
    assert (made.shape, made.is_uniform) == (None, False)
    files[1][0].write_bytes(make_nifti(block(2, (5, 4, 3, 2))))
    made = VolumeCollection.from_niftis(tmp_path / "t", files, axis4="time")
    assert (made.shape, made.iloc[1].shape) == ((5, 4, 3), (5, 4, 3, 2))


def test_obs_gives_ids_and_columns(files, tmp_path) -> None:
    frame = pd.DataFrame(
        {"obs_id": ["scan A", "scan B"], "obs_subject_id": ["sub-1", "sub-2"], "tesla": [3.0, 1.5]}
    )
    made = VolumeCollection.from_niftis(tmp_path / "a", files, frame)
    assert (made.obs_ids, made.obs_subject_ids) == (["scan A", "scan B"], ["sub-1", "sub-2"])
    assert made.loc["scan B"].metadata["tesla"] == 1.5
    plain = VolumeCollection.from_niftis(tmp_path / "b", [f for f, _ in files], frame)
    assert plain.obs_ids == ["scan A", "scan B"]
    by_subject = VolumeCollection.from_niftis(tmp_path / "c", files, frame.drop(columns="obs_id"), name="T1w")
    assert by_subject.loc["sub-2_T1w"].metadata["tesla"] == 1.5
    indexed = VolumeCollection.from_niftis(tmp_path / "d", files, frame.set_index("obs_id"))
    assert indexed.obs_ids == ["scan A", "scan B"]
    glob = VolumeCollection.from_niftis(
        tmp_path / "e",
        files[0][0].parent,
        frame.replace({"scan A": "sub-1_T1w", "scan B": "sub-2_T1w"}),
        name="T1w",
    )
    assert glob.obs.read(["tesla"])["tesla"].tolist() == [3.0, 1.5]
    for wrong, match in (
        (frame.iloc[:1], "a row for each of the 2"),
        (frame.iloc[::-1], "'sub-1', as its source"),
        (frame.rename(columns={"tesla": "dim_x"}), "dim_x"),
    ):
        with pytest.raises(MetadataError, match=match):
            VolumeCollection.from_niftis(tmp_path / "f", files, wrong)
    with pytest.raises(DuplicateIdError, match="scan A"):
        VolumeCollection.from_niftis(tmp_path / "f", files, frame.assign(obs_id="scan A"))


def test_only_valid_subjects_are_taken(files, tmp_path) -> None:
    with pytest.raises(MetadataError, match=r"valid_subject_ids=, got \['sub-2'\]"):
        VolumeCollection.from_niftis(tmp_path / "study", files, valid_subject_ids={"sub-1"})
    made = VolumeCollection.from_niftis(
        tmp_path / "study", files[0][0].parent, name="T1w", valid_subject_ids=["sub-1", "sub-2", "sub-3"]
    )
    assert made.obs_ids == ["sub-1_T1w", "sub-2_T1w"]
