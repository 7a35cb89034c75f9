"""Sidecars: which files speak of an image, where pybids agrees, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import bids
import pytest

from radiobject.format.acquisition import metadata_of
from radiobject.ingest.scanning.bids import scan_bids
from radiobject.ingest.scanning.rows import PlanRow
from tests.ingest.layout_trees import image, text


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    text(root / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    return root


def rows_of(root: Path, derivatives: bool = False) -> dict[str, PlanRow]:
    return {row.obs_id: row for row in scan_bids(root, derivatives=derivatives).rows}


def attached(row: PlanRow) -> dict[str, str]:
    return {name: os.path.basename(path) for name, path in row.attachments.items()}


@pytest.mark.parametrize("ignored", [False, True])
def test_an_image_beside_does_not_inherit_what_is_anothers_own(raw, ignored) -> None:
    anat = raw / "sub-01/anat"
    for stem in ("sub-01_T1w", "sub-01_acq-b_T1w"):
        image(anat / f"{stem}.nii.gz")
    text(anat / "sub-01_T1w.json", {"EchoTime": 0.003, "FlipAngle": 8})
    text(anat / "sub-01_acq-b_T1w.json", {"FlipAngle": 9})
    if ignored:
        text(raw / ".bidsignore", "sub-01_T1w.nii.gz\n")
    columns = rows_of(raw)["sub-01_acq-b_T1w"].columns
    assert (columns["flip_angle"], columns.get("echo_time")) == (9.0, None)
    # pybids lets every file of the folder speak whose entities the image has, its neighbour's own too
    theirs = bids.BIDSLayout(raw).get_metadata(anat / "sub-01_acq-b_T1w.nii.gz")
    assert theirs == {"EchoTime": 0.003, "FlipAngle": 9}


def test_what_is_no_images_own_is_inherited_by_those_it_fits_as_pybids_has_it(raw) -> None:
    func = raw / "sub-01/func"
    for echo in (1, 2):
        image(func / f"sub-01_task-rest_echo-{echo}_bold.nii.gz", (4, 5, 6, 7))
    text(func / "sub-01_bold.json", {"FlipAngle": 8})
    text(func / "sub-01_task-rest_bold.json", {"RepetitionTime": 2.5})
    text(func / "sub-01_task-rest_echo-2_bold.json", {"EchoTime": 0.3})
    rows, layout = rows_of(raw), bids.BIDSLayout(raw)
    shared = {"FlipAngle": 8, "RepetitionTime": 2.5}
    for echo, said in ((1, shared), (2, shared | {"EchoTime": 0.3})):
        row = rows[f"sub-01_task-rest_echo-{echo}_bold"]
        assert metadata_of(row.columns) == layout.get_metadata(row.path) == said


def test_of_several_in_one_folder_the_one_that_says_most_wins(raw) -> None:
    func = raw / "sub-01/func"
    image(func / "sub-01_task-rest_echo-1_bold.nii.gz", (4, 5, 6, 7))
    for stem, time in (("sub-01_bold", 0.1), ("sub-01_task-rest_bold", 0.2)):
        text(func / f"{stem}.json", {"EchoTime": time})
    (row,) = rows_of(raw).values()
    assert row.columns["echo_time"] == 0.2
    # BIDS forbids this; pybids takes the first by name
    assert bids.BIDSLayout(raw).get_metadata(row.path)["EchoTime"] == 0.1


def test_an_image_further_down_inherits_from_a_folder_above(raw) -> None:
    image(raw / "sub-01/sub-01_T1w.nii.gz")
    image(raw / "sub-01/anat/sub-01_acq-b_T1w.nii.gz")
    text(raw / "sub-01/sub-01_T1w.json", {"FlipAngle": 8})
    assert rows_of(raw)["sub-01_acq-b_T1w"].columns["flip_angle"] == 8.0


def test_gradients_and_names_of_labels_are_not_a_neighbours(raw) -> None:
    dwi, anat = raw / "sub-01/dwi", raw / "sub-01/anat"
    for stem in ("sub-01_dwi", "sub-01_dir-AP_dwi"):
        image(dwi / f"{stem}.nii.gz", (4, 5, 6, 2))
    text(dwi / "sub-01_dwi.bval", "0 1000\n")
    text(raw / "dwi.bvec", "0 1\n0 0\n1 0\n")
    for stem in ("sub-01_dseg", "sub-01_desc-vessels_dseg"):
        image(anat / f"{stem}.nii.gz", kind="u1")
    text(anat / "sub-01_dseg.tsv", "index\tname\n1\tliver\n")
    rows = rows_of(raw)
    assert attached(rows["sub-01_dwi"]) == {"bval": "sub-01_dwi.bval", "bvec": "dwi.bvec"}
    assert attached(rows["sub-01_dir-AP_dwi"]) == {"bvec": "dwi.bvec"}
    assert [len(rows[f"sub-01_{n}dseg"].labels) for n in ("", "desc-vessels_")] == [1, 0]


def test_tables_of_a_run_are_not_another_runs_and_are_all_its_echoes(raw) -> None:
    func, stem = raw / "sub-01/func", "sub-01_task-rest"
    for more in ("", "_part-phase", "_run-2"):
        image(func / f"{stem}{more}_bold.nii.gz", (4, 5, 6, 7))
    text(func / f"{stem}_events.tsv", "onset\tduration\n1\t2\n")
    text(func / f"{stem}_desc-confounds_timeseries.tsv", "csf\n1.5\n")
    rows = rows_of(raw)
    own = {"events": f"{stem}_events.tsv", "confounds": f"{stem}_desc-confounds_timeseries.tsv"}
    found = [attached(rows[f"{stem}{more}_bold"]) for more in ("", "_part-phase", "_run-2")]
    assert found == [own, own, {}]


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("sub-01_T1w", "sub-01_T1w.json"),
        ("sub-01_dseg", "sub-01_dseg.tsv"),
        ("sub-01_task-rest_bold", "sub-01_task-rest_events.tsv"),
    ],
)
def test_a_sidecar_that_leads_out_of_the_data_set_is_wrong_and_not_read(raw, tmp_path, stem, name) -> None:
    at = raw / "sub-01/anat"
    image(at / f"{stem}.nii.gz")
    text(tmp_path / "home/secret", '{"EchoTime": 0.003}')
    (at / name).symlink_to(tmp_path / "home/secret")
    row = rows_of(raw)[stem]
    assert (row.verdict, row.attachments, row.labels) == ("error", {}, ())
    assert "echo_time" not in row.columns
    assert name in row.reason
    assert "outside" in row.reason


def test_a_folder_of_a_subject_may_be_a_link_to_another_disk(raw, tmp_path) -> None:
    image(tmp_path / "disk/sub-01/anat/sub-01_T1w.nii.gz")
    text(tmp_path / "disk/sub-01/anat/sub-01_T1w.json", {"FlipAngle": 8})
    (raw / "sub-01").symlink_to(tmp_path / "disk/sub-01")
    row = rows_of(raw)["sub-01_T1w"]
    assert (row.verdict, row.columns["flip_angle"]) == ("ingest", 8.0)


def test_links_of_datalad_lead_into_the_data_set_also_from_its_derivatives(raw) -> None:
    annex = raw / ".git/annex/objects/a/MD5E-1"
    text(annex / "T1w.json", {"FlipAngle": 8})
    text(annex / "events.tsv", "onset\tduration\n1\t2\n")
    image(raw / "sub-01/func/sub-01_task-rest_bold.nii.gz", (4, 5, 6, 7))
    (raw / "sub-01/func/sub-01_task-rest_events.tsv").symlink_to(
        "../../.git/annex/objects/a/MD5E-1/events.tsv"
    )
    made = raw / "derivatives/prep/sub-01/anat"
    image(made / "sub-01_desc-x_T1w.nii.gz")
    (made / "sub-01_desc-x_T1w.json").symlink_to("../../../../.git/annex/objects/a/MD5E-1/T1w.json")
    linked = raw.parent / "linked"
    linked.symlink_to(raw)
    for root in (raw, linked):
        rows = rows_of(root, derivatives=True)
        assert [row.verdict for row in rows.values()] == ["ingest", "ingest"]
        assert "events" in rows["sub-01_task-rest_bold"].attachments
        assert rows["sub-01_desc-x_T1w"].columns["flip_angle"] == 8.0
