"""Folders of every layout, registered where they lie, are kept, turned and stored as an ingest would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import radiobject
from radiobject import RadiObject, Volume

from .dicom_series import save, slices
from .layout_trees import AFFINE, bids_tree, image, text

NAMES = {"background": 0, "tumour": 1, "edge": 2}
SAID = {"modality": {"0": "T1", "1": "FLAIR"}, "labels": {str(n): name for name, n in NAMES.items()}}


def loose(root: Path) -> Path:
    for number, ending in enumerate(("nii", "nii.gz")):
        image(root / f"T1w/sub-{number}_T1w.{ending}", seed=number)
        image(root / f"seg/sub-{number}_seg.{ending}", seed=number, kind="u1")
    return root


def bids(root: Path) -> Path:
    """Gradients, events, confounds and names of labels, beside files of both kinds."""
    bids_tree(root)
    image(root / "sub-03/dwi/sub-03_dwi.nii", (4, 5, 6, 3), 41)
    return root


def msd(root: Path) -> Path:
    """Two modalities in each file."""
    cases = []
    for number, ending in enumerate(("nii", "nii.gz", "img", "img.gz")):
        names = {"image": f"imagesTr/c{number}.{ending}", "label": f"labelsTr/c{number}.nii.gz"}
        values = np.random.default_rng(number).normal(size=(4, 5, 6, 2)).astype("f4")
        (root / "imagesTr").mkdir(parents=True, exist_ok=True)
        kind: Any = nibabel.Nifti1Pair if "img" in ending else nibabel.Nifti1Image
        nibabel.save(kind(values, AFFINE), root / names["image"])
        image(root / names["label"], seed=number, kind="u1")
        cases.append(names)
    text(root / "dataset.json", {**SAID, "training": cases, "test": []})
    return root


def nnunet(root: Path) -> Path:
    for channel in (0, 1):
        image(root / f"imagesTr/c_{channel:04}.nii", seed=channel)
    image(root / "labelsTr/c.nii", seed=2, kind="u1")
    said = {"channel_names": SAID["modality"], "labels": NAMES, "numTraining": 1, "file_ending": ".nii"}
    text(root / "dataset.json", said)
    return root


def dicom(root: Path) -> Path:
    return save(root, slices())


Layout = Callable[[Path], Path]
OF_FILES: tuple[Layout, ...] = (loose, bids, msd, nnunet)


def plan(root: Path) -> Any:
    return radiobject.scan(root, **({"deidentify": False} if root.name == "dicom" else {}))


def study(root: Path, name: str, **options: Any) -> RadiObject:
    return RadiObject.from_plan(root.parent / name, plan(root), progress=False, **options)


def both(tmp_path: Path, layout: Layout, **options: Any) -> tuple[Path, RadiObject, RadiObject]:
    """The folder, a study that registers it, and one that ingests it."""
    root = layout(tmp_path / layout.__name__)
    return root, study(root, "registered", copy=False, **options), study(root, "ingested", **options)


def volumes(radi: RadiObject) -> list[Volume]:
    return [v for name in radi.collection_names for v in radi.collection(name)]


def same(here: RadiObject, there: RadiObject, folder: Path) -> None:
    """Voxels, what is kept beside them, and exports."""
    assert [v.obs_id for v in volumes(here)] == [v.obs_id for v in volumes(there)]
    for mine, theirs in zip(volumes(here), volumes(there), strict=True):
        np.testing.assert_array_equal(mine.to_numpy(), theirs.to_numpy(), theirs.obs_id)
        np.testing.assert_array_equal(mine[1:3, 2:4, 1], theirs[1:3, 2:4, 1], theirs.obs_id)
        np.testing.assert_array_equal(mine.affine, theirs.affine)
        kept = {*mine.meta.source.extras, *theirs.meta.source.extras}
        assert {n: mine.extra(n) for n in kept} == {n: theirs.extra(n) for n in kept}
        assert mine.meta.labels == theirs.meta.labels
        for number, volume in enumerate((mine, theirs)):
            volume.to_nifti(folder / f"{number}.nii")
        assert (folder / "0.nii").read_bytes() == (folder / "1.nii").read_bytes()


def rows(radi: RadiObject, columns: Any = None) -> list[Any]:
    found = [radi.collection(name).obs.read() for name in radi.collection_names]
    return [table[columns or sorted(table.columns)].map(str).to_dict("records") for table in found]


@pytest.mark.parametrize("reorient", [None, "RAS", "PIR"])
@pytest.mark.parametrize("layout", OF_FILES)
def test_turned_or_not_it_is_what_an_ingest_makes(
    tmp_path: Path, layout: Layout, reorient: str | None
) -> None:
    _, here, there = both(tmp_path, layout, reorient=reorient)
    same(here, there, tmp_path)
    assert here.validate("full").ok
    here.materialize(progress=False)
    same(here, there, tmp_path)
    assert rows(here) == rows(there)


def test_gradients_of_a_turned_scan_reach_its_export(tmp_path: Path) -> None:
    _, here, _ = both(tmp_path, bids, reorient="RAS")
    for name, radi in (("registered", here), ("stored", here.materialize(progress=False))):
        radi.export(tmp_path / name / "out", layout="bids")
        for subject in ("sub-02/dwi/sub-02_dir-AP", "sub-03/dwi/sub-03"):
            assert (tmp_path / name / "out" / f"{subject}_dwi.bval").read_text().split() == [
                "0",
                "1000",
                "1000",
            ]
            assert (tmp_path / name / "out" / f"{subject}_dwi.bvec").is_file()


@pytest.mark.parametrize("layout", [*OF_FILES, dicom])
def test_an_update_leaves_what_was_stored_of_files_that_did_not_change(
    tmp_path: Path, layout: Layout
) -> None:
    root, here, there = both(tmp_path, layout)
    here.materialize(progress=False)
    assert rows(here, ["obs_id", "source_digest"]) == rows(there, ["obs_id", "source_digest"])
    for copy in (False, True):
        here.ingest(plan(root), on_conflict="update", copy=copy, progress=False)
        assert here.version == 2
        assert {here.collection(n).backend for n in here.collection_names} == {"zarr"}


@pytest.mark.parametrize("layout", [msd, nnunet])
@pytest.mark.parametrize("copy", [False, True])
def test_an_update_takes_other_names_of_labels(tmp_path: Path, layout: Layout, copy: bool) -> None:
    root = layout(tmp_path / layout.__name__)
    radi = study(root, "study", copy=copy)
    radi.ingest(plan(root), on_conflict="update", copy=copy, progress=False)
    assert radi.version == 1
    said = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(said.replace("tumour", "oedema"))
    radi.ingest(plan(root), on_conflict="update", copy=copy, progress=False)
    assert [x.name for x in radi.seg.iloc[0].meta.labels] == ["background", "oedema", "edge"]
    ledger = radi.ledger.read()
    again = ledger[ledger["outcome"] == "ingested"]["collection"].tolist()[len(volumes(radi)) :]
    assert again == ["seg"] * len(radi.seg)


def test_channels_of_one_file_are_not_called_the_same(tmp_path: Path) -> None:
    _, here, _ = both(tmp_path, msd)
    here.materialize(progress=False)
    found = here.T1.obs.read()["source_digest"].tolist() + here.FLAIR.obs.read()["source_digest"].tolist()
    assert len(set(found)) == 8
    assert not any("the same bytes" in message for message in here.report().findings["message"])
