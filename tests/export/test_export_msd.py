"""Studies as folders of the Medical Segmentation Decathlon."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from radiobject.errors import AlignmentError, ConfigError, MetadataError
from radiobject.export.msd import export_msd
from radiobject.ingest.scanning.label_tables import dataset_labels
from radiobject.ingest.scanning.msd import scan_msd
from radiobject.ingest.scanning.rows import Found
from tests.ingest.layout_trees import AFFINE, image, study_of, text


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Two cases of two channels with labels, and one to predict."""
    root = tmp_path / "Task01_Tumour"
    for n, place in ((1, "Tr"), (2, "Tr"), (3, "Ts")):
        image(root / f"images{place}/case_{n}.nii.gz", (4, 5, 6, 2), n)
        if place == "Tr":
            image(root / f"labelsTr/case_{n}.nii.gz", seed=10 + n, kind="u1")
    cases = [{"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"} for n in (1, 2)]
    text(root / "dataset.json", {
        "name": "Tumour", "modality": {"0": "FLAIR", "1": "T1w"}, "training": cases,
        "labels": {"0": "background", "1": "oedema", "2": "core", "3": "enhancing"},
        "test": ["./imagesTs/case_3.nii.gz"],
    })  # fmt: skip
    return root


def test_export_then_ingest_gives_the_same_study(task, tmp_path) -> None:
    radi = study_of(scan_msd(task), tmp_path / "one", task)
    assert export_msd(radi, tmp_path / "out", stack=True, name="Tumour") == 3
    again = study_of(scan_msd(tmp_path / "out"), tmp_path / "two", tmp_path / "out")
    assert again.collection_names == radi.collection_names
    pd.testing.assert_frame_equal(again.obs_meta.read(), radi.obs_meta.read())
    for name in radi.collection_names:
        for volume in radi.collection(name):
            other = again.collection(name).loc[volume.obs_id]
            assert np.array_equal(volume.to_numpy(raw=True), other.to_numpy(raw=True))
            assert np.array_equal(volume.affine, other.affine)
            assert volume.meta.labels == other.meta.labels
        tables = [r.collection(name).obs.to_arrow(["obs_id", "split"]).to_pylist() for r in (radi, again)]
        assert tables[0] == tables[1]


def test_the_folder_is_msds(task, tmp_path) -> None:
    radi = study_of(scan_msd(task), tmp_path / "one", task)
    export_msd(radi, tmp_path / "out", stack=True, name="Tumour")
    before, after = (json.loads((root / "dataset.json").read_text()) for root in (task, tmp_path / "out"))
    assert {k: after[k] for k in before} == before
    assert (after["tensorImageSize"], after["numTraining"], after["numTest"]) == ("4D", 2, 1)
    stacked = nibabel.load(tmp_path / "out/imagesTr/case_1.nii.gz")
    assert np.array_equal(stacked.get_fdata(), nibabel.load(task / "imagesTr/case_1.nii.gz").get_fdata())
    assert stacked.get_data_dtype() == np.int16
    assert np.array_equal(stacked.affine, AFFINE)
    for name in ("labelsTr/case_1.nii.gz", "labelsTr/case_2.nii.gz"):
        content = [gzip.decompress((root / name).read_bytes()) for root in (task, tmp_path / "out")]
        assert content[0] == content[1]


def test_several_collections_are_stacked_only_when_asked(task, tmp_path) -> None:
    radi = study_of(scan_msd(task), tmp_path / "one", task)
    with pytest.raises(ConfigError, match="stack=True"):
        export_msd(radi, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_msd(radi, tmp_path / "out", images="T1w") == 3
    assert nibabel.load(tmp_path / "out/imagesTr/case_1.nii.gz").shape == (4, 5, 6)


def test_cases_without_labels_or_of_the_split_test_are_tests(study, tmp_path) -> None:
    ones = {s: np.ones((3, 3, 3), "i2") for s in ("a", "b", "c")}
    segs = {s: np.full((3, 3, 3), 7, "u1") for s in ("a", "b")}
    radi = study(
        {"CT": ones, "seg": segs}, {"obs_subject_id": ["a", "b", "c"], "split": ["train", "test", None]}
    )
    export_msd(radi, tmp_path / "out")
    said = json.loads((tmp_path / "out/dataset.json").read_text())
    assert said["training"] == [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    assert said["test"] == [
        {"image": "./imagesTs/b.nii.gz", "label": "./labelsTs/b.nii.gz"}, "./imagesTs/c.nii.gz",
    ]  # fmt: skip
    assert said["labels"] == {"0": "background", "7": "7"}
    assert [(r.obs_id, r.verdict) for r in scan_msd(tmp_path / "out").rows] == [
        (i, "ingest") for i in ("a_CT", "a_seg", "b_CT", "b_seg", "c_CT")
    ]


def test_volumes_of_one_subject_are_cases_by_session_and_run(study, tmp_path) -> None:
    two = [np.full((3, 3, 3), n, "i2") for n in (1, 2)]
    obs = pd.DataFrame({"obs_id": ["s/1_CT", "s/1_CT_acq-1"], "session": ["pre", "post"], "run": [1, 2]})
    radi = study({"CT": {"s/1": two}}, obs={"CT": obs})
    export_msd(radi, tmp_path / "out")
    found = sorted(p.name for p in (tmp_path / "out/imagesTs").iterdir())
    assert found == ["s_1_ses-post_run-2.nii.gz", "s_1_ses-pre_run-1.nii.gz"]


def test_channels_on_another_grid_are_refused(study, tmp_path) -> None:
    one = np.ones((3, 3, 3), "i2")
    moved = np.eye(4)
    moved[0, 3] = 0.5
    radi = study({"a": {"s": one}, "b": {"s": (one, moved)}, "c": {"s": np.ones((3, 3, 4), "i2")}})
    for other in ("b", "c"):
        with pytest.raises(AlignmentError, match=f"s_{other}.*grid of 's_a'"):
            export_msd(radi, tmp_path / other, images=["a", other], stack=True)
        assert not (tmp_path / other).exists()


def test_a_label_map_on_another_grid_is_refused_before_anything_is_written(study, tmp_path) -> None:
    one, moved = np.ones((3, 3, 3), "i2"), np.eye(4)
    moved[0, 3] = 0.5
    good = np.ones((3, 3, 3), "u1")
    for n, wrong in enumerate(((good, moved), np.ones((3, 3, 4), "u1"))):
        radi = study({"CT": {"a": one, "b": one}, "seg": {"a": good, "b": wrong}})
        with pytest.raises(AlignmentError, match=r"case b, 'b_seg'.*grid of 'b_CT'"):
            export_msd(radi, tmp_path / f"out{n}")
        assert not (tmp_path / f"out{n}").exists()


@pytest.mark.parametrize(
    ("slopes", "dtype", "values"), [((0.5, 2.0), "f4", [1.5, 6.0]), ((0.5, 0.5), "i2", [1.5, 1.5])]
)
def test_channels_are_stacked_as_stored_where_all_are_scaled_alike(
    study, tmp_path, make_nifti, slopes, dtype, values
) -> None:
    for name, slope in zip("ab", slopes, strict=True):
        content = make_nifti(np.full((3, 3, 3), 3, "i2"), fields={"scl_slope": slope})
        (tmp_path / f"{name}.nii").write_bytes(content)
    radi = study({name: {"s": str(tmp_path / f"{name}.nii")} for name in "ab"})
    export_msd(radi, tmp_path / "out", stack=True)
    stacked = nibabel.load(tmp_path / "out/imagesTs/s.nii.gz")
    assert [float(v) for v in stacked.get_fdata()[0, 0, 0]] == values
    assert stacked.get_data_dtype() == np.dtype(dtype)


def test_channels_of_floats_that_are_stored_as_integers_are_floats(study, tmp_path) -> None:
    affine = np.eye(4)
    images = {
        "a": {"s": (np.full((3, 3, 3), 7, "f4"), affine)},
        "b": {"s": (np.full((3, 3, 3), 300, "f4"), affine)},
    }
    radi = study(images)
    assert [radi.collection(name).iloc[0].stored_dtype.name for name in "ab"] == ["uint8", "int16"]
    export_msd(radi, tmp_path / "out", stack=True)
    stacked = nibabel.load(tmp_path / "out/imagesTs/s.nii.gz")
    assert [float(v) for v in stacked.get_fdata()[0, 0, 0]] == [7, 300]
    assert stacked.get_data_dtype() == np.float32


def test_labels_must_be_one_collection_of_label_maps(study, tmp_path) -> None:
    segs = {"s": np.ones((3, 3, 3), "u1")}
    radi = study({"CT": {"s": np.ones((3, 3, 3), "i2")}, "seg": segs, "mask": segs})
    for chosen, said in ((None, "one collection"), ("CT", "'seg', 'mask'")):
        with pytest.raises(ConfigError, match=said):
            export_msd(radi, tmp_path / "out", labels=chosen)
    assert export_msd(radi, tmp_path / "out", labels="mask") == 1
    with pytest.raises(ConfigError, match="empty folder"):
        export_msd(radi, tmp_path / "out", labels="mask")


def named(root: Path, maps: dict[str, tuple[dict[str, str], list[int]]]) -> Found:
    """Rows of a folder of cases whose label maps have names and values of their own."""
    for case, (_, values) in maps.items():
        image(root / f"imagesTr/{case}.nii.gz", (4, 5, 6))
        voxels = np.resize(np.array(values, "u1"), (4, 5, 6))
        (root / "labelsTr").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), root / f"labelsTr/{case}.nii.gz")
    text(root / "dataset.json", {"modality": {"0": "CT"}, "labels": {}, "training": []})
    found = scan_msd(root)
    for row in found.rows:
        if row.kind == "label":
            row.labels = dataset_labels(maps[row.obs_subject_id][0], "dataset.json")
    return found


def test_labels_have_the_names_that_any_map_gives_and_numbers_where_none_does(tmp_path) -> None:
    maps = {
        "a": ({"1": "liver", "4": "4"}, [0, 1, 2, 3, 4]),
        "b": ({}, [0, 1, 2]),
        "c": ({"2": "spleen", "4": "kidney", "9": "absent"}, [0, 5]),
    }
    radi = study_of(named(tmp_path / "in", maps), tmp_path / "study", tmp_path / "in")
    export_msd(radi, tmp_path / "out")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labels"] == {
        "0": "background", "1": "liver", "2": "spleen", "3": "3", "4": "kidney", "5": "5", "9": "absent",
    }  # fmt: skip


def test_maps_that_name_a_value_differently_are_refused(tmp_path) -> None:
    maps = {"a": ({"1": "liver"}, [0, 1]), "b": ({"1": "tumour"}, [0, 1])}
    radi = study_of(named(tmp_path / "in", maps), tmp_path / "study", tmp_path / "in")
    with pytest.raises(MetadataError, match=r"'a_seg' and 'b_seg'.*'liver'.*'tumour'"):
        export_msd(radi, tmp_path / "out")
    assert not (tmp_path / "out").exists()
