"""Registered volumes become stored ones while people work: they see what they saw before."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, VolumeCollection, WriteConfig, config, configure
from radiobject.errors import (
    ConfigError,
    ConflictError,
    MissingObjectError,
    SourceChangedError,
    TransactionError,
    UnknownIdError,
    ViewError,
)
from radiobject.format import catalog
from tests.conftest import NiftiMaker
from tests.ingest.dicom_series import enhanced, save, slices

pytestmark = pytest.mark.only("tensorstore", reason="one engine that stores voxels stands for all")

RAMP = np.arange(12 * 10 * 8, dtype="i2").reshape(12, 10, 8)
SUBJECTS = ("sub-01", "sub-02", "sub-03")
UNREAD = ("intensity_", "nonzero_box", "n_nonfinite", "source_digest")
"""Columns that only voxels tell."""


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    """NIfTI of three subjects: scaled integers, floats, 4D in big-endian, labels; some with bytes behind."""
    for number, subject in enumerate(SUBJECTS):
        tail = b"tail" if number else b""
        scaled = {"scl_slope": 2, "scl_inter": -10}
        made = {
            "T1w.nii": make_nifti(RAMP + number, fields=scaled, tail=tail),
            "T2w.nii.gz": gzip.compress(make_nifti(RAMP / np.float32(number + 3), tail=tail)),
            "bold.nii": make_nifti(np.stack([RAMP, RAMP + number], 3), order=">", fields={"xyzt_units": 10}),
            "seg.nii.gz": gzip.compress(make_nifti((RAMP % 5).astype("u1"), tail=tail)),
        }
        for name, data in made.items():
            (tmp_path / f"{subject}_{name}").write_bytes(data)
    return tmp_path


def images(files: Path, *names: str) -> dict[str, str]:
    return {n: str(files / f"*_{n}.nii*") for n in names or ("T1w", "T2w", "bold", "seg")}


@pytest.fixture
def radi(files: Path) -> RadiObject:
    made = RadiObject.from_niftis(files / "study", images(files), copy=False, progress=False)
    made.obs_meta.add_column("age", values={s: 40 + n for n, s in enumerate(SUBJECTS)})
    made.T1w.obs.add_column("rating", values=["good", "bad", "good"])
    return made


def fresh(radi: RadiObject) -> RadiObject:
    """The study as somebody else opens it."""
    catalog._snapshots.clear()
    return RadiObject(radi.uri)


def voxels(radi: RadiObject) -> dict[str, Any]:
    """What reads return, stored and scaled, with their types, and what is said of each volume."""
    found = {}
    for name in radi.collection_names:
        for v in radi.collection(name):
            said = (v.shape, v.axes, str(v.dtype), str(v.stored_dtype), v.affine.tolist(), v.meta.labels)
            found[v.obs_id] = (
                said,
                v.to_numpy().tobytes(),
                v.to_numpy(raw=True).tobytes(),
                v[3:5, -1].tolist(),
            )
    return found


def tables(radi: RadiObject) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without what only voxels tell."""
    found = {"": radi.obs_meta.to_arrow().to_pylist()}
    for name in radi.collection_names:
        table = radi.collection(name).obs.to_arrow()
        found[name] = table.select([c for c in table.schema.names if not c.startswith(UNREAD)]).to_pylist()
    return found


def sound(radi: RadiObject) -> bool:
    report = fresh(radi).validate("full")
    assert [p for p in report.problems if p.kind != "hint"] == []
    return True


class Stop(Exception):
    """Whoever ran it has gone home."""


def stopping(after: int) -> Callable[[int, int], None]:
    """A `progress` that ends the run when so many volumes are done."""

    def tell(done: int, total: int) -> None:
        if done >= after:
            raise Stop

    return tell


def meanwhile(at: int, act: Callable[[], Any]) -> Callable[[int, int], None]:
    """A `progress` by which somebody acts once, when so many volumes are done."""
    waiting = [act]

    def tell(done: int, total: int) -> None:
        if done >= at and waiting:
            waiting.pop()()

    return tell


@pytest.fixture
def half(radi: RadiObject) -> RadiObject:
    """A study of which seven volumes of twelve are stored: two collections are, and one is in part."""
    with pytest.raises(Stop):
        radi.materialize(commit_every=1, executor="serial", progress=stopping(8))
    return fresh(radi)


# -- nothing changes


@pytest.mark.only("memory", "tensorstore", "tiledb", reason="two engines read Zarr by the same rows")
def test_voxels_tables_and_exports_stay(radi: RadiObject, files: Path, engine: str) -> None:
    seen, rows = voxels(radi), tables(radi)
    assert radi.T1w.iloc[0].dtype == np.int32  # what the whole range of the stored type needs
    radi.materialize()
    stored = {"memory": "memory", "tiledb": "tiledb"}.get(engine, "zarr")
    assert {radi.collection(n).backend for n in radi} == {stored}
    assert voxels(radi) == seen
    assert tables(radi) == rows
    if engine == "memory":
        return
    (files / "moved").mkdir()
    for source in files.glob("*.nii*"):
        source.rename(files / "moved" / source.name)
    assert voxels(fresh(radi)) == seen
    assert sound(radi)
    for source in (files / "moved").iterdir():
        radi.get_volume(source.name.split(".")[0]).to_nifti(files / "out.nii")
        data = source.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        assert (files / "out.nii").read_bytes() == data


def test_it_says_what_an_ingest_would_have(radi: RadiObject, files: Path) -> None:
    radi.materialize()
    ingested = RadiObject.from_niftis(files / "ingested", images(files), progress=False)
    for name in ingested.collection_names:
        ours, theirs = radi.collection(name), ingested.collection(name)
        expected = theirs.obs.read()
        assert ours.obs.read()[expected.columns].map(str).equals(expected.map(str))
        pictures = [r._study.snapshot.table("thumbnails", name).read().to_pylist() for r in (radi, ingested)]
        assert pictures[0] == pictures[1]
    index = [r.seg.obs.to_arrow(["_foreground"])["_foreground"].null_count for r in (radi, ingested)]
    assert index == [0, 0]


def test_series_of_dicom(tmp_path: Path) -> None:
    bare = save(tmp_path / "in" / "a", slices(RescaleSlope="2", RescaleIntercept="-10"))
    packed = slices(6, PatientID="b", SeriesInstanceUID="1.2.9", StudyInstanceUID="1.2.8")
    save(tmp_path / "in" / "b", packed)
    for dataset, path in zip(packed, sorted((tmp_path / "in" / "b").iterdir()), strict=True):
        dataset.compress("1.2.840.10008.1.2.5")
        dataset.save_as(path, enforce_file_format=True)
    of_one_file = enhanced(slope=lambda n: n + 1, PatientID="c", SeriesInstanceUID="1.2.10")
    save(tmp_path / "in" / "c", [of_one_file])
    options: dict[str, Any] = {"deidentify": False, "progress": False}
    radi = RadiObject.from_dicoms(tmp_path / "study", bare.parent, copy=False, **options)
    seen, rows = voxels(radi), tables(radi)
    assert len(seen) == 3
    with configure(write=WriteConfig(store_integers=False)):  # what is stored is compared, too
        radi.materialize()
    assert voxels(fresh(radi)) == seen
    assert tables(radi) == rows
    assert sound(radi)
    with configure(write=WriteConfig(store_integers=False)):
        ingested = RadiObject.from_dicoms(tmp_path / "ingested", bare.parent, **options)
    expected = ingested.MR.obs.read()
    assert radi.MR.obs.read()[expected.columns].map(str).equals(expected.map(str))


def test_sources_of_a_store_elsewhere(files: Path, make_nifti: NiftiMaker) -> None:
    import fsspec

    place = fsspec.filesystem("memory")
    place.pipe({f"/elsewhere/raw/{p.name}": p.read_bytes() for p in files.glob("*.nii*")})
    raw = "memory://elsewhere/raw"
    radi = RadiObject.from_niftis(
        files / "study", {n: f"{raw}/*_{n}.nii*" for n in images(files)}, copy=False, source_root=raw
    )
    seen = voxels(radi)
    assert voxels(radi.materialize()) == seen
    place.rm("/elsewhere", recursive=True)
    ingested = RadiObject.from_niftis(files / "ingested", images(files), progress=False)
    for name in ingested.collection_names:
        digests = [r.collection(name).obs.read()["source_digest"].tolist() for r in (radi, ingested)]
        assert digests[0] == digests[1]


@pytest.mark.only("tensorstore", "tiledb", reason="memory is of this process")
def test_worker_processes(radi: RadiObject) -> None:
    seen = voxels(radi)
    radi.materialize(["T1w", "seg"], executor="processes", workers=2)
    assert voxels(fresh(radi)) == seen
    assert [radi.T2w.backend, radi.seg.backend] == ["files", radi.T1w.backend]


# -- half of it


def test_half_a_study_is_one(half: RadiObject, files: Path) -> None:
    assert {n: half.collection(n).backend for n in half} == {
        "T1w": "zarr", "T2w": "zarr", "bold": "files", "seg": "files",
    }  # fmt: skip
    assert sound(half)
    registered = RadiObject.from_niftis(files / "other", images(files), copy=False, progress=False)
    seen = voxels(registered)
    assert voxels(half) == seen
    assert half.filter("age > 40").obs_subject_ids == ["sub-02", "sub-03"]
    assert half.bold.filter("dim_t == 2 and intensity_mean > 0").obs_ids == ["sub-01_bold"]
    assert voxels(half.write(files / "copy")) == seen
    stored = half.write(files / "stored", backend="zarr")
    assert {stored.collection(n).backend for n in stored} == {"zarr"}
    assert voxels(stored) == seen


def test_half_a_study_trains(half: RadiObject) -> None:
    pytest.importorskip("torch")
    from radiobject.ml import PatchPlan, RadiLoader, SampleSpec, Uniform

    spec = SampleSpec(images=["T1w", "T2w"], masks="seg", targets=["age"], patch_size=(4, 4, 4))
    drawn = []
    for radi in (half, fresh(half).materialize()):
        with RadiLoader(PatchPlan(spec, radi, Uniform(per_volume=2), seed=1), batch_size=2) as loader:
            drawn.append([(np.asarray(b["image"]).tolist(), np.asarray(b["label"]).tolist()) for b in loader])
    assert len(drawn[0]) == 3
    assert drawn[0] == drawn[1]


def test_the_next_run_goes_on(half: RadiObject, files: Path) -> None:
    stored = {p for p in (files / "study").rglob("*") if p.is_file() and "collections" in p.parts}
    seen, rows, version = voxels(half), tables(half), half.version
    half.materialize(commit_every=2)
    assert half.version == version + 3  # five volumes
    assert stored <= set((files / "study").rglob("*"))
    assert (voxels(half), tables(half)) == (seen, rows)
    assert {half.collection(n).backend for n in half} == {"zarr"}


def test_what_was_finished_and_not_committed_is_taken_over(radi: RadiObject, files: Path) -> None:
    seen, version = voxels(radi), radi.version
    with pytest.raises(Stop):
        radi.materialize(commit_every=100, executor="serial", progress=stopping(5))
    assert fresh(radi).version == version
    radi = fresh(radi).materialize()
    assert voxels(radi) == seen
    outcomes = radi.ledger.read()["outcome"].tolist()[12:]
    assert (outcomes.count("resumed"), outcomes.count("ingested")) == (5, 7)
    assert len(list((files / "study" / "collections").rglob("*.ome.zarr"))) == 12
    again = RadiObject.from_niftis(files / "again", images(files), copy=False, progress=False)
    with pytest.raises(Stop):
        again.materialize(commit_every=100, executor="serial", progress=stopping(5))
    fresh(again).materialize(resume=False)
    assert len(list((files / "again" / "collections").rglob("*.ome.zarr"))) == 17


def test_nothing_to_do_is_no_commit(radi: RadiObject) -> None:
    version = radi.materialize("T1w").version
    assert radi.materialize("T1w").version == version
    assert radi.materialize().version > version
    assert radi.materialize().version == radi.version == fresh(radi).version
    assert not list(Path(radi.uri).rglob("transactions/*/*"))


def test_layers_made_of_it_stay_up_to_date(radi: RadiObject) -> None:
    calls = []

    def double(voxels: Any, row: Any) -> Any:
        calls.append(row["obs_id"])
        return voxels * 2

    made = radi.T1w.lazy().map(double, version="1")
    radi.add_collection("double", made, executor="serial")
    version = radi.materialize(commit_every=2).version
    radi.add_collection("double", radi.T1w.lazy().map(double, version="1"), executor="serial")
    assert (radi.version, len(calls)) == (version, 3)
    assert sound(radi)


# -- other people


def test_what_others_do_meanwhile_stays(radi: RadiObject, files: Path, make_nifti: NiftiMaker) -> None:
    seen, other = voxels(radi), fresh(radi)
    (files / "sub-02_new.nii").write_bytes(make_nifti(RAMP + 7))

    def act() -> None:
        other.delete(obs_ids="sub-01_T2w")
        other.T1w.obs.update(
            pd.DataFrame({"obs_id": ["sub-01_T1w", "sub-03_T1w"], "rating": ["awful", "fine"]})
        )
        other.append({"T2w": [(files / "sub-02_new.nii", "sub-02", "sub-02_T2w")]}, on_conflict="replace")
        other.append({"bold": [(files / "sub-02_new.nii", "sub-02", "other")]}, copy=False)
        other.rename_collection("seg", "mask")
        other.rename_collection("T1w", "first")
        other.obs_meta.update(pd.DataFrame({"obs_subject_id": ["sub-02"], "age": [99]}))

    # two volumes are committed, and the third waits, when all this happens
    radi.materialize(commit_every=2, executor="serial", progress=meanwhile(3, act))
    assert radi.collection_names == fresh(radi).collection_names == ("first", "T2w", "bold", "mask")
    assert radi.collection("first").obs.read()["rating"].tolist() == ["awful", "bad", "fine"]
    assert radi.T2w.obs_ids == ["sub-02_T2w", "sub-03_T2w"]
    np.testing.assert_array_equal(radi.get_volume("sub-02_T2w").to_numpy(), RAMP + 7)
    assert radi.obs_meta.read()["age"].tolist() == [40, 99, 42]
    # what came later lies where it did, so that its collection is still one of files
    assert [radi.collection(n).backend for n in radi] == ["zarr", "zarr", "files", "zarr"]
    now = voxels(radi)
    assert {i: v for i, v in now.items() if i not in ("sub-02_T2w", "other")} == {
        i: v for i, v in seen.items() if i not in ("sub-01_T2w", "sub-02_T2w")
    }
    assert sound(radi)
    assert radi.materialize().bold.backend == "zarr"


def test_columns_are_set_by_handles_from_before(radi: RadiObject) -> None:
    others = [fresh(radi) for _ in range(3)]
    seen = voxels(radi.materialize())
    others[0].T2w.obs.add_column("site", values=["A", "B", "A"])
    others[1].T1w.obs.update(pd.DataFrame({"obs_id": ["sub-02_T1w"], "rating": ["fine"]}))
    now = fresh(radi)
    assert now.T2w.obs.read()["site"].tolist() == ["A", "B", "A"]
    assert now.T1w.obs.read()["rating"].tolist() == ["good", "fine", "good"]
    assert voxels(fresh(radi)) == seen
    with pytest.raises(ConflictError):  # whoever takes a volume away should know what has become of it
        others[2].delete(obs_ids="sub-02_T1w")
    assert sound(radi)


def test_what_is_made_of_it_meanwhile_is_kept(radi: RadiObject) -> None:
    act = meanwhile(1, fresh(radi).materialize)

    def double(voxels: Any, row: Any) -> Any:
        act(1, 1)
        return voxels * 2

    seen = voxels(radi)
    radi.add_collection("double", radi.T1w.lazy().map(double, version="1"), executor="serial")
    np.testing.assert_array_equal(radi.double.iloc[2].to_numpy(), radi.T1w.iloc[2].to_numpy() * 2)
    assert {i: v for i, v in voxels(radi).items() if not i.endswith("double")} == seen
    assert sound(radi)


def test_a_collection_that_is_gone_is_left_alone(radi: RadiObject) -> None:
    other = fresh(radi)
    act = meanwhile(1, lambda: other.delete(collections=["T1w", "bold"]))
    radi.materialize(commit_every=2, executor="serial", progress=act)
    assert [(n, radi.collection(n).backend) for n in radi] == [("T2w", "zarr"), ("seg", "zarr")]
    assert sound(radi)


def test_two_at_once(radi: RadiObject) -> None:
    seen, rows = voxels(radi), tables(radi)
    handles = [fresh(radi), fresh(radi)]
    failed: list[BaseException] = []

    def run(one: RadiObject) -> None:
        try:
            one.materialize(commit_every=1, workers=1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for one in (*handles, fresh(radi)):
        assert (voxels(one), tables(one)) == (seen, rows)
    assert {fresh(radi).collection(n).backend for n in radi} == {"zarr"}
    assert sound(radi)


def test_one_inside_the_other(radi: RadiObject) -> None:
    seen, other = voxels(radi), fresh(radi)
    radi.materialize(commit_every=5, executor="serial", progress=meanwhile(3, lambda: other.materialize()))
    assert radi.version == other.version  # nothing was left to commit
    assert voxels(radi) == voxels(other) == seen
    assert sound(radi)


# -- sources that are others, or gone


def change(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-8] + b"\1\2\3\4\1\2\3\4")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def test_a_source_that_changed_stops_it(radi: RadiObject, files: Path) -> None:
    change(files / "sub-02_T1w.nii")
    with pytest.raises(SourceChangedError, match=r"sub-02_T1w\.nii") as caught:
        radi.materialize(commit_every=1, executor="serial")
    assert caught.value.__notes__ == ["volume 'sub-02_T1w'; 1 volumes are converted and committed"]
    assert [p.endswith(".files") for p in fresh(radi).T1w.obs.to_arrow(["_path"])["_path"].to_pylist()] == [
        False, True, True,
    ]  # fmt: skip


def test_what_cannot_be_read_is_left_as_it_is(radi: RadiObject, files: Path) -> None:
    change(files / "sub-02_T1w.nii")
    (files / "sub-03_seg.nii.gz").rename(files / "moved")
    seen = voxels(radi.loc["sub-01"])
    radi.materialize(errors="collect")
    failed = radi.ledger.to_arrow().to_pylist()[12:]
    failed = [line for line in failed if line["outcome"] == "failed"]
    assert [(f["obs_id"], f["collection"], f["error"]) for f in failed] == [
        ("sub-02_T1w", "T1w", "SourceChangedError"), ("sub-03_seg", "seg", "MissingObjectError"),
    ]  # fmt: skip
    assert str(files) not in "".join(f["message"] for f in failed)
    assert [radi.collection(n).backend for n in radi] == ["files", "zarr", "zarr", "files"]
    assert voxels(radi.loc["sub-01"]) == seen
    with pytest.raises(SourceChangedError):
        radi.get_volume("sub-02_T1w").to_numpy()
    with pytest.raises(MissingObjectError):
        radi.materialize("seg")
    (files / "moved").rename(files / "sub-03_seg.nii.gz")
    radi.append(images(files, "T1w"), copy=False, on_conflict="update")
    radi.materialize()
    assert {radi.collection(n).backend for n in radi} == {"zarr"}
    np.testing.assert_array_equal(radi.get_volume("sub-03_seg").to_numpy(), RAMP % 5)


# -- how it is asked


@pytest.fixture
def small(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "study", images(files, "T1w"), copy=False, progress=False)


def test_what_cannot_be_is_refused(small: RadiObject) -> None:
    for wrong in ({"commit_every": 0}, {"backend": "files"}, {"errors": "never"}, {"executor": "gpu"}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
            small.materialize(**wrong)
    with pytest.raises(UnknownIdError, match="T1"):
        small.materialize("T1")
    with pytest.raises(ViewError):
        small.head(1).materialize()
    with small.transaction() as t, pytest.raises(TransactionError, match="materialize"):
        t.materialize()
    with pytest.raises(TypeError, match="ctx"):
        small.materialize("T1w", ctx=None)
    assert fresh(small).version == 1


def test_volumes_go_where_others_are_or_are_told_to(small: RadiObject, files: Path) -> None:
    pytest.importorskip("tiledb")
    with pytest.raises(Stop):
        small.materialize(backend="tiledb", commit_every=1, executor="serial", progress=stopping(2))
    half = fresh(small)
    half.append({"T2w": str(files / "*_T2w.nii.gz")}, copy=False)
    assert half.materialize("T1w").T1w.backend == "tiledb"
    assert half.materialize(backend="zarr").T2w.backend == "zarr"
    assert sound(half)


def test_a_place_is_copied_to_as_ever(small: RadiObject, files: Path) -> None:
    for place in (files / "copy", f"{files}/another"):
        copy = small.materialize(place)
        assert (copy.T1w.backend, copy.uri) == ("files", str(place))
    assert fresh(small).version == 1


def test_pyramids_and_settings_are_those_of_now(small: RadiObject) -> None:
    with config.configure(write=config.WriteConfig(pyramid=1)):
        small.materialize()
    assert len(small.T1w.iloc[0].levels) == 2
    assert VolumeCollection(f"{small.uri}#T1w").iloc[0].levels[1].shape == (6, 5, 8)


def test_floats_that_are_whole_numbers_are_kept_as_integers_and_read_as_floats(tmp_path: Path) -> None:
    whole = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    nibabel.save(nibabel.Nifti1Image(whole, np.eye(4)), tmp_path / "sub-01_T1w.nii")
    images = {"T1w": [str(tmp_path / "sub-01_T1w.nii")]}
    radi = RadiObject.from_niftis(tmp_path / "study", images, copy=False, progress=False)
    radi.materialize()
    volume = fresh(radi).T1w.iloc[0]
    assert (volume.dtype, volume.stored_dtype) == (np.dtype("f4"), np.dtype("u1"))
    np.testing.assert_array_equal(volume.to_numpy(), whole)
    volume.to_nifti(tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == (tmp_path / "sub-01_T1w.nii").read_bytes()
