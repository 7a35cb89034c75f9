"""Faults of the TileDB-based package in what reads return: other voxels, lost geometry, lost values.

Each test fails on what docs/differences-from-upstream.md says of that package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, Volume, VolumeCollection
from radiobject.writers import RadiObjectWriter
from tests.conftest import as_sources

SHUFFLED = ["sub-03", "sub-01", "sub-02"]
UNPADDED = [f"sub-{n}" for n in range(12)]


def marked(subject: str) -> np.ndarray:
    """Voxels that tell their subject."""
    return np.full((3, 4, 5), int(subject.split("-")[1]), dtype="i2")


def by_ingest(uri: Path, subjects: list[str]) -> RadiObject:
    return RadiObject.from_niftis(uri, as_sources({"x": {s: marked(s) for s in subjects}}))


def by_writer(uri: Path, subjects: list[str]) -> RadiObject:
    with RadiObjectWriter(uri) as writer, writer.add_collection("x") as collection:
        for s in subjects:
            collection.write_volume(marked(s), obs_id=f"{s}_x", obs_subject_id=s)
    return RadiObject(uri)


def by_append(uri: Path, subjects: list[str]) -> RadiObject:
    radi = by_ingest(uri, subjects[:1])
    for s in subjects[1:]:
        radi.append(as_sources({"x": {s: marked(s)}}), {"obs_subject_id": [s]})
    return radi


def by_map(uri: Path, subjects: list[str]) -> RadiObject:
    source = by_ingest(uri.with_name("source"), subjects)
    return RadiObject(source.x.map(lambda voxels, row: voxels).write(uri).uri.split("/collections")[0])


@pytest.mark.parametrize("subjects", [SHUFFLED, UNPADDED], ids=["shuffled", "unpadded"])
@pytest.mark.parametrize("make", [by_ingest, by_writer, by_append, by_map])
def test_w1_an_id_finds_its_own_voxels_whatever_the_order(
    make: Callable[..., RadiObject], subjects: list[str], tmp_path: Path
) -> None:
    radi = make(tmp_path / "study", subjects)
    for handle in (radi, RadiObject(radi.uri)):
        for position, subject in enumerate(subjects):
            number = int(subject.split("-")[1])
            assert handle.x.loc[f"{subject}_x"][0, 0, 0] == number
            assert handle.get_volume(f"{subject}_x")[0, 0, 0] == number
            assert handle.x.iloc[position].obs_id == f"{subject}_x"
            assert handle.x.iloc[position][0, 0, 0] == number
    assert radi.validate("full", strict=True).ok


def test_w2_a_view_of_subjects_narrows_everything_below_it(study) -> None:
    radi = study()
    for view in (radi.iloc[1], radi.loc["sub-01"], radi.filter("obs_subject_id == 'sub-01'")):
        assert view.T1w.obs_ids == ["sub-01_T1w"]
        assert view.T1w.iloc[0][0, 0, 0] == 1
        assert view.all_obs_ids == ["sub-01_T1w", "sub-01_seg"]
        assert [v.obs_id for v in view.seg] == ["sub-01_seg"]
        assert view.T1w.obs["obs_id"].tolist() == ["sub-01_T1w"]
        with pytest.raises(KeyError):
            view.get_volume("sub-02_T1w")


@pytest.fixture
def scan(make_nifti, tmp_path: Path) -> Path:
    """An oblique scaled scan with both transforms, a description and units."""
    turn = np.deg2rad(20)
    affine = np.array(
        [
            [2 * np.cos(turn), -2.5 * np.sin(turn), 0, -30],
            [2 * np.sin(turn), 2.5 * np.cos(turn), 0, 10],
            [0, 0, 3, -50],
            [0, 0, 0, 1],
        ]
    )
    content = make_nifti(
        np.arange(3 * 4 * 5, dtype="i2").reshape(3, 4, 5),
        affine=affine,
        fields={"scl_slope": 2, "scl_inter": -1024, "descrip": b"a scan", "xyzt_units": 10, "qform_code": 1},
    )
    path = tmp_path / "sub-01.nii"
    path.write_bytes(content)
    return path


def copied_study(radi: RadiObject, uri: Path) -> VolumeCollection:
    return radi.write(uri).x


def copied_view(radi: RadiObject, uri: Path) -> VolumeCollection:
    return radi.head(1).write(uri).x


def copied_collection(radi: RadiObject, uri: Path) -> VolumeCollection:
    return radi.x.write(uri)


def copied_query(radi: RadiObject, uri: Path) -> VolumeCollection:
    written: VolumeCollection = radi.x.lazy().head(1).write(uri)
    return written


def assembled(radi: RadiObject, uri: Path) -> VolumeCollection:
    return RadiObject.from_collections(uri, {"x": radi.x}).x


def added(radi: RadiObject, uri: Path) -> VolumeCollection:
    other = by_ingest(uri, ["sub-7"])
    return other.add_collection("y", radi.x).y


COPIES = [copied_study, copied_view, copied_collection, copied_query, assembled, added]


@pytest.mark.parametrize("copy", COPIES)
def test_w3_a_copy_gives_the_file_back_byte_for_byte(copy, scan: Path, tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "study", {"x": [(str(scan), "sub-01")]})
    source, volume = radi.x.iloc[0], copy(radi, tmp_path / "copy").iloc[0]
    assert (volume.affine == source.affine).all()
    assert volume.orientation_info == source.orientation_info
    assert volume.orientation_info.source == "nifti_sform"
    volume.to_nifti(tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == scan.read_bytes()


@pytest.mark.parametrize("lazy", [True, False])
def test_w3_a_transformed_copy_keeps_geometry_and_header(lazy: bool, scan: Path, tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "study", {"x": [(str(scan), "sub-01")]})
    query = radi.x.lazy() if lazy else radi.x
    made = query.map(lambda voxels, row: voxels + 1).write(tmp_path / "made", name="y").iloc[0]
    source = radi.x.iloc[0]
    assert (made.affine == source.affine).all()
    assert (made.to_numpy() == source.to_numpy() + 1).all()
    header, before = made.to_nibabel().header, source.to_nibabel().header
    for field in ("sform_code", "qform_code", "xyzt_units", "descrip"):
        assert header[field] == before[field]


def test_w8_columns_of_a_transform_take_a_type_that_holds_all_values(study, tmp_path: Path) -> None:
    updates = {"sub-03": {"n": 1, "flag": True}, "sub-01": {"n": 0.5, "note": "clear"}, "sub-02": {"n": 2}}

    def describe(voxels, row):
        return voxels, updates[row["obs_subject_id"]]

    frame = study().T1w.lazy().map(describe).write(tmp_path / "made").obs.read(["n", "note", "flag"])
    assert frame["n"].tolist() == [1.0, 0.5, 2.0]
    assert frame["note"].isna().tolist() == [True, False, True]
    assert frame["flag"].tolist()[0] is True
    assert frame["flag"].isna().tolist() == [False, True, True]


def test_w9_after_reorienting_the_tables_say_what_the_volume_says(study) -> None:
    affine = np.array([[0, 0, 2.0, 0], [-3.0, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0, 1]])  # x, y, z run P, I, R
    array = np.arange(60, dtype="i2").reshape(3, 4, 5)
    radi = study({"x": {"a": (array, affine)}}, reorient=True)
    volume, row = radi.x.iloc[0], radi.x.obs.read().iloc[0]
    assert radi.x.shape == volume.shape == (5, 3, 4)
    assert (row["dim_x"], row["dim_y"], row["dim_z"]) == volume.shape
    assert tuple(row[f"spacing_{a}"] for a in "xyz") == volume.spacing == (2.0, 3.0, 4.0)
    assert np.array_equal(np.reshape(row["affine"], (4, 4)), volume.affine)
    assert row["axcodes"] == "".join(volume.axcodes) == "RAS"
    assert radi.x.obs.read(["dimensions"])["dimensions"][0] == "(5, 3, 4)"
    # the voxel that was at index (1, 2, 3) is where it was in the world
    there = affine @ [1, 2, 3, 1]
    index = np.rint(np.linalg.inv(volume.affine) @ there).astype(int)
    assert volume[tuple(index[:3])] == array[1, 2, 3]


@pytest.mark.parametrize("name", ["PT1_scan", "patient_function", "a_acq-t2_PET"])
def test_w10_a_series_is_what_the_caller_calls_it(name: str, make_nifti, tmp_path: Path) -> None:
    (tmp_path / f"{name}.nii").write_bytes(make_nifti(np.zeros((3, 3, 3), "i2")))
    radi = RadiObject.from_niftis(tmp_path / "study", {"pet": str(tmp_path / f"{name}.nii")})
    assert radi.collection_names == ("pet",)
    assert radi.pet.obs.read(["series_type"])["series_type"].tolist() == ["pet"]


def test_w25_planes_and_points_are_those_of_numpy(study) -> None:
    array = np.arange(4 * 5 * 1 * 3, dtype="i2").reshape(4, 5, 1, 3)
    volume: Volume = study({"x": {"a": array}}, axis4="time").x.iloc[0]
    assert np.array_equal(volume[2], array[2])
    assert np.array_equal(volume[..., 0], array[..., 0])
    assert volume[1:1].shape == (0, 5, 1, 3)
    assert np.array_equal(volume.axial(-1, t=1), array[:, :, -1, 1])
    assert volume.coronal(0, t=0).shape == (4, 1)
    with pytest.raises(ValueError, match="t= given"):
        volume.axial(0)
    with pytest.raises(IndexError, match="-1 to 0"):
        volume.axial(1, t=0)
