"""Folders as BIDS, MSD and nnU-Net have them, written file by file, and studies of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from radiobject import RadiObject
from radiobject.ingest.scanning.plan import Plan
from radiobject.ingest.scanning.rows import Found
from radiobject.ingest.scanning.running import ingest_plan

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1]])


def image(path: Path, shape: Sequence[int] = (4, 5, 6), seed: int = 0, kind: str = "i2") -> None:
    """A NIfTI file of random values, one to 99; of label maps (u1) 0 to 3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    top = 4 if kind == "u1" else 100
    values = np.random.default_rng(seed).integers(kind == "i2", top, tuple(shape)).astype(kind)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)


def text(path: Path, content: str | Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def bids_tree(root: Path) -> Path:
    """Two subjects, one with two sessions; sidecars at every level; a pipeline's derivatives."""
    text(root / "dataset_description.json", {"Name": "tree", "BIDSVersion": "1.10.0"})
    text(
        root / "participants.tsv", "participant_id\tage\tsite\tdx\nsub-02\t41\t01\tn/a\nsub-03\tn/a\t02\tAD\n"
    )
    text(root / "T1w.json", {"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "Note": "root"})
    text(root / "task-rest_bold.json", {"TaskName": "rest", "RepetitionTime": 2.0, "EchoTime": 0.03})
    text(root / "task-rest_events.tsv", "onset\tduration\n1.0\t2.0\n")
    text(root / "dwi.bval", "0 1000 1000\n")
    text(root / "dwi.bvec", "0 1 0\n0 0 1\n0 0 0\n")
    for ses in ("1", "2"):
        at, stem = root / "sub-01" / f"ses-{ses}", f"sub-01_ses-{ses}"
        image(at / "anat" / f"{stem}_T1w.nii.gz", seed=int(ses))
        for run in ("01", "02"):
            image(at / "func" / f"{stem}_task-rest_run-{run}_bold.nii.gz", (4, 5, 6, 7), 10 + int(run))
        text(at / f"{stem}_task-rest_bold.json", {"RepetitionTime": 1.0 + int(ses), "SliceTiming": [0, 0.5]})
    text(root / "sub-01" / "sub-01_T1w.json", {"Note": "subject", "ManufacturersModelName": "Prisma"})
    anat, func = root / "sub-01/ses-1/anat", root / "sub-01/ses-1/func"
    text(anat / "sub-01_ses-1_T1w.json", {"EchoTime": 0.003, "FlipAngle": [2, 10]})
    text(func / "sub-01_ses-1_task-rest_run-02_bold.json", {"RepetitionTime": 9.5})
    text(func / "sub-01_ses-1_task-rest_run-02_events.tsv", "onset\tduration\n5.0\t6.0\n")
    text(
        root / "sub-01/sub-01_sessions.tsv",
        "session_id\tpressure\tacq_time\nses-1\t112\t2020-01-01\nses-2\tn/a\t2021-01-01\n",
    )
    text(
        root / "sub-01/ses-1/sub-01_ses-1_scans.tsv",
        "filename\tacq_time\tquality\nanat/sub-01_ses-1_T1w.nii.gz\t2020-01-01T10:00:00\t0.5\n"
        "func/sub-01_ses-1_task-rest_run-01_bold.nii.gz\tn/a\t1\n",
    )
    two = root / "sub-02"
    image(two / "anat/sub-02_acq-fast_ce-gad_T1w.nii", seed=21)
    image(two / "dwi/sub-02_dir-AP_dwi.nii.gz", (4, 5, 6, 3), 22)
    for echo in (1, 2):
        image(two / f"func/sub-02_task-rest_echo-{echo}_bold.nii.gz", (4, 5, 6, 7), 23 + echo)
    text(two / "func/sub-02_task-rest_echo-2_bold.json", {"EchoTime": 0.06})
    text(two / "beh/sub-02_task-rest_beh.tsv", "trial\n1\n")
    made = root / "derivatives" / "prep"
    said = {"Name": "prep", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    text(made / "dataset_description.json", said | {"GeneratedBy": [{"Name": "prep"}]})
    text(made / "desc-aseg_dseg.tsv", "index\tname\tcolor\n1\tgrey\t#ff0000\n2\twhite\t#00ff0080\n")
    image(made / "sub-02/anat/sub-02_desc-aseg_dseg.nii.gz", seed=31, kind="u1")
    image(made / "sub-02/anat/sub-02_acq-fast_ce-gad_T1w.nii.gz", seed=32)
    func = made / "sub-02/func"
    image(func / "sub-02_task-rest_space-MNI_desc-preproc_bold.nii.gz", (4, 5, 6, 7), 33)
    text(func / "sub-02_task-rest_space-MNI_desc-preproc_bold.json", {"Sources": ["bids:raw:x"]})
    text(func / "sub-02_task-rest_desc-confounds_timeseries.tsv", "csf\n1.5\n")
    return root


def study_of(found: Found, uri: Path, root: Path) -> RadiObject:
    """The study that the rows of a layout become."""
    ingest_plan(str(uri), Plan(str(root), found))
    return RadiObject(uri)
