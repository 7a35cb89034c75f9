"""What the TileDB-based package wrote comes in whole: each volume under its id, whatever its position."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, SliceOrientation
from radiobject.errors import FormatError, StudyNotFoundError
from tests.upstream.conftest import Theirs, digest

tiledb = pytest.importorskip("tiledb")


def imported(theirs: Theirs, name: str, tmp_path: Path, **options: Any) -> RadiObject:
    return RadiObject.from_upstream(theirs.uri(name), tmp_path / "ours", **options)


def findings(radi: RadiObject, *kinds: str) -> list[tuple[str, str, str]]:
    """(outcome, collection, obs_id) of the findings of some kinds."""
    rows = radi.ledger.to_arrow().to_pylist()
    return [(r["outcome"], r["collection"], r["obs_id"]) for r in rows if r["error"] in kinds]


def by_subject(radi: RadiObject, collection: str) -> dict[str, Any]:
    return {v.obs_subject_id: v for v in radi.collection(collection)}


STUDIES = ["unsorted", "unpadded", "msd", "odd"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_volume_found_by_its_id_is_its_source(theirs: Theirs, tmp_path: Path, name: str) -> None:
    radi = imported(theirs, name, tmp_path)
    assert sorted(radi.collection_names) == sorted(theirs.files[name])
    for collection, files in theirs.files[name].items():
        found = by_subject(radi, collection)
        assert sorted(found) == sorted(files)
        for subject, path in files.items():
            source, volume = nibabel.load(path), radi.collection(collection).loc[found[subject].obs_id]
            voxels = np.asarray(source.dataobj)
            voxels = voxels.reshape(voxels.shape[:3]) if voxels.shape[3:] == (1,) else voxels
            assert volume.obs_subject_id == subject
            np.testing.assert_array_equal(volume[...], voxels)
            assert volume.dtype == voxels.dtype
            np.testing.assert_array_equal(volume.affine, source.affine)
    assert radi.version == 1
    assert radi.validate(level="full").ok


@pytest.mark.parametrize(
    ("name", "collection", "wrong"), [("unsorted", "T1w", 3), ("unpadded", "CT", 10), ("msd", "CT", 2)]
)
def test_w1_it_is_right_where_that_package_returns_the_voxels_of_others(
    theirs: Theirs, tmp_path: Path, name: str, collection: str, wrong: int
) -> None:
    radi, files = imported(theirs, name, tmp_path), theirs.files[name][collection]
    true = {s: digest(np.asarray(nibabel.load(path).dataobj)) for s, path in files.items()}
    answers = {i.rpartition("_")[0]: a for i, a in theirs.answers[name][collection].items()}
    mixed_up = [s for s in files if answers[s] != true[s]]
    assert len(mixed_up) == wrong  # the package itself, asked by id
    assert {s: digest(v[...]) for s, v in by_subject(radi, collection).items()} == true
    told = [i for _, c, i in findings(radi, "position") if c == collection]
    assert sorted(told) == sorted(f"{s}_{collection}" for s in mixed_up)


def test_tables_keep_their_columns_and_types(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "unsorted", tmp_path)
    table = radi.obs_meta.to_arrow()
    assert {n: str(t) for n, t in radi.obs_meta.dtypes.items()} == {
        "obs_subject_id": "string", "age": "int64", "score": "double", "site": "string", "ok": "bool",
        "seen": str(table.schema.field("seen").type),
    }  # fmt: skip
    assert table.schema.field("seen").type.unit in ("us", "ns")
    rows = [{**row, "seen": str(row["seen"])} for row in table.to_pylist()]
    assert rows == [
        {"obs_subject_id": f"sub-0{n}", "age": 50 + n, "score": score, "site": site, "ok": ok, "seen": seen}
        for n, score, site, ok, seen in (
            (1, 1.5, "", True, "1999-12-31 00:00:00"),
            (2, 0.5, "Bern", True, "2020-05-17 12:30:00"),
            (3, None, "Rome", False, "2021-01-01 00:00:00"),
        )
    ]
    assert radi.obs_subject_ids == ["sub-01", "sub-02", "sub-03"]
    # what the volumes say themselves is computed, not copied
    given = {"series_type", "voxel_spacing", "dimensions", "datatype", "affine_json", "sform_code"}
    assert not given & set(radi.T1w.obs.columns)
    assert radi.T1w.obs.columns[-1] == "source_path"
    shown = radi.T1w.obs.read(["obs_id", "dimensions", "source_path"])
    assert list(shown["dimensions"]) == ["(9, 8, 7)"] * 3
    assert [Path(p).name for p in shown["source_path"]] == [f"{i}.nii.gz" for i in shown["obs_id"]]


def test_kinds_and_tiles_are_as_there(theirs: Theirs, tmp_path: Path) -> None:
    cubes = imported(theirs, "unsorted", tmp_path / "cubes")
    assert {n: cubes.collection(n).kind for n in cubes.collection_names} == {"T1w": "image", "seg": "label"}
    assert cubes.T1w.iloc[0].tile_orientation is SliceOrientation.ISOTROPIC
    assert not cubes.seg.is_uniform
    planes = imported(theirs, "unpadded", tmp_path / "planes", labels=["CT"])
    assert planes.CT.iloc[0].tile_orientation is SliceOrientation.AXIAL
    assert planes.CT.kind == "label"


def test_header_fields_that_were_kept_there_go_out_again(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "odd", tmp_path)
    for name, codes, origin in (("qform", (0, 3), "nifti_qform"), ("bare", (0, 0), "nifti_pixdim"),
                                ("one", (2, 1), "nifti_sform")):  # fmt: skip
        volume, path = radi.collection(name).iloc[0], tmp_path / f"{name}.nii.gz"
        volume.to_nifti(path)
        written, source = nibabel.load(path), nibabel.load(theirs.files["odd"][name]["a"])
        assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == codes
        assert written.header.get_xyzt_units() == source.header.get_xyzt_units() == ("mm", "sec")
        assert written.shape == source.shape
        np.testing.assert_array_equal(written.affine, source.affine)
        assert volume.orientation_info.source == origin
    assert len(radi.obs_meta.read()) == 1


def test_values_that_were_scaled_there_stay_scaled_and_it_says_so(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "odd", tmp_path)
    assert radi.scaled.iloc[0].dtype == radi.scaled.iloc[0].stored_dtype == np.float64
    assert findings(radi, "scaled") == [("noted", "scaled", radi.scaled.obs_ids[0])]
    assert list(radi.scaled.obs["upstream_datatype"]) == [4]


def test_a_fourth_axis_is_time_in_unknown_steps(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "unpadded", tmp_path)
    volume = radi.bold.iloc[0]
    assert (volume.shape, volume.meta.time_unit, volume.meta.time_step) == ((5, 4, 3, 6), "ms", None)
    assert {(o, c) for o, c, _ in findings(radi, "time step")} == {("noted", "bold")}
    volume.to_nifti(tmp_path / "bold.nii")
    header = nibabel.load(tmp_path / "bold.nii").header
    assert (header.get_xyzt_units(), float(header["pixdim"][4])) == (("mm", "msec"), 0.0)


def test_w19_ids_that_collections_share_are_made_unique(theirs: Theirs, tmp_path: Path) -> None:
    assert set(theirs.answers["msd"]["CT"]) & set(theirs.answers["msd"]["label"])
    radi = imported(theirs, "msd", tmp_path)
    assert radi.CT.obs_ids == ["lung_001_CT", "lung_002_CT"]
    assert radi.label.obs_ids == ["lung_001_label", "lung_002_label"]
    assert radi.label.obs_subject_ids == ["lung_001", "lung_002"]
    assert findings(radi, "id") == [("repaired", "label", i) for i in radi.label.obs_ids]


def test_a_turned_volume_has_its_own_geometry_and_the_one_before(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "turned", tmp_path)
    volume, source = radi.T1w.iloc[0], nibabel.load(theirs.files["turned"]["T1w"]["a"])
    assert "".join(volume.axcodes) == "LPS"
    turned = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(source.affine), nibabel.orientations.axcodes2ornt("LPS")
        ),
        source.shape,
    )
    np.testing.assert_allclose(volume.affine, source.affine @ turned)
    np.testing.assert_array_equal(volume.meta.original_affine.matrix, source.affine)
    # the tables there go on describing the source (W9)
    assert list(radi.T1w.obs["axcodes"]) == ["LPS"]
    assert list(radi.T1w.obs["upstream_axcodes"]) == ["LAS"]
    assert ("noted", "T1w", "") in findings(radi, "column")


def test_a_copy_that_lost_its_affine_has_that_of_the_table(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "copied", tmp_path)
    source = nibabel.load(theirs.files["turned"]["T1w"]["a"])
    np.testing.assert_array_equal(radi.T1w.iloc[0].affine, source.affine)
    assert findings(radi, "affine") == [("repaired", "T1w", "a_T1w")]


def test_arrays_without_geometry_and_columns_of_the_users(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "written", tmp_path)
    assert [int(v[0, 0, 0]) for v in radi.CT] == [1, 0]
    assert radi.CT.iloc[0].dtype == np.uint16
    np.testing.assert_array_equal(radi.CT.iloc[0].affine, np.eye(4))
    assert len(findings(radi, "no affine")) == 3
    table = radi.CT.obs.to_arrow(["obs_id", "kv", "n", "upstream_dtype", "upstream_run", "dtype", "run"])
    assert [str(t) for t in table.schema.types[1:3]] == ["float", "int16"]
    assert table.to_pylist() == [
        {"obs_id": f"{s}_CT", "kv": kv, "n": n, "upstream_dtype": "x", "upstream_run": "r1",
         "dtype": "uint16", "run": None}
        for s, kv, n in (("a", None, 1), ("b", 1.5, 0))
    ]  # fmt: skip
    # floats cannot be labels, whatever the collection is called
    assert radi.soft_mask.kind == "image"
    assert findings(radi, "kind") == [("noted", "soft_mask", "")]


def test_dicom_columns_come_along_and_nan_is_null(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "dicom", tmp_path)
    (name,) = radi.collection_names
    collection = radi.collection(name)
    assert collection.iloc[0].shape == (4, 5, 3)
    row = collection.obs.to_arrow().to_pylist()[0]
    assert (row["modality"], row["kvp"], row["echo_time"], row["exposure"]) == ("CT", 120.0, None, None)
    # rows before columns there, and no contradiction
    assert not [c for c in collection.obs.columns if c in ("dimensions", "upstream_dimensions")]
    assert not findings(radi, "shape")
    assert collection.iloc[0].spacing == (0.75, 0.5, 2.5)


def test_one_collection_alone(theirs: Theirs, tmp_path: Path) -> None:
    radi = imported(theirs, "alone", tmp_path)
    assert radi.collection_names == ("MR",)
    assert radi.obs_subject_ids == ["sub-01", "sub-02", "sub-03"]
    assert not findings(radi, "renamed", "subject", "count")
    source = nibabel.load(theirs.files["unsorted"]["T1w"]["sub-01"])
    np.testing.assert_array_equal(radi.MR.loc["sub-01_T1w"][...], np.asarray(source.dataobj))
    inside = RadiObject.from_upstream(f"{theirs.uri('unsorted')}/collections/seg", tmp_path / "inside")
    assert (inside.collection_names, inside.seg.kind) == (("seg",), "label")


def test_the_later_source_keys_obs_meta_by_subject_and_renames_in_the_group(
    theirs: Theirs, tmp_path: Path, copy: Callable[[str], Path]
) -> None:
    root = copy("unsorted")
    with tiledb.open(str(root / "obs_meta")) as array:
        values = array[:]
    shutil.rmtree(root / "obs_meta")
    key = tiledb.Dim(name="obs_subject_id", dtype="ascii", domain=(None, None), tile=None)
    kept = {"age": values["age"], "obs_ids": np.array(['["x"]'] * 3)}
    attrs = [tiledb.Attr("age", dtype=np.int64), tiledb.Attr("obs_ids", dtype=np.dtype("U0"), var=True)]
    schema = tiledb.ArraySchema(tiledb.Domain(key), attrs=attrs, sparse=True)
    tiledb.Array.create(str(root / "obs_meta"), schema)
    with tiledb.open(str(root / "obs_meta"), "w") as array:
        array[values["obs_subject_id"].astype(str)] = kept
    with tiledb.Group(str(root / "collections"), "w") as group:
        group.remove("T1w")
        group.add(str(root / "collections" / "T1w"), name="MR")
    with tiledb.Group(str(root), "w") as group:
        group.meta["subject_count"] = 7
    radi = RadiObject.from_upstream(root, tmp_path / "ours")
    assert radi.obs_meta.columns == ["obs_subject_id", "age"]
    assert list(radi.obs_meta["age"]) == [51, 52, 53]
    assert sorted(radi.collection_names) == ["MR", "seg"]
    source = nibabel.load(theirs.files["unsorted"]["T1w"]["sub-02"])
    np.testing.assert_array_equal(radi.MR.loc["sub-02_T1w"][...], np.asarray(source.dataobj))
    assert findings(radi, "renamed", "count") == [("repaired", "", ""), ("repaired", "MR", "")]


@pytest.mark.parametrize("backend", ["zarr", "tiledb"])
def test_into_either_backend_and_by_other_processes(theirs: Theirs, tmp_path: Path, backend: str) -> None:
    how: dict[str, Any] = {"executor": "processes", "workers": 1, "message": "m"}
    radi = imported(theirs, "unsorted", tmp_path, backend=backend, **how)
    assert {radi.collection(n).backend for n in radi.collection_names} == {backend}
    assert radi.versions()[0]["message"] == "m"
    source = nibabel.load(theirs.files["unsorted"]["T1w"]["sub-01"])
    np.testing.assert_array_equal(radi.T1w.loc["sub-01_T1w"][...], np.asarray(source.dataobj))


def test_what_is_no_such_study_is_refused(theirs: Theirs, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    with pytest.raises(StudyNotFoundError, match="__tiledb_group"):
        RadiObject.from_upstream(tmp_path / "nowhere", ours)
    with pytest.raises(FormatError, match="obs_meta"):
        RadiObject.from_upstream(f"{theirs.uri('unsorted')}/collections", ours)
    RadiObject.from_upstream(theirs.uri("turned"), ours)
    with pytest.raises(FormatError, match=r"\.write\(uri\) copies it"):
        RadiObject.from_upstream(ours, tmp_path / "again")
