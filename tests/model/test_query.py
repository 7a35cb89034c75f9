"""Lazy queries: the order of steps, what functions get and may return, what is written, and one pass."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, Volume, VolumeCollection, measure
from radiobject.errors import (
    AlignmentError,
    AxisAmbiguousError,
    ConfigError,
    ExpressionError,
    GeometryError,
    MetadataError,
    SelectionError,
    SourceUnsupportedError,
    TransformError,
)

META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55], "dx": ["b", "b", "a"]}


@pytest.fixture(scope="module")
def uri(module_study) -> str:
    return module_study(None, META).uri


@pytest.fixture
def radi(uri: str) -> RadiObject:
    return RadiObject(uri)


def double(volume, row):
    return volume * 2


def mean_of(volume, row):
    return volume, {"mean": volume.mean()}


def test_selections_narrow_in_the_order_they_are_called(radi) -> None:
    # W6: filter, then head, is the head of what the filter found; a view's query stays inside the view
    query = radi.T1w.lazy()
    assert query.filter("dx == 'b'").head(1).to_obs()["obs_id"].tolist() == ["sub-03_T1w"]
    assert query.tail(2).filter("dx == 'b'").to_obs()["obs_id"].tolist() == ["sub-01_T1w"]
    assert query.iloc(0).to_obs()["obs_id"].tolist() == ["sub-03_T1w"]
    assert radi.loc["sub-02"].T1w.lazy().head(1).to_obs()["obs_id"].tolist() == ["sub-02_T1w"]
    assert query.loc("sub-01_T1w").count() == 1
    assert query.loc(["sub-02_T1w", "sub-03_T1w"]).iloc([1]).to_obs()["obs_id"].tolist() == ["sub-02_T1w"]
    assert query.filter_subjects(["sub-02", "nobody"]).count() == 1


@pytest.mark.only("tensorstore", reason="ids alone, and two processes to start")
def test_a_sample_is_the_same_in_every_process(radi) -> None:
    code = (
        "import sys; from radiobject import RadiObject; "
        "print(RadiObject(sys.argv[1]).T1w.lazy().sample(2, seed=5).to_obs()['obs_id'].tolist())"
    )
    outputs = set()
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code, radi.uri], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        outputs.add(ran.stdout.strip())
    assert outputs == {str(radi.T1w.lazy().sample(2, seed=5).to_obs()["obs_id"].tolist())}


def test_nothing_is_read_before_a_result_is_asked_for(radi) -> None:
    with measure() as m:
        query = radi.T1w.lazy().filter("age > 50").map(double).map(mean_of).head(1)
        assert query.count() == len(query) == 1
        assert query.to_obs()["obs_id"].tolist() == ["sub-03_T1w"]
        assert "double" in repr(query)
    assert m["bytes_used"] == m["chunks_decoded"] == 0


def test_each_volume_is_read_once_for_all_functions(radi, chunks) -> None:
    with measure() as m:
        radi.T1w.lazy().map(double).map(mean_of).map(double).to_numpy_stack()
    assert m["bytes_used"] == 3 * 6 * 5 * 4 * 2
    assert m["chunks_decoded"] == m["volumes_opened"] == chunks(3)


def test_a_query_is_immutable_and_can_be_branched(radi) -> None:
    base = radi.T1w.lazy().map(double)
    first, second = base.map(mean_of), base.head(1)
    assert (base.count(), first.count(), second.count()) == (3, 3, 1)
    assert base.to_numpy_stack()[:, 0, 0, 0].tolist() == [6, 2, 4]


def test_functions_see_the_row_joined_with_the_subject_and_what_came_before(radi) -> None:
    seen = []

    def first(volume, row):
        assert isinstance(row, pd.Series)
        return volume, {"age": 1000, "level": float(volume[0, 0, 0])}

    def second(volume, row):
        seen.append(
            (row.name, row["obs_subject_id"], row["age"], row["dx"], row["level"], row["affine"].shape)
        )
        row["level"] = -1  # the function's own copy
        return volume

    rows = [v.metadata for v in radi.T1w.lazy().map(first).map(second).iter_volumes(executor="serial")]
    assert seen == [
        ("sub-03_T1w", "sub-03", 1000, "b", 3.0, (4, 4)),
        ("sub-01_T1w", "sub-01", 1000, "b", 1.0, (4, 4)),
        ("sub-02_T1w", "sub-02", 1000, "a", 2.0, (4, 4)),
    ]
    assert [r["level"] for r in rows] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("form", ["numpy", "volume", "nibabel"])
def test_functions_get_and_return_each_format(radi, form: str, tmp_path: Path) -> None:
    kinds = {"numpy": np.ndarray, "volume": Volume, "nibabel": nib.Nifti1Image}

    def crop(volume, row):
        assert isinstance(volume, kinds[form])
        if form == "nibabel":
            return volume.slicer[1:4]
        if form == "volume":
            return volume.slicer[1:4]
        moved = row["affine"] @ np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        return volume[1:4], {"affine": moved}

    made = radi.T1w.lazy().map(crop, format=form).write(tmp_path / "out")
    before, after = radi.T1w.iloc[0], made.iloc[0]
    assert np.array_equal(after[:], before[1:4])
    assert np.allclose(after.affine, before.slicer[1:4].affine)
    assert made.shape == (3, 5, 4)


def test_formats_can_follow_each_other(radi) -> None:
    query = (
        radi.T1w.lazy()
        .map(double)
        .map(lambda v, row: v.reorient("LPS"), format="volume")
        .map(lambda img, row: nib.Nifti1Image(np.asarray(img.dataobj) + 1, img.affine), format="nibabel")
        .map(double)
    )
    volumes = list(query.iter_volumes())
    assert [int(v[0, 0, 0]) for v in volumes] == [14, 6, 10]
    assert {"".join(v.axcodes) for v in volumes} == {"LPS"}
    assert [v.obs_id for v in volumes] == radi.T1w.obs_ids


def test_a_changed_shape_wants_an_affine(radi) -> None:
    with pytest.raises(GeometryError, match=r"'sub-03_T1w'.*shape \(6, 5, 4\).*affine"):
        radi.T1w.lazy().map(lambda v, row: v[::2]).to_numpy_stack()


def test_a_new_axis_wants_a_name(radi) -> None:
    with pytest.raises(AxisAmbiguousError, match="sub-03_T1w"):
        radi.T1w.lazy().map(lambda v, row: np.stack([v, v], axis=-1)).to_numpy_stack()


def test_a_mean_over_time_is_a_volume_without_time(study) -> None:
    series = np.arange(6 * 5 * 4 * 3, dtype="i2").reshape(6, 5, 4, 3)
    radi = study({"bold": {"a": series}}, axis4="time")
    made = next(radi.bold.lazy().map(lambda v, row: v.mean(axis=3)).iter_volumes())
    assert made.axes == ("x", "y", "z")
    assert np.array_equal(made[:], series.mean(axis=3))
    kept = next(radi.bold.lazy().map(lambda v, row: v[..., 1:]).iter_volumes())
    assert kept.axes == ("x", "y", "z", "t")


def test_a_function_that_returns_nothing_is_told(radi) -> None:
    def forgetful(volume, row):
        volume + 1

    with pytest.raises(TransformError, match=r"forgetful for 'sub-03_T1w'.*got None.*return missing"):
        radi.T1w.lazy().map(forgetful).to_numpy_stack(executor="serial")


def test_masked_voxels_are_refused_not_unmasked(radi, tmp_path: Path) -> None:
    def masking(volume, row):
        return np.ma.masked_array(volume, mask=np.ones(volume.shape, dtype=bool))

    query = radi.T1w.lazy().map(masking)
    with pytest.raises(TransformError, match=r"masking for 'sub-0\d_T1w'.*every voxel.*filled"):
        query.write(tmp_path / "made", progress=False)


def test_errors_name_the_volume_and_the_function(radi) -> None:
    def picky(volume, row):
        if row["obs_subject_id"] == "sub-01":
            raise ValueError("too dark")
        return volume

    with pytest.raises(TransformError, match=r"picky for 'sub-01_T1w'.*ValueError: too dark") as caught:
        radi.T1w.lazy().map(picky).to_numpy_stack()
    assert caught.value.obs_ids == ("sub-01_T1w",)
    assert isinstance(caught.value.__cause__, ValueError)


def test_collected_failures_leave_the_others(radi, tmp_path: Path) -> None:
    def picky(volume, row):
        if row["obs_subject_id"] == "sub-01":
            raise ValueError("too dark")
        return volume

    query = radi.T1w.lazy().map(picky)
    assert [v.obs_id for v in query.iter_volumes(errors="collect")] == ["sub-03_T1w", "sub-02_T1w"]
    assert [f.obs_ids for f in query.failures] == [("sub-01_T1w",)]
    made = query.write(tmp_path / "out", errors="collect")
    assert made.obs_ids == ["sub-03_T1w", "sub-02_T1w"]
    ledger = RadiObject(tmp_path / "out").ledger.read()
    assert ledger[["obs_id", "outcome", "error"]].values.tolist() == [
        ["sub-01_T1w", "failed", "TransformError"]
    ]
    assert "too dark" in ledger["message"][0]


def test_failing_everywhere_commits_nothing(radi, tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="ZeroDivisionError"):
        radi.T1w.lazy().map(lambda v, row: 1 / 0).write(tmp_path / "out", errors="collect")
    with pytest.raises(FileNotFoundError):
        RadiObject(tmp_path / "out")


def test_a_task_is_tried_again(radi) -> None:
    tries: dict[str, int] = {}

    def flaky(volume, row):
        tries[row.name] = tries.get(row.name, 0) + 1
        if tries[row.name] < 3:
            raise OSError("busy")
        return volume + 1

    stack = radi.T1w.lazy().map(double).map(flaky).to_numpy_stack(retries=2)
    # a second try begins with the stored volume, not with what the first one had made of it
    assert stack[:, 0, 0, 0].tolist() == [7, 3, 5]
    assert set(tries.values()) == {3}
    tries.clear()
    with pytest.raises(TransformError, match="busy"):
        radi.T1w.lazy().map(flaky).to_numpy_stack(retries=1)


def test_written_rows_keep_the_sources_and_gain_what_functions_add(study, tmp_path: Path) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["sub-01", "sub-02", "sub-03"], "scanner": ["A", "B", None]})
    radi = study(None, META, obs={"T1w": frame})

    def add(volume, row):
        extra = {"note": "first"} if row["obs_subject_id"] == "sub-03" else {}
        # W8: an int, then a float; a text that others lack
        return volume, {"score": 1 if row["age"] > 60 else 0.5, **extra}

    made = radi.T1w.lazy().map(add).write(tmp_path / "out", "scored")
    rows = made.obs.read()
    assert isinstance(made, VolumeCollection)
    assert made.name == "scored"
    assert made.obs_ids == radi.T1w.obs_ids  # W16: ids are kept
    assert rows["scanner"].tolist()[1:] == ["A", "B"]
    assert rows["score"].tolist() == [1.0, 0.5, 0.5]
    assert rows["note"].isna().tolist() == [False, True, True]
    assert rows["parent_obs_id"].tolist() == radi.T1w.obs_ids
    assert rows["parent_version"].tolist() == [1, 1, 1]
    assert rows["parent_function"].str.contains("add#").all()
    again = RadiObject(tmp_path / "out")
    assert again.obs_meta.read().sort_values("age")["obs_subject_id"].tolist() == [
        "sub-01",
        "sub-02",
        "sub-03",
    ]
    assert again.validate("full").ok


def test_geometry_and_header_survive_a_function(make_nifti, tmp_path: Path) -> None:
    # W3: nothing of a volume's place in the world is lost by passing through a function
    affine = np.array([[-2.0, 0.1, 0, 10], [0, 0, 3, -5], [0, 2.5, 0, 7], [0, 0, 0, 1]])
    data = make_nifti(np.arange(120, dtype="i2").reshape(6, 5, 4), affine=affine, fields={"descrip": b"mine"})
    (tmp_path / "a.nii").write_bytes(data)
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": str(tmp_path / "a.nii")})
    made = radi.T1w.lazy().map(double).write(tmp_path / "out")
    assert np.allclose(made.iloc[0].affine, affine, atol=1e-6)
    made.iloc[0].to_nifti(tmp_path / "b.nii")
    image = nib.load(tmp_path / "b.nii")
    assert np.allclose(image.affine, affine, atol=1e-6)
    assert image.header["descrip"] == b"mine"
    assert np.array_equal(np.asarray(image.dataobj), np.arange(120).reshape(6, 5, 4) * 2)


def test_a_query_without_functions_is_written_byte_for_byte(radi, tmp_path: Path) -> None:
    made = radi.T1w.lazy().filter("dx == 'b'").write(tmp_path / "out", "bright")
    assert made.obs_ids == ["sub-03_T1w", "sub-01_T1w"]
    mine = [o["crc32c"] for o in made._study.obs("bright").record(0, ("_objects",))[0]]
    theirs = [o["crc32c"] for o in radi._study.obs("T1w").record(0, ("_objects",))[0]]
    assert mine == theirs


def test_what_functions_add_must_be_columns(radi, tmp_path: Path) -> None:
    def write(add):
        radi.T1w.lazy().map(lambda v, row: (v, add(row))).write(tmp_path / "out", executor="serial")

    with pytest.raises(MetadataError, match=r"'affine_json'.*dict|got dict"):
        write(lambda row: {"affine_json": {"a": 1}})
    with pytest.raises(MetadataError, match="dim_x"):
        write(lambda row: {"dim_x": 3})
    with pytest.raises(MetadataError, match="parent_obs_id"):
        write(lambda row: {"parent_obs_id": "x"})
    with pytest.raises(MetadataError, match=r"column 'k'.*'sub-03_T1w'.*'sub-01_T1w'"):
        write(lambda row: {"k": 1 if row["obs_subject_id"] == "sub-03" else "one"})


def test_a_column_of_the_source_keeps_its_type(study, tmp_path: Path) -> None:
    frame = pd.DataFrame({"obs_subject_id": ["sub-01", "sub-02", "sub-03"], "scanner": ["A", "B", "C"]})
    radi = study(None, META, obs={"T1w": frame})
    with pytest.raises(MetadataError, match=r"'scanner'.*string.*7"):
        radi.T1w.lazy().map(lambda v, row: (v, {"scanner": 7})).write(tmp_path / "no")
    made = (
        radi.T1w.lazy()
        .map(lambda v, row: (v, {"scanner": "X"} if row["age"] == 40 else {}))
        .write(tmp_path / "out")
    )
    assert made.obs.read()["scanner"].tolist() == ["C", "X", "B"]


def test_filters_after_a_function_see_what_it_added(radi, tmp_path: Path) -> None:
    query = radi.T1w.lazy().map(mean_of).filter("mean > 1.5 and obs_meta.dx == 'b'")
    assert query.count() == 1
    assert query.to_obs()["obs_id"].tolist() == ["sub-03_T1w"]
    assert query.write(tmp_path / "out").obs_ids == ["sub-03_T1w"]
    with pytest.raises(SelectionError, match=r"head.*write\(\)"):
        query.head(1)
    with pytest.raises(ExpressionError):
        radi.T1w.lazy().map(mean_of).filter("mean >")
    with pytest.raises(ValueError, match="at least one volume"):
        radi.T1w.lazy().map(mean_of).filter("mean > 99").write(tmp_path / "none")


def test_an_empty_query_counts_nothing_and_writes_nothing(radi, tmp_path: Path) -> None:
    query = radi.T1w.lazy().filter("age > 999").map(double)
    assert query.count() == 0
    assert list(query.iter_volumes()) == []
    with pytest.raises(ValueError, match="at least one volume"):
        query.to_numpy_stack()
    with pytest.raises(ValueError, match="at least one volume"):
        query.write(tmp_path / "out")


def test_a_stack_takes_the_widest_type_and_one_shape(study) -> None:
    radi = study({"T1w": {"a": np.full((2, 2, 2), 1, "i2"), "b": np.full((2, 2, 2), 2, "i2")}})
    mixed = radi.T1w.lazy().map(lambda v, row: v / 3 if row["obs_subject_id"] == "b" else v)
    stack = mixed.to_numpy_stack()
    assert stack.dtype == np.float64
    assert stack.shape == (2, 2, 2, 2)
    assert np.allclose(stack[1], 2 / 3)
    other = study({"T1w": {"a": np.zeros((2, 2, 2), "i2"), "b": np.zeros((3, 2, 2), "i2")}})
    with pytest.raises(AlignmentError, match=r"'b_T1w'.*\(2, 2, 2\)"):
        other.T1w.lazy().to_numpy_stack()


def test_batches_come_in_order_and_know_their_rows(radi) -> None:
    batches = list(radi.T1w.lazy().map(mean_of).iter_batches(2))
    assert [b.obs_ids for b in batches] == [["sub-03_T1w", "sub-01_T1w"], ["sub-02_T1w"]]
    assert batches[0].subject_ids == ["sub-03", "sub-01"]
    assert batches[0].obs["mean"].tolist() == [3.0, 1.0]
    assert batches[0].stack().shape == (2, 6, 5, 4)


def test_functions_over_batches(radi) -> None:
    sizes = []

    def centred(batch):
        sizes.append(len(batch))
        mean = np.mean([v for v, _ in batch], axis=0)
        return [(v - mean, {"of": len(batch)}) for v, _ in batch]

    query = radi.T1w.lazy().map(double).map_batches(centred, 2)
    stack = query.to_numpy_stack(executor="serial")
    assert sizes == [2, 1]
    assert stack[:, 0, 0, 0].tolist() == [2.0, -2.0, 0.0]
    with pytest.raises(TransformError, match="1 results for 2 volumes"):
        radi.T1w.lazy().map_batches(lambda batch: batch[0][:1], 2).to_numpy_stack()
    with pytest.raises(ConfigError, match="batch_size"):
        query.map_batches(centred, 3)


def test_labels_stay_labels_and_are_refused_as_floats(radi, tmp_path: Path) -> None:
    made = radi.seg.lazy().map(lambda v, row: (v > 11).astype("u1")).write(tmp_path / "mask")
    assert made.kind == "label"
    with pytest.raises(SourceUnsupportedError, match=r"integers for a label map.*kind"):
        radi.seg.lazy().map(lambda v, row: v / 2).write(tmp_path / "soft")
    assert radi.seg.lazy().map(lambda v, row: v / 2).write(tmp_path / "soft", kind="image").kind == "image"


def test_truth_values_and_half_floats_are_widened(radi, tmp_path: Path) -> None:
    mask = radi.T1w.lazy().map(lambda v, row: v > 1)
    assert mask.write(tmp_path / "mask").iloc[0].dtype == np.uint8
    assert next(mask.iter_volumes()).dtype == np.uint8
    half = radi.T1w.lazy().map(lambda v, row: v.astype("f2"))
    assert half.write(tmp_path / "half").iloc[0].dtype == np.float32


def test_results_that_are_no_volumes_cannot_be_written(radi, tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r"'sub-0\d_T1w'.*a volume.*float"):
        radi.T1w.lazy().map(lambda v, row: float(v.mean())).write(tmp_path / "out")


@pytest.mark.only("tensorstore", reason="arrays that a query holds, wherever they were read")
def test_few_volumes_are_alive_at_once(study) -> None:
    # W29: a pass over many volumes holds as many as there are workers, not all of them
    radi = study({"T1w": {f"s{n:02d}": np.full((6, 5, 4), n, "i2") for n in range(12)}})
    made_so_far: list[weakref.ref[np.ndarray]] = []
    most = 0

    class Tracked(np.ndarray):
        """An array that can be weakly referenced and told from others."""

    def track(volume, row):
        nonlocal most
        made = (volume + 1).view(Tracked)
        made_so_far.append(weakref.ref(made))
        most = max(most, sum(ref() is not None for ref in made_so_far))
        return made

    gc.freeze()  # of what the whole run holds, none is looked at again
    try:
        for volume in radi.T1w.lazy().map(track).iter_volumes(workers=2):
            assert volume[0, 0, 0] > 0
            gc.collect()
    finally:
        gc.unfreeze()
    assert len(made_so_far) == 12
    assert most <= 4


def test_wrong_arguments_are_told_at_once(radi) -> None:
    query = radi.T1w.lazy()
    with pytest.raises(ConfigError, match="format"):
        query.map(double, format="torch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="function"):
        query.map("double")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="executor"):
        query.to_numpy_stack(executor="cluster")
    with pytest.raises(ConfigError, match="errors"):
        query.to_numpy_stack(errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="workers"):
        query.map(double).to_numpy_stack(workers=0)


def test_the_same_query_on_every_backend(backend) -> None:
    images = {"T1w": [((np.full((6, 5, 4), n, "i2"), np.eye(4)), f"s{n}") for n in range(3)]}
    radi = RadiObject.from_niftis(backend.uri(), images, backend=backend.backend)
    made = radi.T1w.lazy().map(mean_of).map(double).write(backend.uri("out"), backend=backend.backend)
    assert made.backend == backend.backend
    assert [int(v[0, 0, 0]) for v in made] == [0, 2, 4]
    assert made.obs.read()["mean"].tolist() == [0.0, 1.0, 2.0]
    assert RadiObject(backend.uri("out")).validate("full").ok


def test_a_volume_that_a_function_made_says_nothing_of_its_parent(radi) -> None:
    made = next(radi.T1w.lazy().map(lambda v, row: v * 10).iter_volumes())
    assert made.get_statistics()["mean"] == 30.0
    assert "intensity_mean" not in made.metadata
    seen = {}

    def crop(volume, row):
        return volume[:4], {"affine": np.diag([3.0, 1, 1, 1])}

    def look(volume, row):
        seen.update(row.to_dict())
        return volume

    cropped = radi.T1w.lazy().map(crop).map(look)
    cropped.head(1).to_numpy_stack()
    assert (seen["dim_x"], seen["spacing_x"], seen["affine"][0, 0]) == (4, 3.0, 3.0)
    assert radi.T1w.lazy().map(crop).filter("dim_x == 4").count() == 3


def test_an_affine_beside_what_has_its_own_is_refused(radi) -> None:
    for form in ("volume", "nibabel"):
        with pytest.raises(GeometryError, match="has its own"):
            radi.T1w.lazy().map(lambda v, row: (v, {"affine": np.eye(4)}), format=form).to_numpy_stack()


def test_a_function_of_other_arguments_is_told_what_it_gets(radi) -> None:
    with pytest.raises(TransformError, match=r"takes \(volume, obs_row\)"):
        radi.T1w.lazy().map(lambda v: v).to_numpy_stack()


def test_asking_whether_a_query_selects_anything_runs_nothing(radi) -> None:
    def never(volume, row):
        raise AssertionError("called")

    assert radi.T1w.lazy().map(never).filter("age > 0")
    assert not radi.T1w.lazy().filter("age > 999").map(never)
    with pytest.raises(ConfigError, match="executor"):
        radi.T1w.lazy().count(executor="thread")


def test_types_that_none_holds_do_not_stack(tmp_path: Path) -> None:
    # NumPy would make both floats, and the largest numbers others
    arrays = [(np.full((2, 2, 2), 2**60 + 1, kind), None) for kind in ("i8", "u8")]
    sources = {"CT": list(zip(arrays, ("a", "b"), strict=True))}
    radi = RadiObject.from_niftis(tmp_path / "study", sources, progress=False)
    with pytest.raises(AlignmentError, match="int64, uint64"):
        radi.CT.lazy().to_numpy_stack()
