"""Writers: volumes one by one, visible together, in one commit or not at all."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest

from radiobject import (
    OrientationConfig,
    RadiObject,
    RadiObjectWriter,
    Volume,
    VolumeCollection,
    VolumeCollectionWriter,
    WriteConfig,
)
from radiobject.errors import (
    AlignmentError,
    AxisAmbiguousError,
    ConfigError,
    ConflictError,
    DuplicateIdError,
    MetadataError,
    RadiObjectError,
    SourceError,
    SourceNotFoundError,
    SourceUnsupportedError,
    StorageError,
    StudyExistsError,
    StudyNotFoundError,
    WriterError,
)
from radiobject.format.journal import running
from radiobject.location import Location
from radiobject.storage import Storage

AFFINE = np.diag([2.0, 2.5, 3.0, 1.0])


def block(value: int = 1, shape: tuple[int, ...] = (5, 4, 3), dtype: str = "i2") -> np.ndarray:
    return np.full(shape, value, dtype)


def refuses_to_open(uri) -> bool:
    with pytest.raises(StudyNotFoundError):
        RadiObject(uri)
    return True


def write_and_fail(writer, obs_id: str = "a", subject: str = "s") -> None:
    with writer:
        writer.write_volume(block(), obs_id, subject)
        _ = 1 / 0


def test_volumes_written_one_by_one_are_one_version(backend) -> None:
    writer = VolumeCollectionWriter(backend.uri(), name="T1w", backend=backend.backend, message="by hand")
    with writer:
        for n, subject in enumerate(["sub-3", "sub-1", "sub-2"]):
            writer.write_volume(block(n), f"{subject}_T1w", subject, AFFINE, score=n / 2, session="pre")
            assert writer.n_written == n + 1
            assert refuses_to_open(backend.uri())
    made = writer.collection
    assert (made.name, made.kind, made.backend, made.shape) == ("T1w", "image", backend.backend, (5, 4, 3))
    assert made.obs_ids == ["sub-3_T1w", "sub-1_T1w", "sub-2_T1w"]
    rows = made.obs.read(["obs_id", "obs_subject_id", "session", "score", "intensity_max"])
    assert rows["obs_subject_id"].tolist() == ["sub-3", "sub-1", "sub-2"]
    assert rows["score"].tolist() == [0, 0.5, 1]
    assert rows["session"].tolist() == ["pre"] * 3
    assert rows["intensity_max"].tolist() == [0, 1, 2]
    radi = RadiObject(backend.uri())
    assert (radi.version, radi.obs_subject_ids) == (1, ["sub-3", "sub-1", "sub-2"])
    assert radi.versions()[0]["message"] == "by hand"
    for n, vol in enumerate(radi.T1w):
        np.testing.assert_array_equal(vol[...], block(n))
        np.testing.assert_array_equal(vol.affine, AFFINE)
        assert vol.metadata["score"] == n / 2
    assert radi.validate("full").ok
    assert radi.ledger.read(["obs_id", "outcome"])["outcome"].tolist() == ["ingested"] * 3
    assert running(Storage(Location(backend.uri()))) == []


def test_data_of_every_kind_is_taken(tmp_path, study, make_nifti) -> None:
    xarray = pytest.importorskip("xarray")
    file = tmp_path / "scan.nii.gz"
    content = make_nifti(block(7), affine=AFFINE, fields={"scl_slope": 2, "scl_inter": 1, "descrip": b"s7"})
    file.write_bytes(gzip.compress(content))
    cube = xarray.DataArray(block(5).T, dims=["z", "y", "x"], attrs={"affine": AFFINE})
    given = {
        "array": block(1),
        "pair": (block(2), AFFINE),
        "image": nibabel.Nifti1Image(block(3), AFFINE),
        "volume": Volume.from_numpy(block(4), AFFINE),
        "dataarray": cube,
        "stored": study({"CT": {"sub-9": (block(6), AFFINE)}}).CT.iloc[0],
        "file": file,
        "loaded": nibabel.load(file),
    }
    with VolumeCollectionWriter(tmp_path / "study") as writer:
        for name, data in given.items():
            writer.write_volume(data, name, "sub-1", AFFINE if name == "array" else None)
    for n, vol in enumerate(writer.collection):
        expected = 15 if vol.obs_id in ("file", "loaded") else n + 1
        assert np.unique(vol[...]).tolist() == [expected]
        np.testing.assert_allclose(vol.affine, AFFINE)
        assert vol.stored_dtype == np.int16
    for name in ("file", "loaded"):
        writer.collection.loc[name].to_nifti(tmp_path / f"{name}.nii")
        assert (tmp_path / f"{name}.nii").read_bytes() == content
    with (
        pytest.raises(MetadataError, match="an array as data"),
        VolumeCollectionWriter(tmp_path / "b") as writer,
    ):
        writer.write_volume((block(), AFFINE), "a", "s", AFFINE)


def test_attributes_become_typed_columns(tmp_path) -> None:
    with VolumeCollectionWriter(
        tmp_path / "study", obs_schema={"age": "int16", "site": str, "dx": "category", "empty": float}
    ) as writer:
        writer.write_volume(block(), "a", "s", age=61, site="München", dx="tumour", volume_ml=1, tags=["x"])
        writer.write_volume(block(), "b", "s", age=None, volume_ml=0.5, run=2)
        writer.write_batch([(block(), "c", "t", {"dx": "none"}), (block(), "d", "t", {})])
    frame = writer.collection.obs.read(["age", "site", "dx", "empty", "volume_ml", "tags", "run"])
    types = {f.name: str(f.type) for f in writer.collection.obs.to_arrow(list(frame.columns)).schema}
    assert types["age"] == "int16"
    assert types["empty"] == "double"
    assert types["dx"].startswith("dictionary<values=string")
    assert frame["volume_ml"].iloc[:2].tolist() == [1, 0.5]
    assert frame["volume_ml"].isna().tolist() == [False, False, True, True]
    assert frame["site"].iloc[0] == "München"
    assert frame["dx"].iloc[2] == "none"
    assert list(frame["tags"].iloc[0]) == ["x"]
    assert frame["run"].iloc[1] == 2
    assert frame["empty"].isna().all()
    assert writer.collection.filter("age > 60").obs_ids == ["a"]


@pytest.mark.parametrize(
    ("attrs", "match"),
    [({"x": "text"}, "'x'.*int64"), ({"dim_x": 3}, "dim_x"), ({"x": object()}, "'x'"), ({"_x": 1}, "_x"),
     ({"age": "old"}, "'age'.*int16"), ({"session": 1}, "session")],
)  # fmt: skip
def test_attributes_that_clash_are_refused_before_the_voxels_are_written(tmp_path, attrs, match) -> None:
    with VolumeCollectionWriter(tmp_path / "study", obs_schema={"age": "int16"}) as writer:
        writer.write_volume(block(), "a", "s", x=1)
        before = Storage(Location(tmp_path / "study")).list("collections")
        with pytest.raises(MetadataError, match=match):
            writer.write_volume(block(), "b", "s", **attrs)
        assert Storage(Location(tmp_path / "study")).list("collections") == before
        writer.write_volume(block(), "b", "s", x=2)
    assert writer.collection.obs.read(["x"])["x"].tolist() == [1, 2]


def test_a_volume_that_fails_leaves_no_trace_and_the_writer_goes_on(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study", shape=(5, 4, 3)) as writer:
        for data, error in (
            (block(shape=(5, 4, 4)), AlignmentError),
            (block(shape=(5, 4, 3, 2)), AxisAmbiguousError),
            (np.zeros((5, 4, 3), complex), SourceUnsupportedError),
            (tmp_path / "missing.nii", SourceNotFoundError),
            ("no such object", SourceError),
            (object(), SourceUnsupportedError),
        ):
            with pytest.raises(error):
                writer.write_volume(data, "a", "s", note="text")
        writer.write_volume(block(), "a", "s", note=1)
    assert writer.collection.obs_ids == ["a"]
    assert writer.collection.obs.read(["note"])["note"].tolist() == [1]
    assert RadiObject(tmp_path / "study").validate("full").ok


@pytest.mark.parametrize(
    ("shape", "fits", "does_not"),
    [((5, 4, 3), (5, 4, 3, 2), (4, 5, 3)), ((5, 4, 3, 2), (5, 4, 3, 2), (5, 4, 3)),
     ((5, 4, 3, 2), (5, 4, 3, 2), (5, 4, 3, 2, 2))],
)  # fmt: skip
def test_a_shape_is_of_space_or_of_all_axes(tmp_path, shape, fits, does_not) -> None:
    with VolumeCollectionWriter(tmp_path / "study", shape, axis4="time") as writer:
        writer.write_volume(block(shape=fits), "a", "s")
        with pytest.raises(AlignmentError, match=r"volume 'b' of 'volume': expected shape"):
            writer.write_volume(block(shape=does_not), "b", "s")
    assert writer.collection.iloc[0].shape == fits


@pytest.mark.no_backend(reason="refused before anything is stored")
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 0), (5, 4, 1.5), (1,) * 6])
def test_what_is_no_shape(tmp_path, shape) -> None:
    with pytest.raises(ConfigError, match="shape="):
        VolumeCollectionWriter(tmp_path / "study", shape)


def test_ids_are_unique_and_text(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study") as writer:
        writer.write_volume(block(1), "a", "s")
        with pytest.raises(DuplicateIdError, match="obs_id 'a'"):
            writer.write_volume(block(2), "a", "s")
        for obs_id, subject in (("", "s"), (7, "s"), ("b", ""), ("b", None)):
            with pytest.raises(MetadataError, match="obs_"):
                writer.write_volume(block(), obs_id, subject)
    assert writer.n_written == 1
    assert np.unique(writer.collection.loc["a"][...]).tolist() == [1]


def test_a_batch_must_be_of_fours(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study") as writer:
        for wrong in ([(block(), "b", "s")], [block()], [(block(), "b", "s", 7)]):
            with pytest.raises(MetadataError, match="obs_subject_id, attrs"):
                writer.write_batch(wrong)
        with pytest.raises(DuplicateIdError):
            writer.write_batch([(block(), "a", "s", {}), (block(), "a", "s", {})])
    assert writer.collection.obs_ids == ["a"]


def test_labels_are_checked_and_named(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study", kind="label", labels={1: "tumour"}) as writer:
        writer.write_volume(block(dtype="u1"), "a", "s")
        with pytest.raises(SourceUnsupportedError, match="float32"):
            writer.write_volume(block(dtype="f4"), "b", "s")
    assert writer.collection.kind == "label"
    assert [(x.value, x.name) for x in writer.collection.iloc[0].meta.labels] == [(1, "tumour")]
    with pytest.raises(ConfigError, match="'mask'"):
        VolumeCollectionWriter(tmp_path / "b", kind="mask")
    for name in ("_x", 7):
        with pytest.raises(MetadataError, match="collection names"):
            VolumeCollectionWriter(tmp_path / "b", name=name)


def test_settings_of_the_writer_hold(tmp_path) -> None:
    turned = WriteConfig(orientation=OrientationConfig(reorient_on_load=True, canonical_target="LPS"))
    with VolumeCollectionWriter(tmp_path / "study", write=turned) as writer:
        writer.write_volume(block(), "a", "s")
    assert writer.collection.iloc[0].axcodes == ("L", "P", "S")


def test_a_writer_is_used_inside_its_block_and_once(tmp_path) -> None:
    writer = VolumeCollectionWriter(tmp_path / "study")
    with pytest.raises(WriterError, match="not entered yet"):
        writer.write_volume(block(), "a", "s")
    with pytest.raises(WriterError, match="none yet"):
        _ = writer.collection
    assert not (tmp_path / "study").exists()
    with writer:
        with pytest.raises(WriterError, match="once"):
            writer.__enter__()
        writer.write_volume(block(), "a", "s")
    with pytest.raises(WriterError, match="a closed writer"):
        writer.write_volume(block(), "b", "s")
    with pytest.raises(WriterError, match="once"), writer:
        pass
    assert issubclass(WriterError, RuntimeError)
    assert writer.collection.obs_ids == ["a"]


def test_an_exception_in_the_block_commits_nothing_and_leaves_the_place_free(backend) -> None:
    writer = VolumeCollectionWriter(backend.uri(), backend=backend.backend)
    with pytest.raises(ZeroDivisionError):
        write_and_fail(writer)
    assert refuses_to_open(backend.uri())
    assert running(Storage(Location(backend.uri()))) == []
    with pytest.raises(WriterError):
        _ = writer.collection
    with VolumeCollectionWriter(backend.uri(), backend=backend.backend) as again:
        again.write_volume(block(9), "a", "s")
    assert np.unique(again.collection.loc["a"][...]).tolist() == [9]
    assert RadiObject(backend.uri()).validate("full").ok


def test_an_empty_collection_of_its_own_is_an_error(tmp_path) -> None:
    with pytest.raises(WriterError, match="at least one volume"), VolumeCollectionWriter(tmp_path / "study"):
        pass
    assert refuses_to_open(tmp_path / "study")


def test_a_place_that_is_taken_is_refused_at_once(study, tmp_path) -> None:
    radi = study()
    for writer in (VolumeCollectionWriter(radi.uri), RadiObjectWriter(radi.uri)):
        with pytest.raises(StudyExistsError), writer:
            pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(StudyExistsError, match="no radiobject study"), RadiObjectWriter(tmp_path / "folder"):
        pass
    assert RadiObject(radi.uri).version == 1


def test_of_two_writers_at_one_place_one_wins(tmp_path) -> None:
    slow = VolumeCollectionWriter(tmp_path / "study").__enter__()
    slow.write_volume(block(1), "a", "s")
    with VolumeCollectionWriter(tmp_path / "study") as quick:
        quick.write_volume(block(2), "a", "s")
    with pytest.raises(ConflictError, match="created this study first"):
        slow.__exit__(None, None, None)
    assert np.unique(VolumeCollection(tmp_path / "study").loc["a"][...]).tolist() == [2]


def test_threads_may_share_a_writer(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study") as writer, ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(writer.write_volume, block(n), f"v{n}", f"s{n % 3}", n=n) for n in range(20)]
        jobs += [pool.submit(writer.write_volume, block(99), "v0", "s0")]
        failed = [job for job in jobs if job.exception() is not None]
    assert [type(job.exception()) for job in failed] == [DuplicateIdError]
    made = writer.collection
    assert sorted(made.obs_ids) == sorted(f"v{n}" for n in range(20))
    for vol in made:
        if vol.obs_id != "v0":
            assert np.unique(vol[...]).tolist() == [int(vol.obs_id[1:])] == [vol.metadata["n"]]


def test_a_full_disk_at_the_end_commits_nothing(tmp_path, monkeypatch) -> None:
    def full(self, key, data) -> bool:
        raise StorageError("disk", got="no space")

    writer = VolumeCollectionWriter(tmp_path / "study").__enter__()
    writer.write_volume(block(), "a", "s")
    monkeypatch.setattr(Storage, "write", full)
    with pytest.raises(StorageError, match="no space"):
        writer.__exit__(None, None, None)
    monkeypatch.undo()
    assert refuses_to_open(tmp_path / "study")


class BrokenImage:
    """An image of a library that fails in its own words when its voxels are asked for."""

    affine = np.eye(4)

    @property
    def dataobj(self) -> np.ndarray:
        raise RuntimeError("invalid code lengths set")


def test_every_error_of_a_writer_is_ours(tmp_path) -> None:
    with VolumeCollectionWriter(tmp_path / "study") as writer:
        for data in (None, 3, "x.nii", [1, 2], {"a": 1}, (block(), "RAS"), np.array(["a"]), b"bytes"):
            with pytest.raises(RadiObjectError):
                writer.write_volume(data, "a", "s")
        with pytest.raises(SourceError, match="invalid code lengths"):
            writer.write_volume(BrokenImage(), "a", "s")
        writer.write_volume(block(), "a", "s")
