"""Folders of nnU-Net, of version 2 and 1, as rows and as studies."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.ingest.scanning.msd import scan_msd
from radiobject.ingest.scanning.nnunet import scan_nnunet
from tests.ingest.layout_trees import image, study_of, text


@pytest.fixture
def raw(tmp_path: Path, real_data: Path) -> Path:
    """Two cases of real MR with labels and a case to predict, two channels each."""
    root, given = tmp_path / "Dataset042_Organs", real_data / "totalsegmentator"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for case, place in (("mr_01", "Tr"), ("mr_02", "Tr"), ("mr_03", "Ts")):
        for channel in (0, 1):
            shutil.copy(given / "example_mr_sm.nii.gz", root / f"images{place}/{case}_000{channel}.nii.gz")
        if place == "Tr":
            shutil.copy(given / "example_seg_mr.nii.gz", root / f"labelsTr/{case}.nii.gz")
    (root / "imagesTr/._mr_01_0000.nii.gz").write_bytes(b"\0")
    (root / "labelsTr/._mr_01.nii.gz").write_bytes(b"\0")
    text(root / "imagesTr/notes.txt", "mine")
    described(root)
    return root


def described(root: Path, **changes: Any) -> None:
    said = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "spleen": 1, "liver": 2},
            "numTraining": 2, "file_ending": ".nii.gz"}  # fmt: skip
    text(root / "dataset.json", {k: v for k, v in (said | changes).items() if v is not None})


def test_channels_become_collections_and_labels_have_names(raw, tmp_path, real_data) -> None:
    found = scan_nnunet(raw)
    assert found.skipped == {"macOS ._ files": 2, "in imagesTr, but not named case_XXXX.nii.gz": 1}
    radi = study_of(found, tmp_path / "study", raw)
    assert {n: radi.collection(n).obs_ids for n in radi.collection_names} == {
        "T2": ["mr_01_T2", "mr_02_T2", "mr_03_T2"], "ADC": ["mr_01_ADC", "mr_02_ADC", "mr_03_ADC"],
        "seg": ["mr_01_seg", "mr_02_seg"],
    }  # fmt: skip
    assert [x.name for x in radi.seg.iloc[0].meta.labels] == ["background", "spleen", "liver"]
    assert radi.ADC.obs.to_arrow(["channel", "split"]).to_pylist()[2] == {"channel": 1, "split": "test"}
    assert radi.obs_meta.to_arrow(["split"])["split"].to_pylist() == ["train", "train", "test"]
    truth = nibabel.load(real_data / "totalsegmentator/example_seg_mr.nii.gz")
    assert np.array_equal(radi.seg.iloc[1][:], np.asarray(truth.dataobj))


def test_regions_keep_their_integers_apart(raw, tmp_path) -> None:
    described(raw, labels={"background": 0, "abdomen": [1, 2], "liver": [2]}, regions_class_order=[1, 2])
    rows = [row for row in scan_nnunet(raw).rows if row.kind == "label"]
    assert [(x.value, x.name) for x in rows[0].labels] == [
        (0, "background"), (1, "abdomen"), (2, "abdomen + liver"),
    ]  # fmt: skip


def test_what_a_case_lacks_or_nobody_named_is_wrong(raw, caplog) -> None:
    (raw / "imagesTr/mr_02_0001.nii.gz").unlink()
    (raw / "labelsTr/mr_02.nii.gz").rename(raw / "labelsTr/other.nii.gz")
    shutil.copy(raw / "imagesTr/mr_01_0000.nii.gz", raw / "imagesTr/mr_01_0007.nii.gz")
    described(raw, numTraining=5)
    with caplog.at_level(logging.WARNING):
        found = scan_nnunet(raw)
    wrong = {row.obs_id: row.reason for row in found.rows if row.verdict == "error"}
    assert wrong == {
        "mr_02_ADC": "channel: 0001 is missing",
        "mr_02_seg": "cannot be read: No such file or directory",
        "mr_01_channel_0007": "channel: 0007 is not in dataset.json",
    }
    assert found.skipped["in labelsTr, but of no case in imagesTr"] == 1
    assert "numTraining 5, and 2 cases" in caplog.text


def test_cases_may_be_listed_by_dataset_json(raw) -> None:
    image(raw / "elsewhere/a.nii.gz")
    image(raw / "elsewhere/b.nii.gz", kind="u1")
    files = {"images": ["elsewhere/a.nii.gz", "elsewhere/a.nii.gz"], "label": "elsewhere/b.nii.gz"}
    described(raw, dataset={"x": files})
    ids = [row.obs_id for row in scan_nnunet(raw).rows]
    assert ids == ["x_T2", "x_ADC", "x_seg", "mr_03_T2", "mr_03_ADC"]
    outside = {"x": files | {"label": "../b.nii.gz"}}
    for wrong, error in (
        (outside, SourceUnsupportedError),
        ({"x": {"images": "a"}}, SourceCorruptError),
        ({"x": files | {"images": []}}, SourceCorruptError),
        ([1], SourceCorruptError),
    ):
        described(raw, dataset=wrong)
        with pytest.raises(error, match=r"dataset\.json"):
            scan_nnunet(raw)


def test_files_that_are_not_nifti_are_refused(raw) -> None:
    described(raw, file_ending=".png", overwrite_image_reader_writer="NaturalImage2DIO")
    with pytest.raises(SourceUnsupportedError, match=r"'\.png', read by NaturalImage2DIO"):
        scan_nnunet(raw)


def test_files_may_be_unpacked(raw) -> None:
    for path in [*raw.rglob("mr_*.nii.gz")]:
        nibabel.save(nibabel.load(path), path.with_suffix(""))
        path.unlink()
    described(raw, file_ending=".nii")
    rows = scan_nnunet(raw).rows
    assert [row.verdict for row in rows] == ["ingest"] * 8


def test_folders_of_the_first_version_are_known_by_their_files(raw) -> None:
    cases = [{"image": f"./imagesTr/mr_0{n}.nii.gz", "label": f"./labelsTr/mr_0{n}.nii.gz"} for n in (1, 2)]
    described(
        raw,
        channel_names=None,
        file_ending=None,
        modality={"0": "T2", "1": "ADC"},
        labels={"0": "background", "1": "spleen", "2": "liver"},
        training=cases,
        test=["./imagesTs/mr_03.nii.gz"],
    )
    found = scan_msd(raw)
    assert found.layout == "nnunet"
    assert [(r.obs_id, r.verdict) for r in found.rows] == [
        (r.obs_id, "ingest") for r in scan_nnunet(raw).rows
    ]
    assert [x.name for x in found.rows[2].labels] == ["background", "spleen", "liver"]
