"""Folders of the Medical Segmentation Decathlon as rows, and as studies."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import SourceCorruptError, SourceError, SourceUnsupportedError
from radiobject.ingest.scanning.label_tables import dataset_labels
from radiobject.ingest.scanning.msd import scan_msd
from radiobject.ingest.scanning.nnunet import scan_nnunet
from tests.ingest.layout_trees import AFFINE, image, study_of, text

NAMES = {"0": "background", "1": "spleen", "2": "kidney"}
TURNED = {"background": 0, "spleen": 1, "kidney": 2}


@pytest.fixture
def task(tmp_path: Path, real_data: Path) -> Path:
    """Real CT and labels as two cases of training, a test image, and what macOS leaves behind."""
    root = tmp_path / "Task99_Organs"
    given = real_data / "totalsegmentator"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for case in ("organ_1", "organ_2"):
        shutil.copy(given / "example_ct_sm.nii.gz", root / f"imagesTr/{case}.nii.gz")
        shutil.copy(given / "example_seg.nii.gz", root / f"labelsTr/{case}.nii.gz")
        (root / f"imagesTr/._{case}.nii.gz").write_bytes(b"\0" * 120)
    shutil.copy(given / "example_ct_sm.nii.gz", root / "imagesTs/organ_3.nii.gz")
    shutil.copy(given / "example_ct_sm.nii.gz", root / "imagesTs/unlisted.nii.gz")
    described(root)
    return root


def described(root: Path, **changes: Any) -> None:
    cases = [
        {"image": f"./imagesTr/organ_{n}.nii.gz", "label": f"./labelsTr/organ_{n}.nii.gz"} for n in (1, 2)
    ]
    said = {"name": "Organs", "modality": {"0": "CT"}, "labels": NAMES, "numTraining": 2, "numTest": 1,
            "training": cases, "test": ["./imagesTs/organ_3.nii.gz"]}  # fmt: skip
    text(root / "dataset.json", said | changes)


@pytest.mark.parametrize("labels", [NAMES, TURNED, ["background", "spleen", "kidney"]])
def test_cases_become_volumes_with_the_names_of_their_labels(task, tmp_path, labels, real_data) -> None:
    described(task, labels=labels)
    found = scan_msd(task)
    assert found.skipped == {"macOS ._ files": 2, "in imagesTs, but not in dataset.json": 1}
    radi = study_of(found, tmp_path / "study", task)
    assert {n: radi.collection(n).obs_ids for n in radi.collection_names} == {
        "CT": ["organ_1_CT", "organ_2_CT", "organ_3_CT"], "seg": ["organ_1_seg", "organ_2_seg"],
    }  # fmt: skip
    assert [(x.value, x.name, x.rgba) for x in radi.seg.iloc[0].meta.labels] == [
        (0, "background", None), (1, "spleen", None), (2, "kidney", None),
    ]  # fmt: skip
    assert radi.obs_meta.to_arrow().to_pylist()[2] == {"obs_subject_id": "organ_3", "split": "test"}
    assert radi.CT.obs.to_arrow(["split", "channel"]).to_pylist()[0] == {"split": "train", "channel": 0}
    truth = nibabel.load(real_data / "totalsegmentator/example_ct_sm.nii.gz")
    assert np.array_equal(radi.CT.iloc[0][:], truth.get_fdata())
    assert np.allclose(radi.CT.iloc[0].affine, truth.affine)


def test_channels_of_a_file_go_to_the_collections_of_their_modalities(tmp_path) -> None:
    root = tmp_path / "Task98_Tumour"
    image(root / "imagesTr/BRATS_001.nii.gz", (4, 5, 6, 3), 1)
    image(root / "labelsTr/BRATS_001.nii.gz", seed=2, kind="u1")
    entry = {"image": "imagesTr/BRATS_001.nii.gz", "label": "labelsTr/BRATS_001.nii.gz"}
    described(root, modality={"1": "t1 gd", "0": "FLAIR", "2": "FLAIR"}, training=[entry], test=[])
    radi = study_of(scan_msd(root), tmp_path / "study", root)
    assert radi.collection_names == ("FLAIR", "t1_gd", "FLAIR_2", "seg")
    truth = nibabel.load(root / "imagesTr/BRATS_001.nii.gz").get_fdata()
    for channel, name in enumerate(("FLAIR", "t1_gd", "FLAIR_2")):
        volume = radi.collection(name).iloc[0]
        assert volume.shape == (4, 5, 6)
        assert np.array_equal(volume[:], truth[..., channel])
        assert np.array_equal(volume.affine, AFFINE)
        assert radi.collection(name).obs.to_arrow(["channel"]).to_pylist() == [{"channel": channel}]


def test_modalities_may_be_counted_from_one(tmp_path) -> None:
    image(tmp_path / "imagesTr/a.nii.gz", (4, 5, 6, 2))
    described(tmp_path, modality={"1": "T2", "2": "ADC"}, training=["imagesTr/a.nii.gz"], test=[])
    rows = scan_msd(tmp_path).rows
    assert [(r.collection, r.columns["channel"], r.channel) for r in rows] == [("T2", 1, 0), ("ADC", 2, 1)]


def test_files_that_do_not_fit_dataset_json_are_wrong(task) -> None:
    (task / "labelsTr/organ_1.nii.gz").unlink()
    (task / "imagesTr/organ_2.nii.gz").write_bytes(b"")
    image(task / "imagesTs/organ_3.nii.gz", (4, 5, 6, 2))
    rows = {row.obs_id: (row.verdict, row.reason) for row in scan_msd(task).rows}
    assert rows["organ_1_seg"] == ("error", "cannot be read: No such file or directory")
    assert rows["organ_2_CT"] == ("error", "empty file: 0 bytes")
    assert rows["organ_3_CT"] == ("error", "channels: 2 in the file, 1 in dataset.json")
    assert rows["organ_1_CT"] == ("ingest", "")


def test_a_case_that_is_listed_twice_is_wrong(task) -> None:
    described(task, test=["./imagesTr/organ_1.nii.gz"])
    assert [row.reason for row in scan_msd(task).rows if row.verdict == "error"] == [
        "same name: the case is listed twice"
    ]


def test_without_lists_the_cases_are_the_files(task) -> None:
    described(task, training=[], test=[])
    ids = [row.obs_id for row in scan_msd(task).rows]
    assert ids == ["organ_1_CT", "organ_1_seg", "organ_2_CT", "organ_2_seg", "organ_3_CT", "unlisted_CT"]


def test_names_that_lead_out_of_the_folder_are_refused(task) -> None:
    for name in ("../secret.nii.gz", "/etc/passwd", "imagesTr/../../x.nii.gz", "a\0b", 5, None):
        described(task, test=[name])
        with pytest.raises(SourceUnsupportedError, match="files below its folder"):
            scan_msd(task)


@pytest.mark.parametrize(
    "changes",
    [{"labels": {"a": "b"}}, {"labels": {"a": None}}, {"labels": 7}, {"modality": None},
     {"modality": {"x": "y"}}, {"training": "all"}],
    ids=str,
)  # fmt: skip
def test_a_dataset_json_that_says_something_else_is_refused(task, changes) -> None:
    described(task, **changes)
    with pytest.raises(SourceCorruptError, match=r"dataset\.json"):
        scan_msd(task)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=5), of, max_size=3),
    max_leaves=8,
)
KEYS = ("modality", "channel_names", "labels", "training", "test", "dataset", "file_ending", "numTraining")


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON), scan=st.sampled_from([scan_msd, scan_nnunet]))
def test_no_dataset_json_ends_a_scan_in_another_way_than_by_an_error_of_ours(
    changes, scan, tmp_path_factory
) -> None:
    root = tmp_path_factory.getbasetemp() / "hostile"
    root.mkdir(exist_ok=True)
    described(root, **changes)
    with contextlib.suppress(SourceError):
        assert scan(root).layout in ("msd", "nnunet")


def test_a_folder_without_dataset_json_is_refused(tmp_path) -> None:
    with pytest.raises(SourceError, match=r"dataset\.json"):
        scan_msd(tmp_path)


def test_labels_of_regions_keep_every_integer() -> None:
    said = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    assert {x.value: x.name for x in dataset_labels(said, "dataset.json")} == {
        0: "background", 1: "whole tumour", 2: "whole tumour + core", 3: "whole tumour + core + enhancing",
        4: "ignore",
    }  # fmt: skip
