"""Studies as BIDS data sets: what came from BIDS goes back and comes again as it was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import bids
import nibabel
import numpy as np
import pandas as pd
import pytest
from bids_validator import BIDSValidator

from radiobject.errors import ConfigError, MetadataError
from radiobject.export.bids import export_bids
from radiobject.export.bids_names import places
from radiobject.ingest.scanning.bids import scan_bids
from tests.ingest.layout_trees import bids_tree, image, study_of, text


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return bids_tree(tmp_path / "tree")


def names(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def table_of(folder: Path, name: str) -> list[list[str]]:
    return [line.split("\t") for line in (folder / name).read_text().splitlines()]


def test_export_then_ingest_gives_the_same_study(tree, tmp_path) -> None:
    image(tree / "sub-02/anat/sub-02_foo-bar_T2w.nii.gz", seed=50)
    radi = study_of(scan_bids(tree, derivatives=True), tmp_path / "one", tree)
    assert export_bids(radi, tmp_path / "out") == len(radi.all_obs_ids) == 14
    again = study_of(scan_bids(tmp_path / "out", derivatives=True), tmp_path / "two", tmp_path / "out")
    assert sorted(again.collection_names) == sorted(radi.collection_names)
    key = "obs_subject_id"
    left, right = (r.obs_meta.read().set_index(key).sort_index() for r in (radi, again))
    pd.testing.assert_frame_equal(left, right, check_like=True)
    for name in radi.collection_names:
        before, after = radi.collection(name), again.collection(name)
        tables = [c.obs.read().set_index("obs_id").sort_index().sort_index(axis=1) for c in (before, after)]
        pd.testing.assert_frame_equal(*tables)
        for volume in before:
            other = after.loc[volume.obs_id]
            assert np.array_equal(volume.to_numpy(raw=True), other.to_numpy(raw=True))
            assert volume.meta == other.meta
            assert all(volume.extra(n) == other.extra(n) for n in volume.meta.source.extras)


def test_echoes_with_tables_of_their_own_keep_them(tree, tmp_path) -> None:
    text(tree / "sub-02/func/sub-02_task-rest_echo-2_events.tsv", "onset\tduration\n8.0\t9.0\n")
    radi = study_of(scan_bids(tree), tmp_path / "study", tree)
    export_bids(radi, tmp_path / "out")
    rows = {row.obs_id: row for row in scan_bids(tmp_path / "out").rows}
    for echo in (1, 2):
        obs_id = f"sub-02_task-rest_echo-{echo}_bold"
        kept = Path(rows[obs_id].attachments["events"]).read_bytes()
        assert kept == radi.bold.loc[obs_id].extra("events")


def test_files_have_the_names_and_the_bytes_that_they_came_with(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree, derivatives=True), tmp_path / "study", tree)
    export_bids(radi, tmp_path / "out")
    before = {n.removesuffix(".gz"): tree / n for n in names(tree) if ".nii" in n}
    after = {n.removesuffix(".gz"): tmp_path / "out" / n for n in names(tmp_path / "out") if ".nii" in n}
    assert before.keys() == after.keys()
    for name, path in before.items():
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert gzip.decompress(after[name].read_bytes()) == content


def test_pybids_finds_what_was_exported(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree), tmp_path / "study", tree)
    export_bids(radi, tmp_path / "out", name="again")
    old, new = bids.BIDSLayout(tree), bids.BIDSLayout(tmp_path / "out")
    assert new.description["Name"] == "again"
    for file in old.get(extension=[".nii", ".nii.gz"]):
        said = {k: v for k, v in file.get_entities().items() if k != "extension"}
        (found,) = [
            f
            for f in new.get(**said, extension=".nii.gz")
            if f.filename.split(".")[0] == file.filename.split(".")[0]
        ]
        assert new.get_metadata(found.path) == old.get_metadata(file.path)
    valid = BIDSValidator()
    assert [n for n in names(tmp_path / "out") if not valid.is_bids(f"/{n}")] == []
    (dwi,) = new.get(suffix="dwi", extension=".nii.gz")
    assert Path(new.get_bval(dwi.path)).read_bytes() == (tree / "dwi.bval").read_bytes()


def test_tables_say_what_the_study_says(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree), tmp_path / "study", tree)
    export_bids(radi, tmp_path / "out")
    out = tmp_path / "out"
    assert table_of(out, "participants.tsv") == [
        ["participant_id", "age", "site", "dx"],
        ["sub-02", "41", "01", "n/a"], ["sub-03", "n/a", "02", "AD"], ["sub-01", "n/a", "n/a", "n/a"],
    ]  # fmt: skip
    assert table_of(out, "sub-01/sub-01_sessions.tsv")[1:] == [
        ["ses-1", "112", "2020-01-01"], ["ses-2", "n/a", "2021-01-01"],
    ]  # fmt: skip
    scans = table_of(out, "sub-01/ses-1/sub-01_ses-1_scans.tsv")
    assert scans[:2] == [
        ["filename", "acq_time", "quality"],
        ["anat/sub-01_ses-1_T1w.nii.gz", "2020-01-01T10:00:00", "0.5"],
    ]
    # the two echoes share one table of events, as they did
    assert [n for n in names(out) if "sub-02" in n and "events" in n] == [
        "sub-02/func/sub-02_task-rest_events.tsv"
    ]


def test_a_study_of_no_layout_gets_names_and_its_labels_a_place(study, tmp_path) -> None:
    radi = study(obs_meta={"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "note": ["x", None, "z"]})
    export_bids(radi, tmp_path / "out")
    assert [n for n in names(tmp_path / "out") if "sub-01" in n] == [
        "derivatives/segmentations/sub-01/anat/sub-01_dseg.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz",
    ]  # fmt: skip
    made = json.loads((tmp_path / "out/derivatives/segmentations/dataset_description.json").read_text())
    assert made["DatasetType"] == "derivative"
    seg = nibabel.load(tmp_path / "out/derivatives/segmentations/sub-01/anat/sub-01_dseg.nii.gz")
    assert np.all(np.asarray(seg.dataobj) == 11)
    again = scan_bids(tmp_path / "out", derivatives=True)
    assert {(r.collection, r.kind) for r in again.rows} == {("T1w", "image"), ("dseg", "label")}


def test_subjects_that_are_no_labels_keep_their_ids_in_a_column(study, tmp_path) -> None:
    one = np.ones((3, 3, 3), "i2")
    meta = {"obs_subject_id": ["case_7", "sub-8"], "participant_id": ["p", "q"]}
    export_bids(study({"T1w": {"case_7": one, "sub-8": one}}, meta), tmp_path / "out")
    assert table_of(tmp_path / "out", "participants.tsv") == [
        ["participant_id", "radiobject_subject_id", "obs_meta_participant_id"],
        ["sub-case7", "case_7", "p"], ["sub-8", "n/a", "q"],
    ]  # fmt: skip


def test_labels_go_into_dseg_tables_with_their_colours(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree, derivatives=True), tmp_path / "study", tree)
    export_bids(radi, tmp_path / "out")
    assert table_of(tmp_path / "out/derivatives/prep/sub-02/anat", "sub-02_desc-aseg_dseg.tsv") == [
        ["index", "name", "color"], ["1", "grey", "#ff0000"], ["2", "white", "#00ff0080"],
    ]  # fmt: skip


def test_a_view_is_exported_as_it_is_narrowed(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree), tmp_path / "study", tree)
    assert (
        export_bids(radi.sel(subject="sub-01", session="2").select_collections(["T1w"]), tmp_path / "out")
        == 1
    )
    assert [n for n in names(tmp_path / "out") if ".nii" in n] == [
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"
    ]
    assert len(table_of(tmp_path / "out", "participants.tsv")) == 2


def row(obs_id: str, collection: str = "T1w", kind: str = "image", **columns: object) -> dict[str, object]:
    return {"obs_subject_id": "sub-01", "obs_id": obs_id, "_collection": collection, "_kind": kind, **columns}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (row("sub-01_T1w"), "sub-01/anat/sub-01_T1w"),
        (row("sub-01_T1w", session="1"), "sub-01/ses-1/anat/sub-01_ses-1_T1w"),
        (row("sub-01_T1w", run=2), "sub-01/anat/sub-01_run-2_T1w"),
        (row("sub-01_run-02_T1w", run=2), "sub-01/anat/sub-01_run-02_T1w"),
        (row("sub-02_T1w"), "sub-01/anat/sub-01_T1w"),
        (row("x", "my scan", echo=2, task="a_b"), "sub-01/anat/sub-01_task-ab_echo-2_myscan"),
        (row("x", "bold"), "sub-01/func/sub-01_bold"),
        (row("x", datatype="../..", session="../x"), "sub-01/ses-x/anat/sub-01_ses-x_T1w"),
        (row("x", "liver", "label"), "sub-01/anat/sub-01_desc-liver_dseg"),
        (row("sub-01_mask", "mask", "label", datatype="anat"), "sub-01/anat/sub-01_mask"),
    ],
)  # fmt: skip
def test_names_follow_ids_where_these_are_names_and_columns_where_not(given, path) -> None:
    (place,) = places([given])
    assert f"{place.folder}/{place.stem}" == path


def test_no_two_volumes_share_a_file() -> None:
    same = [row("sub-01_T1w_acq-1"), row("sub-01_T1w"), row("other")]
    others = [{**row("a"), "obs_subject_id": subject} for subject in ("sub_01", "01")]
    assert [place.stem for place in places([*same, *others])] == [
        "sub-01_run-2_T1w", "sub-01_T1w", "sub-01_run-3_T1w", "sub-sub01_T1w", "sub-01x2_T1w",
    ]  # fmt: skip


def test_a_pipeline_is_one_folder() -> None:
    found = places([row("a", pipeline="../../up"), row("b", pipeline="fmriprep-1.0")])
    assert [place.pipeline for place in found] == ["up", "fmriprep-1.0"]


def test_times_of_dicom_are_written_in_seconds(tmp_path) -> None:
    from radiobject.export.bids import _metadata

    columns = {"echo_time": 30.0, "flip_angle": 9.0}
    assert _metadata({**columns, "source_format": "dicom"}) == {"EchoTime": 0.03, "FlipAngle": 9.0}
    assert _metadata({**columns, "source_format": "nifti1"}) == {"EchoTime": 30.0, "FlipAngle": 9.0}


def test_nothing_is_written_over_or_cut(study, tmp_path) -> None:
    radi = study()
    text(tmp_path / "full/mine.txt", "mine")
    with pytest.raises(ConfigError, match=r"empty folder.*mine\.txt"):
        export_bids(radi, tmp_path / "full")
    with pytest.raises(ConfigError, match="a file"):
        export_bids(radi, tmp_path / "full/mine.txt")
    cut = study(obs_meta={"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "note": ["a\tb", "c", "d"]})
    with pytest.raises(MetadataError, match="tabs"):
        export_bids(cut, tmp_path / "out")


def test_progress_is_told(study, tmp_path) -> None:
    told: list[tuple[int, int]] = []
    export_bids(study(), tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 6) for n in range(7)]


def test_columns_that_no_sidecar_has_go_to_scans(tmp_path, study) -> None:
    radi = study(obs={"T1w": pd.DataFrame({"obs_id": ["sub-01_T1w"], "rating": [3], "echo_time": [0.5]})})
    export_bids(radi, tmp_path / "out")
    (found,) = [r for r in scan_bids(tmp_path / "out").rows if r.obs_subject_id == "sub-01"]
    assert (found.columns["scan_rating"], found.columns["echo_time"]) == (3, 0.5)
