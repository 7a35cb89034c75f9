"""From sources of every kind to a committed study, with all that is computed on the way."""

from __future__ import annotations

import gzip
import io

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radiobject import (
    RadiObject,
)
from radiobject.errors import (
    AxisAmbiguousError,
    IngestError,
    MetadataError,
)

AFFINE = np.array([[-2.0, 0, 0, 50], [0, 2.5, 0, -60], [0, 0, 3, -70], [0, 0, 0, 1]])


def ramp(shape: tuple[int, ...] = (6, 5, 4), dtype: str = "i2") -> np.ndarray:
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


def thumbnails(radi: RadiObject, collection: str) -> dict[str, bytes]:
    rows = radi._study.snapshot.table("thumbnails", collection).read()
    return dict(zip(rows["obs_id"].to_pylist(), rows["jpeg"].to_pylist(), strict=True))


def numbers(radi: RadiObject, collection: str = "T1w") -> dict[str, int]:
    return {v.obs_subject_id: int(v[0, 0, 0]) for v in radi.collection(collection)}


def test_globs_folders_and_lists_give_the_same_study(files, backend) -> None:
    listed = [(files / f"sub-0{n}_T1w.{'hdr' if n == 4 else 'nii.gz'}", f"sub-0{n}") for n in (1, 2, 3, 4)]
    for place, value in (
        ("glob", f"{files}/sub-*_T1w.[nh]*"),
        ("folder", str(files)),
        ("path", files),
        ("list", listed),
        ("generator", (entry for entry in listed)),
    ):
        radi = RadiObject.from_niftis(backend.uri(place), {"T1w": value}, backend=backend.backend)
        assert numbers(radi) == {f"sub-0{n}": n for n in (1, 2, 3, 4)}
        assert all(np.array_equal(v.affine, AFFINE) for v in radi.T1w)
        assert radi.T1w.backend == backend.backend


def test_obs_meta_gives_subjects_their_order_and_may_know_more(files, tmp_path) -> None:
    ids = ["sub-09", "sub-04", "sub-03", "sub-02", "sub-01"]
    for number, meta in enumerate(
        (
            pd.DataFrame({"obs_subject_id": ids, "age": range(5)}),
            pd.DataFrame({"age": range(5)}, index=pd.Index(ids, name="obs_subject_id")),
            {"obs_subject_id": ids, "age": range(5)},
        )
    ):
        radi = RadiObject.from_niftis(tmp_path / str(number), {"T1w": files}, meta)
        assert radi.obs_subject_ids == ids
        assert radi.obs_meta.read()["age"].to_list() == list(range(5))
        assert radi.loc["sub-02"].T1w.iloc[0][0, 0, 0] == 2
        assert len(radi.loc["sub-09"].T1w) == 0


def test_nibabel_images_on_disk_keep_their_file(files, tmp_path) -> None:
    path = files / "sub-01_T1w.nii.gz"
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": [(nibabel.load(path), "a")]})
    radi.T1w.iloc[0].to_nifti(tmp_path / "back.nii")
    assert (tmp_path / "back.nii").read_bytes() == gzip.decompress(path.read_bytes())


def test_nibabel_images_that_were_changed_are_taken_as_they_are(files, tmp_path) -> None:
    path = files / "sub-01_T1w.nii.gz"
    moved = nibabel.load(path)
    moved.set_sform(np.diag([1.0, 1, 1, 1]), 2)
    retimed = nibabel.load(path)
    retimed.header["descrip"] = b"changed"
    loaded = nibabel.load(path)
    loaded.get_fdata()
    arithmetic = nibabel.Nifti1Image(np.asarray(loaded.dataobj) + 5, AFFINE)
    cropped = nibabel.load(path).slicer[1:3]
    images = {"moved": moved, "retimed": retimed, "loaded": loaded, "sum": arithmetic, "cropped": cropped}
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": [(v, k) for k, v in images.items()]})
    assert numbers(radi) == {"moved": 1, "retimed": 1, "loaded": 1, "sum": 6, "cropped": 1}
    for vol in radi.T1w:
        np.testing.assert_array_equal(vol.affine, images[vol.obs_subject_id].affine)
        assert vol.shape == images[vol.obs_subject_id].shape
        assert vol.dtype == np.int16


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.MGHImage])
def test_images_in_memory_need_no_file(kind, tmp_path) -> None:
    array = ramp(dtype="f4")
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": [kind(array, AFFINE)]})
    np.testing.assert_array_equal(radi.T1w.iloc[0][...], array)
    np.testing.assert_allclose(radi.T1w.iloc[0].affine, AFFINE, atol=1e-5)


def test_arrays_of_any_memory_order_and_type(study) -> None:
    array = ramp()
    images = {
        "plain": array,
        "fortran": np.asfortranarray(array),
        "reversed": array[::-1][::-1],
        "strided": np.repeat(array, 2, axis=1)[:, ::2],
        "readonly": np.frombuffer(array.tobytes(), "i2").reshape(array.shape),
        "big": array.astype(">i2"),
    }
    radi = study({"a": images})
    for vol in radi.a:
        np.testing.assert_array_equal(vol[...], array)
    mixed = study({"a": {"half": array.astype("f2"), "bool": array > 9, "u8": array.astype("u8")}})
    assert [v.dtype.name for v in mixed.a] == ["float32", "uint8", "uint64"]
    np.testing.assert_array_equal(mixed.a.loc["bool_a"][...], array > 9)


def test_one_collection_takes_mixed_types_ranks_and_shapes(study) -> None:
    radi = study(
        {"a": {"x": ramp((3, 4, 5), "u1"), "y": ramp((3, 4, 5, 2), "f8") / 2, "z": ramp((7, 2, 2), "i4")}},
        axis4="time",
    )
    assert radi.a.shape is None
    assert radi.a.obs.read(["dtype"])["dtype"].to_list() == ["uint8", "float64", "int32"]
    assert radi.a.obs.to_arrow(["dim_t"])["dim_t"].to_pylist() == [None, 2, None]
    assert radi.a.iloc[:2].shape == (3, 4, 5)


def test_a_second_acquisition_gets_its_own_id(study) -> None:
    radi = study({"bold": {"s": [ramp(), ramp() + 1, ramp() + 2]}})
    assert radi.bold.obs_ids == ["s_bold", "s_bold_acq-1", "s_bold_acq-2"]
    assert [int(v[0, 0, 0]) for v in radi.loc["s"].bold] == [0, 1, 2]


def test_the_fourth_axis_is_what_the_caller_says(study) -> None:
    array = ramp((3, 4, 5, 2))
    for axis4, name in (("time", "t"), ("channel", "c")):
        vol = study({"a": {"s": array}}, axis4=axis4).a.iloc[0]
        assert vol.axes == ("x", "y", "z", name)
        np.testing.assert_array_equal(vol[...], array)
    with pytest.raises(IngestError, match="axis4='time'") as caught:
        study({"a": {"s": array}})
    assert caught.value.report[0]["error"] == AxisAmbiguousError.__name__


def test_the_fourth_axis_by_its_header(tmp_path, make_nifti) -> None:
    array = ramp((3, 4, 5, 2))
    pixdim = [1, 2, 2, 2, 1.5, 0, 0, 0]
    (tmp_path / "time.nii").write_bytes(make_nifti(array, fields={"xyzt_units": 10, "pixdim": pixdim}))
    (tmp_path / "vector.nii").write_bytes(make_nifti(array, fields={"intent_code": 1007}))
    five = ramp((3, 4, 5, 1, 3), "f4")
    (tmp_path / "five.nii").write_bytes(make_nifti(five, fields={"intent_code": 1007}))
    timed = nibabel.Nifti1Image(array, AFFINE)
    timed.header.set_xyzt_units("mm", "msec")
    timed.header["pixdim"][4] = 2500
    names = ("time", "vector", "five")
    sources = [(tmp_path / f"{n}.nii", n) for n in names] + [(timed, "memory")]
    radi = RadiObject.from_niftis(tmp_path / "study", {"a": sources})
    axes = {v.obs_subject_id: "".join(v.axes) for v in radi.a}
    assert axes == {"time": "xyzt", "vector": "xyzc", "five": "xyzc", "memory": "xyzt"}
    steps = radi.a.obs.to_arrow(["time_step"])["time_step"].to_pylist()
    assert steps == [1.5, None, None, 2.5]
    np.testing.assert_array_equal(radi.a.loc["five_a"][...], five[:, :, :, 0])


def test_label_collections_by_name_by_list_and_with_names(study) -> None:
    masks = {"s": (ramp(dtype="u1") % 3)}
    radi = study(dict.fromkeys(("seg", "T1w", "brain_mask", "segment", "aseg"), masks))
    assert {n: radi.collection(n).kind for n in radi} == {
        "seg": "label", "T1w": "image", "brain_mask": "label", "segment": "image", "aseg": "label",
    }  # fmt: skip
    radi = study({"seg": masks, "roi": masks}, labels=["roi"])
    assert (radi.seg.kind, radi.roi.kind) == ("image", "label")
    radi = study({"roi": masks}, labels={"roi": {2: "white", 1: "grey"}})
    assert [(x.value, x.name) for x in radi.roi.iloc[0].meta.labels] == [(1, "grey"), (2, "white")]
    assert study({"roi": masks}, labels="roi").roi.kind == "label"
    assert study({"seg": masks}, labels=[]).seg.kind == "image"
    with pytest.raises(MetadataError, match="rois"):
        study({"roi": masks}, labels=["rois"])
    with pytest.raises(IngestError, match="integers for a label map"):
        study({"seg": {"s": ramp(dtype="f4")}})


def test_obs_columns_join_by_volume_and_by_subject(study) -> None:
    by_volume = pd.DataFrame(
        {
            "obs_id": ["sub-02_T1w", "sub-03_T1w"],
            "obs_subject_id": ["sub-02", "sub-03"],
            "quality": ["b", "c"],
            "session": ["two", None],
            "acquisition_time": pd.to_datetime(["2020-01-01", "2021-01-01"]),
        }
    )
    radi = study(obs={"T1w": by_volume, "seg": {"obs_subject_id": ["sub-01"], "rater": [7]}})
    rows = {r["obs_id"]: r for r in radi.T1w.obs.to_arrow().to_pylist()}
    assert [rows[f"sub-0{n}_T1w"]["quality"] for n in (1, 2, 3)] == [None, "b", "c"]
    assert rows["sub-02_T1w"]["session"] == "two"
    assert rows["sub-03_T1w"]["acquisition_time"].year == 2021
    assert radi.seg.obs.to_arrow(["rater"])["rater"].to_pylist() == [None, 7, None]
    assert "rater" not in radi.T1w.obs.columns


def test_a_session_of_the_file_name_stays_where_the_table_has_none(tmp_path, make_nifti) -> None:
    for name in ("sub-1_ses-a_T1w.nii", "sub-2_ses-b_T1w.nii"):
        (tmp_path / name).write_bytes(make_nifti(ramp()))
    obs = {"T1w": {"obs_subject_id": ["sub-2"], "session": ["late"]}}
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": f"{tmp_path}/*.nii"}, obs=obs)
    assert radi.T1w.obs.read(["session"])["session"].to_list() == ["a", "late"]


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        ({"t2": {"obs_id": ["x"]}}, "T1w"),
        ({"T1w": {"quality": ["x"]}}, "obs_subject_id"),
        ({"T1w": {"obs_id": ["sub-01_T1w"], "dtype": ["x"]}}, "does not fill"),
        ({"T1w": {"obs_id": ["sub-01"], "quality": ["x"]}}, "none that matches"),
        ({"T1w": {"obs_id": ["sub-01_T1w"], "obs_subject_id": ["sub-02"], "a": [1]}}, "'sub-01'"),
        ({"T1w": {"obs_id": ["sub-01_T1w"], "run": ["first"]}}, "int64"),
        ({"T1w": {"obs_id": ["sub-01_T1w"], "_x": [1]}}, "leading _"),
        ({"T1w": {"obs_id": ["sub-01_T1w"], "a": [1, 2]}}, "one length"),
        ({"T1w": [1, 2]}, "DataFrame"),
    ],
)
def test_obs_that_does_not_fit_is_refused_before_anything_is_written(study, tmp_path, obs, words) -> None:
    with pytest.raises(MetadataError, match=words):
        study(uri=tmp_path / "study", obs=obs)
    assert not (tmp_path / "study").exists()


def test_statistics_are_those_of_numpy(study, tmp_path, make_nifti) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(100, 30, (20, 18, 16)).astype("f4")
    array[3:5, 4, 5] = np.nan
    scaled = rng.integers(0, 4096, (20, 18, 16)).astype("i2")
    path = tmp_path / "ct.nii"
    path.write_bytes(make_nifti(scaled, fields={"scl_slope": 2, "scl_inter": -1024}))
    radi = study({"a": {"float": array, "ct": path}})
    for vol, n_nonfinite in zip(radi.a, (2, 0), strict=True):
        values = vol[...].astype("f8")
        values = values[np.isfinite(values)]
        row = vol.metadata
        assert row["n_nonfinite"] == n_nonfinite
        for name, expected in (
            ("min", values.min()), ("max", values.max()), ("mean", values.mean()), ("std", values.std()),
        ):  # fmt: skip
            assert row[f"intensity_{name}"] == pytest.approx(expected, rel=1e-9)
        for name, q in (("p0_5", 0.5), ("p1", 1), ("p50", 50), ("p99", 99), ("p99_5", 99.5)):
            expected = np.percentile(values, q, method="inverted_cdf")
            assert row[f"intensity_{name}"] == pytest.approx(expected, rel=1e-6)
        edges = np.linspace(values.min(), values.max(), 257)
        counts = np.histogram(values, edges)[0]
        assert sum(row["intensity_histogram"]) == values.size
        assert np.abs(np.cumsum(counts) - np.cumsum(row["intensity_histogram"])).max() <= 2


def test_columns_describe_the_volume(study) -> None:
    array = np.zeros((6, 5, 4, 3), "u2")
    array[1:3, 2, 1:, 0] = 7
    row = study({"a": {"s": (array, AFFINE)}}, axis4="time").a.iloc[0].metadata
    assert [row[f"dim_{a}"] for a in "xyzt"] == [6, 5, 4, 3]
    assert [row[f"spacing_{a}"] for a in "xyz"] == [2.0, 2.5, 3.0]
    assert (row["dtype"], row["axcodes"], row["source_format"]) == ("uint16", "LAS", "array")
    assert row["nonzero_box"] == [1, 2, 1, 3, 3, 4]
    np.testing.assert_array_equal(np.reshape(row["affine"], (4, 4)), AFFINE)


def test_each_volume_has_a_picture(study) -> None:
    radi = study()
    for name in radi:
        pictures = thumbnails(radi, name)
        assert list(pictures) == radi.collection(name).obs_ids
        for data in pictures.values():
            picture = Image.open(io.BytesIO(data))
            picture.load()
            assert picture.format == "JPEG"
            assert picture.height == 128


def test_files_that_say_they_are_labels_make_a_label_collection(make_nifti, tmp_path) -> None:
    fields = {"intent_code": 1002}
    (tmp_path / "tissue").mkdir()
    (tmp_path / "tissue" / "a.nii").write_bytes(make_nifti(np.ones((3, 3, 3), "i2"), fields=fields))
    (tmp_path / "T1w").mkdir()
    (tmp_path / "T1w" / "a.nii").write_bytes(make_nifti(np.ones((3, 3, 3), "i2")))
    images = {"tissue": str(tmp_path / "tissue"), "T1w": str(tmp_path / "T1w")}
    radi = RadiObject.from_niftis(tmp_path / "study", images, progress=False)
    assert (radi.tissue.kind, radi.T1w.kind) == ("label", "image")
    told = RadiObject.from_niftis(tmp_path / "told", images, labels=[], progress=False)
    assert told.tissue.kind == "image"
