"""BIDS data sets as rows: what pybids finds, and what becomes of it in a study."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bids
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.errors import SourceCorruptError, SourceNotFoundError
from radiobject.format.acquisition import COLUMNS, columns_of, metadata_of
from radiobject.format.meta import Label
from radiobject.ingest.metadata import obs_of_rows
from radiobject.ingest.scanning.bids import scan_bids
from radiobject.ingest.scanning.rows import Found, PlanRow
from radiobject.ingest.scanning.tsv import read_tsv, typed
from tests.ingest.layout_trees import bids_tree, image, study_of, text

# pybids' long names of entities
LONG = {
    "sub": "subject", "ses": "session", "acq": "acquisition", "ce": "ceagent", "dir": "direction",
    "rec": "reconstruction", "desc": "desc",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return bids_tree(tmp_path / "tree")


def by_id(found: Found) -> dict[str, PlanRow]:
    return {row.obs_id: row for row in found.rows}


@pytest.mark.parametrize("derivatives", [False, True])
@pytest.mark.parametrize("name", ["synthetic", "tree"])
def test_files_entities_and_metadata_agree_with_pybids(name, derivatives, request) -> None:
    root = request.getfixturevalue("real_data") / "bids/synthetic" if name == "synthetic" else None
    root = root or request.getfixturevalue("tree")
    layout = bids.BIDSLayout(root, derivatives=derivatives)
    theirs = {f.path: f for f in layout.get(extension=[".nii", ".nii.gz"])}
    ours = {row.path: row for row in scan_bids(root, derivatives=derivatives).rows}
    assert len(ours) >= (8 if name == "tree" else 40)
    assert sorted(ours) == sorted(theirs)
    for path, row in ours.items():
        said = {k: v for k, v in theirs[path].get_entities().items() if k != "extension"}
        tags = {LONG.get(k, k): v for k, v in row.tags.items() if k != "pipeline"}
        assert tags == {k: str(v) if k != "run" else row.tags["run"] for k, v in said.items()}
        assert row.run == said.get("run")
        assert metadata_of(row.columns) == layout.get_metadata(path)


def test_every_volume_has_an_id_of_its_own(tree, real_data) -> None:
    for root in (tree, real_data / "bids/synthetic"):
        ids = [row.obs_id for row in scan_bids(root, derivatives=True).rows]
        assert len(ids) == len(set(ids))
    rows = by_id(scan_bids(tree, derivatives=True))
    assert rows["sub-02_acq-fast_ce-gad_T1w"].columns["pipeline"] is None
    assert rows["sub-02_acq-fast_ce-gad_T1w_prep"].columns["pipeline"] == "prep"


def test_rows_say_what_names_sidecars_and_tables_say(tree) -> None:
    rows = by_id(scan_bids(tree))
    t1 = rows["sub-01_ses-1_T1w"]
    assert (t1.collection, t1.obs_subject_id, t1.session, t1.run) == ("T1w", "sub-01", "1", None)
    assert t1.acquisition_time == datetime.datetime(2020, 1, 1, 10)  # noqa: DTZ001 - obs has no zones
    assert t1.columns == {
        "datatype": "anat", "pipeline": None, "manufacturer": "Siemens", "magnetic_field_strength": 3.0,
        "manufacturer_model_name": "Prisma", "echo_time": 0.003,
        "sidecar": '{"Note": "subject", "FlipAngle": [2, 10]}',
        "scan_quality": 0.5, "session_pressure": 112, "session_acq_time": "2020-01-01",
    }  # fmt: skip
    assert [rows[f"sub-01_ses-1_task-rest_run-0{n}_bold"].columns["repetition_time"] for n in (1, 2)] == [
        2.0,
        9.5,
    ]
    assert rows["sub-01_ses-2_task-rest_run-01_bold"].columns["repetition_time"] == 3.0
    assert rows["sub-02_task-rest_echo-2_bold"].columns["echo"] == 2
    assert rows["sub-02_acq-fast_ce-gad_T1w"].columns["ce"] == "gad"


@pytest.mark.parametrize(
    ("said", "hour", "kept"),
    [
        ("2020-01-01T10:00:00+02:00", 8, None),
        ("in the morning", None, "in the morning"),
        ("0001-01-01T00:00:00+10:00", None, "0001-01-01T00:00:00+10:00"),
    ],
)
def test_times_are_without_zone_and_what_is_no_time_stays_a_text(tree, said, hour, kept) -> None:
    text(
        tree / "sub-01/ses-1/sub-01_ses-1_scans.tsv",
        f"filename\tacq_time\nanat/sub-01_ses-1_T1w.nii.gz\t{said}\n",
    )
    row = by_id(scan_bids(tree))["sub-01_ses-1_T1w"]
    assert (row.acquisition_time and row.acquisition_time.hour) == hour
    assert row.columns.get("scan_acq_time") == kept


@pytest.mark.parametrize(
    "content", ["index\tname\n1\ta\n1\tb\n", "index\tname\nn/a\ta\n", "index\tname\n1.5\ta\n"]
)
def test_a_table_of_labels_that_is_wrong_makes_its_images_wrong(tree, content) -> None:
    text(tree / "derivatives/prep/desc-aseg_dseg.tsv", content)
    row = by_id(scan_bids(tree, derivatives=True))["sub-02_desc-aseg_dseg"]
    assert row.verdict == "error"
    assert "desc-aseg_dseg.tsv" in row.reason


def test_of_two_sidecars_in_one_folder_the_one_that_says_more_wins(tree) -> None:
    text(tree / "bold.json", {"RepetitionTime": 7.0, "FlipAngle": 80})
    row = by_id(scan_bids(tree))["sub-02_task-rest_echo-1_bold"]
    assert (row.columns["repetition_time"], row.columns["flip_angle"]) == (2.0, 80.0)


def test_participants_are_subjects_with_numbers_as_numbers(tree) -> None:
    assert scan_bids(tree).obs_meta.to_pylist() == [
        {"obs_subject_id": "sub-02", "age": 41, "site": "01", "dx": None},
        {"obs_subject_id": "sub-03", "age": None, "site": "02", "dx": "AD"},
        {"obs_subject_id": "sub-01", "age": None, "site": None, "dx": None},
    ]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", None, "-20"], [1, None, -20]), (["1", "2.5"], [1.0, 2.5]), ([".5", "1e-3"], [0.5, 0.001]),
        (["1", "007"], ["1", "007"]), (["1" * 20], ["1" * 20]), (["1", "x"], ["1", "x"]), ([None], [None]),
        (["."], ["."]), (["-"], ["-"]), (["e5"], ["e5"]), (["nan"], ["nan"]), (["1_0"], ["1_0"]),
    ],
)  # fmt: skip
def test_a_column_is_of_numbers_where_all_its_cells_are(cells, values) -> None:
    found = typed(cells)
    assert list(found) == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_tables_may_come_from_windows_and_have_short_lines(tmp_path) -> None:
    (tmp_path / "a.tsv").write_bytes("\ufeffa\tb\t\r\n1\r\n\r\nx\u2028y\tN/A\t\r\n".encode())
    assert read_tsv(str(tmp_path / "a.tsv")) == [{"a": "1", "b": None}, {"a": "x\u2028y", "b": None}]


def test_the_nearest_table_and_gradients_are_attached(tree) -> None:
    text(tree / "derivatives/prep/sub-02/func/sub-02_task-rest_desc-aroma_timeseries.tsv", "ic\n1\n")
    rows = by_id(scan_bids(tree, derivatives=True))

    def attached(obs_id: str) -> dict[str, str]:
        return {k: os.path.relpath(p, tree) for k, p in rows[obs_id].attachments.items()}

    assert attached("sub-02_dir-AP_dwi") == {"bval": "dwi.bval", "bvec": "dwi.bvec"}
    assert attached("sub-01_ses-1_task-rest_run-01_bold") == {"events": "task-rest_events.tsv"}
    own = "sub-01/ses-1/func/sub-01_ses-1_task-rest_run-02_events.tsv"
    assert attached("sub-01_ses-1_task-rest_run-02_bold") == {"events": own}
    table = "derivatives/prep/sub-02/func/sub-02_task-rest_desc-confounds_timeseries.tsv"
    assert attached("sub-02_task-rest_space-MNI_desc-preproc_bold") == {"confounds": table}
    assert attached("sub-01_ses-1_T1w") == {}


def test_a_study_keeps_voxels_columns_attachments_and_labels(tree, tmp_path) -> None:
    radi = study_of(scan_bids(tree, derivatives=True), tmp_path / "study", tree)
    assert sorted(radi.collection_names) == ["T1w", "bold", "dseg", "dwi"]
    assert radi.obs_meta.read()["obs_subject_id"].to_list() == ["sub-02", "sub-03", "sub-01"]
    dwi = radi.dwi.iloc[0]
    assert dwi.shape == (4, 5, 6, 3)
    assert dwi.extra("bval") == b"0 1000 1000\n"
    assert radi.bold.loc["sub-02_task-rest_echo-1_bold"].extra("events") == b"onset\tduration\n1.0\t2.0\n"
    assert radi.dseg.kind == "label"
    assert radi.dseg.iloc[0].meta.labels == (
        Label(1, "grey", (255, 0, 0, 255)), Label(2, "white", (0, 255, 0, 128)),
    )  # fmt: skip
    frame = radi.bold.obs.read(columns=["obs_id", "task", "echo", "repetition_time", "session", "run"])
    row = frame.set_index("obs_id").loc["sub-01_ses-1_task-rest_run-02_bold"]
    assert row.to_dict() | {"echo": None} == {
        "task": "rest", "echo": None, "repetition_time": 9.5, "session": "1", "run": 2,
    }  # fmt: skip


def test_what_is_no_image_is_counted_and_what_is_not_there_is_wrong(tree) -> None:
    anat, func = tree / "sub-02/anat", tree / "sub-02/func"
    text(tree / ".bidsignore", "*_inplaneT2.nii.gz\n**/extra/\n")
    image(anat / "sub-02_inplaneT2.nii.gz")
    image(tree / "sub-02/extra/sub-02_T2w.nii.gz")
    (anat / "._sub-02_T1w.nii.gz").write_bytes(b"\0" * 99)
    image(anat / "T1w.nii.gz")
    image(anat / "sub-02_T1w.v2.nii.gz")
    text(func / "sub-02_task-rest_physio.tsv.gz", "x")
    (anat / "sub-02_FLAIR.nii.gz").touch()
    (anat / "sub-02_PDw.nii.gz").symlink_to("../../.git/annex/objects/a/b/MD5E-s1--x.nii.gz")
    text(anat / "sub-02_T2star.nii.gz", "/annex/objects/MD5E-s1--x.nii.gz\n")
    text(anat / "sub-02_T2map.nii.gz", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    image(anat / "sub-01_T2w.nii.gz")
    image(anat / "sub-02_acq-fast_ce-gad_T1w.nii.gz")
    found = scan_bids(tree)
    assert found.skipped == {
        "named in .bidsignore": 2, "macOS ._ files": 1, "NIfTI files not named as BIDS says": 2,
        "func files that are no images": 1, "beh files, which are no images": 1,
        "data sets below derivatives, which derivatives=True takes": 1,
    }  # fmt: skip
    wrong = {os.path.basename(row.path): row.reason for row in found.rows if row.verdict == "error"}
    assert wrong == {
        "sub-02_FLAIR.nii.gz": "empty file: 0 bytes",
        "sub-02_PDw.nii.gz": "a link to nowhere: its content is not here (datalad get)",
        "sub-02_T2star.nii.gz": "a git-annex pointer: its content is not here (datalad get)",
        "sub-02_T2map.nii.gz": "a Git LFS pointer: its content is not here (git lfs pull)",
        "sub-01_T2w.nii.gz": "subject sub-01 in folder sub-02",
        "sub-02_acq-fast_ce-gad_T1w.nii.gz": "same name: another file of the data set has it too",
    }


def test_gradients_that_were_not_fetched_are_wrong_and_empty_ones_are_none(tree) -> None:
    (tree / "dwi.bval").unlink()
    (tree / "dwi.bval").symlink_to("nowhere")
    row = by_id(scan_bids(tree))["sub-02_dir-AP_dwi"]
    assert (row.verdict, row.reason) == (
        "error", "bval: a link to nowhere: its content is not here (datalad get)",
    )  # fmt: skip
    (tree / "dwi.bval").unlink()
    (tree / "dwi.bval").touch()
    row = by_id(scan_bids(tree))["sub-02_dir-AP_dwi"]
    assert (row.verdict, list(row.attachments)) == ("ingest", ["bvec"])


@pytest.mark.parametrize(
    "content",
    [b"{not json", b"[1]", b"[" * 100_000, b"\xff", b'{"a": "\\ud800"}'],
    ids=["text", "list", "deep", "bytes", "half a character"],
)
def test_a_sidecar_that_cannot_be_read_makes_its_images_wrong(tree, content) -> None:
    (tree / "T1w.json").write_bytes(content)
    rows = scan_bids(tree).rows
    assert {row.collection for row in rows if row.verdict == "error"} == {"T1w"}
    assert all("T1w.json" in row.reason for row in rows if row.verdict == "error")


@pytest.mark.parametrize(
    "content", ["participant_id\tage\nsub-01\t4\t5\n", "participant_id\tage\tage\n", "participant_id\nn/a\n"]
)
def test_a_table_of_subjects_that_cannot_be_read_ends_the_scan(tree, content) -> None:
    text(tree / "participants.tsv", content)
    with pytest.raises(SourceCorruptError, match=r"participants\.tsv"):
        scan_bids(tree)


def test_a_folder_may_have_a_dot_in_its_name_and_is_read_anew_each_time(tree, tmp_path) -> None:
    moved = tree.rename(tmp_path / "ds000030_R1.0.4")
    before = by_id(scan_bids(moved))["sub-02_dir-AP_dwi"].columns
    text(moved / "dwi.json", {"EchoTime": 0.09})
    assert "echo_time" not in before
    assert by_id(scan_bids(moved))["sub-02_dir-AP_dwi"].columns["echo_time"] == 0.09


def test_entities_that_the_schema_does_not_know_are_columns_too(tree) -> None:
    image(tree / "sub-02/anat/sub-02_foo-bar_dtype-x_run-a_T2w.nii.gz")
    row = by_id(scan_bids(tree))["sub-02_foo-bar_dtype-x_run-a_T2w"]
    assert (row.columns["foo"], row.columns["entity_dtype"], row.run) == ("bar", "x", None)
    assert "run" not in row.columns
    assert row.tags["run"] == "a"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@settings(max_examples=50, deadline=None)
@given(said=st.dictionaries(st.sampled_from([key for key, _ in COLUMNS.values()]), VALUES))
def test_whatever_a_sidecar_says_fits_a_table_and_comes_back(said) -> None:
    for metadata in (said, {"SeriesNumber": 10**30, "EchoTime": 10**400}):
        table = obs_of_rows([{"obs_subject_id": "s", "obs_id": "i", **columns_of(metadata)}])
        found = metadata_of(table.to_pylist()[0])
        assert found.keys() == metadata.keys()
        # a number may come back as a float, and NaN equals nothing
        assert all(found[k] == v or (found[k] != found[k] and v != v) for k, v in metadata.items())


def test_truth_is_no_number() -> None:
    assert columns_of({"EchoTime": True}) == {"sidecar": '{"EchoTime": true}'}


def test_numbers_that_no_column_holds_are_left_to_the_name(tree) -> None:
    image(tree / f"sub-02/anat/sub-02_run-{'9' * 20}_echo-{'9' * 12}_T2w.nii.gz")
    row = by_id(scan_bids(tree))[f"sub-02_run-{'9' * 20}_echo-{'9' * 12}_T2w"]
    assert (row.run, row.columns.get("echo")) == (None, None)


def test_a_folder_without_subjects_is_no_data_set(tmp_path) -> None:
    text(tmp_path / "dataset_description.json", {"Name": "x"})
    with pytest.raises(SourceNotFoundError, match="sub-<label>"):
        scan_bids(tmp_path)


def test_links_that_lead_back_end(tree) -> None:
    (tree / "sub-02" / "loop").symlink_to(tree / "sub-02")
    assert len(scan_bids(tree).rows) == 10


def test_without_bids2table_the_error_says_what_to_install(tree) -> None:
    code = (
        "import sys; sys.modules['bids2table'] = None\n"
        "from radiobject.ingest.scanning.bids import scan_bids\n"
        "from radiobject.errors import MissingDependencyError\n"
        f"try: scan_bids({str(tree)!r})\nexcept MissingDependencyError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "radiobject-zarr[bids]"' in out.stdout


def test_a_scan_reads_no_voxels(tree, monkeypatch) -> None:
    opened: list[Any] = []
    real = open

    def noted(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return real(file, *args, **kwargs)

    big = tree / "sub-02/anat/sub-02_T2w.nii.gz"
    image(big, (20, 20, 20))
    assert big.stat().st_size > 1024
    monkeypatch.setattr("builtins.open", noted)
    scan_bids(tree)
    assert any(name.endswith("T1w.json") for name in opened)
    assert str(big) not in opened
