"""Plans: what a folder would become, as a table that is edited, saved, estimated and ingested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject import IngestError, Plan, RadiObject, scan
from radiobject.errors import ConfigError, DuplicateIdError, MetadataError, SourceNotFoundError
from radiobject.ingest.scanning.kinds import detect
from radiobject.ingest.scanning.rows import PlanRow
from radiobject.ingest.scanning.rules import apply_rules, rules_of
from tests.upstream.series import write_series

KEY = "00" * 32


@pytest.fixture
def folder(make_nifti, tmp_path: Path) -> Path:
    """T1w of three subjects and masks of two, as loose files."""
    place = tmp_path / "in"
    for n in (1, 2, 3):
        write(place / f"sub-0{n}_T1w.nii", make_nifti(np.full((4, 3, 2), n, "i2")))
    for n in (1, 2):
        write(place / f"sub-0{n}_seg.nii", make_nifti(np.ones((4, 3, 2), "u1")))
    return place


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_plan_shows_each_future_volume(folder: Path) -> None:
    (folder / "readme.txt").write_text("no image")
    plan = scan(folder)
    assert repr(plan).splitlines() == [
        "Plan of 5 volumes (nifti): 3 T1w, 2 seg (label)", "  1 file left out: not NIfTI",
    ]  # fmt: skip
    row = plan.table.loc["sub-01_T1w.nii"]
    assert [row[c] for c in ("verdict", "collection", "obs_subject_id", "obs_id", "shape", "dtype")] == [
        "ingest", "T1w", "sub-01", "sub-01_T1w", "4x3x2", "int16",
    ]  # fmt: skip
    assert "<table" in plan._repr_html_()


def test_a_plan_becomes_a_study(folder: Path, tmp_path: Path) -> None:
    radi = RadiObject.from_plan(tmp_path / "study", scan(folder), progress=False)
    assert radi.obs_subject_ids == ["sub-01", "sub-02", "sub-03"]
    assert (radi.seg.kind, len(radi.T1w)) == ("label", 3)
    assert radi.T1w.iloc[0].meta.source.exact


def test_what_is_edited_in_the_table_is_what_is_ingested(folder: Path, tmp_path: Path) -> None:
    plan = scan(folder)
    plan.table.loc["sub-03_T1w.nii", "verdict"] = "skip"
    plan.table.loc["sub-02_T1w.nii", ["collection", "session"]] = ["flair", "2"]
    plan.table = plan.table[plan.table["collection"] != "seg"]
    radi = RadiObject.from_plan(tmp_path / "study", plan, progress=False)
    assert {name: radi.collection(name).obs_ids for name in radi} == {
        "T1w": ["sub-01_T1w"], "flair": ["sub-02_flair"],
    }  # fmt: skip
    assert list(radi.flair.obs.read()["session"]) == ["2"]
    noted = [r["message"] for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "noted"]
    assert noted == ["1 of the files: taken out of the plan"]


@pytest.mark.parametrize(
    ("column", "value", "error", "match"),
    [
        ("verdict", "maybe", MetadataError, "verdict"),
        ("kind", "mask", MetadataError, "kind"),
        ("obs_subject_id", "", MetadataError, "obs_subject_id: expected an id"),
        ("obs_id", "sub-01_T1w", DuplicateIdError, "expected one row, got 2"),
        ("run", "first", MetadataError, "run: expected a whole number"),
        ("collection", "", Exception, "collection"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    folder: Path, column: str, value: str, error: type[Exception], match: str
) -> None:
    plan = scan(folder)
    plan.table = plan.table.astype({column: object})
    plan.table.loc["sub-02_T1w.nii", column] = value
    with pytest.raises(error, match=match):
        plan.rows()


def test_a_row_that_nobody_found_is_refused(folder: Path) -> None:
    plan = scan(folder)
    plan.table = plan.table.rename(index={"sub-01_T1w.nii": "sub-09_T1w.nii"})
    with pytest.raises(MetadataError, match=r"sub-09_T1w\.nii"):
        plan.rows()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_plan_is_saved_edited_and_read_again(folder: Path, tmp_path: Path, ending: str) -> None:
    plan = scan(folder)
    plan.table.loc["sub-01_seg.nii", "verdict"] = "skip"
    plan.save(tmp_path / f"plan.{ending}")
    again = Plan.read(tmp_path / f"plan.{ending}")
    assert [(r.path, r.verdict, r.obs_id, r.run) for r in again.rows()] == [
        (r.path, r.verdict, r.obs_id, r.run) for r in plan.rows()
    ]
    (folder / "sub-02_T1w.nii").unlink()
    with pytest.raises(MetadataError, match="scan again"):
        Plan.read(tmp_path / f"plan.{ending}").rows()


def test_a_plan_is_saved_as_a_table_only(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        scan(folder).save(tmp_path / "plan.txt")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MetadataError, match="a plan that was saved"):
        Plan.read(tmp_path / "other.csv")


def test_rules_send_rows_to_collections_and_the_first_match_wins(folder: Path) -> None:
    rules = [
        {"collection": None, "obs_subject_id": "^sub-03$"},
        {"collection": "anat", "stem": "T1w", "kind": "image"},
        {"collection": "other", "stem": "."},
        {"collection": "late", "stem": "seg"},
    ]
    plan = scan(folder, rules=rules)
    assert plan.table["collection"].tolist() == ["anat", "other", "anat", "other", "T1w"]
    assert plan.table["reason"].tolist()[-1] == "a rule leaves it out"
    by_name = scan(folder, rules={"T1w": {"stem": "T1"}}).table
    assert by_name.loc["sub-01_seg.nii", "reason"] == "matches no rule"


def test_a_missing_tag_is_empty_and_rows_that_are_wrong_stay_so() -> None:
    rows = [
        PlanRow("a", "x", "s", "", tags={"task": "rest"}),
        PlanRow("b", "x", "s", "", verdict="error", reason="bad"),
    ]
    apply_rules(rows, rules_of([{"collection": "untasked", "task": "^$"}]))
    assert [(r.collection, r.verdict, r.reason) for r in rows] == [
        ("x", "skip", "matches no rule"), ("untasked", "error", "bad"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rules",
    [
        "T1w",
        [3],
        [{"suffix": "T1w"}],
        [{"collection": "T1w"}],
        [{"collection": "T1w", "suffix": "("}],
        [{"collection": "T1w", "kind": "mask", "suffix": "T1w"}],
    ],
    ids=str,
)
def test_rules_that_say_nothing_are_refused(rules: object) -> None:
    with pytest.raises(ConfigError, match="rules"):
        rules_of(rules)


def test_bad_files_are_seen_in_the_plan_and_fail_in_the_ingest(folder: Path, tmp_path: Path) -> None:
    (folder / "sub-04_T1w.nii").write_bytes(b"no nifti")
    plan = scan(folder)
    assert plan.table.loc["sub-04_T1w.nii", "verdict"] == "error"
    assert "without the NIfTI magic" in plan.table.loc["sub-04_T1w.nii", "reason"]
    with pytest.raises(IngestError, match="1 of 6 sources failed"):
        RadiObject.from_plan(tmp_path / "study", plan, progress=False)
    radi = RadiObject.from_plan(tmp_path / "other", plan, errors="collect", progress=False)
    failed = [r["obs_id"] for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "failed"]
    assert failed == ["sub-04_T1w"]


def test_only_what_failed_is_tried_again(folder: Path, make_nifti, tmp_path: Path) -> None:
    (folder / "sub-04_T1w.nii").write_bytes(b"no nifti")
    radi = RadiObject.from_plan(tmp_path / "study", scan(folder), errors="collect", progress=False)
    (folder / "sub-04_T1w.nii").write_bytes(make_nifti(np.full((4, 3, 2), 4, "i2")))
    radi.ingest(scan(folder), retry_failed=True, progress=False)
    assert radi.T1w.obs_ids[-1] == "sub-04_T1w"
    with pytest.raises(MetadataError, match="at least one row to ingest"):
        radi.ingest(scan(folder), retry_failed=True, progress=False)


def test_a_plan_joins_a_study_and_the_same_plan_again_makes_no_version(folder: Path, tmp_path: Path) -> None:
    radi = RadiObject.from_plan(tmp_path / "study", scan(folder), progress=False)
    version = radi.version
    radi.ingest(scan(folder), on_conflict="skip", progress=False)
    assert radi.version == version


def test_an_estimate_converts_a_sample(folder: Path) -> None:
    found = scan(folder).estimate(sample=2, workers=4)
    assert (found.volumes, found.sample, found.workers) == (5, 2, 4)
    assert found.source_bytes == sum(p.stat().st_size for p in folder.iterdir())
    assert 0 < found.hours < 1
    assert found.study_bytes > 0
    assert "5 volumes" in repr(found)
    with pytest.raises(ConfigError, match="sample"):
        scan(folder).estimate(sample=0)


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["T1w/4711.nii", "seg/4711.nii"], [("T1w", "4711"), ("seg", "4711")]),
        (["x/1.nii", "x/2.nii", "x/3.nii", "y/1.nii"], [("x", "1"), ("x", "2"), ("x", "3"), ("y", "1")]),
        (
            ["a/T1.nii", "b/T1.nii", "a/T2.nii", "b/T2.nii"],
            [("T1", "a"), ("T2", "a"), ("T1", "b"), ("T2", "b")],
        ),
        (["p1_T1w.nii", "p2_T1w.nii", "odd.nii"], [("image", "odd"), ("T1w", "p1"), ("T1w", "p2")]),
        (["deep/er/sub-1_ses-2_run-3_bold.nii.gz"], [("bold", "sub-1")]),
        (["._a.nii", ".hidden/b.nii", "c.nii"], [("image", "c")]),
    ],
)
def test_folders_without_a_standard_are_understood(
    names: list[str], rows: list[tuple[str, str]], make_nifti, tmp_path: Path
) -> None:
    for name in names:
        write(tmp_path / "in" / name, make_nifti(np.ones((2, 2, 2), "i2")))
    table = scan(tmp_path / "in").table
    assert list(zip(table["collection"], table["obs_subject_id"], strict=True)) == rows


def test_layouts_are_known_by_their_files(tmp_path: Path) -> None:
    for name, files in {
        "bids": {"dataset_description.json": "{}"}, "msd": {"dataset.json": '{"modality": {}}'},
        "nnunet": {"dataset.json": '{"channel_names": {}}'}, "nifti": {"a.nii": ""},
    }.items():  # fmt: skip
        for file, text in files.items():
            write(tmp_path / name / file, text.encode())
        assert detect(str(tmp_path / name)) == name
    write(tmp_path / "loose" / "sub-01" / "anat" / "sub-01_T1w.nii", b"")
    assert detect(str(tmp_path / "loose")) == "bids"
    with pytest.raises(SourceNotFoundError):
        scan(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="kind="):
        scan(tmp_path / "nifti", kind="niftis")
    with pytest.raises(ConfigError, match="its own options"):
        scan(tmp_path / "nifti", deid_key=KEY)


def test_dicom_is_planned_with_its_descriptions_which_stay_outside(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    write_series(tmp_path / "in" / "a", SeriesNumber=1)
    write_series(tmp_path / "in" / "b", SeriesNumber=2, SeriesDescription="scout of Jane", Modality="MR")
    write_series(tmp_path / "in" / "c", (0.0, 2.5, 7.5), SeriesNumber=3)
    rules = [{"collection": "thorax", "SeriesDescription": "(?i)THORAX"}]
    plan = scan(tmp_path / "in", rules=rules, deid_key=KEY)
    assert plan.table["verdict"].tolist() == ["ingest", "skip", "error"]
    assert plan.table["SeriesDescription"].tolist()[:2] == ["thorax of Jane", "scout of Jane"]
    assert plan.table["shape"].tolist()[0] == "4x5x3"
    radi = RadiObject.from_plan(tmp_path / "study", plan, errors="collect", progress=False)
    assert len(radi.thorax) == 1
    assert "series_description" not in radi.thorax.obs.columns
    # the same series again keeps its id, another one gets a free one
    write_series(tmp_path / "in" / "d", SeriesNumber=4)
    radi.ingest(
        scan(tmp_path / "in", rules=rules, deid_key=KEY), on_conflict="skip", errors="collect", progress=False
    )
    assert [i.split("_", 1)[1] for i in radi.thorax.obs_ids] == ["thorax", "thorax_acq-1"]
    with pytest.raises(MetadataError, match="another subject"):
        radi.ingest(scan(tmp_path / "in" / "d", deid_key="11" * 32), progress=False)
