"""Studies of every released format open, validate and give the voxels that they held when written."""

from __future__ import annotations

import hashlib
import json
import runpy
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, Volume, scan
from radiobject.errors import ConflictError, SnapshotExpiredError, SourceChangedError
from radiobject.model.foreground import stored_index

HERE = Path(__file__).parent
ARCHIVES = sorted(p.name for p in HERE.glob("v*"))
_MAKER = runpy.run_path(str(HERE / "make_archive.py"))


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """(unpacked study, what must be read from it)."""
    return unpacked(request.param, tmp_path)


@pytest.fixture
def first(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The archive that has every dtype, rank and kind of source."""
    return unpacked("v1.0", tmp_path)


@pytest.fixture(params=["v1.0", "v1.0-integers", "v1.0-tiledb", "v1.0-files"])
def of_scans(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The archives that were made of NIfTI files."""
    return unpacked(request.param, tmp_path)


def unpacked(name: str, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    if name.endswith("tiledb"):
        pytest.importorskip("tiledb")
    folder = HERE / name
    with tarfile.open(folder / "study.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "study", json.loads((folder / "expected.json").read_text())


def test_there_is_an_archive_of_each_format() -> None:
    assert ARCHIVES == [
        "v1.0",
        "v1.0-bids",
        "v1.0-derived",
        "v1.0-dicom",
        "v1.0-files",
        "v1.0-foreground",
        "v1.0-integers",
        "v1.0-layout",
        "v1.0-purged",
        "v1.0-pyramid",
        "v1.0-tiledb",
    ]


def test_an_old_study_opens_and_gives_the_same_voxels(archive: tuple[Path, dict[str, Any]]) -> None:
    study, expected = archive
    radi = RadiObject(study)
    found = _MAKER["read"](radi)
    for key, value in found.items():
        if key != "format":
            assert value == expected[key], key
    assert len(found["volumes"]) == len(expected["volumes"]) >= 2


def test_an_old_study_validates_in_full(archive: tuple[Path, dict[str, Any]]) -> None:
    report = RadiObject(archive[0]).validate("full")
    assert report.ok, report


def test_an_old_study_is_copied_and_its_labels_get_indexes(
    archive: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    radi = RadiObject(archive[0])
    assert radi.write(tmp_path / "before", progress=False).validate("full").ok
    radi.index_foreground(progress=False)
    copy = radi.write(tmp_path / "after", progress=False)
    for study in (radi, copy):
        assert study.validate("full").ok
        for name in study.collection_names:
            label = study.collection(name).kind == "label"
            for position in range(len(study.collection(name))):
                assert (stored_index(study._study, name, position) is not None) == label
    radi.restore(1)
    assert radi.validate("full").ok


def test_an_old_study_gives_back_its_nifti_files(
    of_scans: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    study, expected = of_scans
    assert expected["exports"]
    for obs_id, digest in expected["exports"].items():
        RadiObject(study).get_volume(obs_id).to_nifti(tmp_path / "out.nii")
        assert hashlib.sha256((tmp_path / "out.nii").read_bytes()).hexdigest() == digest, obs_id


def test_tags_and_versions_of_an_old_study_open(first: tuple[Path, dict[str, Any]]) -> None:
    study, _ = first
    assert RadiObject(study, version="with two labels").seg.obs_ids == ["ct_seg", "u1_seg"]
    assert RadiObject(study, version=1).seg.iloc[1].to_numpy().max() == 2


def test_an_old_layer_is_gone_on_with(tmp_path: Path) -> None:
    study, _ = unpacked("v1.0-derived", tmp_path)
    radi = RadiObject(study)
    radi.append(
        {"T1w": [((radi.T1w.iloc[0].to_numpy(), None), "c")]}, {"obs_subject_id": ["c"]}, progress=False
    )
    radi.add_collection("half", radi.T1w.lazy().map(_MAKER["_halve"]), progress=False)
    assert radi.half.obs_ids == ["a_half", "b_half", "c_half"]
    assert radi.half.obs.read()["level"].notna().all()


def test_what_was_purged_from_an_old_study_stays_away(tmp_path: Path) -> None:
    study, _ = unpacked("v1.0-purged", tmp_path)
    radi = RadiObject(study)
    assert [(v["version"], v["tags"]) for v in radi.versions()] == [(1, ["before"]), (4, []), (5, [])]
    for version in (2, 3):
        with pytest.raises(SnapshotExpiredError):
            RadiObject(study, version=version)
    old = RadiObject(study, version="before")
    assert old.obs_subject_ids == ["kept-1"]
    with pytest.raises(ConflictError, match="version 4"):
        old.rename_collection("T1w", "t1")
    radi.rename_collection("T1w", "t1")
    assert RadiObject(study).version == 6
    assert not [p for p in study.rglob("*") if p.is_file() and b"gone-2" in p.read_bytes()]


def test_levels_of_an_old_study_hold_what_is_computed_today(tmp_path: Path) -> None:
    study, expected = unpacked("v1.0-pyramid", tmp_path)
    radi = RadiObject(study)
    assert {len(v["levels"]) for v in expected["volumes"].values()} == {2}
    for volume in (*radi.image, *radi.seg):
        held = Volume.from_numpy(volume.to_numpy(), volume.affine, axis4="time", kind=volume.meta.kind)
        for level in volume.levels[1:]:
            computed = held.resample(like=level, antialias=True, order=0)
            np.testing.assert_array_equal(computed[...], level[...])


def test_an_old_study_on_tiledb_is_gone_on_with(tmp_path: Path) -> None:
    study, expected = unpacked("v1.0-tiledb", tmp_path)
    radi = RadiObject(study)
    label = radi.seg.iloc[0]
    radi.append({"seg": [((label.to_numpy(), label.affine), "f4")]}, labels=["seg"], progress=False)
    radi = RadiObject(study)
    assert {c.backend for c in (radi.image, radi.seg)} == {"tiledb"}
    assert radi.validate("full").ok
    on_zarr = radi.write(tmp_path / "zarr", backend="zarr")
    for obs_id, wanted in expected["volumes"].items():
        for now in (radi, on_zarr):
            assert _MAKER["digest"](now.get_volume(obs_id).to_numpy(raw=True)) == wanted["raw"], obs_id


def test_an_old_volume_on_tiledb_opens_by_its_own_url(tmp_path: Path) -> None:
    study, expected = unpacked("v1.0-tiledb", tmp_path)
    for obs_id, wanted in expected["volumes"].items():
        uri = RadiObject(study).get_volume(obs_id).uri
        assert _MAKER["digest"](Volume(uri).to_numpy()) == wanted["scaled"], obs_id


def test_sources_of_an_old_study_are_held_against_what_was_registered(tmp_path: Path) -> None:
    study, _ = unpacked("v1.0-files", tmp_path)
    radi = RadiObject(study)
    assert {name: radi.collection(name).backend for name in radi} == dict.fromkeys(radi, "files")
    assert radi.get_volume("stored").uri.endswith(".ome.zarr")
    for obs_id, name in (("ct_image", "ct.nii"), ("ct_seg", "ct_seg.nii.gz"), ("ct_CT", "series/1")):
        (path,) = (tmp_path / "sources").glob(f"{name}*")
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(SourceChangedError, match=path.name):
            radi.get_volume(obs_id).to_numpy()


@pytest.mark.parametrize("copied", [True, False])
def test_an_update_of_an_old_study_from_the_same_files_changes_nothing(tmp_path: Path, copied: bool) -> None:
    study, _ = unpacked("v1.0-bids", tmp_path)
    (tmp_path / "bids").mkdir()
    _MAKER["_bids_tree"](tmp_path / "bids")
    plan = scan(tmp_path / "bids")
    radi = RadiObject(study).ingest(plan, on_conflict="update", copy=copied, progress=False)
    assert radi.version == 1


def test_what_an_old_study_has_in_files_is_stored_as_an_ingest_would(tmp_path: Path) -> None:
    study, _ = unpacked("v1.0-layout", tmp_path)
    plans = [scan(tmp_path / "sources" / name) for name in ("msd", "bids")]
    wanted = RadiObject.from_plan(tmp_path / "wanted", plans[0], progress=False)
    wanted = wanted.ingest(plans[1], progress=False)
    found = RadiObject(study).materialize(progress=False)
    for name in wanted:
        rows = [of.collection(name).obs.read(["obs_id", "source_digest"]) for of in (wanted, found)]
        pd.testing.assert_frame_equal(*rows)
    for plan in plans:
        assert found.ingest(plan, on_conflict="update", copy=False, progress=False).version == found.version


def test_an_old_study_can_be_appended_to(first: tuple[Path, dict[str, Any]]) -> None:
    study, expected = first
    radi = RadiObject(study)
    label = radi.seg.iloc[0]
    radi.append({"seg": [((label.to_numpy(), label.affine), "i2")]}, labels=["seg"], progress=False)
    again = RadiObject(study)
    assert again.seg.obs_ids == ["ct_seg", "i2_seg"]
    assert again.validate("full").ok
    for obs_id, wanted in expected["volumes"].items():
        assert _MAKER["digest"](again.get_volume(obs_id).to_numpy(raw=True)) == wanted["raw"], obs_id
