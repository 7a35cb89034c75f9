"""Plans that run a second time, and what their ledger says of files that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiobject import IngestError, RadiObject, scan
from radiobject.ingest.unreadable import without_folders, without_paths
from tests.ingest.layout_trees import image, text


def test_names_of_labels_that_were_corrected_are_in_every_volume_of_a_resumed_run(tmp_path: Path) -> None:
    task = tmp_path / "Task01"
    for case in ("a", "b"):
        image(task / f"imagesTr/{case}.nii.gz", seed=1)
        image(task / f"labelsTr/{case}.nii.gz", seed=2, kind="u1")
    training = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in "ab"]
    said = {"modality": {"0": "CT"}, "training": training, "test": []}
    whole = (task / "imagesTr/b.nii.gz").read_bytes()
    (task / "imagesTr/b.nii.gz").write_bytes(whole[:60])
    text(task / "dataset.json", {**said, "labels": {"0": "bg", "1": "tumour", "2": "liver"}})
    with pytest.raises(IngestError):
        RadiObject.from_plan(tmp_path / "s", scan(task), progress=False)
    (task / "imagesTr/b.nii.gz").write_bytes(whole)
    text(task / "dataset.json", {**said, "labels": {"0": "bg", "1": "liver", "2": "tumour"}})
    radi = RadiObject.from_plan(tmp_path / "s", scan(task), resume=True, progress=False)
    names = [[label.name for label in volume.meta.labels][:3] for volume in radi.collection("seg")]
    assert names == [["bg", "liver", "tumour"]] * 2
    outcomes = radi.ledger.read().set_index("obs_id")["outcome"]
    assert (outcomes["a_CT"], outcomes["a_seg"]) == ("resumed", "ingested")


@pytest.mark.parametrize("broken", ["sidecar", "table"])
def test_a_failure_over_a_file_further_up_is_kept_without_its_folders(tmp_path: Path, broken: str) -> None:
    root = tmp_path / "Doe_John_1950" / "raw"
    text(root / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    text(root / "task-rest_bold.json", "{broken" if broken == "sidecar" else {})
    text(root / "task-rest_events.tsv", "onset\tduration\n1\t2\n")
    image(root / "sub-01/func/sub-01_task-rest_bold.nii.gz", (4, 5, 6, 7))
    image(root / "sub-01/anat/sub-01_T1w.nii.gz")
    plan = scan(root)
    if broken == "table":
        (root / "task-rest_events.tsv").unlink()
    radi = RadiObject.from_plan(tmp_path / "s", plan, errors="collect", progress=False)
    (message,) = (m for m in radi.ledger.to_arrow()["message"].to_pylist() if m)
    assert {"sidecar": "task-rest_bold.json", "table": "task-rest_events.tsv"}[broken] in message
    assert "Doe" not in message


def test_every_folder_above_a_file_is_taken_out_of_a_text() -> None:
    said = "/a/Doe/x.json: beside /a/Doe/sub/y.nii, no data"
    assert without_folders(said, ["/a/Doe/sub/y.nii"]) == "x.json: beside y.nii, no data"
    assert without_folders("no data: data/y.nii", ["data/y.nii"]) == "no data: y.nii"
    assert without_paths(said, ["/a/Doe/sub/y.nii"]) == "a folder/x.json: beside a file, no data"
