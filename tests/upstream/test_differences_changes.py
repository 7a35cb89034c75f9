"""Faults of the TileDB-based package in changing and building studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.errors import IngestError, UnknownIdError
from radiobject.writers import RadiObjectWriter
from tests.conftest import as_sources

META = pd.DataFrame(
    {
        "obs_subject_id": ["sub-03", "sub-01", "sub-02"],
        "age": pd.array([63, None, 52], dtype="Int64"),
        "dx": pd.Categorical(["tumor", "healthy", "tumor"]),
    }
)
ARRAY = np.ones((6, 5, 4), dtype="i2")


def test_w11_an_append_to_a_study_with_columns_of_its_own_keeps_them(study) -> None:
    radi = study(None, META)
    radi.append(
        as_sources({"T1w": {"sub-09": ARRAY}}), {"obs_subject_id": ["sub-09"], "age": [30], "dx": ["healthy"]}
    )
    frame = RadiObject(radi.uri).obs_meta.read()
    assert frame["obs_subject_id"].tolist() == ["sub-03", "sub-01", "sub-02", "sub-09"]
    assert frame["age"].tolist() == [63, pd.NA, 52, 30]
    assert frame["dx"].tolist() == ["tumor", "healthy", "tumor", "healthy"]
    assert radi.validate("full", strict=True).ok


def test_w11_a_collection_added_to_such_a_study_brings_its_subjects(study) -> None:
    radi, other = study(None, META), study({"pet": {"sub-01": ARRAY, "sub-07": ARRAY}})
    radi.add_collection("pet", other.pet)
    assert RadiObject(radi.uri).obs_subject_ids == ["sub-03", "sub-01", "sub-02", "sub-07"]
    assert radi.obs_meta["age"].tolist() == [63, pd.NA, 52, pd.NA]
    assert radi.pet.obs_subject_ids == ["sub-01", "sub-07"]
    assert radi.validate("full", strict=True).ok


def test_w13_an_append_that_fails_leaves_nothing_behind(study, tmp_path: Path) -> None:
    radi = study(None, META)
    (tmp_path / "bad.nii").write_bytes(b"no image")
    images = {"T1w": [((ARRAY, None), "sub-08"), (str(tmp_path / "bad.nii"), "sub-09")]}
    rows = {"obs_subject_id": ["sub-08", "sub-09"], "age": [1, 2], "dx": ["tumor", "tumor"]}
    with pytest.raises(IngestError):
        radi.append(images, rows)
    for handle in (radi, RadiObject(radi.uri)):
        assert (handle.version, len(handle), len(handle.T1w)) == (1, 3, 3)
        assert handle.validate("full", strict=True).ok


def test_w14_a_run_that_fails_leaves_no_study_and_its_place_can_be_used(make_nifti, tmp_path: Path) -> None:
    good, late = tmp_path / "a.nii", tmp_path / "b.nii"
    good.write_bytes(make_nifti(ARRAY))
    late.write_bytes(b"no image")
    images = {"x": [(str(good), "a"), (str(late), "b")]}
    with pytest.raises(IngestError):
        RadiObject.from_niftis(tmp_path / "study", images)
    with pytest.raises(FileNotFoundError):
        RadiObject(tmp_path / "study")
    late.write_bytes(make_nifti(ARRAY))
    radi = RadiObject.from_niftis(tmp_path / "study", images, resume=True)
    assert radi.x.obs_ids == ["a_x", "b_x"]
    assert radi.ledger["outcome"].tolist() == ["resumed", "ingested"]


def test_w15_a_writer_takes_columns_nobody_announced_and_knows_the_ids(tmp_path: Path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.write_obs_meta(META)
        with writer.add_collection("T1w") as collection:
            for number, subject in enumerate(META["obs_subject_id"]):
                collection.write_volume(
                    ARRAY, obs_id=f"{subject}_T1w", obs_subject_id=subject, quality=number
                )
    radi = RadiObject(tmp_path / "study")
    assert radi.T1w.obs["quality"].tolist() == [0, 1, 2]
    assert radi.obs_meta["age"].tolist() == [63, pd.NA, 52]
    texts = radi.obs_meta.read(["obs_ids"])["obs_ids"]
    assert [json.loads(t) for t in texts] == [[i] for i in radi.T1w.obs_ids]
    assert radi.validate("full", strict=True).ok


def test_w15_obs_ids_of_a_view_are_those_of_the_view(study) -> None:
    assert study({"z": {"a": ARRAY}, "b": {"a": ARRAY}}).obs_meta["obs_ids"].tolist() == ['["a_b", "a_z"]']
    radi = study()
    view = radi.loc[["sub-01", "sub-02"]].select_collections(["seg"])
    assert view.obs_meta["obs_ids"].tolist() == ['["sub-01_seg"]', '["sub-02_seg"]']
    radi.delete(obs_ids="sub-01_T1w")
    frame = radi.obs_meta.read(["obs_ids"], filter="obs_subject_id == 'sub-01'")
    assert frame["obs_ids"].tolist() == ['["sub-01_seg"]']


def test_w16_a_written_collection_keeps_ids_and_second_acquisitions(study, tmp_path: Path) -> None:
    radi = study({"x": {"a": [ARRAY, ARRAY * 2], "b": ARRAY}})
    assert radi.x.obs_ids == ["a_x", "a_x_acq-1", "b_x"]
    made = radi.x.write(tmp_path / "made", name="y")
    assert made.obs_ids == ["a_x", "a_x_acq-1", "b_x"]
    assert [v[0, 0, 0] for v in made] == [1, 2, 1]


def test_w17_a_study_of_a_view_has_the_view_and_no_more(study, tmp_path: Path) -> None:
    radi = study(None, META)
    made = RadiObject.from_collections(tmp_path / "made", {"T1w": radi.loc[["sub-02", "sub-03"]].T1w})
    assert made.T1w.obs_ids == ["sub-03_T1w", "sub-02_T1w"]
    assert made.obs_meta["age"].tolist() == [63, 52]
    assert [v[0, 0, 0] for v in made.T1w] == [3, 2]


def test_w19_images_and_labels_of_the_same_file_names_have_ids_of_their_own(
    make_nifti, tmp_path: Path
) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        for name in ("lung_001", "lung_002"):
            (tmp_path / folder / f"{name}.nii").write_bytes(make_nifti(ARRAY))
    images = {"CT": str(tmp_path / "imagesTr"), "seg": str(tmp_path / "labelsTr")}
    radi = RadiObject.from_niftis(tmp_path / "study", images, validate_alignment=True)
    assert radi.all_obs_ids == ["lung_001_CT", "lung_002_CT", "lung_001_seg", "lung_002_seg"]
    assert radi.validate("full", strict=True).ok


def test_w20_a_query_over_mixed_shapes_can_be_shown(study) -> None:
    radi = study({"x": {"a": ARRAY, "b": ARRAY[:3]}})
    assert radi.x.shape is None
    assert "2 volumes" in repr(radi.x.lazy())
    assert "2 subjects" in repr(radi.lazy())


def test_w21_an_unknown_id_is_an_error_and_no_empty_row(study) -> None:
    radi = study()
    for key in (["sub-99_T1w"], ["sub-01_T1w", "sub-99_T1w"]):
        with pytest.raises(UnknownIdError, match="sub-99_T1w"):
            radi.T1w.loc[key]
