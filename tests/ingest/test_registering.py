"""NIfTI registered where it lies reads as what is ingested does, and says when a file is another."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject, Volume, VolumeCollection, measure
from radiobject.backends.files import changed, reading
from radiobject.errors import (
    ConfigError,
    CorruptObjectError,
    IngestError,
    MissingObjectError,
    RadiObjectError,
    SourceChangedError,
    SourceCorruptError,
)
from radiobject.location import Location
from tests.conftest import NiftiMaker

RAMP = np.arange(12 * 10 * 8, dtype="i2").reshape(12, 10, 8)


@pytest.fixture
def files(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    """A folder with images as .nii and labels as .nii.gz of two subjects."""
    for number, subject in enumerate(("sub-01", "sub-02")):
        tail = b"tail" if number else b""
        image = make_nifti(RAMP + number, fields={"scl_slope": 2, "scl_inter": -10}, tail=tail)
        (tmp_path / f"{subject}_T1w.nii").write_bytes(image)
        labels = make_nifti((RAMP % 3).astype("u1"), tail=tail)
        (tmp_path / f"{subject}_seg.nii.gz").write_bytes(gzip.compress(labels))
    return tmp_path


def images(files: Path) -> dict[str, str]:
    return {"T1w": str(files / "*_T1w.nii"), "seg": str(files / "*_seg.nii.gz")}


@pytest.fixture
def radi(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "study", images(files), copy=False)


@pytest.fixture
def ingested(files: Path) -> RadiObject:
    return RadiObject.from_niftis(files / "ingested", images(files))


def every_volume(radi: RadiObject) -> list[Volume]:
    return [
        v for name in radi for v in (radi.collection(name).iloc[n] for n in range(len(radi.collection(name))))
    ]


def later(path: Path) -> None:
    """A time of change that differs from the one before, however coarse the clock of the disk is."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


# -- the same study


def test_it_reads_as_the_ingested_study_does(radi: RadiObject, ingested: RadiObject, files: Path) -> None:
    assert [c.backend for c in (radi.T1w, radi.seg)] == ["files", "files"]
    for here, there in zip(every_volume(radi), every_volume(ingested), strict=True):
        np.testing.assert_array_equal(here[...], there[...])
        np.testing.assert_array_equal(here[3:9, ::2, -1], there[3:9, ::2, -1])
        np.testing.assert_array_equal(here.to_numpy(raw=True), there.to_numpy(raw=True))
        np.testing.assert_array_equal(here.affine, there.affine)
    assert radi.validate("full").ok


def test_tables_are_those_of_the_ingested_study_but_for_what_voxels_say(
    radi: RadiObject, ingested: RadiObject
) -> None:
    for name in radi:
        here, there = (r.collection(name).obs.read() for r in (radi, ingested))
        unread = [c for c in here if c.startswith("intensity_") or c in ("n_nonfinite", "nonzero_box")]
        assert here[[*unread, "source_digest"]].isna().all(axis=None)
        kept = [c for c in here if c not in (*unread, "source_digest")]
        assert here[kept].map(str).equals(there[kept].map(str))


def test_exports_are_the_bytes_of_the_sources(radi: RadiObject, files: Path) -> None:
    for name, ending in (("T1w", ".nii"), ("seg", ".nii.gz")):
        for volume in (radi.collection(name).iloc[n] for n in range(2)):
            volume.to_nifti(files / "out.nii")
            source = (files / f"{volume.obs_id}{ending}").read_bytes()
            source = gzip.decompress(source) if ending.endswith("gz") else source
            assert (files / "out.nii").read_bytes() == source


def test_registering_reads_headers_and_writes_no_voxels(files: Path) -> None:
    large = np.zeros((200, 200, 100), "i2")
    (files / "large.nii").write_bytes((files / "sub-01_T1w.nii").read_bytes()[:352] + large.tobytes())
    header = bytearray((files / "large.nii").read_bytes()[:352])
    header[42:48] = np.array(large.shape, "<i2").tobytes()
    with (files / "large.nii").open("r+b") as file:
        file.write(header)
    radi = RadiObject.from_niftis(files / "study", {"a": [(files / "large.nii", "s")]}, copy=False)
    written = sum(p.stat().st_size for p in (files / "study").rglob("*") if p.is_file())
    assert written < 100_000 < large.nbytes
    with measure() as m:
        assert radi.a.iloc[0][:4, :4, :4].shape == (4, 4, 4)
    assert m["bytes_used"] == 128
    assert m["bytes_read"] < 100_000


def test_no_path_of_this_machine_is_in_the_study(radi: RadiObject, files: Path) -> None:
    radi.append({"T1w": [(files / "sub-01_T1w.nii", "sub-01", "again")]}, copy=False)
    folder = str(files).encode()
    for path in (files / "study").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += repr(pq.read_table(path).to_pylist()).encode()
                data += repr(pq.read_schema(path).metadata).encode()
            assert folder not in data, path
            assert files.name.encode() not in data, path


@pytest.mark.parametrize("pair", [("hdr", "img"), ("hdr.gz", "img"), ("hdr", "img.gz"), ("hdr.gz", "img.gz")])
def test_pairs_are_registered_by_either_name(tmp_path: Path, make_nifti: NiftiMaker, pair: Any) -> None:
    halves = make_nifti(RAMP, pair=True, lead=b"sixteen bytes...", tail=b"more")
    for ending, data in zip(pair, halves, strict=True):
        data = gzip.compress(data) if ending.endswith("gz") else data
        (tmp_path / f"a.{ending}").write_bytes(data)
    for number, ending in enumerate(pair):
        radi = RadiObject.from_niftis(
            tmp_path / f"study{number}", {"a": [(tmp_path / f"a.{ending}", "s")]}, copy=False
        )
        np.testing.assert_array_equal(radi.a.iloc[0][...], RAMP)
        radi.a.iloc[0].to_nifti(tmp_path / "out.img")
        assert ((tmp_path / "out.hdr").read_bytes(), (tmp_path / "out.img").read_bytes()) == halves


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("shape", "axis4"), [((5, 4, 3, 6), "time"), ((5, 4, 3, 2), "channel"), ((5, 4, 3, 6, 2), "auto")]
)
def test_further_axes_and_turned_volumes(
    tmp_path: Path, make_nifti: NiftiMaker, ending: str, shape: tuple[int, ...], axis4: Any
) -> None:
    array = np.random.default_rng(0).integers(-99, 99, shape, "i2")
    data = make_nifti(array, order=">")
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    source = {"a": [(tmp_path / f"a.{ending}", "s")]}
    for name, reorient in (("plain", None), ("turned", "PIR")):
        here, there = (
            RadiObject.from_niftis(
                tmp_path / f"{name}{n}", source, axis4=axis4, reorient=reorient, copy=c
            ).a.iloc[0]
            for n, c in enumerate((False, True))
        )
        np.testing.assert_array_equal(here[...], there[...])
        np.testing.assert_array_equal(here[1:3, ..., 0], there[1:3, ..., 0])
        np.testing.assert_array_equal(here.affine, there.affine)


def test_every_nifti_of_the_real_data_reads_as_it_is_ingested(real_data: Path, tmp_path: Path) -> None:
    found = [p for p in sorted(real_data.rglob("*")) if p.name.endswith((".nii", ".nii.gz", ".hdr"))]
    sources = {"vols": [(path, f"s{n}", f"v{n}") for n, path in enumerate(found)]}
    options: dict[str, Any] = {"errors": "collect", "axis4": "time", "progress": False}
    here = RadiObject.from_niftis(tmp_path / "a", sources, copy=False, source_root=real_data, **options)
    there = RadiObject.from_niftis(tmp_path / "b", sources, **options)
    assert len(found) > 200
    assert here.vols.obs_ids == there.vols.obs_ids
    assert len(here.vols) > 80  # the others are placeholders, or of kinds that are refused
    kinds = [r.ledger.read()[["obs_id", "outcome", "error"]].map(str) for r in (here, there)]
    assert kinds[0].equals(kinds[1])
    for n in range(len(there.vols)):
        mine, theirs = here.vols.iloc[n], there.vols.iloc[n]
        np.testing.assert_array_equal(mine.to_numpy(raw=True), theirs.to_numpy(raw=True), theirs.obs_id)
        np.testing.assert_array_equal(mine.affine, theirs.affine)


def test_files_of_a_store_are_registered_by_their_urls(files: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fs, path = Location(root).filesystem()
    for file in files.glob("*.nii*"):
        fs.pipe_file(f"{path}/data/{file.name}", file.read_bytes())
    sources = {"T1w": f"{root}/data/*.nii", "seg": f"{root}/data/*.nii.gz"}
    radi = RadiObject.from_niftis(f"{root}/study", sources, copy=False)
    there = RadiObject.from_niftis(files / "ingested", images(files))
    for mine, theirs in zip(every_volume(radi), every_volume(there), strict=True):
        np.testing.assert_array_equal(mine[2:9, 1:, ::3], theirs[2:9, 1:, ::3])
    fs.pipe_file(f"{path}/data/sub-01_T1w.nii", (files / "sub-02_T1w.nii").read_bytes())
    changed._sound.clear()  # as if some seconds had passed
    with pytest.raises(SourceChangedError, match="sub-01"):
        RadiObject(f"{root}/study").T1w.iloc[0][0, 0, 0]
    fs.rm(path, recursive=True)


# -- where the sources are


def test_a_study_and_its_sources_move_together(radi: RadiObject, files: Path, tmp_path: Path) -> None:
    expected = [v[...] for v in every_volume(radi)]
    moved = tmp_path.parent / f"moved-{uuid.uuid4().hex}"
    shutil.move(files, moved)
    for volume, array in zip(every_volume(RadiObject(moved / "study")), expected, strict=True):
        np.testing.assert_array_equal(volume[...], array)


def test_a_study_elsewhere_is_told_where_its_sources_are(radi: RadiObject, files: Path) -> None:
    shutil.move(files / "study", files / "away" / "study")
    with pytest.raises(MissingObjectError, match="source_root="):
        RadiObject(files / "away" / "study").T1w.iloc[0][...]
    for opened in (
        RadiObject(files / "away" / "study", source_root=files).T1w,
        VolumeCollection(f"{files / 'away' / 'study'}#T1w", source_root=files),
    ):
        volume = opened.iloc[1]
        np.testing.assert_array_equal(volume.to_numpy(raw=True), RAMP + 1)
        again = pickle.loads(pickle.dumps(opened.iloc[:1]))
        np.testing.assert_array_equal(again.iloc[0].to_numpy(raw=True), RAMP)
        np.testing.assert_array_equal(Volume(str(volume.uri), source_root=files).to_numpy(raw=True), RAMP + 1)


def test_all_files_of_a_study_are_below_one_root(radi: RadiObject, files: Path) -> None:
    shutil.move(files / "study", files / "away" / "study")
    opened = RadiObject(files / "away" / "study", source_root=files)
    more = {"T1w": [(files / "sub-01_T1w.nii", "sub-01", "more")]}
    opened.append(more, copy=False)
    np.testing.assert_array_equal(opened.T1w.loc["more"].to_numpy(raw=True), RAMP)
    with pytest.raises(ConfigError, match="source_root"):
        opened.append(
            {"T1w": [(files / "sub-02_T1w.nii", "sub-02", "b")]}, copy=False, source_root=files.parent
        )


def test_a_volume_opens_by_its_own_url(radi: RadiObject) -> None:
    np.testing.assert_array_equal(Volume(str(radi.T1w.iloc[1].uri)).to_numpy(raw=True), RAMP + 1)


def test_copies_look_where_the_study_does_or_hold_voxels(radi: RadiObject, files: Path) -> None:
    copy = radi.write(files / "deep" / "copy")
    stored = radi.write(files / "deep" / "stored", backend="zarr")
    assert (copy.T1w.backend, stored.T1w.backend) == ("files", "zarr")
    for one in (copy, stored, RadiObject(files / "deep" / "copy", source_root=files)):
        np.testing.assert_array_equal(one.T1w.iloc[1].to_numpy(raw=True), RAMP + 1)
        one.seg.iloc[1].to_nifti(files / "out.nii")
        assert (files / "out.nii").read_bytes().endswith(b"tail")
        assert one.validate("full").ok
    with pytest.raises(ConfigError, match="backend="):
        stored.write(files / "none", backend="files")


def test_collections_come_together_from_studies_that_look_at_one_place(radi: RadiObject, files: Path) -> None:
    both = RadiObject.from_collections(files / "both", {"T1w": radi.T1w, "seg": f"{radi.uri}#seg"})
    np.testing.assert_array_equal(both.seg.iloc[0].to_numpy(), RAMP % 3)
    (files / "below").mkdir()
    shutil.copy2(files / "sub-01_T1w.nii", files / "below")
    other = RadiObject.from_niftis(
        files / "below" / "study", {"a": [files / "below" / "sub-01_T1w.nii"]}, copy=False
    )
    with pytest.raises(ConfigError, match="zarr"):
        RadiObject.from_collections(files / "three", {"T1w": radi.T1w, "a": other.a})


def test_sources_must_be_below_the_root(files: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match=f"such as '{files}'"):
        RadiObject.from_niftis(tmp_path / "sub" / "study", images(files), copy=False)
    assert not (tmp_path / "sub" / "study").exists()
    radi = RadiObject.from_niftis(tmp_path / "sub" / "study", images(files), copy=False, source_root=files)
    np.testing.assert_array_equal(radi.T1w.iloc[0].to_numpy(raw=True), RAMP)


def test_links_are_followed_inside_the_root_alone(files: Path) -> None:
    annex = files / "root" / ".annex"
    annex.mkdir(parents=True)
    shutil.move(files / "sub-01_T1w.nii", annex / "key")
    (files / "root" / "a.nii").symlink_to(annex / "key")
    radi = RadiObject.from_niftis(files / "root" / "study", {"a": [files / "root" / "a.nii"]}, copy=False)
    np.testing.assert_array_equal(radi.a.iloc[0].to_numpy(raw=True), RAMP)
    shutil.move(annex / "key", files / "outside")
    (files / "root" / "a.nii").unlink()
    (files / "root" / "a.nii").symlink_to(files / "outside")
    with pytest.raises(RadiObjectError, match="link out"):
        RadiObject(files / "root" / "study").a.iloc[0][...]


# -- sources that changed


def _rewritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    later(path)


def _replaced(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes()[:-8] + b"8 others")
    later(path)
    os.replace(path.with_name("other"), path)


def _header(path: Path) -> None:
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[min(150, len(data) - 30)] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _longer(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(path.read_bytes() + b"0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "truncated": lambda path: os.truncate(path, 500),
    "emptied": lambda path: os.truncate(path, 0),
    "longer, same time": _longer,
    "rewritten": _rewritten,
    "replaced": _replaced,
    "touched": later,
    "another header, same size and time": _header,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("opened", ["before", "after"])
@pytest.mark.parametrize("name", ["T1w", "seg"])
def test_a_file_that_is_another_is_an_error_and_never_other_voxels(
    radi: RadiObject, files: Path, change: Callable[[Path], Any], opened: str, name: str
) -> None:
    volume = radi.collection(name).iloc[1]
    if opened == "before":
        volume[...]
    (path,) = files.glob(f"sub-02_{name}.nii*")
    change(path)
    if change is later and name == "seg":
        # all of a small file was read when it was registered, and is found to be the same
        np.testing.assert_array_equal(volume[...], RAMP % 3)
        return
    kind: Any = SourceChangedError if path.is_file() else RadiObjectError
    for key in (..., np.s_[2:4, 3:5, 1:3]):
        with pytest.raises(kind, match="sub-02"):
            volume[key]
    assert radi.collection(name).iloc[0][0, 0, 0] is not None


def test_validate_looks_at_the_sources_when_it_looks_at_everything(radi: RadiObject, files: Path) -> None:
    _rewritten(files / "sub-02_seg.nii.gz")
    (files / "sub-01_T1w.nii").unlink()
    assert radi.validate("standard").ok
    problems = radi.validate("full").problems
    assert {(p.kind, p.where) for p in problems} == {("row", "seg/sub-02_seg"), ("row", "T1w/sub-01_T1w")}
    assert "last changed" in str(problems)
    assert "nothing there" in str(problems)


def test_a_purge_leaves_files_that_are_not_the_studys(radi: RadiObject, files: Path) -> None:
    radi.purge("sub-01", "withdrew consent")
    assert (files / "sub-01_T1w.nii").exists()
    assert not [p for p in (files / "study").rglob("*") if p.is_file() and b"sub-01" in p.read_bytes()]
    assert radi.validate("full").ok


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 400), _rewritten])
def test_a_file_that_changes_while_it_is_read_is_seen(
    radi: RadiObject, files: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any]
) -> None:
    real = reading._read_into

    def changing(descriptor: int, buffer: Any, at: int) -> bool:
        change(files / "sub-01_T1w.nii")
        return real(descriptor, buffer, at)

    monkeypatch.setattr(reading, "_read_into", changing)
    with pytest.raises(SourceChangedError, match="sub-01"):
        radi.T1w.iloc[0][...]


def test_a_mapped_file_that_changes_while_it_is_read_is_seen(
    radi: RadiObject, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading._Part.crop

    def changing(part: Any, block: Any) -> Any:
        _rewritten(files / "sub-01_T1w.nii")
        return real(part, block)

    monkeypatch.setattr(reading._Part, "crop", changing)
    with pytest.raises(SourceChangedError, match="sub-01"):
        radi.T1w.iloc[0][2:4, 3:5, 1:3]


def test_a_file_whose_content_is_known_may_be_touched(radi: RadiObject, files: Path, tmp_path: Path) -> None:
    import hashlib
    from dataclasses import replace

    from radiobject.backends import get_backend
    from radiobject.backends.files import FilesBackend

    handle: Any = radi.T1w.iloc[0]._handle
    member = handle.source.members[0]
    known = hashlib.sha256((files / member.path).read_bytes()).hexdigest()
    source = replace(handle.source, members=(replace(member, sha256=known),))
    backend: Any = get_backend("files", Location(files / "other"))
    assert isinstance(backend, FilesBackend)
    backend.register_volume("v.files", handle.levels, {}, {}, source)
    later(files / member.path)
    np.testing.assert_array_equal(backend.open_volume("v.files").read(handle.spec.box), RAMP.T)
    _rewritten(files / member.path)
    with pytest.raises(SourceChangedError):
        backend.open_volume("v.files").read(handle.spec.box)


def test_a_damaged_file_that_nobody_changed_is_corrupt(files: Path, make_nifti: NiftiMaker) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 60), "u1")
    packed = bytearray(gzip.compress(make_nifti(noise)))
    packed[-6] ^= 1  # its CRC, which no look at the header sees
    (files / "sub-01_seg.nii.gz").write_bytes(packed)
    radi = RadiObject.from_niftis(files / "study", images(files), copy=False)
    with pytest.raises(CorruptObjectError, match="decoded"):
        radi.seg.iloc[0][...]


def test_a_truncated_file_is_not_registered(files: Path) -> None:
    os.truncate(files / "sub-01_T1w.nii", 700)
    with pytest.raises(IngestError, match="truncated") as caught:
        RadiObject.from_niftis(files / "study", images(files), copy=False)
    assert caught.value.report[0]["error"] == SourceCorruptError.__name__


# -- changes of the study


def test_update_registers_anew_what_changed_and_nothing_else(radi: RadiObject, files: Path) -> None:
    before = radi.version
    radi.append(images(files), on_conflict="update", copy=False)
    assert radi.version == before
    _rewritten(files / "sub-02_T1w.nii")
    radi.append(images(files), on_conflict="update", copy=False)
    assert radi.version == before + 1
    assert radi.T1w.obs_ids == ["sub-01_T1w", "sub-02_T1w"]
    assert radi.T1w.iloc[1].to_numpy(raw=True).shape == RAMP.shape
    assert radi.validate("full").ok


def test_one_collection_has_registered_and_stored_volumes(radi: RadiObject, files: Path) -> None:
    source = files / "sub-01_T1w.nii"
    radi.append({"T1w": [(source, "sub-01", "stored")]})
    assert (radi.T1w.backend, radi.T1w.loc["stored"].uri[-9:]) == ("files", ".ome.zarr")
    np.testing.assert_array_equal(radi.T1w.loc["stored"].to_numpy(raw=True), RAMP)
    means = dict(zip(radi.T1w.obs_ids, radi.T1w.obs["intensity_mean"], strict=True))
    assert means["stored"] > 0
    assert np.isnan(means["sub-01_T1w"])
    copy = radi.write(files / "copy")
    assert {v.uri.rpartition(".")[2] for v in every_volume(copy)} == {"files", "zarr"}
    radi.delete(obs_ids="stored")
    assert len(radi.T1w) == 2
    for one in (radi, copy):
        assert one.validate("full").ok


def test_registered_volumes_join_stored_ones_and_take_their_place(ingested: RadiObject, files: Path) -> None:
    ingested.append({"T1w": [(files / "sub-01_T1w.nii", "sub-01", "more")]}, copy=False)
    ingested.append(images(files), on_conflict="replace", copy=False)
    assert ingested.T1w.backend == "files"
    assert ingested.T1w.obs["intensity_mean"].isna().all()
    table = ingested._study.snapshot.table("thumbnails", "T1w")
    assert table.ids() == []  # a picture of other voxels would be a lie
    ingested.append(images(files), on_conflict="replace")
    assert sorted(ingested._study.snapshot.table("thumbnails", "T1w").ids()) == ["sub-01_T1w", "sub-02_T1w"]
    np.testing.assert_array_equal(ingested.T1w.loc["sub-02_T1w"].to_numpy(raw=True), RAMP + 1)
    assert ingested.validate("full").ok


def test_an_interrupted_run_is_resumed(files: Path) -> None:
    (files / "bad.nii").write_bytes(b"no NIfTI")
    sources = {"T1w": [*sorted(files.glob("*_T1w.nii")), files / "bad.nii"]}
    with pytest.raises(IngestError):
        RadiObject.from_niftis(files / "study", sources, copy=False)
    shutil.copy(files / "sub-01_T1w.nii", files / "bad.nii")
    radi = RadiObject.from_niftis(files / "study", sources, copy=False, resume=True)
    assert sorted(radi.ledger.read()["outcome"]) == ["ingested", "resumed", "resumed"]
    assert radi.validate("full").ok


def test_indexes_of_labels_are_built_later(radi: RadiObject) -> None:
    radi.index_foreground("seg")
    assert radi.seg.backend == "files"
    assert radi.validate("full").ok


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deidentify": True}, "deidentify=False"),
        ({"backend": "zarr"}, "backend='files'"),
        ({"copy": True, "backend": "files"}, "copy=False"),
    ],
)
def test_what_cannot_be_together_is_refused(files: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RadiObject.from_niftis(files / "study", images(files), **{"copy": False, **options})
    assert not (files / "study").exists()


def test_what_is_in_memory_lies_nowhere(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="copy=True"):
        RadiObject.from_niftis(tmp_path / "study", {"a": [(RAMP, np.eye(4))]}, copy=False)
