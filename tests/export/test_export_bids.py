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
from radiobject.export.bids_names import places, subject_labels
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


def test_labels_are_told_apart_and_never_empty_and_ids_that_are_labels_keep_theirs() -> None:
    assert subject_labels(["case_1", "case1", "CASE1", "sub-case2", "case2", "患者", "病人"]) == {
        "case_1": "sub-case1x3", "case1": "sub-case1", "CASE1": "sub-CASE1x2", "sub-case2": "sub-case2",
        "case2": "sub-case2x2", "患者": "sub-unnamed", "病人": "sub-unnamedx2",
    }  # fmt: skip
    rows = [row(f"v{n}", session=session) for n, session in enumerate(["1.5", "15", "a", "A", "时"])]
    other = {**row("w", session="1.5"), "obs_subject_id": "sub-02"}
    assert [place.session for place in places([*rows, other])] == ["15x2", "15", "a", "Ax2", "unnamed", "15"]
    (one, two) = places([row(f"sub-01_ses-{s}_T1w", session=s) for s in "aA"])
    assert (one.stem, two.stem) == ("sub-01_ses-a_T1w", "sub-01_ses-Ax2_T1w")


def test_subjects_without_volumes_have_labels_of_their_own_too(study, tmp_path) -> None:
    one = np.ones((3, 3, 3), "i2")
    meta = {"obs_subject_id": ["case_1", "case1", "患者", "病人"], "age": [30, 80, 1, 2]}
    export_bids(study({"T1w": {"case_1": one, "患者": one}}, meta), tmp_path / "out")
    assert table_of(tmp_path / "out", "participants.tsv")[1:] == [
        ["sub-case1x2", "case_1", "30"], ["sub-case1", "case1", "80"],
        ["sub-unnamed", "患者", "1"], ["sub-unnamedx2", "病人", "2"],
    ]  # fmt: skip
    again = scan_bids(tmp_path / "out")
    assert {r.obs_subject_id for r in again.rows} == {"sub-case1x2", "sub-unnamed"}
    assert again.obs_meta["age"].to_pylist() == [30, 80, 1, 2]


def test_nothing_is_inherited_from_a_neighbour_that_was_exported_beside(tmp_path) -> None:
    raw, anat, func = tmp_path / "raw", tmp_path / "raw/sub-01/anat", tmp_path / "raw/sub-01/func"
    for stem in ("sub-01_T1w", "sub-01_acq-b_T1w", "sub-01_dseg", "sub-01_desc-vessels_dseg"):
        image(anat / f"{stem}.nii.gz", kind="u1")
    text(anat / "sub-01_T1w.json", {"EchoTime": 0.003})
    text(anat / "sub-01_dseg.tsv", "index\tname\n1\tliver\n")
    for echo in (1, 2):
        image(func / f"sub-01_task-rest_echo-{echo}_bold.nii.gz", (4, 5, 6, 7))
    text(func / "sub-01_task-rest_echo-1_events.tsv", "onset\tduration\n1\t2\n")
    before = study_of(scan_bids(raw), tmp_path / "study", raw)
    export_bids(before, tmp_path / "out")
    rows = {r.obs_id: r for r in scan_bids(tmp_path / "out").rows}
    assert "echo_time" not in rows["sub-01_acq-b_T1w"].columns
    assert rows["sub-01_desc-vessels_dseg"].labels == ()
    assert [len(rows[f"sub-01_task-rest_echo-{echo}_bold"].attachments) for echo in (1, 2)] == [1, 0]
    # files that say nothing stand where another reader would take the neighbour's
    out = tmp_path / "out/sub-01/anat"
    assert json.loads((out / "sub-01_acq-b_T1w.json").read_text()) == {}
    assert (out / "sub-01_desc-vessels_dseg.tsv").read_text() == "index\tname\n"
    assert not (out / "sub-01_dseg.json").exists()


def test_tables_for_which_bids_has_one_name_are_not_dropped(tmp_path) -> None:
    text(tmp_path / "raw/dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    for folder, value in (("a", 1), ("b", 2)):
        func = tmp_path / f"raw/derivatives/{folder}/sub-01/func"
        image(func / f"sub-01_task-rest_desc-{folder}_bold.nii.gz", (4, 5, 6, 7))
        text(func / "sub-01_task-rest_desc-confounds_timeseries.tsv", f"csf\n{value}\n")
    image(tmp_path / "raw/sub-01/anat/sub-01_T1w.nii.gz")
    found = scan_bids(tmp_path / "raw", derivatives=True)
    for row in found.rows:
        row.columns["pipeline"] = row.columns["pipeline"] and "both"
    radi = study_of(found, tmp_path / "study", tmp_path / "raw")
    with pytest.raises(MetadataError, match=r"confounds of 'sub-01_task-rest_desc-b_bold'.*only name"):
        export_bids(radi, tmp_path / "out")


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
